//! Attributes of a verified assertion: who the user is, in which category, and whether the tenant lets in such a user.
//!
//! A scoped attribute says `value@scope`; the scope must be one that the federation registered for this IdP, else any
//! university could name the people of another. `mail` has no scope: the tenant's own domains gate it, and every other.
//! An identifier names nobody by itself: the directory tells whose it is.

use std::str::FromStr as _;

use guichet_config::{
    Address, AttributeName, Category, IdentifierSource, IdentifierSyntax, IdpOfTenant, Requirement, Tenant,
};
use uppsala::{Document, NodeId};

use super::{
    IdpMetadata, Refusal,
    xml::{self, SAML},
};

/// Whom a verified assertion speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The user of this address, in a domain of the tenant.
    Address(Address),
    /// The user whom the directory has under this.
    Identifier(Identifier),
}

/// What an IdP calls a user: in ASCII lower case, within the IdP's scopes where it has one. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    value: String,
    directory_attribute: Option<String>,
}

impl Identifier {
    /// What an IdP might have said, for the tests of those who are told.
    #[cfg(test)]
    pub(crate) fn said(value: &str) -> Self {
        Self { value: value.to_owned(), directory_attribute: None }
    }

    /// The value, printable ASCII without spaces.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Where an LDAP directory has it.
    pub fn directory_attribute(&self) -> Option<&str> {
        self.directory_attribute.as_deref()
    }
}

/// The attributes of one assertion, as one tenant reads them.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a, 'd> {
    pub(super) doc: &'a Document<'d>,
    pub(super) assertion: NodeId,
    pub(super) wanted: &'a IdpOfTenant,
    pub(super) tenant: &'a Tenant,
    pub(super) idp: &'a IdpMetadata,
}

impl Attributes<'_, '_> {
    /// Whom the assertion speaks of: by the tenant's identifier where it has one, else by address.
    ///
    /// # Errors
    /// Why no value qualified.
    pub(super) fn subject(&self) -> Result<Subject, Refusal> {
        match &self.wanted.identifier {
            Some(source) => self.identifier(source).map(Subject::Identifier),
            None => self.address().map(Subject::Address),
        }
    }

    /// The first value of the tenant's address attributes, in their order, that lies in the IdP's scopes (scoped
    /// attributes) and in the tenant's domains; else the strongest reason met.
    fn address(&self) -> Result<Address, Refusal> {
        let mut refusal = Refusal::AddressMissing;
        for name in &self.wanted.address_attributes {
            for value in self.values(name)? {
                if name.is_scoped() && !self.in_scope(&value) {
                    refusal = Refusal::Scope;
                    continue;
                }
                // Two `@` are a quoted local part at best; readers differ on them.
                let one_at = value.matches('@').count() == 1;
                let Some(address) = one_at.then(|| Address::from_str(&value).ok()).flatten() else { continue };
                if self.tenant.domains.iter().any(|domain| domain.as_str() == address.domain()) {
                    return Ok(address);
                }
                if refusal == Refusal::AddressMissing {
                    refusal = Refusal::Domain;
                }
            }
        }
        Err(refusal)
    }

    /// The one value of the identifying attribute. The same value twice is one; two that differ are no identifier.
    fn identifier(&self, source: &IdentifierSource) -> Result<Identifier, Refusal> {
        let mut found: Option<String> = None;
        for value in self.values(&source.attribute)? {
            if !is_identifier(&value, source.syntax) {
                return Err(Refusal::Identifier);
            }
            if source.attribute.is_scoped() && !self.in_scope(&value) {
                return Err(Refusal::Scope);
            }
            let value = value.to_ascii_lowercase();
            if found.as_ref().is_some_and(|known| *known != value) {
                return Err(Refusal::Identifier);
            }
            found = Some(value);
        }
        let value = found.ok_or(Refusal::IdentifierMissing)?;
        Ok(Identifier { value, directory_attribute: source.directory_attribute.clone() })
    }

    /// What the first attribute that tells a category says: staff when any of its values does, else student. When none
    /// tells one, what the tenant takes for granted. A value with a scope counts within the scopes of the IdP only.
    pub(super) fn category(&self) -> Result<Category, Refusal> {
        for name in &self.wanted.affiliation_attributes {
            let mut student = false;
            for value in self.values(name)? {
                if (name.is_scoped() || value.contains('@')) && !self.in_scope(&value) {
                    continue;
                }
                let affiliation = value.split('@').next().unwrap_or_default().to_ascii_lowercase();
                if self.wanted.staff_affiliations.contains(&affiliation) {
                    return Ok(Category::Staff);
                }
                student |= self.wanted.student_affiliations.contains(&affiliation);
            }
            if student {
                return Ok(Category::Student);
            }
        }
        Ok(self.tenant.category)
    }

