//! Our own metadata: the document that a federation's registry takes.
//!
//! The same configuration gives the same bytes, on every host and every node. Unsigned and without `validUntil`: the
//! registry copies it once and signs its own file. Elements stand in the order of the schema (saml-metadata-2.0 §2).

mod requested;
mod writer;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use guichet_config::{Contact, Publication, Text};

pub(super) use requested::Requested;
use writer::Writer;

use super::{discovery::RESPONSE_PATH, request::PAOS_BINDING, xml};

/// What the document is made of.
pub(super) struct Content<'a> {
    /// entityID.
    pub(super) entity_id: &'a str,
    /// Origins of our hosts, the public one first.
    pub(super) origins: &'a [String],
    /// DER certificates of the keys that sign, now and next.
    pub(super) signing: &'a [&'a [u8]],
    /// DER certificates of the keys to encrypt for, newest first.
    pub(super) encryption: &'a [&'a [u8]],
    /// Attributes that the tenants' logins use.
    pub(super) requested: &'a Requested,
    /// For people.
    pub(super) publication: &'a Publication,
}

/// Assertion consumer service of an origin.
pub fn acs_url(origin: &str) -> String {
    format!("{origin}/saml/acs")
}

/// Single logout service of an origin, for browsers.
pub(super) fn slo_url(origin: &str) -> String {
    format!("{origin}/saml/slo")
}

/// Single logout service of an origin, for the IdP itself.
pub(super) fn slo_soap_url(origin: &str) -> String {
    format!("{origin}/saml/slo/soap")
}

/// Assertion consumer service of the PAOS binding, of the public origin only: mail programs know no other host.
pub(super) fn ecp_url(origin: &str) -> String {
    format!("{origin}/saml/ecp")
}

