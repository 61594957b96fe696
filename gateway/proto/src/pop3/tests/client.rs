use std::sync::Arc;

use crate::{
    Answer, CloseReason, Dialogue, Mechanism,
    pop3::{Pop3Dialogue, Pop3Profile},
    sasl::Mechanisms,
    testing::{Client, DEADLINE, End, play},
};

fn profile(tls: bool, mechanisms: Mechanisms) -> Arc<Pop3Profile> {
    Arc::new(Pop3Profile {
        tls,
        mechanisms,
        extra_capabilities: Arc::from(["UIDL", "TOP", "SASL X", "user", "XOIP", ".", "a\r\nb", ""].map(str::to_owned)),
        login_deadline: DEADLINE,
        hostname: Arc::from("mail.<1@x>example.fr"),
    })
}

impl Client<Pop3Dialogue> {
    fn tls() -> Self {
        Self::begin(|now| Pop3Dialogue::after_starttls(profile(true, Mechanisms::from_iter(Mechanism::ALL)), now))
    }

    fn plaintext() -> Self {
        Self::begin(|now| Pop3Dialogue::after_starttls(profile(false, Mechanisms::PASSWORD), now))
    }
}

#[test]
fn user_and_pass_under_tls() {
    let client = play(
        Client::begin(|now| Pop3Dialogue::greet(profile(true, Mechanisms::PASSWORD), now)),
        "
        S: +OK mail.1@xexample.fr ready
        C: CAPA
        S: +OK Capability list follows
        S: USER
        S: SASL PLAIN LOGIN
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: UIDL
        S: TOP
        S: .
        C: user alice@example.fr
        S: +OK Password?
        C: pass two  words
        A: opened
        S: +OK Logged in
        ",
    );
    assert_eq!(client.end, Some(End::HandOff));
}

#[test]
fn a_password_is_all_behind_the_one_space() {
    let mut client = Client::tls();
    client.send("USER  alice \r\n");
    client.send("PASS  two  words \r\n");
    assert_eq!(client.asked(), (Mechanism::Login, "alice", " two  words ", None));
    client.answer(Answer::Denied);
    client.send(b"USER alice\nPASS \xe9t\xe9\n");
    assert_eq!(client.asked(), (Mechanism::Login, "alice", "été", None), "Latin-1 and bare LF are taken");
}

#[test]
fn before_tls_nothing_but_stls_is_offered() {
    let client = play(
        Client::begin(|now| Pop3Dialogue::greet(profile(false, Mechanisms::PASSWORD), now)),
        "
        S: +OK mail.1@xexample.fr ready
        C: CAPA
        S: +OK Capability list follows
        S: STLS
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: UIDL
        S: TOP
        S: .
        C: AUTH
        S: +OK Mechanisms follow
        S: .
        C: AUTH PLAIN
        S: -ERR Start TLS first
        C: STLS
        S: +OK Begin TLS negotiation now
        ",
    );
    assert_eq!(client.end, Some(End::Upgrade));
    assert!(client.in_clear.is_empty());
}

#[test]
fn a_password_before_tls_is_refused_and_told() {
    let mut client = Client::plaintext();
    let said = client.send("USER alice\r\nPASS secret\r\nAUTH PLAIN AGJvYgBzZWNyZXQ=\r\nSTLS\r\n");
    assert_eq!(said, format!("{}+OK Begin TLS negotiation now\r\n", "-ERR Start TLS first\r\n".repeat(3)));
    assert_eq!(client.in_clear, ["alice", "bob"]);
    assert_eq!(client.end, Some(End::Upgrade));
    let mut client = Client::plaintext();
    client.send("PASS secret\r\nUSER alice\r\nAUTH LOGIN YWxpY2U=\r\n");
    assert_eq!(client.in_clear, [""], "a password of nobody, and two names alone");
}

