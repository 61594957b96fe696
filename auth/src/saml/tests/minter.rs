//! A simulated world for the tests: our keys, two IdPs, and a minter of responses with every knob.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use bergshamra_dsig::DsigContext;
use bergshamra_enc::EncContext;
use bergshamra_keys::{KeysManager, loader};
use guichet_config::{Category, CertificateFiles, FallbackPolicy, IdpOfTenant, Tenant, Text};

use super::{Asked, Expected, IdpMetadata, Login, Refusal, ServiceProvider, Subject, response, xml};
use crate::WallTime;

pub(super) const NOW: WallTime = WallTime(1_795_478_400_000);
pub(super) const SP: &str = "https://mail.example/saml/metadata";
pub(super) const ACS: &str = "https://mail.example/saml/acs";
pub(super) const IDP: &str = "https://idp.univ-a.example/idp";
pub(super) const REQUEST: &str = "_request";
pub(super) const EPPN: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.6";
pub(super) const MAIL: &str = "urn:oid:0.9.2342.19200300.100.1.3";
pub(super) const AFFILIATION: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.1";

/// A key pair as PEM (PKCS#8) and DER certificate.
pub(super) struct TestKey {
    pub(super) pem: String,
    pub(super) certificate_pem: String,
    pub(super) certificate: Vec<u8>,
}

impl TestKey {
    pub(super) fn new(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { pem: key.serialize_pem(), certificate_pem: certificate.pem(), certificate: certificate.der().to_vec() }
    }

    pub(super) fn write(&self, dir: &std::path::Path, name: &str) -> CertificateFiles {
        let certificate = dir.join(format!("{name}.crt"));
        let key = dir.join(format!("{name}.key"));
        write_private(&certificate, &self.certificate_pem);
        write_private(&key, &self.pem);
        CertificateFiles { certificate, key }
    }
}

/// The configuration refuses secrets that others can read.
pub(super) fn write_private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub(super) struct World {
    pub(super) sp: ServiceProvider,
    pub(super) signing: TestKey,
    pub(super) encryption: TestKey,
    pub(super) encryption_old: TestKey,
    pub(super) idp_key: TestKey,
    pub(super) idp_key_ec: TestKey,
    pub(super) foreign_key: TestKey,
    pub(super) idp: IdpMetadata,
    pub(super) tenant: Tenant,
}

/// Made once: RSA keys take their time.
pub(super) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let rsa = || TestKey::new(&rcgen::PKCS_RSA_SHA256);
        let (signing, encryption, encryption_old, idp_key, foreign_key) = (rsa(), rsa(), rsa(), rsa(), rsa());
        let idp_key_ec = TestKey::new(&rcgen::PKCS_ECDSA_P256_SHA256);
        let dir = tempfile::tempdir().unwrap();
        let settings = guichet_config::ServiceProvider {
            entity_id: SP.to_owned(),
            signing: signing.write(dir.path(), "signing"),
            encryption: vec![encryption.write(dir.path(), "new"), encryption_old.write(dir.path(), "old")],
            clock_skew: Duration::from_secs(180),
            signing_next: None,
            decryption_only: vec![],
            publication: guichet_config::Publication::default(),
        };
        let sp = ServiceProvider::from_parts("https://mail.example", &settings).unwrap();
        let idp = IdpMetadata {
            entity_id: IDP.to_owned(),
            sso_redirect: Some("https://idp.univ-a.example/sso/redirect".to_owned()),
            sso_post: Some("https://idp.univ-a.example/sso/post".to_owned()),
            // The other type first: a reader that stops at the first key's error would refuse everything.
            signing_certificates: vec![idp_key_ec.certificate.clone(), idp_key.certificate.clone()],
            scopes: vec!["univ-a.example".to_owned()],
            names: HashMap::new(),
            error_url: None,
            want_signed_requests: true,
            ..IdpMetadata::default()
        };
        World { sp, signing, encryption, encryption_old, idp_key, idp_key_ec, foreign_key, idp, tenant: tenant() }
    })
}

fn tenant() -> Tenant {
    Tenant {
        id: "univ-a".parse().unwrap(),
        name: Text::default(),
        domains: vec!["univ-a.example".parse().unwrap(), "etu.univ-a.example".parse().unwrap()],
        cell: "one".parse().unwrap(),
        category: Category::Student,
        idp: Some(IdpOfTenant { affiliation_attributes: vec![AFFILIATION.parse().unwrap()], ..IdpOfTenant::new(IDP) }),
        fallback_staff: FallbackPolicy::Off,
        fallback_students: FallbackPolicy::Off,
        idp_forced: None,
        contact: None,
        step_up: None,
    }
}

