use std::{sync::Arc, time::Instant};

use crate::{
    Answer, CloseReason, Dialogue, Mechanism, Step,
    imap::{ImapDialogue, ImapProfile},
    sasl::Mechanisms,
    testing::{Client, DEADLINE, End, play},
};

fn profile(tls: bool, mechanisms: Mechanisms) -> Arc<ImapProfile> {
    Arc::new(ImapProfile {
        tls,
        mechanisms,
        extra_capabilities: Arc::from(["IDLE".to_owned(), "ENABLE".to_owned()]),
        login_deadline: DEADLINE,
        hostname: Arc::from("mail.example.fr"),
    })
}

fn password_mechanisms() -> Mechanisms {
    Mechanisms::PASSWORD.without(Mechanism::SaslLogin)
}

impl Client<ImapDialogue> {
    fn with(step: impl FnOnce(Arc<ImapProfile>, Instant) -> Step<ImapDialogue>, tls: bool) -> Self {
        Self::begin(|now| step(profile(tls, password_mechanisms()), now))
    }

    /// A client of a listener that offers these, under TLS.
    fn offered(mechanisms: impl IntoIterator<Item = Mechanism>) -> Self {
        let profile = profile(true, Mechanisms::from_iter(mechanisms));
        Self::begin(|now| ImapDialogue::greet(profile, now))
    }

    fn tls() -> Self {
        Self::with(ImapDialogue::after_starttls, true)
    }

    fn plaintext() -> Self {
        Self::with(ImapDialogue::after_starttls, false)
    }
}

#[test]
fn login_by_command_under_tls() {
    let client = play(
        Client::with(ImapDialogue::greet, true),
        r#"
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=PLAIN IDLE ENABLE] mail.example.fr ready
        C: a1 ID ("name" "Thunderbird" "version" NIL "x-originating-ip" "10.0.0.1")
        S: * ID ("name" "Guichet" "host" "mail.example.fr")
        S: a1 OK ID completed
        C: a2 NOOP
        S: a2 OK NOOP completed
        C: a3 login alice@example.fr "pass \"word\" \\"
        A: opened IMAP4rev1 IDLE QUOTA
        S: a3 OK [CAPABILITY IMAP4rev1 IDLE QUOTA] Logged in
        "#,
    );
    assert_eq!(client.end, Some(End::HandOff));
}

#[test]
fn capabilities_before_tls_offer_no_login() {
    let client = play(
        Client::with(ImapDialogue::greet, false),
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID STARTTLS LOGINDISABLED IDLE ENABLE] mail.example.fr ready
        C: a CAPABILITY
        S: * CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID STARTTLS LOGINDISABLED IDLE ENABLE
        S: a OK CAPABILITY completed
        C: b LOGIN alice secret
        S: b NO [PRIVACYREQUIRED] Start TLS first
        C: c AUTHENTICATE PLAIN AGEAYg==
        S: c NO [PRIVACYREQUIRED] Start TLS first
        C: d LOGIN {5}
        S: d NO [PRIVACYREQUIRED] Start TLS first
        C: e STARTTLS
        S: e OK Begin TLS negotiation now
        ",
    );
    assert_eq!(client.end, Some(End::Upgrade));
}

#[test]
fn bytes_behind_starttls_close_the_connection() {
    let mut client = Client::plaintext();
    client.send("a STARTTLS\r\nb NOOP\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::BytesBeforeTls)));
}

#[test]
fn who_asked_for_capabilities_is_told_the_cells_list() {
    play(
        Client::tls(),
        "
        C: a CAPABILITY
        S: * CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=PLAIN IDLE ENABLE
        S: a OK CAPABILITY completed
        C: b LOGIN alice secret
        A: opened IMAP4rev1 AUTH=PLAIN LOGINDISABLED IDLE] UIDPLUS
        S: * CAPABILITY IMAP4rev1 UIDPLUS
        S: b OK [CAPABILITY IMAP4rev1 UIDPLUS] Logged in
        ",
    );
    play(Client::tls(), "C: b LOGIN alice secret\nA: opened\nS: b OK Logged in");
}

