//! What a relay is told while it lives: that the node stops, and that an operator wants its end at some moment.
//!
//! Each relay has one [`Slip`] of paper: a word of 64 bits and whom to wake. Whoever writes on it wakes the relay, which
//! reads it again; a relay that moves bytes does nothing for it but look.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Instant;

/// What a relay acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) node: Node,
    /// When to end, and why.
    pub(super) end: Option<(Instant, Why)>,
}

/// How the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Runs,
    /// Relays end at their next quiet moment.
    Stops,
    /// Relays end now.
    Cuts,
}

impl Node {
    pub(super) fn of(number: u8) -> Self {
        [Self::Runs, Self::Stops].into_iter().find(|one| *one as u8 == number).unwrap_or(Self::Cuts)
    }
}

/// Why an operator ends a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Kicked,
    Drained,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Drained => "drained",
        }
    }
}

impl Orders {
    /// When a relay of opaque bytes ends by these, and why, when bytes last moved at `moved_at`.
    ///
    /// A kick is punctual: somebody waits for it. The other ends wait for a quiet moment, in which most likely nothing is
    /// cut in two; one that never comes is not waited for longer than [`PATIENCE`].
    pub(super) fn due(&self, moved_at: Instant) -> Option<(Instant, &'static str)> {
        let quiet = moved_at + QUIET;
        let node = match self.node {
            Node::Runs => None,
            Node::Stops => Some((quiet, "node_stopped")),
            Node::Cuts => Some((moved_at, "node_stopped")),
        };
        let operator = self.end.map(|(at, why)| match why {
            Why::Kicked => (at, why.as_str()),
            Why::Drained => (at.max(quiet.min(at + PATIENCE)), why.as_str()),
        });
        [operator, node].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Why a relay that knows where it is in its protocol must look for a place to end, if it must at `now`.
    pub(super) fn stop_now(&self, now: Instant) -> Option<&'static str> {
        let operator = self.end.filter(|(at, _)| *at <= now).map(|(_, why)| why.as_str());
        operator.or((self.node != Node::Runs).then_some("node_stopped"))
    }
}

/// Milliseconds since the registry began, four times, plus the reason; or [`NOTHING`].
#[derive(Debug)]
pub(super) struct Slip {
    word: AtomicU64,
    reader: AtomicWaker,
}

impl Default for Slip {
    fn default() -> Self {
        Self { word: AtomicU64::new(NOTHING), reader: AtomicWaker::new() }
    }
}

impl Slip {
    /// An end `at`, counted from the beginning of the registry. Of two orders the earlier one holds.
    pub(super) fn order(&self, at: Duration, why: Why) {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX).min(LATEST);
        let word = (millis << 2) | why as u64;
        if self.word.fetch_min(word, Ordering::SeqCst) > word {
            self.wake();
        }
    }

    /// No end for this reason after all.
    pub(super) fn take_back(&self, why: Why) {
        let of_it = |word: u64| (word != NOTHING && word & 3 == why as u64).then_some(NOTHING);
        if self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, of_it).is_ok() {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.reader.wake();
    }

    pub(super) fn read(&self, began: Instant) -> Option<(Instant, Why)> {
        let word = self.word.load(Ordering::SeqCst);
        let why = if word & 3 == Why::Kicked as u64 { Why::Kicked } else { Why::Drained };
        (word != NOTHING).then(|| (began + Duration::from_millis(word >> 2), why))
    }

    /// Waits until `look` sees something else.
    pub(super) async fn changed(&self, seen: Orders, look: impl Fn() -> Orders) -> Orders {
        std::future::poll_fn(|cx| {
            // First the name, then the look: who writes between the two wakes us.
            self.reader.register(cx.waker());
            let now = look();
            if now == seen { Poll::Pending } else { Poll::Ready(now) }
        })
        .await
    }
}

const NOTHING: u64 = u64::MAX;
/// Seventy years: an instant can still be counted to it.
const LATEST: u64 = 1 << 41;
/// When nothing moved for so long, most likely nothing is cut in two.
const QUIET: Duration = Duration::from_secs(1);
/// For that moment.
const PATIENCE: Duration = Duration::from_secs(30);