impl Content<'_> {
    /// The document.
    ///
    /// # Errors
    /// What was given makes no document: a name with a character that XML has no form for.
    pub(super) fn document(&self) -> Result<String, xml::XmlFault> {
        let mut out = Writer::new();
        let names = [
            ("xmlns:md", xml::MD),
            ("xmlns:ds", xml::DS),
            ("xmlns:alg", ALG),
            ("xmlns:mdui", MDUI),
            ("entityID", self.entity_id),
        ];
        out.open("md:EntityDescriptor", &names);
        self.extensions(&mut out);
        self.role(&mut out);
        self.organization(&mut out);
        self.contacts(&mut out);
        out.close();
        let document = out.finish();
        xml::parse(&document)?;
        Ok(document)
    }

    /// Algorithms (SAML V2.0 Metadata Profile for Algorithm Support) and what the service is (Metadata Extension for
    /// Entity Attributes).
    fn extensions(&self, out: &mut Writer) {
        out.open("md:Extensions", &[]);
        DIGESTS.iter().for_each(|uri| out.empty("alg:DigestMethod", &[("Algorithm", uri)]));
        SIGNATURES.iter().for_each(|uri| out.empty("alg:SigningMethod", &[("Algorithm", uri)]));
        let Publication { entity_categories, assurance_certifications, .. } = self.publication;
        let subject_id: Vec<String> = self.requested.subject_id().map(str::to_owned).into_iter().collect();
        let attributes = [
            (ENTITY_CATEGORY, entity_categories),
            (ASSURANCE_CERTIFICATION, assurance_certifications),
            (SUBJECT_ID_REQ, &subject_id),
        ];
        if attributes.iter().any(|(_, values)| !values.is_empty()) {
            out.open("mdattr:EntityAttributes", &[("xmlns:mdattr", MDATTR), ("xmlns:saml", xml::SAML)]);
            for (name, values) in attributes.into_iter().filter(|(_, values)| !values.is_empty()) {
                out.open("saml:Attribute", &[("Name", name), ("NameFormat", NAME_FORMAT)]);
                values.iter().for_each(|value| out.text("saml:AttributeValue", &[], value));
                out.close();
            }
            out.close();
        }
        out.close();
    }

    fn role(&self, out: &mut Writer) {
        let attributes = [
            ("AuthnRequestsSigned", "true"),
            ("WantAssertionsSigned", "false"),
            ("protocolSupportEnumeration", xml::SAMLP),
        ];
        out.open("md:SPSSODescriptor", &attributes);
        out.open("md:Extensions", &[]);
        for origin in self.origins {
            let location = format!("{origin}/login");
            let names = [("xmlns:init", INIT), ("Binding", INIT), ("Location", &location)];
            out.empty("init:RequestInitiator", &names);
        }
        for (index, origin) in self.origins.iter().enumerate() {
            let (location, index) = (format!("{origin}{RESPONSE_PATH}"), index.to_string());
            let names = [("xmlns:idpdisc", IDPDISC), ("Binding", IDPDISC), ("Location", &location), ("index", &index)];
            out.empty("idpdisc:DiscoveryResponse", &names);
        }
        self.user_interface(out);
        out.close();
        self.signing.iter().for_each(|certificate| key(out, "signing", certificate, &[]));
        self.encryption.iter().for_each(|certificate| key(out, "encryption", certificate, &ENCRYPTION_METHODS));
        for origin in self.origins {
            let (browser, soap) = (slo_url(origin), slo_soap_url(origin));
            // In the order in which an IdP should take them.
            for (binding, location) in [(HTTP_REDIRECT, &browser), (HTTP_POST, &browser), (SOAP, &soap)] {
                out.empty("md:SingleLogoutService", &[("Binding", binding), ("Location", location)]);
            }
        }
        out.text("md:NameIDFormat", &[], TRANSIENT);
        for (index, (binding, location)) in self.consumers().enumerate() {
            let index = index.to_string();
            let mut attributes = vec![("Binding", binding), ("Location", &location), ("index", &index)];
            if index == "0" {
                attributes.push(("isDefault", "true"));
            }
            out.empty("md:AssertionConsumerService", &attributes);
        }
        self.attributes(out);
        out.close();
    }

    /// SAML V2.0 Metadata Extensions for Login and Discovery User Interface.
    fn user_interface(&self, out: &mut Writer) {
        let Publication { display_name, description, information_url, privacy_url, logo, .. } = self.publication;
        let texts = [
            ("mdui:DisplayName", display_name),
            ("mdui:Description", description),
            ("mdui:InformationURL", information_url),
            ("mdui:PrivacyStatementURL", privacy_url),
        ];
        if logo.is_none() && texts.iter().all(|(_, text)| text.is_none()) {
            return;
        }
        out.open("mdui:UIInfo", &[]);
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
            localized(out, name, text);
        }
        if let Some(logo) = logo {
            let (width, height) = (logo.width.to_string(), logo.height.to_string());
            out.text("mdui:Logo", &[("height", &height), ("width", &width)], &logo.url);
        }
        out.close();
    }

    /// Assertion consumer services by their index: the public host's two, then those of the other hosts.
    fn consumers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let mut origins = self.origins.iter();
        let public = origins.next().map(|origin| [(HTTP_POST, acs_url(origin)), (PAOS_BINDING, ecp_url(origin))]);
        public.into_iter().flatten().chain(origins.map(|origin| (HTTP_POST, acs_url(origin))))
    }

    fn attributes(&self, out: &mut Writer) {
        // The schema wants one attribute or more.
        if self.requested.iter().next().is_none() {
            return;
        }
        out.open("md:AttributeConsumingService", &[("index", "0"), ("isDefault", "true")]);
        let usual = Text { fr: "Messagerie".to_owned(), en: "Mail".to_owned() };
        localized(out, "md:ServiceName", self.publication.display_name.as_ref().unwrap_or(&usual));
        if let Some(description) = &self.publication.description {
            localized(out, "md:ServiceDescription", description);
        }
        for (name, required) in self.requested.iter() {
            let (name, friendly) = (name.as_str(), name.known_as());
            let mut attributes = vec![("Name", name), ("NameFormat", NAME_FORMAT)];
            if friendly != name {
                attributes.insert(0, ("FriendlyName", friendly));
            }
            attributes.push(("isRequired", if required { "true" } else { "false" }));
            out.empty("md:RequestedAttribute", &attributes);
        }
        out.close();
    }

    fn organization(&self, out: &mut Writer) {
        if let Some(organization) = &self.publication.organization {
            out.open("md:Organization", &[]);
            localized(out, "md:OrganizationName", &organization.name);
            localized(out, "md:OrganizationDisplayName", &organization.name);
            localized(out, "md:OrganizationURL", &organization.url);
            out.close();
        }
    }

    fn contacts(&self, out: &mut Writer) {
        let Publication { technical, support, security, .. } = self.publication;
        let kinds = [
            (technical, vec![("contactType", "technical")]),
            (support, vec![("contactType", "support")]),
            // REFEDS Security Contact Metadata Extension Schema.
            (security, vec![("contactType", "other"), ("xmlns:remd", REMD), ("remd:contactType", SECURITY_CONTACT)]),
        ];
        for (contact, attributes) in kinds {
            let Some(Contact { name, address }) = contact else { continue };
            out.open("md:ContactPerson", &attributes);
            out.text("md:GivenName", &[], name);
            out.text("md:EmailAddress", &[], &format!("mailto:{}", address.as_str()));
            out.close();
        }
    }
}

