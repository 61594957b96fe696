use std::sync::Arc;

use crate::{
    Answer, CloseReason, Dialogue, Mechanism,
    sasl::Mechanisms,
    sieve::{SieveDialogue, SieveProfile},
    testing::{Client, DEADLINE, End, play},
};

fn profile(tls: bool, mechanisms: Mechanisms) -> Arc<SieveProfile> {
    let extra = [("MAXREDIRECTS", "4"), ("NOTIFY", "mailto \"x"), ("sasl", "X"), ("", "x"), ("OWNER", "alice")];
    Arc::new(SieveProfile {
        tls,
        mechanisms,
        sieve_extensions: Arc::from(["fileinto", "vacation", "bad name", ""].map(str::to_owned)),
        extra_capabilities: Arc::from(extra.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        login_deadline: DEADLINE,
        hostname: Arc::from("mail.example.fr"),
    })
}

impl Client<SieveDialogue> {
    fn tls() -> Self {
        let profile = profile(true, Mechanisms::from_iter(Mechanism::ALL));
        let mut client = Self::begin(|now| SieveDialogue::after_starttls(profile, now));
        client.heard();
        client
    }

    fn plaintext() -> Self {
        let mut client = Self::begin(|now| SieveDialogue::greet(profile(false, Mechanisms::PASSWORD), now));
        client.heard();
        client
    }
}

#[test]
fn starttls_then_a_fresh_list_then_authenticate() {
    let before = play(
        Client::begin(|now| SieveDialogue::greet(profile(false, Mechanisms::PASSWORD), now)),
        r#"
        S: "IMPLEMENTATION" "Guichet"
        S: "SIEVE" "fileinto vacation"
        S: "SASL" ""
        S: "STARTTLS"
        S: "MAXREDIRECTS" "4"
        S: "NOTIFY" "mailto \"x"
        S: "VERSION" "1.0"
        S: OK "mail.example.fr ready"
        C: AUTHENTICATE "PLAIN"
        S: NO (ENCRYPT-NEEDED) "Start TLS first"
        C: STARTTLS
        S: OK "Begin TLS negotiation now"
        "#,
    );
    assert_eq!(before.end, Some(End::Upgrade));
    let client = play(
        Client::begin(|now| SieveDialogue::after_starttls(profile(true, Mechanisms::PASSWORD), now)),
        r#"
        S: "IMPLEMENTATION" "Guichet"
        S: "SIEVE" "fileinto vacation"
        S: "SASL" "PLAIN LOGIN"
        S: "MAXREDIRECTS" "4"
        S: "NOTIFY" "mailto \"x"
        S: "VERSION" "1.0"
        S: OK "TLS is up"
        C: NOOP
        S: OK "Done"
        C: noop "a \"tag\" \\"
        S: OK (TAG "a \"tag\" \\") "Done"
        C: AUTHENTICATE "PLAIN" "AGFsaWNlAHNlY3JldA=="
        A: opened "fileinto"
        S: OK "Logged in"
        "#,
    );
    assert_eq!(client.end, Some(End::HandOff));
}

#[test]
fn capability_tells_the_list_again() {
    let mut client = Client::tls();
    let said = client.send("CAPABILITY\r\n");
    assert!(said.starts_with("\"IMPLEMENTATION\" \"Guichet\"\r\n"), "{said}");
    assert!(said.contains("\"SASL\" \"PLAIN LOGIN XOAUTH2 OAUTHBEARER EXTERNAL\"\r\n"), "{said}");
    assert!(said.ends_with("\r\nOK \"CAPABILITY completed\"\r\n"), "{said}");
}

#[test]
fn strings_are_quoted_or_literal() {
    for bytes in [
        "AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHNlY3JldA==\"\r\n",
        "AUTHENTICATE \"plain\" {20+}\r\nAGFsaWNlAHNlY3JldA==\r\n",
        "authenticate {5+}\r\nPLAIN {20+}\r\nAGFsaWNlAHNlY3JldA==\r\n",
        "AUTHENTICATE \"PLAIN\" {20}\r\nAGFsaWNlAHNlY3JldA==\r\n",
        "AUTHENTICATE  \"PLAIN\"   \"AGFsaWNlAHNlY3JldA==\" \n",
    ] {
        let mut client = Client::tls();
        client.send(bytes);
        assert_eq!(client.asked(), (Mechanism::Plain, "alice", "secret", None), "{bytes:?}");
    }
    for response in ["\"AGFsaWNlAHNlY3JldA==\"\r\n", "{20+}\r\nAGFsaWNlAHNlY3JldA==\r\n"] {
        let mut client = Client::tls();
        assert_eq!(client.send("AUTHENTICATE \"PLAIN\"\r\n"), "\"\"\r\n");
        client.send(response);
        assert_eq!(client.asked(), (Mechanism::Plain, "alice", "secret", None), "{response:?}");
    }
}

#[test]
fn an_exchange_of_several_strings() {
    play(
        Client::tls(),
        r#"
        C: AUTHENTICATE "LOGIN"
        S: "VXNlcm5hbWU6"
        C: "YWxpY2U="
        S: "UGFzc3dvcmQ6"
        C: "*"
        S: NO "AUTHENTICATE cancelled"
        C: AUTHENTICATE "OAUTHBEARER" "bixhPWFsaWNlLAFhdXRoPUJlYXJlciB0AQE="
        A: denied
        S: "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0="
        C: "AQ=="
        S: NO "Invalid credentials"
        "#,
    );
    let mut client = Client::tls();
    client.send("AUTHENTICATE \"EXTERNAL\" \"\"\r\n");
    assert_eq!(client.asked(), (Mechanism::External, "", "<certificate>", None), "an empty string is a response");
}

#[test]
fn refusals_follow_the_error_map() {
    let client = play(
        Client::tls(),
        r#"
        C: AUTHENTICATE "PLAIN" "AGEAYg=="
        A: refused
        S: NO "Invalid credentials"
        C: AUTHENTICATE "PLAIN" "AGEAYg=="
        A: limited
        S: NO (TRYLATER) "Too many attempts, try again later"
        C: AUTHENTICATE "PLAIN" "AGEAYg=="
        A: unavailable
        S: NO (TRYLATER) "Login is not possible now, try again later"
        S: BYE "Too many failed logins"
        "#,
    );
    assert_eq!(client.end, Some(End::Close(CloseReason::TooManyFailures)));
    play(
        Client::tls(),
        "C: AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\nA: held\nS: NO (TRYLATER) \"The mailbox is being moved, try again in a minute\"",
    );
    play(
        Client::tls(),
        "C: AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\nA: crowded\nS: NO (TRYLATER) \"Too many sessions of this account are open\"",
    );
    let weak = Client::begin(|now| SieveDialogue::after_starttls(profile(true, Mechanisms::NONE), now));
    let mut weak = weak;
    weak.heard();
    assert_eq!(
        weak.send("AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\r\n"),
        "NO (AUTH-TOO-WEAK) \"The mechanism is not offered\"\r\n"
    );
    assert_eq!(weak.send("AUTHENTICATE \"GSSAPI\"\r\n"), "NO \"Unsupported mechanism\"\r\n");
    assert!(SieveDialogue::refuse_connection().starts_with(b"BYE (TRYLATER) "));
}

#[test]
fn a_password_before_tls_is_refused_and_told() {
    let mut client = Client::plaintext();
    let said = client.send(
        "AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHNlY3JldA==\"\r\nAUTHENTICATE \"PLAIN\" {16+}\r\nAGJvYgBzZWNyZXQ=\r\nLOGOUT\r\n",
    );
    assert!(said.starts_with("NO (ENCRYPT-NEEDED) \"Start TLS first\"\r\nNO (ENCRYPT-NEEDED)"), "{said}");
    assert_eq!(client.in_clear, ["alice", "bob"]);
    assert_eq!(client.end, Some(End::Close(CloseReason::Logout)));
}

#[test]
fn bytes_behind_starttls_close_the_connection() {
    let mut client = Client::plaintext();
    assert_eq!(client.send("STARTTLS\r\nCAPABILITY\r\n"), "BYE \"Nothing may follow STARTTLS\"\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::BytesBeforeTls)));
    let mut client = Client::tls();
    assert_eq!(client.send("STARTTLS\r\n"), "NO \"TLS is already up\"\r\n");
}

#[test]
fn pipelined_commands_belong_to_the_cell() {
    let mut client = Client::tls();
    client.send("AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\r\nLISTSCRIPTS\r\n");
    assert_eq!(client.answer(Answer::Opened { capability: None }), "OK \"Logged in\"\r\n");
    assert_eq!(client.input.as_slice(), b"LISTSCRIPTS\r\n");
}

#[test]
fn lines_and_literals_are_bounded() {
    for (start, length) in [("NOOP \"", 8_200), ("AUTHENTICATE \"PLAIN\" \"", 12_500)] {
        let mut client = Client::tls();
        client.send(format!("{start}{}", "A".repeat(length)));
        assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    }
    for announced in
        ["NOOP {4097+}", "PUTSCRIPT \"x\" {100000+}", "AUTHENTICATE \"PLAIN\" {12289+}", "NOOP {99999999999999999999}"]
    {
        let mut client = Client::tls();
        assert_eq!(client.send(format!("{announced}\r\n")), "BYE \"Line or literal too long\"\r\n", "{announced}");
    }
    let mut client = Client::tls();
    let long = "A".repeat(12_288);
    assert_eq!(client.send(format!("AUTHENTICATE \"PLAIN\" \"{long}\"\r\n")), "NO \"Invalid SASL message\"\r\n");
    assert_eq!(
        client.send(format!("AUTHENTICATE \"PLAIN\" {{12288+}}\r\n{long}\r\n")),
        "NO \"Invalid SASL message\"\r\n"
    );
    // Two long literals would not fit the input.
    client.send(format!("AUTHENTICATE {{12288+}}\r\n{long} {{12288+}}\r\n"));
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)));
    let mut client = Client::tls();
    client.send("NOOP {1+}\r\na {1+}\r\nb {1+}\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::TooLong)), "no command has three");
}

