//! The other end is rustls' buffered connection: what it takes and says counts.

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    version::{TLS12, TLS13},
};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::*;

/// Configurations of both sides for `mail.example`, one version of TLS.
fn both(version: &'static rustls::SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let provider = crate::tls::policy::PROVIDER.clone();
    let made = rcgen::generate_simple_self_signed(["mail.example".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

fn name() -> ServerName<'static> {
    "mail.example".try_into().unwrap()
}

/// Our server's side, and rustls' client.
async fn server(version: &'static rustls::SupportedProtocolVersion) -> (TlsStream, client::TlsStream<TcpStream>) {
    let (server, client) = both(version);
    let (far, near) = sockets().await;
    let (ours, theirs) = tokio::join!(TlsStream::accept(near, server), TlsConnector::from(client).connect(name(), far));
    (ours.unwrap(), theirs.unwrap())
}

#[tokio::test]
async fn bytes_pass_in_every_size_both_ways_as_server_and_as_client() {
    for version in [&TLS12, &TLS13] {
        let (server, client) = both(version);
        for size in [1, 100, 16 * 1024, 16 * 1024 + 1, 300_000] {
            let sent: Vec<u8> = (0..size).map(|at| at as u8).collect();
            for ours_is_server in [true, false] {
                let (far, near) = sockets().await;
                let (mut near, mut far): (TlsStream, Box<dyn Both>) = if ours_is_server {
                    let (near, far) = tokio::join!(
                        TlsStream::accept(near, server.clone()),
                        TlsConnector::from(client.clone()).connect(name(), far)
                    );
                    (near.unwrap(), Box::new(far.unwrap()))
                } else {
                    let (near, far) = tokio::join!(
                        TlsStream::connect(near, client.clone(), name()),
                        TlsAcceptor::from(server.clone()).accept(far)
                    );
                    (near.unwrap(), Box::new(far.unwrap()))
                };
                let back = async {
                    let mut back = vec![0; size];
                    near.read_exact(&mut back).await.unwrap();
                    near.write_all(&back).await.unwrap();
                    near.shutdown().await.unwrap();
                    // Nothing waits, nothing is held.
                    let Session { incoming, plain, outgoing, .. } = &*near.session;
                    assert_eq!((incoming.capacity(), plain.capacity(), outgoing.capacity()), (0, 0, 0));
                };
                let there = async {
                    far.write_all(&sent).await.unwrap();
                    far.flush().await.unwrap();
                    let mut back = Vec::new();
                    far.read_to_end(&mut back).await.unwrap();
                    assert!(back == sent, "{size}");
                };
                tokio::join!(back, there);
            }
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

/// A buffered client, byte by byte through our session.
#[test]
fn records_are_opened_however_they_are_cut() {
    let (server, client) = both(&TLS13);
    let mut ours = Session::new(Side::Server(UnbufferedServerConnection::new(server).unwrap()));
    let mut theirs = ClientConnection::new(client, name()).unwrap();
    let mut scratch = vec![0; 64 * 1024];
    let mut heard = Vec::new();
    let mut said = false;
    for _ in 0..20 {
        let mut flight = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut flight).unwrap();
        }
        for byte in flight {
            let kept = ours.resume(&mut scratch);
            scratch[kept] = byte;
            ours.open(&mut scratch[..=kept], |bytes| {
                heard.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        }
        let mut answer = ours.unsent();
        while !answer.is_empty() {
            theirs.read_tls(&mut answer).unwrap();
            theirs.process_new_packets().unwrap();
        }
        ours.sent(usize::MAX);
        if !theirs.is_handshaking() && !said {
            said = true;
            io::Write::write_all(&mut theirs.writer(), &[b'x'; 20_000]).unwrap();
            // Other keys, then more under them.
            theirs.refresh_traffic_keys().unwrap();
            io::Write::write_all(&mut theirs.writer(), b" and more").unwrap();
            theirs.send_close_notify();
        }
    }
    assert_eq!(heard.len(), 20_009);
    assert!(ours.peer_has_closed() && ours.incoming.capacity() == 0);
    // We may still speak, under our own new keys.
    let length = ours.seal(b"last words", &mut scratch).unwrap();
    ours.keep(&scratch[..length].to_vec());
    ours.close();
    let mut answer = ours.unsent();
    while !answer.is_empty() {
        theirs.read_tls(&mut answer).unwrap();
        theirs.process_new_packets().unwrap();
    }
    let mut last = Vec::new();
    io::Read::read_to_end(&mut theirs.reader(), &mut last).unwrap();
    assert_eq!(last, b"last words");
}

#[tokio::test]
async fn a_broken_record_is_answered_by_an_alert_and_a_cut_is_no_end() {
    let (mut ours, theirs) = server(&TLS13).await;
    let (mut socket, mut state) = theirs.into_inner();
    socket
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .await
        .unwrap();
    let error = ours.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    drop(ours);
    let mut said = Vec::new();
    socket.read_to_end(&mut said).await.unwrap();
    let mut said = said.as_slice();
    let mut alert = None;
    while !said.is_empty() && alert.is_none() {
        state.read_tls(&mut said).unwrap();
        alert = state.process_new_packets().err();
    }
    assert_eq!(alert, Some(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));

    let (mut ours, theirs) = server(&TLS13).await;
    drop(theirs.into_inner());
    assert_eq!(ours.read(&mut [0; 10]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn the_name_a_client_asks_for_is_told_however_its_hello_is_cut() {
    let (server, client) = both(&TLS13);
    let (mut far, near) = sockets().await;
    far.set_nodelay(true).unwrap();
    let mut hello = Vec::new();
    let mut theirs = ClientConnection::new(client, name()).unwrap();
    theirs.write_tls(&mut hello).unwrap();
    let accepting = tokio::spawn(TlsStream::accept_named(near, server));
    for piece in hello.chunks(100) {
        far.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    while theirs.is_handshaking() {
        let mut chunk = [0; 4096];
        let read = far.read(&mut chunk).await.unwrap();
        theirs.read_tls(&mut &chunk[..read]).unwrap();
        theirs.process_new_packets().unwrap();
        let mut flight = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut flight).unwrap();
        }
        far.write_all(&flight).await.unwrap();
    }
    let (_, asked) = accepting.await.unwrap().unwrap();
    assert_eq!(asked.as_deref(), Some("mail.example"));
}

#[tokio::test]
async fn a_hello_in_many_records_is_put_together_and_one_without_end_is_not_waited_for() {
    let (server, client) = both(&TLS13);
    let mut small = (*client).clone();
    small.max_fragment_size = Some(40);
    let (far, near) = sockets().await;
    let connecting = TlsConnector::from(Arc::new(small)).connect(name(), far);
    let (ours, theirs) = tokio::join!(TlsStream::accept(near, server.clone()), connecting);
    assert!(ours.is_ok() && theirs.is_ok());

    // A hello that says it has sixteen megabytes.
    let (mut far, near) = sockets().await;
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.resize(5 + 16 * 1024, 0);
    let mut first = record.clone();
    first[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
    let sending = async {
        far.write_all(&first).await.unwrap();
        while far.write_all(&record).await.is_ok() {}
    };
    let (refused, ()) = tokio::join!(TlsStream::accept(near, server), sending);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_is_refused_by_name() {
    let (server, _) = both(&TLS13);
    let (_, other) = both(&TLS13);
    let (far, near) = sockets().await;
    let (theirs, ours) = tokio::join!(TlsAcceptor::from(server).accept(far), TlsStream::connect(near, other, name()));
    let error = ours.unwrap_err();
    let cause = error.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap();
    assert!(matches!(cause, rustls::Error::InvalidCertificate(_)), "{cause}");
    // The other side is told, too.
    assert!(theirs.unwrap_err().to_string().contains("alert"), "an alert");
}

/// `size_of` is what an idle connection costs before the heap: docs/performance.md.
#[test]
fn a_session_is_no_larger_than_it_was() {
    assert!(size_of::<Session>() <= 1400, "{}", size_of::<Session>());
    assert!(size_of::<Session>() < size_of::<ServerConnection>() + 64, "{}", size_of::<ServerConnection>());
}
