//! The signed word to a cell about who the user is: a JWT, HS256 (RFC 7519, RFC 7515), good for one minute.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet_auth::{Identity, WallTime};
use guichet_config::CellId;
use serde::Serialize;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    tenant: &'a str,
    category: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

/// The `Guichet-Identity` value.
pub(crate) fn identity_token(identity: &Identity, cell: &CellId, key: &[u8], now: WallTime) -> String {
    let claims = Claims {
        sub: identity.address.as_str(),
        tenant: identity.tenant.as_str(),
        category: identity.category.as_str(),
        aud: cell.as_str(),
        iat: now.seconds(),
        exp: now.seconds() + LIFE_SECONDS,
    };
    // Plain strings and numbers always serialise.
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    let mut token = String::with_capacity(320);
    token.push_str(HEADER);
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), token.as_bytes());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(tag, &mut token);
    token
}

/// `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
const LIFE_SECONDS: u64 = 60;

#[cfg(test)]
mod tests {
    use guichet_auth::Method;
    use guichet_config::Category;

    use super::*;

    #[test]
    fn the_token_names_the_user_and_verifies_under_the_key() {
        let identity = Identity {
            address: "alice@univ.example".parse().unwrap(),
            tenant: "univ".parse().unwrap(),
            category: Category::Staff,
            cell: None,
            method: Method::Saml,
        };
        let key = [7; 32];
        let token = identity_token(&identity, &"alpha".parse().unwrap(), &key, WallTime(1_000_000));
        let (signed, tag) = token.rsplit_once('.').unwrap();
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).unwrap();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes(), &tag).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"HS256","typ":"JWT"}"#);
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(
            claims,
            serde_json::json!({"sub": "alice@univ.example", "tenant": "univ", "category": "staff", "aud": "alpha",
                "iat": 1000, "exp": 1060})
        );
    }
}
