//! POP3, ManageSieve and relay listeners, from the first byte to the cell.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::world::{Client, PASSWORD, USER, World, tls, within};

/// A cell that greets, answers each line by the first word of it, and remembers what it heard.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(crate) async fn start(greeting: &'static str, answers: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let notes = notes.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    stream.write_all(greeting.as_bytes()).await.ok()?;
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.ok()? == 0 {
                            return Some(());
                        }
                        notes.lock().unwrap().push(line.trim_end().to_owned());
                        let answer = answers.iter().find(|(word, _)| line.starts_with(word));
                        stream.write_all(answer.map_or("-ERR\r\n", |(_, answer)| answer).as_bytes()).await.ok()?;
                    }
                });
            }
        });
        Self { address, heard }
    }

    pub(crate) fn heard(&self, start: &str) -> bool {
        self.count(start) > 0
    }

    /// How many lines began so.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|line| line.starts_with(start)).count()
    }
}

async fn pop3_cell() -> Scripted {
    let answers = &[
        ("CAPA", "+OK\r\nSASL PLAIN\r\nUIDL\r\nXOIP\r\n.\r\n"),
        ("XOIP", "+OK\r\n"),
        ("AUTH", "+OK in\r\n"),
        ("STAT", "+OK 1 120\r\n"),
        ("QUIT", "+OK bye\r\n"),
    ];
    Scripted::start("+OK cell\r\n", answers).await
}

fn pop3(cell: &Scripted) -> String {
    format!(
        "[cell.main.pop3]\nendpoints = [\"{}\"]\nclient_address = \"xoip\"\n\
         [listener.pop3.pop3s]\nbind = [\"127.0.0.1:0\"]\n\
         [listener.pop3.pop3]\nbind = [\"127.0.0.1:0\"]\ntls = \"starttls\"\n",
        cell.address
    )
}

pub(crate) async fn until_up(world: &World, service: &str) {
    world.until(|app| app.cells.list().iter().any(|one| one.service == service && one.healthy)).await;
}

#[tokio::test]
async fn pop3_logs_in_at_the_cell_and_relays() {
    let cell = pop3_cell().await;
    let world = World::start(&pop3(&cell)).await;
    until_up(&world, "pop3").await;
    let mut client =
        Client::new(tls(TcpStream::connect(world.port("pop3s")).await.unwrap(), &world.roots()).await.unwrap());
    assert!(client.line().await.starts_with("+OK"));
    client.send(&format!("USER {USER}\r\nPASS {PASSWORD}\r\nSTAT\r\n")).await;
    assert!(client.line().await.starts_with("+OK"));
    assert!(client.line().await.starts_with("+OK"));
    assert_eq!(client.line().await, "+OK 1 120");
    assert!(cell.heard("XOIP 127.0.0.1"), "{:?}", cell.heard);
    assert!(!cell.heard("USER"), "the cell lists PLAIN");
}

#[tokio::test]
async fn pop3_tells_what_its_cells_can_do_and_takes_no_password_before_tls() {
    let cell = pop3_cell().await;
    let world = World::start(&pop3(&cell)).await;
    world.until(|app| !app.cells.learnt(guichet_config::MailProtocol::Pop3).names.is_empty()).await;
    let mut client = Client::new(TcpStream::connect(world.port("pop3")).await.unwrap());
    client.line().await;
    client.send(&format!("USER {USER}\r\n")).await;
    assert!(client.line().await.starts_with("-ERR"));
    client.send("STLS\r\n").await;
    assert!(client.line().await.starts_with("+OK"));
    let tcp = client.stream.into_inner();
    let mut client = Client::new(tls(tcp, &world.roots()).await.unwrap());
    client.send("CAPA\r\n").await;
    let mut lines = Vec::new();
    while lines.last().map(String::as_str) != Some(".") {
        lines.push(client.line().await);
    }
    assert!(lines.iter().any(|line| line == "UIDL"), "{lines:?}");
    assert!(!lines.iter().any(|line| line == "TOP"), "{lines:?}");
}

