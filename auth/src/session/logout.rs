//! What ends a session from the institution's side: tags in the session's cookie, and the cookies of a logout.
//!
//! No index of sessions is kept. A session carries the tags of the name its IdP gave the user; a LogoutRequest names the
//! user the same way, its tags go to the ledger, and whoever carries one of them is out. A tag tells nobody who it is.

use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use guichet_config::TenantId;
use serde::{Deserialize, Serialize};

use super::{Kind, SealError, SealKey, Sealer};
use crate::{
    WallTime,
    saml::{NameId, Named},
    store::ROTATE_AFTER,
};

/// Stands for a name at an IdP, or for one session under it: half of an HMAC-SHA256 under a key of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogoutTag(pub [u8; 16]);

/// The tags of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogoutTags {
    /// Of the name: meant by a LogoutRequest without SessionIndex.
    pub name: LogoutTag,
    /// Of the name and the SessionIndex: meant by a LogoutRequest that lists it.
    pub index: Option<LogoutTag>,
}

impl LogoutTags {
    /// Both.
    pub fn each(&self) -> impl Iterator<Item = LogoutTag> {
        [Some(self.name), self.index].into_iter().flatten()
    }
}

impl LogoutTags {
    pub(super) fn write(self) -> (String, Option<String>) {
        let text = |tag: LogoutTag| URL_SAFE_NO_PAD.encode(tag.0);
        (text(self.name), self.index.map(text))
    }

    pub(super) fn read((name, index): &(String, Option<String>)) -> Option<Self> {
        let tag = |text: &String| Some(LogoutTag(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?));
        let index = match index {
            Some(index) => Some(tag(index)?),
            None => None,
        };
        Some(Self { name: tag(name)?, index })
    }
}

/// The session that the browser has at the IdP, as our LogoutRequest has to name it. It lives in a cookie of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdpSession {
    /// Our session that it opened.
    pub sid: [u8; 16],
    /// Institution.
    pub tenant: TenantId,
    /// entityID of the IdP.
    pub idp: String,
    /// Whom the IdP named.
    pub named: Named,
    /// End of our session at the latest.
    pub ends: WallTime,
}

/// A logout under way at an IdP: sealed into a cookie that only this browser holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLogout {
    /// RelayState; also the tail of the cookie's name. 32 hex digits.
    pub handle: String,
    /// ID of the LogoutRequest.
    pub request_id: String,
    /// Tenant whose IdP was asked.
    pub tenant: TenantId,
    /// entityID of the IdP that was asked.
    pub idp: String,
    /// Made then; good for ten minutes.
    pub issued: WallTime,
}

impl PendingLogout {
    /// How long the IdP may take, with all the services it asks in turn.
    pub const LIFETIME: Duration = Duration::from_secs(10 * 60);
}

/// sid, tenant, IdP, name, Format, NameQualifier, SPNameQualifier, SessionIndex, end.
#[derive(Serialize, Deserialize)]
struct IdpSessionWire(
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    u64,
);

/// handle, request, tenant, IdP, issued.
#[derive(Serialize, Deserialize)]
struct PendingLogoutWire(String, String, String, String, u64);

impl Sealer {
    /// The tags of a session that `idp` opened for whom it named at us, `sp`.
    pub fn logout_tags(&self, idp: &str, sp: &str, named: &Named) -> LogoutTags {
        let key = tag_key(self.keys.first().expect("`new` leaves at least one key"));
        LogoutTags {
            name: tag(&key, idp, sp, &named.name, None),
            index: named.session_index.as_deref().map(|index| tag(&key, idp, sp, &named.name, Some(index))),
        }
    }

    /// The tags that a LogoutRequest means, under every key of the ring: a session carries those of the key that was the
    /// newest when it began, at most `lifetime` ago. Without `session_indexes`: all sessions under the name.
    pub fn meant_tags(
        &self,
        idp: &str,
        sp: &str,
        name: &NameId,
        session_indexes: &[String],
        lifetime: Duration,
    ) -> Vec<LogoutTag> {
        // Keys are a day apart or more: within that time so many began, and one was the newest before.
        let began = usize::try_from(lifetime.as_secs().div_ceil(ROTATE_AFTER.as_secs())).unwrap_or(usize::MAX);
        let keys = self.keys.iter().take(began.saturating_add(1)).map(tag_key);
        keys.flat_map(|key| {
            let of_name = session_indexes.is_empty().then(|| tag(&key, idp, sp, name, None));
            let of_indexes = session_indexes.iter().map(|index| tag(&key, idp, sp, name, Some(index)));
            of_name.into_iter().chain(of_indexes).collect::<Vec<_>>()
        })
        .collect()
    }

