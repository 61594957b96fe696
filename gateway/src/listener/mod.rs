//! One accept path for all protocols: admission, PROXY header, TLS, protocol.
//!
//! [`Listeners`] owns the ports. A reload keeps a port that stays, with whatever its table says now, opens new ones
//! before anything is replaced and closes those that are gone. [`accept`] takes a connection from there to its protocol.

mod accept;
mod proxy;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use arc_swap::ArcSwap;
use guichet_config::{Config, Listener, ListenerId};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use accept::{Seat, handshake};

use crate::app::App;

/// What is known of an accepted connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client (from the PROXY header when one was read).
    pub client: SocketAddr,
    /// What the client connected to.
    pub local: SocketAddr,
    /// Number of the connection on this node, for logs.
    pub conn: u64,
    /// Listener.
    pub listener: ListenerId,
}

/// The open ports.
#[derive(Debug, Default)]
pub struct Listeners {
    running: Mutex<HashMap<Port, Running>>,
    /// Their ports stay closed, by an operator's word.
    drained: Mutex<BTreeSet<ListenerId>>,
}

/// An address of the configuration. Port 0 stands for a port of the system's choice, one for each listener.
type Port = (SocketAddr, Option<ListenerId>);

#[derive(Debug)]
struct Running {
    address: SocketAddr,
    definition: Arc<ArcSwap<Listener>>,
    stop: CancellationToken,
}

/// Ports opened for a configuration that is not in force yet. Dropped, they are closed again.
#[derive(Debug)]
pub struct Prepared {
    opened: Vec<(Port, TcpListener)>,
}

impl Listeners {
    /// Opens the ports of `config` that are not open yet.
    ///
    /// # Errors
    /// The first one that cannot be opened, with its listener.
    pub fn prepare(&self, config: &Config) -> anyhow::Result<Prepared> {
        let drained = self.drained();
        let running = self.lock();
        let mut opened = Vec::new();
        for (port, listener) in ports(config).filter(|(_, one)| !drained.contains(&one.id)) {
            if !running.contains_key(&port) {
                let address = port.0;
                let socket =
                    open(address).with_context(|| format!("listener {}: {address} cannot be opened", listener.id))?;
                opened.push((port, socket));
            }
        }
        Ok(Prepared { opened })
    }

    /// Puts `config` in force: serves the prepared ports, tells the others what they are now, closes the rest.
    pub fn commit(&self, prepared: Prepared, config: &Config, app: &Arc<App>) {
        let mut opened: HashMap<Port, TcpListener> = prepared.opened.into_iter().collect();
        let drained = self.drained();
        let mut running = self.lock();
        let mut next = HashMap::new();
        for (port, listener) in ports(config).filter(|(_, one)| !drained.contains(&one.id)) {
            if let Some(kept) = running.remove(&port) {
                kept.definition.store(Arc::new(listener.clone()));
                next.insert(port, kept);
            } else if let Some(socket) = opened.remove(&port) {
                let address = socket.local_addr().unwrap_or(port.0);
                let definition = Arc::new(ArcSwap::from_pointee(listener.clone()));
                let stop = app.stop.child_token();
                tracing::info!(listener = %listener.id, %address, "A port is open.");
                tokio::spawn(accept::run(socket, definition.clone(), stop.clone(), app.clone()));
                next.insert(port, Running { address, definition, stop });
            }
        }
        for (_, gone) in running.drain() {
            tracing::info!(address = %gone.address, "A port is closed.");
            gone.stop.cancel();
        }
        *running = next;
    }

    /// Whose ports are to stay closed, from the next `prepare` and `commit` on. Returns whose were.
    ///
    /// A closed port, rather than a refusal in the protocol's words: behind TLS there are no words without a handshake, and
    /// a load balancer or a client with a second address goes on at once.
    pub(crate) fn set_drained(&self, drained: BTreeSet<ListenerId>) -> BTreeSet<ListenerId> {
        std::mem::replace(&mut *self.drained.lock().unwrap_or_else(PoisonError::into_inner), drained)
    }

    fn drained(&self) -> BTreeSet<ListenerId> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes all ports.
    pub fn close(&self) {
        for (_, gone) in self.lock().drain() {
            gone.stop.cancel();
        }
    }

    /// Whether a port is open.
    pub fn any_open(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Where a listener can be reached now, ports of the system's choice included.
    pub fn addresses(&self, id: &str) -> Vec<SocketAddr> {
        let running = self.lock();
        let of_id = running.values().filter(|one| one.definition.load().id.as_str() == id);
        of_id.map(|one| one.address).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Port, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ports(config: &Config) -> impl Iterator<Item = (Port, &Listener)> {
    config.listeners.iter().flat_map(|listener| {
        listener.bind.iter().map(move |address| {
            let own = (address.port() == 0).then(|| listener.id.clone());
            ((*address, own), listener)
        })
    })
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // One family a socket: `[::]` and `0.0.0.0` may both be listed.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connections the kernel holds for us; the system's own bound (`somaxconn`) applies on top.
const BACKLOG: i32 = 4096;
