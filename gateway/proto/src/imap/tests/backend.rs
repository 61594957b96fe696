use crate::{
    InputBuf, SecretText,
    cell::{CellAccount, CellFailure, CellMechanism, CellStep, EnterCell},
    imap::{CellLogin, CellProfile},
    testing::{CellEnd as End, play_cell},
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
    CellProfile { starttls: false, id_fields: Vec::new(), account: account() }
}

fn play(profile: CellProfile, script: &str) -> (Option<End>, Vec<u8>) {
    play_cell(CellLogin::new(profile), script)
}

fn ready(list: &str) -> Option<End> {
    Some(End::Ready(Some(list.to_owned())))
}

#[test]
fn initial_response_is_sent_when_the_cell_takes_it() {
    let (end, _) = play(
        profile(),
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready
        C: G1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
        S: G1 OK [CAPABILITY IMAP4rev1 IDLE] Logged in
        ",
    );
    assert_eq!(end, ready("IMAP4rev1 IDLE"));
}

#[test]
fn master_login_carries_the_authzid_behind_starttls_and_id() {
    let (end, _) = play(
        CellProfile {
            starttls: true,
            id_fields: vec![
                ("x-originating-ip".into(), "2001:db8::1".into()),
                ("name".into(), "Gui\"chet\r\nX".into()),
            ],
            account: CellAccount { username: "master".into(), authzid: Some("alice".into()), ..account() },
        },
        r#"
        S: * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready
        C: G1 STARTTLS
        S: G1 OK go
        T:
        C: G2 CAPABILITY
        S: * CAPABILITY IMAP4rev1 ID AUTH=PLAIN
        S: G2 OK done
        C: G3 ID ("x-originating-ip" "2001:db8::1" "name" "Gui\"chetX")
        S: * ID ("name" "Dovecot")
        S: G3 OK ID
        C: G4 AUTHENTICATE PLAIN
        S: +
        C: YWxpY2UAbWFzdGVyAHNlY3JldA==
        S: * CAPABILITY IMAP4rev1 UIDPLUS
        S: G4 OK Logged in
        "#,
    );
    assert_eq!(end, ready("IMAP4rev1 UIDPLUS"));
}

#[test]
fn login_with_literals_when_plain_is_not_offered() {
    let (end, rest) = play(
        profile(),
        "
        S: * OK ready
        C: G1 CAPABILITY
        S: * CAPABILITY IMAP4rev1
        S: G1 OK done
        C: G2 LOGIN {5}
        S: + OK
        C: alice {6}
        S: + OK
        C: secret
        S: G2 OK Logged in
        C: G3 CAPABILITY
        S: * CAPABILITY IMAP4rev1 CHILDREN
        S: G3 OK done
        ",
    );
    assert_eq!((end, rest), (ready("IMAP4rev1 CHILDREN"), Vec::new()));
    play(
        profile(),
        "
        S: * OK [CAPABILITY IMAP4rev1 LITERAL+] ready
        C: G1 LOGIN {5+}
        C: alice {6+}
        C: secret
        S: G1 OK [CAPABILITY IMAP4rev1] in
        ",
    );
}

#[test]
fn zimbra_takes_a_token_it_does_not_list() {
    let account = CellAccount { mechanism: CellMechanism::ZimbraToken, ..account() };
    let (end, _) = play(
        CellProfile { account: account.clone(), ..profile() },
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+] ready
        C: G1 AUTHENTICATE X-ZIMBRA YWxpY2UAYWxpY2UAc2VjcmV0
        S: G1 OK [CAPABILITY IMAP4rev1] in
        ",
    );
    assert_eq!(end, ready("IMAP4rev1"));
    let (end, _) = play(
        CellProfile { account, ..profile() },
        "
        S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready
        C: G1 AUTHENTICATE X-ZIMBRA
        S: +
        C: YWxpY2UAYWxpY2UAc2VjcmV0
        S: G1 NO AUTHENTICATE failed
        ",
    );
    assert_eq!(end, Some(End::Failed(CellFailure::Refused)), "the password is never tried instead");
}

#[test]
fn a_cell_that_tells_no_list_after_login_is_still_ready() {
    let (end, _) = play(
        profile(),
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready
        C: G1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
        S: G1 OK Logged in
        C: G2 CAPABILITY
        S: G2 NO not now
        ",
    );
    assert_eq!(end, Some(End::Ready(None)));
}