#[test]
fn line_ends_and_noise_are_refused() {
    for line in [&b"NOOP \"a\0b\"\r\n"[..], b"NOOP {3+}\r\na\rb\r\n", b"NOOP {4+}\r\na\r\nb\r\n"] {
        assert_eq!(Client::tls().send(line), "NO \"NUL or line end in a command\"\r\n");
    }
    assert_eq!(Client::tls().send("NOOP \"\u{e9}\"\r\n"), "NO \"Invalid tag\"\r\n");
    assert_eq!(Client::tls().send(format!("NOOP \"{}\"\r\n", "t".repeat(257))), "NO \"Invalid tag\"\r\n");
    let mut client = Client::tls();
    // authcid "a", password "b" CR LF "c".
    let said = client.send("AUTHENTICATE \"PLAIN\" \"AGEAYg0KYw==\"\r\n");
    assert_eq!(said, "NO \"NUL or line end in a name or password\"\r\n");
    assert!(client.login.is_none());
}

#[test]
fn another_protocol_is_hung_up_on() {
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0"] {
        let mut client = Client::tls();
        assert_eq!(client.send(format!("{line}\r\n")), "");
        assert_eq!(client.end, Some(End::Close(CloseReason::WrongProtocol)));
    }
}

#[test]
fn the_login_deadline_says_bye() {
    let mut client = Client::tls();
    client.now += DEADLINE;
    assert_eq!(client.send("NOO"), "BYE \"No login in time\"\r\n");
    assert_eq!(client.end, Some(End::Close(CloseReason::Deadline)));
    let mut client = Client::tls();
    client.send("AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\r\n");
    let step = client.dialogue.take().unwrap().on_deadline(client.now);
    client.take(step);
    assert!(client.heard().starts_with("NO (TRYLATER) "), "not as if the password were wrong");
}

