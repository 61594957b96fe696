//! PreAuth: the keyed word by which a front end that Zimbra trusts vouches for a user, in a SOAP `AuthRequest`. Not in the
//! query of `/service/preauth`, which ends up in logs and is good for five minutes.

use std::time::Duration;

use aws_lc_rs::hmac;
use guichet_proto::SecretText;
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

/// Where the question goes.
pub(super) const PATH: &str = "/service/soap/AuthRequest";

/// What is asked, for one user.
pub(super) struct Question<'a> {
    /// Canonical address.
    pub(super) account: &'a str,
    /// The domain's key as Zimbra writes it. Its digits are the key, not the bytes they stand for.
    pub(super) key: &'a str,
    /// Now, milliseconds; Zimbra allows five minutes of difference.
    pub(super) timestamp: u64,
    /// End of the token, milliseconds.
    pub(super) expires: u64,
}

/// What a cell gave.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) token: SecretText,
    /// Its life by the cell's own word.
    pub(super) life: Duration,
}

/// Why it gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    /// A SOAP fault, by its code (`account.AUTH_FAILED`).
    Fault(String),
    /// No such answer comes from a Zimbra.
    Garbage(&'static str),
}

impl Question<'_> {
    /// The body of the request.
    pub(super) fn body(&self) -> Zeroizing<Vec<u8>> {
        let proof = self.proof();
        let request = Envelope {
            header: Header {
                context: Context { xmlns: "urn:zimbra", nosession: Empty {}, format: Format { kind: "js" } },
            },
            body: Body {
                request: AuthRequest {
                    xmlns: "urn:zimbraAccount",
                    account: Account { by: BY, content: self.account },
                    preauth: PreAuth { timestamp: self.timestamp, expires: self.expires, content: &proof },
                },
            },
        };
        let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
        // Plain texts and numbers always serialise, and memory takes them.
        let _ = serde_json::to_writer(&mut *body, &request);
        body
    }

    /// HMAC-SHA1 over the values in the order of their names, in hexadecimal.
    fn proof(&self) -> Zeroizing<String> {
        let message = format!("{}|{BY}|{}|{}", self.account, self.expires, self.timestamp);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.key.as_bytes());
        let tag = hmac::sign(&key, message.as_bytes());
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
        Zeroizing::new(tag.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
    }
}

/// Reads the cell's answer.
pub(super) fn read(body: &[u8]) -> Result<Given, Withheld> {
    let garbage = Withheld::Garbage;
    let mut answer: Value = serde_json::from_slice(body).map_err(|_| garbage("it is not JSON"))?;
    if let Some(fault) = answer.pointer("/Body/Fault") {
        let code = fault.pointer("/Detail/Error/Code").and_then(Value::as_str).unwrap_or("a fault without a code");
        let printable = code.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
        return Err(Withheld::Fault(printable.take(CODE_CHARS_MAX).collect()));
    }
    let response = answer.pointer_mut("/Body/AuthResponse").ok_or(garbage("it holds no AuthResponse"))?;
    let life = response.get("lifetime").and_then(Value::as_u64).ok_or(garbage("it tells no lifetime"))?;
    // A list of one in most versions.
    let token = response.get_mut("authToken").ok_or(garbage("it holds no token"))?;
    let token = if token.is_array() { token.get_mut(0) } else { Some(token) };
    let token = match token.and_then(|token| token.get_mut("_content")).map(Value::take) {
        Some(Value::String(token)) => SecretText::new(token),
        _ => return Err(garbage("it holds no token")),
    };
    let sound =
        |token: &str| (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if !sound(token.expose()) {
        return Err(garbage("its token is none"));
    }
    Ok(Given { token, life: Duration::from_millis(life) })
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "Header")]
    header: Header,
    #[serde(rename = "Body")]
    body: Body<'a>,
}

#[derive(Serialize)]
struct Header {
    context: Context,
}

#[derive(Serialize)]
struct Context {
    #[serde(rename = "_jsns")]
    xmlns: &'static str,
    nosession: Empty,
    format: Format,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Format {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "AuthRequest")]
    request: AuthRequest<'a>,
}

#[derive(Serialize)]
struct AuthRequest<'a> {
    #[serde(rename = "_jsns")]
    xmlns: &'static str,
    account: Account<'a>,
    preauth: PreAuth<'a>,
}

