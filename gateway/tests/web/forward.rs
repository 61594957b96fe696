//! Requests to the cell and back.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, read_until};

fn stream_body(
    pieces: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync + Unpin + 'static,
) -> reqwest::Body {
    reqwest::Body::wrap(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
}

#[tokio::test]
async fn a_browser_without_session_is_sent_to_the_login_page_and_other_clients_are_asked_for_a_password() {
    let world = World::new().await;
    let answer = world.request("GET", "/mail?a=b").header("accept", "text/html").send().await.unwrap();
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["location"], "/login?next=%2Fmail%3Fa%3Db");
    let answer = world.request("PROPFIND", "/dav/").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    // A script of a page gets no challenge that would open the browser's own window.
    let answer = world.request("POST", "/soap").header("sec-fetch-mode", "cors").send().await.unwrap();
    assert_eq!(answer.headers()["www-authenticate"], "Session realm=\"Mail\"");
    let answer = world.request("POST", "/form").header("accept", "text/html").send().await.unwrap();
    assert_eq!(answer.status(), 303);
    assert_eq!(world.cell.count(), 0);
}

#[tokio::test]
async fn a_cell_behind_tls_is_entered_only_under_its_name() {
    let world = World::with("cell.test").await;
    let get = |world: &World| world.request("GET", "/mail").header("cookie", world.session()).send();
    for _ in 0..2 {
        assert_eq!(get(&world).await.unwrap().text().await.unwrap(), "cell");
    }
    let world = World::with("other.test").await;
    assert_eq!(get(&world).await.unwrap().status(), 503);
    assert_eq!(world.cell.count(), 0);
}

#[tokio::test]
async fn the_cell_is_reached_from_its_source_address() {
    let world = World::from("127.0.0.9").await;
    let answer = world.request("GET", "/mail").header("cookie", world.session()).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "cell");
    let peers = world.cell.peers.lock().unwrap().clone();
    assert!(!peers.is_empty() && peers.iter().all(|peer| peer.ip().to_string() == "127.0.0.9"), "{peers:?}");
}

#[tokio::test]
async fn a_session_reaches_the_cell_which_is_told_who_comes_from_where() {
    let world = World::new().await;
    let answer = world
        .request("GET", "/mail")
        .header("cookie", format!("CELL=1; {}", world.session()))
        .header("x-forwarded-for", "203.0.113.9")
        .header("remote-user", "root@univ.example")
        .header("guichet-identity", "forged")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert!(!answer.headers().contains_key("server"));
    assert!(!answer.headers().contains_key("x-powered-by"));
    assert_eq!(answer.text().await.unwrap(), "cell");

    let seen = world.cell.last();
    let field = |name: &str| {
        let values: Vec<_> = seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        values.join("|")
    };
    assert_eq!(field("remote-user"), "alice@univ.example");
    assert_eq!(field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(field("x-forwarded-proto"), "https");
    assert_eq!(field("x-forwarded-host"), "localhost");
    // HTTP/2 has no such field (RFC 9113 §8.3.1); the cell's HTTP/1.1 wants it.
    assert_eq!(field("host"), "localhost");
    assert_eq!(field("cookie"), "CELL=1");
    let token = field("guichet-identity");
    let claims = token.split('.').nth(1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["sub"], "alice@univ.example");
    assert_eq!(claims["aud"], "main");
}

#[tokio::test]
async fn any_method_passes() {
    let world = World::new().await;
    for method in ["PROPFIND", "REPORT", "MKCALENDAR", "LOCK", "SEARCH", "BCOPY", "OPTIONS", "DELETE"] {
        let answer =
            world.request(method, "/dav/").header("cookie", world.session()).body("<x/>").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{method}");
        assert_eq!(world.cell.last().method, method);
    }
}

#[tokio::test]
async fn a_revoked_session_is_no_session() {
    let world = World::new().await;
    let cookie = world.session();
    let get = || world.request("GET", "/mail").header("cookie", cookie.clone()).header("accept", "text/html").send();
    assert_eq!(get().await.unwrap().status(), 200);
    let answer = world.request("POST", "/logout").header("cookie", cookie.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["set-cookie"].to_str().unwrap().starts_with("__Host-guichet=; "));
    assert_eq!(get().await.unwrap().status(), 302);
}

#[tokio::test]
async fn a_session_in_use_is_sealed_again() {
    let world = World::new().await;
    let cookie = world.session();
    world.clock.advance(Duration::from_secs(6 * 60));
    let answer = world.request("GET", "/mail").header("cookie", &cookie).send().await.unwrap();
    let renewed = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(renewed.starts_with("__Host-guichet="), "{renewed}");
    assert!(!renewed.starts_with(&cookie), "{renewed}");
}

#[tokio::test]
async fn answers_stream() {
    let world = World::new().await;
    let answer = world.request("GET", "/stream").header("cookie", world.session()).send().await.unwrap();
    let mut answer = answer;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "one\n");
    // Only now may the cell go on: the first piece was not held back.
    world.cell.go_on.notify_one();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "two\n");
    assert_eq!(answer.text().await.unwrap(), "");
}

