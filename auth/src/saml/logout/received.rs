//! A logout message as it came by one of the three bindings: taken apart, and verified to be the IdP's.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use uppsala::{Document, NodeId as Node};

use super::{
    super::{
        IdpMetadata, ServiceProvider,
        redirect::{self, Detached, MESSAGE_BYTES_MAX, RedirectFault, Redirected},
        signature,
        soap::Envelope,
        xml::{self, DS, SAML, SAMLP},
    },
    AGE_MAX, LogoutRefusal,
};
use crate::WallTime;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// HTTP-Redirect, by the browser.
    Redirect,
    /// HTTP-POST, by the browser.
    Post,
    /// SOAP, from the IdP itself.
    Soap,
}

impl Channel {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Post => "post",
            Self::Soap => "soap",
        }
    }
}

/// What a message wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The IdP asks.
    Request,
    /// The IdP answers.
    Response,
}

/// A message taken out of its binding. Nothing is verified yet.
pub struct Received {
    kind: Kind,
    channel: Channel,
    document: String,
    relay_state: Option<String>,
    detached: Option<Detached>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The document names a user.
        f.debug_struct("Received").field("kind", &self.kind).field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Received {
    /// From the raw query of a GET, without its `?`.
    ///
    /// # Errors
    /// Not the parameters of the binding, not base64, not DEFLATE, too large.
    pub fn by_redirect(query: &str) -> Result<Self, LogoutRefusal> {
        let Redirected { parameter, document, relay_state, detached } = redirect::decode(query)?;
        let kind = if parameter == redirect::REQUEST { Kind::Request } else { Kind::Response };
        Ok(Self { kind, channel: Channel::Redirect, document, relay_state, detached })
    }

    /// From the fields of a form: `SAMLRequest`, `SAMLResponse` and `RelayState`, empty when absent.
    ///
    /// # Errors
    /// None or both of the first two, not base64 of UTF-8, too large.
    pub fn by_post(request: &str, response: &str, relay_state: &str) -> Result<Self, LogoutRefusal> {
        let (kind, field) = match (request, response) {
            (request, "") if !request.is_empty() => (Kind::Request, request),
            ("", response) if !response.is_empty() => (Kind::Response, response),
            _ => return Err(LogoutRefusal::Parameters),
        };
        // Four characters of base64 for three bytes, and line breaks.
        if field.len() > MESSAGE_BYTES_MAX / 2 * 3 {
            return Err(LogoutRefusal::TooLarge);
        }
        // IdPs break lines at 76 columns; nothing else than base64 is skipped.
        let bare: Vec<u8> = field.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let bytes = BASE64_STANDARD.decode(bare).map_err(|_| LogoutRefusal::Encoding)?;
        let relay_state = Some(relay_state.to_owned()).filter(|state| !state.is_empty());
        Ok(Self { kind, channel: Channel::Post, document: text(bytes)?, relay_state, detached: None })
    }

    /// From the body of a SOAP request.
    ///
    /// # Errors
    /// Not UTF-8, too large.
    pub fn by_soap(body: &[u8]) -> Result<Self, LogoutRefusal> {
        let document = text(body.to_vec())?;
        Ok(Self { kind: Kind::Request, channel: Channel::Soap, document, relay_state: None, detached: None })
    }

    /// What it wants to be.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How it came.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// RelayState as it came; the IdP's signature need not cover it.
    pub fn relay_state(&self) -> Option<&str> {
        self.relay_state.as_deref()
    }

    pub(super) fn source(&self) -> &str {
        &self.document
    }

    /// The tree of the document, with a bounded number of nodes.
    pub(super) fn parse(&self) -> Result<Document<'_>, LogoutRefusal> {
        parse(&self.document)
    }
}

/// A message that its issuer signed.
pub(super) struct Authentic<'d, 'a> {
    pub(super) doc: &'d Document<'a>,
    pub(super) message: Node,
    pub(super) id: String,
    pub(super) idp: Arc<IdpMetadata>,
}

/// Finds the one message of `doc` and verifies that the IdP it names signed it. `idps` knows the IdPs that may speak.
pub(super) fn authenticate<'d, 'a>(
    received: &Received,
    doc: &'d Document<'a>,
    idps: &dyn Fn(&str) -> Option<Arc<IdpMetadata>>,
) -> Result<Authentic<'d, 'a>, LogoutRefusal> {
    let (message, id) = message(received, doc)?;
    let signature = signature_of(received, doc, message)?;
    let idp = idps(&issuer(doc, message)?).ok_or(LogoutRefusal::Issuer)?;
    let keys = || idp.signing_certificates.iter().map(Vec::as_slice);
    match (signature, &received.detached) {
        (Some(signature), _) => {
            signature::verify(doc, received.source(), signature, message, &signature::keys_of(keys()))?;
        }
        (None, Some(detached)) => detached.verify(keys())?,
        (None, None) => return Err(LogoutRefusal::Unsigned),
    }
    Ok(Authentic { doc, message, id, idp })
}

