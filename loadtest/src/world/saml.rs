//! What an identity provider writes: a Response signed around an encrypted assertion, as Shibboleth's defaults are, and its
//! signed metadata. And what it reads: an AuthnRequest and the service provider's metadata.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bergshamra_dsig::DsigContext;
use bergshamra_enc::EncContext;
use bergshamra_keys::{KeysManager, loader};
use jiff::{SignedDuration, Timestamp};

use super::{
    people::{Institution, Person},
    pki::{Pair, certificate_text},
    web::escape,
};

/// What went wrong with keys, XML or a message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SamlError(pub String);

impl SamlError {
    fn from_display(what: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// What the IdP keeps of an AuthnRequest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthnRequest {
    /// ID.
    pub id: String,
    /// Issuer.
    pub issuer: String,
    /// AssertionConsumerServiceURL.
    pub acs: String,
}

/// What the IdP keeps of the service provider.
#[derive(Clone, Debug)]
pub struct ServiceProvider {
    /// entityID.
    pub entity_id: String,
    /// Assertion consumer, HTTP-POST.
    pub acs: String,
    /// DER certificate to encrypt to.
    pub encryption_certificate: Vec<u8>,
}

/// Reads an AuthnRequest document.
///
/// # Errors
/// Not one.
pub fn read_request(xml: &str) -> Result<AuthnRequest, SamlError> {
    let doc = uppsala::Parser::new()
        .with_forbid_dtd(true)
        .with_forbid_entities(true)
        .with_max_depth(16)
        .parse(xml)
        .map_err(|error| SamlError::from_display("the request is not XML", error))?;
    let missing = |what: &str| SamlError(format!("the request has no {what}"));
    let root = doc.document_element().ok_or_else(|| missing("root"))?;
    let element = doc.element(root).ok_or_else(|| missing("root"))?;
    if element.name.local_name != "AuthnRequest" || element.name.namespace_uri.as_deref() != Some(SAMLP) {
        return Err(SamlError("not an AuthnRequest".to_owned()));
    }
    let id = element.get_attribute("ID").ok_or_else(|| missing("ID"))?.to_owned();
    let acs = element
        .get_attribute("AssertionConsumerServiceURL")
        .ok_or_else(|| missing("AssertionConsumerServiceURL"))?
        .to_owned();
    let issuer = doc
        .get_elements_by_tag_name_ns(SAML, "Issuer")
        .first()
        .map(|&node| doc.text_content_deep(node).trim().to_owned())
        .filter(|issuer| !issuer.is_empty())
        .ok_or_else(|| missing("Issuer"))?;
    Ok(AuthnRequest { id, issuer, acs })
}

/// What a Response says.
#[derive(Debug)]
pub struct Login<'a> {
    /// Who.
    pub person: &'a Person,
    /// Of which institution.
    pub institution: &'a Institution,
    /// IdP's entityID.
    pub issuer: &'a str,
    /// The request it answers.
    pub request: &'a AuthnRequest,
    /// Now.
    pub now: Timestamp,
}

/// The Response document: assertion encrypted (AES-128-GCM, RSA-OAEP-MGF1P) to the service provider, the whole signed (RSA-SHA256).
///
/// # Errors
/// A key cannot be used.
pub fn response(login: &Login<'_>, sp: &ServiceProvider, signing: &Pair) -> Result<String, SamlError> {
    let id = random_id()?;
    let assertion = encrypt(&assertion(login, sp)?, &sp.encryption_certificate)?;
    let xml = format!(
        "<samlp:Response xmlns:samlp=\"{SAMLP}\" xmlns:saml=\"{SAML}\" ID=\"{id}\" Version=\"2.0\" IssueInstant=\"{now}\" \
         Destination=\"{acs}\" InResponseTo=\"{request}\"><saml:Issuer>{issuer}</saml:Issuer>{signature}<samlp:Status><samlp:StatusCode \
         Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/></samlp:Status>{assertion}</samlp:Response>",
        now = instant(login.now),
        acs = escape(&login.request.acs),
        request = escape(&login.request.id),
        issuer = escape(login.issuer),
        signature = signature_template(&id),
    );
    sign(&xml, &signing.key)
}