#[test]
fn refusals_do_not_tell_a_wrong_password_from_a_locked_account() {
    let client = play(
        Client::tls(),
        "
        C: a LOGIN alice secret
        A: denied
        S: a NO [AUTHENTICATIONFAILED] Invalid credentials
        C: b LOGIN alice secret
        A: refused
        S: b NO [AUTHENTICATIONFAILED] Invalid credentials
        C: c LOGIN alice secret
        A: unavailable
        S: c NO [UNAVAILABLE] Login is not possible now, try again later
        S: * BYE Too many failed logins
        ",
    );
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyFailures)));
    play(
        Client::tls(),
        "C: a LOGIN alice secret\nA: limited\nS: a NO [LIMIT] Too many attempts, try again later\nC: b NOOP\nS: b OK NOOP completed\n\
         C: c LOGIN alice secret\nA: crowded\nS: c NO [LIMIT] Too many sessions of this account are open",
    );
    play(
        Client::tls(),
        "C: a LOGIN alice secret\nA: held\nS: a NO [UNAVAILABLE] The mailbox is being moved, try again in a minute",
    );
    play(
        Client::tls(),
        "C: a LOGIN alice secret\nA: password_needed\nS: a NO [CONTACTADMIN] This mailbox opens to its password only, log in with it\n\
         C: b NOOP\nS: b OK NOOP completed",
    );
}

#[test]
fn authenticate_plain_with_and_without_initial_response() {
    let mut client = play(Client::tls(), "C: a AUTHENTICATE PLAIN AGFsaWNlQHguZnIAc2VjcmV0");
    assert_eq!(client.asked(), (Mechanism::Plain, "alice@x.fr", "secret", None));
    assert_eq!(client.answer(Answer::Denied), "a NO [AUTHENTICATIONFAILED] Invalid credentials\r\n");
    assert_eq!(client.send("b authenticate plain\r\n"), "+ \r\n");
    assert_eq!(client.send("Ym9iAGFsaWNlQHguZnIAc2VjcmV0\r\n"), "");
    assert_eq!(client.asked(), (Mechanism::Plain, "alice@x.fr", "secret", Some("bob")));
}

#[test]
fn sasl_can_be_cancelled_and_must_be_strict() {
    let client = play(
        Client::tls(),
        "
        C: a AUTHENTICATE PLAIN
        S: +
        C: *
        S: a BAD AUTHENTICATE cancelled
        C: b AUTHENTICATE PLAIN =
        S: b BAD Invalid SASL message
        C: c AUTHENTICATE PLAIN AGEAYg
        S: c BAD Invalid SASL message
        C: d AUTHENTICATE PLAIN AGEAYgAA
        S: d BAD Invalid SASL message
        C: e AUTHENTICATE GSSAPI
        S: e NO [CANNOT] Unsupported mechanism
        C: f AUTHENTICATE PLAIN a b
        S: f BAD Too many arguments
        S: * BYE Too many bad commands
        ",
    );
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyErrors)));
}

#[test]
fn every_offered_mechanism_is_listed_and_no_other_is_taken() {
    let client = play(
        Client::offered(Mechanism::ALL),
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=EXTERNAL IDLE ENABLE] mail.example.fr ready
        C: a AUTHENTICATE LOGIN
        S: + VXNlcm5hbWU6
        C: YWxpY2U=
        S: + UGFzc3dvcmQ6
        C: c2VjcmV0
        ",
    );
    assert_eq!(client.asked(), (Mechanism::SaslLogin, "alice", "secret", None));
    let client = play(
        Client::offered([Mechanism::XOAuth2]),
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=XOAUTH2 LOGINDISABLED IDLE ENABLE] mail.example.fr ready
        C: a LOGIN alice secret
        S: a NO [CANNOT] LOGIN is disabled
        C: b AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
        S: b NO [CANNOT] Unsupported mechanism
        C: c AUTHENTICATE EXTERNAL =
        S: c NO [CANNOT] Unsupported mechanism
        ",
    );
    assert!(client.login.is_none());
    let mut client = Client::offered([Mechanism::External]);
    client.heard();
    assert_eq!(client.send("a AUTHENTICATE EXTERNAL =\r\n"), "");
    assert_eq!(client.asked(), (Mechanism::External, "", "<certificate>", None));
}

#[test]
fn a_denied_token_is_told_why_before_the_refusal() {
    // curl's own dialogues end alike: the reason, a reply without meaning, NO.
    let client = play(
        Client::offered([Mechanism::XOAuth2, Mechanism::OAuthBearer]),
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=XOAUTH2 AUTH=OAUTHBEARER LOGINDISABLED IDLE ENABLE] mail.example.fr ready
        C: a AUTHENTICATE OAUTHBEARER bixhPWFsaWNlLAFhdXRoPUJlYXJlciB0AQE=
        A: denied
        S: + eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=
        C: AQ==
        S: a NO [AUTHENTICATIONFAILED] Invalid credentials
        C: b AUTHENTICATE XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciB0AQE=
        A: denied
        S: + eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=
        C: *
        S: b NO [AUTHENTICATIONFAILED] Invalid credentials
        C: c AUTHENTICATE XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciB0AQE=
        A: unavailable
        S: c NO [UNAVAILABLE] Login is not possible now, try again later
        S: * BYE Too many failed logins
        ",
    );
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyFailures)));
}

