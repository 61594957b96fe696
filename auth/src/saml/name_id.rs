//! The name by which an IdP knows a user (core §2.2.3): read from verified elements, compared, written back to the IdP.
//!
//! It decides no identity here. It is what both sides of a logout call the user, and it is personal data: it never shows
//! in `Debug`, a log or a metric.

use uppsala::{Document, NodeId as Node};

use super::xml;

/// A `saml:NameID`.
#[derive(Clone, PartialEq, Eq)]
pub struct NameId {
    value: String,
    format: Option<String>,
    name_qualifier: Option<String>,
    sp_name_qualifier: Option<String>,
}

impl std::fmt::Debug for NameId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NameId(…)")
    }
}

impl NameId {
    /// A name from its parts: value, Format, NameQualifier, SPNameQualifier. `None` when it is empty or longer than
    /// [`NameId::BYTES_MAX`] in any part.
    pub fn new(
        value: String,
        format: Option<String>,
        name_qualifier: Option<String>,
        sp_name_qualifier: Option<String>,
    ) -> Option<Self> {
        let parts = [Some(&value), format.as_ref(), name_qualifier.as_ref(), sp_name_qualifier.as_ref()];
        let bounded = parts.into_iter().flatten().all(|part| part.len() <= Self::BYTES_MAX);
        (bounded && !value.is_empty()).then_some(Self { value, format, name_qualifier, sp_name_qualifier })
    }

    /// Longest part in bytes: a persistent name has 256 characters at most (core §8.3.7), an entityID 1024.
    pub const BYTES_MAX: usize = 1024;

    /// Value, Format, NameQualifier, SPNameQualifier, as the IdP wrote them.
    pub fn parts(&self) -> (&str, Option<&str>, Option<&str>, Option<&str>) {
        (&self.value, self.format.as_deref(), self.name_qualifier.as_deref(), self.sp_name_qualifier.as_deref())
    }

    /// The parts with what an absent one stands for (core §2.2.2, §8.3.1, §8.3.7), so that one user has one name however
    /// an IdP spells it: value, Format, NameQualifier, SPNameQualifier.
    pub(crate) fn canonical<'a>(&'a self, idp: &'a str, sp: &'a str) -> [&'a str; 4] {
        [
            &self.value,
            self.format.as_deref().unwrap_or(UNSPECIFIED),
            self.name_qualifier.as_deref().unwrap_or(idp),
            self.sp_name_qualifier.as_deref().unwrap_or(sp),
        ]
    }

    /// The name in an element `saml:NameID`. `None`: it holds something else than text, or is out of bounds.
    pub(super) fn read(doc: &Document<'_>, node: Node) -> Option<Self> {
        let attribute = |name: &str| xml::attribute(doc, node, name).map(str::to_owned);
        Self::new(xml::text(doc, node)?, attribute("Format"), attribute("NameQualifier"), attribute("SPNameQualifier"))
    }

    /// The element, with the prefix `saml2`.
    pub(super) fn write(&self) -> String {
        let attribute = |name: &str, value: &Option<String>| {
            value.as_deref().map(|value| format!(" {name}=\"{}\"", xml::escape(value))).unwrap_or_default()
        };
        format!(
            "<saml2:NameID{}{}{}>{}</saml2:NameID>",
            attribute("Format", &self.format),
            attribute("NameQualifier", &self.name_qualifier),
            attribute("SPNameQualifier", &self.sp_name_qualifier),
            xml::escape(&self.value)
        )
    }
}

/// Whom a login was about, in the words of the IdP. Only a verified assertion makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: NameId,
    /// SessionIndex: which of the user's sessions at the IdP. At most [`SESSION_INDEX_BYTES_MAX`] bytes.
    pub session_index: Option<String>,
}

/// A longer SessionIndex is none: those in use are below 100 bytes.
pub const SESSION_INDEX_BYTES_MAX: usize = 1024;

const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
