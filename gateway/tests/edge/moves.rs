//! Users who move to another cell: held, moved, moved back, and never where they no more are.

use std::sync::Arc;

use guichet::mail::Selector;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::client::TlsStream;

use crate::world::{Cell, Client, PASSWORD, USER, World, within};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A gateway in front of two cells, and the API that moves users between them.
struct Moving {
    world: World,
    beta: Cell,
    api: String,
    client: reqwest::Client,
}

impl Moving {
    async fn start(more: &str) -> Self {
        let beta = Cell::start().await;
        let world = World::start(&format!(
            "[cell.beta.imap]\nendpoints = [\"{}\"]\nhealth.interval = \"1s\"\n{more}",
            beta.address
        ))
        .await;
        world
            .until(|app| app.cells.list().iter().filter(|one| one.service == "imap" && one.healthy).count() >= 2)
            .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}/api/v1", listener.local_addr().unwrap());
        tokio::spawn(guichet::console::serve_on(listener, world.app.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { world, beta, api, client }
    }

    /// What the API answers to a POST.
    async fn post(&self, path: &str, body: String) -> (u16, Value) {
        let sent = self.client.post(format!("{}{path}", self.api)).bearer_auth(TOKEN).body(body).send();
        let answer = within(sent).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn plan(&self) {
        let (status, told) = self.post("/waves/spring/plan?to=beta", format!("{USER}\n")).await;
        assert_eq!((status, &told["state"], &told["users"]), (200, &json!("planned"), &json!(1)), "{told}");
    }

    async fn step(&self, step: &str) -> Value {
        let body = if step == "hold" { json!({"for": "10m"}).to_string() } else { String::new() };
        let (status, told) = self.post(&format!("/waves/spring/{step}"), body).await;
        assert_eq!(status, 200, "{told}");
        told
    }

    /// A client that has sent its login and hears nothing yet.
    async fn log_in(&self) -> Client<TlsStream<TcpStream>> {
        let mut client = self.world.imaps().await;
        client.line().await;
        client.send(&format!("a LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
        client
    }
}

#[tokio::test]
async fn a_held_login_waits_and_goes_on_at_the_new_cell() {
    let moving = Moving::start("").await;
    moving.plan().await;
    assert_eq!(moving.step("hold").await["state"], "held");
    let mut client = moving.log_in().await;
    moving.world.until(|app| app.holds.waiting() == 1).await;
    assert_eq!(moving.step("commit").await["state"], "committed");
    assert!(client.until_tagged("a").await.starts_with("a OK"));
    drop(within(moving.beta.next()).await);
    assert_eq!(moving.world.app.holds.waiting(), 0);
}

#[tokio::test]
async fn open_sessions_end_at_the_cell_the_user_leaves_both_ways() {
    let moving = Moving::start("").await;
    moving.plan().await;
    for (step, old, new) in
        [("commit", &moving.world.cell, &moving.beta), ("rollback", &moving.beta, &moving.world.cell)]
    {
        let mut client = moving.log_in().await;
        assert!(client.until_tagged("a").await.starts_with("a OK"));
        let mut cell = old.next().await;
        assert_eq!(moving.step(step).await["sessions_ended"], 1, "{step}");
        let (rest, end) = client.rest().await;
        assert!(rest.is_empty() && end.is_ok(), "a clean end and no word put into the cell's mouth");
        assert_eq!(within(cell.read_line(&mut String::new())).await.unwrap(), 0);
        drop((client, cell));
        moving.world.until(|app| app.relays.count(&Selector::default()) == 0).await;
        // Said once more: nothing left to do, and no error.
        assert_eq!(moving.step(step).await["sessions_ended"], 0);
        let mut client = moving.log_in().await;
        assert!(client.until_tagged("a").await.starts_with("a OK"));
        drop(new.next().await);
        drop(client);
        moving.world.until(|app| app.relays.count(&Selector::default()) == 0).await;
    }
}

/// Ends as a relay does that is told to: without a word, on both sides.
async fn ends(moving: &Moving, mut client: Client<TlsStream<TcpStream>>, mut cell: BufReader<TcpStream>) {
    let (rest, end) = client.rest().await;
    assert!(rest.is_empty() && end.is_ok(), "{rest:?} {end:?}");
    assert_eq!(within(cell.read_line(&mut String::new())).await.unwrap(), 0);
    drop((client, cell));
    moving.world.until(|app| app.relays.count(&Selector::default()) == 0).await;
}

#[tokio::test]
async fn a_hold_empties_the_cell_that_is_copied_from_on_both_ways() {
    let moving = Moving::start("").await;
    moving.plan().await;
    for (step, from) in [("commit", &moving.world.cell), ("rollback", &moving.beta)] {
        let mut client = moving.log_in().await;
        assert!(client.until_tagged("a").await.starts_with("a OK"));
        let cell = from.next().await;
        assert_eq!(moving.step("hold").await["sessions_ended"], 1, "before {step}");
        ends(&moving, client, cell).await;
        moving.step(step).await;
    }
}

#[tokio::test]
async fn an_import_and_a_word_on_one_user_end_what_is_open_elsewhere_and_a_dry_run_does_not() {
    let moving = Moving::start("").await;
    let set = format!("/placements/{USER}/set");
    for (path, body, old) in [
        ("/placements/import", format!("{USER},beta\n"), &moving.world.cell),
        (set.as_str(), json!({"cell": "main"}).to_string(), &moving.beta),
    ] {
        let mut client = moving.log_in().await;
        assert!(client.until_tagged("a").await.starts_with("a OK"));
        let mut cell = old.next().await;
        if path == "/placements/import" {
            let (status, told) = moving.post("/placements/import?dry_run=true", body.clone()).await;
            assert_eq!((status, &told["added"]), (200, &json!(1)), "{told}");
            client.send("b NOOP\r\n").await;
            let mut heard = String::new();
            within(cell.read_line(&mut heard)).await.unwrap();
            assert_eq!(heard, "b NOOP\r\n");
        }
        let (status, told) = moving.post(path, body).await;
        assert_eq!(status, 200, "{told}");
        ends(&moving, client, cell).await;
    }
}

/// A cell that takes its time over a login.
async fn slow_cell() -> (std::net::SocketAddr, Arc<Notify>, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let shared = (asked.clone(), go_on.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (asked, go_on) = shared.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                stream.write_all(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR ID] slow\r\n").await.ok()?;
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.ok()? == 0 {
                        return Some(());
                    }
                    let tag = line.split(' ').next()?.to_owned();
                    if line.contains("AUTHENTICATE") {
                        asked.notify_one();
                        go_on.notified().await;
                    }
                    stream.write_all(format!("{tag} OK\r\n").as_bytes()).await.ok()?;
                }
            });
        }
    });
    (address, asked, go_on)
}

