//! PLAIN (RFC 4616), read and written.

use zeroize::Zeroizing;

use crate::SecretText;

use super::{SaslError, base64};

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
    of_message(&base64::decode(line)?)
}

/// The same, from its bytes.
pub(super) fn of_message(message: &[u8]) -> Result<Plain, SaslError> {
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
    base64::encode(&message)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(message: &[u8]) -> Result<Plain, SaslError> {
        decode_plain(base64::encode(message).as_bytes())
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
