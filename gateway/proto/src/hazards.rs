//! Hazards that concern every protocol before login, one test each. What they cost others is known: credentials read
//! apart differently by proxy and cell, commands carried across STARTTLS, names that act for somebody else.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Answer, CloseReason, Credential, Dialogue, InputBuf, Mechanism, SecretText,
    cell::{CellAccount, CellFailure, CellMechanism},
    imap::{self, ImapDialogue, ImapProfile},
    pop3::{self, Pop3Dialogue, Pop3Profile},
    sasl::Mechanisms,
    sieve::{self, SieveDialogue, SieveProfile},
    testing::{CellEnd, Client, DEADLINE, End, play_cell},
};

/// How the protocols write the same things.
struct Wire {
    /// AUTHENTICATE with an initial response.
    authenticate: fn(mechanism: &str, initial: &str) -> String,
    /// AUTHENTICATE without one.
    begin: fn(mechanism: &str) -> String,
    /// A line of an exchange.
    line: fn(&str) -> String,
    starttls: &'static str,
    /// A command that any state answers well.
    harmless: &'static str,
    /// How its answer starts.
    fine: &'static str,
}

const IMAP: Wire = Wire {
    authenticate: |mechanism, initial| format!("a AUTHENTICATE {mechanism} {initial}\r\n"),
    begin: |mechanism| format!("a AUTHENTICATE {mechanism}\r\n"),
    line: |line| format!("{line}\r\n"),
    starttls: "a STARTTLS\r\n",
    harmless: "b NOOP\r\n",
    fine: "b OK",
};
const POP3: Wire = Wire {
    authenticate: |mechanism, initial| format!("AUTH {mechanism} {initial}\r\n"),
    begin: |mechanism| format!("AUTH {mechanism}\r\n"),
    line: |line| format!("{line}\r\n"),
    starttls: "STLS\r\n",
    harmless: "CAPA\r\n",
    fine: "+OK",
};
const SIEVE: Wire = Wire {
    authenticate: |mechanism, initial| format!("AUTHENTICATE \"{mechanism}\" \"{initial}\"\r\n"),
    begin: |mechanism| format!("AUTHENTICATE \"{mechanism}\"\r\n"),
    line: |line| format!("\"{line}\"\r\n"),
    starttls: "STARTTLS\r\n",
    harmless: "NOOP\r\n",
    fine: "OK",
};

/// A protocol under test.
trait Subject: Dialogue + Sized {
    const WIRE: Wire;
    fn profile(tls: bool) -> Arc<Self::Profile>;

    fn client(tls: bool) -> Client<Self> {
        let mut client = Client::begin(|now| Self::greet(Self::profile(tls), now));
        client.heard();
        client
    }
}

impl Subject for ImapDialogue {
    const WIRE: Wire = IMAP;

    fn profile(tls: bool) -> Arc<ImapProfile> {
        imap_profile(tls, &["IDLE", "ENABLE"])
    }
}

impl Subject for Pop3Dialogue {
    const WIRE: Wire = POP3;

    fn profile(tls: bool) -> Arc<Pop3Profile> {
        Arc::new(Pop3Profile {
            tls,
            mechanisms: Mechanisms::from_iter(Mechanism::ALL),
            extra_capabilities: Arc::from([]),
            login_deadline: DEADLINE,
            hostname: Arc::from("h"),
        })
    }
}

impl Subject for SieveDialogue {
    const WIRE: Wire = SIEVE;

    fn profile(tls: bool) -> Arc<SieveProfile> {
        Arc::new(SieveProfile {
            tls,
            mechanisms: Mechanisms::from_iter(Mechanism::ALL),
            sieve_extensions: Arc::from([]),
            extra_capabilities: Arc::from([]),
            login_deadline: DEADLINE,
            hostname: Arc::from("h"),
        })
    }
}

fn imap_profile(tls: bool, extra: &[&str]) -> Arc<ImapProfile> {
    Arc::new(ImapProfile {
        tls,
        mechanisms: Mechanisms::from_iter(Mechanism::ALL),
        extra_capabilities: extra.iter().map(|name| (*name).to_owned()).collect(),
        login_deadline: Duration::from_secs(60),
        hostname: Arc::from("h"),
    })
}

