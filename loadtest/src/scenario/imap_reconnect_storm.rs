//! Every mail program comes back at once: a cell was restarted, a link was cut, a laptop lid opened in every office.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{Crowd, Settings, Threshold};
use crate::{
    client::{Failure, ImapClient, Target},
    engine::{self, Visit},
    record::Recorder,
};

pub(super) const THRESHOLDS: &[Threshold] = &[
    Threshold { step: "first login", p99_ms: 5000.0, failed_share: 0.0 },
    Threshold { step: "reconnect", p99_ms: 1000.0, failed_share: 0.001 },
    Threshold { step: "still there", p99_ms: 1000.0, failed_share: 0.0 },
];

pub(super) async fn run(target: &Target, settings: &Settings, recorder: &Arc<Recorder>, crowd: &Arc<Crowd>) {
    let first: Vec<ImapClient> = stream::iter(0..settings.users)
        .map(|place| async move {
            let mut visit = Visit::new(Arc::clone(recorder), Instant::now(), settings.seed);
            visit.step("first login", connect(target, crowd, place)).await
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    recorder.note(format!("{} connections in IDLE, then all cut at once", first.len()));
    drop(first);

    let back = Arc::new(Mutex::new(Vec::new()));
    let places = AtomicUsize::new(0);
    engine::run(settings.plan(), recorder, |mut visit| {
        let (target, crowd, back) = (target.clone(), Arc::clone(crowd), Arc::clone(&back));
        let place = places.fetch_add(1, Ordering::Relaxed);
        async move {
            if let Some(client) = visit.step("reconnect", connect(&target, &crowd, place)).await {
                back.lock().unwrap_or_else(PoisonError::into_inner).push(client);
            }
        }
    })
    .await;

    let back = std::mem::take(&mut *back.lock().unwrap_or_else(PoisonError::into_inner));
    recorder.note(format!("{} connections came back", back.len()));
    stream::iter(back)
        .for_each_concurrent(AT_ONCE, |client| async move {
            let mut visit = Visit::new(Arc::clone(recorder), Instant::now(), settings.seed);
            visit.step("still there", client.leave_idle()).await;
        })
        .await;
}

async fn connect(target: &Target, crowd: &Crowd, place: usize) -> Result<ImapClient, Failure> {
    let Some((_, user)) = crowd.at(place) else { return Err(Failure::wrong("the demo has no users")) };
    let mut client = ImapClient::connect(target).await?;
    client.login(user).await?;
    client.idle().await?;
    Ok(client)
}

const AT_ONCE: usize = 32;
