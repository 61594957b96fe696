//! HTTP-Redirect (bindings §3.4): a message in a query, deflated, its signature detached over the octets as sent.
//!
//! What is verified are the octets that came, never a query written anew. The binding leaves the order of parameters open;
//! here they stand as they are signed, which is how every IdP in use sends them: one message has one spelling.

use std::io::Write as _;

use aws_lc_rs::signature::{self as lc, UnparsedPublicKey, VerificationAlgorithm};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use flate2::{Decompress, FlushDecompress, Status};
use url::form_urlencoded;
use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use super::{
    keys::OurKey,
    signature::{self, SignatureFault},
};

/// A message taken out of a query. Nothing is verified yet.
#[derive(Debug)]
pub(super) struct Redirected {
    /// Parameter that held the message: [`REQUEST`] or [`RESPONSE`].
    pub(super) parameter: &'static str,
    /// The message.
    pub(super) document: String,
    /// RelayState, decoded.
    pub(super) relay_state: Option<String>,
    /// The signature; `None`: there is none.
    pub(super) detached: Option<Detached>,
}

/// A signature over octets.
#[derive(Debug)]
pub(super) struct Detached {
    /// What is signed, as it came.
    signed: String,
    /// URI.
    algorithm: String,
    value: Vec<u8>,
}

/// Why a query holds no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RedirectFault {
    /// Another parameter, one twice, one missing, or another order.
    Parameters,
    /// Percent signs, base64 or UTF-8 are broken.
    Encoding,
    /// Not a whole DEFLATE stream, or something behind it.
    Deflate,
    /// Over [`MESSAGE_BYTES_MAX`].
    TooLarge,
}

/// Takes apart a raw query, without its `?`.
pub(super) fn decode(query: &str) -> Result<Redirected, RedirectFault> {
    use RedirectFault::{Encoding, Parameters, TooLarge};
    if query.len() > QUERY_BYTES_MAX {
        return Err(TooLarge);
    }
    let mut parts = query.split('&').peekable();
    let message = parts.next().and_then(|part| part.split_once('=')).ok_or(Parameters)?;
    let parameter = [REQUEST, RESPONSE].into_iter().find(|name| *name == message.0).ok_or(Parameters)?;
    let mut take = |name: &str| {
        let value = parts.peek().and_then(|part| part.strip_prefix(name)?.strip_prefix('='))?;
        parts.next();
        Some(value)
    };
    let (relay_state, algorithm, value) = (take("RelayState"), take("SigAlg"), take("Signature"));
    if parts.next().is_some() {
        return Err(Parameters);
    }
    let detached = match (algorithm, value) {
        (None, None) => None,
        (Some(algorithm), Some(value)) => {
            let end = query.rfind("&Signature=").ok_or(Parameters)?;
            Some(Detached {
                signed: query.get(..end).ok_or(Parameters)?.to_owned(),
                algorithm: decoded(algorithm)?,
                value: base64(&decoded(value)?)?,
            })
        }
        _ => return Err(Parameters),
    };
    let document = String::from_utf8(inflate(&base64(&decoded(message.1)?)?)?).map_err(|_| Encoding)?;
    let relay_state = relay_state.map(decoded).transpose()?;
    Ok(Redirected { parameter, document, relay_state, detached })
}

impl Detached {
    /// The octets it is over.
    #[cfg(any(test, feature = "properties"))]
    pub(super) fn signed(&self) -> &str {
        &self.signed
    }

    /// Verifies it with one of the keys (DER certificates).
    pub(super) fn verify<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Result<(), SignatureFault> {
        let algorithms = algorithms(&self.algorithm).ok_or(SignatureFault::Algorithm)?;
        let keys: Vec<Vec<u8>> = keys.into_iter().filter_map(public_key).take(KEYS_MAX).collect();
        if keys.is_empty() {
            return Err(SignatureFault::NoKey);
        }
        let holds = |key: &[u8], algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, key).verify(self.signed.as_bytes(), &self.value).is_ok()
        };
        // A key of another type is refused by the library: it cannot be read as one of this algorithm.
        let valid = keys.iter().any(|key| algorithms.iter().any(|algorithm| holds(key, *algorithm)));
        if valid { Ok(()) } else { Err(SignatureFault::Invalid) }
    }
}

