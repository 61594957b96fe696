//! SASL messages: strict base64, PLAIN (RFC 4616).

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::SecretText;

/// Longest line that carries a SASL message, bytes (RFC 9051 names no bound, RFC 4954 §4 asks for 12,288).
pub const LINE_BYTES_MAX: usize = 12_288;

/// A SASL message that cannot be read. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// Not base64 as RFC 4648 §4 wants it: padded, no stray bits, nothing else.
    #[error("not valid base64")]
    Base64,
    /// PLAIN wants exactly two NULs, and none inside the three parts.
    #[error("not a PLAIN message")]
    Plain,
}

/// What a PLAIN message says.
#[derive(Debug)]
pub struct Plain {
    /// As whom the client wants to act, when it is not empty and not the authcid.
    pub authzid: Option<String>,
    /// Whose credential it is.
    pub authcid: String,
    /// The credential.
    pub password: SecretText,
}

/// Reads a base64 line as a PLAIN message. `=` is the empty message (RFC 9051 §6.2.2), hence no PLAIN.
///
/// # Errors
/// [`SaslError`], whatever is wrong costs only this message.
pub fn decode_plain(line: &[u8]) -> Result<Plain, SaslError> {
    let message = decode_base64(line)?;
    let mut parts = message.split(|byte| *byte == 0);
    let (Some(authzid), Some(authcid), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Plain);
    };
    let authzid = (!authzid.is_empty() && authzid != authcid).then(|| text(authzid));
    Ok(Plain { authzid, authcid: text(authcid), password: SecretText::new(text(password)) })
}

/// A PLAIN message in base64, without line end. The caller keeps NUL out of the three parts.
pub fn encode_plain(authzid: Option<&str>, authcid: &str, password: &SecretText) -> Zeroizing<String> {
    let authzid = authzid.unwrap_or_default();
    let password = password.expose();
    let mut message = Zeroizing::new(Vec::with_capacity(authzid.len() + authcid.len() + password.len() + 2));
    message.extend_from_slice(authzid.as_bytes());
    message.push(0);
    message.extend_from_slice(authcid.as_bytes());
    message.push(0);
    message.extend_from_slice(password.as_bytes());
    let mut encoded = Zeroizing::new(String::with_capacity(message.len().div_ceil(3) * 4));
    STANDARD.encode_string(message.as_slice(), &mut encoded);
    encoded
}

/// Text of a name or password: UTF-8, else Latin-1, which old programs still send for accented passwords.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            // Two bytes of UTF-8 hold any Latin-1 character: no growth leaves a copy of a password behind.
            let mut text = String::with_capacity(bytes.len() * 2);
            text.extend(bytes.iter().map(|byte| char::from(*byte)));
            text
        }
    }
}

fn decode_base64(line: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    if line == b"=" {
        return Ok(Zeroizing::default());
    }
    // The engine refuses missing padding, trailing bits and any other byte.
    let mut message = Zeroizing::new(vec![0; line.len()]);
    let length = STANDARD.decode_slice(line, &mut message).map_err(|_| SaslError::Base64)?;
    message.truncate(length);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(message: &[u8]) -> Result<Plain, SaslError> {
        decode_plain(STANDARD.encode(message).as_bytes())
    }

    #[test]
    fn plain_without_authzid_is_read() {
        let plain = decode_plain(b"AGFsaWNlQHguZnIAc2VjcmV0").unwrap();
        assert_eq!(plain.authzid, None);
        assert_eq!(plain.authcid, "alice@x.fr");
        assert_eq!(plain.password.expose(), "secret");
    }

    #[test]
    fn authzid_is_carried_only_when_it_differs() {
        assert_eq!(decoded(b"bob\0alice\0s").unwrap().authzid.as_deref(), Some("bob"));
        assert_eq!(decoded(b"alice\0alice\0s").unwrap().authzid, None);
    }

    #[test]
    fn base64_is_strict() {
        for line in
            [&b"AGEAYg"[..], b"AGEAYg=", b"AGEAYh==", b"AGE AYg==", b"AGEAYg==\r", b"AGEAYg==x", b"*", b"AGE-AYg="]
        {
            assert_eq!(decode_plain(line).unwrap_err(), SaslError::Base64, "{}", line.escape_ascii());
        }
        assert!(decode_plain(b"AGEAYg==").is_ok());
    }

    #[test]
    fn plain_wants_exactly_two_nuls() {
        for message in [&b""[..], b"a", b"a\0b", b"a\0b\0c\0", b"a\0b\0c\0d"] {
            assert_eq!(decoded(message).unwrap_err(), SaslError::Plain);
        }
        assert_eq!(decode_plain(b"=").unwrap_err(), SaslError::Plain);
        assert_eq!(decode_plain(b"").unwrap_err(), SaslError::Plain);
    }

    #[test]
    fn latin_1_password_becomes_utf_8() {
        assert_eq!(decoded(b"\0a\0\xe9t\xe9").unwrap().password.expose(), "été");
        assert_eq!(decoded("\0a\0été".as_bytes()).unwrap().password.expose(), "été");
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", decoded(b"\0a\0hunter2").unwrap()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn encoding_then_decoding_is_identity(authzid in "[^\0]{0,20}", authcid in "[^\0]{1,20}", password in "[^\0]{0,40}") {
            let line = encode_plain(Some(&authzid), &authcid, &SecretText::new(password.clone()));
            let plain = decode_plain(line.as_bytes()).unwrap();
            prop_assert_eq!(plain.authzid, (!authzid.is_empty() && authzid != authcid).then_some(authzid));
            prop_assert_eq!(plain.authcid, authcid);
            prop_assert_eq!(plain.password.expose(), password);
        }
    }
}
