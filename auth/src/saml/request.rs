//! What we send: SP metadata, AuthnRequest.
//!
//! `samael` gives the types and their serialisation; it leaves text unescaped in places, so what goes in is escaped here,
//! and it knows neither `alg:` extensions nor a place for our signature, so both are put into its output at fixed marks.

use std::io::Write as _;

use aws_lc_rs::{
    rand::{SecureRandom as _, SystemRandom},
    rsa::OaepPrivateDecryptingKey,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use guichet_config::Config;
use samael::{
    key_info::{KeyInfo, X509Data},
    metadata::{
        AttributeConsumingService, EncryptionMethod, EntityDescriptor, HTTP_POST_BINDING, IndexedEndpoint,
        KeyDescriptor, LocalizedName, NameIdFormat, RequestedAttribute, SpSsoDescriptor,
    },
    schema::{AuthnRequest, Issuer, NameIdPolicy},
    traits::ToXml as _,
};
use url::form_urlencoded;

use super::{IdpMetadata, keys::OurKey, xml};
use crate::WallTime;

/// Our side: entityID, endpoints and keys, ready to use.
#[derive(Debug)]
pub struct ServiceProvider {
    entity_id: String,
    acs_url: String,
    ecp_url: String,
    metadata: String,
    signing: OurKey,
    decryption: DecryptionKeys,
}

/// Newest first; never printed.
pub(super) struct DecryptionKeys(Vec<OaepPrivateDecryptingKey>);

impl std::fmt::Debug for DecryptionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} keys>", self.0.len())
    }
}

/// Why our own keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub struct SpError {
    /// Key path in the configuration.
    pub key: String,
    /// One sentence.
    pub message: String,
}

/// How a request reaches the IdP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Redirect the browser there (HTTP-Redirect, detached signature).
    Redirect {
        /// Whole URL.
        url: String,
    },
    /// Let the browser post a form (HTTP-POST, enveloped signature).
    Post {
        /// Form action.
        action: String,
        /// `SAMLRequest` field, base64.
        saml_request: String,
    },
}

/// An AuthnRequest ready to go.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its ID.
    pub id: String,
    /// Where and how.
    pub binding: Binding,
}

impl ServiceProvider {
    /// Reads and checks the keys of `[saml]`. Certificate and key must fit each other. Decrypts once with each key, so
    /// that the first user does not wait for key set-up.
    ///
    /// # Errors
    /// `[saml]` is missing, or a key cannot be used.
    pub fn new(config: &Config) -> Result<Self, SpError> {
        let saml = config.saml.as_ref().ok_or_else(|| SpError {
            key: "saml".to_owned(),
            message: "a tenant has an IdP, so this table is needed".to_owned(),
        })?;
        Self::from_parts(&config.public.origin, saml)
    }

    /// As [`Self::new`], from the public origin and `[saml]` alone.
    ///
    /// # Errors
    /// A key cannot be used.
    pub fn from_parts(origin: &str, saml: &guichet_config::ServiceProvider) -> Result<Self, SpError> {
        let fail = |key: &str, message: String| SpError { key: format!("saml.{key}"), message };
        kryptering::initialize_backend().map_err(|error| fail("signing", error.to_string()))?;
        let signing =
            OurKey::read(&saml.signing).map_err(|(part, message)| fail(&format!("signing.{part}"), message))?;
        let mut encryption = Vec::with_capacity(saml.encryption.len());
        let mut decryption = Vec::with_capacity(saml.encryption.len());
        for (index, files) in saml.encryption.iter().enumerate() {
            let path = format!("encryption[{index}]");
            let key = OurKey::read(files).map_err(|(part, message)| fail(&format!("{path}.{part}"), message))?;
            let opener = key.decryption_key().ok_or_else(|| {
                fail(&format!("{path}.key_file"), "assertions are encrypted for RSA keys only".to_owned())
            })?;
            decryption.push(opener);
            encryption.push(key);
        }
        let acs_url = format!("{origin}/saml/acs");
        let ecp_url = format!("{origin}/saml/ecp");
        let consumers = [(HTTP_POST_BINDING, acs_url.as_str()), (PAOS_BINDING, ecp_url.as_str())];
        let metadata = sp_metadata(&saml.entity_id, &consumers, &signing, &encryption)
            .map_err(|error| fail("entity_id", format!("the metadata cannot be written: {error}")))?;
        let decryption = DecryptionKeys(decryption);
        Ok(Self { entity_id: saml.entity_id.clone(), acs_url, ecp_url, metadata, signing, decryption })
    }

