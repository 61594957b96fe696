//! Submission, from the greeting to the cell's word on a message.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use guichet::{mail::Selector, telemetry::METRICS};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::client::TlsStream;

use crate::world::{Client, PASSWORD, USER, World, tls, within};

/// A cell that takes every login and every message, and remembers all lines of connections that say XCLIENT: health
/// checks do not.
struct Cell {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Cell {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(BufReader::new(stream), notes.clone()));
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn count(&self, start: &str) -> usize {
        self.heard().iter().filter(|line| line.starts_with(start)).count()
    }

    async fn until_heard(&self, start: &str) {
        within(async {
            while self.count(start) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

async fn converse(mut stream: BufReader<TcpStream>, notes: Arc<Mutex<Vec<String>>>) -> Option<()> {
    stream.write_all(b"220 cell ESMTP\r\n").await.ok()?;
    let (mut text, mut known, mut unknown) = (false, false, Vec::new());
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).await;
        known |= line.starts_with("XCLIENT");
        unknown.push(if matches!(read, Ok(1..)) { line.trim_end() } else { "<end>" }.to_owned());
        if known {
            notes.lock().unwrap().append(&mut unknown);
        }
        if !matches!(read, Ok(1..)) {
            return None;
        }
        let answer = match line.split([' ', '\r']).next()? {
            "." if text => {
                text = false;
                "250 2.0.0 Ok: queued as 4XYZ\r\n"
            }
            _ if text => continue,
            "EHLO" => {
                "250-cell\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-AUTH PLAIN\r\n\
                 250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN\r\n250-8BITMIME\r\n250 CHUNKING\r\n"
            }
            "XCLIENT" => "220 cell ESMTP\r\n",
            "AUTH" => "235 2.7.0 in\r\n",
            "DATA" => {
                text = true;
                "354 go on\r\n"
            }
            "RCPT" if line.contains("<fatal@") => return None,
            "QUIT" => "221 2.0.0 bye\r\n",
            _ => "250 2.1.0 Ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn config(cell: &Cell, more: &str) -> String {
    format!(
        "[cell.main.submission]\nendpoints = [\"{}\"]\nclient_address = \"xclient\"\n\
         [listener.submission.submissions]\nbind = [\"127.0.0.1:0\"]\n\
         [listener.submission.msa]\nbind = [\"127.0.0.1:0\"]\ntls = \"starttls\"\n{more}",
        cell.address
    )
}

async fn start(cell: &Cell, more: &str) -> World {
    let world = World::start(&config(cell, more)).await;
    world.until(|app| app.cells.learnt(guichet_config::MailProtocol::Submission).extensions.size.is_some()).await;
    world
}

type Smtp = Client<TlsStream<TcpStream>>;

/// One reply: its last line; all of them are in front of it.
async fn reply<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut Client<S>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let line = client.line().await;
        let last = line.as_bytes().get(3) != Some(&b'-');
        lines.push(line);
        if last {
            return lines;
        }
    }
}

async fn ask(client: &mut Smtp, command: &str) -> String {
    client.send(&format!("{command}\r\n")).await;
    reply(client).await.pop().unwrap()
}

fn auth(password: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{USER}\0{password}")))
}

async fn connect(world: &World) -> Smtp {
    let tcp = TcpStream::connect(world.port("submissions")).await.unwrap();
    let mut client = Client::new(tls(tcp, &world.roots()).await.unwrap());
    assert!(client.line().await.starts_with("220 localhost ESMTP"));
    client
}

async fn logged_in(world: &World) -> Smtp {
    let mut client = connect(world).await;
    assert!(ask(&mut client, "EHLO laptop.univ.example").await.starts_with("250 "));
    assert_eq!(ask(&mut client, &auth(PASSWORD)).await, "235 2.7.0 Logged in");
    client
}

#[tokio::test]
async fn a_message_goes_through_and_the_cell_knows_its_client() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut client = connect(&world).await;
    client.send("EHLO laptop.univ.example\r\n").await;
    let list = reply(&mut client).await;
    assert!(list.iter().any(|line| line.ends_with("SIZE 1000000")), "{list:?}");
    assert!(list.iter().any(|line| line.ends_with("AUTH PLAIN LOGIN")), "{list:?}");
    assert!(!list.iter().any(|line| line.contains("XCLIENT") || line.contains("CHUNKING")), "{list:?}");
    assert_eq!(ask(&mut client, &auth(PASSWORD)).await, "235 2.7.0 Logged in");
    client.send("MAIL FROM:<alice@univ.example>\r\nRCPT TO:<bob@other.example>\r\nDATA\r\n").await;
    for code in ["250", "250", "354"] {
        assert!(client.line().await.starts_with(code));
    }
    client.send("Subject: x\r\n\r\nXCLIENT ADDR=192.0.2.1\r\n..\r\n.\r\n").await;
    assert_eq!(client.line().await, "250 2.0.0 Ok: queued as 4XYZ");
    assert_eq!(ask(&mut client, "QUIT").await, "221 2.0.0 bye");
    assert_eq!(client.rest().await.0, b"");
    drop(client);
    cell.until_heard("<end>").await;
    let heard = cell.heard();
    assert!(heard[0].starts_with("EHLO localhost"), "{heard:?}");
    assert!(heard[1].contains(" ADDR=127.0.0.1 ") && heard[1].contains("HELO=laptop.univ.example"), "{heard:?}");
    assert!(heard[2].starts_with("EHLO") && heard[3].starts_with("AUTH PLAIN "), "{heard:?}");
    assert_eq!(
        &heard[4..],
        [
            "MAIL FROM:<alice@univ.example>",
            "RCPT TO:<bob@other.example>",
            "DATA",
            "Subject: x",
            "",
            "XCLIENT ADDR=192.0.2.1",
            "..",
            ".",
            "QUIT",
            "<end>"
        ]
    );
    world.until(|app| app.connections.open() == 0).await;
}

#[tokio::test]
async fn a_client_cannot_be_someone_else_at_the_cell() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut client = logged_in(&world).await;
    for command in ["XCLIENT ADDR=192.0.2.1", "XFORWARD NAME=x", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2"] {
        let answer = ask(&mut client, command).await;
        assert!(answer.starts_with('5'), "{command}: {answer}");
    }
    assert!(ask(&mut client, "MAIL FROM:<alice@univ.example> AUTH=<boss@univ.example>").await.starts_with("250"));
    // Ours alone.
    assert_eq!((cell.count("XCLIENT"), cell.count("XFORWARD"), cell.count("PROXY")), (1, 0, 0));
    assert_eq!(cell.heard().last().unwrap(), "MAIL FROM:<alice@univ.example>");
}