#[tokio::test]
async fn a_wrong_pop3_password_is_one_and_a_full_node_says_try_later() {
    let cell = pop3_cell().await;
    let world = World::start(&pop3(&cell)).await;
    let mut client =
        Client::new(tls(TcpStream::connect(world.port("pop3s")).await.unwrap(), &world.roots()).await.unwrap());
    client.line().await;
    client.send(&format!("USER {USER}\r\nPASS wrong\r\n")).await;
    client.line().await;
    assert!(client.line().await.starts_with("-ERR [AUTH]"));
    drop(client);

    world.rewrite(&format!("{}[limits]\nconnections_max = 1\nconnections_per_source = 1\n", pop3(&cell)));
    world.app.reload().await.unwrap();
    world.until(|app| app.connections.open() == 0).await;
    let _one = TcpStream::connect(world.port("pop3")).await.unwrap();
    world.until(|app| app.connections.open() == 1).await;
    let mut two = Client::new(TcpStream::connect(world.port("pop3")).await.unwrap());
    assert!(two.line().await.starts_with("-ERR ["));
}

#[tokio::test]
async fn sieve_shows_the_extensions_of_its_cells_and_relays() {
    let answers =
        &[("AUTHENTICATE", "OK \"in\"\r\n"), ("LISTSCRIPTS", "\"vacation\" ACTIVE\r\nOK\r\n"), ("LOGOUT", "OK\r\n")];
    let greeting = "\"IMPLEMENTATION\" \"x\"\r\n\"SIEVE\" \"fileinto vacation\"\r\n\"SASL\" \"PLAIN\"\r\n\"VERSION\" \"1.0\"\r\nOK \"cell\"\r\n";
    let cell = Scripted::start(greeting, answers).await;
    let world = World::start(&format!(
        "[cell.main.sieve]\nendpoints = [\"{}\"]\n[listener.sieve.sieve]\nbind = [\"127.0.0.1:0\"]\ntls = \"starttls\"\n",
        cell.address
    ))
    .await;
    world.until(|app| !app.cells.learnt(guichet_config::MailProtocol::Sieve).names.is_empty()).await;
    let mut client = Client::new(TcpStream::connect(world.port("sieve")).await.unwrap());
    let greeting = until_ok(&mut client).await;
    assert!(greeting.contains("\"SIEVE\" \"fileinto vacation\"") && greeting.contains("\"STARTTLS\""), "{greeting}");
    client.send("STARTTLS\r\n").await;
    until_ok(&mut client).await;
    let mut client = Client::new(tls(client.stream.into_inner(), &world.roots()).await.unwrap());
    assert!(until_ok(&mut client).await.contains("\"SASL\" \"PLAIN LOGIN\""));
    let sasl = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("\0{USER}\0{PASSWORD}"))
    };
    client.send(&format!("AUTHENTICATE \"PLAIN\" \"{sasl}\"\r\nLISTSCRIPTS\r\n")).await;
    until_ok(&mut client).await;
    assert!(until_ok(&mut client).await.contains("vacation"));
    assert!(cell.heard("AUTHENTICATE"));
}

async fn until_ok<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut Client<S>) -> String {
    let mut text = String::new();
    loop {
        let line = client.line().await;
        assert!(!line.is_empty() && !line.starts_with("NO") && !line.starts_with("BYE"), "{text}{line}");
        text.push_str(&line);
        text.push('\n');
        if line.starts_with("OK") {
            return text;
        }
    }
}

#[tokio::test]
async fn a_relay_goes_where_the_sni_says_with_the_client_address_in_front() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = |route: &str| {
        format!(
            "[cell.main.relay]\nendpoints = [\"{address}\"]\nclient_address = \"proxy_v2\"\nhealth.interval = \"1h\"\n\
             [listener.relay.mx]\nbind = [\"127.0.0.1:0\"]\nroutes = {{ \"{route}\" = \"main\" }}\n"
        )
    };
    let world = World::start(&relay("localhost")).await;
    // Its health check comes first.
    let _check = within(listener.accept()).await.unwrap();
    let mut client =
        Client::new(tls(TcpStream::connect(world.port("mx")).await.unwrap(), &world.roots()).await.unwrap());
    client.send("ping\r\n").await;
    let (mut cell, _) = within(listener.accept()).await.unwrap();
    // PROXY v2 over IPv4: 16 bytes, two addresses and two ports.
    let mut bytes = [0; 28 + 6];
    within(cell.read_exact(&mut bytes)).await.unwrap();
    assert_eq!((&bytes[..12], &bytes[28..]), (&b"\r\n\r\n\0\r\nQUIT\n"[..], &b"ping\r\n"[..]));
    cell.write_all(b"pong\r\n").await.unwrap();
    assert_eq!(client.line().await, "pong");

    world.rewrite(&relay("elsewhere.example"));
    world.app.reload().await.unwrap();
    let mut client =
        Client::new(tls(TcpStream::connect(world.port("mx")).await.unwrap(), &world.roots()).await.unwrap());
    assert_eq!(client.rest().await.0, b"");
}
