//! Our logins at a cell that says anything.

use std::fmt::Debug;

use crate::{
    InputBuf, SecretText,
    cell::{AHEAD, BYTES_BEFORE_TLS, CellAccount, CellFailure, CellMechanism, CellStep, EnterCell},
    imap, pop3, sieve, smtp,
};

use super::{Cuts, REPLY_BYTES_MAX, next_cut};

/// What we said, how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    said: Vec<u8>,
    end: Option<String>,
    unread: usize,
}

/// Our login at an IMAP cell sends and ends the same however the cell's bytes are cut, and tells the password to nobody
/// before TLS when TLS is wanted. A cell that answers ahead is found out only when its bytes come together.
///
/// # Panics
/// When a property does not hold.
pub fn imap_cell(bytes: &[u8], cuts: &[usize], starttls: bool) {
    let login = || {
        let id_fields = vec![("name".into(), "Guichet".into())];
        imap::CellLogin::new(imap::CellProfile { starttls, id_fields, account: account() })
    };
    any_cutting(login, bytes, cuts, starttls.then_some(b"G1 STARTTLS\r\n"));
}

/// The same of our login at a POP3 cell.
///
/// # Panics
/// When a property does not hold.
pub fn pop3_cell(bytes: &[u8], cuts: &[usize], starttls: bool) {
    let login = || {
        let introduction = Some(pop3::Introduction::Xoip(std::net::Ipv4Addr::LOCALHOST.into()));
        pop3::CellLogin::new(pop3::CellProfile { starttls, introduction, account: account() })
    };
    any_cutting(login, bytes, cuts, starttls.then_some(b"STLS\r\n"));
}

/// The same of our login at a ManageSieve cell.
///
/// # Panics
/// When a property does not hold.
pub fn sieve_cell(bytes: &[u8], cuts: &[usize], starttls: bool) {
    let login = || sieve::CellLogin::new(sieve::CellProfile { starttls, xclient: None, account: account() });
    any_cutting(login, bytes, cuts, starttls.then_some(b"STARTTLS\r\n"));
}

/// The same of our login at a submission cell, which may want to be told of the client first.
///
/// # Panics
/// When a property does not hold.
pub fn smtp_cell(bytes: &[u8], cuts: &[usize], starttls: bool, xclient: bool) {
    let client = xclient.then(|| smtp::ClientFacts {
        address: (std::net::Ipv4Addr::LOCALHOST, 4711).into(),
        helo: Some("client.example".into()),
        login: None,
    });
    let login = || {
        smtp::CellLogin::new(smtp::CellProfile {
            starttls,
            hostname: "mail.example.fr".into(),
            client: client.clone(),
            username: "alice@example.fr".into(),
            password: SecretText::new("hunter2hunter2".into()),
            authzid: None,
        })
    };
    any_cutting(login, bytes, cuts, starttls.then_some(b"EHLO mail.example.fr\r\nSTARTTLS\r\n"));
}

fn account() -> CellAccount {
    CellAccount {
        mechanism: CellMechanism::Plain,
        username: "alice@example.fr".into(),
        secret: SecretText::new("hunter2hunter2".into()),
        authzid: None,
    }
}

/// `starttls` is all we may say before TLS, when TLS is wanted.
fn any_cutting<S: EnterCell + Debug>(login: impl Fn() -> S, bytes: &[u8], cuts: Cuts<'_>, starttls: Option<&[u8]>) {
    let slow = transcript(login(), bytes, &[1], starttls);
    for cuts in [&[][..], cuts] {
        let cut = transcript(login(), bytes, cuts, starttls);
        if cut.end.as_deref() != Some(AHEAD) {
            assert_eq!(cut, slow, "cut at {cuts:?}");
        }
    }
}

fn transcript<S: EnterCell + Debug>(first: S, bytes: &[u8], cuts: Cuts<'_>, starttls: Option<&[u8]>) -> Transcript {
    let mut transcript = Transcript { said: Vec::new(), end: None, unread: 0 };
    let mut input = InputBuf::new();
    let (mut unsent, mut round) = (bytes, 0);
    let mut login = first;
    while !unsent.is_empty() {
        let (now_sent, rest) = unsent.split_at(next_cut(cuts, round).min(input.room()).min(unsent.len()));
        input.extend(now_sent);
        unsent = rest;
        round += 1;
        let end = match login.on_bytes(&mut input) {
            CellStep::Send { next, bytes } => {
                transcript.said.extend_from_slice(&bytes);
                assert!(transcript.said.len() <= REPLY_BYTES_MAX && input.room() > 0);
                login = next;
                continue;
            }
            // The script goes on without TLS: these are the bytes in front of it.
            CellStep::Upgrade { .. } if !unsent.is_empty() => CellStep::Failed(CellFailure::Protocol(BYTES_BEFORE_TLS)),
            end => end,
        };
        if let Some(starttls) = starttls {
            assert!(!matches!(end, CellStep::Ready { .. }), "no login without TLS");
            let said = transcript.said.as_slice();
            assert!(starttls.starts_with(said), "no other word before TLS: {}", said.escape_ascii());
        }
        let shown = format!("{end:?}");
        let guessed = bytes.windows(7).any(|word| word == b"hunter2");
        assert!(guessed || !shown.contains("hunter2"), "no password in Debug that the cell did not say");
        if let CellStep::Ready { .. } = end {
            transcript.unread = input.as_slice().len() + unsent.len();
        }
        transcript.end = Some(match end {
            CellStep::Failed(CellFailure::Protocol(why)) => why.to_owned(),
            CellStep::Upgrade { .. } => "upgrade".to_owned(),
            _ => shown,
        });
        break;
    }
    // What was collected when a failure came is not sent.
    if transcript.end.as_deref().is_some_and(|end| !end.starts_with("Ready")) {
        transcript.said.clear();
    }
    transcript
}