#[tokio::test]
async fn a_smuggled_end_of_a_message_ends_the_session_and_the_cell_sees_no_end_of_it() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut client = logged_in(&world).await;
    assert!(ask(&mut client, "MAIL FROM:<alice@univ.example>").await.starts_with("250"));
    assert!(ask(&mut client, "RCPT TO:<bob@other.example>").await.starts_with("250"));
    assert!(ask(&mut client, "DATA").await.starts_with("354"));
    client.send("a\r\n\n.\r\nMAIL FROM:<boss@univ.example>\r\n").await;
    assert!(client.line().await.starts_with("550 5.5.2"));
    assert_eq!(client.rest().await.0, b"");
    drop(client);
    world.until(|app| app.connections.open() == 0).await;
    assert_eq!((cell.count("."), cell.count("MAIL")), (0, 1), "{:?}", cell.heard());
}

#[tokio::test]
async fn limits_are_told_as_try_later_and_count_for_the_user_not_the_connection() {
    let cell = Cell::start().await;
    let world = start(&cell, "[limits]\nmessages_per_user = 2\nrecipients_per_user = 2\n").await;
    let mut client = logged_in(&world).await;
    assert!(ask(&mut client, "MAIL FROM:<alice@univ.example>").await.starts_with("250"));
    for _ in 0..2 {
        assert!(ask(&mut client, "RCPT TO:<bob@other.example>").await.starts_with("250"));
    }
    assert_eq!(
        ask(&mut client, "RCPT TO:<eve@other.example>").await,
        "452 4.5.3 You have reached your limit of 2 recipients an hour, try again later"
    );
    // The others of this message still go.
    assert!(ask(&mut client, "DATA").await.starts_with("354"));
    client.send("x\r\n.\r\n").await;
    assert!(client.line().await.starts_with("250"));
    let mut other = logged_in(&world).await;
    assert!(ask(&mut other, "MAIL FROM:<alice@univ.example>").await.starts_with("250"));
    assert!(ask(&mut other, "RSET").await.starts_with("250"));
    assert_eq!(
        ask(&mut other, "MAIL FROM:<alice@univ.example>").await,
        "450 4.7.1 You have reached your limit of 2 messages an hour, try again later"
    );
    assert_eq!(cell.count("RCPT"), 2);
}

