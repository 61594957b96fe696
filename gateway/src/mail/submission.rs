//! A submission session after login: [`SubmissionRelay`] says what passes, here are its two sockets.
//!
//! What one side sent and the relay does not want yet is held, and nothing more is read from that side meanwhile; what
//! a socket does not take waits in its leg, and nothing more is given to it. So a session holds at most one read and one
//! outbox in each direction, and nothing while it is idle.

use std::{io, pin::pin, sync::Arc, time::Duration};

use guichet_proto::smtp::{Question, RelayEnd, RelayEvent, RelayProfile, SubmissionRelay, Verdict};
use tokio::{
    io::Interest,
    time::{Instant, sleep_until},
};
use zeroize::Zeroizing;

use super::{
    leg::{Ending, Leg, SCRATCH},
    live::{About, Place},
    orders::Node,
};
use crate::{
    app::App,
    limit::{Kind, Reached},
    listener::Seat,
    telemetry::{METRICS, event},
};

/// A logged-in client that sends messages.
pub(super) struct Submission {
    client: Leg,
    cell: Leg,
    from_client: Held,
    from_cell: Held,
    relay: SubmissionRelay,
    to_cell: u64,
    to_client: u64,
    place: Place,
    seat: Seat,
    app: Arc<App>,
}

/// What was read and not taken yet; may be a password that came too late.
#[derive(Default)]
struct Held {
    bytes: Zeroizing<Vec<u8>>,
    taken: usize,
}

impl Held {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn take(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count);
        if self.is_empty() {
            // An idle session holds no buffer.
            *self = Self::default();
        }
    }
}