#[tokio::test]
async fn a_login_whose_user_moves_while_the_old_cell_opens_ends_at_the_new_one() {
    let (address, asked, go_on) = slow_cell().await;
    let moving = Moving::start(&format!("[cell.slow.imap]\nendpoints = [\"{address}\"]\n")).await;
    let (status, told) = moving.post(&format!("/placements/{USER}/set"), json!({"cell": "slow"}).to_string()).await;
    assert_eq!((status, &told["cell"], &told["by"]), (200, &json!("slow"), &json!("placement")));
    moving.plan().await;
    let mut client = moving.log_in().await;
    within(asked.notified()).await;
    moving.step("commit").await;
    go_on.notify_one();
    assert!(client.until_tagged("a").await.starts_with("a OK"));
    drop(moving.beta.next().await);
    let open = moving.world.app.relays.list(&Selector::default(), 10);
    assert_eq!(open.iter().map(|relay| relay.cell.as_str()).collect::<Vec<_>>(), ["beta"]);
}

#[tokio::test]
async fn of_many_logins_that_race_with_a_move_none_stays_at_the_old_cell() {
    let moving = Arc::new(Moving::start("").await);
    moving.plan().await;
    let logins: Vec<_> = (0..40)
        .map(|_| {
            let moving = moving.clone();
            tokio::spawn(async move {
                let mut client = moving.log_in().await;
                let answer = client.until_tagged("a").await;
                assert!(answer.starts_with("a OK") || answer.is_empty(), "{answer}");
                client
            })
        })
        .collect();
    // Some are in, some are on their way, some have not begun.
    moving.world.until(|app| app.relays.count(&Selector::default()) >= 5).await;
    moving.step("commit").await;
    let mut clients = Vec::new();
    for login in logins {
        clients.push(login.await.unwrap());
    }
    let at = |cell: &str| Selector { cell: Some(cell.parse().unwrap()), ..Selector::default() };
    moving.world.until(|app| app.relays.count(&at("main")) == 0).await;
    // Those who found the door shut come again.
    let mut client = moving.log_in().await;
    assert!(client.until_tagged("a").await.starts_with("a OK"));
    assert!(moving.world.app.relays.count(&at("beta")) >= 1);
    assert_eq!(moving.world.app.relays.count(&at("main")), 0);
}

