//! Attributes of a verified assertion: which value may name the user.
//!
//! A scoped attribute says `value@scope`; the scope must be one that the federation registered for this IdP, else any
//! university could name the people of another. `mail` has no scope: the tenant's own domains gate it, and every other.

use std::str::FromStr as _;

use guichet_config::{Address, Category, IdpOfTenant, Tenant};
use uppsala::{Document, NodeId};

use super::{
    IdpMetadata, Refusal,
    xml::{self, SAML},
};

/// The address: the first value of the tenant's address attributes, in their order, that lies in the IdP's scopes
/// (scoped attributes) and in the tenant's domains.
///
/// # Errors
/// Why no value qualified: the strongest reason met.
pub(super) fn address(
    doc: &Document<'_>,
    assertion: NodeId,
    wanted: &IdpOfTenant,
    tenant: &Tenant,
    idp: &IdpMetadata,
) -> Result<Address, Refusal> {
    let mut refusal = Refusal::AddressMissing;
    for name in &wanted.address_attributes {
        for value in values(doc, assertion, name)? {
            if is_scoped(name) && !in_scope(&value, idp) {
                refusal = Refusal::Scope;
                continue;
            }
            // Two `@` are a quoted local part at best; readers differ on them.
            let one_at = value.matches('@').count() == 1;
            let Some(address) = one_at.then(|| Address::from_str(&value).ok()).flatten() else { continue };
            if tenant.domains.iter().any(|domain| domain.as_str() == address.domain()) {
                return Ok(address);
            }
            if refusal == Refusal::AddressMissing {
                refusal = Refusal::Domain;
            }
        }
    }
    Err(refusal)
}

/// Staff when any affiliation says so, student when one says that, else what the tenant takes for granted.
pub(super) fn category(
    doc: &Document<'_>,
    assertion: NodeId,
    wanted: &IdpOfTenant,
    tenant: &Tenant,
    idp: &IdpMetadata,
) -> Result<Category, Refusal> {
    let name = &wanted.affiliation_attribute;
    let mut student = false;
    for value in values(doc, assertion, name)? {
        let scoped = is_scoped(name) || value.contains('@');
        if scoped && !in_scope(&value, idp) {
            continue;
        }
        let affiliation = value.split('@').next().unwrap_or_default().to_ascii_lowercase();
        match affiliation.as_str() {
            "staff" | "faculty" | "employee" | "researcher" => return Ok(Category::Staff),
            "student" => student = true,
            _ => {}
        }
    }
    Ok(if student { Category::Student } else { tenant.category })
}

/// Values of the attribute called `name` (Name decides, FriendlyName never), at most 32.
fn values(doc: &Document<'_>, assertion: NodeId, name: &str) -> Result<Vec<String>, Refusal> {
    xml::children(doc, assertion, SAML, "AttributeStatement")
        .flat_map(|statement| xml::children(doc, statement, SAML, "Attribute"))
        .filter(|node| xml::attribute(doc, *node, "Name") == Some(name))
        .flat_map(|node| xml::children(doc, node, SAML, "AttributeValue"))
        .take(VALUES_MAX)
        .map(|node| xml::text(doc, node).ok_or(Refusal::ValueNotPlain))
        .collect()
}

/// Names of all attributes, each with the number of its values; at most 64.
pub(super) fn names(doc: &Document<'_>, assertion: NodeId) -> Vec<(String, usize)> {
    xml::children(doc, assertion, SAML, "AttributeStatement")
        .flat_map(|statement| xml::children(doc, statement, SAML, "Attribute"))
        .filter_map(|node| {
            let name = xml::attribute(doc, node, "Name")?.to_owned();
            Some((name, xml::children(doc, node, SAML, "AttributeValue").count()))
        })
        .take(NAMES_MAX)
        .collect()
}

/// Exactly one `@`, something before it, and a registered scope after it. No scope in the metadata: no scoped value.
fn in_scope(value: &str, idp: &IdpMetadata) -> bool {
    match value.split_once('@') {
        Some((local, scope)) if !local.is_empty() && !scope.contains('@') => {
            idp.scopes.iter().any(|registered| registered.eq_ignore_ascii_case(scope))
        }
        _ => false,
    }
}

fn is_scoped(name: &str) -> bool {
    SCOPED.contains(&name)
}

/// eduPersonPrincipalName, eduPersonScopedAffiliation, eduPersonUniqueId, subject-id, pairwise-id.
const SCOPED: [&str; 5] = [
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.6",
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.9",
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.13",
    "urn:oasis:names:tc:SAML:attribute:subject-id",
    "urn:oasis:names:tc:SAML:attribute:pairwise-id",
];

const VALUES_MAX: usize = 32;
const NAMES_MAX: usize = 64;
