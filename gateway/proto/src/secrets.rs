//! No type of ours shows a secret in `Debug`, wherever in a dialogue it is.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Credential, Dialogue, InputBuf, LoginRequest, Mechanism, SecretText, Step,
    cell::{CellAccount, CellMechanism, CellStep, EnterCell},
    imap, pop3,
    sasl::{self, Exchange, Mechanisms, Turn},
    sieve, smtp,
};

/// And in base64, as PLAIN and LOGIN send it.
const SECRET: &str = "hunter2hunter2";
const SECRET_BASE64: &str = "aHVudGVyMmh1bnRlcjI=";
/// `\0alice\0hunter2hunter2`.
const PLAIN: &str = "AGFsaWNlAGh1bnRlcjJodW50ZXIy";

fn hides(what: &str, shown: &dyn Debug) {
    let shown = format!("{shown:?} {shown:#?}");
    // Bytes are shown as numbers.
    let bytes = format!("{:?}", SECRET.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    for secret in [SECRET, SECRET_BASE64, PLAIN, bytes] {
        assert!(!shown.contains(secret), "{what}: {shown}");
    }
}

fn secret() -> SecretText {
    SecretText::new(SECRET.into())
}

/// Shows a dialogue with a client at the end of each piece of its input, down to single bytes.
fn client<D: Dialogue + Debug>(what: &str, profile: D::Profile, lines: &[String]) {
    let profile = Arc::new(profile);
    for line in lines {
        let now = Instant::now();
        let mut step = D::after_starttls(Arc::clone(&profile), now);
        let mut input = InputBuf::new();
        for byte in line.as_bytes() {
            let Step::Wait { next, .. } = step else { break };
            hides(what, &next);
            input.extend(&[*byte]);
            hides(what, &input);
            step = next.on_bytes(&mut input, now);
        }
        match step {
            Step::Ask { next, login, .. } => {
                hides(what, &next);
                hides(what, &login);
            }
            Step::Wait { next, .. } => hides(what, &next),
            Step::Upgrade { reply } | Step::HandOff { reply } | Step::Close { reply, .. } => {
                hides(what, &String::from_utf8_lossy(&reply));
            }
        }
    }
}

/// Shows our login at a cell before and behind each of its lines.
fn cell<S: EnterCell + Debug>(what: &str, login: S, lines: &[&str]) {
    let mut input = InputBuf::new();
    let mut login = login;
    for line in lines {
        hides(what, &login);
        input.extend(format!("{line}\r\n").as_bytes());
        let step = login.on_bytes(&mut input);
        hides(what, &step);
        let CellStep::Send { next, .. } = step else { return };
        login = next;
    }
    panic!("{what}: the login comes to its end");
}

#[test]
fn no_request_account_or_message_shows_its_secret() {
    for credential in [Credential::Password(secret()), Credential::Token(secret())] {
        hides("credential", &credential);
        let username = "alice".into();
        hides("login", &LoginRequest { mechanism: Mechanism::Plain, username, credential, authzid: None });
    }
    hides("message", &sasl::decode_plain(PLAIN.as_bytes()));
    let bearer = |message: &str| STANDARD.encode(message.replace("TOKEN", &format!("auth=Bearer {SECRET}\u{1}\u{1}")));
    for (mechanism, lines) in [
        (Mechanism::Plain, &[PLAIN.to_owned()][..]),
        (Mechanism::SaslLogin, &["YQ==".to_owned(), SECRET_BASE64.to_owned()][..]),
        (Mechanism::XOAuth2, &[bearer("user=a\u{1}TOKEN")][..]),
        (Mechanism::OAuthBearer, &[bearer("n,a=a,\u{1}TOKEN")][..]),
    ] {
        let mut turn = Exchange::start(mechanism, None);
        for line in lines {
            hides("exchange", &turn);
            let Turn::Challenge { next, .. } = turn else { panic!("{mechanism:?} goes on") };
            turn = next.on_line(line.as_bytes());
        }
        hides("exchange", &turn);
        assert!(matches!(turn, Turn::Login(_)), "{mechanism:?} comes to its end: {turn:?}");
    }
}

#[test]
fn no_dialogue_with_a_client_shows_what_was_typed_into_it() {
    let mechanisms = || Mechanisms::from_iter(Mechanism::ALL);
    let login_deadline = Duration::from_secs(60);
    let hostname: Arc<str> = Arc::from("mail.example.fr");
    let common = |verb: &str, quote: &str| {
        [
            format!("{verb} {quote}PLAIN{quote} {quote}{PLAIN}{quote}\r\n"),
            format!("{verb} {quote}PLAIN{quote}\r\n{quote}{PLAIN}{quote}\r\n"),
            format!("{verb} {quote}LOGIN{quote}\r\n{quote}YQ=={quote}\r\n{quote}{SECRET_BASE64}{quote}\r\n"),
        ]
    };
    let imap = [format!("a LOGIN alice {SECRET}\r\n"), format!("a LOGIN alice {{14+}}\r\n{SECRET}\r\n")];
    client::<imap::ImapDialogue>(
        "imap",
        imap::ImapProfile {
            tls: true,
            mechanisms: mechanisms(),
            extra_capabilities: Arc::from([]),
            login_deadline,
            hostname: hostname.clone(),
        },
        &[&common("a AUTHENTICATE", "")[..], &imap].concat(),
    );
    client::<pop3::Pop3Dialogue>(
        "pop3",
        pop3::Pop3Profile {
            tls: true,
            mechanisms: mechanisms(),
            extra_capabilities: Arc::from([]),
            login_deadline,
            hostname: hostname.clone(),
        },
        &[&common("AUTH", "")[..], &[format!("USER alice\r\nPASS {SECRET}\r\n")]].concat(),
    );
    client::<smtp::SubmissionDialogue>(
        "submission",
        smtp::SubmissionProfile {
            tls: true,
            mechanisms: mechanisms(),
            extensions: smtp::Extensions::read(""),
            login_deadline,
            hostname: hostname.clone(),
        },
        &common("EHLO a\r\nAUTH", ""),
    );
    client::<sieve::SieveDialogue>(
        "sieve",
        sieve::SieveProfile {
            tls: true,
            mechanisms: mechanisms(),
            sieve_extensions: Arc::from([]),
            extra_capabilities: Arc::from([]),
            login_deadline,
            hostname,
        },
        &common("AUTHENTICATE", "\""),
    );
}

#[test]
fn no_login_at_a_cell_shows_what_it_sends() {
    let account = |mechanism| CellAccount { mechanism, username: "alice".into(), secret: secret(), authzid: None };
    for mechanism in [CellMechanism::Plain, CellMechanism::ZimbraToken] {
        hides("account", &account(mechanism));
        let profile = imap::CellProfile { starttls: false, id_fields: Vec::new(), account: account(mechanism) };
        let words = ["* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi", "G1 OK in", "G2 OK in", "G3 OK in"];
        cell("imap", imap::CellLogin::new(profile), &words);
        let profile = pop3::CellProfile { starttls: false, introduction: None, account: account(mechanism) };
        let words = ["+OK", "+OK\r\nSASL PLAIN\r\n.", "+OK in", "+OK in"];
        cell("pop3", pop3::CellLogin::new(profile), &words);
        let profile = sieve::CellProfile { starttls: false, xclient: None, account: account(mechanism) };
        cell("sieve", sieve::CellLogin::new(profile), &["\"SASL\" \"PLAIN\"\r\nOK", "OK", "OK"]);
    }
    let profile = || smtp::CellProfile {
        starttls: false,
        hostname: "mail".into(),
        client: None,
        username: "alice".into(),
        password: secret(),
        authzid: None,
    };
    hides("profile", &profile());
    cell("smtp", smtp::CellLogin::new(profile()), &["220 hi", "250-cell\r\n250 AUTH PLAIN", "235 in"]);
    let words = ["220 hi", "250-cell\r\n250 AUTH LOGIN", "334 ", "334 ", "235 in"];
    cell("smtp", smtp::CellLogin::new(profile()), &words);
}
