//! Bearer tokens: whose they are.
//!
//! [`VerifyToken`] is the hook that the mail side knows. [`Issuers`] is what stands behind it: signed JWTs (RFC 7519, RFC
//! 9068) of the issuers in the configuration, each with its pinned keys and the tenants it may speak for. Decisions are
//! pure: a token and `now` in, an address or a named refusal out.

mod json;
mod keys;
#[cfg(any(test, feature = "properties"))]
pub(crate) mod properties;
mod token;

use std::{path::Path, sync::Arc};

use guichet_config::{Address, Bearer, Config, Problem};

use self::{keys::Keys, token::Signed};
use crate::WallTime;

/// Whoever can tell whose a token is.
pub trait VerifyToken: Send + Sync + std::fmt::Debug {
    /// The address that the token proves.
    ///
    /// # Errors
    /// The check that failed.
    fn verify(&self, token: &str, now: WallTime) -> Result<Address, TokenRefusal>;
}

/// Why a token proves nothing. Outside, all of these are one: the token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenRefusal {
    /// Longer than any token of ours.
    TooLong,
    /// Not three parts of base64url with two JSON objects.
    Malformed,
    /// A name stands twice in an object: two readers could read two things.
    RepeatedName,
    /// `alg` is none of the issuer's: `none`, a shared secret, another curve.
    Algorithm,
    /// `typ` is another kind of token.
    Type,
    /// `crit` asks for what we do not know.
    Critical,
    /// `iss` is no issuer of ours.
    Issuer,
    /// No key of the issuer has this `kid` and algorithm.
    UnknownKey,
    /// The signature is not the key's.
    Signature,
    /// `aud` does not hold our name.
    Audience,
    /// `exp`, `nbf` or `iat` is missing where it must be, or no time.
    Times,
    /// `exp` is past.
    Expired,
    /// `nbf` or `iat` is to come.
    NotYet,
    /// The claim of the address is missing or holds none.
    NoAddress,
    /// The issuer says itself that the address is not verified.
    UnverifiedAddress,
    /// The address is in a domain that the issuer does not speak for.
    ForeignDomain,
}

impl TokenRefusal {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::RepeatedName => "repeated_name",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::Critical => "critical",
            Self::Issuer => "issuer",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Times => "times",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::NoAddress => "no_address",
            Self::UnverifiedAddress => "unverified_address",
            Self::ForeignDomain => "foreign_domain",
        }
    }
}

/// The issuers of the configuration with their keys. Made anew at each reload.
#[derive(Debug)]
pub struct Issuers {
    config: Arc<Config>,
    /// In the order of `config.bearers`.
    keys: Vec<Keys>,
}

impl Issuers {
    /// Reads the key set of every issuer.
    ///
    /// # Errors
    /// All that cannot be used.
    pub fn load(config: &Arc<Config>) -> Result<Self, Vec<Problem>> {
        let mut keys = Vec::new();
        let mut problems = Vec::new();
        for bearer in &config.bearers {
            match read(&bearer.keys_file).and_then(|bytes| Keys::read(&bytes, &bearer.algorithms)) {
                Ok(read) => keys.push(read),
                Err(message) => {
                    let message = format!("{}: {message}", bearer.keys_file.display());
                    problems.push(config.problem(&format!("bearer.{}.keys_file", bearer.name), message, None));
                }
            }
        }
        if problems.is_empty() { Ok(Self { config: config.clone(), keys }) } else { Err(problems) }
    }

    fn issuer(&self, name: &str) -> Option<(&Bearer, &Keys)> {
        self.config.bearers.iter().zip(&self.keys).find(|(bearer, _)| bearer.issuer == name)
    }
}

impl VerifyToken for Issuers {
    fn verify(&self, token: &str, now: WallTime) -> Result<Address, TokenRefusal> {
        let signed = Signed::read(token)?;
        // What a token says is believed only behind its signature; whose signature to look for it must say itself.
        let (bearer, keys) = self.issuer(signed.issuer()?).ok_or(TokenRefusal::Issuer)?;
        let claims = signed.open(bearer, keys)?;
        claims.check(bearer, now)?;
        let address = claims.address(bearer)?;
        let ours = self.config.tenant_of(&address).is_some_and(|tenant| bearer.tenants.contains(tenant));
        if ours { Ok(address) } else { Err(TokenRefusal::ForeignDomain) }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(file).map_err(|e| format!("it cannot be read: {e}"))?.len();
    if length > KEYS_BYTES_MAX {
        return Err("it is longer than 1 MiB".to_owned());
    }
    std::fs::read(file).map_err(|e| format!("it cannot be read: {e}"))
}

const KEYS_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests;
