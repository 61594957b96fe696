use crate::{
    InputBuf, SecretText,
    cell::{CellAccount, CellFailure, CellMechanism, CellStep, EnterCell, Xclient},
    sieve::{CellLogin, CellProfile},
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
    CellProfile { starttls: false, xclient: None, account: account() }
}

fn play(profile: CellProfile, script: &str) -> Option<CellEnd> {
    play_cell(CellLogin::new(profile), script).0
}

fn ready(extensions: &str) -> Option<CellEnd> {
    Some(CellEnd::Ready(Some(extensions.to_owned())))
}

#[test]
fn a_login_behind_starttls_believes_only_the_fresh_list() {
    let xclient = Xclient { client: "192.0.2.7:4711".parse().unwrap(), session: "edge-1.2a".into(), ttl: 4 };
    let end = play(
        CellProfile {
            starttls: true,
            xclient: Some(xclient),
            account: CellAccount { username: "master".into(), authzid: Some("alice".into()), ..account() },
        },
        r#"
        S: "IMPLEMENTATION" "Dovecot Pigeonhole"
        S: "SIEVE" "injected"
        S: "SASL" ""
        S: "STARTTLS"
        S: "VERSION" "1.0"
        S: OK "Dovecot ready."
        C: STARTTLS
        S: OK "Begin TLS negotiation now."
        T:
        S: "IMPLEMENTATION" "Dovecot Pigeonhole"
        S: "SIEVE" "fileinto vacation"
        S: "SASL" "LOGIN plain"
        S: "XCLIENT"
        S: OK "TLS negotiation successful."
        C: XCLIENT ADDR=192.0.2.7 PORT=4711 SESSION=edge-1.2a TTL=4
        S: OK "Updated"
        C: AUTHENTICATE "PLAIN" "YWxpY2UAbWFzdGVyAHNlY3JldA=="
        S: OK "Logged in."
        "#,
    );
    assert_eq!(end, ready("fileinto vacation"));
}

#[test]
fn what_was_listed_before_tls_is_forgotten() {
    let end = play(
        CellProfile { starttls: true, ..profile() },
        r#"
        S: "SIEVE" "injected"
        S: "SASL" "PLAIN"
        S: OK
        C: STARTTLS
        S: OK
        T:
        S: "IMPLEMENTATION" "x"
        S: OK
        "#,
    );
    assert_eq!(end, Some(CellEnd::Failed(CellFailure::Protocol("no SASL PLAIN is offered"))));
}

#[test]
fn strings_of_the_list_may_be_literals() {
    let end = play(
        profile(),
        r#"
        S: {14}
        S: IMPLEMENTATION {8}
        S: a "b" \c
        S: {5}
        S: SIEVE {17}
        S: fileinto vacation
        S: "sasl" {5}
        S: PLAIN
        S: ok {5}
        S: ready
        C: AUTHENTICATE "PLAIN" "AGFsaWNlAHNlY3JldA=="
        S: OK (SASL "b2s=") {2}
        S: in
        "#,
    );
    assert_eq!(end, ready("fileinto vacation"));
}

#[test]
fn a_long_message_is_a_literal() {
    let account = CellAccount { secret: SecretText::new("p".repeat(1024)), ..account() };
    let message = account.sasl_message().to_string();
    let script = format!(
        "S: \"SASL\" \"PLAIN\"\nS: OK\nC: AUTHENTICATE \"PLAIN\" {{{}+}}\nC: {message}\nS: OK \"in\"",
        message.len()
    );
    assert_eq!(play(CellProfile { account, ..profile() }, &script), Some(CellEnd::Ready(None)));
}

#[test]
fn what_follows_the_ok_belongs_to_the_client() {
    let mut input = InputBuf::new();
    input.extend(b"\"SASL\" \"PLAIN\"\r\nOK\r\n");
    let CellStep::Send { next, .. } = CellLogin::new(profile()).on_bytes(&mut input) else { panic!("logs in") };
    input.extend(b"OK \"in\"\r\n\"IMPLEMENTATION\" \"x\"\r\n");
    assert!(matches!(next.on_bytes(&mut input), CellStep::Ready { .. }));
    assert_eq!(input.as_slice(), b"\"IMPLEMENTATION\" \"x\"\r\n");
}

