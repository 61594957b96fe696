use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Answer, CloseReason, Credential, Dialogue, InputBuf, LoginRequest, Mechanism, Step,
    sasl::Mechanisms,
    smtp::{Extensions, SubmissionDialogue, SubmissionProfile},
};

#[derive(Debug, PartialEq, Eq)]
enum End {
    Upgrade,
    HandOff,
    Close(CloseReason),
}

/// A client at the dialogue: what it was told, and how it ended.
struct Client {
    now: Instant,
    input: InputBuf,
    dialogue: Option<SubmissionDialogue>,
    said: Vec<u8>,
    login: Option<LoginRequest>,
    end: Option<End>,
}

impl Client {
    fn new(tls: bool) -> Self {
        let profile = SubmissionProfile {
            tls,
            mechanisms: Mechanisms::PASSWORD.with(Mechanism::XOAuth2),
            extensions: Extensions::read("SIZE 1000\n8BITMIME"),
            login_deadline: Duration::from_secs(60),
            hostname: Arc::from("mail.example.fr"),
        };
        let now = Instant::now();
        let mut client = Self { now, input: InputBuf::new(), dialogue: None, said: Vec::new(), login: None, end: None };
        client.take(SubmissionDialogue::greet(Arc::new(profile), now));
        assert_eq!(client.heard(), "220 mail.example.fr ESMTP\r\n");
        client
    }

    fn greeted() -> Self {
        let mut client = Self::new(true);
        client.send("EHLO laptop\r\n");
        client
    }

    fn take(&mut self, step: Step<SubmissionDialogue>) {
        let (reply, end) = match step {
            Step::Wait { next, reply, .. } => {
                self.dialogue = Some(next);
                (reply, None)
            }
            Step::Ask { next, reply, login, .. } => {
                self.dialogue = Some(next);
                self.login = Some(login);
                (reply, None)
            }
            Step::Upgrade { reply } => (reply, Some(End::Upgrade)),
            Step::HandOff { reply } => (reply, Some(End::HandOff)),
            Step::Close { reply, reason } => (reply, Some(End::Close(reason))),
        };
        self.said.extend_from_slice(&reply);
        self.end = end;
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.input.extend(bytes.as_ref());
        let dialogue = self.dialogue.take().expect("the dialogue goes on");
        let step = dialogue.on_bytes(&mut self.input, self.now);
        self.take(step);
        self.heard()
    }

    fn answer(&mut self, answer: Answer) -> String {
        let dialogue = self.dialogue.take().expect("the dialogue goes on");
        let step = dialogue.on_answer(answer, self.now);
        self.take(step);
        self.login = None;
        self.heard()
    }

    fn heard(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.said)).expect("replies are text")
    }
}

/// "\0alice\0secret".
const PLAIN: &str = "AGFsaWNlAHNlY3JldA==";
const DENIED: &str = "535 5.7.8 Authentication credentials invalid\r\n";

#[test]
fn the_list_shows_auth_under_tls_only() {
    let common = "250-mail.example.fr\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n";
    assert_eq!(Client::new(true).send("EHLO a\r\n"), format!("{common}250 AUTH PLAIN LOGIN XOAUTH2\r\n"));
    assert_eq!(Client::new(false).send("ehlo a\r\n"), format!("{common}250 STARTTLS\r\n"));
    assert_eq!(Client::new(true).send("HELO a\r\n"), "250 mail.example.fr\r\n");
}

#[test]
fn logins_with_and_without_initial_response() {
    for lines in [
        vec![(format!("AUTH PLAIN {PLAIN}"), "")],
        vec![("auth plain".into(), "334 \r\n"), (PLAIN.into(), "")],
        vec![
            ("AUTH LOGIN".into(), "334 VXNlcm5hbWU6\r\n"),
            ("YWxpY2U=".into(), "334 UGFzc3dvcmQ6\r\n"),
            ("c2VjcmV0".into(), ""),
        ],
    ] {
        let mut client = Client::greeted();
        for (line, said) in lines {
            assert_eq!(client.send(format!("{line}\r\n")), said);
        }
        let login = client.login.as_ref().expect("asked");
        assert_eq!(login.username, "alice");
        assert!(matches!(&login.credential, Credential::Password(password) if password.expose() == "secret"));
        assert_eq!(client.dialogue.as_ref().unwrap().client_name(), Some("laptop"));
        client.input.extend(b"MAIL FROM:<a>\r\n");
        assert_eq!(client.answer(Answer::Opened { capability: None }), "235 2.7.0 Logged in\r\n");
        assert_eq!((client.end, client.input.as_slice()), (Some(End::HandOff), &b"MAIL FROM:<a>\r\n"[..]));
    }
}

