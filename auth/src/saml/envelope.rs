//! From the form field to a verified assertion: limits, structure, signatures, decryption, in this order.
//!
//! ```text
//! base64 → UTF-8 → one tree → count and place of assertions and signatures → issuer → Response signature
//!        → decryption (only now: a signature vouches for the ciphertext, or it is GCM) → whole document again
//!        → count and place again → Assertion signature → Verified
//! ```
//!
//! [`Verified`] is made here only; nothing else hands attributes to the rest of the gateway.

use std::ops::Range;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_keys::KeysManager;
use uppsala::{Document, NodeId};

use super::{
    Check, IdpMetadata, Refusal, ServiceProvider,
    decrypt::{DecryptFault, Sealed},
    signature::{self, SignatureFault},
    xml::{self, DS, SAML, SAMLP, XENC, XmlFault},
};

/// A Response whose assertion is covered by a valid signature of the IdP.
pub(super) struct Verified<'d, 'a> {
    response: (&'d Document<'a>, NodeId),
    response_signed: bool,
    assertion: (&'d Document<'a>, NodeId),
}

impl<'d, 'a> Verified<'d, 'a> {
    /// The Response element. Not covered by a signature unless [`Self::response_signed`].
    pub(super) fn response(&self) -> (&'d Document<'a>, NodeId) {
        self.response
    }

    /// Whether a valid signature covers the Response.
    pub(super) fn response_signed(&self) -> bool {
        self.response_signed
    }

    /// The Assertion, covered by a signature.
    pub(super) fn assertion(&self) -> (&'d Document<'a>, NodeId) {
        self.assertion
    }
}

/// The text inside the form field.
pub(super) fn decode(field: &[u8]) -> Result<String, Refusal> {
    if field.len() > FIELD_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    // IdPs break lines at 76 columns; nothing else than base64 is skipped.
    let broken = memchr::memchr2(b'\r', b'\n', field).is_some();
    let bytes = if broken {
        let bare: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        BASE64_STANDARD.decode(bare)
    } else {
        BASE64_STANDARD.decode(field)
    };
    let bytes = bytes.map_err(|_| Refusal::Encoding)?;
    String::from_utf8(bytes).map_err(|_| Refusal::Encoding)
}

