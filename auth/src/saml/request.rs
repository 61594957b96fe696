//! Our side, and what it sends: AuthnRequest. [`super::sp_metadata`] is what we publish.
//!
//! `samael` gives the types and their serialisation; it leaves text unescaped in places, so what goes in is escaped here,
//! and it has no place for our signature, which is put into its output at a fixed mark.

use aws_lc_rs::{
    rand::{SecureRandom as _, SystemRandom},
    rsa::OaepPrivateDecryptingKey,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use guichet_config::{Config, RequestBinding};
use samael::{
    metadata::{HTTP_POST_BINDING, NameIdFormat},
    schema::{AuthnRequest, Issuer, NameIdPolicy},
    traits::ToXml as _,
};

use super::{
    Ask, IdpMetadata,
    keys::OurKey,
    redirect,
    sp_metadata::{Content, Requested, acs_url, ecp_url, slo_soap_url, slo_url},
    xml,
};
use crate::WallTime;

/// Our side: entityID, endpoints and keys, ready to use.
#[derive(Debug)]
pub struct ServiceProvider {
    entity_id: String,
    acs_urls: Vec<String>,
    ecp_url: String,
    /// For browsers, and by SOAP.
    slo_urls: Vec<(String, String)>,
    metadata: String,
    signing: OurKey,
    decryption: DecryptionKeys,
    certificates: Vec<OwnCertificate>,
}

/// A certificate of a key that we publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    /// What the key is for: `signing`, `signing_next` or `encryption`.
    pub role: &'static str,
    /// Key path in the configuration.
    pub key: String,
    /// End of its validity. No IdP should mind, and some do.
    pub not_after: WallTime,
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
        let origins = config.hosts.all().map(|host| host.origin.clone()).collect();
        let requested = Requested::of(config.tenants.values().map(|tenant| &**tenant));
        Self::assemble(origins, &requested, saml)
    }

    /// As [`Self::new`], from one origin and `[saml]` alone: nothing is known of tenants.
    ///
    /// # Errors
    /// A key cannot be used.
    pub fn from_parts(origin: &str, saml: &guichet_config::ServiceProvider) -> Result<Self, SpError> {
        Self::assemble(vec![origin.to_owned()], &Requested::default(), saml)
    }

    fn assemble(
        origins: Vec<String>,
        requested: &Requested,
        saml: &guichet_config::ServiceProvider,
    ) -> Result<Self, SpError> {
        let fail = |key: &str, message: String| SpError { key: format!("saml.{key}"), message };
        kryptering::initialize_backend().map_err(|error| fail("signing", error.to_string()))?;
        let read =
            |path: &str, files| OurKey::read(files).map_err(|(part, message)| fail(&format!("{path}.{part}"), message));
        let signing = read("signing", &saml.signing)?;
        let next = saml.signing_next.as_ref().map(|files| read("signing_next", files)).transpose()?;
        let mut decryption = Vec::with_capacity(saml.encryption.len() + saml.decryption_only.len());
        let mut opening = |path: &str, files| {
            let key = read(path, files)?;
            let opener = key.decryption_key().ok_or_else(|| {
                fail(&format!("{path}.key_file"), "assertions are encrypted for RSA keys only".to_owned())
            })?;
            decryption.push(opener);
            Ok(key)
        };
        let mut encryption = Vec::with_capacity(saml.encryption.len());
        for (index, files) in saml.encryption.iter().enumerate() {
            let path = format!("encryption[{index}]");
            encryption.push((opening(&path, files)?, path));
        }
        for (index, files) in saml.decryption_only.iter().enumerate() {
            opening(&format!("decryption_only[{index}]"), files)?;
        }

        let metadata = Content {
            entity_id: &saml.entity_id,
            origins: &origins,
            signing: &[Some(&signing), next.as_ref()].into_iter().flatten().map(certificate).collect::<Vec<_>>(),
            encryption: &encryption.iter().map(|(key, _)| certificate(key)).collect::<Vec<_>>(),
            requested,
            publication: &saml.publication,
        }
        .document()
        .map_err(|_| fail("entity_id", "a name cannot be written in XML".to_owned()))?;
        let published = [("signing", "signing".to_owned(), Some(&signing))]
            .into_iter()
            .chain([("signing_next", "signing_next".to_owned(), next.as_ref())])
            .chain(encryption.iter().map(|(key, path)| ("encryption", path.clone(), Some(key))));
        let certificates = published
            .filter_map(|(role, path, key)| {
                Some(OwnCertificate { role, key: format!("saml.{path}.certificate"), not_after: key?.not_after() })
            })
            .collect();
        Ok(Self {
            entity_id: saml.entity_id.clone(),
            acs_urls: origins.iter().map(|origin| acs_url(origin)).collect(),
            ecp_url: origins.first().map(|origin| ecp_url(origin)).unwrap_or_default(),
            slo_urls: origins.iter().map(|origin| (slo_url(origin), slo_soap_url(origin))).collect(),
            metadata,
            signing,
            decryption: DecryptionKeys(decryption),
            certificates,
        })
    }

    /// entityID.
    pub fn entity_id(&self) -> &str {
        &self.entity_id
    }

    /// Assertion consumer services of our hosts, that of the public one first.
    pub fn acs_urls(&self) -> impl Iterator<Item = &str> {
        self.acs_urls.iter().map(String::as_str)
    }

    /// Assertion consumer service of the PAOS binding: `{origin}/saml/ecp`. It names us in what an IdP signs for
    /// [`super::ecp`]; nothing is posted there.
    pub fn ecp_url(&self) -> &str {
        &self.ecp_url
    }

    /// Single logout services for browsers, of each of our hosts.
    pub(super) fn slo_urls(&self) -> impl Iterator<Item = &str> {
        self.slo_urls.iter().map(|(url, _)| url.as_str())
    }

    /// Single logout services for IdPs themselves (SOAP), of each of our hosts.
    pub(super) fn slo_soap_urls(&self) -> impl Iterator<Item = &str> {
        self.slo_urls.iter().map(|(_, url)| url.as_str())
    }

    /// What signs.
    pub(super) fn signing(&self) -> &OurKey {
        &self.signing
    }

    /// The certificates that the metadata holds.
    pub fn certificates(&self) -> &[OwnCertificate] {
        &self.certificates
    }

    /// The SP metadata document, the same bytes for the same configuration.
    pub fn metadata_xml(&self) -> &str {
        &self.metadata
    }

    pub(super) fn decryption_keys(&self) -> &[OaepPrivateDecryptingKey] {
        &self.decryption.0
    }

    /// A signed AuthnRequest for an IdP that asks for no more than a login, by whatever binding it has.
    ///
    /// # Errors
    /// As for [`Self::authn_request_with`].
    pub fn authn_request(
        &self,
        idp: &IdpMetadata,
        acs_url: &str,
        relay_state: &str,
        now: WallTime,
    ) -> Result<Outgoing, SpError> {
        self.authn_request_with(idp, acs_url, None, &Ask::default(), relay_state, now)
    }

    /// A signed AuthnRequest for an IdP. `acs_url` is the assertion consumer service of the host on which the login
    /// begins. It goes by the binding `wanted` (else HTTP-Redirect), and by the other one where the IdP's metadata has no
    /// endpoint for that: both are signed, and a login is better than none.
    ///
    /// # Errors
    /// The IdP has neither endpoint, or signing failed.
    pub fn authn_request_with(
        &self,
        idp: &IdpMetadata,
        acs_url: &str,
        wanted: Option<RequestBinding>,
        ask: &Ask,
        relay_state: &str,
        now: WallTime,
    ) -> Result<Outgoing, SpError> {
        let fail = |message: &str| SpError { key: "saml.signing".to_owned(), message: message.to_owned() };
        let id = new_id().ok_or_else(|| fail("the system gives no random numbers"))?;
        let (destination, redirect) = match (&idp.sso_redirect, &idp.sso_post, wanted) {
            (_, Some(url), Some(RequestBinding::Post)) | (None, Some(url), _) => (url, false),
            (Some(url), _, _) => (url, true),
            (None, None, _) => return Err(fail("the IdP's metadata has no SingleSignOnService we can use")),
        };
        let consumer = (HTTP_POST_BINDING, acs_url);
        let request =
            self.request_xml(&id, destination, consumer, ask, now).map_err(|error| fail(&error.to_string()))?;
        let binding = if redirect {
            let url = redirect::encode(&self.signing, destination, redirect::REQUEST, &request, relay_state);
            Binding::Redirect { url: url.map_err(fail)? }
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
        ask: &Ask,
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
            force_authn: ask.force_authn.then_some(true),
            requested_authn_context: ask.requested_context(),
            ..AuthnRequest::default()
        };
        let text = request.to_string()?;
        // samael escaped attribute values; whatever it wrote must be a document again.
        xml::parse(&text).map_err(|_| "the request is not well-formed")?;
        Ok(text)
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

fn certificate(key: &OurKey) -> &[u8] {
    &key.certificate
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

/// Profile saml-ecp v2.0 §2.3.2.
pub(super) const PAOS_BINDING: &str = "urn:oasis:names:tc:SAML:2.0:bindings:PAOS";

#[cfg(test)]
#[path = "tests/request.rs"]
mod tests;