#[tokio::test]
async fn megabytes_of_a_message_pass_whole() {
    const LINES: usize = 100_000;
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut client = logged_in(&world).await;
    // More than the SIZE of the cell, and less than what passes to hear the cell's own word on it.
    client.send("MAIL FROM:<alice@univ.example>\r\nRCPT TO:<bob@other.example>\r\nDATA\r\n").await;
    for code in ["250", "250", "354"] {
        assert!(client.line().await.starts_with(code));
    }
    let text: String = (0..LINES).map(|i| format!("line number {i:06}\r\n")).collect();
    client.send(&text).await;
    client.send(".\r\n").await;
    assert!(client.line().await.starts_with("250"));
    let heard: Vec<String> = cell.heard().into_iter().filter(|line| line.starts_with("line number")).collect();
    assert!(heard.len() == LINES && heard[LINES - 1].ends_with("099999"), "{}", heard.len());
}

#[tokio::test]
async fn a_wrong_password_is_one_and_none_is_taken_before_tls() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut client = connect(&world).await;
    assert!(ask(&mut client, "EHLO laptop").await.starts_with("250"));
    assert!(ask(&mut client, "MAIL FROM:<alice@univ.example>").await.starts_with("530"));
    assert!(ask(&mut client, &auth("wrong")).await.starts_with("535 5.7.8"));
    let mut plain = Client::new(TcpStream::connect(world.port("msa")).await.unwrap());
    plain.line().await;
    plain.send("EHLO laptop\r\n").await;
    assert!(reply(&mut plain).await.pop().unwrap().ends_with("STARTTLS"));
    plain.send(&format!("{}\r\n", auth(PASSWORD))).await;
    assert!(plain.line().await.starts_with("538"));
    plain.send("STARTTLS\r\n").await;
    assert!(plain.line().await.starts_with("220"));
    let mut client = Client::new(tls(plain.stream.into_inner(), &world.roots()).await.unwrap());
    assert!(ask(&mut client, "EHLO laptop").await.starts_with("250"));
    assert_eq!(ask(&mut client, &auth(PASSWORD)).await, "235 2.7.0 Logged in");
    assert_eq!(cell.count("AUTH"), 1);
}

#[tokio::test]
async fn what_is_pipelined_behind_the_login_is_read_and_a_cell_that_dies_is_told() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut client = connect(&world).await;
    assert!(ask(&mut client, "EHLO laptop").await.starts_with("250"));
    client.send(&format!("{}\r\nXCLIENT ADDR=192.0.2.1\r\nNOOP\r\n", auth(PASSWORD))).await;
    for code in ["235", "5", "250"] {
        assert!(client.line().await.starts_with(code));
    }
    assert!(ask(&mut client, "MAIL FROM:<alice@univ.example>").await.starts_with("250"));
    assert!(ask(&mut client, "RCPT TO:<fatal@other.example>").await.starts_with("421 4.3.0"));
    let (rest, end) = client.rest().await;
    // A clean end: close_notify came.
    assert!(rest.is_empty() && end.is_ok(), "{end:?}");
    drop(client);
    assert_eq!(cell.count("XCLIENT"), 1);
    world.until(|app| app.connections.open() == 0).await;
}

