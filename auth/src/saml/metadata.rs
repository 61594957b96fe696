//! Metadata of the IdPs: signed files in, an index by entityID out.
//!
//! A file is one `EntityDescriptor` or an `EntitiesDescriptor` of any depth. Its root carries the signature, by a key that
//! the configuration pins (dates of certificates do not count); nothing is read from a file that does not verify.
//! `validUntil` must not be past; a local file may lack it, because its owner replaces it by hand. Entities that are
//! expired themselves, are no SAML 2.0 IdP or have no name are left out.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use guichet_config::{Config, Federation, Problem};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};
use tracing::warn;
use uppsala::{Document, NodeId};

use super::{
    signature::{self, SignatureFault},
    xml::{self, DS, MD, SAMLP, XmlFault},
};
use crate::WallTime;

/// What we keep of an IdP.
#[derive(Clone, Debug)]
pub struct IdpMetadata {
    /// entityID.
    pub entity_id: String,
    /// SingleSignOnService, HTTP-Redirect.
    pub sso_redirect: Option<String>,
    /// SingleSignOnService, HTTP-POST.
    pub sso_post: Option<String>,
    /// DER certificates for signing (no `use`, or `use="signing"`).
    pub signing_certificates: Vec<Vec<u8>>,
    /// `shibmd:Scope` values (regexp ones are left out and reported).
    pub scopes: Vec<String>,
    /// mdui:DisplayName by language.
    pub names: HashMap<String, String>,
    /// errorURL.
    pub error_url: Option<String>,
    /// WantAuthnRequestsSigned.
    pub want_signed_requests: bool,
}

/// Why metadata cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct MetadataError {
    /// One sentence.
    pub message: String,
}

/// IdPs by entityID. Swapped whole at each refresh.
#[derive(Clone, Debug, Default)]
pub struct MetadataIndex {
    by_entity: HashMap<String, Arc<IdpMetadata>>,
}

impl MetadataIndex {
    /// Reads and verifies every federation file of the configuration. Problems (missing, wrongly signed, expired,
    /// a tenant's IdP that no file holds) point at the configuration's line. An entityID in two files: the first
    /// federation in the configuration wins.
    ///
    /// # Errors
    /// All problems found.
    pub fn load(config: &Config, now: WallTime) -> Result<Self, Vec<Problem>> {
        let mut index = Self::default();
        let mut problems = Vec::new();
        for federation in &config.federations {
            match read_federation(federation, now) {
                Ok(idps) => index.add(idps),
                Err((key, message)) => problems.push(config.problem(&key, message, None)),
            }
        }
        // With a file missing every IdP in it would be reported too.
        if problems.is_empty() {
            problems.extend(index.missing(config));
        }
        if problems.is_empty() { Ok(index) } else { Err(problems) }
    }

    /// Verifies and reads one metadata document. `keys` are DER certificates or SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Not signed by one of the keys, expired, malformed.
    pub fn read(xml: &[u8], keys: &[Vec<u8>], now: WallTime) -> Result<Vec<IdpMetadata>, MetadataError> {
        let fail = |message: &str| MetadataError { message: message.to_owned() };
        if xml.len() > FILE_BYTES_MAX {
            return Err(fail("the file is larger than 128 MiB"));
        }
        let text = std::str::from_utf8(xml).map_err(|_| fail("the file is not UTF-8"))?;
        let doc = xml::parse(text.trim_start_matches('\u{feff}')).map_err(|fault| fail(xml_message(fault)))?;
        let root = doc.document_element().ok_or_else(|| fail("the file is empty"))?;
        if !xml::is(&doc, root, MD, "EntityDescriptor") && !xml::is(&doc, root, MD, "EntitiesDescriptor") {
            return Err(fail("the document is neither an EntityDescriptor nor an EntitiesDescriptor"));
        }
        // The schema puts the signature first, so bergshamra's "first signature of the document" is the root's.
        let signature = xml::elements(&doc, root)
            .next()
            .filter(|first| xml::is(&doc, *first, DS, "Signature"))
            .ok_or_else(|| fail("the document is not signed (no Signature as first element of its root)"))?;
        let keys = signature::keys_of(keys.iter().map(Vec::as_slice));
        signature::verify_first(&doc, doc.input_text(), signature, root, &keys)
            .map_err(|fault| fail(signature_message(fault)))?;
        let mut idps = Vec::new();
        if !is_current(&doc, root, now) {
            return Err(fail("the document has expired (validUntil)"));
        }
        collect(&doc, root, now, &mut idps);
        Ok(idps)
    }

    /// One IdP.
    pub fn idp(&self, entity_id: &str) -> Option<Arc<IdpMetadata>> {
        self.by_entity.get(entity_id).cloned()
    }

    fn add(&mut self, idps: Vec<IdpMetadata>) {
        for idp in idps {
            self.by_entity.entry(idp.entity_id.clone()).or_insert_with(|| Arc::new(idp));
        }
    }

    /// Tenants whose IdP cannot be used.
    fn missing(&self, config: &Config) -> Vec<Problem> {
        let mut problems = Vec::new();
        for tenant in config.tenants.values() {
            let Some(wanted) = &tenant.idp else { continue };
            let key = format!("tenant.{}.idp.saml.entity_id", tenant.id);
            let message = match self.by_entity.get(&wanted.entity_id) {
                None => format!("no metadata file holds the IdP \"{}\"", wanted.entity_id),
                Some(idp) if idp.signing_certificates.is_empty() => {
                    "the IdP's metadata has no usable signing key".to_owned()
                }
                Some(idp) if idp.sso_redirect.is_none() && idp.sso_post.is_none() => {
                    "the IdP's metadata has no SingleSignOnService for HTTP-Redirect or HTTP-POST".to_owned()
                }
                Some(_) => continue,
            };
            let known: BTreeSet<&str> = self.by_entity.keys().map(String::as_str).collect();
            let few = !known.is_empty() && known.len() <= KNOWN_SHOWN_MAX;
            let hint = (few && !known.contains(wanted.entity_id.as_str()))
                .then(|| format!("known: {}", known.into_iter().collect::<Vec<_>>().join(", ")));
            problems.push(config.problem(&key, message, hint));
        }
        problems
    }
}