#[tokio::test]
async fn requests_stream_both_ways_at_once() {
    let world = World::new().await;
    let (mut send, pieces) = futures::channel::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    send.try_send(Ok(Bytes::from_static(b"first"))).unwrap();
    let request = world.request("POST", "/echo").header("cookie", world.session()).body(stream_body(pieces));
    let mut back = request.send().await.unwrap();
    assert_eq!(back.chunk().await.unwrap().unwrap(), "first");
    send.try_send(Ok(Bytes::from_static(b"second"))).unwrap();
    assert_eq!(back.chunk().await.unwrap().unwrap(), "second");
    drop(send);
    assert_eq!(back.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_websocket_is_carried() {
    let world = World::new().await;
    let mut stream = world.raw().await;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {}\r\n\r\n",
        world.session()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(read_until(&mut stream, "ping").await, "ping");
    assert_eq!(world.cell.last().headers["remote-user"], "alice@univ.example");
}

#[tokio::test]
async fn the_cell_cannot_set_our_cookies_nor_hop_by_hop_fields() {
    let world = World::new().await;
    let answer = world.request("GET", "/cookies").header("cookie", world.session()).send().await.unwrap();
    let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["CELL=1; Path=/"]);
    assert!(!answer.headers().contains_key("x-hop"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
    let world = World::new().await;
    let large = vec![b'x'; 1_000_001];
    let announced = world.request("PUT", "/file").header("cookie", world.session()).body(large.clone()).send().await;
    assert_eq!(announced.unwrap().status(), 413);
    let pieces: Vec<_> = large.chunks(64 * 1024).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let body = stream_body(futures::stream::iter(pieces));
    let streamed = world.request("PUT", "/file").header("cookie", world.session()).body(body).send().await;
    assert_eq!(streamed.unwrap().status(), 413);
}

#[tokio::test]
async fn another_host_is_misdirected() {
    let world = World::new().await;
    for line in ["Host: evil.example", "Host: localhost.evil.example"] {
        let request = format!("GET / HTTP/1.1\r\n{line}\r\nConnection: close\r\n\r\n");
        let answer = world.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{line}: {answer}");
    }
}

#[tokio::test]
async fn http_1_1_connections_are_kept_and_pipelined_requests_are_each_looked_at() {
    let world = World::new().await;
    let mut stream = world.raw().await;
    let one = format!("GET /a HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", world.session());
    for _ in 0..3 {
        stream.write_all(one.as_bytes()).await.unwrap();
        read_until(&mut stream, "cell").await;
    }
    let two = format!("{one}{}", one.replace("/a", "/b"));
    stream.write_all(two.as_bytes()).await.unwrap();
    read_until(&mut stream, "cell").await;
    read_until(&mut stream, "cell").await;
    assert_eq!(world.cell.last().path, "/b");
    let hidden = format!("{one}GET /c HTTP/1.1\r\nHost : localhost\r\n\r\n");
    stream.write_all(hidden.as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 400 ").await;
    assert_eq!(world.cell.last().path, "/a");
}

#[tokio::test]
async fn a_dead_cell_is_told_in_the_users_language() {
    let world = World::new().await;
    let cookie = world.session();
    world.cell.stop.notify_one();
    // The port is closed when the waiting end of a first try says so.
    while world.request("GET", "/mail").header("cookie", &cookie).send().await.unwrap().status() == 200 {
        tokio::task::yield_now().await;
    }
    let get = |language: &'static str, accept: &'static str| {
        world
            .request("GET", "/mail")
            .header("cookie", &cookie)
            .header("accept-language", language)
            .header("accept", accept)
            .send()
    };
    let french = get("fr", "text/html").await.unwrap();
    assert_eq!(french.status(), 503);
    let wait: u64 = french.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((30..=120).contains(&wait));
    assert!(french.text().await.unwrap().contains("<html lang=\"fr\">"));
    let english = get("en", "text/html").await.unwrap();
    assert!(english.text().await.unwrap().contains("Your messages are safe"));
    let program = get("en", "*/*").await.unwrap();
    assert!(!program.text().await.unwrap().contains('<'));
}

#[tokio::test]
async fn an_endpoint_that_takes_connections_and_drops_them_is_no_reason_to_fail_a_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::beside(listener.local_addr().unwrap()).await;
    let (told, mut dropped) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // It takes the request, if there is one, and says nothing.
            let mut head = [0; 64];
            if matches!(stream.read(&mut head).await, Ok(1..)) {
                told.send_modify(|count| *count += 1);
            }
        }
    });
    let cookie = world.session();
    let ask = |method: &str| world.request(method, "/mail").header("cookie", &cookie).send();
    let mut asked = 0;
    while *dropped.borrow_and_update() == 0 {
        assert_eq!(ask("GET").await.unwrap().status(), 200);
        asked += 1;
        assert!(asked < 100, "the other endpoint was never tried");
    }
    assert_eq!(world.cell.count(), asked);
}
