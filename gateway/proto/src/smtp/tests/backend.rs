use crate::{
    InputBuf, SecretText,
    cell::{AHEAD, CellFailure, CellStep, EnterCell},
    smtp::{CellLogin, CellProfile, ClientFacts, Extensions},
};

#[derive(Debug, PartialEq, Eq)]
enum End {
    Upgrade,
    Ready(String),
    Failed(CellFailure),
}

fn profile() -> CellProfile {
    CellProfile {
        starttls: false,
        hostname: "edge.example.fr".into(),
        client: None,
        username: "alice".into(),
        password: SecretText::new("secret".into()),
        authzid: None,
    }
}

fn facts(address: &str) -> ClientFacts {
    ClientFacts { address: address.parse().unwrap(), helo: Some("laptop.home".into()), login: None }
}

/// Plays a script: `S:` comes from the cell with CRLF, `C:` is what we must say, `T:` says that TLS is up.
fn play(profile: CellProfile, script: &str) -> Option<End> {
    let mut input = InputBuf::new();
    let mut login = Some(CellLogin::new(profile));
    let (mut told, mut end) = (String::new(), None);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (who, text) = line.split_at(2);
        let text = text.strip_prefix(' ').unwrap_or_default();
        assert!(end.is_none() || (end == Some(End::Upgrade) && who == "T:"), "it ended before {line:?}: {end:?}");
        let step = match who {
            "C:" => {
                let expected = format!("{text}\r\n");
                assert!(told.starts_with(&expected), "expected {expected:?}, told {told:?}");
                told.drain(..expected.len());
                continue;
            }
            "T:" => login.take().expect("goes on").after_starttls(),
            _ => {
                assert_eq!(told, "", "told more than the script has, before {line:?}");
                input.extend(format!("{text}\r\n").as_bytes());
                login.take().expect("goes on").on_bytes(&mut input)
            }
        };
        end = match step {
            CellStep::Send { next, bytes } => {
                login = Some(next);
                told.push_str(std::str::from_utf8(&bytes).unwrap());
                None
            }
            CellStep::Upgrade { next } => {
                login = Some(next);
                Some(End::Upgrade)
            }
            CellStep::Ready { capability } => Some(End::Ready(capability.unwrap())),
            CellStep::Failed(failure) => Some(End::Failed(failure)),
        };
    }
    assert_eq!(told, "", "told more than the script has");
    end
}

const OPENING: &str = "
    S: 220 cell ESMTP
    C: EHLO edge.example.fr
    S: 250-cell
";

fn play_on(profile: CellProfile, rest: &str) -> Option<End> {
    play(profile, &format!("{OPENING}{rest}"))
}

#[test]
fn a_short_message_goes_with_the_command() {
    let end = play(
        profile(),
        "
        S: 220-cell ESMTP
        S: 220 no spam please
        C: EHLO edge.example.fr
        S: 250-cell
        S: 250-PIPELINING
        S: 250-SIZE 10240000
        S: 250 AUTH LOGIN PLAIN
        C: AUTH PLAIN AGFsaWNlAHNlY3JldA==
        S: 235 2.7.0 Authentication successful
        ",
    );
    let Some(End::Ready(list)) = end else { panic!("{end:?}") };
    assert_eq!(list, "PIPELINING\nSIZE 10240000\nAUTH LOGIN PLAIN");
    assert_eq!(
        Extensions::read(&list),
        Extensions { size: Some(10_240_000), pipelining: true, ..Extensions::default() }
    );
}

#[test]
fn a_long_message_goes_on_a_line_of_its_own() {
    // "AUTH PLAIN ", CRLF and the base64 of 373 bytes are the first over 512.
    for (length, alone) in [(365, false), (366, true)] {
        let password = "p".repeat(length);
        let message = crate::sasl::encode_plain(None, "alice", &SecretText::new(password.clone()));
        let login = match alone {
            true => format!("C: AUTH PLAIN\nS: 334\nC: {}", *message),
            false => format!("C: AUTH PLAIN {}", *message),
        };
        let profile = CellProfile { password: SecretText::new(password), ..profile() };
        let end = play_on(profile, &format!("S: 250 AUTH PLAIN\n{login}\nS: 235 in"));
        assert!(matches!(end, Some(End::Ready(_))), "{length}: {end:?}");
    }
}

#[test]
fn master_login_carries_the_authzid() {
    let end = play_on(
        CellProfile { username: "master".into(), authzid: Some("alice".into()), ..profile() },
        "
        S: 250 AUTH=PLAIN
        C: AUTH PLAIN YWxpY2UAbWFzdGVyAHNlY3JldA==
        S: 235 in
        ",
    );
    assert!(matches!(end, Some(End::Ready(_))));
    // LOGIN carries no authzid: the session would be the master's.
    let end = play_on(CellProfile { authzid: Some("alice".into()), ..profile() }, "S: 250 AUTH LOGIN");
    assert_eq!(end, Some(End::Failed(CellFailure::Protocol("no mechanism of ours is offered"))));
}

