//! One turn of one proxy: what it costs to log in, to fetch, to pass a NOOP on, to keep connections in IDLE.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Bed, Options, SETTLE,
    proxy::{Kind, Proxy},
};
use crate::{
    client::{Failure, ImapClient},
    demo::DemoUser,
    measure::{cpu_seconds, proportional_kib},
    world::LARGE_BYTES,
};

/// What was seen in a turn. Nobody counts the processor time of the cell itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Processor time of the proxy for one connection with LOGIN and LOGOUT.
    pub(super) login_cpu_ms: Option<f64>,
    pub(super) login_p50_ms: f64,
    pub(super) login_p99_ms: f64,
    pub(super) logins_per_second: f64,
    /// With one at a time.
    pub(super) alone_p50_ms: f64,
    pub(super) alone_p99_ms: f64,
    pub(super) fetch_mib_per_second: f64,
    pub(super) fetch_cpu_ms_per_mib: Option<f64>,
    pub(super) noop_us: f64,
    pub(super) idle_kib: Option<f64>,
}

/// Everything that moves, by the cell itself.
pub(super) async fn direct(bed: &Bed, options: &Options) -> anyhow::Result<Seen> {
    let cell = bed.cell;
    all(bed, options, &[], move || ImapClient::connect_plainly(cell)).await
}

/// Everything that moves, through a fresh proxy.
pub(super) async fn moving(bed: &Bed, kind: Kind, options: &Options) -> anyhow::Result<Seen> {
    let proxy = Proxy::start(bed, kind, options).await?;
    let (front, tls) = (bed.front, Arc::clone(&bed.tls));
    all(bed, options, &proxy.pids(), move || {
        let tls = Arc::clone(&tls);
        async move { ImapClient::connect_to(front, &tls).await }
    })
    .await
}

/// Memory of a fresh proxy for each connection in IDLE, KiB: proportional set size, all its processes.
pub(super) async fn idle(bed: &Bed, kind: Kind, options: &Options) -> anyhow::Result<f64> {
    let proxy = Proxy::start(bed, kind, options).await?;
    let open = |count: usize| {
        stream::iter(0..count)
            .map(|place| async move {
                let mut client = ImapClient::connect_to(bed.front, &bed.tls).await?;
                client.login(at(&bed.users, place)?).await?;
                client.idle().await?;
                Ok::<_, Failure>(client)
            })
            .buffer_unordered(options.at_once)
            .try_collect::<Vec<_>>()
    };
    // Caches, pools and code pages that the first connections bring in are not the price of the next ones. Few: what these
    // leave behind is taken up by the next ones, and not seen.
    drop(open(bed.users.len()).await?);
    sleep(SETTLE).await;
    let pids = proxy.pids();
    let memory = || pids.iter().map(|&pid| proportional_kib(pid)).sum::<anyhow::Result<u64>>();
    let before = memory()?;
    let clients = open(options.connections).await?;
    sleep(SETTLE).await;
    let with = memory()?;
    // All of them must still be there: memory of the dead counts for nothing.
    let leaving = stream::iter(clients).map(ImapClient::leave_idle).buffer_unordered(options.at_once);
    leaving.try_collect::<()>().await.context("a connection did not live to the end")?;
    Ok((with as f64 - before as f64) / options.connections.max(1) as f64)
}

async fn all<S, F, W>(bed: &Bed, options: &Options, pids: &[u32], connect: F) -> anyhow::Result<Seen>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn() -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Result<ImapClient<S>, Failure>> + Send + 'static,
{
    let cpu = || pids.iter().map(|&pid| cpu_seconds(pid)).sum::<anyhow::Result<f64>>();
    let cost = |spent: f64, count: f64| (!pids.is_empty()).then_some(spent * 1000.0 / count);
    let users = &bed.users;
    // Every user once: from then on the gateway's cache knows the passwords.
    logins(&connect, users, users.len().max(WARM_UP), options.at_once, Duration::MAX).await?;
    sleep(SETTLE).await;

    let before = cpu()?;
    let (took, mut latencies) = logins(&connect, users, options.logins, options.at_once, Duration::MAX).await?;
    sleep(CLOSING).await;
    let login_cpu_ms = cost(cpu()? - before, options.logins as f64);
    let (_, mut alone) = logins(&connect, users, ALONE, 1, ALONE_SPAN).await?;

    let noop_us = noops(&connect, users, options.noops).await?;

    let before = cpu()?;
    let took_fetching = fetches(&connect, users, options.fetches).await?;
    let mib = (FETCHING * options.fetches * LARGE_BYTES) as f64 / f64::from(1 << 20);
    let fetch_cpu_ms_per_mib = cost(cpu()? - before, mib);
    Ok(Seen {
        login_cpu_ms,
        login_p50_ms: quantile(&mut latencies, 0.50) * 1000.0,
        login_p99_ms: quantile(&mut latencies, 0.99) * 1000.0,
        logins_per_second: options.logins as f64 / took.as_secs_f64(),
        alone_p50_ms: quantile(&mut alone, 0.50) * 1000.0,
        alone_p99_ms: quantile(&mut alone, 0.99) * 1000.0,
        fetch_mib_per_second: mib / took_fetching.as_secs_f64(),
        fetch_cpu_ms_per_mib,
        noop_us: noop_us * 1_000_000.0,
        idle_kib: None,
    })
}