/// One test for each protocol.
macro_rules! for_every_protocol {
    ($($(#[$doc:meta])* fn $name:ident<$subject:ident>() $body:block)*) => {
        $(#[test] $(#[$doc])* fn $name() {
            fn check<$subject: Subject>() $body
            check::<ImapDialogue>();
            check::<Pop3Dialogue>();
            check::<SieveDialogue>();
        })*
    };
}

fn plain(message: &[u8]) -> String {
    STANDARD.encode(message)
}

for_every_protocol! {
    fn an_authzid_of_another_is_told_to_the_decision<D>() {
        let mut client = D::client(true);
        client.send((D::WIRE.authenticate)("PLAIN", &plain(b"bob@other.fr\0alice@x.fr\0secret")));
        assert_eq!(client.asked(), (Mechanism::Plain, "alice@x.fr", "secret", Some("bob@other.fr")));
    }

    fn a_third_nul_or_a_line_end_in_a_credential_reaches_nobody<D>() {
        for message in [&b"\0a\0b\0c"[..], b"\0a\0b\0", b"\0a\0b\r\nc", b"\0a\0b\nc", b"\0a\r\0b", b"z\n\0a\0b"] {
            let mut client = D::client(true);
            client.send((D::WIRE.authenticate)("PLAIN", &plain(message)));
            assert!(client.login.is_none() && client.end.is_none(), "{}", message.escape_ascii());
            assert!(client.send(D::WIRE.harmless).starts_with(D::WIRE.fine), "it costs one command");
        }
    }

    fn base64_that_is_not_strict_costs_one_command<D>() {
        for line in ["AGEAYg", "AGEAYg=", "AGEAYh==", "AGE-AYg=", "!"] {
            let mut client = D::client(true);
            client.send((D::WIRE.authenticate)("PLAIN", line));
            assert!(client.login.is_none() && client.end.is_none(), "{line}");
            assert!(client.send(D::WIRE.harmless).starts_with(D::WIRE.fine));
        }
    }

    fn eight_bit_passwords_of_both_kinds_are_one_password<D>() {
        for message in [&b"\0alice\0\xe9t\xe9"[..], "\0alice\0été".as_bytes()] {
            let mut client = D::client(true);
            client.send((D::WIRE.authenticate)("PLAIN", &plain(message)));
            assert_eq!(client.asked().2, "été");
        }
    }

    fn a_cancelled_exchange_leaves_the_connection_usable<D>() {
        for mechanism in Mechanism::ALL.into_iter().filter_map(Mechanism::sasl_name) {
            let mut client = D::client(true);
            client.send((D::WIRE.begin)(mechanism));
            client.send((D::WIRE.line)("*"));
            assert!(client.login.is_none() && client.end.is_none());
            assert!(client.send(D::WIRE.harmless).starts_with(D::WIRE.fine), "{mechanism}");
        }
    }

    fn a_token_of_8_kib_is_taken_as_initial_response<D>() {
        let token = "t".repeat(8192);
        let message = plain(format!("user=alice\u{1}auth=Bearer {token}\u{1}\u{1}").as_bytes());
        let mut client = D::client(true);
        client.send((D::WIRE.authenticate)("XOAUTH2", &message));
        assert_eq!(client.asked(), (Mechanism::XOAuth2, "alice", token.as_str(), None));
    }

    fn a_bad_token_is_told_from_a_wrong_password<D>() {
        for name in ["XOAUTH2", "OAUTHBEARER"] {
            let message = if name == "XOAUTH2" { "user=a\u{1}" } else { "n,a=a,\u{1}" };
            let mut client = D::client(true);
            client.send((D::WIRE.authenticate)(name, &plain(format!("{message}auth=Bearer t\u{1}\u{1}").as_bytes())));
            let login = client.login.as_ref().expect("asks");
            assert!(matches!(&login.credential, Credential::Token(token) if token.expose() == "t"), "{login:?}");
            assert!(client.answer(Answer::Denied).contains("ey"), "the reason, in base64 of JSON");
            let refused = client.send((D::WIRE.line)("AQ=="));
            assert!(!refused.is_empty() && client.end.is_none());
            assert!(client.send(D::WIRE.harmless).starts_with(D::WIRE.fine));
        }
    }

    fn unknown_user_wrong_password_and_locked_account_sound_alike<D>() {
        let refusal = |answer| {
            let mut client = D::client(true);
            client.send((D::WIRE.authenticate)("PLAIN", "AGEAYg=="));
            client.answer(answer)
        };
        assert_eq!(refusal(Answer::Denied), refusal(Answer::Refused));
        assert_ne!(refusal(Answer::Denied), refusal(Answer::Unavailable), "an outage is no wrong password");
        // A name nobody can have is refused without asking, in the same words.
        let mut client = D::client(true);
        let said = client.send((D::WIRE.authenticate)("PLAIN", &plain(format!("\0{}\0x", "u".repeat(257)).as_bytes())));
        assert_eq!(said, refusal(Answer::Denied));
    }

    fn commands_pipelined_behind_the_login_are_kept_for_the_cell<D>() {
        let mut client = D::client(true);
        client.send((D::WIRE.authenticate)("PLAIN", "AGEAYg==") + "x 1\r\nx 2\r\n");
        client.answer(Answer::Opened { capability: None });
        assert_eq!((client.end, client.input.as_slice()), (Some(End::HandOff), &b"x 1\r\nx 2\r\n"[..]));
    }

    fn commands_pipelined_behind_a_refused_login_come_next<D>() {
        let mut client = D::client(true);
        client.send((D::WIRE.authenticate)("PLAIN", "AGEAYg==") + D::WIRE.harmless);
        client.answer(Answer::Denied);
        assert!(client.send("").starts_with(D::WIRE.fine));
    }

    fn an_http_request_line_closes_at_once<D>() {
        for tls in [false, true] {
            for line in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
                let mut client = D::client(tls);
                assert_eq!(client.send(line), "");
                assert_eq!(client.end, Some(End::Close(CloseReason::WrongProtocol)));
            }
        }
    }

    fn bytes_behind_starttls_close<D>() {
        let mut client = D::client(false);
        client.send(format!("{}{}", D::WIRE.starttls, D::WIRE.harmless));
        assert_eq!(client.end, Some(End::Close(CloseReason::BytesBeforeTls)));
        let mut client = D::client(false);
        client.send(format!("{}\0", D::WIRE.starttls));
        assert_eq!(client.end, Some(End::Close(CloseReason::BytesBeforeTls)), "a single byte too");
    }

    fn starttls_within_tls_is_a_bad_command<D>() {
        let mut client = D::client(true);
        let said = client.send(D::WIRE.starttls);
        assert!(said.contains("TLS is already up") && client.end.is_none(), "{said}");
    }

    fn before_tls_no_login_is_offered_taken_or_answered_with_an_alert<D>() {
        let mut client = Client::begin(|now| D::greet(D::profile(false), now));
        let mut said = client.heard();
        said += &client.send(D::WIRE.harmless);
        said += &client.send((D::WIRE.begin)("PLAIN"));
        said += &client.send((D::WIRE.authenticate)("PLAIN", "AGFsaWNlAHNlY3JldA=="));
        assert!(client.login.is_none() && client.end.is_none());
        assert_eq!(client.in_clear, ["alice"]);
        for word in ["ALERT", "REFERRAL", "PREAUTH", "AUTH=", "SASL PLAIN", "alice"] {
            assert!(!said.contains(word), "{word}: {said}");
        }
    }

    fn a_credential_before_tls_is_told_though_tls_follows_at_once<D>() {
        let mut client = D::client(false);
        client.send((D::WIRE.authenticate)("PLAIN", "AGFsaWNlAHNlY3JldA==") + D::WIRE.starttls);
        assert_eq!((client.in_clear, client.end), (vec!["alice".to_owned()], Some(End::Upgrade)));
    }

    fn what_waits_before_login_is_bounded<D>() {
        for flood in ["A".repeat(40_000), (D::WIRE.authenticate)("PLAIN", &"A".repeat(40_000)), "{4096+}\r\n".repeat(9)] {
            let mut client = D::client(true);
            let mut left = flood.as_bytes();
            while client.end.is_none() && !left.is_empty() {
                let (now, later) = left.split_at(client.input.room().min(left.len()));
                assert!(!now.is_empty(), "a dialogue that waits has room");
                left = later;
                client.send(now);
            }
            assert!(client.input.as_slice().len() <= InputBuf::BYTES_MAX);
        }
    }
}

