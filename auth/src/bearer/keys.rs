//! A JSON Web Key Set (RFC 7517): the keys of one issuer, read once.
//!
//! Keys we have no use for (other types and curves, encryption) are left out, as RFC 7517 §5 asks; a key that we should
//! know and that is broken, private or shared is a problem of the file.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet_config::BearerAlgorithm;
use serde_json::{Map, Value};

use super::{TokenRefusal, json};

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

/// One of them.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    /// The one algorithm it verifies, so that no token can choose another one for it.
    algorithm: BearerAlgorithm,
    public: ParsedPublicKey,
}

impl Keys {
    /// Reads a key set. At least one key must be of use for `algorithms`.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn read(bytes: &[u8], algorithms: &[BearerAlgorithm]) -> Result<Self, String> {
        let set = json::object(bytes).map_err(|refusal| match refusal {
            TokenRefusal::RepeatedName => "a name stands twice in one of its objects".to_owned(),
            _ => "it is not a JSON object".to_owned(),
        })?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err("it is not a JSON Web Key Set: there is no array `keys`".to_owned());
        };
        if list.len() > KEYS_MAX {
            return Err(format!("it holds more than {KEYS_MAX} keys"));
        }
        let mut keys: Vec<Key> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let fault = |message: &str| format!("keys[{index}] {message}");
            let Value::Object(jwk) = value else { return Err(fault("is not an object")) };
            let Some(key) = Key::read(jwk).map_err(fault)? else { continue };
            if keys.iter().any(|other| (&other.kid, other.algorithm) == (&key.kid, key.algorithm)) {
                return Err(fault("has the `kid` of another key"));
            }
            keys.push(key);
        }
        keys.retain(|key| algorithms.contains(&key.algorithm));
        if keys.is_empty() {
            let names: Vec<&str> = algorithms.iter().map(|one| one.as_str()).collect();
            return Err(format!("it holds no key for {}", names.join(" or ")));
        }
        Ok(Self(keys))
    }

    /// The key that a token names. A token may name none where there is no choice.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: BearerAlgorithm) -> Option<&Key> {
        match (kid, self.0.as_slice()) {
            (None, [only]) => Some(only).filter(|key| key.algorithm == algorithm),
            (None, _) => None,
            (Some(_), keys) => keys.iter().find(|key| key.algorithm == algorithm && key.kid.as_deref() == kid),
        }
    }
}

impl Key {
    fn read(jwk: &Map<String, Value>) -> Result<Option<Self>, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        // RFC 7518 §6.2.2, §6.3.2, §6.4: members that are nobody's but the issuer's.
        if ["d", "p", "q", "k"].iter().any(|name| jwk.contains_key(*name)) {
            return Err("is a secret key: only public ones belong here");
        }
        let use_ = text("use").unwrap_or("sig");
        let verifies = match jwk.get("key_ops") {
            None => true,
            Some(Value::Array(operations)) => operations.iter().any(|one| one == "verify"),
            Some(_) => return Err("has a `key_ops` that is no array"),
        };
        let algorithm = match (text("kty"), text("crv"), text("alg")) {
            (Some("EC"), Some("P-256"), None | Some("ES256")) => BearerAlgorithm::Es256,
            (Some("RSA"), _, None | Some("RS256")) => BearerAlgorithm::Rs256,
            (Some(_), ..) => return Ok(None),
            (None, ..) => return Err("has no `kty`"),
        };
        if use_ != "sig" || !verifies {
            return Ok(None);
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err("has a `kid` that is no text"),
        };
        let bytes = |name: &str| {
            let text = text(name).ok_or("lacks a part of its kind of key")?;
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "has a part that is not base64url")
        };
        let public = match algorithm {
            BearerAlgorithm::Es256 => p256(&bytes("x")?, &bytes("y")?)?,
            BearerAlgorithm::Rs256 => rsa(&bytes("n")?, &bytes("e")?)?,
        };
        Ok(Some(Self { kid, algorithm, public }))
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

/// SEC 1 §2.3.4: an uncompressed point. aws-lc sees to it that the point is on the curve.
fn p256(x: &[u8], y: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    let not_a_point = "is no point of P-256";
    if (x.len(), y.len()) != (32, 32) {
        return Err(not_a_point);
    }
    let point = [&[4], x, y].concat();
    ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).map_err(|_| not_a_point)
}

fn rsa(n: &[u8], e: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err("is an RSA key of less than 2048 or more than 8192 bits");
    }
    // At least 65537 (NIST SP 800-56B), of a size that does not make verifying slow.
    let exponent = e.iter().try_fold(0_u32, |sum, byte| sum.checked_mul(256)?.checked_add(u32::from(*byte)));
    if exponent.is_none_or(|e| e < 65_537 || e.is_multiple_of(2)) {
        return Err("is an RSA key whose exponent cannot be used");
    }
    let components = RsaPublicKeyComponents { n, e };
    components.to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256).map_err(|_| "is no RSA key")
}

/// Issuers have a handful.
const KEYS_MAX: usize = 64;