/// Finds the Response in a document. What stands around it belongs to the same tree: every count of assertions and
/// signatures is one over the whole document, and a signature is verified in its place, where outer elements may declare
/// its namespaces.
pub(super) type Place<'p> = &'p dyn Fn(&Document<'_>) -> Result<NodeId, Refusal>;

/// The Response is the document.
pub(super) fn bare(doc: &Document<'_>) -> Result<NodeId, Refusal> {
    doc.document_element().ok_or(Refusal::NotAResponse)
}

/// Verifies the Response in `text` and hands what is verified to `then`. `assertion_signature_only` accepts an unsigned
/// Response around a signed Assertion. `begin` is told each check as it begins, so the last one it heard of is the one
/// that failed.
pub(super) fn verify<R>(
    text: &str,
    place: Place<'_>,
    sp: &ServiceProvider,
    idp: &IdpMetadata,
    assertion_signature_only: bool,
    begin: &mut dyn FnMut(Check),
    then: impl FnOnce(&Verified<'_, '_>) -> Result<R, Refusal>,
) -> Result<R, Refusal> {
    begin(Check::Document);
    let doc = parse(text)?;
    begin(Check::Layout);
    let layout = Layout::read(&doc, place)?;
    let response = layout.response;
    begin(Check::Issuer);
    issuer(&doc, response, idp, layout.response_signature.is_some())?;
    let keys = signature::keys_of(idp.signing_certificates.iter().map(Vec::as_slice));
    begin(Check::SignatureShape);
    layout.check_shapes(&doc)?;
    if let Some(signature) = layout.response_signature {
        begin(Check::ResponseSignature);
        signature::verify(&doc, text, signature, response, &keys)?;
    }
    let response_signed = layout.response_signature.is_some();
    let unsigned_is_fine = response_signed || assertion_signature_only;
    match layout.content {
        Content::Nothing => {
            begin(Check::Status);
            Err(status(&doc, response, response_signed).err().unwrap_or(Refusal::AssertionCount))
        }
        Content::Plain { assertion, signature } => {
            if signature.is_some() && !unsigned_is_fine {
                begin(Check::ResponseSignature);
                return Err(Refusal::ResponseUnsigned);
            }
            begin(Check::AssertionSignature);
            verify_assertion(&doc, text, assertion, signature, response_signed, &keys)?;
            begin(Check::AssertionIssuer);
            issuer(&doc, assertion, idp, true)?;
            then(&Verified { response: (&doc, response), response_signed, assertion: (&doc, assertion) })
        }
        Content::Encrypted(node) => {
            if !unsigned_is_fine {
                begin(Check::ResponseSignature);
                return Err(Refusal::ResponseUnsigned);
            }
            begin(Check::Decryption);
            let sealed = Sealed::read(&doc, node, sp.entity_id(), response_signed)?;
            let (opened, range) = sealed.open(text, sp.decryption_keys())?;
            begin(Check::Plaintext);
            let inner = parse(&opened)?;
            let (assertion, signature) = opened_assertion(&inner, place, &range)?;
            begin(Check::AssertionSignature);
            verify_assertion(&inner, &opened, assertion, signature, response_signed, &keys)?;
            begin(Check::AssertionIssuer);
            issuer(&inner, assertion, idp, true)?;
            then(&Verified { response: (&doc, response), response_signed, assertion: (&inner, assertion) })
        }
    }
}

/// The checks before that of the issuer, told as [`verify`] tells them.
pub(super) fn layout(text: &str, begin: &mut dyn FnMut(Check)) -> Result<(), Refusal> {
    begin(Check::Document);
    let doc = parse(text)?;
    begin(Check::Layout);
    Layout::read(&doc, &bare).map(|_| ())
}

/// The IdP that a text says it comes from: the Issuer of the Response, else of its Assertion. Nothing vouches for it.
pub(super) fn claimed_issuer(text: &str) -> Option<String> {
    let doc = parse(text).ok()?;
    let response = doc.document_element()?;
    let issuer_of =
        |node| xml::single(&doc, node, SAML, "Issuer").ok().flatten().and_then(|node| xml::text(&doc, node));
    issuer_of(response).or_else(|| issuer_of(xml::single(&doc, response, SAML, "Assertion").ok().flatten()?))
}

/// The request that a text says it answers. Nothing vouches for it.
pub(super) fn claimed_request(text: &str) -> Option<String> {
    let doc = parse(text).ok()?;
    xml::attribute(&doc, doc.document_element()?, "InResponseTo").map(str::to_owned)
}

/// The endpoint that a text says it was sent to. Nothing vouches for it.
pub(super) fn claimed_destination(text: &str) -> Option<String> {
    let doc = parse(text).ok()?;
    xml::attribute(&doc, doc.document_element()?, "Destination").map(str::to_owned)
}

/// A document with a bounded number of nodes: each but the text between them starts with its own `<`.
fn parse(text: &str) -> Result<Document<'_>, Refusal> {
    if text.bytes().filter(|byte| *byte == b'<').count() > TAGS_MAX {
        return Err(Refusal::TooManyNodes);
    }
    Ok(xml::parse(text)?)
}

fn verify_assertion(
    doc: &Document<'_>,
    source: &str,
    assertion: NodeId,
    signature: Option<NodeId>,
    response_signed: bool,
    keys: &KeysManager,
) -> Result<(), Refusal> {
    match signature {
        // Present and wrong is fatal, whatever the Response's own signature says.
        Some(signature) => Ok(signature::verify(doc, source, signature, assertion, keys)?),
        None if response_signed => Ok(()),
        None => Err(Refusal::Unsigned),
    }
}

/// What a document holds that a Response may hold in one place only: counted over the whole tree, in one pass.
#[derive(Default)]
struct Census {
    assertions: Vec<NodeId>,
    encrypted: Vec<NodeId>,
    /// EncryptedData.
    ciphertexts: usize,
    /// EncryptedKey.
    wrapped_keys: usize,
    signatures: usize,
}

impl Census {
    fn of(doc: &Document<'_>) -> Self {
        let mut census = Self::default();
        for node in doc.descendants(doc.root()) {
            let Some(name) = doc.element(node).map(|element| &element.name) else { continue };
            match (name.namespace_uri.as_deref(), &*name.local_name) {
                (Some(SAML), "Assertion") => census.assertions.push(node),
                (Some(SAML), "EncryptedAssertion") => census.encrypted.push(node),
                (Some(XENC), "EncryptedData") => census.ciphertexts += 1,
                (Some(XENC), "EncryptedKey") => census.wrapped_keys += 1,
                (Some(DS), "Signature") => census.signatures += 1,
                _ => {}
            }
        }
        census
    }
}

