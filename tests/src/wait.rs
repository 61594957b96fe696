//! Waiting for an event, with a bound.

use std::time::{Duration, Instant};

/// How long anything on this machine may take before a story fails: generous, for two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `look` again and again until it answers; panics with `what` after [`PATIENCE`].
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(what, PATIENCE, look)
}

/// As [`until`], with its own bound.
pub fn until_within<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} in vain: {what}");
        pause();
    }
}

/// Between two looks at a file or a port of another process, which cannot wake us.
#[allow(clippy::disallowed_methods, reason = "the one pause of the harness, between two looks")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
