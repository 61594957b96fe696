//! Issuers of bearer tokens as used.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use crate::TenantId;

/// `[bearer.NAME]`
#[derive(Clone, Debug)]
pub struct Bearer {
    /// NAME.
    pub name: String,
    /// `iss`; no two have the same.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// JSON Web Key Set.
    pub keys_file: PathBuf,
    /// Signatures taken, at least one, none twice.
    pub algorithms: Vec<BearerAlgorithm>,
    /// Claim that holds the address.
    pub address_claim: String,
    /// Tenants whose users it may name.
    pub tenants: BTreeSet<TenantId>,
    /// Clock difference allowed.
    pub clock_skew: Duration,
}

/// A signature of bearer tokens (RFC 7518 §3.1). There is no other: `none` and shared secrets sign for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BearerAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl BearerAlgorithm {
    /// Its registered name, `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}