    /// The cookie value of a session at an IdP. `None`: it would be longer than [`IDP_SESSION_BYTES_MAX`].
    pub fn seal_idp_session(&self, session: &IdpSession) -> Option<String> {
        let (value, format, name_qualifier, sp_name_qualifier) = session.named.name.parts();
        let wire = IdpSessionWire(
            URL_SAFE_NO_PAD.encode(session.sid),
            session.tenant.as_str().to_owned(),
            session.idp.clone(),
            value.to_owned(),
            format.map(str::to_owned),
            name_qualifier.map(str::to_owned),
            sp_name_qualifier.map(str::to_owned),
            session.named.session_index.clone(),
            session.ends.0,
        );
        Some(self.seal(Kind::IdpSession, &wire)).filter(|cookie| cookie.len() <= IDP_SESSION_BYTES_MAX)
    }

    /// The session at an IdP of a cookie value, when ours has not passed its end.
    ///
    /// # Errors
    /// Foreign or ended.
    pub fn open_idp_session(&self, cookie: &str, now: WallTime) -> Result<IdpSession, SealError> {
        let IdpSessionWire(sid, tenant, idp, value, format, name_qualifier, sp_name_qualifier, session_index, ends) =
            self.open(Kind::IdpSession, cookie)?;
        let sid = URL_SAFE_NO_PAD.decode(sid).ok().and_then(|sid| sid.try_into().ok()).ok_or(SealError::Foreign)?;
        let name = NameId::new(value, format, name_qualifier, sp_name_qualifier).ok_or(SealError::Foreign)?;
        let ends = WallTime(ends);
        if now >= ends {
            return Err(SealError::Ended);
        }
        let tenant = tenant.parse().map_err(|_| SealError::Foreign)?;
        Ok(IdpSession { sid, tenant, idp, named: Named { name, session_index }, ends })
    }

    /// The cookie value of a logout under way.
    pub fn seal_pending_logout(&self, pending: &PendingLogout) -> String {
        let PendingLogout { handle, request_id, tenant, idp, issued } = pending.clone();
        self.seal(
            Kind::PendingLogout,
            &PendingLogoutWire(handle, request_id, tenant.as_str().to_owned(), idp, issued.0),
        )
    }

    /// The logout under way of a cookie value younger than ten minutes.
    ///
    /// # Errors
    /// Foreign or ended.
    pub fn open_pending_logout(&self, cookie: &str, now: WallTime) -> Result<PendingLogout, SealError> {
        let PendingLogoutWire(handle, request_id, tenant, idp, issued) = self.open(Kind::PendingLogout, cookie)?;
        let tenant = tenant.parse().map_err(|_| SealError::Foreign)?;
        let issued = WallTime(issued);
        if now >= issued.plus(PendingLogout::LIFETIME) {
            return Err(SealError::Ended);
        }
        Ok(PendingLogout { handle, request_id, tenant, idp, issued })
    }
}

/// The key of the tags that go with a key of the ring: another than any that seals.
fn tag_key(key: &SealKey) -> hmac::Key {
    let ring = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key.key.expose());
    let okm = ring.expand(&[b"guichet logout tag 1"], hmac::HMAC_SHA256);
    okm.expect("32 bytes are within HKDF-SHA256's limit").into()
}

fn tag(key: &hmac::Key, idp: &str, sp: &str, name: &NameId, index: Option<&str>) -> LogoutTag {
    let mut context = hmac::Context::with_key(key);
    // Each part behind its length: no two lists of parts are the same octets.
    for part in [idp].into_iter().chain(name.canonical(idp, sp)).chain(index) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut half = [0; 16];
    half.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    LogoutTag(half)
}