#[test]
fn bytes_behind_stls_close_the_connection() {
    let mut client = Client::plaintext();
    client.send("STLS\r\nCAPA\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::BytesBeforeTls)));
    let mut client = Client::tls();
    assert_eq!(client.send("STLS\r\n"), "-ERR TLS is already up\r\n");
}

#[test]
fn auth_with_and_without_initial_response() {
    let mut client = Client::tls();
    client.send("AUTH PLAIN AGFsaWNlQHguZnIAc2VjcmV0\r\n");
    assert_eq!(client.asked(), (Mechanism::Plain, "alice@x.fr", "secret", None));
    assert_eq!(client.answer(Answer::Denied), "-ERR [AUTH] Invalid credentials\r\n");
    assert_eq!(client.send("auth plain\r\n"), "+ \r\n");
    client.send("Ym9iAGFsaWNlQHguZnIAc2VjcmV0\r\n");
    assert_eq!(client.asked(), (Mechanism::Plain, "alice@x.fr", "secret", Some("bob")));
    client.answer(Answer::Denied);
    assert_eq!(client.send("AUTH LOGIN\r\n"), "+ VXNlcm5hbWU6\r\n");
    assert_eq!(client.send("YWxpY2U=\r\n"), "+ UGFzc3dvcmQ6\r\n");
    client.send("c2VjcmV0\r\n");
    assert_eq!(client.asked(), (Mechanism::SaslLogin, "alice", "secret", None));
}

#[test]
fn bare_auth_lists_the_mechanisms() {
    play(
        Client::tls(),
        "
        C: AUTH
        S: +OK Mechanisms follow
        S: PLAIN
        S: LOGIN
        S: XOAUTH2
        S: OAUTHBEARER
        S: EXTERNAL
        S: .
        ",
    );
}

#[test]
fn sasl_can_be_cancelled_and_must_be_strict() {
    let client = play(
        Client::tls(),
        "
        C: AUTH PLAIN
        S: +
        C: *
        S: -ERR AUTH cancelled
        C: AUTH PLAIN =
        S: -ERR Invalid SASL message
        C: AUTH PLAIN AGEAYg
        S: -ERR Invalid SASL message
        C: AUTH PLAIN AGEAYgAA
        S: -ERR Invalid SASL message
        C: AUTH PLAIN AGEAYg0KYw==
        S: -ERR NUL or line end in a name or password
        C: AUTH GSSAPI
        S: -ERR Unsupported mechanism
        ",
    );
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyErrors)));
}

#[test]
fn a_denied_token_is_told_why_before_the_refusal() {
    play(
        Client::tls(),
        "
        C: AUTH OAUTHBEARER bixhPWFsaWNlLAFhdXRoPUJlYXJlciB0AQE=
        A: denied
        S: + eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=
        C: AQ==
        S: -ERR [AUTH] Invalid credentials
        C: AUTH XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciB0AQE=
        A: unavailable
        S: -ERR [SYS/TEMP] Login is not possible now, try again later
        ",
    );
}

#[test]
fn refusals_follow_the_error_map() {
    let client = play(
        Client::tls(),
        "
        C: AUTH PLAIN AGEAYg==
        A: refused
        S: -ERR [AUTH] Invalid credentials
        C: AUTH PLAIN AGEAYg==
        A: limited
        S: -ERR [LOGIN-DELAY] Too many attempts, try again later
        C: AUTH PLAIN AGEAYg==
        A: unavailable
        S: -ERR [SYS/TEMP] Login is not possible now, try again later
        ",
    );
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyFailures)));
    play(
        Client::tls(),
        "C: AUTH PLAIN AGEAYg==\nA: held\nS: -ERR [SYS/TEMP] The mailbox is being moved, try again in a minute",
    );
    play(
        Client::tls(),
        "C: AUTH PLAIN AGEAYg==\nA: crowded\nS: -ERR [IN-USE] Too many sessions of this account are open",
    );
    assert!(Pop3Dialogue::refuse_connection().starts_with(b"-ERR [SYS/TEMP] "));
}

#[test]
fn pipelined_commands_wait_for_the_answer_and_belong_to_the_cell() {
    let mut client = Client::tls();
    client.send("USER alice\r\nPASS secret\r\nUSER alice\r\nPASS other\r\nSTAT\r\n");
    assert_eq!(client.asked().2, "secret");
    client.answer(Answer::Denied);
    client.send("");
    assert_eq!(client.asked().2, "other");
    assert_eq!(client.answer(Answer::Opened { capability: None }), "+OK Logged in\r\n");
    assert_eq!(client.input.as_slice(), b"STAT\r\n");
}

#[test]
fn a_name_waits_for_its_password_and_no_other_command() {
    let mut client = Client::tls();
    assert_eq!(client.send("PASS secret\r\n"), "-ERR USER comes first\r\n");
    client.send("USER alice\r\nSTAT\r\n");
    assert_eq!(client.send("PASS secret\r\n"), "-ERR USER comes first\r\n");
    let mut client = Client::tls();
    client.send("USER alice\r\nAUTH PLAIN\r\n*\r\n");
    assert_eq!(client.send("PASS secret\r\n"), "-ERR USER comes first\r\n");
    let mut client = Client::tls();
    client.send("USER alice\r\nPASS secret\r\n");
    client.answer(Answer::Denied);
    assert_eq!(client.send("PASS other\r\n"), "-ERR USER comes first\r\n");
}

#[test]
fn lines_are_bounded_and_sasl_lines_are_longer() {
    let mut client = Client::tls();
    client.send(format!("PASS {}", "x".repeat(8200)));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    let mut client = Client::tls();
    let bad = client.send(format!("AUTH PLAIN {}\r\n", "A".repeat(12_288)));
    assert_eq!(bad, "-ERR Invalid SASL message\r\n");
    assert_eq!(client.send("AUTH PLAIN\r\n"), "+ \r\n");
    assert_eq!(client.send(format!("{}\r\n", "A".repeat(12_288))), "-ERR Invalid SASL message\r\n");
    client.send(format!("AUTH PLAIN {}", "A".repeat(13_000)));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
}

