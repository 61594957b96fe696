//! Operators end live relays, and empty a cell, an endpoint or a listener.

use std::time::Duration;

use guichet::{mail::Selector, telemetry::METRICS};
use guichet_auth::store::{DrainOverride, DrainTarget};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::world::{Cell, Client, PASSWORD, USER, World, within};

fn of_user(user: &str) -> Selector {
    Selector { user: Some(user.parse().unwrap()), ..Selector::default() }
}

fn ends(reason: &str) -> u64 {
    METRICS.mail_session_ends.with_label_values(&["imap", reason]).get()
}

fn main_cell() -> DrainTarget {
    DrainTarget::Cell("main".to_owned())
}

fn word(world: &World, target: DrainTarget, over: Duration, lasts: Duration) -> DrainOverride {
    let now = world.app.clock.now();
    DrainOverride {
        target,
        done: now.plus(over).0,
        until: now.plus(lasts).0,
        reason: "new disks".to_owned(),
        actor: "ops".to_owned(),
        since: now.0,
    }
}

async fn drain(world: &World, target: DrainTarget) {
    world.app.drain(word(world, target, Duration::ZERO, Duration::from_secs(3600))).await.unwrap();
}

async fn resume(world: &World, target: DrainTarget) {
    world.app.resume(vec![target], "ops".to_owned()).await.unwrap();
}

