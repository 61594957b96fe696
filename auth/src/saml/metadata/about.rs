//! What an entity says of itself to people: names, logos, addresses to read or to write to. All of it is bounded, because
//! pages are made of it; what is longer or not plainly an address is left out.

use std::collections::HashMap;

use uppsala::{Document, NodeId};

use super::{
    super::xml::{self, MD},
    entity::web_url,
};

/// A logo (mdui §2.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo {
    /// `https` only.
    pub url: String,
    /// Pixels, as stated.
    pub width: u32,
    /// Pixels, as stated.
    pub height: u32,
    /// Of the text in it, lower case; absent: for every language.
    pub language: Option<String>,
}

/// Whom to turn to (metadata §2.3.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// For what.
    pub kind: ContactKind,
    /// Person, else company.
    pub name: Option<String>,
    /// Mail address, without `mailto:`.
    pub address: String,
}

/// What a contact is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContactKind {
    /// `technical`
    Technical,
    /// `support`: the users' desk.
    Support,
    /// `administrative`
    Administrative,
    /// `billing`
    Billing,
    /// `remd:contactType="http://refeds.org/metadata/contactType/security"` (REFEDS Sirtfi).
    Security,
    /// `other`, or anything else.
    Other,
}

/// Names by language: mdui:DisplayName, else the organization's.
pub(super) fn names(doc: &Document<'_>, entity: NodeId, role: NodeId) -> HashMap<String, String> {
    let organization = xml::children(doc, entity, MD, "Organization")
        .flat_map(|organization| xml::children(doc, organization, MD, "OrganizationDisplayName"));
    by_language(doc, ui(doc, role, "DisplayName").chain(organization), |text| {
        (text.len() <= NAME_BYTES_MAX).then(|| text.to_owned())
    })
}

/// mdui:Keywords by language. A plus stands for a space within one (mdui §2.1.4).
pub(super) fn keywords(doc: &Document<'_>, role: NodeId) -> HashMap<String, Vec<String>> {
    by_language(doc, ui(doc, role, "Keywords"), |text| {
        let words = text.split_ascii_whitespace().filter(|word| word.len() <= NAME_BYTES_MAX);
        let words: Vec<String> = words.take(KEYWORDS_MAX).map(|word| word.replace('+', " ")).collect();
        (!words.is_empty()).then_some(words)
    })
}

/// Addresses for people by language: `InformationURL`, `PrivacyStatementURL`.
pub(super) fn urls(doc: &Document<'_>, role: NodeId, name: &'static str) -> HashMap<String, String> {
    by_language(doc, ui(doc, role, name), web_url)
}

/// Only https: they stand in pages of ours.
pub(super) fn logos(doc: &Document<'_>, role: NodeId) -> Vec<Logo> {
    let logo = |node| {
        let pixels = |name| xml::attribute(doc, node, name).and_then(|text| text.trim().parse().ok());
        let url = xml::text(doc, node).as_deref().and_then(web_url).filter(|url| url.starts_with("https://"))?;
        Some(Logo { url, width: pixels("width")?, height: pixels("height")?, language: language(doc, node) })
    };
    ui(doc, role, "Logo").filter_map(logo).take(LOGOS_MAX).collect()
}

/// Contacts of the entity, then those of the role.
pub(super) fn contacts(doc: &Document<'_>, entity: NodeId, role: NodeId) -> Vec<Contact> {
    let people = [entity, role].into_iter().flat_map(|holder| xml::children(doc, holder, MD, "ContactPerson"));
    people.filter_map(|person| contact(doc, person)).take(CONTACTS_MAX).collect()
}

fn contact(doc: &Document<'_>, person: NodeId) -> Option<Contact> {
    let part = |name| {
        let text = xml::children(doc, person, MD, name).find_map(|node| xml::text(doc, node));
        text.filter(|text| !text.is_empty() && text.len() <= NAME_BYTES_MAX)
    };
    let special = doc.element(person).and_then(|element| element.get_attribute_ns(REMD, "contactType"));
    let kind = match (xml::attribute(doc, person, "contactType")?, special) {
        ("other", Some(SECURITY)) => ContactKind::Security,
        ("technical", _) => ContactKind::Technical,
        ("support", _) => ContactKind::Support,
        ("administrative", _) => ContactKind::Administrative,
        ("billing", _) => ContactKind::Billing,
        _ => ContactKind::Other,
    };
    let name = match (part("GivenName"), part("SurName")) {
        (Some(given), Some(family)) => Some(format!("{given} {family}")),
        (given, family) => given.or(family).or_else(|| part("Company")),
    };
    let mut written = xml::children(doc, person, MD, "EmailAddress").filter_map(|node| xml::text(doc, node));
    Some(Contact { kind, name, address: written.find_map(|text| mail_address(&text))? })
}

/// `mailto:` is prescribed and often forgotten.
fn mail_address(text: &str) -> Option<String> {
    let bare = match text.split_at_checked("mailto:".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("mailto:") => rest,
        _ => text,
    };
    let (local, domain) = bare.rsplit_once('@')?;
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".!#$&'*+-/=^_`{|}~".contains(&byte))
    };
    (bare.len() <= ADDRESS_BYTES_MAX && plain(local) && plain(domain)).then(|| bare.to_owned())
}

/// The elements `mdui:NAME` of a role.
fn ui<'d>(doc: &'d Document<'_>, role: NodeId, name: &'static str) -> impl Iterator<Item = NodeId> + 'd {
    xml::children(doc, role, MD, "Extensions")
        .flat_map(|extensions| xml::children(doc, extensions, MDUI, "UIInfo"))
        .flat_map(move |info| xml::children(doc, info, MDUI, name))
}

/// What `read` makes of the elements' texts, the first of each language. `xml:lang` is required, and missed: English.
fn by_language<T>(
    doc: &Document<'_>,
    nodes: impl Iterator<Item = NodeId>,
    read: impl Fn(&str) -> Option<T>,
) -> HashMap<String, T> {
    let mut found = HashMap::new();
    for node in nodes {
        let language = language(doc, node).unwrap_or_else(|| "en".to_owned());
        let Some(value) = xml::text(doc, node).filter(|text| !text.is_empty()).and_then(|text| read(&text)) else {
            continue;
        };
        if found.len() < LANGUAGES_MAX {
            found.entry(language).or_insert(value);
        }
    }
    found.shrink_to_fit();
    found
}

fn language(doc: &Document<'_>, node: NodeId) -> Option<String> {
    let tag = doc.element(node)?.get_attribute_ns(XML, "lang")?;
    (tag.len() <= LANGUAGE_BYTES_MAX).then(|| tag.to_ascii_lowercase())
}

const MDUI: &str = "urn:oasis:names:tc:SAML:metadata:ui";
const REMD: &str = "http://refeds.org/metadata";
const SECURITY: &str = "http://refeds.org/metadata/contactType/security";
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// A line on a page.
const NAME_BYTES_MAX: usize = 512;
/// RFC 5321 §4.5.3.1.3 allows 256 with the angle brackets.
const ADDRESS_BYTES_MAX: usize = 254;
/// RFC 5646 §4.4.1 asks for 35.
const LANGUAGE_BYTES_MAX: usize = 35;
/// The Union has 24 official ones.
const LANGUAGES_MAX: usize = 32;
/// In one language.
const KEYWORDS_MAX: usize = 64;
/// Two sizes in a few languages.
const LOGOS_MAX: usize = 16;
/// A real entity has fewer than ten.
const CONTACTS_MAX: usize = 16;

#[cfg(test)]
#[path = "../tests/metadata_about.rs"]
mod tests;
