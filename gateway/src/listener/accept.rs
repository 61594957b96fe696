//! From an accepted socket to its protocol.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use guichet_config::{Listener, ListenerKind, MailTls};
use prometheus::IntGauge;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Peer, proxy};
use crate::{
    app::App,
    http,
    limit::{Admission, Refused},
    mail,
    telemetry::{METRICS, chain, event},
};

/// What a connection holds as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat {
    admission: Admission,
    open: IntGauge,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Accepts until the port is closed.
pub(super) async fn run(
    socket: TcpListener,
    definition: Arc<ArcSwap<Listener>>,
    stop: CancellationToken,
    app: Arc<App>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let listener = definition.load_full();
        let id = listener.id.as_str();
        match accepted {
            Ok((stream, remote)) => {
                METRICS.listener_connections.with_label_values(&[id]).inc();
                let snapshot = app.snapshot.load();
                match app.connections.enter(&snapshot.config.limits) {
                    Ok(admission) => {
                        let open = METRICS.listener_connections_open.with_label_values(&[id]);
                        open.inc();
                        tokio::spawn(serve(stream, remote, listener, Seat { admission, open }, app.clone()));
                    }
                    Err(refused) => refuse(&stream, &listener, remote, refused),
                }
            }
            Err(error) => {
                // Out of file descriptors or memory: the backlog holds new connections while others end.
                METRICS.listener_accept_errors.with_label_values(&[id]).inc();
                tracing::warn!(listener = id, %error, "A connection cannot be accepted.");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, remote: SocketAddr, listener: Arc<Listener>, mut seat: Seat, app: Arc<App>) {
    let Ok(local) = stream.local_addr() else { return };
    if prepare(&stream).is_err() {
        return;
    }
    let mut peer = Peer {
        client: canonical(remote),
        local: canonical(local),
        conn: app.next_connection(),
        listener: listener.id.clone(),
    };
    if !listener.proxy_from.is_empty() {
        match proxy::read(&mut stream, &listener, peer.client).await {
            Ok(Some((source, destination))) => {
                peer.client = canonical(source);
                peer.local = canonical(destination);
            }
            Ok(None) => {}
            Err(refused) => {
                event::ProxyHeaderRefused {
                    listener: &listener.id,
                    peer: peer.client,
                    reason: refused.reason,
                    detail: refused.detail,
                }
                .emit();
                return;
            }
        }
    }
    let snapshot = app.snapshot.load_full();
    if let Err(refused) = seat.admission.admit(peer.client.ip(), &snapshot.config.limits) {
        refuse(&stream, &listener, peer.client, refused);
        return;
    }
    // Boxed, so that an idle connection pays for the stage it is in and not for all of them.
    match &listener.kind {
        ListenerKind::Web => {
            if let Some(stream) =
                Box::pin(handshake(&peer, TlsAcceptor::from(snapshot.tls.web.clone()).accept(stream))).await
            {
                drop(snapshot);
                Box::pin(http::serve(stream, peer, app)).await;
            }
        }
        ListenerKind::Redirect => Box::pin(http::serve_redirect(stream, peer, app)).await,
        ListenerKind::Mail { protocol, tls, mechanisms, data_lines, client_ca: _ } => {
            let offer = mail::Offer::new(*protocol, *tls, mechanisms, *data_lines);
            Box::pin(mail::serve(stream, offer, peer, seat, snapshot, app)).await;
        }
        ListenerKind::Relay { .. } => Box::pin(mail::serve_relay(stream, listener, peer, seat, snapshot, app)).await,
    }
}

/// TLS with a client, within [`HANDSHAKE_TIMEOUT`]; a failure is counted and logged here.
pub(crate) async fn handshake<S>(peer: &Peer, hands: impl Future<Output = io::Result<S>>) -> Option<S> {
    let began = Instant::now();
    let result = match timeout(HANDSHAKE_TIMEOUT, hands).await {
        Ok(result) => result.map_err(|error| chain(&error)),
        Err(_) => Err("not finished in time".to_owned()),
    };
    let outcome = result.as_ref().map(|_| began.elapsed()).map_err(String::as_str);
    event::Handshake { listener: &peer.listener, client: peer.client, result: outcome }.emit();
    result.ok()
}

/// In the protocol's own words where it has some before TLS; otherwise by closing.
fn refuse(stream: &TcpStream, listener: &Listener, client: SocketAddr, refused: Refused) {
    event::ConnectionRefused { listener: &listener.id, client: client.ip(), scope: refused.as_str() }.emit();
    if let ListenerKind::Mail { protocol, tls: MailTls::StartTls, .. } = listener.kind {
        // The send buffer of a fresh socket takes a line whole; a peer that is gone already misses nothing.
        let _ = SockRef::from(stream).send(mail::refusal(protocol));
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// `::ffff:192.0.2.1` is 192.0.2.1, for limits, logs and cells alike.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Finds dead peers and keeps NAT mappings alive.
const KEEPALIVE: Duration = Duration::from_secs(120);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Sent and not acknowledged for so long: gone.
const USER_TIMEOUT: Duration = Duration::from_secs(120);
