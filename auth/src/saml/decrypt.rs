//! Decryption of an `EncryptedAssertion`.
//!
//! The decryptor never reads the peer's element: what counts in it (algorithms, cipher values) is checked, and written
//! anew in one fixed shape. So a key placed beside the data (core §2.2.4 allows both places) is found, and key
//! agreement, derived keys, cipher references and named keys cannot be asked for.

use std::ops::Range;

use bergshamra_core::algorithm as alg;
use bergshamra_enc::EncContext;
use bergshamra_keys::KeysManager;
use uppsala::{Document, NodeId};

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
    templates: Vec<String>,
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
        let (method, cipher) = method_and_cipher(doc, data)?;
        let algorithm = xml::attribute(doc, method, "Algorithm").ok_or(Shape)?;
        if !GCM.contains(&algorithm) {
            if !CBC.contains(&algorithm) {
                return Err(DecryptFault::Algorithm);
            }
            if !authenticated {
                return Err(DecryptFault::Unauthenticated);
            }
        }
        let mut templates = Vec::with_capacity(keys.len());
        for key in keys {
            // A key meant for another recipient is no fault: IdPs may address several.
            if xml::attribute(doc, key, "Recipient").is_some_and(|recipient| recipient != our_entity_id) {
                continue;
            }
            templates.push(template(algorithm, &cipher, &read_key(doc, key)?));
        }
        if templates.is_empty() {
            return Err(DecryptFault::Undecryptable);
        }
        let place = doc.node_range(data).ok_or(Shape)?;
        Ok(Self { place, templates })
    }

    /// Tries each of our keys, newest first, and puts the plaintext where the ciphertext was. Returns the whole document
    /// and the place of the plaintext: namespace prefixes of outer elements may be used inside.
    pub(super) fn open(&self, source: &str, keys: &[KeysManager]) -> Result<(String, Range<usize>), DecryptFault> {
        let plaintext = self.plaintext(keys).ok_or(DecryptFault::Undecryptable)?;
        let plaintext = String::from_utf8(plaintext).map_err(|_| DecryptFault::Undecryptable)?;
        let plaintext = plaintext.trim_matches([' ', '\t', '\r', '\n']);
        let before = source.get(..self.place.start).ok_or(DecryptFault::Shape)?;
        let after = source.get(self.place.end..).ok_or(DecryptFault::Shape)?;
        let range = before.len()..before.len() + plaintext.len();
        Ok((format!("{before}{plaintext}{after}"), range))
    }

    fn plaintext(&self, keys: &[KeysManager]) -> Option<Vec<u8>> {
        // bergshamra takes the first RSA key it holds, so each of ours gets its own context.
        keys.iter().find_map(|key| {
            let context =
                EncContext::new(key.clone()).with_disable_cipher_reference(true).with_max_pbkdf2_iterations(0);
            self.templates.iter().find_map(|template| {
                bergshamra_enc::decrypt::decrypt_to_bytes(&context, template).ok().filter(|plain| !plain.is_empty())
            })
        })
    }
}

/// Runs one whole decryption, so that the first user does not wait for key set-up; also tells whether key and
/// certificate fit.
pub(super) fn rehearse(private: &KeysManager, public: &KeysManager) -> bool {
    let key = TransportedKey { algorithm: alg::RSA_OAEP.to_owned(), parameters: String::new(), cipher: String::new() };
    let empty = template(alg::AES128_GCM, "", &key);
    let Ok(sealed) = bergshamra_enc::encrypt::encrypt(&EncContext::new(public.clone()), &empty, b"rehearsal") else {
        return false;
    };
    bergshamra_enc::decrypt::decrypt_to_bytes(&EncContext::new(private.clone()), &sealed)
        .is_ok_and(|p| p == b"rehearsal")
}

struct TransportedKey {
    algorithm: String,
    parameters: String,
    cipher: String,
}

fn read_key(doc: &Document<'_>, key: NodeId) -> Result<TransportedKey, DecryptFault> {
    use DecryptFault::{Algorithm, Shape};
    let (method, cipher) = method_and_cipher(doc, key)?;
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
    let same = matches!(
        (algorithm, digest, mask),
        (alg::RSA_OAEP | alg::RSA_OAEP_ENC11, alg::SHA1, None | Some(alg::MGF1_SHA1))
            | (alg::RSA_OAEP_ENC11, alg::SHA256, Some(alg::MGF1_SHA256))
            | (alg::RSA_OAEP_ENC11, alg::SHA384, Some(alg::MGF1_SHA384))
            | (alg::RSA_OAEP_ENC11, alg::SHA512, Some(alg::MGF1_SHA512))
    );
    if !same {
        return Err(Algorithm);
    }
    let mask = mask.map(|mask| format!("<m:MGF xmlns:m=\"{XENC11}\" Algorithm=\"{mask}\"/>")).unwrap_or_default();
    let parameters = format!("<d:DigestMethod xmlns:d=\"{DS}\" Algorithm=\"{digest}\"/>{mask}");
    Ok(TransportedKey { algorithm: algorithm.to_owned(), parameters, cipher })
}

/// `EncryptionMethod` and the cipher value, bare base64.
fn method_and_cipher(doc: &Document<'_>, node: NodeId) -> Result<(NodeId, String), DecryptFault> {
    let only = |parent, local| xml::single(doc, parent, XENC, local).ok().flatten().ok_or(DecryptFault::Shape);
    let method = only(node, "EncryptionMethod")?;
    let value = only(only(node, "CipherData")?, "CipherValue")?;
    let mut cipher = xml::text(doc, value).ok_or(DecryptFault::Shape)?;
    cipher.retain(|c| !c.is_ascii_whitespace());
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
    if cipher.is_empty() || !cipher.bytes().all(legal) {
        return Err(DecryptFault::Shape);
    }
    Ok((method, cipher))
}

/// The one shape that the decryptor sees. The foreign `Type` makes it hand back bare bytes.
fn template(algorithm: &str, cipher: &str, key: &TransportedKey) -> String {
    let TransportedKey { algorithm: key_algorithm, parameters, cipher: key_cipher } = key;
    format!(
        "<e:EncryptedData xmlns:e=\"{XENC}\" Type=\"urn:guichet:bytes\"><e:EncryptionMethod Algorithm=\"{algorithm}\"/>\
         <k:KeyInfo xmlns:k=\"{DS}\"><e:EncryptedKey><e:EncryptionMethod Algorithm=\"{key_algorithm}\">{parameters}\
         </e:EncryptionMethod><e:CipherData><e:CipherValue>{key_cipher}</e:CipherValue></e:CipherData></e:EncryptedKey>\
         </k:KeyInfo><e:CipherData><e:CipherValue>{cipher}</e:CipherValue></e:CipherData></e:EncryptedData>"
    )
}

/// How many encrypted parts a document has.
pub(super) fn encrypted_parts(doc: &Document<'_>) -> usize {
    ["EncryptedData", "EncryptedKey"].map(|local| xml::everywhere(doc, XENC, local).len()).iter().sum()
}

const ELEMENT: &str = "http://www.w3.org/2001/04/xmlenc#Element";
const KEYS_MAX: usize = 8;
const GCM: [&str; 3] = [alg::AES128_GCM, alg::AES192_GCM, alg::AES256_GCM];
const CBC: [&str; 3] = [alg::AES128_CBC, alg::AES192_CBC, alg::AES256_CBC];
