//! Logout messages, both ways (profiles §4.4).

use jiff::Timestamp;

use super::{SAML, SAMLP, SamlError, escape, instant, parse, random_id, text_of};
use crate::world::idp::Session;

/// A logout message of the service provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutMessage {
    /// It asks for a session's end.
    Request {
        /// ID.
        id: String,
        /// NameID of the session.
        name_id: String,
    },
    /// It answers ours.
    Response {
        /// Whether the status is Success.
        success: bool,
    },
}

/// Reads either message.
///
/// # Errors
/// Neither.
pub fn read_logout(xml: &str) -> Result<LogoutMessage, SamlError> {
    let doc = parse(xml)?;
    let root = doc.document_element().and_then(|root| doc.element(root));
    let root = root.ok_or_else(|| SamlError("the message is empty".to_owned()))?;
    if root.name.namespace_uri.as_deref() != Some(SAMLP) {
        return Err(SamlError("not a message of SAML 2.0".to_owned()));
    }
    match &*root.name.local_name {
        "LogoutRequest" => {
            let id = root.get_attribute("ID").map(str::to_owned);
            let name_id = text_of(&doc, SAML, "NameID");
            let both = id.zip(name_id).ok_or_else(|| SamlError("the request has no ID or no NameID".to_owned()))?;
            Ok(LogoutMessage::Request { id: both.0, name_id: both.1 })
        }
        "LogoutResponse" => {
            let codes = doc.get_elements_by_tag_name_ns(SAMLP, "StatusCode");
            let code = codes.first().and_then(|&code| doc.element(code)?.get_attribute("Value"));
            Ok(LogoutMessage::Response { success: code == Some(SUCCESS) })
        }
        _ => Err(SamlError("not a logout message".to_owned())),
    }
}

/// A LogoutRequest for one session.
///
/// # Errors
/// No randomness.
pub fn logout_request(issuer: &str, destination: &str, session: &Session) -> Result<String, SamlError> {
    Ok(format!(
        "<samlp:LogoutRequest xmlns:samlp=\"{SAMLP}\" xmlns:saml=\"{SAML}\" ID=\"{id}\" Version=\"2.0\" IssueInstant=\"{now}\" \
         Destination=\"{destination}\"><saml:Issuer>{issuer}</saml:Issuer><saml:NameID \
         Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:transient\">{name_id}</saml:NameID><samlp:SessionIndex>{index}\
         </samlp:SessionIndex></samlp:LogoutRequest>",
        id = random_id()?,
        now = instant(Timestamp::now()),
        destination = escape(destination),
        issuer = escape(issuer),
        name_id = escape(&session.name_id),
        index = escape(&session.index),
    ))
}

/// The answer to a LogoutRequest.
///
/// # Errors
/// No randomness.
pub fn logout_response(issuer: &str, destination: &str, request: &str) -> Result<String, SamlError> {
    Ok(format!(
        "<samlp:LogoutResponse xmlns:samlp=\"{SAMLP}\" xmlns:saml=\"{SAML}\" ID=\"{id}\" Version=\"2.0\" IssueInstant=\"{now}\" \
         Destination=\"{destination}\" InResponseTo=\"{request}\"><saml:Issuer>{issuer}</saml:Issuer><samlp:Status>\
         <samlp:StatusCode Value=\"{SUCCESS}\"/></samlp:Status></samlp:LogoutResponse>",
        id = random_id()?,
        now = instant(Timestamp::now()),
        destination = escape(destination),
        request = escape(request),
        issuer = escape(issuer),
    ))
}

const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
