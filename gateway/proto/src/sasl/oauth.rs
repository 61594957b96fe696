//! XOAUTH2 (as the large providers document it) and OAUTHBEARER (RFC 7628): `key=value` pairs between ^A.

use crate::{Credential, LoginRequest, Mechanism, SecretText};

use super::SaslError;

const SEPARATOR: u8 = 1;

/// Why a token did not do, for programs that fetch a new one then: `{"status":"401","schemes":"bearer"}` in base64.
pub(super) const XOAUTH2_FAILURE: &str = "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=";
/// The same by RFC 7628 §3.2.2: `{"status":"invalid_token"}` in base64.
pub(super) const OAUTHBEARER_FAILURE: &str = "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=";

/// `user=` name ^A `auth=Bearer` token ^A ^A. The name is required: a token may be opaque.
pub(super) fn decode_xoauth2(message: &[u8]) -> Result<LoginRequest, SaslError> {
    let pairs = pairs(message)?;
    let username = value(&pairs, "user")?.filter(|name| !name.is_empty()).ok_or(SaslError::Token)?;
    request(Mechanism::XOAuth2, username.to_owned(), &pairs)
}

/// GS2 header with `a=` name, then pairs. Without a name the token must tell whose it is.
pub(super) fn decode_oauthbearer(message: &[u8]) -> Result<LoginRequest, SaslError> {
    let at = message.iter().position(|byte| *byte == SEPARATOR).ok_or(SaslError::Token)?;
    let (header, rest) = message.split_at_checked(at + 1).ok_or(SaslError::Token)?;
    let header = header.split_last().map(|(_, header)| header).ok_or(SaslError::Token)?;
    let header = std::str::from_utf8(header).map_err(|_| SaslError::Token)?;
    // RFC 5801 §4: no channel binding (`n`), or none that the client knows us to offer (`y`).
    let authzid = header.strip_prefix("n,").or(header.strip_prefix("y,")).and_then(|rest| rest.strip_suffix(','));
    let username = match authzid.ok_or(SaslError::Token)? {
        "" => String::new(),
        named => saslname(named.strip_prefix("a=").ok_or(SaslError::Token)?)?,
    };
    request(Mechanism::OAuthBearer, username, &pairs(rest)?)
}

type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// `key=value` ^A … ^A. What host and port say is the client's belief, and ignored.
fn pairs(bytes: &[u8]) -> Result<Pairs<'_>, SaslError> {
    const PAIRS_MAX: usize = 16;
    let text = std::str::from_utf8(bytes).map_err(|_| SaslError::Token)?;
    let body = text.strip_suffix("\u{1}\u{1}").ok_or(SaslError::Token)?;
    let pairs: Option<Pairs<'_>> = body.split('\u{1}').take(PAIRS_MAX + 1).map(|pair| pair.split_once('=')).collect();
    pairs.filter(|pairs| pairs.len() <= PAIRS_MAX).ok_or(SaslError::Token)
}

/// The value of a key, which may stand there once: two could be read differently by two readers.
fn value<'a>(pairs: &Pairs<'a>, key: &str) -> Result<Option<&'a str>, SaslError> {
    let mut values = pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| *value);
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        _ => Err(SaslError::Token),
    }
}

fn request(mechanism: Mechanism, username: String, pairs: &Pairs<'_>) -> Result<LoginRequest, SaslError> {
    let auth = value(pairs, "auth")?.ok_or(SaslError::Token)?;
    let (scheme, token) = auth.split_once(' ').ok_or(SaslError::Token)?;
    // RFC 6749 A.12: a token is of visible characters. RFC 6750 §2.1 has fewer, but what issuers hand out is wider.
    if !scheme.eq_ignore_ascii_case("bearer") || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SaslError::Token);
    }
    let credential = Credential::Token(SecretText::new(token.to_owned()));
    Ok(LoginRequest { mechanism, username, credential, authzid: None })
}

/// RFC 5801 §4: `=2C` is a comma, `=3D` an equals sign, and nothing else is escaped.
fn saslname(text: &str) -> Result<String, SaslError> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return Err(SaslError::Token),
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.is_empty() || text.contains(',') { Err(SaslError::Token) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(login: Result<LoginRequest, SaslError>) -> Option<(String, String)> {
        let login = login.ok()?;
        let Credential::Token(token) = &login.credential else { panic!("a token") };
        Some((login.username.clone(), token.expose().to_owned()))
    }

    fn some(username: &str, token: &str) -> Option<(String, String)> {
        Some((username.to_owned(), token.to_owned()))
    }

    #[test]
    fn xoauth2_names_user_and_token() {
        assert_eq!(
            read(decode_xoauth2(b"user=alice@x.fr\x01auth=Bearer ya29.a-b_c\x01\x01")),
            some("alice@x.fr", "ya29.a-b_c")
        );
        assert_eq!(read(decode_xoauth2(b"user=a=b\x01auth=bearer t==\x01\x01")), some("a=b", "t=="));
        for message in [
            &b""[..],
            b"\x01",
            b"user=alice\x01auth=Bearer t",
            b"user=alice\x01auth=Bearer t\x01",
            b"user=\x01auth=Bearer t\x01\x01",
            b"auth=Bearer t\x01\x01",
            b"user=alice\x01\x01",
            b"user=alice\x01auth=Basic t\x01\x01",
            b"user=alice\x01auth=Bearer\x01\x01",
            b"user=alice\x01auth=Bearer a b\x01\x01",
            b"user=alice\x01user=bob\x01auth=Bearer t\x01\x01",
            b"user=alice\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
            b"user=al\xffice\x01auth=Bearer t\x01\x01",
            b"user=alice\x01auth=Bearer t\x01\x01\x01",
        ] {
            assert_eq!(read(decode_xoauth2(message)), None, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn oauthbearer_as_in_rfc_7628_section_4() {
        let example = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        assert_eq!(
            read(decode_oauthbearer(example)),
            some("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
        );
        assert_eq!(read(decode_oauthbearer(b"y,,\x01auth=Bearer t\x01\x01")), some("", "t"));
        assert_eq!(read(decode_oauthbearer(b"n,a=a=2Cb=3D,\x01auth=Bearer t\x01\x01")), some("a,b=", "t"));
        for message in [
            &b""[..],
            b"\x01",
            b"n,,",
            b"n,a=x\x01auth=Bearer t\x01\x01",
            b"p=tls-unique,,\x01auth=Bearer t\x01\x01",
            b"n,a=,\x01auth=Bearer t\x01\x01",
            b"n,x=y,\x01auth=Bearer t\x01\x01",
            b"n,a=x=2Z,\x01auth=Bearer t\x01\x01",
            b"n,a=x,y,\x01auth=Bearer t\x01\x01",
            b"n,a=x,\x01host=h\x01\x01",
            b"n,a=x,auth=Bearer t\x01\x01",
        ] {
            assert_eq!(read(decode_oauthbearer(message)), None, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn failures_are_json() {
        use base64::{Engine, engine::general_purpose::STANDARD};
        assert_eq!(STANDARD.decode(XOAUTH2_FAILURE).unwrap(), br#"{"status":"401","schemes":"bearer"}"#);
        assert_eq!(STANDARD.decode(OAUTHBEARER_FAILURE).unwrap(), br#"{"status":"invalid_token"}"#);
    }
}
