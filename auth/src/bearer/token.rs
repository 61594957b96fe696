//! One token: a JWS in compact form (RFC 7515 §3.1) whose payload is a set of claims (RFC 7519).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet_config::{Address, Bearer, BearerAlgorithm};
use serde_json::{Map, Value};

use super::{TokenRefusal, json, keys::Keys};
use crate::WallTime;

/// A token taken apart, and not believed.
pub(super) struct Signed<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    /// What is signed: both parts as they came.
    message: &'a [u8],
    signature: Vec<u8>,
}

/// The claims of a token whose signature is its issuer's.
pub(super) struct Claims(pub(super) Map<String, Value>);

impl<'a> Signed<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, TokenRefusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefusal::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenRefusal::Malformed)?;
        // A fourth dot is no base64: neither are encrypted tokens, of five parts.
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenRefusal::Malformed);
        Ok(Self {
            header: json::object(&part(header)?)?,
            claims: json::object(&part(claims)?)?,
            message: message.as_bytes(),
            signature: part(signature)?,
        })
    }

    /// Whose it claims to be.
    pub(super) fn issuer(&self) -> Result<&str, TokenRefusal> {
        self.claims.get("iss").and_then(Value::as_str).ok_or(TokenRefusal::Issuer)
    }

    /// The claims, when one of the issuer's keys signed them. Keys that a header brings along (`jwk`, `jku`, `x5u`, `x5c`)
    /// are never looked at.
    pub(super) fn open(self, bearer: &Bearer, keys: &Keys) -> Result<Claims, TokenRefusal> {
        let algorithm = match self.header.get("alg").and_then(Value::as_str) {
            Some("ES256") => BearerAlgorithm::Es256,
            Some("RS256") => BearerAlgorithm::Rs256,
            _ => return Err(TokenRefusal::Algorithm),
        };
        if !bearer.algorithms.contains(&algorithm) {
            return Err(TokenRefusal::Algorithm);
        }
        // RFC 7515 §4.1.11: whoever does not know what is critical must refuse.
        if self.header.contains_key("crit") {
            return Err(TokenRefusal::Critical);
        }
        self.check_type()?;
        let kid = match self.header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(TokenRefusal::UnknownKey),
        };
        let key = keys.find(kid, algorithm).ok_or(TokenRefusal::UnknownKey)?;
        if !key.verifies(self.message, &self.signature) {
            return Err(TokenRefusal::Signature);
        }
        Ok(Claims(self.claims))
    }

    /// RFC 9068 §2.1 wants `at+jwt`; issuers that are older than it write `JWT` or nothing. Others (logout tokens, security
    /// events, proofs of possession) have types of their own, and are no access tokens.
    fn check_type(&self) -> Result<(), TokenRefusal> {
        let known = match self.header.get("typ") {
            None => true,
            Some(Value::String(kind)) => {
                let kind = kind.to_ascii_lowercase();
                matches!(kind.strip_prefix("application/").unwrap_or(&kind), "at+jwt" | "jwt")
            }
            Some(_) => false,
        };
        if known { Ok(()) } else { Err(TokenRefusal::Type) }
    }
}

impl Claims {
    /// That the token is for us, and for now.
    pub(super) fn check(&self, bearer: &Bearer, now: WallTime) -> Result<(), TokenRefusal> {
        // RFC 7519 §4.1.3: one text, or several.
        let for_us = match self.0.get("aud") {
            Some(Value::String(one)) => *one == bearer.audience,
            Some(Value::Array(several)) => several.iter().any(|one| *one == bearer.audience),
            _ => false,
        };
        if !for_us {
            return Err(TokenRefusal::Audience);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds are exact for 285 million years")]
        let (now, skew) = (now.0 as f64 / 1000.0, bearer.clock_skew.as_secs_f64());
        let expires = self.time("exp")?.ok_or(TokenRefusal::Times)?;
        if now >= expires + skew {
            return Err(TokenRefusal::Expired);
        }
        for begins in [self.time("nbf")?, self.time("iat")?].into_iter().flatten() {
            if now + skew < begins {
                return Err(TokenRefusal::NotYet);
            }
        }
        Ok(())
    }

    /// RFC 7519 §2: seconds since the epoch, and perhaps a fraction.
    fn time(&self, claim: &str) -> Result<Option<f64>, TokenRefusal> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|time| *time >= 0.0).map(Some).ok_or(TokenRefusal::Times),
        }
    }

    pub(super) fn address(&self, bearer: &Bearer) -> Result<Address, TokenRefusal> {
        let claim = bearer.address_claim.as_str();
        let text = self.0.get(claim).and_then(Value::as_str).ok_or(TokenRefusal::NoAddress)?;
        // OpenID Connect Core §5.1: an address that anybody may have typed into a profile.
        if claim == "email" && self.0.get("email_verified").is_some_and(|verified| *verified != true) {
            return Err(TokenRefusal::UnverifiedAddress);
        }
        text.parse().map_err(|_| TokenRefusal::NoAddress)
    }
}

/// As long as the dialogues take.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
