//! Our own key pairs: read from PEM, checked against their certificates, ready to sign and to decrypt.

use std::{fmt, path::Path};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey},
    signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair},
};
use bergshamra_core::algorithm as alg;
use bergshamra_keys::{Key, KeyData, KeyUsage, KeysManager};
use guichet_config::CertificateFiles;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::WallTime;

/// A private key with the certificate we publish for it.
pub(super) struct OurKey {
    /// DER.
    pub(super) certificate: Vec<u8>,
    /// The private key, as bergshamra takes it.
    pub(super) manager: KeysManager,
    pair: Pair,
    not_after: WallTime,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    EcdsaP256(Box<EcdsaKeyPair>),
}

impl fmt::Debug for OurKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // bergshamra's keys print their private parts.
        f.debug_struct("OurKey").field("algorithm", &self.signature_algorithm()).finish_non_exhaustive()
    }
}

impl OurKey {
    /// Reads a pair and checks that it is one.
    ///
    /// # Errors
    /// `(what, sentence)`: `certificate` or `key_file`, and what is wrong with it.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, (&'static str, String)> {
        let certificate = read_certificate(&files.certificate).map_err(|message| ("certificate", message))?;
        let private = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|_| ("key_file", format!("{} is not a readable PEM private key", files.key.display())))?;
        let (pair, pkcs8) = load(&private).map_err(|message| ("key_file", message.to_owned()))?;
        let public = match &pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::EcdsaP256(pair) => pair.public_key().as_ref(),
        };
        if public_key_of(&certificate).as_deref() != Some(public) {
            return Err(("key_file", "the key does not belong to the certificate".to_owned()));
        }
        let algorithm = match &pair {
            Pair::Rsa(_) => kryptering::KeyAlgorithm::Rsa,
            Pair::EcdsaP256(_) => kryptering::KeyAlgorithm::Ec(kryptering::EcCurve::P256),
        };
        let data = KeyData::from_pkcs8_der(algorithm, &pkcs8)
            .map_err(|_| ("key_file", "the key cannot be used".to_owned()))?;
        let mut manager = KeysManager::new();
        manager.add_key(Key::new(data, KeyUsage::Any));
        let not_after = not_after_of(&certificate).unwrap_or_default();
        Ok(Self { certificate, manager, pair, not_after })
    }

    /// End of the certificate's validity.
    pub(super) fn not_after(&self) -> WallTime {
        self.not_after
    }

    /// The key that opens what was encrypted for the certificate; only RSA can be asked to. It opens something once, so
    /// that the first user does not wait for key set-up.
    pub(super) fn decryption_key(&self) -> Option<OaepPrivateDecryptingKey> {
        let Pair::Rsa(pair) = &self.pair else { return None };
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&**pair).ok()?;
        let private = PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref()).ok()?;
        let public = OaepPublicEncryptingKey::new(private.public_key()).ok()?;
        let private = OaepPrivateDecryptingKey::new(private).ok()?;
        let (mut sealed, mut opened) = (vec![0; public.ciphertext_size()], vec![0; private.min_output_size()]);
        let sealed = public.encrypt(&OAEP_SHA1_MGF1SHA1, b"rehearsal", &mut sealed, None).ok()?;
        let opened = private.decrypt(&OAEP_SHA1_MGF1SHA1, sealed, &mut opened, None).ok()?;
        (*opened == *b"rehearsal").then_some(private)
    }

    /// Algorithm URI of [`Self::sign`].
    pub(super) fn signature_algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => alg::RSA_SHA256,
            Pair::EcdsaP256(_) => alg::ECDSA_SHA256,
        }
    }

    /// Signs bytes: PKCS#1 v1.5, or ECDSA as `r || s` (RFC 4051 §2.3.6).
    ///
    /// # Errors
    /// The library refused.
    pub(super) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, bytes, &mut out)?;
                Ok(out)
            }
            Pair::EcdsaP256(pair) => Ok(pair.sign(&random, bytes)?.as_ref().to_vec()),
        }
    }
}

/// The key pair and its PKCS#8 form, from PKCS#8, PKCS#1 or SEC 1.
fn load(private: &PrivateKeyDer<'_>) -> Result<(Pair, zeroize::Zeroizing<Vec<u8>>), &'static str> {
    let der = private.secret_der();
    let rsa = match private {
        PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der).ok(),
        _ => RsaKeyPair::from_pkcs8(der).ok(),
    };
    if let Some(pair) = rsa {
        if pair.public_modulus_len() < RSA_BYTES_MIN {
            return Err("the RSA key is shorter than 2048 bits");
        }
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| "the key cannot be used")?;
        return Ok((Pair::Rsa(Box::new(pair)), zeroize::Zeroizing::new(pkcs8.as_ref().to_vec())));
    }
    let pair = EcdsaKeyPair::from_private_key_der(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, der)
        .map_err(|_| "only RSA (2048 bits or more) and ECDSA P-256 keys can be used")?;
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| "the key cannot be used")?;
    let pkcs8 = zeroize::Zeroizing::new(pkcs8.as_ref().to_vec());
    Ok((Pair::EcdsaP256(Box::new(pair)), pkcs8))
}

fn read_certificate(path: &Path) -> Result<Vec<u8>, String> {
    let certificate = CertificateDer::from_pem_file(path)
        .map_err(|_| format!("{} is not a readable PEM certificate", path.display()))?;
    Ok(certificate.as_ref().to_vec())
}

/// The bits of SubjectPublicKey: PKCS#1 for RSA, the uncompressed point for ECDSA.
fn public_key_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

/// A certificate of before 1970 has ended, too.
fn not_after_of(certificate: &[u8]) -> Option<WallTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(WallTime(seconds.saturating_mul(1000)))
}

const RSA_BYTES_MIN: usize = 256;