/// Where the parts of a Response stand.
struct Layout {
    response: NodeId,
    response_signature: Option<NodeId>,
    content: Content,
}

enum Content {
    /// As when the IdP answers with an error.
    Nothing,
    Plain {
        assertion: NodeId,
        signature: Option<NodeId>,
    },
    Encrypted(NodeId),
}

impl Layout {
    fn read(doc: &Document<'_>, place: Place<'_>) -> Result<Self, Refusal> {
        let response = response_of(doc, place)?;
        let Census { assertions, encrypted, ciphertexts, signatures, .. } = Census::of(doc);
        let content = match (assertions.as_slice(), encrypted.as_slice()) {
            ([], []) => Content::Nothing,
            ([assertion], []) if doc.parent(*assertion) == Some(response) => {
                let signature = signature_of(doc, *assertion)?;
                Content::Plain { assertion: *assertion, signature }
            }
            ([], [encrypted]) if doc.parent(*encrypted) == Some(response) => Content::Encrypted(*encrypted),
            _ => return Err(Refusal::AssertionCount),
        };
        if ciphertexts > 1 || (ciphertexts == 1 && !matches!(content, Content::Encrypted(_))) {
            return Err(Refusal::EncryptionShape);
        }
        let response_signature = signature_of(doc, response)?;
        let inner = match content {
            Content::Plain { signature, .. } => signature,
            _ => None,
        };
        let placed = usize::from(response_signature.is_some()) + usize::from(inner.is_some());
        if signatures != placed {
            return Err(Refusal::SignaturePlace);
        }
        Ok(Self { response, response_signature, content })
    }

    /// Every signature must have the plain shape before any of them is worked on.
    fn check_shapes(&self, doc: &Document<'_>) -> Result<(), Refusal> {
        if let Some(signature) = self.response_signature {
            signature::check_shape(doc, signature, self.response)?;
        }
        if let Content::Plain { assertion, signature: Some(signature) } = self.content {
            signature::check_shape(doc, signature, assertion)?;
        }
        Ok(())
    }
}

fn response_of(doc: &Document<'_>, place: Place<'_>) -> Result<NodeId, Refusal> {
    let response = place(doc)?;
    let sound = xml::is(doc, response, SAMLP, "Response")
        && xml::attribute(doc, response, "Version") == Some("2.0")
        && xml::attribute(doc, response, "ID").is_some_and(signature::is_id);
    if sound { Ok(response) } else { Err(Refusal::NotAResponse) }
}

fn signature_of(doc: &Document<'_>, node: NodeId) -> Result<Option<NodeId>, Refusal> {
    xml::single(doc, node, DS, "Signature").map_err(|()| Refusal::SignaturePlace)
}

/// The one Assertion of a decrypted document: it must be all that the plaintext holds.
fn opened_assertion(
    doc: &Document<'_>,
    place: Place<'_>,
    range: &Range<usize>,
) -> Result<(NodeId, Option<NodeId>), Refusal> {
    let response = response_of(doc, place)?;
    let Census { assertions, encrypted, ciphertexts, wrapped_keys, signatures } = Census::of(doc);
    let ([encrypted], [assertion]) = (encrypted.as_slice(), assertions.as_slice()) else {
        return Err(Refusal::AssertionCount);
    };
    let in_place = doc.parent(*assertion) == Some(*encrypted)
        && doc.parent(*encrypted) == Some(response)
        && doc.node_range(*assertion).as_ref() == Some(range);
    if !in_place {
        return Err(Refusal::AssertionCount);
    }
    // An EncryptedKey beside the data stays where it was; anything else encrypted would go unread.
    let beside = xml::children(doc, *encrypted, XENC, "EncryptedKey").count();
    if ciphertexts + wrapped_keys != beside {
        return Err(Refusal::EncryptionShape);
    }
    let signature = signature_of(doc, *assertion)?;
    let outer = signature_of(doc, response)?;
    let placed = usize::from(signature.is_some()) + usize::from(outer.is_some());
    if signatures != placed {
        return Err(Refusal::SignaturePlace);
    }
    Ok((*assertion, signature))
}

