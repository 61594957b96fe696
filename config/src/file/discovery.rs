//! Service providers that we are the discovery service of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service provider whose users may choose their institution here.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiscoveryClient {
    /// Its entityID.
    pub(crate) entity_id: String,
    /// Where its users may be sent back to, the default first: the locations of `DiscoveryResponse` in its metadata.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) return_to: Vec<String>,
}
