//! A browser that a discovery service will send back to us.

use super::{Kind, PendingLogin, SealError, Sealer};
use crate::WallTime;

/// A choice under way at a discovery service: sealed into a cookie that only this browser holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDiscovery {
    /// `state` of the return address; also the tail of the cookie's name. 32 hex digits.
    pub handle: String,
    /// Path and query on our host to go to after the login; bounded as [`PendingLogin::target`].
    pub target: String,
    /// Made then; good for ten minutes.
    pub issued: WallTime,
}

/// handle, target, issued.
#[derive(serde::Serialize, serde::Deserialize)]
struct Wire(String, String, u64);

impl Sealer {
    /// The cookie value of a pending choice.
    pub fn seal_discovery(&self, pending: &PendingDiscovery) -> String {
        let target = if pending.target.len() > PendingLogin::TARGET_BYTES_MAX { "/" } else { &pending.target };
        self.seal(Kind::Discovery, &Wire(pending.handle.clone(), target.to_owned(), pending.issued.0))
    }

    /// The pending choice of a cookie value younger than ten minutes.
    ///
    /// # Errors
    /// Foreign or ended.
    pub fn open_discovery(&self, cookie: &str, now: WallTime) -> Result<PendingDiscovery, SealError> {
        let Wire(handle, target, issued) = self.open(Kind::Discovery, cookie)?;
        let issued = WallTime(issued);
        if now >= issued.plus(PendingLogin::LIFETIME) {
            return Err(SealError::Ended);
        }
        Ok(PendingDiscovery { handle, target, issued })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_800_000_000_000);

    #[test]
    fn a_choice_under_way_opens_for_ten_minutes_and_never_as_a_login() {
        let sealer = Sealer::new(Vec::new(), "mail.example");
        let pending = PendingDiscovery { handle: "0a".repeat(16), target: "/mail?a=b".to_owned(), issued: NOW };
        let cookie = sealer.seal_discovery(&pending);
        assert_eq!(sealer.open_discovery(&cookie, NOW), Ok(pending));
        assert_eq!(sealer.open_discovery(&cookie, NOW.plus(PendingLogin::LIFETIME)), Err(SealError::Ended));
        assert_eq!(sealer.open_pending(&cookie, NOW), Err(SealError::Foreign));
        let other = Sealer::new(Vec::new(), "mail.example");
        assert_eq!(other.open_discovery(&cookie, NOW), Err(SealError::Foreign));
    }

    #[test]
    fn a_target_too_long_for_a_cookie_leads_home() {
        let sealer = Sealer::new(Vec::new(), "mail.example");
        let target = format!("/{}", "z".repeat(PendingLogin::TARGET_BYTES_MAX));
        let cookie = sealer.seal_discovery(&PendingDiscovery { handle: String::new(), target, issued: NOW });
        assert_eq!(sealer.open_discovery(&cookie, NOW).unwrap().target, "/");
    }
}