/// How an assertion is encrypted.
#[derive(Clone)]
pub(super) struct Encryption {
    pub(super) data: &'static str,
    pub(super) key: &'static str,
    pub(super) digest: &'static str,
    pub(super) mask: Option<&'static str>,
    pub(super) beside: bool,
    pub(super) certificate: Vec<u8>,
    pub(super) recipient: Option<&'static str>,
}

impl Encryption {
    /// As a Shibboleth IdP does by default.
    pub(super) fn shibboleth() -> Self {
        Self {
            data: alg::AES128_GCM,
            key: alg::RSA_OAEP,
            digest: alg::SHA1,
            mask: None,
            beside: false,
            certificate: world().encryption.certificate.clone(),
            recipient: None,
        }
    }
}

/// Everything a response is made of; the default is an honest plain one with a signed Response.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) response_id: String,
    pub(super) assertion_id: String,
    pub(super) issuer: String,
    pub(super) assertion_issuer: String,
    pub(super) destination: Option<String>,
    pub(super) in_response_to: Option<String>,
    pub(super) subject_in_response_to: Option<String>,
    pub(super) recipient: Option<String>,
    pub(super) method: String,
    pub(super) not_on_or_after: Option<i64>,
    pub(super) status: String,
    pub(super) conditions: String,
    pub(super) authn_statement: String,
    pub(super) attributes: Vec<(String, Vec<String>)>,
    pub(super) sign_response: Option<&'static TestKey>,
    pub(super) sign_assertion: Option<&'static TestKey>,
    pub(super) signature_algorithm: &'static str,
    pub(super) digest_algorithm: &'static str,
    pub(super) encryption: Option<Encryption>,
    /// Prefix list of InclusiveNamespaces, as Shibboleth writes it.
    pub(super) inclusive: Option<&'static str>,
}

pub(super) fn at(offset_seconds: i64) -> String {
    let time = NOW.0.saturating_add_signed(offset_seconds * 1000);
    xml::write_time(WallTime(time))
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            response_id: "_response".to_owned(),
            assertion_id: "_assertion".to_owned(),
            issuer: format!("<saml:Issuer>{IDP}</saml:Issuer>"),
            assertion_issuer: format!("<saml:Issuer>{IDP}</saml:Issuer>"),
            destination: Some(ACS.to_owned()),
            in_response_to: Some(REQUEST.to_owned()),
            subject_in_response_to: Some(REQUEST.to_owned()),
            recipient: Some(ACS.to_owned()),
            method: "urn:oasis:names:tc:SAML:2.0:cm:bearer".to_owned(),
            not_on_or_after: Some(300),
            status:
                "<samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/></samlp:Status>"
                    .to_owned(),
            conditions: conditions(&audience(SP)),
            authn_statement: format!(
                "<saml:AuthnStatement AuthnInstant=\"{}\" SessionNotOnOrAfter=\"{}\"/>",
                at(-30),
                at(3600)
            ),
            attributes: vec![
                (MAIL.to_owned(), vec!["Ada@univ-a.example".to_owned()]),
                (EPPN.to_owned(), vec!["ada@univ-a.example".to_owned()]),
                (AFFILIATION.to_owned(), vec!["member".to_owned(), "staff".to_owned()]),
            ],
            sign_response: Some(&world().idp_key),
            sign_assertion: None,
            signature_algorithm: alg::RSA_SHA256,
            digest_algorithm: alg::SHA256,
            encryption: None,
            inclusive: None,
        }
    }
}

pub(super) fn conditions(inner: &str) -> String {
    format!("<saml:Conditions NotBefore=\"{}\" NotOnOrAfter=\"{}\">{inner}</saml:Conditions>", at(-60), at(300))
}

pub(super) fn audience(entity_id: &str) -> String {
    format!("<saml:AudienceRestriction><saml:Audience>{entity_id}</saml:Audience></saml:AudienceRestriction>")
}

fn optional(name: &str, value: Option<&str>) -> String {
    value.map(|value| format!(" {name}=\"{value}\"")).unwrap_or_default()
}