/// Every request brings the cookie along: a longer one is not set, and the institution's session is not asked to end.
pub const IDP_SESSION_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use guichet_config::Secret;

    use super::*;

    const NOW: WallTime = WallTime(1_800_000_000_000);
    const LIFETIME: Duration = Duration::from_secs(10 * 3600);
    const IDP: &str = "https://idp.univ-a.example/idp";
    const SP: &str = "https://mail.example/saml/metadata";

    fn sealer(kids: &[u8]) -> Sealer {
        let key = |kid: &u8| SealKey { kid: u32::from(*kid), key: Secret::new(vec![*kid; 32]) };
        Sealer::new(kids.iter().map(key).collect(), "mail.example")
    }

    fn name(value: &str, format: Option<&str>, qualifier: Option<&str>, sp_qualifier: Option<&str>) -> NameId {
        let owned = |part: Option<&str>| part.map(str::to_owned);
        NameId::new(value.to_owned(), owned(format), owned(qualifier), owned(sp_qualifier)).unwrap()
    }

    fn named(index: Option<&str>) -> Named {
        Named { name: name("x7f3", Some("urn:t"), Some(IDP), Some(SP)), session_index: index.map(str::to_owned) }
    }

    #[test]
    fn a_request_with_and_without_index_means_the_session() {
        let tags = sealer(&[7]).logout_tags(IDP, SP, &named(Some("_s1")));
        let meant = |indexes: &[&str]| {
            let indexes: Vec<String> = indexes.iter().map(|index| (*index).to_owned()).collect();
            sealer(&[7]).meant_tags(IDP, SP, &named(None).name, &indexes, LIFETIME)
        };
        assert_eq!(meant(&[]), [tags.name]);
        assert_eq!(meant(&["_s0", "_s1"]).last().copied(), tags.index);
        assert!(!meant(&["_s2"]).iter().any(|tag| tags.each().any(|own| own == *tag)), "another session of the user");
    }

    #[test]
    fn a_new_key_of_the_ring_loses_no_session() {
        let tags = sealer(&[7]).logout_tags(IDP, SP, &named(Some("_s1")));
        let rotated = sealer(&[9, 8, 7]);
        assert_ne!(rotated.logout_tags(IDP, SP, &named(Some("_s1"))), tags);
        let two_days = 2 * ROTATE_AFTER;
        let meant = rotated.meant_tags(IDP, SP, &named(None).name, &["_s1".to_owned()], two_days);
        assert_eq!(meant.len(), 3);
        assert!(meant.contains(&tags.index.unwrap()));
        assert!(rotated.meant_tags(IDP, SP, &named(None).name, &[], two_days).contains(&tags.name));
        let short = sealer(&[8, 7, 6]).meant_tags(IDP, SP, &named(None).name, &[], LIFETIME);
        assert!(short.contains(&tags.name) && short.len() == 2, "no session of an older key lives");
    }

    #[test]
    fn every_part_of_the_name_counts_and_what_is_absent_stands_for_its_default() {
        let tag = |idp: &str, name: &NameId| sealer(&[7]).meant_tags(idp, SP, name, &[], LIFETIME)[0];
        let parts = [
            name("a", None, None, None),
            name("b", None, None, None),
            name("a", Some("urn:f"), None, None),
            name("a", None, Some("q"), None),
            name("a", None, None, Some("q")),
            name("aq", None, None, None),
        ];
        let mut tags: HashSet<_> = parts.iter().map(|name| tag(IDP, name)).collect();
        tags.insert(tag("https://idp.other.example", &parts[0]));
        assert_eq!(tags.len(), 7, "no two are the same");
        let spelt = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
        assert_eq!(tag(IDP, &parts[0]), tag(IDP, &name("a", Some(spelt), Some(IDP), Some(SP))));
    }

    #[test]
    fn the_session_at_the_idp_is_sealed_and_bounded() {
        let session = IdpSession {
            sid: [1; 16],
            tenant: "univ-a".parse().unwrap(),
            idp: IDP.to_owned(),
            named: named(Some("_s1")),
            ends: NOW.plus(Duration::from_secs(60)),
        };
        let sealer = sealer(&[7]);
        let cookie = sealer.seal_idp_session(&session).unwrap();
        assert_eq!(sealer.open_idp_session(&cookie, NOW), Ok(session.clone()));
        assert_eq!(sealer.open_idp_session(&cookie, session.ends), Err(SealError::Ended));
        assert_eq!(sealer.open_pending_logout(&cookie, NOW), Err(SealError::Foreign), "another kind");
        let shown = format!("{session:?}");
        assert!(!shown.contains("x7f3"), "{shown}");
        let long = Named { name: name(&"n".repeat(1024), None, Some(&"q".repeat(1024)), None), session_index: None };
        assert_eq!(sealer.seal_idp_session(&IdpSession { named: long, ..session }), None);
    }

    #[test]
    fn a_pending_logout_ends_after_ten_minutes() {
        let pending = PendingLogout {
            handle: "0123456789abcdef0123456789abcdef".into(),
            request_id: "_ab12".into(),
            tenant: "univ-a".parse().unwrap(),
            idp: IDP.to_owned(),
            issued: NOW,
        };
        let cookie = sealer(&[7]).seal_pending_logout(&pending);
        assert_eq!(sealer(&[7]).open_pending_logout(&cookie, NOW), Ok(pending.clone()));
        assert_eq!(sealer(&[7]).open_pending_logout(&cookie, NOW.plus(PendingLogout::LIFETIME)), Err(SealError::Ended));
        assert_eq!(sealer(&[8]).open_pending_logout(&cookie, NOW), Err(SealError::Foreign));
    }
}