    /// entityID.
    pub fn entity_id(&self) -> &str {
        &self.entity_id
    }

    /// Assertion consumer service URL: `{origin}/saml/acs`.
    pub fn acs_url(&self) -> &str {
        &self.acs_url
    }

    /// Assertion consumer service of the PAOS binding: `{origin}/saml/ecp`. It names us in what an IdP signs for
    /// [`super::ecp`]; nothing is posted there.
    pub fn ecp_url(&self) -> &str {
        &self.ecp_url
    }

    /// The SP metadata document, the same bytes for the same configuration. Unsigned and without `validUntil`: a
    /// federation's registry copies it once and signs its own file.
    pub fn metadata_xml(&self) -> &str {
        &self.metadata
    }

    pub(super) fn decryption_keys(&self) -> &[OaepPrivateDecryptingKey] {
        &self.decryption.0
    }

    /// A signed AuthnRequest for an IdP: HTTP-Redirect, or HTTP-POST where the IdP has only that.
    ///
    /// # Errors
    /// The IdP has neither endpoint, or signing failed.
    pub fn authn_request(&self, idp: &IdpMetadata, relay_state: &str, now: WallTime) -> Result<Outgoing, SpError> {
        let fail = |message: &str| SpError { key: "saml.signing".to_owned(), message: message.to_owned() };
        let id = new_id().ok_or_else(|| fail("the system gives no random numbers"))?;
        let (destination, redirect) = match (&idp.sso_redirect, &idp.sso_post) {
            (Some(url), _) => (url, true),
            (None, Some(url)) => (url, false),
            (None, None) => return Err(fail("the IdP's metadata has no SingleSignOnService we can use")),
        };
        let consumer = (HTTP_POST_BINDING, self.acs_url.as_str());
        let request = self.request_xml(&id, destination, consumer, now).map_err(|error| fail(&error.to_string()))?;
        let binding = if redirect {
            Binding::Redirect { url: self.redirect_url(destination, &request, relay_state).map_err(fail)? }
        } else {
            let signed = self.signed_request(&id, &request).map_err(fail)?;
            Binding::Post { action: destination.clone(), saml_request: BASE64_STANDARD.encode(signed) }
        };
        Ok(Outgoing { id, binding })
    }

    /// `consumer`: the binding by which the Response comes back, and where to.
    pub(super) fn request_xml(
        &self,
        id: &str,
        destination: &str,
        consumer: (&str, &str),
        now: WallTime,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let (binding, acs_url) = consumer;
        let request = AuthnRequest {
            id: id.to_owned(),
            version: "2.0".to_owned(),
            issue_instant: xml::write_time(now).parse()?,
            destination: Some(destination.to_owned()),
            protocol_binding: Some(binding.to_owned()),
            assertion_consumer_service_url: Some(acs_url.to_owned()),
            issuer: Some(Issuer { value: Some(xml::escape(&self.entity_id)), ..Issuer::default() }),
            name_id_policy: Some(NameIdPolicy {
                format: Some(NameIdFormat::TransientNameIDFormat.value().to_owned()),
                allow_create: Some(true),
                ..NameIdPolicy::default()
            }),
            ..AuthnRequest::default()
        };
        let text = request.to_string()?;
        // samael escaped attribute values; whatever it wrote must be a document again.
        xml::parse(&text).map_err(|_| "the request is not well-formed")?;
        Ok(text)
    }