impl Recipe {
    pub(super) fn encrypted(encryption: Encryption) -> Self {
        Self { encryption: Some(encryption), ..Self::default() }
    }

    /// The Assertion, signed when asked, not encrypted.
    pub(super) fn assertion(&self) -> String {
        let attributes: String = self
            .attributes
            .iter()
            .map(|(name, values)| {
                let values: String =
                    values.iter().map(|value| format!("<saml:AttributeValue>{value}</saml:AttributeValue>")).collect();
                format!("<saml:Attribute Name=\"{name}\">{values}</saml:Attribute>")
            })
            .collect();
        let end = self.not_on_or_after.map(at);
        let mut xml = format!(
            "<saml:Assertion xmlns:saml=\"{}\" ID=\"{}\" Version=\"2.0\" IssueInstant=\"{}\">{}@SIG@<saml:Subject>\
             <saml:NameID>x7f3</saml:NameID><saml:SubjectConfirmation Method=\"{}\"><saml:SubjectConfirmationData{}{}{}/>\
             </saml:SubjectConfirmation></saml:Subject>{}{}<saml:AttributeStatement>{attributes}</saml:AttributeStatement>\
             </saml:Assertion>",
            xml::SAML,
            self.assertion_id,
            at(-5),
            self.assertion_issuer,
            self.method,
            optional("Recipient", self.recipient.as_deref()),
            optional("InResponseTo", self.subject_in_response_to.as_deref()),
            optional("NotOnOrAfter", end.as_deref()),
            self.conditions,
            self.authn_statement,
        );
        xml = match self.sign_assertion {
            Some(key) => sign(&xml.replace("@SIG@", &self.template(&self.assertion_id)), key),
            None => xml.replace("@SIG@", ""),
        };
        xml
    }

    /// What the Response carries: the assertion, encrypted when asked.
    pub(super) fn content(&self) -> String {
        let assertion = self.assertion();
        match &self.encryption {
            Some(encryption) => encrypt(&assertion, encryption),
            None => assertion,
        }
    }

    pub(super) fn xml(&self) -> String {
        self.around(&self.content())
    }

    /// The Response around any content, signed when asked.
    pub(super) fn around(&self, content: &str) -> String {
        let xml = format!(
            "<samlp:Response xmlns:samlp=\"{}\" xmlns:saml=\"{}\" ID=\"{}\" Version=\"2.0\" IssueInstant=\"{}\"{}{}>\
             {}@SIG@{}{content}</samlp:Response>",
            xml::SAMLP,
            xml::SAML,
            self.response_id,
            at(-4),
            optional("Destination", self.destination.as_deref()),
            optional("InResponseTo", self.in_response_to.as_deref()),
            self.issuer,
            self.status,
        );
        match self.sign_response {
            Some(key) => sign(&xml.replacen("@SIG@", &self.template(&self.response_id), 1), key),
            None => xml.replacen("@SIG@", "", 1),
        }
    }

    pub(super) fn template(&self, id: &str) -> String {
        let prefixes = self
            .inclusive
            .map(|list| format!("<e:InclusiveNamespaces xmlns:e=\"{}\" PrefixList=\"{list}\"/>", alg::EXC_C14N))
            .unwrap_or_default();
        format!(
            "<ds:Signature xmlns:ds=\"{}\"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{c14n}\"/>\
             <ds:SignatureMethod Algorithm=\"{}\"/><ds:Reference URI=\"#{id}\"><ds:Transforms>\
             <ds:Transform Algorithm=\"{}\"/><ds:Transform Algorithm=\"{c14n}\">{prefixes}</ds:Transform></ds:Transforms>\
             <ds:DigestMethod Algorithm=\"{}\"/><ds:DigestValue></ds:DigestValue></ds:Reference></ds:SignedInfo>\
             <ds:SignatureValue></ds:SignatureValue></ds:Signature>",
            xml::DS,
            self.signature_algorithm,
            alg::ENVELOPED_SIGNATURE,
            self.digest_algorithm,
            c14n = alg::EXC_C14N,
        )
    }
}

/// Fills the first empty signature of `xml`.
pub(super) fn sign(xml: &str, key: &TestKey) -> String {
    kryptering::initialize_backend().unwrap();
    let mut keys = KeysManager::new();
    keys.add_key(loader::load_pem_auto(key.pem.as_bytes(), None).unwrap());
    bergshamra_dsig::sign::sign(&DsigContext::new(keys), xml).unwrap()
}

