//! Dialogues with a client that says anything.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Answer, CloseReason, Credential, Dialogue, InputBuf, Mechanism, Step,
    imap::{ImapDialogue, ImapProfile},
    pop3::{Pop3Dialogue, Pop3Profile},
    sasl::Mechanisms,
    sieve::{SieveDialogue, SieveProfile},
    smtp::{Extensions, SubmissionDialogue, SubmissionProfile},
};

use super::{Cuts, REPLY_BYTES_MAX, next_cut};

/// What was said, what was asked, whose password came in clear, how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    said: Vec<u8>,
    asked: Vec<Asked>,
    in_clear: Vec<String>,
    end: Option<String>,
    unread: usize,
}

/// Mechanism, user, secret, authzid.
type Asked = (Mechanism, String, String, Option<String>);

/// The IMAP dialogue says and asks the same however its input is cut. `answers` decides each login it asks for.
///
/// # Panics
/// When a property does not hold.
pub fn imap_client(bytes: &[u8], cuts: &[usize], answers: u64, tls: bool) {
    let profile = ImapProfile {
        tls,
        mechanisms: Mechanisms::from_iter(Mechanism::ALL),
        extra_capabilities: Arc::from(["IDLE".to_owned()]),
        login_deadline: Duration::from_secs(60),
        hostname: Arc::from("mail.example.fr"),
    };
    any_cutting::<ImapDialogue>(Arc::new(profile), tls, bytes, cuts, answers);
}

/// The same of the POP3 dialogue.
///
/// # Panics
/// When a property does not hold.
pub fn pop3_client(bytes: &[u8], cuts: &[usize], answers: u64, tls: bool) {
    let profile = Pop3Profile {
        tls,
        mechanisms: Mechanisms::from_iter(Mechanism::ALL),
        extra_capabilities: Arc::from(["UIDL".to_owned()]),
        login_deadline: Duration::from_secs(60),
        hostname: Arc::from("mail.example.fr"),
    };
    any_cutting::<Pop3Dialogue>(Arc::new(profile), tls, bytes, cuts, answers);
}

/// The same of the ManageSieve dialogue.
///
/// # Panics
/// When a property does not hold.
pub fn sieve_client(bytes: &[u8], cuts: &[usize], answers: u64, tls: bool) {
    let profile = SieveProfile {
        tls,
        mechanisms: Mechanisms::from_iter(Mechanism::ALL),
        sieve_extensions: Arc::from(["fileinto".to_owned()]),
        extra_capabilities: Arc::from([("NOTIFY".to_owned(), "mailto".to_owned())]),
        login_deadline: Duration::from_secs(60),
        hostname: Arc::from("mail.example.fr"),
    };
    any_cutting::<SieveDialogue>(Arc::new(profile), tls, bytes, cuts, answers);
}

/// The submission dialogue says and asks the same however its input is cut.
///
/// # Panics
/// When a property does not hold.
pub fn smtp_client(bytes: &[u8], cuts: &[usize], answers: u64, tls: bool) {
    let profile = SubmissionProfile {
        tls,
        mechanisms: Mechanisms::from_iter(Mechanism::ALL),
        extensions: Extensions::read("SIZE 1000\n8BITMIME"),
        login_deadline: Duration::from_secs(60),
        hostname: Arc::from("mail.example.fr"),
    };
    any_cutting::<SubmissionDialogue>(Arc::new(profile), tls, bytes, cuts, answers);
}

fn any_cutting<D: Dialogue>(profile: Arc<D::Profile>, tls: bool, bytes: &[u8], cuts: Cuts<'_>, answers: u64) {
    let whole = transcript::<D>(&profile, tls, bytes, &[], answers);
    assert_eq!(whole, transcript::<D>(&profile, tls, bytes, &[1], answers), "byte by byte");
    assert_eq!(whole, transcript::<D>(&profile, tls, bytes, cuts, answers), "cut at {cuts:?}");
    for line in whole.said.split_inclusive(|byte| *byte == b'\n') {
        assert!(line.ends_with(b"\r\n"), "a reply ends with CRLF");
        assert!(line.iter().rev().skip(2).all(|byte| (b' '..=b'~').contains(byte)), "a reply is printable");
    }
}