fn read_federation(federation: &Federation, now: WallTime) -> Result<Vec<IdpMetadata>, (String, String)> {
    let key_path = |leaf: &str| format!("federation.{}.{leaf}", federation.name);
    let mut keys = Vec::new();
    for path in &federation.signing_keys {
        let pinned = read_keys(path).map_err(|message| (key_path("signing_keys"), message))?;
        keys.extend(pinned);
    }
    let file = &federation.file;
    let fail = |message: String| (key_path("file"), message);
    let size = std::fs::metadata(file).map_err(|error| fail(format!("{}: {error}", file.display())))?.len();
    if size > FILE_BYTES_MAX as u64 {
        return Err(fail(format!("{}: the file is larger than 128 MiB", file.display())));
    }
    let bytes = std::fs::read(file).map_err(|error| fail(format!("{}: {error}", file.display())))?;
    MetadataIndex::read(&bytes, &keys, now).map_err(|error| fail(format!("{}: {error}", file.display())))
}

/// Every certificate and public key of a PEM file.
fn read_keys(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let name = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).flatten().map(|der| der.as_ref().to_vec());
    let keys = SubjectPublicKeyInfoDer::pem_slice_iter(&pem).flatten().map(|der| der.as_ref().to_vec());
    let all: Vec<Vec<u8>> = certificates.chain(keys).collect();
    if all.is_empty() {
        return Err(format!("{name}: no PEM certificate or public key"));
    }
    if all.iter().any(|der| signature::verification_key(der).is_none()) {
        return Err(format!(
            "{name}: only RSA keys of 2048 bits or more and ECDSA P-256, P-384, P-521 keys can be used"
        ));
    }
    Ok(all)
}

fn xml_message(fault: XmlFault) -> &'static str {
    match fault {
        XmlFault::Doctype => "the file has a document type declaration",
        XmlFault::Malformed => "the file is not well-formed XML in UTF-8, or nested too deep",
        XmlFault::RelativeNamespace => "the file has a relative namespace name",
        XmlFault::QualifiedId => "the file has an ID attribute in a namespace",
        XmlFault::DuplicateId => "two elements of the file have the same ID",
        XmlFault::TooManyAttributes => "an element of the file has too many attributes",
    }
}

fn signature_message(fault: SignatureFault) -> &'static str {
    match fault {
        SignatureFault::Shape => "the signature does not cover the whole document by its ID, or has an unusual shape",
        SignatureFault::Algorithm => "the signature uses an algorithm that is not accepted (such as SHA-1)",
        SignatureFault::NoKey => "no usable signing key is configured",
        SignatureFault::Invalid => "the signature is not by one of the configured keys, or the file was changed",
    }
}

fn is_current(doc: &Document<'_>, node: NodeId, now: WallTime) -> bool {
    match xml::attribute(doc, node, "validUntil") {
        None => true,
        Some(text) => xml::time(text).is_some_and(|until| now < until),
    }
}

/// Depth is bounded by the parser.
fn collect(doc: &Document<'_>, node: NodeId, now: WallTime, idps: &mut Vec<IdpMetadata>) {
    if !is_current(doc, node, now) {
        return;
    }
    if xml::is(doc, node, MD, "EntityDescriptor") {
        if let Some(idp) = read_entity(doc, node, now) {
            idps.push(idp);
        }
        return;
    }
    for child in xml::elements(doc, node) {
        if xml::is(doc, child, MD, "EntityDescriptor") || xml::is(doc, child, MD, "EntitiesDescriptor") {
            collect(doc, child, now, idps);
        }
    }
}

fn read_entity(doc: &Document<'_>, entity: NodeId, now: WallTime) -> Option<IdpMetadata> {
    let entity_id = xml::attribute(doc, entity, "entityID").filter(|id| !id.is_empty() && id.len() <= 1024)?;
    let role = xml::children(doc, entity, MD, "IDPSSODescriptor").find(|role| {
        let protocols = xml::attribute(doc, *role, "protocolSupportEnumeration").unwrap_or_default();
        protocols.split_ascii_whitespace().any(|protocol| protocol == SAMLP) && is_current(doc, *role, now)
    })?;
    let endpoint = |binding: &str| {
        xml::children(doc, role, MD, "SingleSignOnService")
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
        sso_redirect: endpoint(REDIRECT),
        sso_post: endpoint(POST),
        signing_certificates: read_signing_certificates(doc, role, entity_id),
        scopes,
        names: read_names(doc, entity, role),
        error_url: xml::attribute(doc, role, "errorURL").and_then(web_url),
        want_signed_requests: matches!(xml::attribute(doc, role, "WantAuthnRequestsSigned"), Some("true" | "1")),
    })
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
        if matches!(xml::attribute(doc, node, "regexp"), Some("true" | "1")) {
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

const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const SHIBMD: &str = "urn:mace:shibboleth:metadata:1.0";
const MDUI: &str = "urn:oasis:names:tc:SAML:metadata:ui";
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The whole of eduGAIN is about 100 MB; three times the file is needed while reading.
const FILE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// More known IdPs than that are no hint.
const KNOWN_SHOWN_MAX: usize = 12;

#[cfg(test)]
#[path = "tests/metadata.rs"]
mod tests;
