//! Enhanced Client or Proxy (saml-ecp v2.0): the gateway asks an IdP about a password that a mail program gave it.
//!
//! A mail program knows a name and a password and nothing of SAML, so the gateway is the service provider *and* the
//! enhanced client. Between those two the profile has PAOS messages (§2.3.2 and §2.3.7), which would be messages to
//! ourselves; what is left is the exchange with the IdP:
//!
//! ```text
//! us ── POST, SOAP: AuthnRequest (signed), HTTP Basic ──▶ SingleSignOnService, SOAP binding   (§2.3.4)
//! us ◀── SOAP: Header(ecp:Response), Body(Response) ────                                      (§2.3.6)
//! ```
//!
//! The request asks for the PAOS binding and names our consumer of that binding ([`ServiceProvider::ecp_url`], in our
//! metadata). The IdP repeats it in `ecp:Response`, in the Destination and in the Recipient; an enhanced client must
//! compare the first with what the service provider wants (§2.3.7), we compare all three. Nothing is ever posted there.
//!
//! **The Response is not cut out of its envelope.** Namespaces may be declared on the envelope and used in what is signed
//! (SimpleSAMLphp and Shibboleth write prefixes where their libraries like it), so a cut would change what was signed or
//! no longer parse, and writing it anew would verify our own words. Instead the consumer runs on the tree of the whole
//! document: it finds the Response in the Body, counts assertions, signatures and IDs over everything, header blocks
//! included, and verifies each signature where it stands. After that the same checks follow as for a browser's Response.
//! TLS vouches for the endpoint, never for the user: without a valid signature there is no answer.
//!
//! What is *no* is told apart from what is *no answer* with care: only the former may be shown as a wrong password, only
//! the latter may lead to a fallback.

use uppsala::{Document, NodeId};

use super::{
    Ask, IdpMetadata, Login, Refusal, ServiceProvider, SpError, envelope,
    request::{PAOS_BINDING, new_id},
    response::{Expected, Findings, judge},
    soap::{self, Envelope, SoapFault},
    xml::{self, SAMLP},
};
use crate::WallTime;

/// A request ready to go.
#[derive(Clone, Debug)]
pub struct EcpRequest {
    /// Its ID, which the Response must name.
    pub id: String,
    /// Where to post it.
    pub endpoint: String,
    /// SOAP envelope, `text/xml`.
    pub envelope: String,
}

/// What an endpoint's answer means.
#[derive(Clone, Debug)]
pub enum EcpAnswer {
    /// A signed Success: the password is that of this identity, whoever was asked about.
    Known(Box<Login>),
    /// The password is wrong, or nobody has that name.
    WrongPassword,
    /// The IdP knows who it is and lets the user not in here, or names nobody who could have a mailbox of the tenant.
    NotAdmitted(Refusal),
    /// No answer to the question.
    Unusable(EcpFault),
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EcpFault {
    /// An HTTP status that says nothing of the password.
    #[error("the endpoint answered HTTP {0}")]
    Http(u16),
    /// The consumer refuses what came.
    #[error("{0}")]
    Refused(Refusal),
}

impl EcpFault {
    /// Whether somebody should look: the endpoint answers, and what it says cannot be accepted.
    pub fn is_alarming(&self) -> bool {
        match self {
            Self::Http(status) => *status < 500,
            Self::Refused(Refusal::SoapFault { code }) => *code != "Server",
            Self::Refused(Refusal::Status { .. }) => false,
            Self::Refused(_) => true,
        }
    }

    /// Short name of what failed.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http_status",
            Self::Refused(refusal) => refusal.kind(),
        }
    }
}

impl ServiceProvider {
    /// A signed AuthnRequest in an envelope, for the SOAP endpoint of an IdP.
    ///
    /// # Errors
    /// The IdP has no such endpoint, or one without TLS, or signing failed.
    pub fn ecp_request(&self, idp: &IdpMetadata, now: WallTime) -> Result<EcpRequest, SpError> {
        let fail = |message: &str| SpError { key: "saml.signing".to_owned(), message: message.to_owned() };
        let endpoint = idp.sso_soap.clone().ok_or_else(|| fail("the IdP's metadata has no ECP endpoint"))?;
        if !is_confidential(&endpoint) {
            return Err(fail("the IdP's ECP endpoint would take passwords without TLS"));
        }
        let id = new_id().ok_or_else(|| fail("the system gives no random numbers"))?;
        let request = self
            .request_xml(&id, &endpoint, (PAOS_BINDING, self.ecp_url()), &Ask::default(), now)
            .map_err(|error| fail(&error.to_string()))?;
        let signed = self.signed_request(&id, &request).map_err(fail)?;
        // What stands in an envelope has no declaration of its own.
        let bare = signed.split_once("?>").filter(|_| signed.starts_with("<?xml")).map_or(&*signed, |(_, rest)| rest);
        let envelope = soap::around(bare.trim());
        xml::parse(&envelope).map_err(|_| fail("the request is not well-formed"))?;
        Ok(EcpRequest { id, endpoint, envelope })
    }
}