    /// HTTP-Redirect with a detached signature over the query as sent (bindings §3.4.4.1).
    fn redirect_url(&self, destination: &str, request: &str, relay_state: &str) -> Result<String, &'static str> {
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        let deflated = deflate
            .write_all(request.as_bytes())
            .and_then(|()| deflate.finish())
            .map_err(|_| "the request cannot be compressed")?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("SAMLRequest", &BASE64_STANDARD.encode(deflated));
        if !relay_state.is_empty() {
            query.append_pair("RelayState", relay_state);
        }
        query.append_pair("SigAlg", self.signing.signature_algorithm());
        let query = query.finish();
        let value = self.signing.sign(query.as_bytes()).map_err(|_| "signing failed")?;
        let signature = form_urlencoded::Serializer::new(String::new())
            .append_pair("Signature", &BASE64_STANDARD.encode(value))
            .finish();
        let joint = if destination.contains('?') { '&' } else { '?' };
        Ok(format!("{destination}{joint}{query}&{signature}"))
    }

    /// Enveloped signature, after the Issuer, where the schema wants it (core §3.2.1).
    pub(super) fn signed_request(&self, id: &str, request: &str) -> Result<String, &'static str> {
        let mark = "</saml2:Issuer>";
        let template = signature_template(id, self.signing.signature_algorithm(), &self.signing.certificate);
        let unsigned = request.replacen(mark, &format!("{mark}{template}"), 1);
        let context = bergshamra_dsig::DsigContext::new(self.signing.manager.clone());
        bergshamra_dsig::sign::sign_owned(&context, unsigned).map_err(|_| "signing failed")
    }
}

/// An empty signature over the element `id`, to be filled by bergshamra.
fn signature_template(id: &str, algorithm: &str, certificate: &[u8]) -> String {
    let certificate = BASE64_STANDARD.encode(certificate);
    format!(
        "<ds:Signature xmlns:ds=\"{ds}\"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{c14n}\"/>\
         <ds:SignatureMethod Algorithm=\"{algorithm}\"/><ds:Reference URI=\"#{id}\"><ds:Transforms>\
         <ds:Transform Algorithm=\"{enveloped}\"/><ds:Transform Algorithm=\"{c14n}\"/></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"{digest}\"/><ds:DigestValue></ds:DigestValue></ds:Reference></ds:SignedInfo>\
         <ds:SignatureValue></ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}\
         </ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>",
        ds = xml::DS,
        c14n = alg::EXC_C14N,
        enveloped = alg::ENVELOPED_SIGNATURE,
        digest = alg::SHA256,
    )
}

/// 160 random bits (core §1.3.4 asks for 128 or more), starting with a letter as `xs:ID` must.
pub(super) fn new_id() -> Option<String> {
    let mut bytes = [0_u8; 20];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().fold("_".to_owned(), |id, byte| id + &format!("{byte:02x}")))
}

fn sp_metadata(
    entity_id: &str,
    consumers: &[(&str, &str)],
    signing: &OurKey,
    encryption: &[OurKey],
) -> Result<String, Box<dyn std::error::Error>> {
    let mut key_descriptors = vec![key_descriptor("signing", signing, None)];
    for key in encryption {
        let methods = ENCRYPTION_METHODS.map(|algorithm| EncryptionMethod { algorithm: algorithm.to_owned() });
        key_descriptors.push(key_descriptor("encryption", key, Some(methods.to_vec())));
    }
    let text = |lang: &str, value: &str| LocalizedName { lang: Some(lang.to_owned()), value: xml::escape(value) };
    let descriptor = EntityDescriptor {
        entity_id: Some(entity_id.to_owned()),
        sp_sso_descriptors: Some(vec![SpSsoDescriptor {
            protocol_support_enumeration: Some(xml::SAMLP.to_owned()),
            authn_requests_signed: Some(true),
            want_assertions_signed: Some(false),
            key_descriptors: Some(key_descriptors),
            name_id_formats: Some(vec![NameIdFormat::TransientNameIDFormat.value().to_owned()]),
            assertion_consumer_services: consumers.iter().zip(0..).map(consumer).collect(),
            attribute_consuming_services: Some(vec![AttributeConsumingService {
                index: 0,
                is_default: Some(true),
                service_names: vec![text("en", "Mail"), text("fr", "Messagerie")],
                service_descriptions: None,
                request_attributes: REQUESTED_ATTRIBUTES.iter().map(requested).collect(),
            }]),
            ..SpSsoDescriptor::default()
        }]),
        ..EntityDescriptor::default()
    };
    let written = descriptor.to_string()?;
    // SAML V2.0 Metadata Profile for Algorithm Support: samael has no type for it.
    let mark = "<md:SPSSODescriptor";
    let with_algorithms = written.replacen(mark, &format!("{}{mark}", algorithm_extensions()), 1);
    xml::parse(&with_algorithms).map_err(|_| "the document is not well-formed")?;
    Ok(with_algorithms)
}

