//! The HTTP-Redirect binding: a message in a query, deflated, with a detached signature (bindings §3.4.4.1).

use std::io::{Read as _, Write as _};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use url::form_urlencoded;

use super::SamlError;
use crate::world::pki::Pair;

/// Which field of the query holds the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `SAMLRequest`
    Request,
    /// `SAMLResponse`
    Response,
}

/// The document of a query's field.
///
/// # Errors
/// Not base64 of deflated text, or longer than any message.
pub fn inflate(field: &str) -> Result<String, SamlError> {
    let deflated = STANDARD.decode(field).map_err(|_| SamlError("the message is not base64".to_owned()))?;
    let mut xml = String::new();
    DeflateDecoder::new(deflated.as_slice())
        .take(MESSAGE_MAX)
        .read_to_string(&mut xml)
        .map_err(|_| SamlError("the message is not deflated text".to_owned()))?;
    Ok(xml)
}

/// The URL that brings a signed message to `destination`.
///
/// # Errors
/// The key cannot be used.
pub fn signed_url(
    destination: &str,
    field: Field,
    xml: &str,
    relay_state: &str,
    signing: &Pair,
) -> Result<String, SamlError> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let deflated = encoder.write_all(xml.as_bytes()).and_then(|()| encoder.finish());
    let deflated = deflated.map_err(|error| SamlError::from_display("deflating", error))?;
    let name = match field {
        Field::Request => "SAMLRequest",
        Field::Response => "SAMLResponse",
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(name, &STANDARD.encode(deflated));
    if !relay_state.is_empty() {
        query.append_pair("RelayState", relay_state);
    }
    query.append_pair("SigAlg", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256");
    let query = query.finish();
    let key = PrivateKeyDer::from_pem_slice(signing.key.as_bytes())
        .map_err(|error| SamlError::from_display("the signing key", error))?;
    let key = RsaKeyPair::from_pkcs8(key.secret_der()).map_err(|error| SamlError::from_display("the key", error))?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), query.as_bytes(), &mut signature)
        .map_err(|error| SamlError::from_display("signing", error))?;
    let signature: String =
        form_urlencoded::Serializer::new(String::new()).append_pair("Signature", &STANDARD.encode(signature)).finish();
    Ok(format!("{destination}?{query}&{signature}"))
}

const MESSAGE_MAX: u64 = 64 * 1024;
