//! Our side of SAML and the metadata it reads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Lapse, Pair};

/// The gateway as SAML service provider.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saml {
    /// entityID; by default `ORIGIN/saml/metadata`.
    pub(crate) entity_id: Option<String>,
    /// Signs requests.
    pub(crate) signing: Pair,
    /// Decrypt assertions, newest first; by default the signing pair.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub(crate) encryption: Vec<Pair>,
    /// Clock difference allowed to an identity provider.
    #[serde(default = "saml_clock_skew")]
    pub(crate) clock_skew: Lapse,
}

fn saml_clock_skew() -> Lapse {
    Lapse::new("3m")
}

/// A source of metadata of identity providers.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Federation {
    /// Signed metadata.
    pub(crate) file: String,
    /// PEM certificates or public keys; one of them signed the file.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) signing_keys: Vec<String>,
    /// How often the file is looked at again.
    #[serde(default = "federation_refresh")]
    pub(crate) refresh: Lapse,
}

fn federation_refresh() -> Lapse {
    Lapse::new("1h")
}