    /// Whether every required attribute has one of the values listed, letter by letter.
    pub(super) fn requirements(&self) -> Result<(), Refusal> {
        for Requirement { attribute, values: accepted } in &self.wanted.requirements {
            let values = self.values(attribute)?;
            let counts = |value: &String| !attribute.is_scoped() || self.in_scope(value);
            if !values.iter().any(|value| accepted.contains(value) && counts(value)) {
                return Err(Refusal::Requirement { attribute: attribute.clone(), released: !values.is_empty() });
            }
        }
        Ok(())
    }

    /// Values of the attribute called `name` (Name decides, FriendlyName never), at most [`VALUES_MAX`].
    fn values(&self, name: &AttributeName) -> Result<Vec<String>, Refusal> {
        let nodes = nodes(self.doc, self.assertion, name).take(VALUES_MAX);
        nodes.map(|node| xml::text(self.doc, node).ok_or(Refusal::ValueNotPlain)).collect()
    }

    /// Exactly one `@`, something before it, and a registered scope after it. No scope in the metadata: no scoped value.
    fn in_scope(&self, value: &str) -> bool {
        match value.split_once('@') {
            Some((local, scope)) if !local.is_empty() && !scope.contains('@') => {
                self.idp.scopes.iter().any(|registered| registered.eq_ignore_ascii_case(scope))
            }
            _ => false,
        }
    }
}

/// Values of an attribute, for the eyes of the user they speak of: the first few that are plain, none of them long.
pub(super) fn shown(doc: &Document<'_>, assertion: NodeId, name: &AttributeName) -> Vec<String> {
    texts(doc, nodes(doc, assertion, name))
}

/// How the user was authenticated (AuthnContextClassRef), likewise.
pub(super) fn contexts(doc: &Document<'_>, assertion: NodeId) -> Vec<String> {
    let classes = xml::children(doc, assertion, SAML, "AuthnStatement")
        .flat_map(|statement| xml::children(doc, statement, SAML, "AuthnContext"))
        .flat_map(|context| xml::children(doc, context, SAML, "AuthnContextClassRef"));
    texts(doc, classes)
}

fn texts(doc: &Document<'_>, nodes: impl Iterator<Item = NodeId>) -> Vec<String> {
    let plain = nodes.filter_map(|node| xml::text(doc, node));
    plain.map(|text| text.chars().take(SHOWN_CHARS_MAX).collect()).take(SHOWN_MAX).collect()
}

pub(super) fn nodes<'d>(
    doc: &'d Document<'_>,
    assertion: NodeId,
    name: &'d AttributeName,
) -> impl Iterator<Item = NodeId> + 'd {
    xml::children(doc, assertion, SAML, "AttributeStatement")
        .flat_map(|statement| xml::children(doc, statement, SAML, "Attribute"))
        .filter(|node| xml::attribute(doc, *node, "Name") == Some(name.as_str()))
        .flat_map(|node| xml::children(doc, node, SAML, "AttributeValue"))
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

/// Whether a value has the form of its kind. None has a space or a letter beyond ASCII: an LDAP server folds those when
/// it compares (RFC 4518), and would take a look-alike for the user.
fn is_identifier(value: &str, syntax: IdentifierSyntax) -> bool {
    let alphanumeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match syntax {
        IdentifierSyntax::Plain => {
            (1..=PLAIN_BYTES_MAX).contains(&value.len())
                && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@')
        }
        IdentifierSyntax::SubjectId => value
            .split_once('@')
            .is_some_and(|(id, scope)| is_part_of_subject_id(id, b"=-") && is_part_of_subject_id(scope, b"-.")),
        IdentifierSyntax::UniqueId => value.split_once('@').is_some_and(|(id, scope)| {
            (1..=UNIQUE_ID_BYTES_MAX).contains(&id.len()) && alphanumeric(id) && is_part_of_subject_id(scope, b"-.")
        }),
        IdentifierSyntax::Scoped => value.split_once('@').is_some_and(|(name, scope)| {
            (1..=PLAIN_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic())
                && is_part_of_subject_id(scope, b"-.")
        }),
    }
}

/// Subject Identifier Attributes Profile §3.3.1: a letter or digit, then up to 126 of those and of a few signs.
fn is_part_of_subject_id(text: &str, signs: &[u8]) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() <= 127
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte))
}

/// Entitlements and groups can be many; the Response's own bounds are far above.
const VALUES_MAX: usize = 256;
const NAMES_MAX: usize = 64;
/// On a page for people.
const SHOWN_MAX: usize = 16;
const SHOWN_CHARS_MAX: usize = 256;
/// A login or a number; with a scope behind it still below 255.
const PLAIN_BYTES_MAX: usize = 127;
/// eduPerson 2022-11 §2.2.13.
const UNIQUE_ID_BYTES_MAX: usize = 64;

#[cfg(test)]
#[path = "tests/attributes.rs"]
mod tests;
