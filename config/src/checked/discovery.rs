//! Choosing an institution with the help of others, and for others.

use std::collections::BTreeMap;

/// `saml.discovery` and `[saml.discovery_for.NAME]`: the identity provider discovery protocol, both ways.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// The federation's discovery service, by HTTPS.
    pub service: Option<String>,
    /// Those who may ask us, by entityID; empty: nobody, and the service is off.
    pub clients: BTreeMap<String, DiscoveryClient>,
}

/// `[saml.discovery_for.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryClient {
    /// NAME.
    pub name: String,
    /// entityID.
    pub entity_id: String,
    /// HTTPS addresses without query, never empty: users are sent back to one of these. The first is the default.
    pub return_to: Vec<String>,
}
