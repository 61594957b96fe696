//! One entity of a verified document, as far as we need it: compact, and free of the tree it was read from.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tracing::warn;
use uppsala::{Document, NodeId};

use super::{
    super::{
        signature,
        xml::{self, DS, MD, SAML, SAMLP},
    },
    IdpMetadata, about,
    document::{is_current, valid_until},
};
use crate::WallTime;

/// What an operator may want to know of an entity.
#[derive(Clone, Copy, Debug)]
pub(super) enum Remark {
    Twice,
    Certificate,
    ScopeExpression,
}

/// Remarks on a document. They are said when it is known to be good: nobody else fills our log.
#[derive(Debug, Default)]
pub(super) struct Remarks(Vec<(String, Remark)>);

impl Remarks {
    pub(super) fn add(&mut self, entity_id: &str, remark: Remark) {
        if self.0.len() < REMARKS_MAX {
            self.0.push((entity_id.to_owned(), remark));
        }
    }

    pub(super) fn emit(&self) {
        for (entity_id, remark) in &self.0 {
            match remark {
                Remark::Twice => warn!(entity_id, "An entity stands twice in the metadata; the first is used."),
                Remark::Certificate => warn!(entity_id, "A signing certificate in the metadata cannot be used."),
                Remark::ScopeExpression => {
                    warn!(entity_id, "A regular expression as scope in the metadata is not used.");
                }
            }
        }
    }
}

/// An IdP of SAML 2.0 that is current; anything else is `None`.
pub(super) fn read(doc: &Document<'_>, entity: NodeId, now: WallTime, remarks: &mut Remarks) -> Option<IdpMetadata> {
    let entity_id = xml::attribute(doc, entity, "entityID").filter(|id| !id.is_empty() && id.len() <= 1024)?;
    let role = xml::children(doc, entity, MD, "IDPSSODescriptor").find(|role| {
        let protocols = xml::attribute(doc, *role, "protocolSupportEnumeration").unwrap_or_default();
        protocols.split_ascii_whitespace().any(|protocol| protocol == SAMLP) && is_current(doc, *role, now)
    })?;
    let endpoints = |service, binding| {
        xml::children(doc, role, MD, service)
            .filter(move |node| xml::attribute(doc, *node, "Binding") == Some(binding))
            .filter_map(|node| {
                let location = xml::attribute(doc, node, "Location").and_then(web_url)?;
                // An unusable address for responses is none: they must not go where the IdP does not expect them.
                let response = xml::attribute(doc, node, "ResponseLocation");
                Some((response.map_or_else(|| Some(location.clone()), web_url), location))
            })
    };
    let endpoint = |service, binding| endpoints(service, binding).next().map(|(_, location)| location);
    let response = |binding| endpoints(SLO, binding).next().and_then(|(response, _)| response);
    let mut scopes = Vec::new();
    for holder in [entity, role] {
        scopes.extend(read_scopes(doc, holder, entity_id, remarks));
    }
    let entity_categories = entity_attribute(doc, entity, ENTITY_CATEGORY);
    Some(IdpMetadata {
        entity_id: entity_id.to_owned(),
        sso_redirect: endpoint(SSO, REDIRECT),
        sso_post: endpoint(SSO, POST),
        sso_soap: endpoint(SSO, SOAP),
        slo_redirect: endpoint(SLO, REDIRECT),
        slo_redirect_response: response(REDIRECT),
        slo_post: endpoint(SLO, POST),
        slo_post_response: response(POST),
        slo_soap: endpoint(SLO, SOAP),
        signing_certificates: read_signing_certificates(doc, role, entity_id, remarks),
        scopes,
        names: about::names(doc, entity, role),
        keywords: about::keywords(doc, role),
        information_urls: about::urls(doc, role, "InformationURL"),
        privacy_urls: about::urls(doc, role, "PrivacyStatementURL"),
        logos: about::logos(doc, role),
        contacts: about::contacts(doc, entity, role),
        error_url: xml::attribute(doc, role, "errorURL").and_then(web_url),
        want_signed_requests: matches!(xml::attribute(doc, role, "WantAuthnRequestsSigned"), Some("true" | "1")),
        hide_from_discovery: entity_categories.iter().any(|category| category == HIDE_FROM_DISCOVERY),
        entity_categories,
        assurance: entity_attribute(doc, entity, ASSURANCE),
        valid_until: [entity, role].into_iter().filter_map(|node| valid_until(doc, node)).min(),
    })
}

/// Values of an attribute of the entity itself (sstc-metadata-attr).
fn entity_attribute(doc: &Document<'_>, entity: NodeId, name: &str) -> Vec<String> {
    xml::children(doc, entity, MD, "Extensions")
        .flat_map(|extensions| xml::children(doc, extensions, MDATTR, "EntityAttributes"))
        .flat_map(|attributes| xml::children(doc, attributes, SAML, "Attribute"))
        .filter(|node| xml::attribute(doc, *node, "Name") == Some(name))
        .flat_map(|attribute| xml::children(doc, attribute, SAML, "AttributeValue"))
        .filter_map(|value| xml::text(doc, value))
        .filter(|value| !value.is_empty() && value.len() <= 1024)
        .take(CATEGORIES_MAX)
        .collect()
}

/// Only http and https: the browser is sent there.
pub(super) fn web_url(location: &str) -> Option<String> {
    if location.len() > URL_BYTES_MAX {
        return None;
    }
    let url = url::Url::parse(location).ok()?;
    let sound = matches!(url.scheme(), "http" | "https") && url.has_host() && !location.contains(char::is_whitespace);
    // Kept as written: a Response's Destination and the IdP's own checks compare text.
    (sound && url.fragment().is_none()).then(|| location.to_owned())
}

fn read_signing_certificates(doc: &Document<'_>, role: NodeId, entity_id: &str, remarks: &mut Remarks) -> Vec<Vec<u8>> {
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
                None => remarks.add(entity_id, Remark::Certificate),
            }
        }
    }
    found.shrink_to_fit();
    found
}

fn read_scopes(doc: &Document<'_>, holder: NodeId, entity_id: &str, remarks: &mut Remarks) -> Vec<String> {
    let mut scopes = Vec::new();
    let nodes = xml::children(doc, holder, MD, "Extensions").flat_map(|ext| xml::children(doc, ext, SHIBMD, "Scope"));
    for node in nodes {
        // What is not plainly a text is taken for an expression.
        if !matches!(xml::attribute(doc, node, "regexp").map(str::trim), None | Some("false" | "0")) {
            remarks.add(entity_id, Remark::ScopeExpression);
            continue;
        }
        if let Some(scope) = xml::text(doc, node).filter(|scope| !scope.is_empty() && !scope.contains('@')) {
            scopes.push(scope);
        }
    }
    scopes
}

const SSO: &str = "SingleSignOnService";
const SLO: &str = "SingleLogoutService";
const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const SOAP: &str = "urn:oasis:names:tc:SAML:2.0:bindings:SOAP";
const MDATTR: &str = "urn:oasis:names:tc:SAML:metadata:attribute";
const ENTITY_CATEGORY: &str = "http://macedir.org/entity-category";
const ASSURANCE: &str = "urn:oasis:names:tc:SAML:attribute:assurance-certification";
const HIDE_FROM_DISCOVERY: &str = "http://refeds.org/category/hide-from-discovery";
const SHIBMD: &str = "urn:mace:shibboleth:metadata:1.0";

/// More of them are no help.
const REMARKS_MAX: usize = 100;
/// What browsers and servers take.
const URL_BYTES_MAX: usize = 2048;
/// A real entity has fewer than ten.
const CATEGORIES_MAX: usize = 32;
