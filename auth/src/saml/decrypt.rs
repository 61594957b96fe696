//! Decryption of an `EncryptedAssertion`.
//!
//! What counts in the peer's element (algorithms, cipher values) is checked against allow-lists and taken out; the keys
//! and aws-lc do the rest. So a key placed beside the data (core §2.2.4 allows both places) is found, and key agreement,
//! derived keys, cipher references and named keys cannot be asked for.

use std::ops::Range;

use aws_lc_rs::{
    aead::{self, LessSafeKey, Nonce, UnboundKey},
    cipher::{self, DecryptingKey, DecryptionContext, UnboundCipherKey},
    rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
        OaepPrivateDecryptingKey,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use uppsala::{Document, NodeId};
use zeroize::Zeroizing;

use super::xml::{self, DS, XENC, XENC11};

/// Why an assertion is not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecryptFault {
    /// Not one EncryptedData with one to eight EncryptedKeys.
    Shape,
    /// An algorithm that is not accepted.
    Algorithm,
    /// CBC, and no signature vouches for the ciphertext: a padding oracle.
    Unauthenticated,
    /// No key of ours opens it.
    Undecryptable,
}

/// What an `EncryptedAssertion` holds, checked and ready to be tried with our keys.
pub(super) struct Sealed {
    place: Range<usize>,
    cipher: Cipher,
    data: Vec<u8>,
    keys: Vec<TransportedKey>,
}

/// What the assertion is encrypted with.
#[derive(Clone, Copy)]
enum Cipher {
    Gcm(&'static aead::Algorithm),
    Cbc(&'static cipher::Algorithm),
}

/// The assertion's key, encrypted for somebody.
struct TransportedKey {
    padding: &'static OaepAlgorithm,
    bytes: Vec<u8>,
}

impl Sealed {
    /// Reads and checks `node`. `authenticated` tells whether a valid signature covers the ciphertext.
    pub(super) fn read(
        doc: &Document<'_>,
        node: NodeId,
        our_entity_id: &str,
        authenticated: bool,
    ) -> Result<Self, DecryptFault> {
        use DecryptFault::Shape;
        let mut data = None;
        let mut keys = Vec::new();
        for child in xml::elements(doc, node) {
            if xml::is(doc, child, XENC, "EncryptedData") && data.is_none() {
                data = Some(child);
            } else if xml::is(doc, child, XENC, "EncryptedKey") {
                keys.push(child);
            } else {
                return Err(Shape);
            }
        }
        let data = data.ok_or(Shape)?;
        if xml::attribute(doc, data, "Type").is_some_and(|kind| kind != ELEMENT) {
            return Err(Shape);
        }
        if let Some(info) = xml::single(doc, data, DS, "KeyInfo").map_err(|()| Shape)? {
            keys.extend(xml::children(doc, info, XENC, "EncryptedKey"));
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(Shape);
        }
        let (method, bytes) = method_and_cipher(doc, data)?;
        let cipher = Cipher::named(xml::attribute(doc, method, "Algorithm").ok_or(Shape)?)?;
        if matches!(cipher, Cipher::Cbc(_)) && !authenticated {
            return Err(DecryptFault::Unauthenticated);
        }
        let mut ours = Vec::with_capacity(keys.len());
        for key in keys {
            // A key meant for another recipient is no fault: IdPs may address several.
            if xml::attribute(doc, key, "Recipient").is_some_and(|recipient| recipient != our_entity_id) {
                continue;
            }
            ours.push(read_key(doc, key)?);
        }
        if ours.is_empty() {
            return Err(DecryptFault::Undecryptable);
        }
        let place = doc.node_range(data).ok_or(Shape)?;
        Ok(Self { place, cipher, data: bytes, keys: ours })
    }

    /// Tries each of our keys, newest first, and puts the plaintext where the ciphertext was. Returns the whole document
    /// and the place of the plaintext: namespace prefixes of outer elements may be used inside.
    pub(super) fn open(
        &self,
        source: &str,
        keys: &[OaepPrivateDecryptingKey],
    ) -> Result<(String, Range<usize>), DecryptFault> {
        let plaintext = self.plaintext(keys).ok_or(DecryptFault::Undecryptable)?;
        let plaintext = std::str::from_utf8(&plaintext).map_err(|_| DecryptFault::Undecryptable)?;
        let plaintext = plaintext.trim_matches([' ', '\t', '\r', '\n']);
        let before = source.get(..self.place.start).ok_or(DecryptFault::Shape)?;
        let after = source.get(self.place.end..).ok_or(DecryptFault::Shape)?;
        let range = before.len()..before.len() + plaintext.len();
        Ok((format!("{before}{plaintext}{after}"), range))
    }

    fn plaintext(&self, ours: &[OaepPrivateDecryptingKey]) -> Option<Zeroizing<Vec<u8>>> {
        ours.iter().find_map(|key| {
            self.keys.iter().find_map(|sealed| {
                let session = sealed.open(key)?;
                self.cipher.open(&session, &self.data).filter(|plain| !plain.is_empty())
            })
        })
    }
}

impl Cipher {
    fn named(algorithm: &str) -> Result<Self, DecryptFault> {
        match algorithm {
            alg::AES128_GCM => Ok(Self::Gcm(&aead::AES_128_GCM)),
            alg::AES192_GCM => Ok(Self::Gcm(&aead::AES_192_GCM)),
            alg::AES256_GCM => Ok(Self::Gcm(&aead::AES_256_GCM)),
            alg::AES128_CBC => Ok(Self::Cbc(&cipher::AES_128)),
            alg::AES192_CBC => Ok(Self::Cbc(&cipher::AES_192)),
            alg::AES256_CBC => Ok(Self::Cbc(&cipher::AES_256)),
            _ => Err(DecryptFault::Algorithm),
        }
    }

    /// The initialisation vector stands before the ciphertext (xmlenc-core1 §5.2).
    fn open(self, key: &[u8], data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Gcm(algorithm) => {
                let (nonce, sealed) = data.split_at_checked(aead::NONCE_LEN)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
                let mut plain = Zeroizing::new(sealed.to_vec());
                let length = key.open_in_place(nonce, aead::Aad::empty(), &mut plain).ok()?.len();
                plain.truncate(length);
                Some(plain)
            }
            Self::Cbc(algorithm) => {
                let (iv, sealed) = data.split_at_checked(CBC_BLOCK)?;
                let iv: [u8; CBC_BLOCK] = iv.try_into().ok()?;
                let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
                let mut plain = Zeroizing::new(sealed.to_vec());
                let length = key.decrypt(&mut plain, DecryptionContext::Iv128(iv.into())).ok()?.len();
                // ISO 10126: only the last byte counts.
                let padding = usize::from(*plain.last()?);
                let length = length.checked_sub(padding).filter(|_| (1..=CBC_BLOCK).contains(&padding))?;
                plain.truncate(length);
                Some(plain)
            }
        }
    }
}

impl TransportedKey {
    fn open(&self, key: &OaepPrivateDecryptingKey) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
        let length = key.decrypt(self.padding, &self.bytes, &mut out, None).ok()?.len();
        out.truncate(length);
        Some(out)
    }
}