#[test]
fn login_is_used_where_plain_is_not_offered() {
    let end = play_on(
        profile(),
        "
        S: 250 AUTH GSSAPI LOGIN
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: YWxpY2U=
        S: 334 UGFzc3dvcmQ6
        C: c2VjcmV0
        S: 235 in
        ",
    );
    assert!(matches!(end, Some(End::Ready(_))));
}

#[test]
fn starttls_then_xclient_then_login() {
    let end = play(
        CellProfile { starttls: true, client: Some(facts("[2001:db8::1]:50123")), ..profile() },
        "
        S: 220 cell ESMTP
        C: EHLO edge.example.fr
        S: 250-cell
        S: 250-SIZE 1
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 2.0.0 go
        T:
        C: EHLO edge.example.fr
        S: 250-cell
        S: 250-XCLIENT NAME ADDR PROTO HELO LOGIN PORT
        S: 250 AUTH PLAIN
        C: XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=50123 PROTO=ESMTP HELO=laptop.home
        S: 220 cell ESMTP
        C: EHLO edge.example.fr
        S: 250-cell
        S: 250-XCLIENT NAME ADDR PROTO HELO LOGIN PORT
        S: 250-SIZE 99
        S: 250 AUTH PLAIN
        C: AUTH PLAIN AGFsaWNlAHNlY3JldA==
        S: 235 in
        ",
    );
    let Some(End::Ready(list)) = end else { panic!("{end:?}") };
    assert_eq!(Extensions::read(&list).size, Some(99), "the last list counts");
}

#[test]
fn xclient_sends_what_is_listed_and_nothing_that_could_be_a_word() {
    for (facts, listed, command) in [
        (facts("192.0.2.7:1"), "ADDR", "XCLIENT ADDR=192.0.2.7"),
        (facts("[::ffff:192.0.2.7]:1"), "addr port", "XCLIENT ADDR=192.0.2.7 PORT=1"),
        (
            ClientFacts { helo: Some("a b+c=d\r\n\u{e9} LOGIN=x".into()), ..facts("192.0.2.7:1") },
            "ADDR HELO LOGIN",
            "XCLIENT ADDR=192.0.2.7 HELO=a+20b+2Bc+3Dd+0D+0A+C3+A9+20LOGIN+3Dx",
        ),
        (
            ClientFacts { login: Some("alice@x.fr".into()), helo: None, ..facts("192.0.2.7:1") },
            "ADDR HELO LOGIN",
            "XCLIENT ADDR=192.0.2.7 LOGIN=alice@x.fr",
        ),
        (ClientFacts { helo: Some(" ".repeat(255)), ..facts("192.0.2.7:1") }, "ADDR HELO", "XCLIENT ADDR=192.0.2.7"),
    ] {
        let script = format!("S: 250 XCLIENT {listed}\nC: {command}\nS: 421 enough");
        let end = play_on(CellProfile { client: Some(facts), ..profile() }, &script);
        assert_eq!(end, Some(End::Failed(CellFailure::Temporary)));
    }
}

#[test]
fn what_is_configured_and_not_offered_ends_the_login() {
    let with_client = || CellProfile { client: Some(facts("192.0.2.7:1")), ..profile() };
    let with_login = || {
        let client = ClientFacts { login: Some("alice".into()), ..facts("192.0.2.7:1") };
        CellProfile { client: Some(client), ..profile() }
    };
    for (profile, rest, why) in [
        (with_client(), "S: 250 AUTH PLAIN", "XCLIENT is not offered"),
        (with_client(), "S: 250 XCLIENT NAME HELO", "XCLIENT is not offered"),
        (with_login(), "S: 250 XCLIENT ADDR HELO", "XCLIENT LOGIN is not offered"),
        (CellProfile { starttls: true, ..profile() }, "S: 250 AUTH PLAIN", "STARTTLS is not offered"),
        (profile(), "S: 250 AUTH GSSAPI X-PLAIN", "no mechanism of ours is offered"),
        (profile(), "S: 250 SIZE 1", "no mechanism of ours is offered"),
    ] {
        assert_eq!(play_on(profile, rest), Some(End::Failed(CellFailure::Protocol(why))), "{rest}");
    }
    let xclient = "S: 250-XCLIENT ADDR\nS: 250 AUTH PLAIN\nC: XCLIENT ADDR=192.0.2.7\n";
    for answer in ["250 ok", "550 5.7.0 insufficient authorization", "334 hm", "501 bad"] {
        let end = play_on(with_client(), &format!("{xclient}S: {answer}"));
        assert_eq!(end, Some(End::Failed(CellFailure::Protocol("XCLIENT refused"))), "{answer}");
    }
}

