//! Strict base64 (RFC 4648 §4). A lenient reader would let one credential have several spellings.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::SaslError;

/// Reads one message. `=` is the empty message (RFC 4954 §4); older programs send it behind a challenge too.
pub(super) fn decode(line: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    if line == b"=" {
        return Ok(Zeroizing::default());
    }
    // The engine refuses missing padding, trailing bits and any other byte.
    let mut message = Zeroizing::new(vec![0; line.len()]);
    let length = STANDARD.decode_slice(line, &mut message).map_err(|_| SaslError::Base64)?;
    message.truncate(length);
    Ok(message)
}

/// Writes one message, without line end. The buffer never grows, so that no copy is left behind.
pub(super) fn encode(message: &[u8]) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(message.len().div_ceil(3) * 4));
    STANDARD.encode_string(message, &mut encoded);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_strict() {
        for line in
            [&b"AGEAYg"[..], b"AGEAYg=", b"AGEAYh==", b"AGE AYg==", b"AGEAYg==\r", b"AGEAYg==x", b"*", b"AGE-AYg="]
        {
            assert_eq!(decode(line).unwrap_err(), SaslError::Base64, "{}", line.escape_ascii());
        }
        assert_eq!(decode(b"AGEAYg==").unwrap().as_slice(), b"\0a\0b");
        assert!(decode(b"=").unwrap().is_empty() && decode(b"").unwrap().is_empty());
    }
}