#[test]
fn credentials_nobody_can_have_reach_nobody() {
    let (name, password) = ("u".repeat(257), "p".repeat(1025));
    for login in
        [format!("USER {name}\r\nPASS x\r\n"), format!("USER a\r\nPASS {password}\r\n"), "USER a\r\nPASS \r\n".into()]
    {
        let mut client = Client::tls();
        assert!(client.send(login).ends_with("-ERR [AUTH] Invalid credentials\r\n"));
        assert!(client.login.is_none());
    }
    for line in [&b"USER a\0b\r\n"[..], b"PASS a\0b\r\n", b"PASS a\rb\r\n"] {
        assert_eq!(Client::tls().send(line), "-ERR NUL or line end in a command\r\n");
    }
}

#[test]
fn another_protocol_is_hung_up_on() {
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "PRI * HTTP/2.0"] {
        let mut client = Client::tls();
        assert_eq!(client.send(format!("{line}\r\n")), "");
        assert_eq!(client.end, Some(End::Close(CloseReason::WrongProtocol)));
    }
}

#[test]
fn commands_without_a_login_come_to_an_end() {
    let mut client = Client::tls();
    client.send("CAPA\r\n".repeat(100));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyErrors)));
}

#[test]
fn the_login_deadline_closes() {
    let mut client = Client::tls();
    client.now += DEADLINE;
    assert_eq!(client.send("CAP"), "-ERR No login in time\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::Deadline)));
    let mut client = Client::tls();
    client.send("AUTH PLAIN AGEAYg==\r\n");
    let step = client.dialogue.take().unwrap().on_deadline(client.now);
    client.take(step);
    assert!(client.heard().starts_with("-ERR [SYS/TEMP] "), "not as if the password were wrong");
}

#[test]
fn no_password_shows_in_debug() {
    let mut client = Client::tls();
    client.send("USER alice\r\nPASS hunter2\r\nPASS hunter2");
    let shown = format!("{:?} {:?} {:?}", client.dialogue, client.login, client.input);
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}

/// Every state × command: how the answer starts, or what else happens.
#[test]
fn every_state_answers_every_command() {
    let table = [
        // command, plaintext, TLS
        ("CAPA", "+OK", "+OK"),
        ("QUIT", "logout", "logout"),
        ("STLS", "upgrade", "-ERR"),
        ("USER alice", "-ERR Start", "+OK"),
        ("PASS secret", "-ERR Start", "-ERR USER"),
        ("AUTH", "+OK", "+OK"),
        ("AUTH PLAIN", "-ERR Start", "+ "),
        ("AUTH PLAIN AGEAYg==", "-ERR Start", "ask"),
        ("AUTH EXTERNAL =", "-ERR Start", "ask"),
        ("AUTH GSSAPI", "-ERR Start", "-ERR Unsupported"),
        ("AUTH PLAIN a b", "-ERR Too", "-ERR Too"),
        ("CAPA x", "-ERR Too", "-ERR Too"),
        ("USER", "-ERR Missing", "-ERR Missing"),
        ("PASS", "-ERR Missing", "-ERR Missing"),
        ("APOP alice 0123", "-ERR APOP", "-ERR APOP"),
        ("NOOP", "-ERR Log in", "-ERR Log in"),
        ("STAT", "-ERR Log in", "-ERR Log in"),
        ("RETR 1", "-ERR Log in", "-ERR Log in"),
        ("UTF8", "-ERR Unknown", "-ERR Unknown"),
        ("XOIP 192.0.2.1", "-ERR Unknown", "-ERR Unknown"),
        ("XCLIENT ADDR=192.0.2.1", "-ERR Unknown", "-ERR Unknown"),
        ("", "-ERR Unknown", "-ERR Unknown"),
    ];
    for (command, plaintext, tls) in table {
        for (mut client, expected) in [(Client::plaintext(), plaintext), (Client::tls(), tls)] {
            let said = client.send(format!("{command}\r\n"));
            let seen = match (&client.end, &client.login) {
                (Some(End::Upgrade), _) => "upgrade",
                (Some(End::Close(CloseReason::Logout)), _) => "logout",
                (_, Some(_)) => "ask",
                _ => said.as_str(),
            };
            assert!(seen.starts_with(expected), "{command:?}: {seen:?}, expected {expected:?}");
        }
        // Awaiting SASL data nothing is a command; awaiting an answer nothing is read.
        let mut client = Client::tls();
        client.send("AUTH PLAIN\r\n");
        assert_eq!(client.send(format!("{command}\r\n")), "-ERR Invalid SASL message\r\n");
        let mut client = Client::tls();
        client.send("AUTH PLAIN AGEAYg==\r\n");
        assert_eq!(client.send(format!("{command}\r\n")), "");
    }
}