fn read_key(doc: &Document<'_>, key: NodeId) -> Result<TransportedKey, DecryptFault> {
    use DecryptFault::{Algorithm, Shape};
    let (method, bytes) = method_and_cipher(doc, key)?;
    let algorithm = xml::attribute(doc, method, "Algorithm").ok_or(Shape)?;
    let mut digest = alg::SHA1;
    let mut mask = None;
    for child in xml::elements(doc, method) {
        let value = xml::attribute(doc, child, "Algorithm").unwrap_or_default();
        if xml::is(doc, child, DS, "DigestMethod") {
            digest = value;
        } else if xml::is(doc, child, XENC11, "MGF") {
            mask = Some(value);
        } else {
            return Err(Algorithm);
        }
    }
    // With aws-lc digest and mask hash are the same one. `rsa-oaep-mgf1p` always masks with SHA-1 (xmlenc-core1 §5.5.2).
    let padding = match (algorithm, digest, mask) {
        (alg::RSA_OAEP | alg::RSA_OAEP_ENC11, alg::SHA1, None | Some(alg::MGF1_SHA1)) => &OAEP_SHA1_MGF1SHA1,
        (alg::RSA_OAEP_ENC11, alg::SHA256, Some(alg::MGF1_SHA256)) => &OAEP_SHA256_MGF1SHA256,
        (alg::RSA_OAEP_ENC11, alg::SHA384, Some(alg::MGF1_SHA384)) => &OAEP_SHA384_MGF1SHA384,
        (alg::RSA_OAEP_ENC11, alg::SHA512, Some(alg::MGF1_SHA512)) => &OAEP_SHA512_MGF1SHA512,
        _ => return Err(Algorithm),
    };
    Ok(TransportedKey { padding, bytes })
}

/// `EncryptionMethod` and the bytes of the cipher value.
fn method_and_cipher(doc: &Document<'_>, node: NodeId) -> Result<(NodeId, Vec<u8>), DecryptFault> {
    let only = |parent, local| xml::single(doc, parent, XENC, local).ok().flatten().ok_or(DecryptFault::Shape);
    let method = only(node, "EncryptionMethod")?;
    let value = only(only(node, "CipherData")?, "CipherValue")?;
    let mut cipher = xml::text(doc, value).ok_or(DecryptFault::Shape)?;
    cipher.retain(|c| !c.is_ascii_whitespace());
    let bytes = BASE64_STANDARD.decode(cipher).map_err(|_| DecryptFault::Shape)?;
    if bytes.is_empty() { Err(DecryptFault::Shape) } else { Ok((method, bytes)) }
}

const ELEMENT: &str = "http://www.w3.org/2001/04/xmlenc#Element";
const KEYS_MAX: usize = 8;
const CBC_BLOCK: usize = 16;