impl Authentic<'_, '_> {
    /// Destination is ours; its time is now. Returns its IssueInstant.
    pub(super) fn check_address_and_time(
        &self,
        received: &Received,
        sp: &ServiceProvider,
        clock_skew: std::time::Duration,
        now: WallTime,
    ) -> Result<WallTime, LogoutRefusal> {
        let (doc, message) = (self.doc, self.message);
        match (xml::attribute(doc, message, "Destination"), received.channel) {
            (Some(url), Channel::Redirect | Channel::Post) if sp.slo_urls().any(|own| own == url) => {}
            (Some(url), Channel::Soap) if sp.slo_soap_urls().any(|own| own == url) => {}
            // The binding leaves it open; there is no browser that could carry the message elsewhere.
            (None, Channel::Soap) => {}
            _ => return Err(LogoutRefusal::Destination),
        }
        let issued = xml::attribute(doc, message, "IssueInstant").and_then(xml::time).ok_or(LogoutRefusal::Time)?;
        if issued > now.plus(clock_skew) {
            return Err(LogoutRefusal::NotYetValid);
        }
        if now >= issued.plus(AGE_MAX).plus(clock_skew) {
            return Err(LogoutRefusal::Expired);
        }
        Ok(issued)
    }
}

pub(super) fn parse(text: &str) -> Result<Document<'_>, LogoutRefusal> {
    if text.bytes().filter(|byte| *byte == b'<').count() > TAGS_MAX {
        return Err(LogoutRefusal::TooManyNodes);
    }
    Ok(xml::parse(text)?)
}

fn text(bytes: Vec<u8>) -> Result<String, LogoutRefusal> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(LogoutRefusal::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| LogoutRefusal::Encoding)
}

/// The only logout message of the document, where the binding puts it, and its ID.
fn message(received: &Received, doc: &Document<'_>) -> Result<(Node, String), LogoutRefusal> {
    let root = doc.document_element().ok_or(LogoutRefusal::Malformed)?;
    let message = if received.channel == Channel::Soap { enclosed(doc)? } else { root };
    let local = match received.kind {
        Kind::Request => "LogoutRequest",
        Kind::Response => "LogoutResponse",
    };
    let count = ["LogoutRequest", "LogoutResponse"].map(|local| xml::everywhere(doc, SAMLP, local).len());
    let id = xml::attribute(doc, message, "ID").filter(|id| signature::is_id(id));
    let sound = xml::is(doc, message, SAMLP, local)
        && count.iter().sum::<usize>() == 1
        && xml::attribute(doc, message, "Version") == Some("2.0");
    id.filter(|_| sound).map(|id| (message, id.to_owned())).ok_or(LogoutRefusal::NotALogout)
}

/// What a SOAP envelope encloses: one element, and no header block.
fn enclosed(doc: &Document<'_>) -> Result<Node, LogoutRefusal> {
    match Envelope::read(doc, |_, _| false) {
        Ok(Envelope { blocks, content }) if blocks.is_empty() => Ok(content),
        _ => Err(LogoutRefusal::Envelope),
    }
}

/// The enveloped signature. By redirect there must be none (bindings §3.4.4.1), elsewhere exactly one, under the message.
fn signature_of(received: &Received, doc: &Document<'_>, message: Node) -> Result<Option<Node>, LogoutRefusal> {
    let signatures = xml::everywhere(doc, DS, "Signature");
    match (received.channel, signatures.as_slice()) {
        (Channel::Redirect, []) => Ok(None),
        (Channel::Post | Channel::Soap, []) => Err(LogoutRefusal::Unsigned),
        (Channel::Post | Channel::Soap, [signature]) if doc.parent(*signature) == Some(message) => Ok(Some(*signature)),
        _ => Err(LogoutRefusal::SignaturePlace),
    }
}

fn issuer(doc: &Document<'_>, message: Node) -> Result<String, LogoutRefusal> {
    let issuer = xml::single(doc, message, SAML, "Issuer").map_err(|()| LogoutRefusal::Issuer)?;
    let issuer = issuer.ok_or(LogoutRefusal::IssuerMissing)?;
    if xml::attribute(doc, issuer, "Format").is_some_and(|format| format != ENTITY) {
        return Err(LogoutRefusal::Issuer);
    }
    xml::text(doc, issuer).ok_or(LogoutRefusal::ValueNotPlain)
}

impl From<RedirectFault> for LogoutRefusal {
    fn from(fault: RedirectFault) -> Self {
        match fault {
            RedirectFault::Parameters => Self::Parameters,
            RedirectFault::Encoding => Self::Encoding,
            RedirectFault::Deflate => Self::Deflate,
            RedirectFault::TooLarge => Self::TooLarge,
        }
    }
}

const ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";

/// A signed request with an encrypted name and sixteen session indexes has about eighty.
const TAGS_MAX: usize = 512;
