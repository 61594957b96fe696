//! Connections to cells that wait for their next request.
//!
//! The last one released is taken first, so that those beyond today's need grow old and are closed. What a cell closed or
//! sent unasked meanwhile is found when a connection is taken, and by a sweep for those nobody takes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures::FutureExt;
use pingora::protocols::{Stream, http::v1::client::HttpSession as CellSession};
use tokio::io::AsyncReadExt;

/// What makes two connections the same: they are never used for another cell, nor under a later configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// [`fnv`](super::service::fnv) of the cell's name.
    pub(crate) cell: u64,
    /// The endpoint.
    pub(crate) address: SocketAddr,
    /// Of the configuration: trust may change with it.
    pub(crate) generation: u64,
}

/// The waiting connections.
pub(crate) struct Pool(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    by_key: HashMap<Key, Vec<(Instant, Stream)>>,
    count: usize,
}

impl Pool {
    /// An empty pool with its sweep, which ends with the pool. Needs a runtime.
    pub(crate) fn new() -> Self {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        tokio::spawn(sweep(Arc::downgrade(&waiting)));
        Self(waiting)
    }

    /// A connection that is still open.
    pub(crate) fn take(&self, key: &Key) -> Option<Stream> {
        let now = Instant::now();
        loop {
            let (since, mut stream) = lock(&self.0).pop(key)?;
            if now.duration_since(since) < IDLE && is_quiet(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection whose exchange is over, if both sides wish to go on and there is room.
    pub(crate) async fn release(&self, key: Key, mut session: CellSession) {
        session.respect_keepalive();
        if let Some(stream) = session.reuse().await {
            lock(&self.0).push(key, stream);
        }
    }
}

impl Waiting {
    fn pop(&mut self, key: &Key) -> Option<(Instant, Stream)> {
        let found = self.by_key.get_mut(key)?.pop()?;
        self.count -= 1;
        Some(found)
    }

    fn push(&mut self, key: Key, stream: Stream) {
        if self.count < WAITING_MAX {
            self.by_key.entry(key).or_default().push((Instant::now(), stream));
            self.count += 1;
        }
    }

    /// Takes out what has waited too long or is closed.
    fn swept(&mut self, now: Instant) -> Vec<Stream> {
        let mut gone = Vec::new();
        for streams in self.by_key.values_mut() {
            for (since, mut stream) in std::mem::take(streams) {
                if now.duration_since(since) < IDLE && is_quiet(&mut stream) {
                    streams.push((since, stream));
                } else {
                    gone.push(stream);
                }
            }
        }
        self.by_key.retain(|_, streams| !streams.is_empty());
        self.count -= gone.len();
        gone
    }
}

async fn sweep(waiting: Weak<Mutex<Waiting>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(waiting) = waiting.upgrade() else { return };
        let gone = lock(&waiting).swept(Instant::now());
        // Closed outside the lock.
        drop(gone);
    }
}

/// Whether a waiting connection is open and silent: an end, or bytes nobody asked for, make it useless.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    // Unconstrained, because a spent budget would look like silence.
    tokio::task::unconstrained(stream.read(&mut byte)).now_or_never().is_none()
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Below what back ends keep (Jetty: 30 s), so that a request rarely meets a connection just closed.
const IDLE: Duration = Duration::from_secs(20);
const SWEEP: Duration = Duration::from_secs(5);
/// Of all cells together; beyond it a connection is closed after its exchange.
const WAITING_MAX: usize = 4096;