#[test]
fn a_refusal_is_temporary_or_final_by_its_code() {
    let login = "S: \"SASL\" \"PLAIN\"\nS: OK\nC: AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHNlY3JldA==\"\n";
    for (answer, failure) in [
        ("NO (TRYLATER) \"later\"", CellFailure::Temporary),
        ("no (referral \"sieve://b\") \"moved\"", CellFailure::Elsewhere),
        ("BYE (REFERRAL \"sieve://b\") \"moved\"", CellFailure::Elsewhere),
        ("BYE (TRYLATER) \"full\"", CellFailure::Temporary),
        ("NO (AUTH-TOO-WEAK) \"no\"", CellFailure::Refused),
        ("NO \"Authentication failed.\"", CellFailure::Refused),
        ("NO", CellFailure::Refused),
        ("BYE", CellFailure::Bye),
    ] {
        assert_eq!(play(profile(), &format!("{login}S: {answer}")), Some(CellEnd::Failed(failure)), "{answer}");
    }
    assert_eq!(play(profile(), "S: BYE \"go away\""), Some(CellEnd::Failed(CellFailure::Bye)));
}

#[test]
fn a_cell_that_breaks_the_protocol_is_left() {
    let login = "S: \"SASL\" \"PLAIN\"\nS: OK\nC: AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHNlY3JldA==\"\n";
    for script in [
        "S: * OK IMAP4rev1 ready".to_owned(),
        "S: +OK POP3 ready".to_owned(),
        "S: NO \"what\"".to_owned(),
        "S: \"SASL".to_owned(),
        "S: OK \"no list\"".to_owned(),
        "S: \"SASL\" \"GSSAPI\"\nS: OK".to_owned(),
        "S: \"SIEVE\" {8193}".to_owned(),
        "S: {1}\nS: a {1}\nS: b {1}".to_owned(),
        format!("S: \"{}\"", "x".repeat(8192)),
        "S: \"X\"\n".repeat(65),
        format!("{login}S: \"\""),
        format!("{login}S: MAYBE"),
    ] {
        let end = play(profile(), &script);
        assert!(matches!(end, Some(CellEnd::Failed(CellFailure::Protocol(_)))), "{script}: {end:?}");
    }
}

#[test]
fn an_address_that_is_refused_is_a_failure() {
    let xclient = Xclient { client: "[::1]:1".parse().unwrap(), session: String::new(), ttl: 1 };
    let end = play(
        CellProfile { xclient: Some(xclient), ..profile() },
        "S: \"SASL\" \"PLAIN\"\nS: OK\nC: XCLIENT ADDR=::1 PORT=1 TTL=1\nS: NO \"You are not from trusted IP\"",
    );
    assert_eq!(end, Some(CellEnd::Failed(CellFailure::Protocol("the client's address refused"))));
}

#[test]
fn answers_ahead_of_their_command_and_bytes_before_tls_are_injection() {
    let fail = |profile, bytes: &[u8]| {
        let mut input = InputBuf::new();
        input.extend(b"\"SASL\" \"PLAIN\"\r\n");
        let CellStep::Send { next, .. } = CellLogin::new(profile).on_bytes(&mut input) else { panic!("goes on") };
        input.extend(b"OK\r\n");
        let CellStep::Send { next, .. } = next.on_bytes(&mut input) else { panic!("goes on") };
        input.extend(bytes);
        match next.on_bytes(&mut input) {
            CellStep::Failed(CellFailure::Protocol(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let starttls = || CellProfile { starttls: true, ..profile() };
    assert_eq!(fail(starttls(), b"OK\r\n\"SASL\" \"PLAIN\"\r\nOK\r\n"), "bytes before TLS");
    assert_eq!(fail(starttls(), b"NO\r\n"), "STARTTLS refused");
    let mut input = InputBuf::new();
    input.extend(b"\"SASL\" \"PLAIN\"\r\nOK\r\nOK\r\n");
    let step = CellLogin::new(profile()).on_bytes(&mut input);
    assert!(matches!(step, CellStep::Failed(CellFailure::Protocol("an answer before the command"))), "{step:?}");
}

#[test]
fn no_password_shows_in_debug() {
    let account = CellAccount { secret: SecretText::new("hunter2".into()), ..account() };
    let mut input = InputBuf::new();
    input.extend(b"\"SASL\" \"PLAIN\"\r\nOK\r\n");
    let step = CellLogin::new(CellProfile { account, ..profile() }).on_bytes(&mut input);
    let shown = format!("{step:?}");
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}
