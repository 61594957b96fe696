//! A relay listener: TLS ends here, the bytes go to the cell that the client's SNI names. No login, no dialogue: the cell
//! sees to both (mail between servers behind TLS, LDAPS, XMPP).

use std::{sync::Arc, time::Duration};

use guichet_config::{CellId, CellRelay, Domain, Listener, ListenerKind};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    cell::{Failure, announce, connect, start_tls},
    leg::Leg,
    live::{About, Traffic},
    relay::Relay,
};
use crate::{
    app::{App, Snapshot},
    cell::{Chosen, Service},
    listener::{Peer, Seat, handshake},
    telemetry::event,
    tls::{policy::Negotiated, stream::TlsStream},
};

/// Serves one connection until the hand-off.
pub(crate) async fn serve_relay(
    stream: TcpStream,
    listener: Arc<Listener>,
    peer: Peer,
    seat: Seat,
    snapshot: Arc<Snapshot>,
    app: Arc<App>,
) {
    let ListenerKind::Relay { routes, cell_default, timeout_idle } = &listener.kind else { return };
    let hands = Box::pin(handshake(&peer, TlsStream::accept_named(stream, snapshot.tls.relay.clone())));
    let Some((mut stream, name)) = hands.await else { return };
    let asked: Option<Domain> = name.and_then(|name| name.parse().ok());
    let cell = asked.and_then(|name| routes.get(&name)).or(cell_default.as_ref());
    let opened = match cell {
        Some(cell) => open(&app, &snapshot, &peer, cell).await,
        None => Err(Failure::new("no_route", "no route has this name")),
    };
    let name = app.session_name(peer.conn);
    let (cell, endpoint, leg) = match (cell, opened) {
        (Some(cell), Ok((endpoint, leg))) => (cell.clone(), endpoint, leg),
        (_, Err(failure)) => {
            tracing::debug!(
                session = name,
                reason = failure.reason,
                detail = failure.detail,
                "A relay has no other side."
            );
            let Peer { listener, client, .. } = &peer;
            event::DialogueEnded { session: &name, listener, client: *client, reason: failure.reason }.emit();
            let _ = timeout(GOODBYE, stream.shutdown()).await;
            return;
        }
        (None, Ok(_)) => return,
    };
    let about = About {
        protocol: Traffic::Relay,
        conn: peer.conn,
        listener: peer.listener,
        client: peer.client,
        tls: Negotiated::of(stream.state()),
        user: None,
        cell,
        endpoint,
        inactivity: *timeout_idle,
    };
    // Only users can be too many.
    let Ok(place) = app.relays.enter(about, &snapshot.config.limits) else { return };
    place.opened(None);
    let relay = Relay::new(Leg::tls(stream), leg, place, seat);
    tokio::spawn(relay.run(Box::default(), Box::default()));
}

/// The cell's side; when one endpoint cannot, one other is tried.
async fn open(app: &App, snapshot: &Snapshot, peer: &Peer, id: &CellId) -> Result<(Arc<str>, Leg), Failure> {
    let relay = snapshot.config.cells.get(id).and_then(|cell| cell.relay.as_ref());
    let relay = relay.ok_or_else(|| Failure::new("no_endpoint", "the cell relays nothing"))?;
    let mut failed = None;
    for _ in 0..ENDPOINTS_MAX {
        let Some(chosen) = app.cells.choose_other(id, Service::Relay, failed.as_ref()).await else { break };
        let result = timeout(OPEN_TIMEOUT, enter(snapshot, peer, relay, &chosen)).await;
        match result.unwrap_or_else(|_| Err(Failure::new("deadline", "no connection in time"))) {
            Ok(leg) => {
                app.cells.on_success(id, Service::Relay, &chosen.endpoint);
                return Ok((chosen.label, leg));
            }
            Err(failure) => {
                if failure.of_endpoint() {
                    app.cells.on_failure(id, Service::Relay, &chosen.endpoint, &failure.detail);
                }
                failed = Some(chosen.endpoint);
            }
        }
    }
    Err(Failure::new("no_endpoint", "no endpoint takes the connection"))
}

async fn enter(snapshot: &Snapshot, peer: &Peer, relay: &CellRelay, chosen: &Chosen) -> Result<Leg, Failure> {
    let mut stream = connect(chosen).await?;
    if relay.proxy_v2 {
        announce(&mut stream, peer).await?;
    }
    let Some(tls) = &relay.tls else { return Ok(Leg::plain(stream)) };
    start_tls(&snapshot.client_tls, tls, &chosen.endpoint, stream).await.map(Leg::tls)
}

/// The one chosen and one other.
const ENDPOINTS_MAX: usize = 2;
/// Connect and TLS at one endpoint.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(2);
