//! How much memory of the gateway an idle, logged-in IMAPS connection holds.

use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::resident_kib;
use crate::{
    client::{Failure, ImapClient, Target},
    scenario::Crowd,
};

/// What was seen.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IdleMemory {
    /// Connections in IDLE.
    pub connections: usize,
    /// Resident memory before them, KiB.
    pub before_kib: u64,
    /// With them, KiB.
    pub with_kib: u64,
    /// After they are gone, KiB.
    pub after_kib: u64,
    /// Difference for each, KiB.
    pub each_kib: f64,
}

/// Opens `connections` in IDLE and looks at the memory of process `pid`, which must be the gateway alone
/// (`guichet-demo --without-gateway`).
///
/// # Errors
/// A connection that fails, a process that cannot be looked at.
pub async fn run(target: &Target, pid: u32, connections: usize) -> anyhow::Result<IdleMemory> {
    let crowd = Crowd::new(target, usize::MAX);
    // Caches, pools and code pages that the first connections bring in are not the price of the next ones.
    drop(open(target, &crowd, WARM_UP).await?);
    tokio::time::sleep(SETTLE).await;
    let before_kib = resident_kib(pid)?;
    let clients = open(target, &crowd, connections).await?;
    tokio::time::sleep(SETTLE).await;
    let with_kib = resident_kib(pid)?;
    // All of them must still be there: memory of the dead counts for nothing.
    for client in clients {
        client.leave_idle().await.context("a connection did not live to the end")?;
    }
    tokio::time::sleep(SETTLE).await;
    let each_kib = (with_kib as f64 - before_kib as f64) / connections.max(1) as f64;
    Ok(IdleMemory { connections, before_kib, with_kib, after_kib: resident_kib(pid)?, each_kib })
}

async fn open(target: &Target, crowd: &Crowd, count: usize) -> Result<Vec<ImapClient>, Failure> {
    stream::iter(0..count)
        .map(|place| async move {
            let Some((_, user)) = crowd.at(place) else { return Err(Failure::wrong("the demo has no users")) };
            let mut client = ImapClient::connect(target).await?;
            client.login(user).await?;
            client.idle().await?;
            Ok(client)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

const WARM_UP: usize = 100;
const AT_ONCE: usize = 16;
const SETTLE: Duration = Duration::from_secs(3);