/// Whether a password may be sent there: by TLS, or without it to this very machine.
pub(super) fn is_confidential(endpoint: &str) -> bool {
    let Ok(url) = url::Url::parse(endpoint) else { return false };
    let here = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(_)) | None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}

/// What an endpoint answered: HTTP status and body, of at most [`ANSWER_BYTES_MAX`]. `expected` names the request, and
/// our [`ServiceProvider::ecp_url`] as the consumer.
pub fn read(status: u16, body: &[u8], sp: &ServiceProvider, expected: &Expected<'_>) -> EcpAnswer {
    match status {
        200 => {}
        // A Basic challenge that our credentials did not meet, or a door that is closed to them.
        401 | 403 => return EcpAnswer::WrongPassword,
        // SOAP 1.1 §6.2: a Fault comes with this status.
        500 => {
            let told = consume(body, sp, expected).err();
            let fault = told.filter(|refusal| matches!(refusal, Refusal::SoapFault { .. }));
            return EcpAnswer::Unusable(fault.map_or(EcpFault::Http(status), EcpFault::Refused));
        }
        _ => return EcpAnswer::Unusable(EcpFault::Http(status)),
    }
    match consume(body, sp, expected) {
        Ok(login) => EcpAnswer::Known(Box::new(login)),
        Err(Refusal::Status { code: "AuthnFailed" | "UnknownPrincipal", .. }) => EcpAnswer::WrongPassword,
        // Everything before the address was verified: the user is known, and not one of ours.
        Err(
            refusal @ (Refusal::Status { code: "RequestDenied", .. }
            | Refusal::Scope
            | Refusal::Domain
            | Refusal::AddressMissing
            | Refusal::IdentifierMissing
            | Refusal::Identifier
            | Refusal::Requirement { .. }),
        ) => EcpAnswer::NotAdmitted(refusal),
        Err(refusal) => EcpAnswer::Unusable(EcpFault::Refused(refusal)),
    }
}

/// Consumes the Response in an envelope.
///
/// # Errors
/// The first check that failed.
pub fn consume(body: &[u8], sp: &ServiceProvider, expected: &Expected<'_>) -> Result<Login, Refusal> {
    if body.len() > ANSWER_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Encoding)?;
    let assertion_signature_only = expected.tenant.idp.as_ref().is_some_and(|idp| idp.assertion_signature_only);
    let place = |doc: &Document<'_>| response_in(doc, expected);
    envelope::verify(text, &place, sp, expected.idp, assertion_signature_only, &mut |_| {}, |verified| {
        judge(verified, expected, Findings::of(verified, sp, expected))
    })
}

/// The one Response of the document, in the Body of an envelope whose header names our consumer.
fn response_in(doc: &Document<'_>, expected: &Expected<'_>) -> Result<NodeId, Refusal> {
    let Envelope { blocks, content } = Envelope::read(doc, is_known)?;
    let consumers: Vec<NodeId> = blocks.into_iter().filter(|block| xml::is(doc, *block, ECP, "Response")).collect();
    let named = match consumers.as_slice() {
        [block] => xml::attribute(doc, *block, "AssertionConsumerServiceURL"),
        _ => None,
    };
    if named != Some(expected.acs_url) {
        return Err(Refusal::EcpConsumer);
    }
    if xml::everywhere(doc, SAMLP, "Response").as_slice() != [content] {
        return Err(Refusal::NotAResponse);
    }
    // Also where nothing is signed, as in many a Response without Success: what answers another question is not looked at.
    match xml::attribute(doc, content, "InResponseTo") {
        Some(id) if id == expected.request_id => Ok(content),
        _ => Err(Refusal::InResponseTo),
    }
}

/// Header blocks of the profile; that the IdP knew who asked (§2.3.6.1) changes nothing here.
fn is_known(doc: &Document<'_>, block: NodeId) -> bool {
    ["Response", "RequestAuthenticated"].into_iter().any(|local| xml::is(doc, block, ECP, local))
}

impl From<SoapFault> for Refusal {
    fn from(fault: SoapFault) -> Self {
        match fault {
            SoapFault::Shape => Self::SoapEnvelope,
            SoapFault::NotUnderstood => Self::SoapHeader,
            SoapFault::Fault(code) => Self::SoapFault { code },
        }
    }
}

/// Namespace of the profile's header blocks.
const ECP: &str = "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp";

/// Longest answer, bytes: as the form field of a browser, and an envelope.
pub const ANSWER_BYTES_MAX: usize = 512 * 1024;

#[cfg(test)]
#[path = "tests/ecp.rs"]
mod tests;
