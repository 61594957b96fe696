//! Changing and stopping a node under its connections.

use std::time::Duration;

use guichet::drain::drain;
use tokio::{io::AsyncBufReadExt, net::TcpStream};

use crate::world::{Client, World, within, write_certificate};

async fn still_relays(
    client: &mut Client<tokio_rustls::client::TlsStream<TcpStream>>,
    cell: &mut (impl AsyncBufReadExt + Unpin),
) {
    client.send("z1 NOOP\r\n").await;
    let mut line = String::new();
    within(cell.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "z1 NOOP\r\n");
}

#[tokio::test]
async fn a_reload_opens_and_closes_ports_and_touches_no_connection() {
    let world = World::start("[listener.imap.old]\nbind = [\"127.0.0.1:0\"]\n").await;
    let (mut client, mut cell) = world.session().await;
    let (old, kept) = (world.port("old"), world.port("imaps"));
    world.rewrite("[listener.imap.new]\nbind = [\"127.0.0.1:0\"]\ntls = \"starttls\"\n");
    assert_eq!(world.app.reload().await.unwrap(), 2);
    assert_eq!(world.port("imaps"), kept);
    let mut new = Client::new(TcpStream::connect(world.port("new")).await.unwrap());
    assert!(new.line().await.starts_with("* OK"));
    within(async { while TcpStream::connect(old).await.is_ok() {} }).await;
    still_relays(&mut client, &mut cell).await;
}

#[tokio::test]
async fn a_reload_with_any_problem_changes_nothing() {
    let world = World::start("").await;
    let (mut client, mut cell) = world.session().await;
    world.rewrite("[listener.imap.new]\nbind = [\"127.0.0.1:0\"]\nnonsense = 1\n");
    let refused = world.app.reload().await.unwrap_err();
    assert!(refused.0.contains("nonsense"), "{refused}");
    // A port that cannot be opened, after one that can.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = (taken.local_addr().unwrap(), taken);
    world.rewrite(&format!("[listener.imap.new]\nbind = [\"127.0.0.1:0\", \"{}\"]\n", taken.0));
    assert!(world.app.reload().await.is_err());
    assert_eq!(world.app.snapshot.load().generation, 1);
    assert!(world.app.listeners.addresses("new").is_empty());
    still_relays(&mut client, &mut cell).await;
    drop(world.imaps().await);
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_keeps_the_old_ones() {
    let world = World::start("").await;
    let (mut client, mut cell) = world.session().await;
    let next = write_certificate(world.dir.path());
    let refresh = || world.app.snapshot.load().tls.certificates.refresh(world.app.clock.now());
    refresh();
    let fresh = world.imaps().await;
    let served = fresh.stream.get_ref().get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(served, next);
    still_relays(&mut client, &mut cell).await;
    let good = world.roots();
    std::fs::write(world.dir.path().join("tls/main.crt"), "nonsense").unwrap();
    refresh();
    let tcp = TcpStream::connect(world.port("imaps")).await.unwrap();
    assert!(crate::world::tls(tcp, &good).await.is_ok());
}

#[tokio::test]
async fn a_stopping_node_closes_its_ports_and_ends_quiet_sessions_cleanly() {
    let world = World::start("").await;
    let (mut client, _cell) = world.session().await;
    let port = world.port("imaps");
    let app = world.app.clone();
    let stopping = tokio::spawn(async move { drain(&app, Duration::from_secs(10)).await });
    let (rest, end) = client.rest().await;
    assert!(rest.is_empty() && end.is_ok(), "{end:?}");
    assert_eq!(within(stopping).await.unwrap(), 0);
    assert!(TcpStream::connect(port).await.is_err());
    assert!(!world.app.ready());
}
