//! An AuthnRequest, read; and what an IdP knows of the service provider that sent it.

use super::{SAML, SAMLP, SamlError, parse, text_of};

/// What the IdP keeps of an AuthnRequest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthnRequest {
    /// ID.
    pub id: String,
    /// Issuer.
    pub issuer: String,
    /// AssertionConsumerServiceURL.
    pub acs: String,
    /// ForceAuthn: a session of the IdP is not enough.
    pub force: bool,
    /// The first RequestedAuthnContext; empty: any.
    pub context: String,
}

/// What the IdP keeps of the service provider.
#[derive(Clone, Debug)]
pub struct ServiceProvider {
    /// entityID.
    pub entity_id: String,
    /// Assertion consumer, HTTP-POST.
    pub acs: String,
    /// Assertion consumer, PAOS.
    pub ecp: String,
    /// Single logout, HTTP-Redirect.
    pub slo: String,
    /// DER certificate to encrypt to.
    pub encryption_certificate: Vec<u8>,
}

/// Reads an AuthnRequest document.
///
/// # Errors
/// Not one.
pub fn read_request(xml: &str) -> Result<AuthnRequest, SamlError> {
    let doc = parse(xml)?;
    let missing = |what: &str| SamlError(format!("the request has no {what}"));
    // By ECP it stands in an envelope.
    let found = doc.get_elements_by_tag_name_ns(SAMLP, "AuthnRequest");
    let element = found.first().and_then(|&node| doc.element(node)).ok_or_else(|| missing("AuthnRequest"))?;
    let attribute = |name: &str| element.get_attribute(name).map(str::to_owned).ok_or_else(|| missing(name));
    Ok(AuthnRequest {
        id: attribute("ID")?,
        issuer: text_of(&doc, SAML, "Issuer").ok_or_else(|| missing("Issuer"))?,
        acs: attribute("AssertionConsumerServiceURL")?,
        force: matches!(element.get_attribute("ForceAuthn"), Some("true" | "1")),
        context: text_of(&doc, SAML, "AuthnContextClassRef").unwrap_or_default(),
    })
}
