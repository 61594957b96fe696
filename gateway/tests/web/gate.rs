//! Raw requests that two parsers could read in two ways: each a clear refusal, and the gateway lives on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::World;

/// What a probe must lead to.
enum Fate {
    /// This status, then the end of the connection.
    Refused(u16),
    /// Served.
    Served,
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_clean_ones_served() {
    use Fate::{Refused, Served};
    let world = World::new().await;
    let head =
        |line: &str, fields: &str| format!("{line}\r\nHost: localhost\r\nCookie: {}\r\n{fields}\r\n", world.session());
    let many: String = (0..300).map(|n| format!("X-{n}: 1\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "x".repeat(40_000));
    let probes = [
        ("get", head("GET / HTTP/1.1", "Connection: close\r\n"), Served),
        ("put", head("PUT / HTTP/1.1", "Connection: close\r\nContent-Length: 3\r\n") + "abc", Served),
        (
            "chunked",
            head("PUT / HTTP/1.1", "Connection: close\r\nTransfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n",
            Served,
        ),
        (
            "te and cl",
            head("PUT / HTTP/1.1", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + "0\r\n\r\n",
            Refused(400),
        ),
        (
            "te twice",
            head("PUT / HTTP/1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            Refused(400),
        ),
        ("chunked twice", head("PUT / HTTP/1.1", "Transfer-Encoding: chunked, chunked\r\n"), Refused(400)),
        ("gzip, chunked", head("PUT / HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n"), Refused(501)),
        ("te identity", head("PUT / HTTP/1.1", "Transfer-Encoding: identity\r\n"), Refused(400)),
        ("te control byte", head("PUT / HTTP/1.1", "Transfer-Encoding: \x0bchunked\r\n"), Refused(400)),
        ("te space before colon", head("PUT / HTTP/1.1", "Transfer-Encoding : chunked\r\n"), Refused(400)),
        ("te in 1.0", head("PUT / HTTP/1.0", "Transfer-Encoding: chunked\r\n"), Refused(400)),
        ("cl twice", head("PUT / HTTP/1.1", "Content-Length: 3\r\nContent-Length: 4\r\n") + "abc", Refused(400)),
        ("cl list", head("PUT / HTTP/1.1", "Content-Length: 3, 3\r\n") + "abc", Refused(400)),
        ("cl plus", head("PUT / HTTP/1.1", "Content-Length: +3\r\n") + "abc", Refused(400)),
        ("cl minus", head("PUT / HTTP/1.1", "Content-Length: -3\r\n"), Refused(400)),
        ("cl hex", head("PUT / HTTP/1.1", "Content-Length: 0x3\r\n"), Refused(400)),
        ("cl empty", head("PUT / HTTP/1.1", "Content-Length:\r\n"), Refused(400)),
        ("cl huge", head("PUT / HTTP/1.1", "Content-Length: 99999999999999999999\r\n"), Refused(400)),
        ("obs-fold", head("GET / HTTP/1.1", "X: a\r\n b\r\n"), Refused(400)),
        ("nul in value", head("GET / HTTP/1.1", "X: a\0b\r\n"), Refused(400)),
        ("cr in value", head("GET / HTTP/1.1", "X: a\rb\r\n"), Refused(400)),
        ("bare lf", "GET / HTTP/1.1\nHost: localhost\n\n".to_owned(), Refused(400)),
        ("two hosts", head("GET / HTTP/1.1", "Host: localhost\r\n"), Refused(400)),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), Refused(400)),
        ("host is not the target's", head("GET http://evil.example/ HTTP/1.1", ""), Refused(400)),
        ("connection names host", head("GET / HTTP/1.1", "Connection: Host\r\n"), Refused(400)),
        ("connection names x-forwarded-for", head("GET / HTTP/1.1", "Connection: X-Forwarded-For\r\n"), Refused(400)),
        ("space in path", head("GET /a b HTTP/1.1", ""), Refused(400)),
        ("control byte in path", head("GET /a\x01 HTTP/1.1", ""), Refused(400)),
        ("too many fields", head("GET / HTTP/1.1", &many), Refused(431)),
        ("too large", head("GET / HTTP/1.1", &large), Refused(431)),
        ("another version", head("GET / HTTP/3.7", ""), Refused(505)),
        ("not http", "\x16\x03\x01 hello\r\n\r\n".to_owned(), Refused(400)),
    ];
    for (name, probe, fate) in &probes {
        let before = world.cell.count();
        let answer = world.exchange(probe.as_bytes()).await;
        match fate {
            Refused(status) => {
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
                assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
                assert_eq!(world.cell.count(), before, "{name}");
            }
            Served => assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}"),
        }
    }
}

#[tokio::test]
async fn a_broken_chunk_never_becomes_a_second_request() {
    let world = World::new().await;
    let session = world.session();
    for body in [
        "3;\nx\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nabc",
        "-1\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let probe = format!(
            "PUT /a HTTP/1.1\r\nHost: localhost\r\nCookie: {session}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{smuggled}"
        );
        let answer = tokio::time::timeout(Duration::from_secs(20), world.exchange(probe.as_bytes())).await.unwrap();
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{body:?}: {answer}");
        assert!(world.cell.seen.lock().unwrap().iter().all(|seen| seen.path != "/smuggled"), "{body:?}");
    }
}

#[tokio::test]
async fn a_head_that_trickles_is_cut_and_others_are_served_meanwhile() {
    let world = World::new().await;
    let mut slow = world.raw().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
    let other = world.request("GET", "/").header("cookie", world.session()).send().await.unwrap();
    assert_eq!(other.status(), 200);
    // From here on the test's clock moves by itself to the next deadline whenever all wait.
    tokio::time::pause();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
}