#[test]
fn a_password_before_tls_is_refused_and_told() {
    let mut client = Client::plaintext();
    let said = client.send(
        "a LOGIN alice secret\r\nb AUTHENTICATE PLAIN AGJvYgBzZWNyZXQ=\r\nc LOGIN {5+}\r\ncarol {1+}\r\nx\r\nd STARTTLS\r\n",
    );
    assert!(said.starts_with("a NO [PRIVACYREQUIRED] Start TLS first\r\nb NO [PRIVACYREQUIRED]"), "{said}");
    assert_eq!(client.in_clear, ["alice", "bob", "carol"]);
    assert_eq!(client.end, Some(End::Upgrade));
    // Nothing secret came with these.
    let mut client = Client::plaintext();
    client.send(
        "a LOGIN alice {6}\r\nb AUTHENTICATE PLAIN\r\nc AUTHENTICATE EXTERNAL =\r\nd AUTHENTICATE LOGIN YWxpY2U=\r\n",
    );
    assert!(client.in_clear.is_empty() && client.end.is_none());
}

#[test]
fn literals_of_both_kinds_are_taken() {
    let mut client = Client::tls();
    assert_eq!(client.send("a LOGIN {5}\r\n"), "+ OK\r\n");
    assert_eq!(client.send("alice {6}\r\n"), "+ OK\r\n");
    assert_eq!(client.send("se ret\r\n"), "");
    assert_eq!(client.asked(), (Mechanism::Login, "alice", "se ret", None));

    let mut client = Client::tls();
    assert_eq!(client.send("a LOGIN {5+}\r\nalice {6+}\r\nsecret\r\nb SELECT INBOX\r\n"), "");
    assert_eq!(client.asked(), (Mechanism::Login, "alice", "secret", None));
    assert_eq!(client.answer(Answer::Opened { capability: None }), "a OK Logged in\r\n");
    assert_eq!(client.input.as_slice(), b"b SELECT INBOX\r\n", "pipelined commands belong to the cell");
}

#[test]
fn pipelined_commands_wait_for_the_answer() {
    let mut client = Client::tls();
    client.send("a LOGIN alice secret\r\nb LOGIN alice other\r\nc NOOP\r\n");
    assert_eq!(client.asked().2, "secret");
    assert_eq!(client.send(""), "", "nothing happens while a login is decided");
    client.answer(Answer::Denied);
    assert_eq!(client.send(""), "");
    assert_eq!(client.asked().2, "other");
    client.answer(Answer::Denied);
    assert_eq!(client.send(""), "c OK NOOP completed\r\n");
}