/// Binding, location and index of an assertion consumer service; the first is the default.
fn consumer(((binding, location), index): (&(&str, &str), usize)) -> IndexedEndpoint {
    IndexedEndpoint {
        binding: (*binding).to_owned(),
        location: (*location).to_owned(),
        index,
        is_default: (index == 0).then_some(true),
        ..IndexedEndpoint::default()
    }
}

fn algorithm_extensions() -> String {
    let digests = DIGESTS.map(|uri| format!("<alg:DigestMethod Algorithm=\"{uri}\"/>")).concat();
    let signatures = SIGNATURES.map(|uri| format!("<alg:SigningMethod Algorithm=\"{uri}\"/>")).concat();
    format!(
        "<md:Extensions xmlns:alg=\"urn:oasis:names:tc:SAML:metadata:algsupport\">{digests}{signatures}</md:Extensions>"
    )
}

fn key_descriptor(usage: &str, key: &OurKey, methods: Option<Vec<EncryptionMethod>>) -> KeyDescriptor {
    KeyDescriptor {
        key_use: Some(usage.to_owned()),
        key_info: KeyInfo {
            id: None,
            x509_data: Some(X509Data { certificates: vec![BASE64_STANDARD.encode(&key.certificate)] }),
        },
        encryption_methods: methods,
    }
}

fn requested((name, friendly, required): &(&str, &str, bool)) -> RequestedAttribute {
    RequestedAttribute {
        friendly_name: Some((*friendly).to_owned()),
        name: (*name).to_owned(),
        name_format: Some("urn:oasis:names:tc:SAML:2.0:attrname-format:uri".to_owned()),
        values: None,
        is_required: Some(*required),
    }
}

/// Profile saml-ecp v2.0 §2.3.2.
pub(super) const PAOS_BINDING: &str = "urn:oasis:names:tc:SAML:2.0:bindings:PAOS";

/// In order of preference; IdPs such as Shibboleth take the first they know. CBC stays for old products, and is accepted
/// under a valid signature only.
const ENCRYPTION_METHODS: [&str; 4] = [alg::AES256_GCM, alg::AES128_GCM, alg::RSA_OAEP, alg::AES128_CBC];

const DIGESTS: [&str; 3] = [alg::SHA256, alg::SHA384, alg::SHA512];
const SIGNATURES: [&str; 4] = [alg::RSA_SHA256, alg::RSA_SHA512, alg::ECDSA_SHA256, alg::ECDSA_SHA384];

/// Name (urn:oid), FriendlyName, required.
const REQUESTED_ATTRIBUTES: [(&str, &str, bool); 5] = [
    ("urn:oid:0.9.2342.19200300.100.1.3", "mail", true),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "eduPersonPrincipalName", true),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", "eduPersonAffiliation", false),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.9", "eduPersonScopedAffiliation", false),
    ("urn:oid:2.16.840.1.113730.3.1.241", "displayName", false),
];

#[cfg(test)]
#[path = "tests/request.rs"]
mod tests;