#[test]
fn refusals_tell_a_verdict_from_an_outage() {
    let mut client = Client::greeted();
    client.send(format!("AUTH PLAIN {PLAIN}\r\n"));
    assert_eq!(client.answer(Answer::Denied), DENIED);
    client.send(format!("AUTH PLAIN {PLAIN}\r\n"));
    assert_eq!(client.answer(Answer::Refused), DENIED);
    client.send(format!("AUTH PLAIN {PLAIN}\r\n"));
    let said = client.answer(Answer::Unavailable);
    assert!(said.starts_with("454 4.7.0 ") && said.ends_with("421 4.7.0 Too many failed logins\r\n"), "{said}");
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyFailures)));
    let mut client = Client::greeted();
    client.send(format!("AUTH PLAIN {PLAIN}\r\n"));
    assert!(client.answer(Answer::Limited).starts_with("421 4.7.0 ") && client.end.is_some());
    let mut client = Client::greeted();
    client.send(format!("AUTH PLAIN {PLAIN}\r\n"));
    assert!(client.answer(Answer::Held).starts_with("451 4.3.2 ") && client.end.is_none());
    let mut client = Client::greeted();
    client.send(format!("AUTH PLAIN {PLAIN}\r\n"));
    assert!(client.answer(Answer::Crowded).starts_with("421 4.7.0 Too many sessions"));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManySessions)));
}

#[test]
fn sasl_can_be_cancelled_and_must_be_strict() {
    let mut client = Client::greeted();
    client.send("AUTH PLAIN\r\n");
    assert_eq!(client.send("*\r\n"), "501 5.7.0 Authentication cancelled\r\n");
    for line in ["AUTH PLAIN =", "AUTH PLAIN AGEAYg"] {
        assert_eq!(client.send(format!("{line}\r\n")), "501 5.5.2 Invalid SASL message\r\n");
    }
    assert!(client.send(format!("AUTH PLAIN {}\r\n", "A".repeat(12_288))).starts_with("501 5.5.2"));
    client.send(format!("AUTH PLAIN {}", "A".repeat(12_400)));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
}

/// Every command without and with TLS: how the reply starts, or how it ends.
#[test]
fn every_command_is_answered() {
    for (command, plain, tls) in [
        ("EHLO", "501", "501"),
        ("NOOP x", "250", "250"),
        ("RSET", "250", "250"),
        ("HELP", "214", "214"),
        ("QUIT", "221", "221"),
        ("STARTTLS", "220", "503"),
        ("STARTTLS x", "501", "501"),
        ("AUTH PLAIN", "538 5.7.11", "503"),
        ("MAIL FROM:<a>", "530 5.7.0 Must", "530 5.7.0 Log"),
        ("RCPT TO:<a>", "530", "530"),
        ("DATA", "530", "530"),
        ("VRFY a", "252", "252"),
        ("EXPN a", "502", "502"),
        ("ETRN a", "502", "502"),
        ("BDAT 3 LAST", "502", "502"),
        ("XCLIENT LOGIN=a", "550", "550"),
        ("XFORWARD ADDR=a", "550", "550"),
        ("XYZZY", "500", "500"),
        ("NOOP\tx", "500", "500"),
        ("", "500", "500"),
    ] {
        for (with, expected) in [(false, plain), (true, tls)] {
            let said = Client::new(with).send(format!("{command}\r\n"));
            assert!(said.starts_with(expected) && said.lines().count() == 1, "{command}: {said}");
        }
    }
    let mut client = Client::greeted();
    assert!(client.send("AUTH GSSAPI\r\n").starts_with("504"));
    assert!(client.send("AUTH\r\n").starts_with("501"));
    assert!(client.send("AUTH PLAIN a b\r\n").starts_with("501"));
}

#[test]
fn connections_that_are_no_submission_end() {
    let mut client = Client::new(false);
    client.send("STARTTLS\r\nEHLO a\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::BytesBeforeTls)));
    let mut client = Client::new(false);
    client.send("STARTTLS\r\n");
    assert_eq!(client.end, Some(End::Upgrade));
    let mut client = Client::new(true);
    assert_eq!(client.send("POST / HTTP/1.1\r\n"), "");
    assert_eq!(client.end, Some(End::Close(CloseReason::WrongProtocol)));
    let mut client = Client::new(true);
    client.send("x".repeat(2049));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    let mut client = Client::new(true);
    assert!(client.send("XCLIENT a\r\n".repeat(9)).ends_with("421 4.7.0 Too many bad commands\r\n"));
    let mut client = Client::new(true);
    client.now += Duration::from_secs(60);
    assert_eq!(client.send("EHL"), "421 4.4.2 No login in time\r\n");
}

#[test]
fn a_password_in_the_clear_is_told_of() {
    let mut client = Client::new(false);
    assert!(client.send(format!("AUTH PLAIN {PLAIN}\r\nQUIT\r\n")).starts_with("538 5.7.11"));
    assert_eq!(client.dialogue.as_mut().unwrap().password_in_clear(), Some("alice".into()));
    assert_eq!(client.send(""), "221 2.0.0 Bye\r\n");
}

#[test]
fn no_password_shows_in_debug() {
    let mut client = Client::greeted();
    client.send(format!("AUTH PLAIN {PLAIN}\r\n"));
    let shown = format!("{:?} {:?}", client.dialogue, client.login);
    assert!(shown.contains("alice") && !shown.contains("secret") && !shown.contains(PLAIN), "{shown}");
}
