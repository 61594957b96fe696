//! Institutions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Category;

/// An institution.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenant {
    /// Name shown to users.
    pub(crate) name: Text,
    /// Mail domains.
    #[schemars(length(min = 1, max = 1024))]
    pub(crate) domains: Vec<String>,
    /// Cell of users that nothing places elsewhere.
    pub(crate) cell: String,
    /// Category of users the directory has none for.
    #[serde(default)]
    pub(crate) category: Category,
    /// Identity provider; absent: the directory is the login.
    pub(crate) idp: Option<Idp>,
    /// Whether the directory may stand in for the identity provider.
    #[serde(default)]
    pub(crate) fallback: Fallback,
    /// Help desk address shown on error pages.
    pub(crate) contact: Option<String>,
}

/// A text in the two languages of the pages.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    /// French.
    pub(crate) fr: String,
    /// English; by default the French text.
    pub(crate) en: Option<String>,
}

/// Identity provider of a tenant.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Idp {
    /// SAML.
    pub(crate) saml: IdpSaml,
    /// Treat it as down or up, whatever the probes say.
    pub(crate) forced: Option<Forced>,
}

/// SAML identity provider of a tenant.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdpSaml {
    /// entityID in the metadata of a federation.
    pub(crate) entity_id: String,
    /// Attributes tried for the address, by OID name; only values in the tenant's domains count.
    #[serde(default = "idp_address_attributes")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) address_attributes: Vec<String>,
    /// Attribute whose values tell the category, by OID name.
    #[serde(default = "idp_affiliation_attribute")]
    pub(crate) affiliation_attribute: String,
    /// Accept an unsigned response around a signed assertion.
    #[serde(default)]
    pub(crate) assertion_signature_only: bool,
}

/// `mail`, then `eduPersonPrincipalName`.
fn idp_address_attributes() -> Vec<String> {
    vec!["urn:oid:0.9.2342.19200300.100.1.3".to_owned(), "urn:oid:1.3.6.1.4.1.5923.1.1.1.6".to_owned()]
}

/// `eduPersonScopedAffiliation`.
fn idp_affiliation_attribute() -> String {
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.9".to_owned()
}

/// An operator's word on an identity provider.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Forced {
    /// Treat as down.
    Down,
    /// Treat as up.
    Up,
}

/// Fallback by category.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fallback {
    /// For staff.
    pub(crate) staff: FallbackPolicy,
    /// For students.
    pub(crate) students: FallbackPolicy,
}

/// Whether the directory may stand in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FallbackPolicy {
    /// Never.
    Off,
    /// Only when an operator says so.
    Operator,
    /// When the outage is proven, or an operator says so.
    #[default]
    Auto,
}
