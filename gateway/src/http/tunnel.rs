//! A request that has switched protocols: among the live relays of the node, where operators see it and end it.

use std::time::Duration;

use http::HeaderMap;
use pingora::{Error, ErrorType, Result, protocols::http::v1::client::HttpSession as CellSession};
use tokio::time::timeout;

use super::{
    Entrance, Session,
    forward::{Exchange, unasked_switch},
    identity::{self, Sender},
    service::{Ctx, Web},
};
use crate::{mail::Tunnel, placement::Placed};

impl Web {
    /// Enters a tunnel that the cell agrees to. Its client has not heard of it yet.
    pub(super) async fn open_tunnel(
        &self,
        headers: &HeaderMap,
        entrance: Option<&Entrance>,
        ctx: &Ctx,
    ) -> Result<Tunnel> {
        let (Some(Entrance { peer, tls }), Some((app, identity, cell, endpoint))) = (entrance, ctx.way()) else {
            return Err(unasked_switch());
        };
        let mut tunnel = app.relays.enter_tunnel(peer, *tls, identity, cell, endpoint);
        // Behind the entry, as at a login of mail: a move or the end of a session that this look does not see finds the
        // tunnel instead.
        let snapshot = app.snapshot.load_full();
        // Before the look, so that a logout that this look does not see finds the user by the session's tags.
        if let Some(session) = identity::session(headers, app, &snapshot, app.clock.now()) {
            app.tagged.see(&session);
        }
        let sender = identity::sender(headers, peer.client, app, &snapshot).await;
        let same = matches!(&sender, Sender::Known { identity: now, .. } if now.address == identity.address);
        if same && app.place(identity, &snapshot.config) == Placed::Cell(cell.clone()) {
            tunnel.opened();
            return Ok(tunnel);
        }
        Err(Error::explain(ErrorType::HTTPStatus(503), "the user left the cell while a tunnel opened"))
    }

    /// Carries a tunnel to its end. No connection of it carries anything afterwards.
    pub(super) async fn tunnel(
        &self,
        session: &mut Session,
        cell: &mut CellSession,
        ctx: &mut Ctx,
        exchange: &mut Exchange<'_>,
    ) -> Result<bool> {
        let Some(tunnel) = exchange.tunnel.take() else { return Err(unasked_switch()) };
        let carried = tokio::select! {
            biased;
            why = tunnel.ordered() => Err(why),
            carried = self.carry(session, cell, ctx, exchange) => Ok(carried),
        };
        let end = match &carried {
            Err(why) => *why,
            Ok(Ok(_)) => exchange.first_end,
            Ok(Err(_)) => "error",
        };
        tunnel.ended(exchange.to_cell, exchange.to_client, end);
        match carried {
            Ok(carried) => carried.map(|_| false),
            Err(why) => {
                // The last words wait behind what a client that does not read has not taken: not for long. The cell's
                // connection is dropped.
                let _ = timeout(GOODBYE, session.shutdown()).await;
                Err(Error::explain(ErrorType::ConnectionClosed, why).into_down())
            }
        }
    }
}

/// For the last words on a connection.
const GOODBYE: Duration = Duration::from_secs(2);