#[tokio::test]
async fn a_kick_is_told_between_two_messages_and_never_within_one() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut busy = logged_in(&world).await;
    assert!(ask(&mut busy, "MAIL FROM:<alice@univ.example>").await.starts_with("250"));
    assert!(ask(&mut busy, "RCPT TO:<bob@other.example>").await.starts_with("250"));
    assert!(ask(&mut busy, "DATA").await.starts_with("354"));
    busy.send("half a message\r\n").await;
    let mut idle = logged_in(&world).await;
    let ends = || METRICS.mail_session_ends.with_label_values(&["submission", "kicked"]).get();
    let before = ends();
    let of_cell = Selector { cell: Some("main".parse().unwrap()), ..Selector::default() };
    assert_eq!(world.app.relays.kick(&of_cell, std::time::Duration::ZERO), 2);
    assert_eq!(idle.line().await, "421 4.3.2 Please connect again");
    assert!(idle.rest().await.1.is_ok());
    busy.send("and the other half\r\n.\r\n").await;
    assert!(busy.line().await.starts_with("250 2.0.0 Ok"), "the message is the cell's");
    assert_eq!(busy.line().await, "421 4.3.2 Please connect again");
    assert_eq!(cell.count("and the other half"), 1);
    drop((idle, busy));
    world.until(|app| app.connections.open() == 0).await;
    assert!(ends() >= before + 2);
}

#[tokio::test]
async fn a_client_that_never_ends_its_message_is_cut_by_a_kick_and_the_cell_takes_none_of_it() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = logged_in(&world).await;
        assert!(ask(&mut client, "MAIL FROM:<alice@univ.example>").await.starts_with("250"));
        assert!(ask(&mut client, "RCPT TO:<bob@other.example>").await.starts_with("250"));
        clients.push(client);
    }
    // One is within a message, the other never begins its own.
    let (mut within_one, mut before_one) = (clients.remove(0), clients.remove(0));
    assert!(ask(&mut within_one, "DATA").await.starts_with("354"));
    let of_cell = Selector { cell: Some("main".parse().unwrap()), ..Selector::default() };
    assert_eq!(world.app.relays.kick(&of_cell, std::time::Duration::ZERO), 2);
    let asked = std::time::Instant::now();
    let trickle = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
        let mut rest = String::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    // Until the gateway reads no more.
                    let _ = within_one.stream.write_all(b"word by word\r\n").await;
                    let _ = within_one.stream.flush().await;
                }
                read = within_one.stream.read_line(&mut rest) => return (read, rest),
            }
        }
    };
    let nagging = async {
        loop {
            let answer = ask(&mut before_one, "NOOP").await;
            if !answer.starts_with("250") {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let ((read, rest), told) = within(async { tokio::join!(trickle, nagging) }).await;
    assert!(matches!(read, Ok(0)) && rest.is_empty(), "no reply stands in a message: {read:?} {rest}");
    assert_eq!(told, "421 4.3.2 Please connect again");
    assert!(asked.elapsed() >= std::time::Duration::from_secs(9), "a message in good faith has its time");
    drop((within_one, before_one));
    world.until(|app| app.relays.count(&Selector::default()) == 0).await;
    cell.until_heard("<end>").await;
    assert_eq!((cell.count("."), cell.count("DATA")), (0, 1), "{:?}", cell.heard());
}

#[tokio::test]
async fn a_stopping_node_ends_a_session_between_two_messages() {
    let cell = Cell::start().await;
    let world = start(&cell, "").await;
    let mut busy = logged_in(&world).await;
    assert!(ask(&mut busy, "MAIL FROM:<alice@univ.example>").await.starts_with("250"));
    let mut idle = logged_in(&world).await;
    world.app.stop.cancel();
    assert_eq!(idle.line().await, "421 4.3.2 Please connect again");
    assert!(ask(&mut busy, "RCPT TO:<bob@other.example>").await.starts_with("250"));
    assert!(ask(&mut busy, "DATA").await.starts_with("354"));
    busy.send("x\r\n.\r\n").await;
    assert!(busy.line().await.starts_with("250 2.0.0 Ok"));
    assert_eq!(busy.line().await, "421 4.3.2 Please connect again");
    drop((idle, busy));
    world.until(|app| app.connections.open() == 0).await;
}
