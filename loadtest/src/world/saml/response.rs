//! The Response to an AuthnRequest.

use jiff::{SignedDuration, Timestamp};

use super::{
    AuthnRequest, SAML, SAMLP, SamlError, ServiceProvider, encrypt, escape, instant, later, random_id, sign,
    signature_template,
};
use crate::world::{
    idp::Session,
    people::{Institution, Person},
    pki::Pair,
};

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
    /// The IdP's session: names the user and the session to the service provider.
    pub session: &'a Session,
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
         </saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant=\"{began}\" SessionIndex=\"{session}\" \
         SessionNotOnOrAfter=\"{session_until}\"><saml:AuthnContext><saml:AuthnContextClassRef>\
         {context}</saml:AuthnContextClassRef></saml:AuthnContext>\
         </saml:AuthnStatement><saml:AttributeStatement>{attributes}</saml:AttributeStatement></saml:Assertion>",
        id = random_id()?,
        issuer = escape(login.issuer),
        name_id = escape(&login.session.name_id),
        request = escape(&login.request.id),
        acs = escape(&login.request.acs),
        audience = escape(&sp.entity_id),
        session = escape(&login.session.index),
        began = instant(login.session.began),
        context = escape(&login.session.context),
    ))
}
