//! The port that begins in the clear takes no password, and nothing said there counts behind TLS.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::LazyLock,
};

use guichet_tests::{ALICE, Curl, Dialogue, Gateway, HOST, House, wait, welcome};

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("starttls"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| HOUSE.gateway("gateway"));

fn clear() -> Dialogue {
    let mut imap = Dialogue::plain(GATEWAY.imap());
    let greeting = imap.expect("* OK");
    assert!(greeting.contains("STARTTLS") && greeting.contains("LOGINDISABLED"), "{greeting}");
    assert!(!greeting.contains("AUTH="), "{greeting}");
    imap
}

#[test]
fn curl_upgrades_and_fetches() {
    let output = Curl::trusting(&HOUSE.world, HOST)
        .command()
        .args(["--ssl-reqd", "--user", &format!("{}:{}", ALICE.address, ALICE.password)])
        .args(["--url", &format!("imap://{HOST}:{}/INBOX;MAILINDEX=1", GATEWAY.imap())])
        .output()
        .expect("curl runs");
    let message = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(message.contains(&welcome(ALICE.address, "alpha")), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn openssl_upgrades_and_finds_capabilities_that_fit_tls() {
    let ca = HOUSE.world.pki().ca().display().to_string();
    let address = format!("127.0.0.1:{}", GATEWAY.imap());
    let mut imap = Dialogue::openssl(&[
        "-starttls",
        "imap",
        "-connect",
        &address,
        "-servername",
        HOST,
        "-verify_hostname",
        HOST,
        "-CAfile",
        &ca,
    ]);
    let list = imap.ask("a", "CAPABILITY").concat();
    assert!(list.contains("AUTH=PLAIN") && !list.contains("STARTTLS") && !list.contains("LOGINDISABLED"), "{list}");
    assert!(imap.answer("b", "STARTTLS").starts_with("b BAD"), "TLS is already up");
    assert!(imap.answer("c", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("c OK"));
}

#[test]
fn no_password_is_taken_before_tls() {
    let mut imap = clear();
    let login = imap.answer("a", &format!("LOGIN {} {}", ALICE.address, ALICE.password));
    assert!(login.starts_with("a NO [PRIVACYREQUIRED]"), "{login}");
    let plain = imap.answer("b", "AUTHENTICATE PLAIN");
    assert!(plain.starts_with("b NO [PRIVACYREQUIRED]"), "{plain}");
    let literal = imap.answer("c", &format!("LOGIN {{{}}}", ALICE.address.len()));
    assert!(literal.starts_with("c NO [PRIVACYREQUIRED]"), "no literal is invited: {literal}");
}

#[test]
fn a_command_smuggled_behind_starttls_closes_the_connection() {
    let mut stream = TcpStream::connect(("127.0.0.1", GATEWAY.imap())).expect("connects");
    stream.set_read_timeout(Some(wait::PATIENCE)).expect("timeout");
    stream.write_all(b"a STARTTLS\r\nb CAPABILITY\r\n").expect("written");
    let mut all = String::new();
    let _ = stream.read_to_string(&mut all);
    assert!(all.contains("* BYE") && !all.contains("b OK") && !all.contains("a OK"), "{all}");
    wait::until("the metric", || {
        (GATEWAY.metric("guichet_mail_dialogue_ends_total", &["reason=\"bytes_before_tls\""]) >= 1.0).then_some(())
    });
}

#[test]
fn what_was_said_in_the_clear_is_forgotten_behind_tls() {
    let mut stream = TcpStream::connect(("127.0.0.1", GATEWAY.imap())).expect("connects");
    let mut line = [0; 512];
    let n = stream.read(&mut line).expect("greeting");
    assert!(n > 0);
    // Four of the five errors a connection may make, then a fresh start in TLS.
    for tag in ["a", "b", "c", "d"] {
        stream.write_all(format!("{tag} NONSENSE\r\n").as_bytes()).expect("written");
        let n = stream.read(&mut line).expect("answer");
        assert!(String::from_utf8_lossy(line.get(..n).expect("read")).contains("BAD"));
    }
    stream.write_all(b"e STARTTLS\r\n").expect("written");
    let n = stream.read(&mut line).expect("answer");
    assert!(String::from_utf8_lossy(line.get(..n).expect("read")).starts_with("e OK"));
    let mut imap = Dialogue::tls_after(stream, HOST, &HOUSE.world.pki().ca());
    assert!(imap.answer("f", "NONSENSE").starts_with("f BAD"));
    assert!(imap.answer("g", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("g OK"));
}

#[test]
fn a_browser_that_comes_here_by_mistake_is_shown_the_door() {
    let mut stream = TcpStream::connect(("127.0.0.1", GATEWAY.imap())).expect("connects");
    stream.set_read_timeout(Some(wait::PATIENCE)).expect("timeout");
    stream.write_all(b"POST / HTTP/1.1\r\nHost: mail.guichet.test\r\n\r\na LOGIN x y\r\n").expect("written");
    let mut all = String::new();
    let _ = stream.read_to_string(&mut all);
    assert!(all.starts_with("* OK") && all.lines().count() == 1, "{all}");
}
