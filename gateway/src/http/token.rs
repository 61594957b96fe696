//! The signed word to a cell about who the user is: a JWT, HS256 (RFC 7519, RFC 7515), good for one minute.
//!
//! A page comes as many requests: one word serves all of a user's within [`REUSE_SECONDS`].

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet_auth::{
    Identity, WallTime,
    assurance::{Assurance, Level},
};
use guichet_config::CellId;
use http::HeaderValue;
use serde::Serialize;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    tenant: &'a str,
    category: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    #[serde(flatten)]
    assurance: Option<AssuranceClaims>,
}

/// What the IdP said of the login (OpenID Connect Core §2 for the first two).
#[derive(Serialize)]
struct AssuranceClaims {
    auth_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_assurance: Option<&'static str>,
}

impl AssuranceClaims {
    fn of(assurance: &Assurance) -> Self {
        Self {
            auth_time: assurance.at.seconds(),
            acr: assurance.context.map(|context| context.as_str()),
            identity_assurance: assurance.level.map(Level::as_str),
        }
    }
}

/// Words given lately.
pub(crate) struct Tokens(moka::sync::Cache<Box<str>, (u64, HeaderValue)>);

impl Tokens {
    pub(crate) fn new() -> Self {
        Self(moka::sync::Cache::new(TOKENS_MAX))
    }

    /// The `Guichet-Identity` value for a request. `generation` is the configuration's: its keys may change.
    pub(crate) fn of(
        &self,
        (identity, assurance): (&Identity, Option<&Assurance>),
        cell: &CellId,
        key: &[u8],
        generation: u64,
        now: WallTime,
    ) -> Option<HeaderValue> {
        let name = name(identity, assurance, cell, generation);
        let seconds = now.seconds();
        if let Some((made, token)) = self.0.get(name.as_str())
            && (made..made + REUSE_SECONDS).contains(&seconds)
        {
            return Some(token);
        }
        let token =
            HeaderValue::from_maybe_shared(bytes::Bytes::from(identity_token(identity, assurance, cell, key, now)))
                .ok()?;
        self.0.insert(name.into(), (seconds, token.clone()));
        Some(token)
    }
}

/// Everything a token says but its times; none of the parts can hold a line end.
fn name(identity: &Identity, assurance: Option<&Assurance>, cell: &CellId, generation: u64) -> String {
    let mut name = String::with_capacity(192);
    let (tenant, category) = (identity.tenant.as_str(), identity.category.as_str());
    // Writing to a string cannot fail.
    let _ = write!(name, "{generation}\n{}\n{tenant}\n{category}\n", cell.as_str());
    if let Some(AssuranceClaims { auth_time, acr, identity_assurance }) = assurance.map(AssuranceClaims::of) {
        let (acr, level) = (acr.unwrap_or_default(), identity_assurance.unwrap_or_default());
        let _ = write!(name, "{auth_time}\n{acr}\n{level}\n");
    }
    name.push_str(identity.address.as_str());
    name
}

fn identity_token(
    identity: &Identity,
    assurance: Option<&Assurance>,
    cell: &CellId,
    key: &[u8],
    now: WallTime,
) -> String {
    let claims = Claims {
        sub: identity.address.as_str(),
        tenant: identity.tenant.as_str(),
        category: identity.category.as_str(),
        aud: cell.as_str(),
        iat: now.seconds(),
        exp: now.seconds() + LIFE_SECONDS,
        assurance: assurance.map(AssuranceClaims::of),
    };
    // Plain strings and numbers always serialise.
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    let mut token = String::with_capacity(448);
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
/// A word leaves with at least half a minute to live.
const REUSE_SECONDS: u64 = 30;
/// Under a KiB each.
const TOKENS_MAX: u64 = 16_384;

#[cfg(test)]
mod tests {
    use guichet_auth::{Method, assurance::Context};
    use guichet_config::Category;

    use super::*;

    fn alice() -> Identity {
        Identity {
            address: "alice@univ.example".parse().unwrap(),
            tenant: "univ".parse().unwrap(),
            category: Category::Staff,
            cell: None,
            method: Method::Saml,
        }
    }

    #[test]
    fn one_word_serves_half_a_minute_and_only_the_same_user_cell_and_configuration() {
        let tokens = Tokens::new();
        let (alpha, beta) = ("alpha".parse().unwrap(), "beta".parse().unwrap());
        let now = WallTime(1_000_000);
        let of =
            |identity: &Identity, cell, generation, now| tokens.of((identity, None), cell, &[7; 32], generation, now);
        let first = of(&alice(), &alpha, 1, now);
        let at = |seconds: u64| WallTime(1_000_000 + 1000 * seconds);
        assert_eq!(of(&alice(), &alpha, 1, at(29)), first);
        let mut student = alice();
        student.category = Category::Student;
        let mut bob = alice();
        bob.address = "bob@univ.example".parse().unwrap();
        for other in [of(&student, &alpha, 1, now), of(&bob, &alpha, 1, now), of(&alice(), &beta, 1, now)] {
            assert_ne!(other, first);
        }
        assert_ne!(of(&alice(), &alpha, 1, at(30)), first);
        let other_key = tokens.of((&alice(), None), &alpha, &[8; 32], 2, now);
        assert_ne!(other_key, first);
        // A clock that was set back must not be given a word of the future.
        assert_eq!(of(&alice(), &alpha, 1, now), first);
    }

    #[test]
    fn the_token_names_the_user_and_verifies_under_the_key() {
        let identity = alice();
        let key = [7; 32];
        let token = identity_token(&identity, None, &"alpha".parse().unwrap(), &key, WallTime(1_000_000));
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

    #[test]
    fn the_cell_is_told_how_and_when_the_user_logged_in_and_no_older_word() {
        let mut assurance = Assurance {
            context: Some(Context::of("https://refeds.org/profile/mfa")),
            at: WallTime(990_500),
            level: Some(Level::High),
        };
        let cell = "alpha".parse().unwrap();
        let claims = |assurance: &Assurance| {
            let token = identity_token(&alice(), Some(assurance), &cell, &[7; 32], WallTime(1_000_000));
            let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            serde_json::from_slice::<serde_json::Value>(&claims).unwrap()
        };
        let told = claims(&assurance);
        assert_eq!(told["acr"], "https://refeds.org/profile/mfa");
        assert_eq!((&told["auth_time"], &told["identity_assurance"]), (&990.into(), &"high".into()));
        assert_eq!(told["sub"], "alice@univ.example");

        let tokens = Tokens::new();
        let of =
            |assurance: &Assurance| tokens.of((&alice(), Some(assurance)), &cell, &[7; 32], 1, WallTime(1_000_000));
        let first = of(&assurance);
        assurance.at = WallTime(999_000);
        assert_ne!(of(&assurance), first, "a step-up is told at once");
        assurance.context = None;
        assurance.level = None;
        let told = claims(&assurance);
        assert!(told.get("acr").is_none() && told.get("identity_assurance").is_none(), "{told}");
    }
}