#[test]
fn no_password_shows_in_debug() {
    let mut client = Client::tls();
    // "NUL alice NUL hunter2"
    client.send("AUTHENTICATE \"PLAIN\" \"AGFsaWNlAGh1bnRlcjI=\"\r\nhunter2");
    let shown = format!("{:?} {:?} {:?}", client.dialogue, client.login, client.input);
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}

/// Every state × command: how the answer starts, or what else happens.
#[test]
fn every_state_answers_every_command() {
    let table = [
        // command, plaintext, TLS
        ("CAPABILITY", "\"IMPLEMENTATION\"", "\"IMPLEMENTATION\""),
        ("NOOP", "OK", "OK"),
        ("NOOP {1+}\r\nx", "OK (TAG \"x\")", "OK (TAG \"x\")"),
        ("LOGOUT", "logout", "logout"),
        ("STARTTLS", "upgrade", "NO \"TLS"),
        ("AUTHENTICATE \"PLAIN\"", "NO (ENCRYPT-NEEDED)", "\"\""),
        ("AUTHENTICATE \"PLAIN\" \"AGEAYg==\"", "NO (ENCRYPT-NEEDED)", "ask"),
        ("AUTHENTICATE \"GSSAPI\"", "NO (ENCRYPT-NEEDED)", "NO \"Unsupported"),
        ("AUTHENTICATE", "NO \"Missing", "NO \"Missing"),
        ("AUTHENTICATE PLAIN", "NO \"Invalid", "NO \"Invalid"),
        ("AUTHENTICATE \"PLAIN\" \"a\" \"b\"", "NO \"Too", "NO \"Too"),
        ("AUTHENTICATE \"PLAIN\"\"a\"", "NO \"Invalid", "NO \"Invalid"),
        ("AUTHENTICATE \"PLAIN", "NO \"Invalid", "NO \"Invalid"),
        ("AUTHENTICATE \"PL\\AIN\"", "NO \"Invalid", "NO \"Invalid"),
        ("CAPABILITY \"x\"", "NO \"Too", "NO \"Too"),
        ("LOGOUT \"x\"", "NO \"Too", "NO \"Too"),
        ("LISTSCRIPTS", "NO \"Log in", "NO \"Log in"),
        ("PUTSCRIPT \"a\" {3+}\r\nabc", "NO \"Log in", "NO \"Log in"),
        ("UNAUTHENTICATE", "NO \"Log in", "NO \"Log in"),
        ("XCLIENT ADDR=192.0.2.1", "NO \"Unknown", "NO \"Unknown"),
        ("XYZZY", "NO \"Unknown", "NO \"Unknown"),
        ("", "NO \"Unknown", "NO \"Unknown"),
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
        client.send("AUTHENTICATE \"PLAIN\"\r\n");
        assert!(client.send(format!("{command}\r\n")).starts_with("NO "), "{command:?}");
        let mut client = Client::tls();
        client.send("AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\r\n");
        assert_eq!(client.send(format!("{command}\r\n")), "");
    }
}