/// Connect, LOGIN, LOGOUT, `count` times or as many as begin within `span`: how long in all, and each.
async fn logins<S, F, W>(
    connect: &F,
    users: &Arc<Vec<DemoUser>>,
    count: usize,
    at_once: usize,
    span: Duration,
) -> anyhow::Result<(Duration, Vec<Duration>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn() -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Result<ImapClient<S>, Failure>> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once.max(1) {
        let (connect, users, next) = (connect.clone(), Arc::clone(users), Arc::clone(&next));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= count || start.elapsed() >= span {
                    return Ok::<_, Failure>(latencies);
                }
                let begin = Instant::now();
                let mut client = connect().await?;
                client.login(at(&users, place)?).await?;
                client.logout().await?;
                latencies.push(begin.elapsed());
            }
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    Ok((start.elapsed(), latencies))
}

/// Median of a NOOP on one connection, seconds.
async fn noops<S, F, W>(connect: &F, users: &[DemoUser], count: usize) -> anyhow::Result<f64>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> W,
    W: Future<Output = Result<ImapClient<S>, Failure>>,
{
    let mut client = connect().await?;
    client.login(at(users, 0)?).await?;
    let end = Instant::now() + NOOPS_SPAN;
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count.max(1) && Instant::now() < end {
        let begin = Instant::now();
        client.noop().await?;
        latencies.push(begin.elapsed());
    }
    client.logout().await?;
    Ok(quantile(&mut latencies, 0.5))
}

/// Connections that fetch the large message again and again: how long it took.
async fn fetches<S, F, W>(connect: &F, users: &[DemoUser], count: usize) -> anyhow::Result<Duration>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn() -> W,
    W: Future<Output = Result<ImapClient<S>, Failure>>,
{
    let mut clients = Vec::new();
    for place in 0..FETCHING {
        let mut client = connect().await?;
        client.login(at(users, place)?).await?;
        client.select().await?;
        clients.push(client);
    }
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut buffer = vec![0; BUFFER_BYTES];
            for _ in 0..count {
                let bytes = client.fetch_and_forget(LARGE_NUMBER, &mut buffer).await?;
                if bytes != LARGE_BYTES {
                    return Err(Failure::wrong(format!("the large message has {bytes} bytes")));
                }
            }
            Ok(client)
        });
    }
    let mut done = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        done.push(ended??);
    }
    let took = begin.elapsed();
    for client in done {
        client.logout().await?;
    }
    Ok(took)
}

fn at(users: &[DemoUser], place: usize) -> Result<&DemoUser, Failure> {
    let user = place.checked_rem(users.len()).and_then(|place| users.get(place));
    user.ok_or_else(|| Failure::wrong("nobody lives in the cell"))
}

/// Of durations, in seconds.
fn quantile(durations: &mut [Duration], quantile: f64) -> f64 {
    durations.sort_unstable();
    let last = durations.len().saturating_sub(1);
    let place = (last as f64 * quantile).round() as usize;
    durations.get(place).map(Duration::as_secs_f64).unwrap_or_default()
}

const WARM_UP: usize = 100;
/// Logins with one at a time, and how long they may take: some proxies wait for acknowledgements at each.
const ALONE: usize = 1000;
const ALONE_SPAN: Duration = Duration::from_secs(10);
const NOOPS_SPAN: Duration = Duration::from_secs(5);
/// Connections that fetch at once.
const FETCHING: usize = 4;
/// The message of [`LARGE_BYTES`].
const LARGE_NUMBER: usize = 4;
const BUFFER_BYTES: usize = 256 * 1024;
/// Ends of connections that the client does not see.
const CLOSING: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_seen() {
        let mut durations: Vec<Duration> = (1..=101).rev().map(Duration::from_secs).collect();
        assert_eq!(quantile(&mut durations, 0.5), 51.0);
        assert_eq!(quantile(&mut durations, 0.99), 100.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }
}
