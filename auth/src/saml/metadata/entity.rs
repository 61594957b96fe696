//! One entity of a verified document, as far as we need it: compact, and free of the tree it was read from.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tracing::warn;
use uppsala::{Document, NodeId};

use super::{
    super::{
        signature,
        xml::{self, DS, MD, SAML, SAMLP},
    },
    IdpMetadata,
    document::{is_current, valid_until},
};
use crate::WallTime;

/// An IdP of SAML 2.0 that is current; anything else is `None`.
pub(super) fn read(doc: &Document<'_>, entity: NodeId, now: WallTime) -> Option<IdpMetadata> {
    let entity_id = xml::attribute(doc, entity, "entityID").filter(|id| !id.is_empty() && id.len() <= 1024)?;
    let role = xml::children(doc, entity, MD, "IDPSSODescriptor").find(|role| {
        let protocols = xml::attribute(doc, *role, "protocolSupportEnumeration").unwrap_or_default();
        protocols.split_ascii_whitespace().any(|protocol| protocol == SAMLP) && is_current(doc, *role, now)
    })?;
    let endpoint = |service: &str, binding: &str| {
        xml::children(doc, role, MD, service)
            .filter(|node| xml::attribute(doc, *node, "Binding") == Some(binding))
            .filter_map(|node| xml::attribute(doc, node, "Location"))
            .find_map(web_url)
    };
    let mut scopes = Vec::new();
    for holder in [entity, role] {
        scopes.extend(read_scopes(doc, holder, entity_id));
    }
    Some(IdpMetadata {
        entity_id: entity_id.to_owned(),
        sso_redirect: endpoint(SSO, REDIRECT),
        sso_post: endpoint(SSO, POST),
        slo_redirect: endpoint(SLO, REDIRECT),
        slo_post: endpoint(SLO, POST),
        slo_soap: endpoint(SLO, SOAP),
        signing_certificates: read_signing_certificates(doc, role, entity_id),
        scopes,
        names: read_names(doc, entity, role),
        error_url: xml::attribute(doc, role, "errorURL").and_then(web_url),
        want_signed_requests: matches!(xml::attribute(doc, role, "WantAuthnRequestsSigned"), Some("true" | "1")),
        entity_categories: read_categories(doc, entity),
        valid_until: [entity, role].into_iter().filter_map(|node| valid_until(doc, node)).min(),
    })
}

/// Values of the entity category attribute (RFC 8409).
fn read_categories(doc: &Document<'_>, entity: NodeId) -> Vec<String> {
    xml::children(doc, entity, MD, "Extensions")
        .flat_map(|extensions| xml::children(doc, extensions, MDATTR, "EntityAttributes"))
        .flat_map(|attributes| xml::children(doc, attributes, SAML, "Attribute"))
        .filter(|node| xml::attribute(doc, *node, "Name") == Some(ENTITY_CATEGORY))
        .flat_map(|attribute| xml::children(doc, attribute, SAML, "AttributeValue"))
        .filter_map(|value| xml::text(doc, value))
        .filter(|value| !value.is_empty() && value.len() <= 1024)
        .take(CATEGORIES_MAX)
        .collect()
}

/// Only http and https: the browser is sent there.
fn web_url(location: &str) -> Option<String> {
    let url = url::Url::parse(location).ok()?;
    let sound = matches!(url.scheme(), "http" | "https") && url.has_host() && !location.contains(char::is_whitespace);
    // Kept as written: a Response's Destination and the IdP's own checks compare text.
    (sound && url.fragment().is_none()).then(|| location.to_owned())
}

fn read_signing_certificates(doc: &Document<'_>, role: NodeId, entity_id: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for descriptor in xml::children(doc, role, MD, "KeyDescriptor") {
        if !matches!(xml::attribute(doc, descriptor, "use"), None | Some("signing")) {
            continue;
        }
        let certificates = xml::children(doc, descriptor, DS, "KeyInfo")
            .flat_map(|info| xml::children(doc, info, DS, "X509Data"))
            .flat_map(|data| xml::children(doc, data, DS, "X509Certificate"));
        for node in certificates {
            let decoded = xml::text(doc, node).and_then(|text| {
                let bare: String = text.split_ascii_whitespace().collect();
                BASE64_STANDARD.decode(bare).ok()
            });
            match decoded.filter(|der| signature::verification_key(der).is_some()) {
                Some(der) if found.contains(&der) => {}
                Some(der) => found.push(der),
                None => warn!(entity_id, "A signing certificate in the metadata cannot be used."),
            }
        }
    }
    found
}

fn read_scopes(doc: &Document<'_>, holder: NodeId, entity_id: &str) -> Vec<String> {
    let mut scopes = Vec::new();
    let nodes = xml::children(doc, holder, MD, "Extensions").flat_map(|ext| xml::children(doc, ext, SHIBMD, "Scope"));
    for node in nodes {
        // What is not plainly a text is taken for an expression.
        if !matches!(xml::attribute(doc, node, "regexp").map(str::trim), None | Some("false" | "0")) {
            warn!(entity_id, "A regular expression as scope in the metadata is not used.");
            continue;
        }
        if let Some(scope) = xml::text(doc, node).filter(|scope| !scope.is_empty() && !scope.contains('@')) {
            scopes.push(scope);
        }
    }
    scopes
}

/// Names by language: mdui:DisplayName, else the organization's.
fn read_names(doc: &Document<'_>, entity: NodeId, role: NodeId) -> HashMap<String, String> {
    let mut names = HashMap::new();
    let display = xml::children(doc, role, MD, "Extensions")
        .flat_map(|extensions| xml::children(doc, extensions, MDUI, "UIInfo"))
        .flat_map(|info| xml::children(doc, info, MDUI, "DisplayName"));
    let organization = xml::children(doc, entity, MD, "Organization")
        .flat_map(|organization| xml::children(doc, organization, MD, "OrganizationDisplayName"));
    for node in display.chain(organization) {
        let language = doc.element(node).and_then(|element| element.get_attribute_ns(XML, "lang")).unwrap_or("en");
        if let Some(name) = xml::text(doc, node).filter(|name| !name.is_empty()) {
            names.entry(language.to_ascii_lowercase()).or_insert(name);
        }
    }
    names
}

const SSO: &str = "SingleSignOnService";
const SLO: &str = "SingleLogoutService";
const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const SOAP: &str = "urn:oasis:names:tc:SAML:2.0:bindings:SOAP";
const MDATTR: &str = "urn:oasis:names:tc:SAML:metadata:attribute";
const ENTITY_CATEGORY: &str = "http://macedir.org/entity-category";
const SHIBMD: &str = "urn:mace:shibboleth:metadata:1.0";
const MDUI: &str = "urn:oasis:names:tc:SAML:metadata:ui";
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// A real entity has fewer than ten.
const CATEGORIES_MAX: usize = 32;
