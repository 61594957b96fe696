//! WebSockets among the live relays: seen, ended, and never left at a cell that is no more their user's.

use std::{sync::atomic::Ordering, time::Duration};

use guichet::{
    mail::{Selector, Traffic},
    telemetry::METRICS,
};
use guichet_auth::placement::{Known, Listing, Rule, Step};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::world::{TOKEN, World, read_until};

const BETA: &str = "[cell.beta.web]\nendpoints = [\"127.0.0.1:9\"]\ndangerous_plaintext = true\n\
                    entry.identity_headers.key_file = \"cell.key\"\n";

fn web() -> Selector {
    Selector { protocol: Some(Traffic::Web), ..Selector::default() }
}

fn of_alice() -> Selector {
    Selector { user: Some("alice@univ.example".parse().unwrap()), ..Selector::default() }
}

async fn ask(world: &World, path: &str) -> TlsStream<TcpStream> {
    let mut stream = world.raw().await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {}\r\n\r\n",
        world.session()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A tunnel through which something has gone.
async fn open(world: &World) -> TlsStream<TcpStream> {
    let mut stream = ask(world, "/ws").await;
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(read_until(&mut stream, "ping").await, "ping");
    stream
}

/// Both sides are closed, and nobody is in the list any more.
async fn is_over(world: &World, stream: &mut TlsStream<TcpStream>) {
    let over = async {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("close_notify comes first");
        assert!(rest.is_empty());
        while world.app.relays.count(&web()) + world.cell.tunnels.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), over).await.expect("it ends in time");
}

async fn api(world: &World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}/api/v1", listener.local_addr().unwrap());
    tokio::spawn(guichet::console::serve_on(listener, world.app.clone()));
    api
}

/// A wave of alice to another cell.
fn plan(world: &World) {
    let (name, to) = ("spring".parse().unwrap(), "beta".parse().unwrap());
    let known = Known { domain: &|_| true, cell: &|_| true };
    let users = Listing::read(b"alice@univ.example\n", Rule::CellDefault(&to), &known).unwrap();
    world.app.store.plan_wave(&name, &users, "ops", world.app.clock.now(), false).unwrap();
}

#[tokio::test]
async fn a_tunnel_is_listed_and_a_kick_closes_both_sides() {
    let world = World::new().await;
    let api = api(&world).await;
    let mut stream = open(&world).await;
    let ends = || METRICS.mail_session_ends.with_label_values(&["web", "kicked"]).get();
    let before = ends();
    let listed = world.client.get(format!("{api}/relays?protocol=web")).bearer_auth(TOKEN).send().await.unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed.text().await.unwrap()).unwrap();
    let one = &listed["relays"][0];
    assert_eq!((&listed["total"], &one["protocol"], &one["cell"]), (&json!(1), &json!("web"), &json!("main")));
    assert_eq!((&one["user"], &one["listener"]), (&json!("alice@univ.example"), &json!("https")));
    assert!(one["tls"].as_str().unwrap().starts_with("TLSv1_3 "), "{one}");
    // A plain request is in no list, and a kick of mail means no tunnel.
    let answer = world.request("GET", "/mail").header("cookie", world.session()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), world.app.relays.count(&of_alice())), (200, 1));
    let imap = Selector { protocol: Traffic::named("imap"), ..of_alice() };
    assert_eq!(world.app.relays.kick(&imap, Duration::ZERO), 0);
    assert_eq!(world.app.relays.kick(&of_alice(), Duration::ZERO), 1);
    is_over(&world, &mut stream).await;
    // Other tests kick too.
    assert!(ends() > before);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_ended_by_a_kick_all_the_same() {
    let world = World::new().await;
    let mut stream = open(&world).await;
    // The echo comes back until both directions are full.
    let piece = vec![b'x'; 64 * 1024];
    while timeout(Duration::from_millis(300), stream.write_all(&piece)).await.is_ok() {}
    assert_eq!(world.app.relays.kick(&web(), Duration::ZERO), 1);
    let gone = async {
        while world.app.relays.count(&web()) + world.cell.tunnels.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("it ends in time");
}

#[tokio::test]
async fn a_move_ends_the_tunnels_at_the_old_cell() {
    let world = World::with_tables(BETA).await;
    let api = api(&world).await;
    let mut stream = open(&world).await;
    plan(&world);
    let told = world.client.post(format!("{api}/waves/spring/commit")).bearer_auth(TOKEN).send().await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&told.text().await.unwrap()).unwrap();
    assert_eq!(told["sessions_ended"], json!(1), "{told}");
    is_over(&world, &mut stream).await;
}

#[tokio::test]
async fn a_tunnel_whose_user_moves_while_the_old_cell_opens_it_does_not_begin() {
    let world = World::with_tables(BETA).await;
    plan(&world);
    let mut stream = ask(&world, "/ws-late").await;
    while world.cell.count() == 0 {
        tokio::task::yield_now().await;
    }
    world.app.store.step_wave(&"spring".parse().unwrap(), Step::Commit, "ops", world.app.clock.now()).unwrap();
    world.cell.go_on.notify_one();
    let head = timeout(Duration::from_secs(20), read_until(&mut stream, "\r\n\r\n")).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(world.app.relays.count(&web()), 0);
}

#[tokio::test]
async fn a_logout_ends_the_tunnels_of_the_user() {
    let world = World::new().await;
    let mut stream = open(&world).await;
    let answer = world.request("POST", "/logout").header("cookie", world.session()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    is_over(&world, &mut stream).await;
}
