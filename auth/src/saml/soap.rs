//! SOAP 1.1 envelopes, as the SOAP binding uses them: written around one message, and read from the tree of the whole
//! document (bindings §3.2; SOAP 1.1 is the W3C note of 8 May 2000).

use uppsala::{Document, NodeId};

use super::xml;

/// Namespace of SOAP 1.1.
pub(super) const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

/// Why a document is no envelope that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SoapFault {
    /// Not `Envelope(Header?, Body)` with exactly one element in the Body.
    Shape,
    /// A header block that must be understood, and is not (SOAP 1.1 §4.2.3).
    NotUnderstood,
    /// The Body is a Fault: `Client` (we are to blame), `Server` (the peer is), or another code.
    Fault(&'static str),
}

/// An envelope: its header blocks and the one element in its Body.
pub(super) struct Envelope {
    pub(super) blocks: Vec<NodeId>,
    pub(super) content: NodeId,
}

impl Envelope {
    /// Reads the envelope that `doc` is. `understood` tells which header blocks the caller knows.
    pub(super) fn read(
        doc: &Document<'_>,
        understood: impl Fn(&Document<'_>, NodeId) -> bool,
    ) -> Result<Self, SoapFault> {
        let envelope = doc.document_element().filter(|node| xml::is(doc, *node, SOAP, "Envelope"));
        let parts: Vec<NodeId> = envelope.map(|node| xml::elements(doc, node).collect()).unwrap_or_default();
        let (header, body) = match parts.as_slice() {
            [body] => (None, *body),
            [header, body] if xml::is(doc, *header, SOAP, "Header") => (Some(*header), *body),
            _ => return Err(SoapFault::Shape),
        };
        if !xml::is(doc, body, SOAP, "Body") {
            return Err(SoapFault::Shape);
        }
        let mut contents = xml::elements(doc, body);
        let content = contents.next().filter(|_| contents.next().is_none()).ok_or(SoapFault::Shape)?;
        if xml::is(doc, content, SOAP, "Fault") {
            return Err(SoapFault::Fault(fault_code(doc, content)));
        }
        let blocks: Vec<NodeId> = header.map(|node| xml::elements(doc, node).collect()).unwrap_or_default();
        // A block for another actor would still be ours to look at: there is nobody behind us.
        let demanding = |block: &&NodeId| {
            let element = doc.element(**block);
            element.and_then(|element| element.get_attribute_ns(SOAP, "mustUnderstand")).is_some_and(|it| it != "0")
        };
        if blocks.iter().filter(demanding).any(|block| !understood(doc, *block)) {
            return Err(SoapFault::NotUnderstood);
        }
        Ok(Self { blocks, content })
    }
}

/// The local part of `faultcode`, when it is one of the specification's (SOAP 1.1 §4.4.1), which may be refined by dots.
fn fault_code(doc: &Document<'_>, fault: NodeId) -> &'static str {
    let code = xml::elements(doc, fault)
        .find(|node| doc.element(*node).is_some_and(|element| &*element.name.local_name == "faultcode"))
        .and_then(|node| xml::text(doc, node))
        .unwrap_or_default();
    let local = code.rsplit(':').next().and_then(|local| local.split('.').next());
    ["Client", "Server", "MustUnderstand", "VersionMismatch"]
        .into_iter()
        .find(|known| local == Some(*known))
        .unwrap_or("other")
}

/// An envelope around one message: XML without a declaration, whose signature is independent of what stands around it
/// (exclusive canonicalization).
pub(super) fn around(message: &str) -> String {
    format!("<S:Envelope xmlns:S=\"{SOAP}\"><S:Body>{message}</S:Body></S:Envelope>")
}
