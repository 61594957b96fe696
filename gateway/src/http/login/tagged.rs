//! Whose a logout tag is, as far as this node has seen: what cannot be ended by its tag (tunnels, cells' tokens, mail) is
//! found by its user.

use guichet_auth::session::{LogoutTag, Session};
use guichet_config::Address;
use moka::{policy::EvictionPolicy, sync::Cache};

/// Users by tag, those seen last. It need not be complete: sessions end by their tags alone.
pub(crate) struct Tagged(Cache<LogoutTag, Address>);

impl std::fmt::Debug for Tagged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tagged(<{} tags>)", self.0.entry_count())
    }
}

impl Tagged {
    /// Nobody yet.
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(TAGS_MAX).eviction_policy(EvictionPolicy::lru()).build())
    }

    /// A session is opened, sealed again, or opens a tunnel here.
    pub(crate) fn see(&self, session: &Session) {
        for tag in session.logout.iter().flat_map(|tags| tags.each()) {
            self.0.insert(tag, session.address.clone());
        }
    }

    /// The users that the tags are of, each once.
    pub(crate) fn users(&self, tags: &[LogoutTag]) -> Vec<Address> {
        let mut users: Vec<Address> = tags.iter().filter_map(|tag| self.0.get(tag)).collect();
        users.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        users.dedup();
        users
    }
}

/// Two for each session: 131,072 browsers of this node, about 60 MB.
const TAGS_MAX: u64 = 262_144;

#[cfg(test)]
mod tests {
    use guichet_auth::{Identity, Method, WallTime, session::LogoutTags};
    use guichet_config::Category;

    use super::*;

    #[test]
    fn a_user_is_found_by_either_tag_of_a_session() {
        let identity = Identity {
            address: "alice@univ.example".parse().unwrap(),
            tenant: "univ".parse().unwrap(),
            category: Category::Staff,
            cell: None,
            method: Method::Saml,
        };
        let lifetimes = guichet_config::Session {
            lifetime: std::time::Duration::from_secs(3600),
            lifetime_idle: std::time::Duration::from_secs(3600),
            lifetime_fallback: std::time::Duration::from_secs(3600),
        };
        let mut session = Session::open(&identity, &lifetimes, WallTime(0));
        let (name, index) = (LogoutTag([1; 16]), LogoutTag([2; 16]));
        session.logout = Some(LogoutTags { name, index: Some(index) });
        let tagged = Tagged::new();
        tagged.see(&session);
        for tags in [&[name][..], &[index], &[name, index, LogoutTag([3; 16])]] {
            assert_eq!(tagged.users(tags), [identity.address.clone()]);
        }
        assert!(tagged.users(&[LogoutTag([3; 16])]).is_empty());
        assert!(!format!("{tagged:?}").contains("alice"));
    }
}
