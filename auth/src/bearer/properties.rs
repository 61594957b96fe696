//! Tokens, claims and key sets that say anything.

use std::{sync::LazyLock, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet_config::{Address, Bearer, BearerAlgorithm};

use super::{
    TokenRefusal,
    keys::Keys,
    token::{Claims, Signed},
};
use crate::WallTime;

/// A token that nobody signed opens nothing, and is refused for the same reason each time. The bytes are a token, and once
/// more a header and claims, a line each, that need encoding.
///
/// # Panics
/// When a property does not hold.
pub fn bearer_token(bytes: &[u8]) {
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n').map(part);
    let (header, claims) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let encoded = format!("{header}.{claims}.{}", part(&[0; 64]));
    for token in std::str::from_utf8(bytes).into_iter().chain([encoded.as_str()]) {
        assert_eq!(refusal(token), refusal(token), "the same each time");
    }
}

fn refusal(token: &str) -> TokenRefusal {
    let opened = Signed::read(token).and_then(|signed| {
        signed.issuer()?;
        signed.open(&BEARER, &KEYS)
    });
    opened.map(drop).expect_err("nobody holds the key")
}

/// Claims that pass are for us, for now, and prove an address that is one.
///
/// # Panics
/// When a property does not hold.
pub fn bearer_claims(bytes: &[u8]) {
    let Ok(claims) = super::json::object(bytes) else { return };
    let said = |claim: &str| claims.get(claim).cloned().unwrap_or_default();
    let (audience, expires, email) = (said("aud"), said("exp"), said("email"));
    let unverified = claims.get("email_verified").is_some_and(|verified| *verified != true);
    let claims = Claims(claims);
    let good = claims.check(&BEARER, NOW).is_ok();
    let past = claims.check(&BEARER, WallTime(u64::MAX)).is_ok();
    if good {
        let listed = audience.as_array().is_some_and(|several| several.iter().any(|one| one == AUDIENCE));
        assert!(audience == AUDIENCE || listed, "it is for us");
        assert!(expires.as_f64().is_some_and(|end| end + 61.0 > 1_800_000_000.0), "it is not over");
    }
    assert!(!past || expires.as_f64().is_some_and(|end| end > 1e16), "every token ends");
    if let Ok(address) = claims.address(&BEARER) {
        assert!(!unverified && email.is_string(), "the issuer says so");
        assert_eq!(address.to_string().parse::<Address>().as_ref(), Ok(&address), "an address is canonical");
    }
}

/// A key set that is taken holds a bounded number of keys, none of them secret, and none verifies what it did not sign.
///
/// # Panics
/// When a property does not hold.
pub fn bearer_keys(bytes: &[u8]) {
    let both = [BearerAlgorithm::Es256, BearerAlgorithm::Rs256];
    let Ok(keys) = Keys::read(bytes, &both) else { return };
    for algorithm in both {
        if let Some(key) = keys.find(None, algorithm) {
            assert!(!key.verifies(b"message", &[0; 64]) && !key.verifies(b"message", &[]));
        }
    }
}

/// The key of RFC 7517 §A.1, with which nobody signs here.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let set = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
    Keys::read(set, &[BearerAlgorithm::Es256]).expect("a key set")
});

static BEARER: LazyLock<Bearer> = LazyLock::new(|| Bearer {
    name: "a".into(),
    issuer: "https://login.example".into(),
    audience: AUDIENCE.into(),
    keys_file: "a.jwks".into(),
    algorithms: vec![BearerAlgorithm::Es256],
    address_claim: "email".into(),
    tenants: std::collections::BTreeSet::new(),
    clock_skew: Duration::from_secs(60),
});

const AUDIENCE: &str = "https://mail.example";
const NOW: WallTime = WallTime(1_800_000_000_000);
