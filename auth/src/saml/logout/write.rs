//! What we send: our LogoutRequest, and the LogoutResponse to one of an IdP. Always signed.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::{
        Binding, IdpMetadata, Outgoing, ServiceProvider, SpError,
        name_id::Named,
        redirect,
        request::new_id,
        soap,
        xml::{self, SAML, SAMLP},
    },
    Asker, Channel,
};
use crate::WallTime;

/// What the IdP is told of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutStatus {
    /// All that it asked for has ended.
    Ended,
    /// The web sessions have ended; something else may go on.
    Partly,
    /// The request is refused.
    Refused,
    /// We cannot do it now.
    Failed,
}

/// A LogoutResponse ready to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Redirect the browser there.
    Redirect {
        /// Whole URL.
        url: String,
    },
    /// Let the browser post a form.
    Post {
        /// Form action.
        action: String,
        /// `SAMLResponse` field, base64.
        saml_response: String,
        /// `RelayState` field; empty: none.
        relay_state: String,
    },
    /// The body of the answer.
    Soap {
        /// An envelope.
        body: String,
    },
}

impl ServiceProvider {
    /// A signed LogoutRequest for the session of `named` at an IdP: HTTP-Redirect, or HTTP-POST where the IdP has only
    /// that. `None`: it has neither.
    ///
    /// # Errors
    /// Signing failed.
    pub fn logout_request(
        &self,
        idp: &IdpMetadata,
        named: &Named,
        relay_state: &str,
        now: WallTime,
    ) -> Result<Option<Outgoing>, SpError> {
        let (destination, by_redirect) = match (&idp.slo_redirect, &idp.slo_post) {
            (Some(url), _) => (url, true),
            (None, Some(url)) => (url, false),
            (None, None) => return Ok(None),
        };
        let id = new_id().ok_or_else(|| fault("the system gives no random numbers"))?;
        let index = named.session_index.as_deref();
        let index = index.map(|index| format!("<saml2p:SessionIndex>{}</saml2p:SessionIndex>", xml::escape(index)));
        let end = xml::write_time(now.plus(ANSWER_WITHIN));
        let more = format!(" NotOnOrAfter=\"{end}\" Reason=\"urn:oasis:names:tc:SAML:2.0:logout:user\"");
        let content = format!("{}{}", named.name.write(), index.unwrap_or_default());
        let document = self.message("LogoutRequest", &id, Some(destination), now, &more, &content)?;
        let binding = if by_redirect {
            let url = redirect::encode(self.signing(), destination, redirect::REQUEST, &document, relay_state);
            Binding::Redirect { url: url.map_err(fault)? }
        } else {
            let signed = self.signed_request(&id, &document).map_err(fault)?;
            Binding::Post { action: destination.clone(), saml_request: BASE64_STANDARD.encode(signed) }
        };
        Ok(Some(Outgoing { id, binding }))
    }

    /// The signed LogoutResponse to a request that came by `channel`, by the same one where the IdP takes answers there,
    /// else by the other one of the browser's. `None`: it takes none.
    ///
    /// # Errors
    /// Signing failed.
    pub fn logout_response(
        &self,
        asker: &Asker,
        status: LogoutStatus,
        channel: Channel,
        relay_state: &str,
        now: WallTime,
    ) -> Result<Option<Reply>, SpError> {
        let redirect = asker.idp.slo_redirect_response.as_deref().map(|url| (url, Channel::Redirect));
        let post = asker.idp.slo_post_response.as_deref().map(|url| (url, Channel::Post));
        let (destination, channel) = match channel {
            Channel::Soap => (None, Channel::Soap),
            Channel::Redirect | Channel::Post => {
                let first = if channel == Channel::Redirect { redirect.or(post) } else { post.or(redirect) };
                let Some((url, channel)) = first else { return Ok(None) };
                (Some(url), channel)
            }
        };
        let id = new_id().ok_or_else(|| fault("the system gives no random numbers"))?;
        let more = format!(" InResponseTo=\"{}\"", xml::escape(&asker.request_id));
        let document = self.message("LogoutResponse", &id, destination, now, &more, &status.write())?;
        Ok(Some(match (channel, destination) {
            (Channel::Redirect, Some(url)) => {
                let url = redirect::encode(self.signing(), url, redirect::RESPONSE, &document, relay_state);
                Reply::Redirect { url: url.map_err(fault)? }
            }
            (Channel::Post, Some(url)) => {
                let signed = self.signed_request(&id, &document).map_err(fault)?;
                let saml_response = BASE64_STANDARD.encode(signed);
                Reply::Post { action: url.to_owned(), saml_response, relay_state: relay_state.to_owned() }
            }
            _ => {
                let signed = self.signed_request(&id, &document).map_err(fault)?;
                Reply::Soap { body: soap::around(&signed) }
            }
        }))
    }

    /// A message around its content. `more`: further attributes, written.
    fn message(
        &self,
        local: &str,
        id: &str,
        destination: Option<&str>,
        now: WallTime,
        more: &str,
        content: &str,
    ) -> Result<String, SpError> {
        let destination = destination.map(|url| format!(" Destination=\"{}\"", xml::escape(url))).unwrap_or_default();
        let document = format!(
            "<saml2p:{local} xmlns:saml2p=\"{SAMLP}\" xmlns:saml2=\"{SAML}\" ID=\"{id}\" Version=\"2.0\" \
             IssueInstant=\"{}\"{destination}{more}><saml2:Issuer>{}</saml2:Issuer>{content}</saml2p:{local}>",
            xml::write_time(now),
            xml::escape(self.entity_id()),
        );
        // What an IdP named its user goes back into XML of ours: it must be a document again.
        xml::parse(&document).map_err(|_| fault("the logout message is not well-formed"))?;
        Ok(document)
    }
}

impl LogoutStatus {
    /// Core §3.2.2.2, §3.7.3.2.
    fn write(self) -> String {
        let (top, inner) = match self {
            Self::Ended => ("Success", None),
            Self::Partly => ("Success", Some("PartialLogout")),
            Self::Refused => ("Requester", Some("RequestDenied")),
            Self::Failed => ("Responder", None),
        };
        let code = |name: &str, inner: &str| {
            format!(
                "<saml2p:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:{name}\">{inner}</saml2p:StatusCode>"
            )
        };
        let inner = inner.map(|name| code(name, "")).unwrap_or_default();
        format!("<saml2p:Status>{}</saml2p:Status>", code(top, &inner))
    }
}

fn fault(message: &str) -> SpError {
    SpError { key: "saml.signing".to_owned(), message: message.to_owned() }
}

/// How long the IdP may take to read our request.
const ANSWER_WITHIN: Duration = Duration::from_secs(5 * 60);