/// The side that broke, and how.
type Broken = (&'static str, io::Error);

impl Submission {
    pub(super) fn new(client: Leg, cell: Leg, profile: RelayProfile, place: Place, seat: Seat, app: &Arc<App>) -> Self {
        let (from_client, from_cell) = Default::default();
        let relay = SubmissionRelay::new(profile);
        Self { client, cell, from_client, from_cell, relay, to_cell: 0, to_client: 0, place, seat, app: app.clone() }
    }

    /// Carries messages to the end. `from_client` and `from_cell` came before the hand-off.
    pub(super) async fn run(mut self, from_client: Zeroizing<Vec<u8>>, from_cell: Vec<u8>) {
        self.from_client.push(&from_client);
        self.from_cell.push(&from_cell);
        drop((from_client, from_cell));
        let read_already = self.client.drain(|bytes| {
            self.from_client.push(bytes);
            Ok(())
        });
        let read_already = read_already.and(self.cell.drain(|bytes| {
            self.from_cell.push(bytes);
            Ok(())
        }));
        let end = match read_already {
            Ok(_) => self.carry().await,
            Err(_) => "error",
        };
        self.place.ended(self.to_cell, self.to_client, end);
        drop((self.place, self.seat));
    }

    async fn carry(&mut self) -> &'static str {
        // Why it was told to end between two messages, and whether it was told to end at once.
        let mut stopped: Option<&'static str> = None;
        let mut cut = false;
        let mut moved_at = Instant::now();
        let mut alarm = pin!(sleep_until(moved_at + self.relay.deadline()));
        loop {
            let (moved, more) = match self.progress() {
                Ok(progress) => progress,
                Err((CELL_ERROR, _)) => {
                    // The client hears why; what the cell gave no word on it sends again.
                    self.relay.on_cell_closed();
                    self.cell.abort();
                    self.part(RelayEnd::CellClosed).await;
                    return CELL_ERROR;
                }
                Err((side, _)) => {
                    self.client.abort();
                    self.cell.abort();
                    return side;
                }
            };
            if moved {
                moved_at = Instant::now();
            }
            if let Some(end) = self.relay.end() {
                self.part(end).await;
                let told = matches!(end, RelayEnd::Stopped | RelayEnd::Cut);
                return stopped.filter(|_| told).unwrap_or(end.as_str());
            }
            let orders = self.place.orders();
            if orders.node == Node::Cuts {
                // Half a message is none: the cell must see no orderly end of it.
                self.cell.abort();
                let _ = self.client.close(Ending::Clean);
                return "node_stopped";
            }
            let now = Instant::now();
            if stopped.is_none() {
                stopped = orders.stop_now(now);
                if stopped.is_some() {
                    self.relay.on_stop();
                    continue;
                }
            } else if !cut && orders.cut_at().is_some_and(|at| at <= now) {
                cut = true;
                self.relay.on_cut();
                continue;
            }
            if more {
                // Others want the worker too.
                tokio::task::yield_now().await;
                continue;
            }

            let silent = moved_at + self.relay.deadline();
            let ordered = match stopped {
                None => orders.end().map(|(at, _)| at),
                Some(_) => orders.cut_at().filter(|_| !cut),
            };
            let due = ordered.map_or(silent, |at| silent.min(at));
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            let client = self.client.interest(self.from_client.is_empty() && self.relay.wants_client());
            let cell = self.cell.interest(self.from_cell.is_empty() && self.relay.wants_cell());
            tokio::select! {
                _ = self.client.tcp.ready(client.unwrap_or(Interest::READABLE)), if client.is_some() => {}
                _ = self.cell.tcp.ready(cell.unwrap_or(Interest::READABLE)), if cell.is_some() => {}
                () = &mut alarm => {
                    let now = Instant::now();
                    if now < due {
                        alarm.as_mut().reset(due);
                    } else if now >= silent {
                        self.relay.on_deadline();
                    }
                }
                _ = self.place.other_orders(orders) => {}
            }
        }
    }

    /// Moves what can be moved now. Whether anything did, and whether there may be more.
    fn progress(&mut self) -> Result<(bool, bool), Broken> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut moved = false;
            for _ in 0..ROUNDS {
                let round = self.send()? | self.hear_client(scratch)? | self.hear_cell(scratch)? | self.send()?;
                moved |= round;
                if !round || self.relay.end().is_some() {
                    return Ok((moved, false));
                }
            }
            Ok((moved, true))
        })
    }

    /// From the relay to the sockets, each time all that waits.
    fn send(&mut self) -> Result<bool, Broken> {
        let mut moved = self.cell.flush().map_err(of_cell)?;
        let bytes = self.relay.to_cell();
        let count = bytes.len();
        if count > 0 && !self.cell.blocked() {
            self.cell.take(bytes).map_err(of_cell)?;
            self.relay.sent_to_cell(count);
            self.to_cell += count as u64;
            METRICS.relay_to_cell_bytes.inc_by(count as u64);
            self.cell.flush().map_err(of_cell)?;
            moved = true;
        }
        Ok(moved | self.send_client()?)
    }

    fn send_client(&mut self) -> Result<bool, Broken> {
        let mut moved = self.client.flush().map_err(of_client)?;
        let bytes = self.relay.to_client();
        let count = bytes.len();
        if count > 0 && !self.client.blocked() {
            self.client.take(bytes).map_err(of_client)?;
            self.relay.sent_to_client(count);
            self.to_client += count as u64;
            METRICS.relay_to_client_bytes.inc_by(count as u64);
            self.client.flush().map_err(of_client)?;
            self.told();
            moved = true;
        }
        Ok(moved)
    }

    fn hear_client(&mut self, scratch: &mut [u8]) -> Result<bool, Broken> {
        let Self { client, from_client, relay, .. } = self;
        let mut moved = false;
        let open = client.ended.is_none();
        if open && from_client.is_empty() && relay.wants_client() {
            let sink = |bytes: &[u8]| {
                from_client.push(bytes);
                Ok(())
            };
            moved |= client.pump(scratch, sink).map_err(of_client)?.is_some();
        }
        if !from_client.is_empty() && relay.wants_client() {
            let taken = relay.on_client(from_client.rest());
            from_client.take(taken);
            moved |= taken > 0;
        }
        if client.ended.is_some() && from_client.is_empty() {
            relay.on_client_closed();
        }
        self.told();
        Ok(moved)
    }

    fn hear_cell(&mut self, scratch: &mut [u8]) -> Result<bool, Broken> {
        let Self { cell, from_cell, relay, .. } = self;
        let mut moved = false;
        if cell.ended.is_none() && from_cell.is_empty() && relay.wants_cell() {
            let sink = |bytes: &[u8]| {
                from_cell.push(bytes);
                Ok(())
            };
            moved |= cell.pump(scratch, sink).map_err(of_cell)?.is_some();
        }
        if !from_cell.is_empty() && relay.wants_cell() {
            let taken = relay.on_cell(from_cell.rest());
            from_cell.take(taken);
            moved |= taken > 0;
        }
        self.told();
        let Self { cell, from_cell, relay, .. } = self;
        if cell.ended.is_some() && from_cell.is_empty() {
            relay.on_cell_closed();
            self.told();
        }
        Ok(moved)
    }

    /// Hears the relay out.
    fn told(&mut self) {
        while let Some(event) = self.relay.poll_event() {
            match event {
                RelayEvent::Ask(question) => {
                    let verdict = self.verdict(&question);
                    self.relay.on_verdict(verdict);
                }
                RelayEvent::Message(message) => {
                    let About { client, user, cell, .. } = self.place.about();
                    let user = user.as_ref().map(|(user, tenant)| (user.as_str(), tenant.as_str()));
                    let session = &self.place.session_name();
                    event::MessageSubmitted { session, client: *client, user, cell, message: &message }.emit();
                }
            }
        }
    }

    /// What is counted is asked for, not taken: a recipient that the cell refuses counts too, so that nobody tries out
    /// addresses without end.
    fn verdict(&self, question: &Question) -> Verdict {
        let Some((user, tenant)) = &self.place.about().user else { return Verdict::Go };
        let kind = match question {
            Question::Mail { .. } => Kind::Message,
            Question::Recipient { .. } => Kind::Recipient,
        };
        // Of now, not of the login: a session may last for days.
        let config = self.app.snapshot.load().config.clone();
        match self.app.submissions.admit(kind, user, tenant, &config.limits) {
            Ok(()) => Verdict::Go,
            Err(reached) => {
                let Reached { scope, text } = reached;
                event::SubmissionLimited { session: &self.place.session_name(), user, tenant, scope }.emit();
                Verdict::Later(text)
            }
        }
    }

    /// Our last words to the client, as far as it listens, and the end of both legs.
    async fn part(&mut self, end: RelayEnd) {
        match end {
            RelayEnd::Quit | RelayEnd::Stopped | RelayEnd::CellClosed => {
                let _ = self.cell.close(Ending::Clean);
            }
            // It may be in the middle of a message, of which it must see no orderly end.
            _ => self.cell.abort(),
        }
        let app = self.app.clone();
        let due = Instant::now() + LINGER;
        // A close over unread bytes is a reset, which may overtake our last words: what still comes is dropped.
        while self.say_goodbye().is_ok() && !(self.client.shut && self.client.ended.is_some()) {
            let Some(interest) = self.client.interest(true) else { return };
            tokio::select! {
                _ = self.client.tcp.ready(interest) => {}
                () = sleep_until(due) => return,
                () = app.cut.cancelled() => return,
            }
            // `ready` may be over-eager, and a client that floods must not keep the worker.
            tokio::task::yield_now().await;
        }
    }

    fn say_goodbye(&mut self) -> Result<(), Broken> {
        self.send_client()?;
        if self.relay.to_client().is_empty() {
            self.client.close(Ending::Clean).map_err(of_client)?;
        }
        if self.client.ended.is_none() {
            SCRATCH.with_borrow_mut(|scratch| self.client.pump(scratch, |_| Ok(()))).map_err(of_client)?;
        }
        Ok(())
    }
}

fn of_client(error: io::Error) -> Broken {
    ("client_error", error)
}

fn of_cell(error: io::Error) -> Broken {
    (CELL_ERROR, error)
}

const CELL_ERROR: &str = "cell_error";

/// Rounds in a row before other connections get the worker.
const ROUNDS: usize = 16;
/// How long a client may take to read our last words.
const LINGER: Duration = Duration::from_secs(5);
