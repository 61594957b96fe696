//! The bytes after login: two sockets, their TLS states and a few hundred bytes.
//!
//! No buffer is held while nothing moves. When a socket is readable, bytes go through a scratch buffer of the worker
//! thread; what the other side does not take at once is kept until it does, and nothing more is read meanwhile. An end
//! is passed on as it came: close_notify as close_notify, a bare FIN as a bare FIN, a reset as a reset. The relay never
//! says anything itself: it cannot know where in the protocol it is.

use std::{io, pin::pin, time::Duration};

use tokio::{
    io::Interest,
    time::{Instant, sleep_until},
};

use super::{
    leg::{Ending, Leg, SCRATCH},
    live::Place,
    orders::{Node, Why},
};
use crate::{listener::Seat, telemetry::METRICS};

/// A logged-in session.
pub(super) struct Relay {
    client: Leg,
    cell: Leg,
    to_cell: u64,
    to_client: u64,
    place: Place,
    seat: Seat,
}

impl Relay {
    pub(super) fn new(client: Leg, cell: Leg, place: Place, seat: Seat) -> Self {
        Self { client, cell, to_cell: 0, to_client: 0, place, seat }
    }

    /// Relays to the end. `to_cell` and `to_client` came before the hand-off.
    pub(super) async fn run(mut self, to_cell: Box<[u8]>, to_client: Box<[u8]>) {
        let end = match self.open(&to_cell, &to_client) {
            Ok(()) => {
                drop((to_cell, to_client));
                self.relay().await
            }
            Err(_) => "error",
        };
        self.place.ended(self.to_cell, self.to_client, end);
        drop((self.place, self.seat));
    }

    /// What was read before the hand-off goes first.
    fn open(&mut self, to_cell: &[u8], to_client: &[u8]) -> io::Result<()> {
        self.cell.take(to_cell)?;
        self.to_cell += to_cell.len() as u64;
        self.to_cell += self.client.drain(|bytes| self.cell.take(bytes))? as u64;
        self.client.take(to_client)?;
        self.to_client += to_client.len() as u64;
        self.to_client += self.cell.drain(|bytes| self.client.take(bytes))? as u64;
        self.cell.flush()?;
        self.client.flush()?;
        Ok(())
    }

    async fn relay(&mut self) -> &'static str {
        let mut moved_at = Instant::now();
        let mut ending: Option<(&'static str, Instant)> = None;
        let inactivity = self.place.about().inactivity;
        let mut alarm = pin!(sleep_until(moved_at + inactivity));
        loop {
            let Progress { moved, more, first_end } = match self.progress() {
                Ok(progress) => progress,
                Err((side, _)) => {
                    // A reset stays a reset.
                    self.client.abort();
                    self.cell.abort();
                    return side;
                }
            };
            let now = Instant::now();
            if moved {
                moved_at = now;
            }
            if ending.is_none() {
                let patience = if self.cell.ended.is_some() { LINGER } else { HALF_OPEN };
                ending = first_end.map(|reason| (reason, now + patience));
            }
            if let Some((reason, _)) = ending
                && self.client.shut
                && (self.cell.shut || self.cell.ended.is_some())
                && self.client.ended.is_some()
            {
                return reason;
            }
            let orders = self.place.orders();
            if orders.node == Node::Cuts {
                self.part();
                return "node_stopped";
            }
            let inactive = (moved_at + inactivity, "inactive");
            let (due, reason) = match (ending, orders.due(moved_at)) {
                (Some((reason, due)), _) => (due, reason),
                (None, Some(ordered)) if ordered.0 < inactive.0 => ordered,
                (None, _) => inactive,
            };
            if more && now < due {
                // Others want the worker too.
                tokio::task::yield_now().await;
                continue;
            }

            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            let client = self.client.interest(!self.cell.blocked());
            let cell = self.cell.interest(!self.client.blocked());
            tokio::select! {
                _ = self.client.tcp.ready(client.unwrap_or(Interest::READABLE)), if client.is_some() => {}
                _ = self.cell.tcp.ready(cell.unwrap_or(Interest::READABLE)), if cell.is_some() => {}
                () = &mut alarm => {
                    if Instant::now() < due {
                        alarm.as_mut().reset(due);
                    } else {
                        if ending.is_none() && Why::is(reason) {
                            // Boxed: an idle relay should not hold room for its last seconds.
                            Box::pin(self.farewell()).await;
                        } else {
                            self.part();
                        }
                        return reason;
                    }
                }
                _ = self.place.other_orders(orders) => {}
            }
        }
    }

