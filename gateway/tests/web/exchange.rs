//! What passes between a request and its answer when the cell does what cells do: answer early, in pieces, twice, cut
//! short, or not at all. The cell is a script: bytes read, bytes written.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::world::{World, read_until};

/// A port to script a cell on, and the gateway before it.
async fn scripted() -> (TcpListener, World) {
    let cell = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::before(cell.local_addr().unwrap()).await;
    (cell, world)
}

/// The cell's next connection with a request, and the request's head.
async fn accept(cell: &TcpListener) -> (TcpStream, String) {
    loop {
        let mut stream = cell.accept().await.unwrap().0;
        // A health check only connects.
        if let Some(head) = try_head(&mut stream).await {
            return (stream, head);
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    try_head(stream).await.expect("a request on the kept connection")
}

/// Reads one request head, byte by byte, so that a body stays unread.
async fn try_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn get(world: &World, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", world.session())
}

#[tokio::test]
async fn an_answer_that_ends_by_closing_leaves_the_clients_connection_open() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    client.write_all(get(&world, "/one").as_bytes()).await.unwrap();
    let (mut stream, _) = accept(&cell).await;
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nthe whole").await.unwrap();
    drop(stream);
    let answer = read_until(&mut client, "0\r\n\r\n").await;
    assert!(answer.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{answer}");
    assert!(answer.contains("the whole"), "{answer}");

    client.write_all(get(&world, "/two").as_bytes()).await.unwrap();
    let (mut stream, head) = accept(&cell).await;
    assert!(head.starts_with("GET /two "), "{head}");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo").await.unwrap();
    assert!(read_until(&mut client, "two").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn requests_of_one_cell_share_a_connection_until_the_configuration_changes() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    let mut stream = None;
    for path in ["/one", "/two", "/three"] {
        client.write_all(get(&world, path).as_bytes()).await.unwrap();
        match &mut stream {
            None => stream = Some(accept(&cell).await.0),
            Some(stream) => assert!(read_head(stream).await.starts_with(&format!("GET {path} "))),
        }
        stream.as_mut().unwrap().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept").await.unwrap();
        read_until(&mut client, "kept").await;
    }
    // Another configuration may trust this connection's cell no more.
    world.app.reload().await.unwrap();
    client.write_all(get(&world, "/four").as_bytes()).await.unwrap();
    let (mut fresh, head) = accept(&cell).await;
    assert!(head.starts_with("GET /four "), "{head}");
    fresh.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh").await.unwrap();
    read_until(&mut client, "fresh").await;
}

#[tokio::test]
async fn an_answer_cut_short_is_seen_cut_by_the_client() {
    let (cell, world) = scripted().await;
    for head in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = world.raw().await;
        client.write_all(get(&world, "/one").as_bytes()).await.unwrap();
        let (mut stream, _) = accept(&cell).await;
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nbegun\r\n").as_bytes()).await.unwrap();
        read_until(&mut client, "begun").await;
        drop(stream);
        let mut rest = Vec::new();
        // Neither the end of the answer, nor a clean end of TLS, nor a page of ours behind it.
        assert!(client.read_to_end(&mut rest).await.is_err(), "{head}");
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.contains("0\r\n\r\n") && !rest.contains("HTTP/1.1"), "{head}: {rest}");
    }
}

#[tokio::test]
async fn an_http_2_stream_of_an_answer_cut_short_is_reset() {
    let (cell, world) = scripted().await;
    let asked = world.request("GET", "/one").header("cookie", world.session()).send();
    let cut = async {
        let (mut stream, _) = accept(&cell).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun").await.unwrap();
    };
    let (answer, ()) = tokio::join!(asked, cut);
    let answer = answer.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert!(answer.text().await.is_err());
}

#[tokio::test]
async fn a_cell_that_answers_before_the_body_has_come_is_heard() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    let head = format!(
        "PUT /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\nCookie: {}\r\n\r\nonly the start",
        world.session()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut stream, _) = accept(&cell).await;
    stream.write_all(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull").await.unwrap();
    let answer = read_until(&mut client, "full").await;
    assert!(answer.starts_with("HTTP/1.1 507 "), "{answer}");
    // Nobody reads what is left of the body, nor what follows it: the connection ends.
    let mut rest = Vec::new();
    let mut left = vec![b'x'; 500_000 - "only the start".len()];
    left.extend_from_slice(get(&world, "/next").as_bytes());
    let _ = client.write_all(&left).await;
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_from_the_cell_and_its_new_cookie_with_the_answer() {
    let (cell, world) = scripted().await;
    let cookie = world.session();
    world.clock.advance(std::time::Duration::from_secs(6 * 60));
    let mut client = world.raw().await;
    let head = format!(
        "PUT /file HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\nCookie: {cookie}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut stream, head) = accept(&cell).await;
    assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    let interim = read_until(&mut client, "\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100 ") && !interim.to_ascii_lowercase().contains("set-cookie"), "{interim}");
    client.write_all(b"body").await.unwrap();
    let mut body = [0; 4];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"body");
    stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nmade").await.unwrap();
    let answer = read_until(&mut client, "made").await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("set-cookie: __host-guichet="), "{answer}");
}

