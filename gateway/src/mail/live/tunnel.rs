//! Tunnels of the web among the live relays: requests that have switched protocols. The web carries their bytes itself and
//! asks here only whether it should go on.

use std::{future::pending, sync::Arc, time::Duration};

use guichet_auth::Identity;
use guichet_config::CellId;
use tokio::time::sleep_until;

use super::{About, Place, Relays, Traffic};
use crate::{listener::Peer, tls::policy::Negotiated};

/// An open tunnel's place among the live relays; given back on drop.
#[derive(Debug)]
pub(crate) struct Tunnel {
    place: Place,
    /// Counted and to be told at its end.
    opened: bool,
    to_cell: u64,
    to_client: u64,
    end: &'static str,
}

impl Relays {
    /// Enters a tunnel. It is no session that limits count: a browser holds one per page, and what it can hold is bounded
    /// by the limits of connections.
    pub(crate) fn enter_tunnel(
        self: &Arc<Self>,
        peer: &Peer,
        tls: Negotiated,
        identity: &Identity,
        cell: &CellId,
        endpoint: &Arc<str>,
    ) -> Tunnel {
        let (key, live) = self.live(About {
            protocol: Traffic::Web,
            conn: peer.conn,
            listener: peer.listener.clone(),
            client: peer.client,
            tls,
            user: Some((identity.address.clone(), identity.tenant.clone())),
            cell: cell.clone(),
            endpoint: endpoint.clone(),
            // Silent for as long as both ends like.
            inactivity: Duration::MAX,
        });
        self.shard(key.0).insert(key, live.clone());
        let place = self.placed(live);
        Tunnel { place, opened: false, to_cell: 0, to_client: 0, end: "node_stopped" }
    }
}

impl Tunnel {
    /// The tunnel is part of the world from here on.
    pub(crate) fn opened(&mut self) {
        self.opened = true;
        self.place.opened(None);
    }

    /// Waits until it has to end: why. Nobody sees a quiet moment here, so that a moment ordered is the moment.
    pub(crate) async fn ordered(&self) -> &'static str {
        let mut orders = self.place.orders();
        loop {
            let due = orders.due(self.place.live.since);
            let moment = async {
                match due {
                    Some((at, why)) => {
                        sleep_until(at).await;
                        why
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                why = moment => return why,
                other = self.place.other_orders(orders) => orders = other,
            }
        }
    }

    /// It is over.
    pub(crate) fn ended(mut self, to_cell: u64, to_client: u64, end: &'static str) {
        (self.to_cell, self.to_client, self.end) = (to_cell, to_client, end);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if self.opened {
            self.place.ended(self.to_cell, self.to_client, self.end);
        }
    }
}
