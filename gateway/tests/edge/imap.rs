//! From the greeting to the last byte of a relay.

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{Client, PASSWORD, USER, World, tls, within};

#[tokio::test]
async fn a_login_is_relayed_both_ways_and_shows_the_capabilities_of_the_cell() {
    let world = World::start("").await;
    let mut client = world.imaps().await;
    assert!(client.line().await.starts_with("* OK [CAPABILITY IMAP4rev1"));
    client.send(&format!("a1 LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    assert!(client.until_tagged("a1").await.contains("CAPABILITY IMAP4rev1 IDLE MOVE"));
    let mut cell = world.cell.next().await;
    client.send("a2 SELECT INBOX\r\n").await;
    let mut line = String::new();
    within(cell.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "a2 SELECT INBOX\r\n");
    cell.write_all(b"a2 OK selected\r\n").await.unwrap();
    assert_eq!(client.line().await, "a2 OK selected");
}

#[tokio::test]
async fn what_is_pipelined_behind_the_login_reaches_the_cell() {
    let world = World::start("").await;
    let mut client = world.imaps().await;
    client.send(&format!("a1 LOGIN {USER} \"{PASSWORD}\"\r\na2 NOOP\r\na3 NOOP\r\n")).await;
    let mut cell = world.cell.next().await;
    let mut bytes = [0; 18];
    within(cell.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"a2 NOOP\r\na3 NOOP\r\n");
}

#[tokio::test]
async fn a_wrong_password_is_one_and_a_dead_cell_is_not() {
    let world = World::start("").await;
    let mut client = world.imaps().await;
    client.send(&format!("a1 LOGIN {USER} wrong\r\n")).await;
    assert!(client.until_tagged("a1").await.contains("[AUTHENTICATIONFAILED]"));

    // Nothing listens where the cell is said to be.
    let text = std::fs::read_to_string(world.dir.path().join("guichet.toml")).unwrap();
    let text = text.replace(&world.cell.address.to_string(), "127.0.0.1:9");
    std::fs::write(world.dir.path().join("guichet.toml"), text).unwrap();
    world.app.reload().await.unwrap();
    let mut client = world.imaps().await;
    client.send(&format!("a1 LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    assert!(client.until_tagged("a1").await.contains("[UNAVAILABLE]"));
}

#[tokio::test]
async fn an_authorisation_identity_of_someone_else_is_refused() {
    use base64::Engine as _;
    let world = World::start("").await;
    let mut client = world.imaps().await;
    let sasl = format!("boss@univ.example\0{USER}\0{PASSWORD}");
    let sasl = base64::engine::general_purpose::STANDARD.encode(sasl);
    client.send(&format!("a1 AUTHENTICATE PLAIN {sasl}\r\n")).await;
    assert!(client.until_tagged("a1").await.contains("[AUTHENTICATIONFAILED]"));
}

#[tokio::test]
async fn a_client_that_stops_sending_still_hears_the_cell_to_the_end() {
    let world = World::start("").await;
    let (mut client, mut cell) = world.session().await;
    client.send("a2 LOGOUT\r\n").await;
    client.stream.get_mut().shutdown().await.unwrap();
    let mut heard = Vec::new();
    within(cell.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"a2 LOGOUT\r\n");
    cell.write_all(b"* BYE\r\na2 OK out\r\n").await.unwrap();
    drop(cell);
    let (rest, end) = client.rest().await;
    // A clean end: close_notify came.
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(rest, b"* BYE\r\na2 OK out\r\n");
    world.until(|app| app.connections.open() == 0).await;
}

#[tokio::test]
async fn a_cell_that_ends_is_passed_on_with_close_notify() {
    let world = World::start("").await;
    let (mut client, mut cell) = world.session().await;
    cell.write_all(b"* BYE going down\r\n").await.unwrap();
    drop(cell);
    let (rest, end) = client.rest().await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(rest, b"* BYE going down\r\n");
    drop(client);
    world.until(|app| app.connections.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_session_at_the_cell() {
    let world = World::start("").await;
    let (client, mut cell) = world.session().await;
    drop(client);
    let mut heard = Vec::new();
    let _ = within(cell.read_to_end(&mut heard)).await;
    assert!(heard.is_empty());
    drop(cell);
    world.until(|app| app.connections.open() == 0).await;
}

#[tokio::test]
async fn megabytes_pass_whole_while_the_reader_is_slow_to_begin() {
    const LENGTH: usize = 8 << 20;
    let world = World::start("").await;
    let (client, cell) = world.session().await;
    let pattern: Vec<u8> = (0..LENGTH).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let (mut from_client, mut to_cell) = tokio::io::split(client.stream.into_inner());
    let (mut from_gateway, mut to_gateway) = cell.into_inner().into_split();
    let (down, up) = (pattern.clone(), pattern.clone());
    let cell_writes = tokio::spawn(async move { to_gateway.write_all(&down).await.map(|()| to_gateway).unwrap() });
    let client_writes = tokio::spawn(async move {
        to_cell.write_all(&up).await.unwrap();
        to_cell.flush().await.map(|()| to_cell).unwrap()
    });
    let mut got = vec![0; LENGTH];
    within(from_client.read_exact(&mut got)).await.unwrap();
    assert!(got == pattern);
    within(from_gateway.read_exact(&mut got)).await.unwrap();
    assert!(got == pattern);
    drop((cell_writes.await.unwrap(), client_writes.await.unwrap()));
}

#[tokio::test]
async fn starttls_leads_to_a_login_and_nothing_can_be_done_before() {
    let world = World::start("").await;
    let mut plain = Client::new(TcpStream::connect(world.port("imap")).await.unwrap());
    let greeting = plain.line().await;
    assert!(greeting.contains("STARTTLS") && greeting.contains("LOGINDISABLED"), "{greeting}");
    plain.send(&format!("a0 LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    assert!(plain.until_tagged("a0").await.contains("[PRIVACYREQUIRED]"));
    plain.send("a1 STARTTLS\r\n").await;
    assert!(plain.until_tagged("a1").await.starts_with("a1 OK"));
    let mut client = Client::new(tls(plain.stream.into_inner(), &world.roots()).await.unwrap());
    client.send(&format!("a2 LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    assert!(client.until_tagged("a2").await.starts_with("a2 OK"));
}

#[tokio::test]
async fn a_command_injected_behind_starttls_closes_the_connection() {
    let world = World::start("").await;
    let mut plain = Client::new(TcpStream::connect(world.port("imap")).await.unwrap());
    plain.line().await;
    plain.send("a1 STARTTLS\r\na2 NOOP\r\n").await;
    let (rest, _) = plain.rest().await;
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("BYE") && !text.contains("a2 OK"), "{text}");
}

#[tokio::test]
async fn a_client_that_offers_only_http_is_refused_in_the_handshake() {
    let world = World::start("").await;
    let mut store = rustls::RootCertStore::empty();
    let roots = world.roots();
    store.add(rustls::pki_types::pem::PemObject::from_pem_slice(&roots).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(world.port("imaps")).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    assert!(within(connector.connect("localhost".try_into().unwrap(), tcp)).await.is_err());
}
