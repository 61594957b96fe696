use crate::{
    InputBuf, SecretText,
    cell::{CellAccount, CellFailure, CellMechanism, CellStep, EnterCell, Xclient},
    pop3::{CellLogin, CellProfile, Introduction},
    testing::{CellEnd, play_cell},
};

fn account() -> CellAccount {
    CellAccount {
        mechanism: CellMechanism::Plain,
        username: "alice".into(),
        secret: SecretText::new("secret".into()),
        authzid: None,
    }
}

fn profile() -> CellProfile {
    CellProfile { starttls: false, introduction: None, account: account() }
}

fn play(profile: CellProfile, script: &str) -> Option<CellEnd> {
    play_cell(CellLogin::new(profile), script).0
}

fn ready(capability: &str) -> Option<CellEnd> {
    Some(CellEnd::Ready(Some(capability.to_owned())))
}

#[test]
fn plain_with_initial_response() {
    let end = play(
        profile(),
        "
        S: +OK Dovecot ready.
        C: CAPA
        S: +OK
        S: UIDL
        S: sasl LOGIN plain
        S: .
        C: AUTH PLAIN AGFsaWNlAHNlY3JldA==
        S: +OK Logged in.
        ",
    );
    assert_eq!(end, ready("UIDL\nsasl LOGIN plain"));
}

#[test]
fn a_zimbra_cell_behind_stls_hears_the_address_and_a_token() {
    let end = play(
        CellProfile {
            starttls: true,
            introduction: Some(Introduction::Xoip("2001:db8::1".parse().unwrap())),
            account: CellAccount { mechanism: CellMechanism::ZimbraToken, ..account() },
        },
        "
        S: +OK Zimbra POP3 server ready
        C: STLS
        S: +OK begin TLS negotiation
        T:
        C: CAPA
        S: +OK Capability list follows
        S: SASL PLAIN
        S: XOIP
        S: .
        C: XOIP 2001:db8::1
        S: +OK
        C: AUTH X-ZIMBRA YWxpY2UAYWxpY2UAc2VjcmV0
        S: +OK authentication successful
        ",
    );
    assert_eq!(end, ready("SASL PLAIN\nXOIP"));
}

#[test]
fn a_dovecot_cell_hears_the_address_and_the_authzid() {
    let xclient = Xclient { client: "192.0.2.7:4711".parse().unwrap(), session: "edge-1.2a".into(), ttl: 4 };
    let end = play(
        CellProfile {
            introduction: Some(Introduction::Xclient(xclient)),
            account: CellAccount { username: "master".into(), authzid: Some("alice".into()), ..account() },
            ..profile()
        },
        "
        S: +OK [XCLIENT] Dovecot ready.
        C: CAPA
        S: +OK
        S: SASL PLAIN
        S: .
        C: XCLIENT ADDR=192.0.2.7 PORT=4711 SESSION=edge-1.2a TTL=4
        S: +OK Updated
        C: AUTH PLAIN YWxpY2UAbWFzdGVyAHNlY3JldA==
        S: +OK Logged in.
        ",
    );
    assert_eq!(end, ready("SASL PLAIN"));
}

#[test]
fn a_long_message_goes_on_a_line_of_its_own() {
    let capa = "S: +OK ready\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\n";
    // 240 characters of base64 fill the line of 255: "AUTH PLAIN ", the message, CRLF and two to spare.
    for (password, own_line) in [(173, false), (174, true)] {
        let secret = SecretText::new("p".repeat(password));
        let account = CellAccount { secret, ..account() };
        let message = account.sasl_message().to_string();
        let script = if own_line {
            format!("{capa}C: AUTH PLAIN\nS: + \nC: {message}\nS: +OK in")
        } else {
            format!("{capa}C: AUTH PLAIN {message}\nS: +OK in")
        };
        assert_eq!(play(CellProfile { account, ..profile() }, &script), ready("SASL PLAIN"), "{password}");
    }
}

#[test]
fn user_and_pass_where_plain_is_not_offered() {
    for capa in ["S: -ERR unknown command", "S: +OK\nS: USER\nS: ."] {
        let end = play(
            profile(),
            &format!("S: +OK ready\nC: CAPA\n{capa}\nC: USER alice\nS: +OK\nC: PASS secret\nS: +OK 3 messages"),
        );
        assert_eq!(end, ready("USER"));
    }
}

#[test]
fn what_follows_the_ok_belongs_to_the_client() {
    let mut input = InputBuf::new();
    input.extend(b"+OK ready\r\n");
    let CellStep::Send { next, .. } = CellLogin::new(profile()).on_bytes(&mut input) else { panic!("CAPA") };
    input.extend(b"+OK\r\nSASL PLAIN\r\n.\r\n");
    let CellStep::Send { next, .. } = next.on_bytes(&mut input) else { panic!("AUTH") };
    input.extend(b"+OK in\r\n+OK 3 120\r\n");
    assert!(matches!(next.on_bytes(&mut input), CellStep::Ready { .. }));
    assert_eq!(input.as_slice(), b"+OK 3 120\r\n");
}