#[test]
fn a_literal_over_the_bound_is_refused_before_it_comes() {
    for length in ["4097", "4294967295", "18446744073709551617", "99999999999999999999999999"] {
        let mut client = ImapDialogue::client(true);
        assert!(client.send(format!("a LOGIN {{{length}}}\r\n")).starts_with("a NO [TOOBIG]"));
        assert!(client.send(IMAP.harmless).starts_with(IMAP.fine), "nobody waits for its bytes");
        let mut client = ImapDialogue::client(true);
        client.send(format!("a LOGIN {{{length}+}}\r\n"));
        assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)), "these are coming");
        let mut client = SieveDialogue::client(true);
        client.send(format!("NOOP {{{length}+}}\r\n"));
        assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    }
}

#[test]
fn a_third_literal_is_refused() {
    let mut client = ImapDialogue::client(true);
    client.send("a LOGIN {1+}\r\na {1+}\r\nb {1+}\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    let mut client = ImapDialogue::client(true);
    assert!(client.send("a LOGIN {1+}\r\na {1+}\r\nb {1}\r\n").starts_with("a BAD "));
}

#[test]
fn five_thousand_parentheses_are_one_bad_command_and_the_end() {
    for list in ["(".repeat(5000), "((\"a\" \"b\"))".into(), "(\"a\" (\"b\"))".into()] {
        let mut client = ImapDialogue::client(true);
        assert_eq!(
            client.send(format!("a ID {list}\r\n")),
            "a BAD A list within a list\r\n* BYE Lists are not nested here\r\n"
        );
        assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    }
}

#[test]
fn nothing_said_before_tls_counts_behind_it() {
    // The name of a USER before STLS would else be the name of a PASS behind it.
    let mut before = Pop3Dialogue::client(false);
    before.send("USER alice\r\n");
    assert_eq!(before.send("STLS\r\n"), "+OK Begin TLS negotiation now\r\n");
    assert_eq!(before.end, Some(End::Upgrade), "which holds no state");
    let mut behind = Client::begin(|now| Pop3Dialogue::after_starttls(Pop3Dialogue::profile(true), now));
    assert_eq!(behind.heard(), "", "no greeting again");
    assert_eq!(behind.send("PASS secret\r\n"), "-ERR USER comes first\r\n");
    let mut behind = Client::begin(|now| SieveDialogue::after_starttls(SieveDialogue::profile(true), now));
    assert!(behind.heard().contains("\"SASL\" \"PLAIN "), "the list again, and not the one from before");
}

#[test]
fn imap4rev2_is_listed_when_every_cell_has_it_and_what_only_a_cell_can_is_not() {
    let listed = |extra: &[&str]| {
        let mut client = Client::begin(|now| ImapDialogue::greet(imap_profile(true, extra), now));
        client.heard()
    };
    assert!(!listed(&["IDLE"]).contains("IMAP4rev2"));
    assert!(listed(&["IMAP4rev2", "IDLE"]).contains(" IMAP4rev2 IDLE] "));
    let said = listed(&["COMPRESS=DEFLATE", "LITERAL+", "LOGIN-REFERRALS", "starttls", "auth=gssapi", "LOGINDISABLED"]);
    for word in ["COMPRESS", "LITERAL+", "REFERRALS", "starttls", "gssapi", "LOGINDISABLED"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_cell_that_greets_with_preauth_or_another_protocol_is_left() {
    let account = || CellAccount {
        mechanism: CellMechanism::Plain,
        username: "alice".into(),
        secret: SecretText::new("secret".into()),
        authzid: None,
    };
    for greeting in ["* PREAUTH ready", "+OK ready", "OK \"ready\"", "220 ready", "HTTP/1.1 400 Bad Request", ""] {
        let script = format!("S: {greeting}");
        let imap =
            imap::CellLogin::new(imap::CellProfile { starttls: true, id_fields: Vec::new(), account: account() });
        let pop3 = pop3::CellLogin::new(pop3::CellProfile { starttls: false, introduction: None, account: account() });
        let sieve = sieve::CellLogin::new(sieve::CellProfile { starttls: false, xclient: None, account: account() });
        let left = |end| matches!(end, Some(CellEnd::Failed(CellFailure::Protocol(_))));
        assert!(left(play_cell(imap, &script).0), "imap: {greeting}");
        assert!(greeting.starts_with("+OK") || left(play_cell(pop3, &script).0), "pop3: {greeting}");
        assert!(left(play_cell(sieve, &script).0), "sieve: {greeting}");
    }
}

#[test]
fn an_eight_bit_password_reaches_a_cell_with_its_length_in_bytes() {
    let account = CellAccount {
        mechanism: CellMechanism::Plain,
        username: "alice".into(),
        secret: SecretText::new("été".into()),
        authzid: None,
    };
    let profile = imap::CellProfile { starttls: false, id_fields: Vec::new(), account };
    let script = "S: * OK [CAPABILITY IMAP4rev1 LITERAL+] hi\nC: G1 LOGIN {5+}\nC: alice {5+}\nC: été";
    assert_eq!(play_cell(imap::CellLogin::new(profile), script).0, None);
}