#[test]
fn the_first_answer_that_is_no_yes_decides() {
    let login = format!("{OPENING}S: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\n");
    let protocol = CellFailure::Protocol;
    for (script, failure) in [
        ("S: 421 too busy".to_owned(), CellFailure::Temporary),
        ("S: 450 later".to_owned(), CellFailure::Temporary),
        ("S: 554 no service here".to_owned(), protocol("no SMTP greeting")),
        ("S: 250 hm".to_owned(), protocol("no SMTP greeting")),
        ("S: * OK ready".to_owned(), protocol("no reply code")),
        ("S: +OK POP3 ready".to_owned(), protocol("no reply code")),
        ("S: 220 cell\nC: EHLO edge.example.fr\nS: 502 what".to_owned(), protocol("EHLO refused")),
        (format!("{login}S: 535 5.7.8 no"), CellFailure::Refused),
        (format!("{login}S: 534 5.7.9 no"), CellFailure::Refused),
        (format!("{login}S: 550 no"), CellFailure::Refused),
        (format!("{login}S: 454 4.7.0 later"), CellFailure::Temporary),
        (format!("{login}S: 421 4.7.0 later"), CellFailure::Temporary),
        (format!("{login}S: 530 5.7.0 Must issue STARTTLS"), protocol("the cell takes no such login")),
        (format!("{login}S: 504 5.5.4 what"), protocol("the cell takes no such login")),
        (format!("{login}S: 334"), protocol("a go-ahead for nothing")),
        (format!("{login}S: 250 ok"), protocol("OK before the credential was sent")),
        (format!("{login}S: 235-in\nS: 236 in"), protocol("two codes in one reply")),
        (
            format!("{OPENING}S: 250 AUTH LOGIN\nC: AUTH LOGIN\nS: 235 in"),
            protocol("OK before the credential was sent"),
        ),
    ] {
        assert_eq!(play(profile(), &script), Some(End::Failed(failure)), "{script}");
    }
}

#[test]
fn bytes_ahead_are_found_out() {
    let mut input = InputBuf::new();
    input.extend(b"220 cell\r\n");
    let CellStep::Send { next, .. } = CellLogin::new(CellProfile { starttls: true, ..profile() }).on_bytes(&mut input)
    else {
        panic!("EHLO is sent");
    };
    input.extend(b"250 STARTTLS\r\n");
    let CellStep::Failed(CellFailure::Protocol(why)) = next.on_bytes(&mut input) else {
        panic!("the first line is the host's name, not an extension");
    };
    assert_eq!(why, "STARTTLS is not offered");

    for (opening, ahead, why) in [
        (&["220 cell\r\n", "250-cell\r\n250 STARTTLS\r\n"][..], "220 go\r\n250 AUTH PLAIN\r\n", "bytes before TLS"),
        (&["220 cell\r\n", "250-cell\r\n250 STARTTLS\r\n"], "220 go\r\n2", "bytes before TLS"),
        (&["220 cell\r\n"], "250-cell\r\n250 STARTTLS\r\n220 go\r\n", AHEAD),
        (&[], "220 cell\r\n250 hi\r\n", AHEAD),
    ] {
        let mut login = CellLogin::new(CellProfile { starttls: true, ..profile() });
        let mut input = InputBuf::new();
        for piece in opening {
            input.extend(piece.as_bytes());
            let CellStep::Send { next, .. } = login.on_bytes(&mut input) else { panic!("goes on") };
            login = next;
        }
        input.extend(ahead.as_bytes());
        let step = login.on_bytes(&mut input);
        assert!(matches!(step, CellStep::Failed(CellFailure::Protocol(found)) if found == why), "{step:?}");
    }

    let mut login = CellLogin::new(profile());
    for piece in ["220 cell\r\n", "250-cell\r\n250 AUTH PLAIN\r\n"] {
        input.extend(piece.as_bytes());
        let CellStep::Send { next, .. } = login.on_bytes(&mut input) else { panic!("goes on") };
        login = next;
    }
    input.extend(b"235 in\r\n250 for your first command\r\n");
    assert!(matches!(login.on_bytes(&mut input), CellStep::Failed(CellFailure::Protocol(AHEAD))));
}

#[test]
fn replies_are_bounded() {
    let login = format!("{OPENING}S: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\n");
    let end = play(profile(), &format!("{login}S: 235 {}", "x".repeat(2048)));
    assert_eq!(end, Some(End::Failed(CellFailure::Protocol("a line is too long"))));
    let end = play(profile(), &format!("{login}{}S: 235 x", "S: 235-x\n".repeat(64)));
    assert_eq!(end, Some(End::Failed(CellFailure::Protocol("a reply is too long"))));
}

#[test]
fn a_credential_that_would_become_a_command_is_not_sent() {
    let password = SecretText::new("x\r\nMAIL FROM:<boss@x.fr>".into());
    let end = play_on(CellProfile { password, ..profile() }, "S: 250 AUTH PLAIN");
    assert_eq!(end, Some(End::Failed(CellFailure::Refused)));
}

#[test]
fn no_password_shows_in_debug() {
    let mut input = InputBuf::new();
    input.extend(b"220 cell\r\n");
    let CellStep::Send { next, .. } = CellLogin::new(profile()).on_bytes(&mut input) else { panic!("goes on") };
    input.extend(b"250-cell\r\n250 AUTH PLAIN\r\n");
    let step = next.on_bytes(&mut input);
    let shown = format!("{step:?}");
    assert!(shown.contains("alice") && !shown.contains("secret") && !shown.contains("AGFsaWNl"), "{shown}");
}