#[tokio::test]
async fn answers_without_a_body_end_at_their_head() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    let mut stream = None;
    let cases = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "200"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", "304"),
        ("DELETE", "HTTP/1.1 204 No Content\r\n\r\n", "204"),
    ];
    for (method, answer, status) in cases {
        client.write_all(get(&world, "/").replacen("GET", method, 1).as_bytes()).await.unwrap();
        match &mut stream {
            None => stream = Some(accept(&cell).await.0),
            Some(stream) => drop(read_head(stream).await),
        }
        stream.as_mut().unwrap().write_all(answer.as_bytes()).await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.ends_with("\r\n\r\n"), "{head}");
        assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    }
}

#[tokio::test]
async fn a_request_that_reads_is_sent_again_when_a_kept_connection_was_closed_and_one_that_writes_is_not() {
    let (cell, world) = scripted().await;
    for (method, again) in [("GET", true), ("POST", false)] {
        let mut client = world.raw().await;
        client.write_all(get(&world, "/keep").as_bytes()).await.unwrap();
        let (mut kept, _) = accept(&cell).await;
        kept.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept").await.unwrap();
        read_until(&mut client, "kept").await;

        let request =
            get(&world, "/second").replacen("GET", method, 1).replacen("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1);
        client.write_all(request.as_bytes()).await.unwrap();
        // The cell closes just as the request comes.
        read_head(&mut kept).await;
        drop(kept);
        if again {
            let (mut fresh, head) = accept(&cell).await;
            assert!(head.starts_with("GET /second "), "{head}");
            fresh.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nagain").await.unwrap();
            read_until(&mut client, "again").await;
        } else {
            assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 502 "));
        }
    }
}

#[tokio::test]
async fn a_body_that_was_sent_in_vain_is_sent_again_whole() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    let head = format!(
        "PUT /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\nCookie: {}\r\n\r\nall of i",
        world.session()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    for answered in [false, true] {
        let (mut stream, _) = accept(&cell).await;
        let mut body = [0; 8];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"all of i");
        if answered {
            stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nmade").await.unwrap();
        }
    }
    assert!(read_until(&mut client, "made").await.starts_with("HTTP/1.1 201 "));
}

#[tokio::test]
async fn a_cell_that_switches_protocols_unasked_is_not_followed() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    client.write_all(get(&world, "/one").as_bytes()).await.unwrap();
    let (mut stream, _) = accept(&cell).await;
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn an_upgrade_the_cell_declines_is_answered_as_it_says_and_the_connection_goes_on() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    let request = get(&world, "/ws").replacen("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 1);
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut stream, head) = accept(&cell).await;
    assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    assert!(read_until(&mut client, "no").await.starts_with("HTTP/1.1 403 "));
    client.write_all(get(&world, "/next").as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("GET /next "));
}

#[tokio::test]
async fn either_end_of_a_tunnel_closes_it() {
    let (cell, world) = scripted().await;
    for by_the_cell in [true, false] {
        let mut client = world.raw().await;
        let request =
            get(&world, "/ws").replacen("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 1);
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut stream, _) = accept(&cell).await;
        // The first words of the tunnel come with the switch.
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
            .await
            .unwrap();
        read_until(&mut client, "hello").await;
        client.write_all(b"hello too").await.unwrap();
        let mut said = [0; 9];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello too");
        let mut rest = Vec::new();
        if by_the_cell {
            drop(stream);
            let _ = client.read_to_end(&mut rest).await;
        } else {
            drop(client);
            let _ = stream.read_to_end(&mut rest).await;
        }
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let (cell, world) = scripted().await;
    let mut client = world.raw().await;
    client.write_all(get(&world, "/slow").as_bytes()).await.unwrap();
    let (mut stream, _) = accept(&cell).await;
    drop(client);
    // The cell sees the end and may stop working.
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);

    let asked = tokio::spawn(world.request("GET", "/slow").header("cookie", world.session()).send());
    let (mut stream, _) = accept(&cell).await;
    asked.abort();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}
