//! Issuers of bearer tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lapse;

/// An issuer of bearer tokens (JWT), which mail programs log in with instead of a password.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bearer {
    /// Its name in its tokens, claim `iss`, to the letter.
    pub(crate) issuer: String,
    /// Our name in its tokens, claim `aud`, to the letter.
    pub(crate) audience: String,
    /// Its public keys: a JSON Web Key Set.
    pub(crate) keys_file: String,
    /// Signatures it uses.
    #[serde(default = "algorithms")]
    #[schemars(length(min = 1, max = 2))]
    pub(crate) algorithms: Vec<BearerAlgorithm>,
    /// Claim that holds the address.
    #[serde(default = "address_claim")]
    pub(crate) address_claim: String,
    /// Tenants whose users it may name.
    #[schemars(length(min = 1, max = 1024))]
    pub(crate) tenants: Vec<String>,
    /// Clock difference allowed to it.
    #[serde(default = "clock_skew")]
    pub(crate) clock_skew: Lapse,
}

fn algorithms() -> Vec<BearerAlgorithm> {
    vec![BearerAlgorithm::Es256, BearerAlgorithm::Rs256]
}

fn address_claim() -> String {
    "email".to_owned()
}

fn clock_skew() -> Lapse {
    Lapse::new("60s")
}

/// A signature of bearer tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum BearerAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}
