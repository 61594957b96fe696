//! Enveloped XML signatures: the one shape that SAML allows (core §5.4), checked before any cryptography, and what they cover.
//!
//! bergshamra verifies every reference and transform that a document names, so only documents whose signatures have the
//! plain shape reach it; afterwards its answer counts only for the node it says it resolved.

mod statement;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use bergshamra_dsig::{DsigContext, VerifyResult};
use bergshamra_keys::{Key, KeysManager, loader};
use uppsala::{Document, NodeId};

pub(super) use self::statement::{Statement, verify_statement};
use super::xml::{self, DS, XENC};

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureFault {
    /// Not the plain enveloped shape.
    Shape,
    /// An algorithm that is not accepted: SHA-1, HMAC, DSA, RSA-PSS.
    Algorithm,
    /// No key to verify with.
    NoKey,
    /// Wrong digest, wrong value, wrong key.
    Invalid,
}

/// Keys that may have signed, read from DER certificates or SubjectPublicKeyInfo. Dates of certificates do not count:
/// the federation's signature on the metadata is what makes a key good. What cannot be used (RSA under 2048 bits,
/// unknown curves, DSA) is left out.
pub(super) fn keys_of<'k>(ders: impl IntoIterator<Item = &'k [u8]>) -> KeysManager {
    let mut keys = KeysManager::new();
    keys.add_keys(ders.into_iter().filter_map(verification_key).take(KEYS_MAX));
    keys
}

/// A public key fit for verification.
pub(super) fn verification_key(der: &[u8]) -> Option<Key> {
    let key = loader::load_x509_cert_der(der).or_else(|_| loader::load_spki_der(der)).ok()?;
    match key.data.algorithm() {
        // 2048 bits as SubjectPublicKeyInfo are 294 bytes; 2040 bits are 293 at most.
        kryptering::KeyAlgorithm::Rsa if key.to_spki_der().is_some_and(|spki| spki.len() >= 294) => Some(key),
        kryptering::KeyAlgorithm::Ec(_) => Some(key),
        _ => None,
    }
}

/// Verifies the signature `signature`, child of `signed`, and that it covers exactly `signed`.
///
/// Every other signature of the document must already have passed [`check_shape`].
pub(super) fn verify(
    doc: &Document<'_>,
    source: &str,
    signature: NodeId,
    signed: NodeId,
    keys: &KeysManager,
) -> Result<(), SignatureFault> {
    check_shape(doc, signature, signed)?;
    if keys.is_empty() {
        return Err(SignatureFault::NoKey);
    }
    // Defaults: keys of ours only (KeyInfo ignored), strict positions, duplicate IDs refused, a digest required.
    let context = DsigContext::new(keys.clone());
    let results = bergshamra_dsig::verify::verify_all_document_with_source(&context, doc, Some(source))
        .map_err(|_| SignatureFault::Invalid)?;
    if results.iter().any(|result| covers(result, signature, signed)) { Ok(()) } else { Err(SignatureFault::Invalid) }
}

/// As [`verify`], for the first signature of a document that may hold others, unverified and unread (an aggregate of
/// signed entities).
pub(super) fn verify_first(
    doc: &Document<'_>,
    source: &str,
    signature: NodeId,
    signed: NodeId,
    keys: &KeysManager,
) -> Result<(), SignatureFault> {
    check_shape(doc, signature, signed)?;
    if keys.is_empty() {
        return Err(SignatureFault::NoKey);
    }
    let context = DsigContext::new(keys.clone());
    let result = bergshamra_dsig::verify::verify_document_with_source(&context, doc, Some(source))
        .map_err(|_| SignatureFault::Invalid)?;
    if covers(&result, signature, signed) { Ok(()) } else { Err(SignatureFault::Invalid) }
}

fn covers(result: &VerifyResult, signature: NodeId, signed: NodeId) -> bool {
    let VerifyResult::Valid { signature_node, references, .. } = result else { return false };
    let [reference] = references.as_slice() else { return false };
    *signature_node == signature && reference.digest_verified && reference.resolved_node == Some(signed)
}

