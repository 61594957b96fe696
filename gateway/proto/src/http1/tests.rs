use proptest::prelude::*;

use super::{Gate, HEAD_BYTES_MAX, inspect};

fn verdict(head: &[u8]) -> (u16, &'static str) {
    match inspect(head, 0) {
        Gate::Pass { length, .. } => {
            assert_eq!(length, head.len());
            (200, "")
        }
        Gate::More => (0, "more"),
        Gate::Refuse { status, kind } => (status, kind),
    }
}

/// A head with these lines behind `GET / HTTP/1.1` and a Host.
fn with(fields: &str) -> (u16, &'static str) {
    verdict(format!("POST / HTTP/1.1\r\nHost: a.fr\r\n{fields}\r\n\r\n").as_bytes())
}

#[test]
fn clean_requests_pass() {
    for head in [
        "GET / HTTP/1.1\r\nHost: mail.example.fr\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: mail.example.fr\r\n\r\n",
        "GET /a?b=c&d=|{}^ HTTP/1.1\r\nhOsT:mail.example.fr:8443\r\nAccept:\t*/*  \r\nX-Empty:\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: [2001:db8::1]:443\r\nContent-Length: 0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a.fr\r\n\r\n",
        "PROPFIND /dav/ HTTP/1.1\r\nHost: a.fr\r\nDepth: 1\r\nContent-Length: 12\r\n\r\n",
        "X-MS-ENUMATTS /x HTTP/1.1\r\nHost: a.fr\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.fr\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n",
        "GET http://A.fr/x HTTP/1.1\r\nHost: a.fr\r\n\r\n",
        "GET https://a.fr:443?x HTTP/1.1\r\nHost: a.fr:443\r\n\r\n",
        "GET /chat HTTP/1.1\r\nHost: a.fr\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.fr\r\nX-Name: \u{e9}t\u{e9}\r\n\r\n",
    ] {
        assert_eq!(verdict(head.as_bytes()), (200, ""), "{head:?}");
    }
}

#[test]
fn what_two_parsers_read_in_two_ways_is_refused() {
    // The raw probes that were tried on an engine, those it let pass first.
    for (fields, status, kind) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400, "te_and_cl"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400, "te_and_cl"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, "two_transfer_encodings"),
        ("Transfer-Encoding: chunked, chunked", 400, "transfer_encoding"),
        ("Transfer-Encoding: gzip, chunked", 501, "transfer_coding"),
        ("Transfer-Encoding: chunked, gzip", 400, "transfer_encoding"),
        ("Transfer-Encoding: gzip", 400, "transfer_encoding"),
        ("Transfer-Encoding: identity", 400, "transfer_encoding"),
        ("Transfer-Encoding: ,chunked", 400, "transfer_encoding"),
        ("Transfer-Encoding: \"chunked\"", 400, "transfer_encoding"),
        ("Transfer-Encoding: chunked;q=1", 400, "transfer_encoding"),
        ("Transfer-Encoding:", 400, "transfer_encoding"),
        ("Transfer-Encoding: \x0bchunked", 400, "field_value"),
        ("Transfer-Encoding : chunked", 400, "space_before_colon"),
        ("Content-Length: 5\r\nContent-Length: 5", 400, "two_content_lengths"),
        ("Content-Length: 5\r\nContent-Length: 6", 400, "two_content_lengths"),
        ("Content-Length: 5, 5", 400, "content_length"),
        ("Content-Length: +5", 400, "content_length"),
        ("Content-Length: -1", 400, "content_length"),
        ("Content-Length: 0x5", 400, "content_length"),
        ("Content-Length:", 400, "content_length"),
        ("Content-Length: 9999999999999999999", 400, "content_length"),
        ("X: a\r\n b", 400, "obs_fold"),
        ("X: a\r\n\tb", 400, "obs_fold"),
        ("X: a\0b", 400, "field_value"),
        ("X: a\rb", 400, "bare_cr"),
        ("X: a\x7fb", 400, "field_value"),
        ("X: a\nY: b", 400, "bare_lf"),
        (": a", 400, "field_name"),
        ("X", 400, "field_without_colon"),
        ("X Y: a", 400, "field_name"),
        ("X(: a", 400, "field_name"),
        ("X\u{e9}: a", 400, "field_name"),
        ("Host: b.fr", 400, "two_hosts"),
        ("Host: a.fr", 400, "two_hosts"),
        ("Connection: Host", 400, "connection_names_field"),
        ("Connection: close, X-Forwarded-For", 400, "connection_names_field"),
        ("Connection: authorization", 400, "connection_names_field"),
        ("Connection: cookie", 400, "connection_names_field"),
        ("Connection: Content-Length", 400, "connection_names_field"),
        ("Connection: a b", 400, "connection"),
        ("Expect: 200-ok", 417, "expect"),
    ] {
        assert_eq!(with(fields), (status, kind), "{fields:?}");
    }
}