#[tokio::test]
async fn only_so_many_wait_and_only_so_long() {
    let moving =
        Moving::start("[limits]\nheld_logins = 1\nheld_logins_per_tenant = 1\nlogin_deadline = \"8s\"\n").await;
    moving.plan().await;
    moving.step("hold").await;
    let mut first = moving.log_in().await;
    moving.world.until(|app| app.holds.waiting() == 1).await;
    let moved = "a NO [UNAVAILABLE] The mailbox is being moved";
    let mut second = moving.log_in().await;
    let answer = second.until_tagged("a").await;
    assert!(answer.starts_with(moved), "{answer}");
    assert_eq!(moving.world.app.holds.waiting(), 1, "it did not wait itself");
    // The first is told when its time is up, with enough left to try again on the same connection.
    let answer = first.until_tagged("a").await;
    assert!(answer.starts_with(moved), "{answer}");
    assert_eq!(moving.world.app.holds.waiting(), 0);
}

#[tokio::test]
async fn a_hold_that_nobody_ends_ends_by_itself_and_the_user_stays() {
    let moving = Moving::start("").await;
    moving.plan().await;
    let (_, told) = moving.post("/waves/spring/hold", json!({"for": "2s"}).to_string()).await;
    assert_eq!(told["state"], "held");
    let mut client = moving.log_in().await;
    assert!(client.until_tagged("a").await.starts_with("a OK"));
    drop(moving.world.cell.next().await);
}

#[tokio::test]
async fn a_file_with_a_bad_line_changes_nothing_and_says_which() {
    let moving = Moving::start("").await;
    let file =
        format!("# who moves\n{USER},beta\nbob@elsewhere.example,beta\n{USER},main\nbob@univ.example,omega\nbob\n");
    for path in ["/placements/import", "/waves/spring/plan?to=beta"] {
        let (status, told) = moving.post(path, file.clone()).await;
        assert_eq!((status, &told["error"]["kind"]), (422, &json!("lines")), "{told}");
        let lines: Vec<_> =
            told["error"]["problems"].as_array().unwrap().iter().map(|one| one["line"].clone()).collect();
        assert_eq!(lines, [3, 4, 5, 6], "{told}");
    }
    assert_eq!((moving.world.app.store.placements_len(), moving.world.app.store.waves().len()), (0, 0));
    let (status, told) = moving.post("/placements/import", "# nobody\n".to_owned()).await;
    assert_eq!(status, 400, "an empty file forgets nobody: {told}");
    let (status, told) = moving.post("/waves/spring/plan?to=omega", format!("{USER}\n")).await;
    assert_eq!((status, &told["error"]["kind"]), (404, &json!("unknown_cell")));
    for step in ["hold", "commit", "rollback", "remove"] {
        let (status, _) = moving.post(&format!("/waves/nobody/{step}"), json!({"for": "1s"}).to_string()).await;
        assert_eq!(status, 404, "{step}");
    }
}
