//! The federation's metadata: every IdP of the world in one signed file.

use jiff::Timestamp;

use super::{SAMLP, SamlError, escape, instant, random_id, sign, signature_template};
use crate::world::{
    people::Institution,
    pki::{Pair, certificate_text},
};

/// One IdP in the metadata.
#[derive(Debug)]
pub struct MetadataEntry<'a> {
    /// Of whom.
    pub institution: &'a Institution,
    /// entityID.
    pub entity_id: &'a str,
    /// URL prefix of its endpoints.
    pub idp: &'a str,
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
                 <md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"{idp}/slo\"/>\
                 <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"{idp}/sso\"/>\
                 <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"{idp}/sso\"/>\
                 {ecp}</md:IDPSSODescriptor></md:EntityDescriptor>",
                entity = escape(entry.entity_id),
                scope = entry.institution.domain,
                fr = escape(entry.institution.name_fr),
                en = escape(entry.institution.name_en),
                certificate = certificate_text(entry.certificate),
                idp = escape(entry.idp),
                ecp = ecp(entry),
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

fn ecp(entry: &MetadataEntry<'_>) -> String {
    let endpoint = format!(
        "<md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:SOAP\" Location=\"{}/ecp\"/>",
        escape(entry.idp)
    );
    if entry.institution.one_password { endpoint } else { String::new() }
}