/// One reference, to the parent's ID; enveloped-signature and exclusive C14N only; RSA or ECDSA with SHA-2; no object,
/// no manifest, nothing encrypted.
pub(super) fn check_shape(doc: &Document<'_>, signature: NodeId, signed: NodeId) -> Result<(), SignatureFault> {
    use SignatureFault::Shape;
    if doc.parent(signature) != Some(signed) {
        return Err(Shape);
    }
    let id = xml::attribute(doc, signed, "ID").filter(|id| is_id(id)).ok_or(Shape)?;
    let [info, value, rest @ ..] = &*ds_children(doc, signature)? else { return Err(Shape) };
    let well_named = info.1 == "SignedInfo" && value.1 == "SignatureValue";
    let key_info = match rest {
        [] => None,
        [(node, "KeyInfo")] => Some(*node),
        _ => return Err(Shape),
    };
    if !well_named || xml::text(doc, value.0).is_none_or(|text| text.is_empty()) {
        return Err(Shape);
    }
    // Keys in KeyInfo are ignored; ones to be unwrapped or fetched have no business here.
    if let Some(key_info) = key_info {
        for node in doc.descendants(key_info) {
            let Some(element) = doc.element(node) else { continue };
            if element.name.namespace_uri.as_deref() == Some(XENC) || &*element.name.local_name == "RetrievalMethod" {
                return Err(Shape);
            }
        }
    }
    let [canonical, method, reference] = &*ds_children(doc, info.0)? else { return Err(Shape) };
    if canonical.1 != "CanonicalizationMethod" || method.1 != "SignatureMethod" || reference.1 != "Reference" {
        return Err(Shape);
    }
    if xml::attribute(doc, canonical.0, "Algorithm") != Some(alg::EXC_C14N) || !only_prefix_list(doc, canonical.0) {
        return Err(Shape);
    }
    if xml::attribute(doc, reference.0, "URI").and_then(|uri| uri.strip_prefix('#')) != Some(id) {
        return Err(Shape);
    }
    let [transforms, digest, digest_value] = &*ds_children(doc, reference.0)? else { return Err(Shape) };
    if transforms.1 != "Transforms" || digest.1 != "DigestMethod" || digest_value.1 != "DigestValue" {
        return Err(Shape);
    }
    // A comment in it is dropped by C14N and read differently by readers (CVE-2025-29775).
    if xml::text(doc, digest_value.0).is_none_or(|text| text.is_empty()) {
        return Err(Shape);
    }
    check_transforms(doc, transforms.0)?;
    let signature_algorithm = xml::attribute(doc, method.0, "Algorithm").ok_or(Shape)?;
    let digest_algorithm = xml::attribute(doc, digest.0, "Algorithm").ok_or(Shape)?;
    if elements_of(doc, method.0) || elements_of(doc, digest.0) {
        return Err(Shape);
    }
    if !SIGNATURE_ALGORITHMS.contains(&signature_algorithm) || !DIGEST_ALGORITHMS.contains(&digest_algorithm) {
        return Err(SignatureFault::Algorithm);
    }
    // One signature has one spelling (RFC 4051 §2.3.6); kryptering would take DER, too, which libxmlsec1 refuses.
    let is_ecdsa = !signature_algorithm.contains("#rsa-");
    if is_ecdsa && !xml::text(doc, value.0).is_some_and(|text| is_pair(&text)) {
        return Err(SignatureFault::Invalid);
    }
    Ok(())
}

/// Whether a SignatureValue is `r || s` of P-256, P-384 or P-521.
fn is_pair(value: &str) -> bool {
    let bare: String = value.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(bare).is_ok_and(|bytes| matches!(bytes.len(), 64 | 96 | 132))
}

fn check_transforms(doc: &Document<'_>, transforms: NodeId) -> Result<(), SignatureFault> {
    let list = ds_children(doc, transforms)?;
    let mut algorithms = Vec::with_capacity(list.len());
    for (node, name) in &list {
        if *name != "Transform" || !only_prefix_list(doc, *node) {
            return Err(SignatureFault::Shape);
        }
        algorithms.push(xml::attribute(doc, *node, "Algorithm").unwrap_or_default());
    }
    match algorithms.as_slice() {
        [alg::ENVELOPED_SIGNATURE, alg::EXC_C14N] => Ok(()),
        _ => Err(SignatureFault::Shape),
    }
}

/// Whether the only child element, if any, is exclusive C14N's `InclusiveNamespaces`.
fn only_prefix_list(doc: &Document<'_>, node: NodeId) -> bool {
    let mut children = xml::elements(doc, node);
    let first = children.next();
    children.next().is_none() && first.is_none_or(|child| xml::is(doc, child, alg::EXC_C14N, "InclusiveNamespaces"))
}

fn elements_of(doc: &Document<'_>, node: NodeId) -> bool {
    xml::elements(doc, node).next().is_some()
}

/// Child elements with their names; all of them must be of XML Signature.
fn ds_children<'d>(doc: &'d Document<'_>, node: NodeId) -> Result<Vec<(NodeId, &'d str)>, SignatureFault> {
    xml::elements(doc, node)
        .map(|child| {
            let element = doc.element(child).ok_or(SignatureFault::Shape)?;
            let ours = element.name.namespace_uri.as_deref() == Some(DS);
            if ours { Ok((child, &*element.name.local_name)) } else { Err(SignatureFault::Shape) }
        })
        .collect()
}

/// An ID that means itself in a reference: no XPointer, no escapes.
pub(super) fn is_id(id: &str) -> bool {
    id.len() <= 256
        && id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// During a rollover an IdP has two or three.
const KEYS_MAX: usize = 8;

const SIGNATURE_ALGORITHMS: [&str; 6] =
    [alg::RSA_SHA256, alg::RSA_SHA384, alg::RSA_SHA512, alg::ECDSA_SHA256, alg::ECDSA_SHA384, alg::ECDSA_SHA512];

const DIGEST_ALGORITHMS: [&str; 3] = [alg::SHA256, alg::SHA384, alg::SHA512];
