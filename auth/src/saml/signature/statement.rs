//! What a signature states, apart from what it is about: the digest of a document that is too large for one tree.
//!
//! The shape is the one of every signature here ([`super::check_shape`]); its value is verified over the canonical
//! SignedInfo. Whoever holds a [`Statement`] digests the document as it says and asks [`Statement::check`].

use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA384, SHA512};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_c14n::{C14nMode, canonicalize_doc};
use bergshamra_core::algorithm as alg;
use bergshamra_keys::KeysManager;
use bergshamra_xml::NodeSet;
use kryptering::{HashAlgorithm, KeyAlgorithm, SignatureAlgorithm, SoftwareVerifier, Verifier as _};
use uppsala::{Document, NodeId};

use super::{
    super::xml::{self, DS},
    SignatureFault, check_shape,
};

/// That a document in exclusive canonical form, without the signature, has this digest. One of our keys said so.
#[derive(Debug)]
pub(in super::super) struct Statement {
    prefixes: Vec<String>,
    algorithm: &'static Algorithm,
    digest: Vec<u8>,
}

impl Statement {
    /// InclusiveNamespaces of the canonicalization.
    pub(in super::super) fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// What the canonical form goes into.
    pub(in super::super) fn digest(&self) -> Context {
        Context::new(self.algorithm)
    }

    /// Whether it is the stated one.
    pub(in super::super) fn check(&self, digest: Context) -> Result<(), SignatureFault> {
        if digest.finish().as_ref() == self.digest { Ok(()) } else { Err(SignatureFault::Invalid) }
    }
}

/// Verifies the value of `signature`, child of `signed`. Whether the digest it states is that of `signed` is still to be
/// checked.
pub(in super::super) fn verify_statement(
    doc: &Document<'_>,
    signature: NodeId,
    signed: NodeId,
    keys: &KeysManager,
) -> Result<Statement, SignatureFault> {
    check_shape(doc, signature, signed)?;
    if keys.is_empty() {
        return Err(SignatureFault::NoKey);
    }
    let child = |node, name| xml::children(doc, node, DS, name).next().ok_or(SignatureFault::Shape);
    let algorithm = |node| xml::attribute(doc, node, "Algorithm").ok_or(SignatureFault::Shape);
    let info = child(signature, "SignedInfo")?;
    let method = algorithm(child(info, "SignatureMethod")?)?;
    let reference = child(info, "Reference")?;
    let transforms = child(reference, "Transforms")?;
    let transform = xml::children(doc, transforms, DS, "Transform").last().ok_or(SignatureFault::Shape)?;
    let canonical_prefixes = prefixes(doc, child(info, "CanonicalizationMethod")?)?;
    let statement = Statement {
        prefixes: prefixes(doc, transform)?,
        algorithm: match algorithm(child(reference, "DigestMethod")?)? {
            alg::SHA256 => &SHA256,
            alg::SHA384 => &SHA384,
            alg::SHA512 => &SHA512,
            _ => return Err(SignatureFault::Algorithm),
        },
        digest: base64(doc, child(reference, "DigestValue")?)?,
    };
    let value = base64(doc, child(signature, "SignatureValue")?)?;
    let subtree = NodeSet::tree_without_comments(info, doc);
    let signed_bytes = canonicalize_doc(doc, C14nMode::Exclusive, Some(&subtree), &canonical_prefixes)
        .map_err(|_| SignatureFault::Invalid)?;
    let signed_by = |key: &bergshamra_keys::Key| {
        let algorithm = signature_algorithm(method, key.data.algorithm())?;
        let key = key.to_signing_key().ok().flatten()?;
        SoftwareVerifier::new(algorithm, key).and_then(|verifier| verifier.verify(&signed_bytes, &value)).ok()
    };
    if keys.keys().any(|key| signed_by(key) == Some(true)) { Ok(statement) } else { Err(SignatureFault::Invalid) }
}

/// The algorithm for a key of that kind; `None`: the method is for other keys, or none of ours.
fn signature_algorithm(method: &str, key: KeyAlgorithm) -> Option<SignatureAlgorithm> {
    let hash = match method {
        alg::RSA_SHA256 | alg::ECDSA_SHA256 => HashAlgorithm::Sha256,
        alg::RSA_SHA384 | alg::ECDSA_SHA384 => HashAlgorithm::Sha384,
        alg::RSA_SHA512 | alg::ECDSA_SHA512 => HashAlgorithm::Sha512,
        _ => return None,
    };
    match (method, key) {
        (alg::RSA_SHA256 | alg::RSA_SHA384 | alg::RSA_SHA512, KeyAlgorithm::Rsa) => {
            Some(SignatureAlgorithm::RsaPkcs1v15(hash))
        }
        (alg::ECDSA_SHA256 | alg::ECDSA_SHA384 | alg::ECDSA_SHA512, KeyAlgorithm::Ec(curve)) => {
            Some(SignatureAlgorithm::Ecdsa(curve, hash))
        }
        _ => None,
    }
}

/// PrefixList of InclusiveNamespaces, if there is one.
fn prefixes(doc: &Document<'_>, node: NodeId) -> Result<Vec<String>, SignatureFault> {
    let list = xml::children(doc, node, alg::EXC_C14N, "InclusiveNamespaces").next();
    let list = list.and_then(|list| xml::attribute(doc, list, "PrefixList")).unwrap_or_default();
    // Readers that take other characters for space, or for parts of names, would see another list.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._#".contains(&byte) || byte.is_ascii_whitespace();
    if !list.bytes().all(plain) {
        return Err(SignatureFault::Shape);
    }
    let prefixes: Vec<String> = list.split_ascii_whitespace().map(str::to_owned).collect();
    if prefixes.len() <= PREFIXES_MAX { Ok(prefixes) } else { Err(SignatureFault::Shape) }
}

fn base64(doc: &Document<'_>, node: NodeId) -> Result<Vec<u8>, SignatureFault> {
    let text = xml::text(doc, node).ok_or(SignatureFault::Shape)?;
    let bare: String = text.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(bare).map_err(|_| SignatureFault::Invalid)
}

/// Each is looked at with each element.
const PREFIXES_MAX: usize = 64;
