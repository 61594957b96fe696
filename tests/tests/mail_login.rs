//! A mail program logs in and reads its mail: by every way the protocol has, at both kinds of cells.

use std::sync::LazyLock;

use guichet_tests::{
    ALICE, ALICE_AT_CELL, BOB, CAROL, Dialogue, ERIN, Gateway, HOST, House, LOU, Person, python, welcome,
};

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("mail-login"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    HOUSE.start(HOUSE.settings("gateway").limits("login_failures_per_source = 1000\nlogin_failures_per_user = 1000"))
});

/// The first message of someone's INBOX, fetched by curl; curl's exit code when it fails.
fn fetch(host: &str, port: u16, user: &str, options: &[&str]) -> Result<Vec<u8>, i32> {
    let output = guichet_tests::Curl::trusting(&HOUSE.world, host)
        .command()
        .args(["--user", user, "--url", &format!("imaps://{host}:{port}/INBOX;MAILINDEX=1")])
        .args(options)
        .output()
        .expect("curl runs");
    if output.status.success() { Ok(output.stdout) } else { Err(output.status.code().unwrap_or(-1)) }
}

fn user(person: &Person) -> String {
    format!("{}:{}", person.address, person.password)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn curl_fetches_through_the_gateway_what_the_cell_holds_by_login_and_by_plain() {
    let own = fetch("alpha.cell.test", HOUSE.alpha.imaps(), &format!("{}:{ALICE_AT_CELL}", ALICE.address), &[])
        .expect("direct");
    for options in [&["--login-options", "AUTH=PLAIN"][..], &["--login-options", "AUTH=PLAIN", "--sasl-ir"], &[]] {
        let through = fetch(HOST, GATEWAY.imaps(), &user(&ALICE), options);
        assert_eq!(through.as_ref(), Ok(&own), "{options:?}\n{}", GATEWAY.log());
    }
}

#[test]
fn a_cell_without_master_user_is_entered_with_the_users_own_password() {
    for person in [BOB, CAROL] {
        let message = fetch(HOST, GATEWAY.imaps(), &user(&person), &[]).expect("fetch");
        assert!(String::from_utf8_lossy(&message).contains(&welcome(person.address, "beta")));
        assert!(HOUSE.beta.log().contains(&format!("user=<{}>", person.address)), "{}", HOUSE.beta.log());
    }
}

#[test]
fn the_cell_never_learns_a_password_it_does_not_need() {
    fetch(HOST, GATEWAY.imaps(), &user(&ALICE), &[]).expect("fetch");
    let log = HOUSE.alpha.log();
    assert!(log.contains("user=<alice@univ-a.test>"), "{log}");
    assert!(log.contains("guichet-master"), "the master user logged in for her: {log}");
    assert!(!log.contains(ALICE.password));
}

#[test]
fn wrong_password_unknown_user_locked_and_closed_accounts_look_alike() {
    let mut said = Vec::new();
    for (address, password) in [
        (ALICE.address, "wrong-Pw"),
        ("nobody@univ-a.test", "wrong-Pw"),
        ("nobody@elsewhere.test", "wrong-Pw"),
        (LOU.address, LOU.password),
        (ERIN.address, ERIN.password),
        ("no-address", "wrong-Pw"),
    ] {
        let mut imap = GATEWAY.imap_dialogue();
        said.push(imap.answer("a", &format!("LOGIN {address} {password}")));
        assert!(imap.answer("b", "NOOP").starts_with("b OK"), "the connection goes on");
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said.concat().starts_with("a NO [AUTHENTICATIONFAILED]"), "{said:?}");
    assert_eq!(fetch(HOST, GATEWAY.imaps(), "alice@univ-a.test:wrong-Pw", &[]), Err(67), "curl calls it login denied");
}

#[test]
fn openssl_sees_every_form_of_login_with_literals_and_cancel() {
    let connect = || {
        let ca = HOUSE.world.pki().ca().display().to_string();
        let address = format!("127.0.0.1:{}", GATEWAY.imaps());
        let mut imap =
            Dialogue::openssl(&["-connect", &address, "-servername", HOST, "-verify_hostname", HOST, "-CAfile", &ca]);
        assert!(imap.expect("* OK").contains("SASL-IR"));
        imap
    };
    // Synchronising literals, each with its go-ahead.
    let mut imap = connect();
    imap.send(format!("a LOGIN {{{}}}\r\n", ALICE.address.len()));
    imap.expect("+ ");
    imap.send(format!("{} {{{}}}\r\n", ALICE.address, ALICE.password.len()));
    imap.expect("+ ");
    imap.send(format!("{}\r\n", ALICE.password));
    imap.expect("a OK");
    assert!(imap.answer("b", "SELECT INBOX").starts_with("b OK"));

    // Non-synchronising literals, and a password that only a literal or base64 can carry.
    let mut imap = connect();
    imap.send(format!(
        "a LOGIN {{{}+}}\r\n{} {{{}+}}\r\n{}\r\n",
        CAROL.address.len(),
        CAROL.address,
        CAROL.password.len(),
        CAROL.password
    ));
    imap.expect("a OK");

    // PLAIN, cancelled, then without and with initial response.
    let plain = base64(format!("\0{}\0{}", ALICE.address, ALICE.password).as_bytes());
    let mut imap = connect();
    imap.send("a AUTHENTICATE PLAIN\r\n");
    imap.expect("+");
    imap.send("*\r\n");
    imap.expect("a BAD");
    imap.send("b AUTHENTICATE PLAIN\r\n");
    imap.expect("+");
    imap.send(format!("{plain}\r\n"));
    imap.expect("b OK");
    let mut imap = connect();
    assert!(imap.answer("a", &format!("AUTHENTICATE PLAIN {plain}")).starts_with("a OK"));

    // Somebody else's name in front: not without a right to it.
    let other = base64(format!("{}\0{}\0{}", BOB.address, ALICE.address, ALICE.password).as_bytes());
    assert!(connect().answer("a", &format!("AUTHENTICATE PLAIN {other}")).starts_with("a NO"));
}

#[test]
fn capabilities_before_and_after_login_are_coherent_with_the_cell() {
    let mut imap = GATEWAY.imap_dialogue();
    let before = imap.ask("a", "CAPABILITY").concat();
    assert!(before.contains("IMAP4rev1") && before.contains("AUTH=PLAIN"), "{before}");
    assert!(
        !before.contains("STARTTLS") && !before.contains("LOGINDISABLED") && !before.contains("COMPRESS"),
        "{before}"
    );
    assert!(imap.ask("b", "ID NIL").concat().contains("* ID"));
    let login = imap.answer("c", &format!("LOGIN {} {}", ALICE.address, ALICE.password));
    let now = imap.ask("d", "CAPABILITY");
    for name in now.first().expect("a list").split(' ').skip(2).filter(|n| !n.starts_with("AUTH=")) {
        assert!(login.contains(name), "{name} is in the cell's own list but not in {login}");
    }
    assert!(login.contains(" IDLE") && !login.contains("AUTH="), "{login}");
    assert!(imap.answer("e", "LOGOUT").starts_with("e OK"));
}

#[test]
fn imapclient_identifies_itself_fetches_and_is_told_of_new_mail_while_it_idles() {
    // HOST resolves for Python only as localhost, which the certificate names as well.
    let ca = HOUSE.world.pki().ca().display().to_string();
    let (port, cell) = (GATEWAY.imaps().to_string(), HOUSE.alpha.imaps().to_string());
    let said = python("mailbox.py", &["localhost", &port, &ca, ALICE.address, ALICE.password, &cell, ALICE_AT_CELL]);
    assert!(said.contains("id True") && said.contains("exists") && said.contains("pushed"), "{said}");
    assert!(said.contains(&welcome(ALICE.address, "alpha")), "{said}");
    let log = HOUSE.alpha.log();
    assert!(log.contains("rip=127.0.0.1") && !log.contains("203.0.113.9"), "a client chose its own address: {log}");
}

#[test]
fn what_is_pipelined_behind_a_login_reaches_the_cell() {
    let mut imap = GATEWAY.imap_dialogue();
    imap.send(format!(
        "a LOGIN {} {}\r\nb SELECT INBOX\r\nc FETCH 1 BODY[TEXT]\r\nd LOGOUT\r\n",
        ALICE.address, ALICE.password
    ));
    let all = imap.rest().join("\n");
    assert!(all.contains(&welcome(ALICE.address, "alpha")) && all.contains("d OK"), "{all}");
}

#[test]
fn a_long_message_comes_back_byte_for_byte() {
    let mut message = b"Subject: long\r\n\r\n".to_vec();
    for line in 0..60_000 {
        message.extend_from_slice(format!("line {line} of a message that fills many buffers\r\n").as_bytes());
    }
    let file = HOUSE.world.dir().join("long.eml");
    std::fs::write(&file, &message).expect("file");
    let mut upload = guichet_tests::Curl::trusting(&HOUSE.world, HOST).command();
    upload
        .args(["--user", &user(&BOB), "--url", &format!("imaps://{HOST}:{}/INBOX", GATEWAY.imaps()), "-T"])
        .arg(&file);
    guichet_tests::run(&mut upload);
    let output = guichet_tests::Curl::trusting(&HOUSE.world, HOST)
        .command()
        .args(["--user", &user(&BOB), "--url", &format!("imaps://{HOST}:{}/INBOX;MAILINDEX=*", GATEWAY.imaps())])
        .output()
        .expect("curl runs");
    assert!(output.stdout == message, "{} bytes of {}", output.stdout.len(), message.len());
}

#[test]
fn a_second_login_needs_no_directory_until_the_password_differs() {
    let house = &HOUSE;
    house.slapd.add_user("dave@univ-a.test", "first-Pw13", &["guichetCell: beta"]);
    let login = |password: &str| GATEWAY.imap_dialogue().answer("a", &format!("LOGIN dave@univ-a.test {password}"));
    // Cell beta has no such mailbox: the login is allowed, the cell is the one that does not let in.
    assert!(login("first-Pw13").starts_with("a NO [UNAVAILABLE]"));
    let asked = house.slapd.binds("dave@univ-a.test");
    assert!(asked > 0);
    assert!(login("first-Pw13").starts_with("a NO [UNAVAILABLE]"));
    assert_eq!(house.slapd.binds("dave@univ-a.test"), asked, "the cache answers");
    house.slapd.set_password("dave@univ-a.test", "second-Pw14");
    assert!(
        login("second-Pw14").starts_with("a NO [UNAVAILABLE]"),
        "a new password is asked for, not refused from memory"
    );
    assert!(house.slapd.binds("dave@univ-a.test") > asked);
}

#[test]
fn nothing_of_the_gateway_is_in_the_way_of_a_plain_openssl_check() {
    let ca = HOUSE.world.pki().ca().display().to_string();
    let address = format!("127.0.0.1:{}", GATEWAY.imaps());
    let check = |options: &[&str]| {
        let mut all = vec!["-connect", address.as_str(), "-servername", HOST, "-CAfile", ca.as_str()];
        all.extend(options);
        guichet_tests::openssl(&all, b"")
    };
    let good = check(&["-verify_hostname", HOST, "-verify_return_error"]);
    assert!(good.contains("Verify return code: 0 (ok)") && good.contains("TLSv1.3"), "{good}");
    assert!(check(&["-tls1_2"]).contains("ECDHE-"), "TLS 1.2 is ECDHE");
    for old in ["-tls1_1", "-tls1"] {
        assert!(!check(&[old, "-cipher", "ALL:@SECLEVEL=0"]).contains("Cipher    : ECDHE"), "{old} was accepted");
    }
}
