//! What a server's reply means: an answer about the user, or an outage.

use ldap3::{LdapResult, ResultEntry, SearchEntry, controls::RawControl};

use super::server::Outage;

/// What a search found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entries: Vec<SearchEntry>,
    /// There are more than were asked for.
    pub(super) more: bool,
}

/// What a bind said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    Accepted,
    BadCredential,
    /// Locked, expired, to be changed first.
    Refused,
}

/// Reads the reply to a search. A base that is missing or empty, a referral, a limit: nobody can tell from those.
pub(super) fn search(entries: Vec<ResultEntry>, result: &LdapResult) -> Result<Found, Outage> {
    let more = match result.rc {
        0 => false,
        // sizeLimitExceeded
        4 => true,
        code => return Err(Outage::Result(code)),
    };
    let entries = entries.into_iter().filter(|entry| !entry.is_ref() && !entry.is_intermediate());
    let entries: Vec<_> = entries.map(SearchEntry::construct).collect();
    if entries.is_empty() && !result.refs.is_empty() {
        return Err(Outage::Senseless("a referral instead of an entry"));
    }
    Ok(Found { entries, more })
}

/// Reads the reply to a bind, with the password policy's word if there is one.
pub(super) fn bind(result: &LdapResult) -> Result<Bind, Outage> {
    let policy = result
        .ctrls
        .iter()
        .find(|control| control.1.ctype == PASSWORD_POLICY)
        .and_then(|control| control.1.val.as_deref())
        .and_then(policy_error);
    // passwordExpired, accountLocked, changeAfterReset.
    let refused = matches!(policy, Some(0..=2));
    match result.rc {
        0 | 19 | 49 | 53 if refused => Ok(Bind::Refused),
        0 => Ok(Bind::Accepted),
        // noSuchObject: the entry went between search and bind. inappropriateAuthentication: it has no password.
        32 | 48 | 49 => Ok(Bind::BadCredential),
        code => Err(Outage::Result(code)),
    }
}

/// Asks for the password policy's word; OpenLDAP says "wrong password" for a locked account without it.
pub(super) fn policy_request() -> RawControl {
    RawControl { ctype: PASSWORD_POLICY.to_owned(), crit: false, val: None }
}

/// The error of a PasswordPolicyResponseValue (draft-behera-ldap-password-policy-10 §6.2):
/// `SEQUENCE { warning [0] CHOICE {…} OPTIONAL, error [1] ENUMERATED OPTIONAL }`. Lengths are of one byte: a longer
/// value is none of ours.
fn policy_error(value: &[u8]) -> Option<u8> {
    let [0x30, length, rest @ ..] = value else { return None };
    let mut rest = rest.get(..usize::from(*length))?;
    while let [tag, length, after @ ..] = rest {
        let (content, next) = after.split_at_checked(usize::from(*length))?;
        if *tag == 0x81 {
            return match content {
                [code] => Some(*code),
                _ => None,
            };
        }
        rest = next;
    }
    None
}

/// Password policy request and response control.
const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

#[cfg(test)]
mod tests {
    use ldap3::controls::Control;
    use proptest::prelude::*;

    use super::*;

    fn result(rc: u32, policy: Option<&[u8]>) -> LdapResult {
        let control = policy.map(|value| {
            Control(None, RawControl { ctype: PASSWORD_POLICY.into(), crit: false, val: Some(value.to_vec()) })
        });
        LdapResult {
            rc,
            matched: String::new(),
            text: String::new(),
            refs: Vec::new(),
            ctrls: control.into_iter().collect(),
        }
    }

    #[test]
    fn table_of_bind_results() {
        let locked: &[u8] = &[0x30, 0x03, 0x81, 0x01, 0x01];
        let must_change: &[u8] = &[0x30, 0x03, 0x81, 0x01, 0x02];
        let grace: &[u8] = &[0x30, 0x05, 0xa0, 0x03, 0x81, 0x01, 0x02];
        let warned_and_expired: &[u8] = &[0x30, 0x08, 0xa0, 0x03, 0x80, 0x01, 0x05, 0x81, 0x01, 0x00];
        let empty: &[u8] = &[0x30, 0x00];
        for (code, policy, expected) in [
            (0, None, Some(Bind::Accepted)),
            (0, Some(empty), Some(Bind::Accepted)),
            (0, Some(grace), Some(Bind::Accepted)),
            (0, Some(must_change), Some(Bind::Refused)),
            (49, None, Some(Bind::BadCredential)),
            (49, Some(empty), Some(Bind::BadCredential)),
            (49, Some(locked), Some(Bind::Refused)),
            (49, Some(warned_and_expired), Some(Bind::Refused)),
            (19, Some(locked), Some(Bind::Refused)),
            (53, Some(locked), Some(Bind::Refused)),
            (32, None, Some(Bind::BadCredential)),
            (48, None, Some(Bind::BadCredential)),
            (53, None, None),
            (19, None, None),
            (52, Some(locked), None),
        ] {
            assert_eq!(bind(&result(code, policy)).ok(), expected, "{code} {policy:?}");
        }
        for code in [1, 2, 3, 7, 8, 10, 11, 13, 14, 50, 51, 52, 80, 88, 255] {
            assert!(bind(&result(code, None)).is_err(), "{code} is an outage");
        }
    }

    #[test]
    fn a_search_that_tells_nothing_is_an_outage() {
        for code in [1, 2, 3, 10, 11, 32, 50, 51, 52, 53, 80] {
            assert!(search(Vec::new(), &result(code, None)).is_err(), "{code}");
        }
        let mut referral = result(0, None);
        referral.refs.push("ldap://elsewhere.example/".into());
        assert!(search(Vec::new(), &referral).is_err());
        assert!(matches!(search(Vec::new(), &result(0, None)), Ok(found) if found.entries.is_empty() && !found.more));
        assert!(matches!(search(Vec::new(), &result(4, None)), Ok(found) if found.more));
    }

    proptest! {
        #[test]
        fn no_policy_value_panics(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = policy_error(&value);
        }
    }
}