    /// Moves what can be moved now.
    fn progress(&mut self) -> Result<Progress, (&'static str, io::Error)> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Self { client, cell, .. } = self;
            let mut moved = false;
            let mut first_end = ended(client, cell);
            for _ in 0..ROUNDS {
                let mut round = false;
                cell.flush().map_err(|e| ("cell_error", e))?;
                client.flush().map_err(|e| ("client_error", e))?;
                if client.ended.is_none() && !cell.blocked() {
                    // A cell that is gone takes nothing more: the rest is read and dropped, so that our end arrives.
                    let gone = cell.ended.is_some();
                    let sink = |bytes: &[u8]| if gone { Ok(()) } else { cell.take(bytes) };
                    if let Some(bytes) = client.pump(scratch, sink).map_err(|e| ("client_error", e))? {
                        round = true;
                        if !gone {
                            self.to_cell += bytes as u64;
                            METRICS.relay_to_cell_bytes.inc_by(bytes as u64);
                        }
                    }
                    cell.flush().map_err(|e| ("cell_error", e))?;
                }
                // Here, because a cell may answer the client's end with its own before we are through.
                first_end = first_end.or_else(|| ended(client, cell));
                if cell.ended.is_none() && !client.blocked() {
                    let sink = |bytes: &[u8]| if client.shut { Ok(()) } else { client.take(bytes) };
                    if let Some(bytes) = cell.pump(scratch, sink).map_err(|e| ("cell_error", e))? {
                        round = true;
                        self.to_client += bytes as u64;
                        METRICS.relay_to_client_bytes.inc_by(bytes as u64);
                    }
                    client.flush().map_err(|e| ("client_error", e))?;
                }
                if let Some(how) = client.ended
                    && cell.ended.is_none()
                    && !cell.shut
                {
                    cell.close(how).map_err(|e| ("cell_error", e))?;
                }
                if let Some(how) = cell.ended
                    && !client.shut
                {
                    client.close(how).map_err(|e| ("client_error", e))?;
                }
                first_end = first_end.or_else(|| ended(client, cell));
                if !round {
                    return Ok(Progress { moved, more: false, first_end });
                }
                moved = true;
            }
            Ok(Progress { moved, more: true, first_end })
        })
    }

    /// Ends both sides from here, as well as they take it at once.
    fn part(&mut self) {
        let _ = self.client.close(Ending::Clean);
        let _ = self.cell.close(Ending::Clean);
    }

    /// Ends both sides from here and waits a moment for theirs. A close over unread bytes is a reset, which may overtake
    /// what waits and our close_notify behind it: what still comes is dropped.
    async fn farewell(&mut self) {
        let due = Instant::now() + LINGER;
        let orders = self.place.orders();
        while self.let_go().is_ok() && !(self.client.over() && self.cell.over()) {
            let client = self.client.interest(true);
            let cell = self.cell.interest(true);
            tokio::select! {
                _ = self.client.tcp.ready(client.unwrap_or(Interest::READABLE)), if client.is_some() => {}
                _ = self.cell.tcp.ready(cell.unwrap_or(Interest::READABLE)), if cell.is_some() => {}
                () = sleep_until(due) => return,
                _ = self.place.other_orders(orders) => return,
            }
            // A side that floods must not keep the worker.
            tokio::task::yield_now().await;
        }
    }

    fn let_go(&mut self) -> io::Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            for leg in [&mut self.client, &mut self.cell] {
                leg.close(Ending::Clean)?;
                if leg.ended.is_none() {
                    leg.pump(scratch, |_| Ok(()))?;
                }
            }
            Ok(())
        })
    }
}

/// What moved.
struct Progress {
    /// Anything.
    moved: bool,
    /// There may be more.
    more: bool,
    /// Which side ended, and which did first when both did meanwhile.
    first_end: Option<&'static str>,
}

fn ended(client: &Leg, cell: &Leg) -> Option<&'static str> {
    match (cell.ended, client.ended) {
        (Some(_), _) => Some("cell_closed"),
        (None, Some(_)) => Some("client_closed"),
        (None, None) => None,
    }
}

/// Reads in a row before other connections get the worker.
const ROUNDS: usize = 16;
/// After the client stopped sending: how long the cell may go on.
const HALF_OPEN: Duration = Duration::from_secs(30);
/// After the cell stopped: how long the client may take to read the rest.
const LINGER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/performance.md says what an idle connection consists of; a variable kept across the wait would show here.
    #[test]
    fn a_waiting_relay_is_small() {
        assert!(size_of_future(Relay::run) <= 1536, "{} bytes", size_of_future(Relay::run));
    }

    fn size_of_future<F>(_: impl FnOnce(Relay, Box<[u8]>, Box<[u8]>) -> F) -> usize {
        size_of::<F>()
    }
}
