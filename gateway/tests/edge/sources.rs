//! Several source addresses towards one cell.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use guichet_auth::WallTime;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::world::{Client, World, tls, within};

const SOURCES: &str = "[cell.main]\nsource_addresses = [\"127.0.0.2\", \"127.0.0.3\"]\n";

#[tokio::test]
async fn sessions_reach_the_cell_from_each_source_address_alike() {
    let world = World::start(SOURCES).await;
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let mut open = Vec::new();
    for _ in 0..8 {
        let (client, cell) = world.session().await;
        *seen.entry(cell.get_ref().peer_addr().unwrap().ip()).or_default() += 1;
        open.push((client, cell));
    }
    // Health checks take turns, too: not to the connection alike.
    assert_eq!(seen.keys().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.2", "127.0.0.3"]);
    // And without them, from where the kernel wants.
    world.rewrite("");
    world.app.reload().await.unwrap();
    let (_client, cell) = world.session().await;
    assert_eq!(cell.get_ref().peer_addr().unwrap().ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn health_checks_and_relays_come_from_them_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = World::start(&format!(
        "[cell.ldap]\nsource_addresses = [\"127.0.0.4\"]\n\
         [cell.ldap.relay]\nendpoints = [\"{address}\"]\nhealth.interval = \"1h\"\n\
         [listener.relay.ldaps]\nbind = [\"127.0.0.1:0\"]\ncell_default = \"ldap\"\n"
    ))
    .await;
    let (_check, peer) = within(listener.accept()).await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.4");
    let tcp = TcpStream::connect(world.port("ldaps")).await.unwrap();
    let mut client = Client::new(tls(tcp, &world.roots()).await.unwrap());
    let (mut relayed, peer) = within(listener.accept()).await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.4");
    relayed.write_all(b"hello\r\n").await.unwrap();
    assert_eq!(client.line().await, "hello");
}

#[tokio::test]
async fn an_address_of_another_machine_is_told_with_its_place() {
    let world = World::start("").await;
    let text = "[cell.main]\nsource_addresses = [\"127.0.0.2\",\n  \"203.0.113.1\"]\n";
    world.rewrite(text);
    let file: &Path = &world.dir.path().join("guichet.toml");
    let written = std::fs::read_to_string(file).unwrap();
    let line = written.lines().position(|line| line.contains("203.0.113.1")).unwrap() + 1;
    let report = guichet::check::load(file, WallTime(world.app.clock.now().0)).unwrap_err().to_string();
    let expected = format!("guichet.toml:{line}:3: cell.main.source_addresses[1]: 203.0.113.1 cannot be bound");
    assert!(report.contains(&expected), "{report}");
    // A reload changes nothing.
    assert!(world.app.reload().await.is_err());
    drop(world.session().await);
}