async fn login(world: &World) -> String {
    let mut client = world.imaps().await;
    client.line().await;
    client.send(&format!("a1 LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    client.until_tagged("a1").await
}

#[tokio::test]
async fn a_kick_is_a_clean_end_without_a_word_and_meets_whom_it_means() {
    let world = World::start("").await;
    let (mut client, mut cell) = world.session().await;
    let before = ends("kicked");
    assert_eq!(world.app.relays.count(&Selector::default()), 1);
    let listed = &world.app.relays.list(&of_user(USER), 9)[0];
    assert_eq!((listed.protocol, listed.cell.as_str(), listed.listener.as_str()), ("imap", "main", "imaps"));
    assert_eq!(listed.endpoint, world.cell.address.to_string());
    assert!(listed.tls.starts_with("TLSv1_3 "), "{}", listed.tls);

    assert_eq!(world.app.relays.kick(&of_user("bob@univ.example"), Duration::ZERO), 0);
    client.send("a2 NOOP\r\n").await;
    let mut heard = [0; 9];
    within(cell.read_exact(&mut heard)).await.unwrap();

    assert_eq!(world.app.relays.kick(&of_user(USER), Duration::ZERO), 1);
    let (rest, end) = client.rest().await;
    // close_notify came, and nothing in front of it.
    assert!(end.is_ok() && rest.is_empty(), "{end:?} {rest:?}");
    let mut rest = Vec::new();
    within(cell.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    drop((client, cell));
    world.until(|app| app.connections.open() == 0).await;
    assert_eq!(world.app.relays.count(&Selector::default()), 0);
    assert_eq!(ends("kicked"), before + 1);
}

#[tokio::test]
async fn a_kick_over_a_time_is_seen_before_it_happens() {
    let world = World::start("").await;
    let (mut client, _cell) = world.session().await;
    assert_eq!(world.app.relays.kick(&of_user(USER), Duration::from_secs(36_000)), 1);
    assert_eq!(world.app.relays.list(&Selector::default(), 1)[0].ending, Some("kicked"));
    client.send("a2 NOOP\r\n").await;
    assert_eq!(world.app.relays.kick(&of_user(USER), Duration::ZERO), 1, "the sooner one holds");
    assert!(client.rest().await.1.is_ok());
}

#[tokio::test]
async fn a_drained_cell_takes_nobody_and_lets_go_of_those_it_has_until_it_is_resumed() {
    let world = World::start("").await;
    let (mut client, cell) = world.session().await;
    let before = ends("drained");
    drain(&world, main_cell()).await;
    let answer = login(&world).await;
    assert!(answer.starts_with("a1 NO [UNAVAILABLE]"), "{answer}");
    assert!(world.app.cells.list().iter().all(|one| one.healthy || one.service == "web"), "health is another matter");
    assert!(world.app.cells.list().iter().all(|one| one.drained));
    let (rest, end) = client.rest().await;
    assert!(end.is_ok() && rest.is_empty(), "{end:?}");
    drop((client, cell));
    world.until(|app| app.connections.open() == 0).await;
    assert!(ends("drained") > before);

    // A reload is no way out.
    world.app.reload().await.unwrap();
    assert!(login(&world).await.starts_with("a1 NO [UNAVAILABLE]"));
    resume(&world, main_cell()).await;
    assert!(login(&world).await.starts_with("a1 OK"));
}

#[tokio::test]
async fn who_was_not_ended_when_a_drain_is_taken_back_stays() {
    let world = World::start("").await;
    let (mut client, mut cell) = world.session().await;
    let slowly = word(&world, main_cell(), Duration::from_secs(36_000), Duration::from_secs(36_000));
    world.app.drain(slowly).await.unwrap();
    assert_eq!(world.app.relays.list(&Selector::default(), 1)[0].ending, Some("drained"));
    resume(&world, main_cell()).await;
    assert_eq!(world.app.relays.list(&Selector::default(), 1)[0].ending, None);
    client.send("a2 NOOP\r\n").await;
    let mut heard = [0; 9];
    within(cell.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"a2 NOOP\r\n");
}

#[tokio::test]
async fn a_drain_that_is_taken_back_takes_no_kick_with_it() {
    let world = World::start("").await;
    let (_client, _cell) = world.session().await;
    let soon = word(&world, main_cell(), Duration::from_secs(1000), Duration::from_secs(36_000));
    world.app.drain(soon).await.unwrap();
    // Most likely the later of the two.
    assert_eq!(world.app.relays.kick(&of_user(USER), Duration::from_secs(80_000)), 1);
    resume(&world, main_cell()).await;
    assert_eq!(world.app.relays.list(&Selector::default(), 1)[0].ending, Some("kicked"));
}

#[tokio::test]
async fn logins_of_a_drained_endpoint_go_to_the_other_one() {
    let world = World::start("").await;
    let other = Cell::start().await;
    let file = world.dir.path().join("guichet.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let one = world.cell.address.to_string();
    std::fs::write(&file, text.replace(&format!("\"{one}\""), &format!("\"{one}\", \"{}\"", other.address))).unwrap();
    world.app.reload().await.unwrap();
    world.until(|app| app.cells.list().iter().filter(|one| one.service == "imap" && one.healthy).count() == 2).await;
    drain(&world, DrainTarget::Endpoint("main".to_owned(), one.clone())).await;
    for _ in 0..3 {
        assert!(login(&world).await.starts_with("a1 OK"));
        drop(other.next().await);
    }
    resume(&world, DrainTarget::Endpoint("main".to_owned(), one)).await;
    for _ in 0..2 {
        assert!(login(&world).await.starts_with("a1 OK"));
    }
    drop(world.cell.next().await);
}

#[tokio::test]
async fn a_drained_listener_closes_its_port_and_opens_it_again() {
    let world = World::start("").await;
    let (mut client, _cell) = world.session().await;
    let (imaps, imap) = (world.port("imaps"), world.port("imap"));
    let target = DrainTarget::Listener("imaps".to_owned());
    drain(&world, target.clone()).await;
    within(async { while TcpStream::connect(imaps).await.is_ok() {} }).await;
    assert!(client.rest().await.1.is_ok());
    let mut others = Client::new(TcpStream::connect(imap).await.unwrap());
    assert!(others.line().await.starts_with("* OK"), "the other listener goes on");
    world.app.reload().await.unwrap();
    assert!(world.app.listeners.addresses("imaps").is_empty(), "a reload is no way out");
    resume(&world, target).await;
    assert!(login(&world).await.starts_with("a1 OK"));
}

#[tokio::test]
async fn a_drain_ends_by_itself() {
    let world = World::start("").await;
    let target = DrainTarget::Listener("imaps".to_owned());
    world.app.drain(word(&world, target, Duration::ZERO, Duration::from_millis(1))).await.unwrap();
    world.until(|app| !app.listeners.addresses("imaps").is_empty()).await;
    assert!(login(&world).await.starts_with("a1 OK"));
}

#[tokio::test]
async fn a_drain_outlives_the_process() {
    let world = World::start("").await;
    drain(&world, main_cell()).await;
    drain(&world, DrainTarget::Listener("imap".to_owned())).await;
    let world = world.restart().await;
    assert_eq!(world.app.drains().len(), 2);
    assert!(world.app.listeners.addresses("imap").is_empty());
    assert!(login(&world).await.starts_with("a1 NO [UNAVAILABLE]"));
    resume(&world, main_cell()).await;
    assert!(login(&world).await.starts_with("a1 OK"));
}

#[tokio::test]
async fn live_sessions_of_a_user_are_limited_and_a_session_that_ends_makes_room() {
    let world = World::start("[limits]\nsessions_per_user = 2\nsessions_per_user_source = 1\n").await;
    let (client, cell) = world.session().await;
    let answer = login(&world).await;
    assert_eq!(answer, "a1 NO [LIMIT] Too many sessions of this account are open");
    assert!(METRICS.limit_rejections.with_label_values(&["sessions_source"]).get() >= 1);
    drop((client, cell));
    world.until(|app| app.relays.count(&Selector::default()) == 0).await;
    for _ in 0..4 {
        // One after the other is no crowd.
        drop(world.session().await);
        world.until(|app| app.relays.count(&Selector::default()) == 0).await;
    }
}