/// The Issuer must be the IdP that was asked (mix-up).
fn issuer(doc: &Document<'_>, node: NodeId, idp: &IdpMetadata, required: bool) -> Result<(), Refusal> {
    let Some(issuer) = xml::single(doc, node, SAML, "Issuer").map_err(|()| Refusal::Issuer)? else {
        return if required { Err(Refusal::IssuerMissing) } else { Ok(()) };
    };
    let plain = xml::attribute(doc, issuer, "Format").is_none_or(|format| format == ENTITY);
    let value = xml::text(doc, issuer).ok_or(Refusal::ValueNotPlain)?;
    if plain && value == idp.entity_id { Ok(()) } else { Err(Refusal::Issuer) }
}

/// `Ok` for Success, else the most precise code that the specification knows.
pub(super) fn status(doc: &Document<'_>, response: NodeId, signed: bool) -> Result<(), Refusal> {
    let other = Refusal::Status { code: "other", signed };
    let single = |node, local| xml::single(doc, node, SAMLP, local).ok().flatten();
    let top = single(response, "Status").and_then(|status| single(status, "StatusCode"));
    let Some(top) = top else { return Err(other) };
    if xml::attribute(doc, top, "Value") == Some("urn:oasis:names:tc:SAML:2.0:status:Success") {
        return Ok(());
    }
    let code = single(top, "StatusCode").and_then(|inner| status_code(doc, inner)).or_else(|| status_code(doc, top));
    // SimpleSAMLphp 1.x has no second code for a wrong password, only words.
    let message = single(response, "Status").and_then(|status| single(status, "StatusMessage"));
    let wrong_password = || message.and_then(|node| xml::text(doc, node)).is_some_and(|text| text == WRONG_PASSWORD);
    let code = if code == Some("Responder") && wrong_password() { Some("AuthnFailed") } else { code };
    Err(code.map_or(other, |code| Refusal::Status { code, signed }))
}

/// The code that a `StatusCode` names, when the specification knows it.
pub(super) fn status_code(doc: &Document<'_>, node: NodeId) -> Option<&'static str> {
    let value = xml::attribute(doc, node, "Value")?.strip_prefix("urn:oasis:names:tc:SAML:2.0:status:")?;
    STATUS_CODES.iter().copied().find(|code| *code == value)
}

impl From<XmlFault> for Refusal {
    fn from(fault: XmlFault) -> Self {
        match fault {
            XmlFault::Doctype => Self::Doctype,
            XmlFault::Malformed | XmlFault::TooManyAttributes => Self::Malformed,
            XmlFault::RelativeNamespace => Self::RelativeNamespace,
            XmlFault::QualifiedId | XmlFault::DuplicateId => Self::AmbiguousId,
        }
    }
}

impl From<SignatureFault> for Refusal {
    fn from(fault: SignatureFault) -> Self {
        match fault {
            SignatureFault::Shape => Self::SignatureShape,
            SignatureFault::Algorithm => Self::SignatureAlgorithm,
            SignatureFault::NoKey => Self::NoKey,
            SignatureFault::Invalid => Self::SignatureInvalid,
        }
    }
}

impl From<DecryptFault> for Refusal {
    fn from(fault: DecryptFault) -> Self {
        match fault {
            DecryptFault::Shape => Self::EncryptionShape,
            DecryptFault::Algorithm => Self::EncryptionAlgorithm,
            DecryptFault::Unauthenticated => Self::UnauthenticatedCipher,
            DecryptFault::Undecryptable => Self::Undecryptable,
        }
    }
}

/// Real responses are 5 to 30 KiB.
const FIELD_BYTES_MAX: usize = 256 * 1024;

/// Real responses have some hundred; a member of two thousand groups brings four thousand.
const TAGS_MAX: usize = 16 * 1024;

const ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";

/// What SimpleSAMLphp's `handleAuthError` writes.
const WRONG_PASSWORD: &str = "SimpleSAML\\Error\\Error: WRONGUSERPASS";

/// Core §3.2.2.2.
const STATUS_CODES: [&str; 22] = [
    "Requester",
    "Responder",
    "VersionMismatch",
    "AuthnFailed",
    "InvalidAttrNameOrValue",
    "InvalidNameIDPolicy",
    "NoAuthnContext",
    "NoAvailableIDP",
    "NoPassive",
    "NoSupportedIDP",
    "PartialLogout",
    "ProxyCountExceeded",
    "RequestDenied",
    "RequestUnsupported",
    "RequestVersionDeprecated",
    "RequestVersionTooHigh",
    "RequestVersionTooLow",
    "ResourceNotRecognized",
    "TooManyResponses",
    "UnknownAttrProfile",
    "UnknownPrincipal",
    "UnsupportedBinding",
];
