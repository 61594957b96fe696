//! What an identity provider writes: a Response signed around an encrypted assertion, as Shibboleth's defaults are, its logout
//! messages, and its signed metadata. And what it reads of the service provider's messages.

mod logout;
mod metadata;
mod redirect;
mod request;
mod response;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bergshamra_dsig::DsigContext;
use bergshamra_enc::EncContext;
use bergshamra_keys::{KeysManager, loader};
use jiff::{SignedDuration, Timestamp};

pub use self::{
    logout::{LogoutMessage, logout_request, logout_response, read_logout},
    metadata::{MetadataEntry, federation_metadata},
    redirect::{Field, inflate, signed_url},
    request::{AuthnRequest, ServiceProvider, read_request},
    response::{Login, response},
};
use super::{pki::certificate_text, web::escape};

/// What went wrong with keys, XML or a message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SamlError(pub String);

impl SamlError {
    fn from_display(what: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// Reads a message of the service provider.
fn parse(xml: &str) -> Result<uppsala::Document<'_>, SamlError> {
    uppsala::Parser::new()
        .with_forbid_dtd(true)
        .with_forbid_entities(true)
        .with_max_depth(16)
        .parse(xml)
        .map_err(|error| SamlError::from_display("the message is not XML", error))
}

/// The text of the first element of a name.
fn text_of(doc: &uppsala::Document<'_>, namespace: &str, name: &str) -> Option<String> {
    let found = doc.get_elements_by_tag_name_ns(namespace, name);
    let text = found.first().map(|&node| doc.text_content_deep(node).trim().to_owned())?;
    Some(text).filter(|text| !text.is_empty())
}

/// A fresh ID: an XML name with 128 random bits.
pub(in crate::world) fn random_id() -> Result<String, SamlError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| SamlError::from_display("no randomness", error))?;
    Ok(format!("_{:032x}", u128::from_be_bytes(bytes)))
}

fn later(now: Timestamp, by: SignedDuration) -> Result<Timestamp, SamlError> {
    now.checked_add(by).map_err(|error| SamlError::from_display("the time is out of range", error))
}

fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Goes right after the Issuer (or first into a metadata root) of the element whose ID is `id`.
fn signature_template(id: &str) -> String {
    format!(
        "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo>\
         <ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>\
         <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\"/>\
         <ds:Reference URI=\"#{id}\"><ds:Transforms>\
         <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>\
         <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>\
         </ds:Transforms><ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/><ds:DigestValue></ds:DigestValue>\
         </ds:Reference></ds:SignedInfo><ds:SignatureValue></ds:SignatureValue></ds:Signature>"
    )
}

/// Fills the first signature template in `xml`.
fn sign(xml: &str, key_pem: &str) -> Result<String, SamlError> {
    prepare()?;
    let mut keys = KeysManager::new();
    keys.add_key(
        loader::load_pem_auto(key_pem.as_bytes(), None)
            .map_err(|error| SamlError::from_display("the signing key", error))?,
    );
    bergshamra_dsig::sign::sign(&DsigContext::new(keys), xml).map_err(|error| SamlError::from_display("signing", error))
}

/// An EncryptedAssertion of a whole Assertion element.
fn encrypt(assertion: &str, certificate_der: &[u8]) -> Result<String, SamlError> {
    // The data's empty CipherValue is filled before the key's, which stands earlier in the text.
    let template = format!(
        "<saml:EncryptedAssertion xmlns:saml=\"{SAML}\"><xenc:EncryptedData xmlns:xenc=\"http://www.w3.org/2001/04/xmlenc#\" \
         Type=\"http://www.w3.org/2001/04/xmlenc#Element\"><xenc:EncryptionMethod Algorithm=\"http://www.w3.org/2009/xmlenc11#aes128-gcm\"/>\
         <ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><xenc:EncryptedKey>\
         <xenc:EncryptionMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p\">\
         <ds:DigestMethod Algorithm=\"http://www.w3.org/2000/09/xmldsig#sha1\"/></xenc:EncryptionMethod>\
         <xenc:CipherData><xenc:CipherValue></xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo>\
         <xenc:CipherData><xenc:CipherValue></xenc:CipherValue></xenc:CipherData></xenc:EncryptedData></saml:EncryptedAssertion>"
    );
    prepare()?;
    let mut keys = KeysManager::new();
    keys.add_key(
        loader::load_x509_cert_der(certificate_der)
            .map_err(|error| SamlError::from_display("the service provider's certificate", error))?,
    );
    bergshamra_enc::encrypt::encrypt(&EncContext::new(keys), &template, assertion.as_bytes())
        .map_err(|error| SamlError::from_display("encrypting", error))
}

/// Names the crypto library of the XML crates; only the first call does anything.
fn prepare() -> Result<(), SamlError> {
    kryptering::initialize_backend().map(|_| ()).map_err(|error| SamlError::from_display("the crypto library", error))
}

/// DER of a PEM certificate.
///
/// # Errors
/// Not base64.
pub fn der_of_pem(pem: &str) -> Result<Vec<u8>, SamlError> {
    STANDARD.decode(certificate_text(pem)).map_err(|error| SamlError::from_display("the certificate", error))
}

const SAMLP: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
