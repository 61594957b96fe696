//! Which attributes our metadata asks for: those that the tenants' logins use, and no others.

use std::collections::BTreeMap;

use guichet_config::{AttributeName, IdpOfTenant, Tenant};

/// The attributes, in the order of their names, and whether a login fails without them.
#[derive(Clone, Debug, Default)]
pub(in crate::saml) struct Requested(BTreeMap<AttributeName, bool>);

impl Requested {
    /// Those of tenants that log in by SAML. What identifies the user is required, of several address attributes the
    /// first; so is what a tenant requires besides. Affiliations are not: there is no more to ask of institutions that
    /// release little.
    pub(in crate::saml) fn of<'a>(tenants: impl IntoIterator<Item = &'a Tenant>) -> Self {
        let mut requested = BTreeMap::new();
        for idp in tenants.into_iter().filter_map(|tenant| tenant.idp.as_ref()) {
            let besides = idp.requirements.iter().map(|requirement| (&requirement.attribute, true));
            let affiliations = idp.affiliation_attributes.iter().map(|name| (name, false));
            for (name, required) in identifying(idp).into_iter().chain(besides).chain(affiliations) {
                *requested.entry(name.clone()).or_default() |= required;
            }
        }
        Self(requested)
    }

    /// Those that are asked for by name. Subject identifiers are not (SAML V2.0 Subject Identifier Attributes Profile): see
    /// [`Self::subject_id`].
    pub(super) fn iter(&self) -> impl Iterator<Item = (&AttributeName, bool)> {
        let named = self.0.iter().filter(|(name, _)| !matches!(name.as_str(), SUBJECT_ID | PAIRWISE_ID));
        named.map(|(name, required)| (name, *required))
    }

    /// The value of the entity attribute by which subject identifiers are asked for, when a tenant uses one.
    pub(super) fn subject_id(&self) -> Option<&'static str> {
        let uses = |wanted: &str| self.0.keys().any(|name| name.as_str() == wanted);
        match (uses(SUBJECT_ID), uses(PAIRWISE_ID)) {
            (true, true) => Some("any"),
            (true, false) => Some("subject-id"),
            (false, true) => Some("pairwise-id"),
            (false, false) => None,
        }
    }
}

/// The identifier stands in the place of the address attributes.
fn identifying(idp: &IdpOfTenant) -> Vec<(&AttributeName, bool)> {
    match &idp.identifier {
        Some(source) => vec![(&source.attribute, true)],
        None => idp.address_attributes.iter().enumerate().map(|(place, name)| (name, place == 0)).collect(),
    }
}

const SUBJECT_ID: &str = "urn:oasis:names:tc:SAML:attribute:subject-id";
const PAIRWISE_ID: &str = "urn:oasis:names:tc:SAML:attribute:pairwise-id";