#[test]
fn odd_request_lines_are_refused() {
    for (line, status, kind) in [
        ("GET /", 400, "request_line"),
        ("GET  / HTTP/1.1", 400, "request_line"),
        ("GET / HTTP/1.1 ", 400, "request_line"),
        (" GET / HTTP/1.1", 400, "request_line"),
        ("GET /a b HTTP/1.1", 400, "request_line"),
        ("GET\t/\tHTTP/1.1", 400, "request_line"),
        ("G(T / HTTP/1.1", 400, "method"),
        ("GET /a\x01b HTTP/1.1", 400, "target"),
        ("GET /a\tb HTTP/1.1", 400, "target"),
        ("GET /a\x7fb HTTP/1.1", 400, "target"),
        ("GET /\u{e9} HTTP/1.1", 400, "target"),
        ("GET /a#b HTTP/1.1", 400, "target"),
        ("GET a HTTP/1.1", 400, "target_form"),
        ("GET * HTTP/1.1", 400, "target_form"),
        ("GET ftp://a.fr/ HTTP/1.1", 400, "target_form"),
        ("GET :// HTTP/1.1", 400, "target_form"),
        ("GET http://b.fr/ HTTP/1.1", 400, "host_not_target"),
        ("GET http://u@a.fr/ HTTP/1.1", 400, "target_authority"),
        ("GET http:/// HTTP/1.1", 400, "target_authority"),
        ("GET / HTTP/1.2", 505, "version"),
        ("GET / HTTP/2.0", 505, "version"),
        ("PRI * HTTP/2.0", 505, "version"),
        ("GET / HTTP/0.9", 505, "version"),
        ("GET / http/1.1", 400, "version"),
        ("GET / HTTP/1.10", 400, "version"),
        ("GET / HTTPS/1.1", 400, "version"),
        ("TRACE / HTTP/1.1", 405, "method_refused"),
        ("CONNECT a.fr:443 HTTP/1.1", 405, "method_refused"),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", 501, "method_too_long"),
    ] {
        assert_eq!(verdict(format!("{line}\r\nHost: a.fr\r\n\r\n").as_bytes()), (status, kind), "{line:?}");
    }
}

#[test]
fn hosts_are_one_name_and_a_port() {
    for host in [
        "",
        "a.fr,b.fr",
        "u@a.fr",
        "a fr",
        "a.fr:",
        "a.fr:x",
        "a.fr:123456",
        "a.fr/x",
        "a%2efr",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        ":80",
        "a.fr:80:80",
    ] {
        let seen = verdict(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(seen, (400, "host"), "{host:?}");
    }
    assert_eq!(verdict(b"GET / HTTP/1.1\r\n\r\n"), (400, "no_host"));
    assert_eq!(verdict(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), (400, "te_in_http_1_0"));
}

#[test]
fn bare_line_ends_are_refused_as_soon_as_they_come() {
    assert_eq!(verdict(b"GET / HTTP/1.1\n"), (400, "bare_lf"));
    assert_eq!(verdict(b"\n"), (400, "bare_lf"));
    assert_eq!(verdict(b"GET / HTTP/1.1\rX"), (400, "bare_cr"));
    assert_eq!(verdict(b"\r\n\r\n"), (400, "empty_lines"));
    assert_eq!(verdict(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), (400, "bare_lf"));
}

#[test]
fn heads_are_bounded() {
    let field = "X: y\r\n";
    assert_eq!(with(field.repeat(99).trim_end()), (200, ""));
    assert_eq!(with(field.repeat(100).trim_end()), (431, "too_many_fields"));
    let long = format!("X: {}", "y".repeat(HEAD_BYTES_MAX));
    assert_eq!(with(&long), (431, "head_too_long"));
    let target = format!("/{}", "a".repeat(8 * 1024 - 1));
    assert_eq!(verdict(format!("GET {target} HTTP/1.1\r\nHost: a.fr\r\n\r\n").as_bytes()), (200, ""));
    assert_eq!(verdict(format!("GET {target}a HTTP/1.1\r\nHost: a.fr\r\n\r\n").as_bytes()), (414, "target_too_long"));
    assert_eq!(verdict(&[b'a'; 9000]), (414, "request_line_too_long"));
    let exact = HEAD_BYTES_MAX - "GET / HTTP/1.0\r\nX: \r\n\r\n".len();
    assert_eq!(verdict(format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "y".repeat(exact)).as_bytes()), (200, ""));
    assert_eq!(
        verdict(format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "y".repeat(exact + 1)).as_bytes()),
        (431, "head_too_long")
    );
}

#[test]
fn what_follows_the_head_is_not_looked_at() {
    assert_eq!(inspect(b"POST / HTTP/1.0\r\n\r\n\n\0\r", 0), Gate::Pass { length: 19, bodyless: true });
}

proptest! {
    #[test]
    fn a_passed_head_ends_at_the_first_blank_line_and_has_one_host_at_most(fields in prop::collection::vec("[A-Za-z-]{1,12}:[ -~]{0,20}", 0..8)) {
        let head = format!("GET / HTTP/1.0\r\n{}\r\n\r\n", fields.join("\r\n"));
        if let Gate::Pass { length, .. } = inspect(head.as_bytes(), 0) {
            prop_assert_eq!(length, head.find("\r\n\r\n").unwrap() + 4);
            let hosts = fields.iter().filter(|field| field.to_ascii_lowercase().starts_with("host:")).count();
            prop_assert!(hosts <= 1);
        }
    }
}

#[test]
fn only_heads_without_framing_or_upgrade_are_bodyless() {
    let bodyless = |head: &[u8]| match inspect(head, 0) {
        Gate::Pass { bodyless, .. } => bodyless,
        other => panic!("{other:?}"),
    };
    assert!(bodyless(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!bodyless(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"));
    assert!(!bodyless(b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n"));
    assert!(!bodyless(b"GET / HTTP/1.1\r\nHost: a\r\nUPGRADE: websocket\r\n\r\n"));
}

#[test]
fn a_request_line_is_refused_at_its_longest_byte_whatever_follows() {
    let longest = "x".repeat(super::request_line::BYTES_MAX + 1);
    for head in [longest.clone(), format!("{longest}\r\n\r\n"), format!("{longest}\n")] {
        assert_eq!(
            inspect(head.as_bytes(), 0),
            Gate::Refuse { status: 414, kind: "request_line_too_long" },
            "{} bytes",
            head.len()
        );
    }
}