#[test]
fn long_literals_are_refused() {
    for announced in ["{4097}", "{4294967295}", "{99999999999999999999999999}"] {
        let mut client = Client::tls();
        assert_eq!(client.send(format!("a LOGIN {announced}\r\n")), "a NO [TOOBIG] Literal too long\r\n");
        assert_eq!(client.send("b NOOP\r\n"), "b OK NOOP completed\r\n");
    }
    let mut client = Client::tls();
    assert_eq!(client.send("a LOGIN {4097+}\r\n"), "* BYE Literal too long\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    let mut client = Client::tls();
    client.send("a ID (\"a\" {1+}\r\na {1+}\r\na {1}\r\n");
    assert_eq!(client.send("b NOOP\r\n"), "b OK NOOP completed\r\n");
}

#[test]
fn lines_are_bounded_and_sasl_lines_are_longer() {
    let mut client = Client::tls();
    client.send(format!("a LOGIN alice {}", "x".repeat(8192)));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    let mut client = Client::tls();
    let bad = client.send(format!("a AUTHENTICATE PLAIN {}\r\n", "A".repeat(12_288)));
    assert_eq!(bad, "a BAD Invalid SASL message\r\n");
    assert_eq!(client.send("b AUTHENTICATE PLAIN\r\n"), "+ \r\n");
    assert_eq!(client.send(format!("{}\r\n", "A".repeat(12_288))), "b BAD Invalid SASL message\r\n");
    client.send("c AUTHENTICATE PLAIN\r\n");
    client.send("A".repeat(12_291));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    let mut client = Client::tls();
    client.send(format!("a AUTHENTICATE PLAIN {}", "A".repeat(13_000)));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
}

#[test]
fn a_password_with_nul_or_line_end_is_refused() {
    for password in ["se\0ret", "se\rret", "se\nret", "s\r\nret"] {
        let mut client = Client::tls();
        let said = client.send(format!("a LOGIN alice {{{}+}}\r\n{password}\r\n", password.len()));
        assert_eq!(said, "a BAD NUL or line end in a command\r\n");
        assert!(client.login.is_none());
    }
    let mut client = Client::tls();
    assert_eq!(client.send("a LOGIN alice \"a\0b\"\r\n"), "a BAD NUL or line end in a command\r\n");
    // authcid "a", password "b" CR LF "c".
    assert_eq!(client.send("b AUTHENTICATE PLAIN AGEAYg0KYw==\r\n"), "b BAD NUL or line end in a name or password\r\n");
}

#[test]
fn empty_or_endless_credentials_reach_nobody() {
    let (long_name, long_password) = ("u".repeat(257), "p".repeat(1025));
    for login in
        ["\"\" secret".to_owned(), "alice \"\"".into(), format!("{long_name} x"), format!("alice {long_password}")]
    {
        let mut client = Client::tls();
        assert_eq!(client.send(format!("a LOGIN {login}\r\n")), "a NO [AUTHENTICATIONFAILED] Invalid credentials\r\n");
        assert!(client.login.is_none());
    }
}

#[test]
fn odd_input_of_real_programs_is_taken() {
    for (bytes, password) in [
        (&b"a  LOGIN  alice  secret  \r\n"[..], "secret"),
        (b"a LOGIN alice secret\n", "secret"),
        (b"a LOGIN alice s*c%et\r\n", "s*c%et"),
        (b"a LOGIN alice (se){3}\r\n", "(se){3}"),
        (b"a LOGIN alice \"\xe9t\xe9\"\r\n", "été"),
        ("a LOGIN alice \"été\"\r\n".as_bytes(), "été"),
        (b"a LOGIN \"alice\" s\"x\\\r\n", "s\"x\\"),
    ] {
        let mut client = Client::tls();
        client.send(bytes);
        assert_eq!(client.asked(), (Mechanism::Login, "alice", password, None));
    }
    let mut client = Client::tls();
    client.send("a LOGIN a*l%i alice\r\n");
    assert_eq!(client.asked().1, "a*l%i");
}

#[test]
fn malformed_logins_are_bad() {
    for arguments in [
        "",
        "alice",
        "alice ",
        "alice secret more",
        "al(ice secret",
        "\"alice secret",
        "\"alice\"x secret",
        "alice \"a\\bc\"",
        "alice \"a\"b",
    ] {
        let mut client = Client::tls();
        assert!(client.send(format!("a LOGIN {arguments}\r\n")).starts_with("a BAD "), "{arguments:?}");
        assert!(client.login.is_none());
    }
}

#[test]
fn a_bad_tag_is_never_echoed() {
    for line in ["", " NOOP", "a+b NOOP", "(a NOOP", "\u{e9} NOOP", "a\u{7} NOOP", "* NOOP", "\" NOOP"] {
        let mut client = Client::tls();
        assert_eq!(client.send(format!("{line}\r\n")), "* BAD Invalid tag\r\n", "{line:?}");
    }
    let mut client = Client::tls();
    assert_eq!(client.send(format!("{} NOOP\r\n", "t".repeat(65))), "* BAD Invalid tag\r\n");
    let tag = "t".repeat(64);
    assert_eq!(client.send(format!("{tag} NOOP\r\n")), format!("{tag} OK NOOP completed\r\n"));
}

#[test]
fn another_protocol_is_hung_up_on() {
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "PRI * HTTP/2.0", "OPTIONS * HTTP/1.1"] {
        let mut client = Client::tls();
        assert_eq!(client.send(format!("{line}\r\n")), "");
        assert_eq!(client.end, Some(End::Close(CloseReason::WrongProtocol)));
    }
}

#[test]
fn commands_without_a_login_come_to_an_end() {
    let mut client = Client::tls();
    let said = client.send("a NOOP\r\n".repeat(100));
    assert!(said.ends_with("* BYE Too many commands without a login\r\n"));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyErrors)));
}