#[test]
fn a_refusal_is_temporary_or_final_by_its_code() {
    let login = "S: +OK ready\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\n";
    for (answer, failure) in [
        ("-ERR [SYS/TEMP] later", CellFailure::Temporary),
        ("-ERR [in-use] locked", CellFailure::Temporary),
        ("-ERR [LOGIN-DELAY] wait", CellFailure::Temporary),
        ("-ERR [SYS/PERM] never", CellFailure::Refused),
        ("-ERR [AUTH] no", CellFailure::Refused),
        ("-ERR LOGIN failed", CellFailure::Refused),
        ("-ERR", CellFailure::Refused),
    ] {
        assert_eq!(play(profile(), &format!("{login}S: {answer}")), Some(CellEnd::Failed(failure)), "{answer}");
    }
    assert_eq!(play(profile(), "S: -ERR [SYS/TEMP] full"), Some(CellEnd::Failed(CellFailure::Temporary)));
    assert_eq!(play(profile(), "S: -ERR go away"), Some(CellEnd::Failed(CellFailure::Bye)));
}

#[test]
fn a_cell_that_breaks_the_protocol_is_left() {
    let capa = "S: +OK ready\nC: CAPA\n";
    let login = format!("{capa}S: +OK\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\n");
    let long = "x".repeat(8192);
    for script in [
        "S: * OK IMAP4rev1 ready".to_owned(),
        "S: 220 smtp".to_owned(),
        "S: +OKAY".to_owned(),
        format!("S: +OK {long}"),
        format!("{capa}S: what"),
        format!("{capa}S: +OK\nS: UIDL\nS: ."),
        format!("{capa}S: +OK\n{}", "S: X\n".repeat(63)),
        format!("{login}S: + go on"),
        format!("{login}S: OK"),
    ] {
        let end = play(profile(), &script);
        assert!(matches!(end, Some(CellEnd::Failed(CellFailure::Protocol(_)))), "{script}: {end:?}");
    }
    let master = CellProfile { account: CellAccount { authzid: Some("alice".into()), ..account() }, ..profile() };
    let end = play(master, &format!("{capa}S: +OK\nS: USER\nS: ."));
    assert!(matches!(end, Some(CellEnd::Failed(CellFailure::Protocol(_)))), "USER carries no authzid");
}

#[test]
fn an_address_that_is_refused_is_a_failure() {
    for refusal in ["-ERR You are not from trusted IP", "-ERR unknown command"] {
        let xoip = Introduction::Xoip("192.0.2.7".parse().unwrap());
        let end = play(
            CellProfile { introduction: Some(xoip), ..profile() },
            &format!("S: +OK ready\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: XOIP 192.0.2.7\nS: {refusal}"),
        );
        assert_eq!(end, Some(CellEnd::Failed(CellFailure::Protocol("the client's address refused"))));
    }
}

#[test]
fn answers_ahead_of_their_command_and_bytes_before_tls_are_injection() {
    let fail = |profile, bytes: &[u8]| {
        let mut input = InputBuf::new();
        input.extend(b"+OK ready\r\n");
        let CellStep::Send { next, .. } = CellLogin::new(profile).on_bytes(&mut input) else { panic!("goes on") };
        input.extend(bytes);
        match next.on_bytes(&mut input) {
            CellStep::Failed(CellFailure::Protocol(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fail(profile(), b"+OK\r\nSASL PLAIN\r\n.\r\n+OK in\r\n"), "an answer before the command");
    assert_eq!(fail(CellProfile { starttls: true, ..profile() }, b"+OK go\r\n+OK\r\n"), "bytes before TLS");
    assert_eq!(fail(CellProfile { starttls: true, ..profile() }, b"-ERR no\r\n"), "STLS refused");
}

#[test]
fn a_credential_that_would_become_a_command_is_not_sent() {
    for end in ["\r\n", "\n", "\r", "\0"] {
        let secret = SecretText::new(format!("x{end}DELE 1"));
        let profile = CellProfile { account: CellAccount { secret, ..account() }, ..profile() };
        let end = play(profile, "S: +OK ready\nC: CAPA\nS: -ERR");
        assert_eq!(end, Some(CellEnd::Failed(CellFailure::Refused)));
    }
}

#[test]
fn no_password_shows_in_debug() {
    let account = CellAccount { secret: SecretText::new("hunter2".into()), ..account() };
    let mut input = InputBuf::new();
    input.extend(b"+OK ready\r\n-ERR\r\n");
    let step = CellLogin::new(CellProfile { account, ..profile() }).on_bytes(&mut input);
    let shown = format!("{step:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