fn localized(out: &mut Writer, name: &'static str, text: &Text) {
    out.text(name, &[("xml:lang", "en")], &text.en);
    out.text(name, &[("xml:lang", "fr")], &text.fr);
}

fn key(out: &mut Writer, usage: &str, certificate: &[u8], methods: &[Method]) {
    out.open("md:KeyDescriptor", &[("use", usage)]);
    out.open("ds:KeyInfo", &[]);
    out.open("ds:X509Data", &[]);
    out.text("ds:X509Certificate", &[], &BASE64_STANDARD.encode(certificate));
    out.close();
    out.close();
    for method in methods {
        let algorithm = [("Algorithm", method.algorithm)];
        let Some((digest, mask)) = method.oaep else {
            out.empty("md:EncryptionMethod", &algorithm);
            continue;
        };
        out.open("md:EncryptionMethod", &algorithm);
        out.empty("ds:DigestMethod", &[("Algorithm", digest)]);
        if let Some(mask) = mask {
            out.empty("xenc11:MGF", &[("xmlns:xenc11", xml::XENC11), ("Algorithm", mask)]);
        }
        out.close();
    }
    out.close();
}

/// An algorithm of encryption; of a key's transport, with its digest and mask where they are named.
struct Method {
    algorithm: &'static str,
    oaep: Option<(&'static str, Option<&'static str>)>,
}

impl Method {
    const fn plain(algorithm: &'static str) -> Self {
        Self { algorithm, oaep: None }
    }

    const fn oaep(digest: &'static str, mask: &'static str) -> Self {
        Self { algorithm: alg::RSA_OAEP_ENC11, oaep: Some((digest, Some(mask))) }
    }
}

/// In order of preference; IdPs such as Shibboleth take the first they know. OAEP with SHA-1, which every product has,
/// stands before the others: some write one hash for the digest and another for the mask, which is not accepted. CBC
/// stays for old products, and is accepted under a valid signature only.
const ENCRYPTION_METHODS: [Method; 7] = [
    Method::plain(alg::AES256_GCM),
    Method::plain(alg::AES128_GCM),
    Method { algorithm: alg::RSA_OAEP, oaep: Some((alg::SHA1, None)) },
    Method::oaep(alg::SHA256, alg::MGF1_SHA256),
    Method::oaep(alg::SHA384, alg::MGF1_SHA384),
    Method::oaep(alg::SHA512, alg::MGF1_SHA512),
    Method::plain(alg::AES128_CBC),
];

const DIGESTS: [&str; 3] = [alg::SHA256, alg::SHA384, alg::SHA512];
const SIGNATURES: [&str; 4] = [alg::RSA_SHA256, alg::RSA_SHA512, alg::ECDSA_SHA256, alg::ECDSA_SHA384];

const ALG: &str = "urn:oasis:names:tc:SAML:metadata:algsupport";
const MDUI: &str = "urn:oasis:names:tc:SAML:metadata:ui";
/// Service Provider Request Initiation Protocol and Profile.
const INIT: &str = "urn:oasis:names:tc:SAML:profiles:SSO:request-init";
const IDPDISC: &str = "urn:oasis:names:tc:SAML:profiles:SSO:idp-discovery-protocol";
const MDATTR: &str = "urn:oasis:names:tc:SAML:metadata:attribute";
const REMD: &str = "http://refeds.org/metadata";
const SECURITY_CONTACT: &str = "http://refeds.org/metadata/contactType/security";
const ENTITY_CATEGORY: &str = "http://macedir.org/entity-category";
const ASSURANCE_CERTIFICATION: &str = "urn:oasis:names:tc:SAML:attribute:assurance-certification";
/// SAML V2.0 Subject Identifier Attributes Profile.
const SUBJECT_ID_REQ: &str = "urn:oasis:names:tc:SAML:profiles:subject-id:req";
const NAME_FORMAT: &str = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri";
const TRANSIENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
const HTTP_POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const HTTP_REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const SOAP: &str = "urn:oasis:names:tc:SAML:2.0:bindings:SOAP";

#[cfg(test)]
#[path = "tests/sp_metadata.rs"]
mod tests;