#[test]
fn the_login_deadline_says_bye() {
    let mut client = Client::tls();
    client.now += DEADLINE;
    assert_eq!(client.send("a NOO"), "* BYE No login in time\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::Deadline)));

    let mut client = Client::tls();
    client.send("a LOGIN alice secret\r\n");
    let step = client.dialogue.take().unwrap().on_deadline(client.now);
    client.take(step);
    assert!(client.heard().starts_with("a NO [UNAVAILABLE] "), "not as if the password were wrong");
    assert_eq!(client.end, Some(End::Close(CloseReason::Deadline)));
}

#[test]
fn an_answer_nobody_asked_for_logs_nobody_in() {
    let mut client = Client::tls();
    assert_eq!(client.answer(Answer::Opened { capability: None }), "");
    assert_eq!(client.end, None);
}

#[test]
fn no_password_shows_in_debug() {
    let mut client = Client::tls();
    client.send("a LOGIN alice hunter2\r\nb LOGIN alice hunter2");
    let shown = format!("{:?} {:?} {:?}", client.dialogue, client.login, client.input);
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}

/// Every state × command: how the tagged answer starts, or what else happens.
#[test]
fn every_state_answers_every_command() {
    let table = [
        // command, plaintext, TLS
        ("CAPABILITY", "OK", "OK"),
        ("NOOP", "OK", "OK"),
        ("ID NIL", "OK", "OK"),
        ("ID (\"name\" {1+}\r\nx)", "OK", "OK"),
        ("LOGOUT", "logout", "logout"),
        ("STARTTLS", "upgrade", "BAD"),
        ("LOGIN a b", "NO [PRIVACYREQUIRED]", "ask"),
        ("LOGIN {1+}\r\na {1+}\r\nb", "NO [PRIVACYREQUIRED]", "ask"),
        ("LOGIN {1}\r\na b", "NO [PRIVACYREQUIRED]", "ask"),
        ("AUTHENTICATE PLAIN", "NO [PRIVACYREQUIRED]", "+ "),
        ("AUTHENTICATE PLAIN AGEAYg==", "NO [PRIVACYREQUIRED]", "ask"),
        ("AUTHENTICATE XOAUTH2", "NO [PRIVACYREQUIRED]", "NO [CANNOT]"),
        ("CAPABILITY x", "BAD", "BAD"),
        ("NOOP x", "BAD", "BAD"),
        ("LOGOUT x", "BAD", "BAD"),
        ("STARTTLS x", "BAD", "BAD"),
        ("ID", "BAD", "BAD"),
        ("ID (\"a\")", "BAD", "BAD"),
        ("ID ((\"a\" \"b\"))", "BAD", "BAD"),
        ("LOGIN", "BAD", "BAD"),
        ("AUTHENTICATE", "BAD", "BAD"),
        ("SELECT INBOX", "BAD", "BAD"),
        ("ENABLE CONDSTORE", "BAD", "BAD"),
        ("IDLE", "BAD", "BAD"),
        ("APPEND INBOX {3}", "BAD", "BAD"),
        ("XYZZY", "BAD", "BAD"),
        ("", "BAD", "BAD"),
    ];
    for (command, plaintext, tls) in table {
        for (mut client, expected) in [(Client::plaintext(), plaintext), (Client::tls(), tls)] {
            let said = client.send(format!("t {command}\r\n"));
            let seen = match (&client.end, &client.login) {
                (Some(End::Upgrade), _) => "upgrade".to_owned(),
                (Some(End::Close(CloseReason::Logout)), _) => "logout".to_owned(),
                (_, Some(_)) => "ask".to_owned(),
                _ => said
                    .lines()
                    .find_map(|line| line.strip_prefix("t ").or(line.strip_prefix("+ ").map(|_| "+ ")))
                    .unwrap()
                    .to_owned(),
            };
            assert!(seen.starts_with(expected), "{command:?}: {seen:?}, expected {expected:?}");
        }
    }
    // Awaiting SASL data nothing is a command; awaiting an answer nothing is read.
    for (command, ..) in table {
        let first = command.lines().next().unwrap_or_default();
        let mut client = Client::tls();
        client.send("s AUTHENTICATE PLAIN\r\n");
        assert_eq!(client.send(format!("{first}\r\n")), "s BAD Invalid SASL message\r\n");
        let mut client = Client::tls();
        client.send("s LOGIN a b\r\n");
        assert_eq!(client.send(format!("{command}\r\n")), "");
    }
}
