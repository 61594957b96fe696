//! Admission and PROXY headers.

use guichet_proto::proxy_header;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::world::{Client, World, tls};

const PROXIED: &str =
    "[listener.imap.proxied]\nbind = [\"127.0.0.1:0\"]\ntls = \"starttls\"\nproxy_protocol.from = [\"127.0.0.0/8\"]\n";

#[tokio::test]
async fn a_header_from_a_trusted_network_is_read_to_its_last_byte() {
    let world = World::start(PROXIED).await;
    let mut stream = TcpStream::connect(world.port("proxied")).await.unwrap();
    let header = proxy_header::write_v2("192.0.2.7:4711".parse().unwrap(), "192.0.2.1:143".parse().unwrap());
    // Cut at an unlucky place, and with the first command right behind.
    stream.write_all(&header[..13]).await.unwrap();
    stream.write_all(&[&header[13..], b"a1 NOOP\r\n"].concat()).await.unwrap();
    let mut client = Client::new(stream);
    assert!(client.line().await.starts_with("* OK"));
    assert_eq!(client.line().await.split(' ').next(), Some("a1"));
}

#[tokio::test]
async fn a_text_header_is_read_too() {
    let world = World::start(PROXIED).await;
    let mut client = Client::new(TcpStream::connect(world.port("proxied")).await.unwrap());
    client.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 143\r\na1 NOOP\r\n").await;
    assert!(client.line().await.starts_with("* OK"));
    assert_eq!(client.line().await.split(' ').next(), Some("a1"));
}

#[tokio::test]
async fn a_missing_or_broken_header_closes_the_connection() {
    let world = World::start(PROXIED).await;
    for bytes in ["a1 NOOP\r\n", "PROXY TCP4 nonsense\r\n", "\r\n\r\n\0\r\nQUIT\n\u{7f}\u{7f}\u{7f}\u{7f}"] {
        let mut client = Client::new(TcpStream::connect(world.port("proxied")).await.unwrap());
        client.send(bytes).await;
        assert_eq!(client.line().await, "", "{bytes:?}");
    }
}

#[tokio::test]
async fn a_header_from_elsewhere_is_not_believed() {
    let world = World::start(&PROXIED.replace("127.0.0.0/8", "192.0.2.0/24")).await;
    let mut client = Client::new(TcpStream::connect(world.port("proxied")).await.unwrap());
    client.stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 143\r\n").await.unwrap();
    assert_eq!(client.line().await, "");
}

#[tokio::test]
async fn too_many_connections_of_one_source_hear_bye_or_a_close() {
    let world = World::start("[limits]\nconnections_per_source = 1\n").await;
    let first = TcpStream::connect(world.port("imap")).await.unwrap();
    let mut first = Client::new(first);
    assert!(first.line().await.starts_with("* OK"));
    let mut second = Client::new(TcpStream::connect(world.port("imap")).await.unwrap());
    assert!(second.line().await.starts_with("* BYE [LIMIT]"));
    let third = TcpStream::connect(world.port("imaps")).await.unwrap();
    assert!(tls(third, &world.roots()).await.is_err());
    drop(first);
    world.until(|app| app.connections.open() == 0).await;
    let mut again = Client::new(TcpStream::connect(world.port("imap")).await.unwrap());
    assert!(again.line().await.starts_with("* OK"));
}
