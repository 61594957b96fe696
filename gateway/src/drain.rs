//! Stopping: no new connection, a quiet end for those that are open, and a bound on the whole.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{app::App, mail::Relays, telemetry::METRICS};

/// Stops the node: ports close, connections end at their next quiet moment; what is left after `bound` is cut.
/// Returns how many had to be.
pub async fn drain(app: &Arc<App>, bound: Duration) -> usize {
    METRICS.node_ready.set(0);
    METRICS.node_draining.set(1);
    app.stop.cancel();
    app.listeners.close();
    tracing::info!(open = app.connections.open(), "The node stops and waits for its connections to end.");
    let end = Instant::now() + bound;
    while app.connections.open() > 0 && Instant::now() < end {
        sleep(LOOK_EVERY).await;
    }
    let left = app.connections.open();
    app.cut.cancel();
    // A moment for close_notify.
    let _ = timeout(GOODBYE, async {
        while app.connections.open() > 0 {
            sleep(LOOK_EVERY).await;
        }
    })
    .await;
    tracing::info!(cut = left, "The node has stopped.");
    left
}

/// Hands the word of the node's end on to its relays: one waiter for all of them.
pub(crate) async fn tell_relays(relays: Arc<Relays>, stop: CancellationToken, cut: CancellationToken) {
    stop.cancelled().await;
    relays.stop();
    cut.cancelled().await;
    relays.cut();
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
const GOODBYE: Duration = Duration::from_secs(2);