fn transcript<D: Dialogue>(
    profile: &Arc<D::Profile>,
    tls: bool,
    bytes: &[u8],
    cuts: Cuts<'_>,
    answers: u64,
) -> Transcript {
    let now = Instant::now();
    let mut transcript =
        Transcript { said: Vec::new(), asked: Vec::new(), in_clear: Vec::new(), end: None, unread: bytes.len() };
    let mut input = InputBuf::new();
    let (mut unsent, mut round) = (bytes, 0);
    let mut allowed = false;
    let mut step = D::after_starttls(profile.clone(), now);
    let end = loop {
        let next = match step {
            Step::Wait { mut next, reply, .. } => {
                assert!(reply.len() <= REPLY_BYTES_MAX, "replies are bounded");
                transcript.said.extend_from_slice(&reply);
                if let Some(name) = next.password_in_clear() {
                    assert!(!tls, "a password under TLS is not in clear");
                    assert_eq!(next.password_in_clear(), None, "it is told once");
                    transcript.in_clear.push(name);
                    step = next.on_bytes(&mut input, now);
                    continue;
                }
                next
            }
            Step::Ask { next, reply, login, .. } => {
                assert!(tls, "no login is asked for without TLS");
                transcript.said.extend_from_slice(&reply);
                let secret = match &login.credential {
                    Credential::Password(secret) | Credential::Token(secret) => secret.expose().to_owned(),
                    Credential::Certificate => String::new(),
                };
                let parts = [login.username.as_str(), &secret, login.authzid.as_deref().unwrap_or_default()];
                assert!(!parts.iter().any(|part| part.contains(['\0', '\r', '\n'])), "no line end goes to a cell");
                transcript.asked.push((login.mechanism, login.username, secret, login.authzid));
                let answer = nth_answer(answers, transcript.asked.len());
                allowed = matches!(answer, Answer::Opened { .. });
                step = next.on_answer(answer, now);
                if let Step::Wait { next, reply, .. } = step {
                    transcript.said.extend_from_slice(&reply);
                    step = next.on_bytes(&mut input, now);
                }
                continue;
            }
            Step::HandOff { reply } => {
                assert!(allowed, "nothing is handed off that was not allowed");
                transcript.said.extend_from_slice(&reply);
                break Some("hand-off".to_owned());
            }
            // Whether the bytes behind STARTTLS have come yet is a matter of cutting, what they lead to is not.
            Step::Upgrade { reply } => {
                assert!(!tls, "TLS within TLS");
                transcript.said.extend_from_slice(without_last_line(&reply));
                break Some("starttls".to_owned());
            }
            Step::Close { reply, reason: CloseReason::BytesBeforeTls } => {
                transcript.said.extend_from_slice(without_last_line(&reply));
                break Some("starttls".to_owned());
            }
            Step::Close { reply, reason } => {
                transcript.said.extend_from_slice(&reply);
                break Some(format!("{reason:?}"));
            }
        };
        assert!(input.room() > 0, "a dialogue that waits for bytes has room for them");
        if unsent.is_empty() {
            break None;
        }
        let (now_sent, rest) = unsent.split_at(next_cut(cuts, round).min(input.room()).min(unsent.len()));
        input.extend(now_sent);
        unsent = rest;
        round += 1;
        step = next.on_bytes(&mut input, now);
    };
    transcript.end = end;
    transcript.unread = input.as_slice().len() + unsent.len();
    transcript
}

fn without_last_line(reply: &[u8]) -> &[u8] {
    let body = reply.strip_suffix(b"\r\n").unwrap_or(reply);
    let keep = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    body.get(..keep).unwrap_or_default()
}

fn nth_answer(answers: u64, nth: usize) -> Answer {
    let shift = u32::try_from(nth).unwrap_or_default();
    match answers.rotate_left(shift.wrapping_mul(3)) & 7 {
        0 | 1 => Answer::Opened { capability: Some("IMAP4rev1 IDLE".to_owned()) },
        2 => Answer::Refused,
        3 => Answer::Unavailable,
        4 => Answer::Limited,
        5 => Answer::Held,
        6 => Answer::Crowded,
        _ => Answer::Denied,
    }
}