#[derive(Serialize)]
struct Account<'a> {
    by: &'static str,
    #[serde(rename = "_content")]
    content: &'a str,
}

#[derive(Serialize)]
struct PreAuth<'a> {
    timestamp: u64,
    expires: u64,
    #[serde(rename = "_content")]
    content: &'a str,
}

/// How the account is named.
const BY: &str = "name";
/// More than a request takes: the buffer does not move, and leaves no copy behind.
const BODY_BYTES: usize = 2048;
const CODE_CHARS_MAX: usize = 64;
/// Zimbra's are of a few hundred. Below what an IMAP line of a cell may hold (10 KiB), in base64 and with two names.
const TOKEN_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "6b7ead4bd425836e8cf0079cd6c1a05acc127acd07c8ee4b61023e19250e929c";

    /// The example of Zimbra's own documentation.
    #[test]
    fn the_proof_is_what_zimbra_computes() {
        let question = Question { account: "john.doe@domain.com", key: KEY, timestamp: 1_135_280_708_088, expires: 0 };
        assert_eq!(*question.proof(), "b248f6cfd027edd45c5369f8490125204772f844");
    }

    #[test]
    fn the_question_is_an_auth_request_without_a_session() {
        let question = Question { account: "a\"b@univ.example", key: KEY, timestamp: 7, expires: 9 };
        let body: Value = serde_json::from_slice(&question.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "Header": {"context": {"_jsns": "urn:zimbra", "nosession": {}, "format": {"type": "js"}}},
                "Body": {"AuthRequest": {
                    "_jsns": "urn:zimbraAccount",
                    "account": {"by": "name", "_content": "a\"b@univ.example"},
                    "preauth": {"timestamp": 7, "expires": 9, "_content": *question.proof()},
                }},
            })
        );
        assert!(question.body().capacity() == BODY_BYTES);
    }

    #[test]
    fn both_shapes_of_a_token_are_read_and_it_does_not_show() {
        for token in [r#"[{"_content":"0_abc"}]"#, r#"{"_content":"0_abc"}"#] {
            let body = format!(r#"{{"Body":{{"AuthResponse":{{"authToken":{token},"lifetime":172799999}}}}}}"#);
            let given = read(body.as_bytes()).unwrap();
            assert_eq!((given.token.expose(), given.life), ("0_abc", Duration::from_millis(172_799_999)));
            assert!(!format!("{given:?}").contains("0_abc"));
        }
    }

    #[test]
    fn a_fault_is_told_by_its_code_and_everything_else_is_garbage() {
        let fault = r#"{"Body":{"Fault":{"Code":{"Value":"soap:Sender"},"Reason":{"Text":"authentication failed for [a@b]"},
            "Detail":{"Error":{"Code":"account.AUTH_FAILED","Trace":"x"}}}}}"#;
        assert_eq!(read(fault.as_bytes()).unwrap_err(), Withheld::Fault("account.AUTH_FAILED".into()));
        let long = format!(r#"{{"Body":{{"Fault":{{"Detail":{{"Error":{{"Code":"\n{}"}}}}}}}}}}"#, "x".repeat(100));
        assert_eq!(read(long.as_bytes()).unwrap_err(), Withheld::Fault("x".repeat(64)));
        assert!(matches!(read(br#"{"Body":{"Fault":{}}}"#).unwrap_err(), Withheld::Fault(_)));
        let token = |token: &str| format!(r#"{{"Body":{{"AuthResponse":{{"authToken":{token},"lifetime":1}}}}}}"#);
        for body in [
            String::new(),
            "<html>".into(),
            "[]".into(),
            r#"{"Body":{}}"#.into(),
            r#"{"Body":{"AuthResponse":{"lifetime":1}}}"#.into(),
            r#"{"Body":{"AuthResponse":{"authToken":[{"_content":"x"}]}}}"#.into(),
            token("[]"),
            token(r#""x""#),
            token(r#"[{"_content":7}]"#),
            token(r#"[{"_content":""}]"#),
            token(r#"[{"_content":"a\r\nb"}]"#),
            token(r#"[{"_content":"a b"}]"#),
            token(&format!(r#"[{{"_content":"{}"}}]"#, "x".repeat(4097))),
        ] {
            assert!(matches!(read(body.as_bytes()), Err(Withheld::Garbage(_))), "{body}");
        }
    }
}