/// The URL that carries `document` to `destination`, signed.
pub(super) fn encode(
    key: &OurKey,
    destination: &str,
    parameter: &'static str,
    document: &str,
    relay_state: &str,
) -> Result<String, &'static str> {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    let deflated = deflate
        .write_all(document.as_bytes())
        .and_then(|()| deflate.finish())
        .map_err(|_| "the message cannot be compressed")?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(parameter, &BASE64_STANDARD.encode(deflated));
    if !relay_state.is_empty() {
        query.append_pair("RelayState", relay_state);
    }
    query.append_pair("SigAlg", key.signature_algorithm());
    let query = query.finish();
    let value = key.sign(query.as_bytes()).map_err(|_| "signing failed")?;
    let signature = form_urlencoded::Serializer::new(String::new())
        .append_pair("Signature", &BASE64_STANDARD.encode(value))
        .finish();
    let joint = if destination.contains('?') { '&' } else { '?' };
    Ok(format!("{destination}{joint}{query}&{signature}"))
}

/// Percent signs and plus signs of a value, strictly.
fn decoded(value: &str) -> Result<String, RedirectFault> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(), digit());
                let value = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                value.ok_or(RedirectFault::Encoding)?
            }
            b'+' => b' ',
            byte if byte.is_ascii_graphic() => byte,
            _ => return Err(RedirectFault::Encoding),
        });
    }
    String::from_utf8(out).map_err(|_| RedirectFault::Encoding)
}

/// Some encoders break lines; nothing else than base64 is skipped.
fn base64(text: &str) -> Result<Vec<u8>, RedirectFault> {
    let bare: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    BASE64_STANDARD.decode(bare).map_err(|_| RedirectFault::Encoding)
}

/// A whole DEFLATE stream (RFC 1951) and nothing behind it. It is never inflated beyond the bound.
fn inflate(deflated: &[u8]) -> Result<Vec<u8>, RedirectFault> {
    let mut out = Vec::with_capacity(MESSAGE_BYTES_MAX + 1);
    let mut stream = Decompress::new(false);
    let status = stream.decompress_vec(deflated, &mut out, FlushDecompress::Finish);
    match status {
        _ if out.len() > MESSAGE_BYTES_MAX => Err(RedirectFault::TooLarge),
        Ok(Status::StreamEnd) if stream.total_in() == deflated.len() as u64 => Ok(out),
        _ => Err(RedirectFault::Deflate),
    }
}

/// SubjectPublicKey of a certificate whose key is fit for verification.
fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let spki = signature::verification_key(der)?.to_spki_der()?;
    let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
    Some(spki.subject_public_key.data.to_vec())
}

/// What may verify a signature of this URI. ECDSA values come as `r || s` (RFC 4051 §2.3.6), and as DER from products that
/// hand on what their library gives (OpenSAML).
fn algorithms(uri: &str) -> Option<&'static [&'static dyn VerificationAlgorithm]> {
    Some(match uri {
        alg::RSA_SHA256 => &[&lc::RSA_PKCS1_2048_8192_SHA256],
        alg::RSA_SHA384 => &[&lc::RSA_PKCS1_2048_8192_SHA384],
        alg::RSA_SHA512 => &[&lc::RSA_PKCS1_2048_8192_SHA512],
        alg::ECDSA_SHA256 => &[
            &lc::ECDSA_P256_SHA256_FIXED,
            &lc::ECDSA_P256_SHA256_ASN1,
            &lc::ECDSA_P384_SHA256_ASN1,
            &lc::ECDSA_P521_SHA256_FIXED,
            &lc::ECDSA_P521_SHA256_ASN1,
        ],
        alg::ECDSA_SHA384 => &[
            &lc::ECDSA_P384_SHA384_FIXED,
            &lc::ECDSA_P384_SHA384_ASN1,
            &lc::ECDSA_P256_SHA384_ASN1,
            &lc::ECDSA_P521_SHA384_FIXED,
            &lc::ECDSA_P521_SHA384_ASN1,
        ],
        alg::ECDSA_SHA512 => &[
            &lc::ECDSA_P521_SHA512_FIXED,
            &lc::ECDSA_P521_SHA512_ASN1,
            &lc::ECDSA_P256_SHA512_ASN1,
            &lc::ECDSA_P384_SHA512_ASN1,
        ],
        _ => return None,
    })
}

/// Parameter of a request.
pub(super) const REQUEST: &str = "SAMLRequest";
/// Parameter of a response.
pub(super) const RESPONSE: &str = "SAMLResponse";

/// A logout message, inflated. Real ones are below 4 KiB, below 16 KiB with a signature and an encrypted name.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Web servers take 8 to 16 KiB of a request line.
const QUERY_BYTES_MAX: usize = 16 * 1024;

/// As for enveloped signatures.
const KEYS_MAX: usize = 8;
