//! The cell's side of `Guichet-Identity`: a JWT (RFC 7519) under HS256 that says who is logged in.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Who the gateway says is there.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Identity {
    /// Address.
    pub sub: String,
    /// Institution.
    pub tenant: String,
    /// `staff` or `student`.
    #[serde(default)]
    pub category: Option<String>,
    /// Cell it was made for.
    pub aud: String,
    /// Made, seconds since the epoch.
    pub iat: u64,
    /// Ends, seconds since the epoch.
    pub exp: u64,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not three base64url parts with a JSON header and body.
    #[error("the identity is malformed")]
    Malformed,
    /// Another algorithm than HS256.
    #[error("the identity is not signed with HS256")]
    Algorithm,
    /// Not signed with our key.
    #[error("the identity has a wrong signature")]
    Signature,
    /// Made for another cell.
    #[error("the identity was made for another cell")]
    Audience,
    /// Ended, or not begun.
    #[error("the identity is not valid at this time")]
    Time,
}

/// Verifies a token for `cell`; `now` in seconds since the epoch.
///
/// # Errors
/// The first check that failed.
pub fn verify(token: &str, key: &[u8], cell: &str, now: u64) -> Result<Identity, IdentityError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(IdentityError::Malformed)?;
    let (header, body) = signed.split_once('.').ok_or(IdentityError::Malformed)?;
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    let header: Header = decode(header)?;
    if header.alg != "HS256" {
        return Err(IdentityError::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| IdentityError::Malformed)?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes(), &signature)
        .map_err(|_| IdentityError::Signature)?;
    let identity: Identity = decode(body)?;
    if identity.aud != cell {
        return Err(IdentityError::Audience);
    }
    if now >= identity.exp || now.saturating_add(SKEW_SECONDS) < identity.iat {
        return Err(IdentityError::Time);
    }
    Ok(identity)
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, IdentityError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| IdentityError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| IdentityError::Malformed)
}

const SKEW_SECONDS: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, identity: &Identity, key: &[u8]) -> String {
        let body = serde_json::to_vec(identity).unwrap();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn alice() -> Identity {
        Identity {
            sub: "alice@univ-a.example".to_owned(),
            tenant: "univ-a".to_owned(),
            category: Some("staff".to_owned()),
            aud: "alpha".to_owned(),
            iat: 100,
            exp: 200,
        }
    }

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    #[test]
    fn a_token_made_for_this_cell_names_its_user() {
        assert_eq!(verify(&token(HS256, &alice(), KEY), KEY, "alpha", 150), Ok(alice()));
    }

    #[test]
    fn foreign_expired_unsigned_and_cut_tokens_are_refused() {
        let good = token(HS256, &alice(), KEY);
        assert_eq!(verify(&good, KEY, "beta", 150), Err(IdentityError::Audience));
        assert_eq!(verify(&good, KEY, "alpha", 200), Err(IdentityError::Time));
        assert_eq!(verify(&good, KEY, "alpha", 10), Err(IdentityError::Time));
        assert_eq!(verify(&good, b"another key", "alpha", 150), Err(IdentityError::Signature));
        assert_eq!(
            verify(&token(r#"{"alg":"none"}"#, &alice(), KEY), KEY, "alpha", 150),
            Err(IdentityError::Algorithm)
        );
        assert_eq!(verify("a.b", KEY, "alpha", 150), Err(IdentityError::Malformed));
        assert_eq!(verify("", KEY, "alpha", 150), Err(IdentityError::Malformed));
    }
}