fn assertion(login: &Login<'_>, sp: &ServiceProvider) -> Result<String, SamlError> {
    let now = instant(login.now);
    let until = instant(later(login.now, SignedDuration::from_mins(5))?);
    let session_until = instant(later(login.now, SignedDuration::from_hours(8))?);
    let domain = login.institution.domain;
    let affiliation = if login.person.category == "staff" { "staff" } else { "student" };
    let attributes = [
        ("urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "eduPersonPrincipalName", format!("{}@{domain}", login.person.idp_login)),
        ("urn:oid:0.9.2342.19200300.100.1.3", "mail", login.person.address.clone()),
        ("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", "eduPersonAffiliation", affiliation.to_owned()),
        ("urn:oid:1.3.6.1.4.1.5923.1.1.1.9", "eduPersonScopedAffiliation", format!("{affiliation}@{domain}")),
    ];
    let attributes: String = attributes
        .iter()
        .map(|(name, friendly, value)| {
            format!(
                "<saml:Attribute Name=\"{name}\" FriendlyName=\"{friendly}\" NameFormat=\"urn:oasis:names:tc:SAML:2.0:attrname-format:uri\">\
                 <saml:AttributeValue>{}</saml:AttributeValue></saml:Attribute>",
                escape(value)
            )
        })
        .collect();
    Ok(format!(
        "<saml:Assertion xmlns:saml=\"{SAML}\" ID=\"{id}\" Version=\"2.0\" IssueInstant=\"{now}\"><saml:Issuer>{issuer}</saml:Issuer>\
         <saml:Subject><saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:transient\">{name_id}</saml:NameID>\
         <saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><saml:SubjectConfirmationData \
         InResponseTo=\"{request}\" NotOnOrAfter=\"{until}\" Recipient=\"{acs}\"/></saml:SubjectConfirmation></saml:Subject>\
         <saml:Conditions NotBefore=\"{now}\" NotOnOrAfter=\"{until}\"><saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience>\
         </saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant=\"{now}\" SessionIndex=\"{session}\" \
         SessionNotOnOrAfter=\"{session_until}\"><saml:AuthnContext><saml:AuthnContextClassRef>\
         urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport</saml:AuthnContextClassRef></saml:AuthnContext>\
         </saml:AuthnStatement><saml:AttributeStatement>{attributes}</saml:AttributeStatement></saml:Assertion>",
        id = random_id()?,
        issuer = escape(login.issuer),
        name_id = random_id()?,
        request = escape(&login.request.id),
        acs = escape(&login.request.acs),
        audience = escape(&sp.entity_id),
        session = random_id()?,
    ))
}

/// One IdP in the metadata.
#[derive(Debug)]
pub struct MetadataEntry<'a> {
    /// Of whom.
    pub institution: &'a Institution,
    /// entityID.
    pub entity_id: &'a str,
    /// Its page, both bindings.
    pub sso: &'a str,
    /// Its certificate, PEM.
    pub certificate: &'a str,
}

/// The signed metadata of the federation, good until `until`.
///
/// # Errors
/// The key cannot be used.
pub fn federation_metadata(
    entries: &[MetadataEntry<'_>],
    federation: &Pair,
    until: Timestamp,
) -> Result<String, SamlError> {
    let id = random_id()?;
    let entities: String = entries
        .iter()
        .map(|entry| {
            format!(
                "<md:EntityDescriptor entityID=\"{entity}\"><md:IDPSSODescriptor protocolSupportEnumeration=\"{SAMLP}\" \
                 WantAuthnRequestsSigned=\"true\"><md:Extensions><shibmd:Scope regexp=\"false\">{scope}</shibmd:Scope><mdui:UIInfo>\
                 <mdui:DisplayName xml:lang=\"fr\">{fr}</mdui:DisplayName><mdui:DisplayName xml:lang=\"en\">{en}</mdui:DisplayName>\
                 </mdui:UIInfo></md:Extensions><md:KeyDescriptor use=\"signing\"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}\
                 </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
                 <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"{sso}\"/>\
                 <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"{sso}\"/>\
                 </md:IDPSSODescriptor></md:EntityDescriptor>",
                entity = escape(entry.entity_id),
                scope = entry.institution.domain,
                fr = escape(entry.institution.name_fr),
                en = escape(entry.institution.name_en),
                certificate = certificate_text(entry.certificate),
                sso = escape(entry.sso),
            )
        })
        .collect();
    let xml = format!(
        "<md:EntitiesDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" \
         xmlns:shibmd=\"urn:mace:shibboleth:metadata:1.0\" xmlns:mdui=\"urn:oasis:names:tc:SAML:metadata:ui\" ID=\"{id}\" \
         Name=\"urn:guichet:demo\" validUntil=\"{}\">{}{entities}</md:EntitiesDescriptor>",
        instant(until),
        signature_template(&id),
    );
    sign(&xml, &federation.key)
}

/// A fresh ID: an XML name with 128 random bits.
fn random_id() -> Result<String, SamlError> {
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
