//! What a relay is told while it lives: that the node stops, and that an operator wants its end at some moment.
//!
//! Each relay has one [`Slip`] of paper: a line for each reason to end, and whom to wake. Whoever writes on it wakes the
//! relay, which reads it again; a relay that moves bytes does nothing for it but look. The lines are apart, because what is
//! taken back of one must leave the other.

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
    /// When to end, by a kick.
    pub(super) kicked: Option<Instant>,
    /// When to end, by a drain.
    pub(super) drained: Option<Instant>,
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

    /// Whether a relay that ended for this reason did so by an operator's order.
    pub(super) fn is(reason: &str) -> bool {
        [Self::Kicked, Self::Drained].into_iter().any(|why| why.as_str() == reason)
    }

    /// For a place to end in the protocol: the end of a message.
    fn patience(self) -> Duration {
        match self {
            Self::Kicked => PATIENCE_KICKED,
            Self::Drained => PATIENCE_DRAINED,
        }
    }
}

impl Orders {
    /// The sooner of the ends that operators want, and why.
    pub(super) fn end(&self) -> Option<(Instant, Why)> {
        self.ends().into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// When a relay of opaque bytes ends by these, and why, when bytes last moved at `moved_at`.
    ///
    /// A kick is punctual: somebody waits for it. The other ends wait for a quiet moment, in which most likely nothing is
    /// cut in two; one that never comes is not waited for longer than [`PATIENCE`].
    pub(super) fn due(&self, moved_at: Instant) -> Option<(Instant, &'static str)> {
        let quiet = moved_at + QUIET;
        let node = match self.node {
            Node::Runs => None,
            Node::Stops => Some((quiet, NODE_STOPPED)),
            Node::Cuts => Some((moved_at, NODE_STOPPED)),
        };
        let operators = self.ends().map(|end| {
            end.map(|(at, why)| match why {
                Why::Kicked => (at, why.as_str()),
                Why::Drained => (at.max(quiet.min(at + PATIENCE)), why.as_str()),
            })
        });
        operators.into_iter().chain([node]).flatten().min_by_key(|(at, _)| *at)
    }

    /// Why a relay that knows where it is in its protocol must look for a place to end, if it must at `now`.
    pub(super) fn stop_now(&self, now: Instant) -> Option<&'static str> {
        let operator = self.end().filter(|(at, _)| *at <= now).map(|(_, why)| why.as_str());
        operator.or((self.node != Node::Runs).then_some(NODE_STOPPED))
    }

    /// When such a relay is not waited for any longer. The node has a patience of its own: [`Node::Cuts`].
    pub(super) fn cut_at(&self) -> Option<Instant> {
        self.ends().into_iter().flatten().map(|(at, why)| at + why.patience()).min()
    }

    fn ends(&self) -> [Option<(Instant, Why)>; 2] {
        [self.kicked.map(|at| (at, Why::Kicked)), self.drained.map(|at| (at, Why::Drained))]
    }
}

/// Milliseconds since the registry began, or [`NOTHING`], for each reason.
#[derive(Debug)]
pub(super) struct Slip {
    kicked: AtomicU64,
    drained: AtomicU64,
    reader: AtomicWaker,
}

impl Default for Slip {
    fn default() -> Self {
        Self { kicked: AtomicU64::new(NOTHING), drained: AtomicU64::new(NOTHING), reader: AtomicWaker::new() }
    }
}

impl Slip {
    /// An end `at`, counted from the beginning of the registry. Of two orders for one reason the earlier holds.
    pub(super) fn order(&self, at: Duration, why: Why) {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX).min(LATEST);
        if self.line(why).fetch_min(millis, Ordering::SeqCst) > millis {
            self.wake();
        }
    }

    /// No end for this reason after all.
    pub(super) fn take_back(&self, why: Why) {
        if self.line(why).swap(NOTHING, Ordering::SeqCst) != NOTHING {
            self.wake();
        }
    }

    fn line(&self, why: Why) -> &AtomicU64 {
        match why {
            Why::Kicked => &self.kicked,
            Why::Drained => &self.drained,
        }
    }

    pub(super) fn wake(&self) {
        self.reader.wake();
    }

    /// What is ordered, and how the node is.
    pub(super) fn read(&self, began: Instant, node: Node) -> Orders {
        let at = |why| {
            let millis = self.line(why).load(Ordering::SeqCst);
            (millis != NOTHING).then(|| began + Duration::from_millis(millis))
        };
        Orders { node, kicked: at(Why::Kicked), drained: at(Why::Drained) }
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
/// For the end of a message, when somebody waits for the end of the session. docs/runbook.md names both.
const PATIENCE_KICKED: Duration = Duration::from_secs(10);
/// For the end of a message, when nobody is in a hurry.
const PATIENCE_DRAINED: Duration = Duration::from_secs(5 * 60);
const NODE_STOPPED: &str = "node_stopped";
