//! What no honest client sends: each a clear refusal, one log line without secrets, a metric, and the gateway lives on.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::LazyLock,
};

use guichet_tests::{ALICE, Curl, Dialogue, Gateway, HOST, House, wait};

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("bad-input"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    HOUSE.start(HOUSE.settings("gateway").limits("login_failures_per_user = 1000\nlogin_failures_per_source = 1000"))
});

fn lives_on() {
    let mut imap = GATEWAY.imap_dialogue();
    assert!(imap.answer("z", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("z OK"));
    assert_eq!(Curl::plain().get(&GATEWAY.management("/healthz")).status, 200);
}

fn ended(reason: &str) {
    wait::until(&format!("an end by {reason}"), || {
        (GATEWAY.metric("guichet_mail_dialogue_ends_total", &[&format!("reason=\"{reason}\"")]) >= 1.0).then_some(())
    });
}

/// Sends raw bytes over TLS to the web listener and returns all it says.
fn raw_web(bytes: &[u8]) -> String {
    let mut web = Dialogue::tls(GATEWAY.https(), HOST, &HOUSE.world.pki().ca());
    web.send(bytes);
    web.rest().join("\n")
}

#[test]
fn imap_commands_that_are_none_get_a_bad_and_never_an_echo() {
    for command in [
        "a LOGIN",
        "a LOGIN alice",
        "a LOGIN \"alice",
        "a LOGIN alice \"half",
        "a LOGIN alice p w",
        "a LOGIN (alice) (secret-Bad1)",
        "a AUTHENTICATE",
        "a AUTHENTICATE PLAIN !!!notbase64!!!",
        "a AUTHENTICATE PLAIN AGEAYgBj",
        "a AUTHENTICATE PLAIN AGFi",
        "a FETCH 1 BODY[]",
        "a SELECT INBOX",
        "a XYZZY secret-Bad1",
        "a STARTTLS",
    ] {
        let mut imap = GATEWAY.imap_dialogue();
        let said = imap.answer("a", command.strip_prefix("a ").expect("tagged"));
        assert!(said.starts_with("a BAD") || said.starts_with("a NO"), "{command}: {said}");
        assert!(!said.contains("secret-Bad1") && !said.contains("XYZZY"), "{said}");
        assert!(imap.answer("b", "NOOP").starts_with("b OK"), "{command}: the connection goes on");
    }
    for line in [&b"\r\n"[..], b" \r\n", b"\xff\xfe LOGIN a b\r\n", b"a\0b NOOP\r\n", b"+ NOOP\r\n", b"(a) NOOP\r\n"] {
        let mut imap = GATEWAY.imap_dialogue();
        imap.send(line);
        let said = imap.expect("");
        assert!(said.starts_with("* BAD"), "{line:?}: {said}");
        assert!(imap.answer("b", "NOOP").starts_with("b OK"));
    }
    lives_on();
}

#[test]
fn nul_line_ends_and_non_utf8_in_credentials_are_refused() {
    for password in [&b"nul\0inside"[..], b"line\r\nb NOOP", b"\xff\xfe\xfa"] {
        let mut imap = GATEWAY.imap_dialogue();
        imap.send(format!("a LOGIN {} {{{}+}}\r\n", ALICE.address, password.len()));
        imap.send(password);
        imap.send("\r\n");
        let said = imap.expect("a ");
        assert!(said.starts_with("a BAD") || said.starts_with("a NO"), "{password:?}: {said}");
        assert!(imap.answer("c", "NOOP").starts_with("c OK"), "nothing of it was read as a command");
    }
    let mut imap = GATEWAY.imap_dialogue();
    assert!(
        imap.answer("a", &format!("LOGIN {} \"\"", ALICE.address)).starts_with("a NO"),
        "an empty password is no password"
    );
    lives_on();
}

#[test]
fn lines_and_literals_over_their_bounds_end_the_connection() {
    let long = format!("a LOGIN {} {}\r\n", "x".repeat(6000), "y".repeat(6000));
    let sasl = format!("a AUTHENTICATE PLAIN {}\r\n", "QUFB".repeat(5000));
    for (what, bytes) in [
        ("line", long.as_bytes()),
        ("endless line", &[b'x'; 100_000]),
        ("SASL message", sasl.as_bytes()),
        ("literal that comes anyway", b"a LOGIN {4294967295+}\r\n"),
        ("literal over 64 bits", b"a LOGIN {99999999999999999999999+}\r\n"),
    ] {
        let mut imap = GATEWAY.imap_dialogue();
        imap.send(bytes);
        let rest = imap.rest().join("\n");
        assert!(rest.contains("* BYE") || rest.contains("BAD") || rest.is_empty(), "{what}: {rest}");
        assert!(!rest.contains("OK"), "{what}: {rest}");
    }
    let mut imap = GATEWAY.imap_dialogue();
    assert!(imap.answer("a", "LOGIN {4294967295}").starts_with("a NO [TOOBIG]"), "one that waits is told");
    ended("too_long");
    lives_on();
}

#[test]
fn a_client_that_only_errs_is_sent_away() {
    let mut imap = GATEWAY.imap_dialogue();
    for tag in ["a", "b", "c", "d", "e", "f", "g"] {
        imap.send(format!("{tag} NONSENSE\r\n"));
    }
    assert!(imap.rest().join("\n").contains("* BYE"));
    ended("too_many_errors");
    let mut imap = GATEWAY.imap_dialogue();
    for tag in ["a", "b", "c", "d"] {
        imap.send(format!("{tag} LOGIN {} guess-{tag}\r\n", ALICE.address));
    }
    assert!(imap.rest().join("\n").contains("* BYE"));
    ended("too_many_failures");
}

#[test]
fn a_connection_that_breaks_off_anywhere_is_only_an_end() {
    let whole = format!("a LOGIN {} {{14+}}\r\n{}\r\n", ALICE.address, ALICE.password);
    for cut in (0..whole.len()).step_by(3) {
        let mut imap = GATEWAY.imap_dialogue();
        imap.send(whole.get(..cut).expect("ASCII"));
    }
    for bytes in
        [&b"\x16"[..], b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x00\x02", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0"]
    {
        for port in [GATEWAY.imaps(), GATEWAY.https()] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
            stream.set_read_timeout(Some(wait::PATIENCE)).expect("timeout");
            stream.write_all(bytes).expect("written");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    wait::until("failed handshakes counted", || {
        (GATEWAY.metric("guichet_tls_handshakes_total", &["result=\"failed\""]) >= 10.0).then_some(())
    });
    lives_on();
}

#[test]
fn http_heads_that_could_mean_two_things_are_refused() {
    let host = format!("Host: {HOST}\r\n");
    for (what, head) in [
        ("two lengths", format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")),
        (
            "length and chunks",
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("odd coding", format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("length with sign", format!("POST / HTTP/1.1\r\n{host}Content-Length: +5\r\n\r\nhello")),
        ("two hosts", format!("GET / HTTP/1.1\r\n{host}Host: evil.test\r\n\r\n")),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("space in name", format!("GET / HTTP/1.1\r\n{host}X-A : b\r\n\r\n")),
        ("folded field", format!("GET / HTTP/1.1\r\n{host}X-A: b\r\n c\r\n\r\n")),
        ("NUL in value", format!("GET / HTTP/1.1\r\n{host}X-A: b\0c\r\n\r\n")),
        ("bare CR", format!("GET / HTTP/1.1\r\n{host}X-A: b\rc\r\n\r\n")),
        ("HTTP/0.9", "GET /\r\n\r\n".to_owned()),
        ("HTTP/3.0", format!("GET / HTTP/3.0\r\n{host}\r\n")),
        ("no request", "\x01\x02\x03\r\n\r\n".to_owned()),
        ("long target", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100_000))),
        ("long field", format!("GET / HTTP/1.1\r\n{host}X-A: {}\r\n\r\n", "a".repeat(200_000))),
        ("many fields", format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X-A: b\r\n".repeat(5000))),
    ] {
        let said = raw_web(head.as_bytes());
        let status: u16 = said.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        assert!((400..=505).contains(&status), "{what}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{what}: answered once, then closed: {said}");
    }
    assert!(GATEWAY.metric("guichet_http_gate_refusals_total", &[]) >= 10.0, "{}", GATEWAY.metrics());
    lives_on();
}

#[test]
fn forms_and_cookies_of_any_shape_open_nothing() {
    let curl = HOUSE.program().with(&["-H", "Accept: text/html"]);
    for cookie in [
        "__Host-guichet=",
        "__Host-guichet=AAAA.BBBB.CCCC",
        "__Host-guichet=%00%ff",
        "__Host-guichet",
        ";;;==;",
        "a=b; __Host-guichet=x; __Host-guichet=y",
    ] {
        let answer = curl.ask(&GATEWAY.url("/"), &["-H", &format!("Cookie: {cookie}")]);
        assert_eq!(answer.status, 302, "{cookie}: {answer:?}");
    }
    for credentials in ["Basic", "Basic !!!", "Basic YQ==", "Basic AAAA", "Bearer x", "Negotiate YII="] {
        let answer = HOUSE.program().ask(&GATEWAY.url("/dav/"), &["-H", &format!("Authorization: {credentials}")]);
        assert_eq!(answer.status, 401, "{credentials}: {answer:?}");
    }
    let odd = curl.post(&GATEWAY.url("/login/start"), &[("address", "<script>alert(1)</script>@\"'"), ("tenant", "")]);
    assert_eq!(odd.status, 422, "{odd:?}");
    assert!(!odd.body.contains("<script>alert(1)"), "{}", odd.body);
    let large = "x".repeat(100_000);
    assert_eq!(curl.post(&GATEWAY.url("/login/start"), &[("address", &large)]).status, 413);
    let json = curl.ask(&GATEWAY.url("/login/password"), &["-H", "Content-Type: application/json", "-d", "{}"]);
    assert_eq!(json.status, 415, "{json:?}");
    let foreign =
        curl.ask(&GATEWAY.url("/login/password"), &["-H", "Origin: https://evil.test", "-d", "address=a&password=b"]);
    assert_eq!(foreign.status, 403, "{foreign:?}");
    assert_eq!(curl.post(&GATEWAY.url("/saml/acs"), &[("SAMLResponse", "x")]).status, 403);
    lives_on();
}

#[test]
fn the_management_api_takes_orders_only_with_its_token() {
    let api = GATEWAY.management("/api/v1/reload");
    for header in ["X: y", "Authorization: Bearer", "Authorization: Bearer wrong", "Authorization: Basic eDp5"] {
        let answer = Curl::plain().ask(&api, &["-X", "POST", "-H", header]);
        assert_eq!(answer.status, 401, "{header}: {answer:?}");
    }
    assert_eq!(Curl::plain().get(&GATEWAY.management("/nothing")).status, 404);
}

#[test]
fn the_log_has_a_line_for_refusals_and_no_password_in_it() {
    let mut imap = GATEWAY.imap_dialogue();
    imap.answer("a", &format!("LOGIN {} never-log-me-Bad2", ALICE.address));
    imap.answer("b", "LOGIN never-log-me-Bad3 alice@univ-a.test");
    let line = GATEWAY.wait_log("A password login was decided.");
    assert!(line.starts_with('{'), "JSON, as configured: {line}");
    let log = GATEWAY.log();
    assert!(!log.contains("never-log-me"), "a password typed as name or password is in the log");
}
