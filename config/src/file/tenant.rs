//! Institutions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Category, StepUp};

/// An institution.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenant {
    /// Name shown to users.
    pub(crate) name: Text,
    /// Mail domains.
    #[schemars(length(min = 1, max = 1024))]
    pub(crate) domains: Vec<String>,
    /// Hostnames of its own: web login there is that of this tenant, without a question.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(crate) hostnames: Vec<String>,
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
    /// Pages that want a fresher or stronger login.
    pub(crate) step_up: Option<StepUp>,
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
    /// Attributes tried for the address, in this order; only values in the tenant's domains count.
    #[serde(default = "idp_address_attributes")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) address_attributes: Vec<String>,
    /// Find the address in the directory by what the identity provider calls the user, in place of `address_attributes`.
    pub(crate) identifier: Option<IdpIdentifier>,
    /// Attributes whose values tell the category; the first that tells one decides.
    #[serde(default = "idp_affiliation_attributes")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) affiliation_attributes: Vec<String>,
    /// Their values that mean staff; staff goes before student.
    #[serde(default = "idp_staff_affiliations")]
    #[schemars(length(max = 64))]
    pub(crate) staff_affiliations: Vec<String>,
    /// Their values that mean student.
    #[serde(default = "idp_student_affiliations")]
    #[schemars(length(max = 64))]
    pub(crate) student_affiliations: Vec<String>,
    /// Attributes that must have at least one of the values listed, each of them.
    #[serde(default)]
    pub(crate) require: BTreeMap<String, Vec<String>>,
    /// Accept an unsigned response around a signed assertion.
    #[serde(default)]
    pub(crate) assertion_signature_only: bool,
    /// How requests reach it; by default a redirect where it has an endpoint for that.
    pub(crate) binding: Option<RequestBinding>,
    /// Ask that the user logs in afresh, whatever session the identity provider holds.
    #[serde(default)]
    pub(crate) force_authn: bool,
    /// Authentication contexts (AuthnContextClassRef), of which a login must have one, the preferred first; by default any.
    #[serde(default)]
    #[schemars(length(max = 4))]
    pub(crate) authn_context: Vec<String>,
    /// How far a logout here goes.
    #[serde(default)]
    pub(crate) logout: Logout,
    /// A logout there also ends the user's mail connections to the node that hears of it.
    #[serde(default)]
    pub(crate) logout_ends_mail: bool,
    /// Ask the identity provider, not the directory, about passwords of mail programs and Basic clients.
    pub(crate) ecp: Option<Ecp>,
}

/// How requests reach an identity provider.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RequestBinding {
    /// In the address that the browser is sent to (HTTP-Redirect).
    Redirect,
    /// In a form that the browser posts (HTTP-POST).
    Post,
}

/// How an identity provider is asked about a password (SAML enhanced client or proxy).
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ecp {
    /// What it knows its users by.
    #[serde(default)]
    pub(crate) username: EcpUsername,
    /// PEM roots for its endpoint; by default the system's.
    pub(crate) ca: Option<String>,
}

/// The name that goes with a password.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EcpUsername {
    /// The address as typed.
    #[default]
    Address,
    /// What stands before the `@`.
    LocalPart,
}

/// How far a logout on our pages goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Logout {
    /// Our session ends, and the identity provider is asked to end its own, where it can.
    #[default]
    Idp,
    /// Only our session ends.
    Local,
}

/// What the identity provider calls a user, and where the directory has it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdpIdentifier {
    /// Attribute of the assertion.
    pub(crate) attribute: String,
    /// Attribute of the LDAP directory with the same values; the embedded directory has `identifiers`.
    pub(crate) directory_attribute: Option<String>,
}

fn idp_address_attributes() -> Vec<String> {
    ["mail", "eduPersonPrincipalName"].map(str::to_owned).to_vec()
}

fn idp_affiliation_attributes() -> Vec<String> {
    vec!["eduPersonScopedAffiliation".to_owned()]
}

fn idp_staff_affiliations() -> Vec<String> {
    crate::IdpOfTenant::STAFF_AFFILIATIONS.map(str::to_owned).to_vec()
}

fn idp_student_affiliations() -> Vec<String> {
    crate::IdpOfTenant::STUDENT_AFFILIATIONS.map(str::to_owned).to_vec()
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