pub(super) fn encrypt(assertion: &str, with: &Encryption) -> String {
    let mask = with.mask.map(|mask| format!("<n:MGF xmlns:n=\"{}\" Algorithm=\"{mask}\"/>", xml::XENC11));
    let recipient = optional("Recipient", with.recipient);
    let key = format!(
        "<xenc:EncryptedKey xmlns:xenc=\"{}\"{recipient}><xenc:EncryptionMethod Algorithm=\"{}\">\
         <ds:DigestMethod xmlns:ds=\"{}\" Algorithm=\"{}\"/>{}</xenc:EncryptionMethod><xenc:CipherData><xenc:CipherValue>\
         </xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey>",
        xml::XENC,
        with.key,
        xml::DS,
        with.digest,
        mask.unwrap_or_default(),
    );
    let template = format!(
        "<saml:EncryptedAssertion xmlns:saml=\"{}\"><xenc:EncryptedData xmlns:xenc=\"{}\" \
         Type=\"http://www.w3.org/2001/04/xmlenc#Element\"><xenc:EncryptionMethod Algorithm=\"{}\"/>\
         <ds:KeyInfo xmlns:ds=\"{}\">{key}</ds:KeyInfo><xenc:CipherData><xenc:CipherValue></xenc:CipherValue>\
         </xenc:CipherData></xenc:EncryptedData></saml:EncryptedAssertion>",
        xml::SAML,
        xml::XENC,
        with.data,
        xml::DS,
    );
    let mut keys = KeysManager::new();
    keys.add_key(loader::load_x509_cert_der(&with.certificate).unwrap());
    let sealed = bergshamra_enc::encrypt::encrypt(&EncContext::new(keys), &template, assertion.as_bytes()).unwrap();
    if !with.beside {
        return sealed;
    }
    let start = sealed.find("<xenc:EncryptedKey").unwrap();
    let end = sealed.find("</xenc:EncryptedKey>").unwrap() + "</xenc:EncryptedKey>".len();
    let (key, rest) = (&sealed[start..end], format!("{}{}", &sealed[..start], &sealed[end..]));
    rest.replace("</xenc:EncryptedData>", &format!("</xenc:EncryptedData>{key}"))
}

pub(super) fn field(xml: &str) -> Vec<u8> {
    BASE64_STANDARD.encode(xml).into_bytes()
}

pub(super) fn consume(xml: &str) -> Result<Login, Refusal> {
    consume_as(xml, &world().tenant, NOW)
}

pub(super) fn consume_as(xml: &str, tenant: &Tenant, now: WallTime) -> Result<Login, Refusal> {
    consume_at(&world().sp, xml, tenant, now)
}

pub(super) fn consume_at(sp: &ServiceProvider, xml: &str, tenant: &Tenant, now: WallTime) -> Result<Login, Refusal> {
    let world = world();
    let expected = Expected {
        idp: &world.idp,
        request_id: REQUEST,
        acs_url: ACS,
        tenant,
        asked: Asked::default(),
        clock_skew: Duration::from_secs(180),
        now,
    };
    response::consume(&field(xml), sp, &expected)
}

/// Whom a login names: the address or the identifier.
pub(super) fn name_of(login: &Login) -> &str {
    match login.subject() {
        Subject::Address(address) => address.as_str(),
        Subject::Identifier(identifier) => identifier.value(),
    }
}

/// As the answer to a request that asked for `asked`.
pub(super) fn consume_asked(xml: &str, asked: Asked<'_>) -> Result<Login, Refusal> {
    let World { sp, idp, tenant, .. } = world();
    let clock_skew = Duration::from_secs(180);
    response::consume(
        &field(xml),
        sp,
        &Expected { idp, request_id: REQUEST, acs_url: ACS, tenant, asked, clock_skew, now: NOW },
    )
}

/// A tenant that accepts an unsigned Response around a signed Assertion.
pub(super) fn lenient() -> Tenant {
    let mut tenant = world().tenant.clone();
    if let Some(idp) = tenant.idp.as_mut() {
        idp.assertion_signature_only = true;
    }
    tenant
}

/// From the first `from` to the first `to` after it, both included.
pub(super) fn cut(text: &str, from: &str, to: &str) -> String {
    let start = text.find(from).unwrap();
    let end = start + text[start..].find(to).unwrap() + to.len();
    text[start..end].to_owned()
}