#[test]
fn what_follows_the_ok_belongs_to_the_client() {
    let mut input = InputBuf::new();
    input.extend(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n");
    let CellStep::Send { next, .. } = CellLogin::new(profile()).on_bytes(&mut input) else { panic!("logs in") };
    input.extend(b"G1 OK [CAPABILITY IMAP4rev1] in\r\n* 3 EXISTS\r\n");
    assert!(matches!(next.on_bytes(&mut input), CellStep::Ready { .. }));
    assert_eq!(input.as_slice(), b"* 3 EXISTS\r\n");
}

#[test]
fn an_answer_ahead_of_its_command_is_no_answer() {
    // Found by the property of cutting: the login was taken as done before it had left.
    let mut input = InputBuf::new();
    input.extend(b"* OK [CAPABILITY IMAP4rev1 LITERAL+] hi\r\nG1 OK done\r\nG2 OK done\r\n");
    let step = CellLogin::new(profile()).on_bytes(&mut input);
    assert!(matches!(step, CellStep::Failed(CellFailure::Protocol("an answer before the command"))), "{step:?}");
}

#[test]
fn a_no_is_temporary_or_final_by_its_code() {
    for (answer, failure) in [
        ("NO [UNAVAILABLE] later", CellFailure::Temporary),
        ("NO [INUSE] later", CellFailure::Temporary),
        ("NO [LIMIT] too many", CellFailure::Temporary),
        ("NO [alert] maintenance", CellFailure::Temporary),
        ("NO [REFERRAL imap://other/] moved", CellFailure::Elsewhere),
        ("NO AUTHENTICATE failed (wrong host)", CellFailure::Elsewhere),
        ("NO [AUTHENTICATIONFAILED] failed (wrong host)", CellFailure::Refused),
        ("NO [AUTHENTICATIONFAILED] no", CellFailure::Refused),
        ("NO LOGIN failed", CellFailure::Refused),
        ("BAD what", CellFailure::Refused),
    ] {
        let script = format!(
            "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\nC: G1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\nS: G1 {answer}"
        );
        assert_eq!(play(profile(), &script).0, Some(End::Failed(failure)), "{answer}");
    }
}

#[test]
fn a_cell_that_breaks_the_protocol_is_left() {
    let login =
        "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\nC: G1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\n";
    let long = "x".repeat(8192);
    for script in [
        "S: * PREAUTH [CAPABILITY IMAP4rev1] hello".to_owned(),
        "S: +OK POP3 ready".to_owned(),
        "S: 220 smtp".to_owned(),
        "S: ".to_owned(),
        "S: G1 OK before anything was asked".to_owned(),
        "S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready".to_owned(),
        format!("S: * OK {long}"),
        format!("{login}S: G2 OK other tag"),
        format!("{login}S: A1 OK other tag"),
        format!("{login}S: G1 MAYBE"),
        format!("{login}S: + go on"),
        format!("{login}S: * PREAUTH hm"),
        format!("{login}S: * ID (\"a\" {{5}}"),
        format!("{login}{}", "S: * OK still here\n".repeat(64)),
    ] {
        // A script ends at the first failure; the line counter fails on its last line.
        let (end, _) = play(profile(), &script);
        assert!(matches!(end, Some(End::Failed(CellFailure::Protocol(_)))), "{script}: {end:?}");
    }
    assert_eq!(play(profile(), "S: * BYE overloaded").0, Some(End::Failed(CellFailure::Bye)));
}

#[test]
fn bytes_before_tls_are_response_injection() {
    let mut input = InputBuf::new();
    input.extend(b"* OK ready\r\n");
    let CellStep::Send { next, .. } = CellLogin::new(CellProfile { starttls: true, ..profile() }).on_bytes(&mut input)
    else {
        panic!("STARTTLS is sent");
    };
    input.extend(b"G1 OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n");
    let step = next.on_bytes(&mut input);
    assert!(matches!(step, CellStep::Failed(CellFailure::Protocol("bytes before TLS"))), "{step:?}");
}

#[test]
fn starttls_refused_is_a_failure() {
    let (end, _) = play(
        CellProfile { starttls: true, ..profile() },
        "
        S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready
        C: G1 STARTTLS
        S: G1 NO no
        ",
    );
    assert_eq!(end, Some(End::Failed(CellFailure::Protocol("STARTTLS refused"))));
}

#[test]
fn a_credential_that_would_become_a_command_is_not_sent() {
    let secret = SecretText::new("x\r\nG9 DELETE INBOX".into());
    let (end, _) = play(
        CellProfile { account: CellAccount { secret, ..account() }, ..profile() },
        "S: * OK [CAPABILITY IMAP4rev1] ready",
    );
    assert_eq!(end, Some(End::Failed(CellFailure::Refused)));
}

#[test]
fn no_password_shows_in_debug() {
    let mut input = InputBuf::new();
    input.extend(b"* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n");
    let account = CellAccount { secret: SecretText::new("hunter2".into()), ..account() };
    let step = CellLogin::new(CellProfile { account, ..profile() }).on_bytes(&mut input);
    let shown = format!("{step:?}");
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}
