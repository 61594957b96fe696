//! Keeps the metadata of the federations fresh: reads files again, fetches what is published, takes out what has ended.
//!
//! One task a federation, for as long as its configuration lasts. A refresh that fails changes nothing: the document in
//! use stays until its own end, and is asked for again sooner, at growing distances. What is fetched and good is kept on
//! disk first (`guichet_auth::saml::metadata`), so that a node starts without the network. Logins never wait for any of
//! it: they look the IdP up in the snapshot.

mod event;
mod fetch;
mod own;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use guichet_auth::{
    WallTime,
    saml::metadata::{DocumentId, Dropped, Held, Reader, Verified, documents, idps_of_tenants},
};
use guichet_config::{Config, Federation};
use tokio::{
    sync::oneshot,
    task::{JoinSet, spawn_blocking},
};

use self::fetch::{FetchError, Fetched, Validators};
use crate::{
    app::{App, Snapshot},
    probe::jitter,
};

/// Until the node stops.
pub(crate) async fn run(app: Arc<App>) {
    let mut tasks = JoinSet::new();
    let mut generation = 0;
    let mut looked = WallTime::default();
    loop {
        let snapshot = app.snapshot.load_full();
        let now = app.clock.now();
        let replaced = snapshot.generation != generation;
        if replaced {
            generation = snapshot.generation;
            tasks.shutdown().await;
            for index in 0..snapshot.config.federations.len() {
                tasks.spawn(keep(Arc::clone(&app), Arc::clone(&snapshot.config), index));
            }
            event::forget_all();
            event::show(&snapshot);
        }
        if snapshot.idps.has_ended(now) {
            let _one_at_a_time = app.changing.lock().await;
            app.replace(|before| Snapshot { idps: Arc::new(before.idps.at(now)), ..before.share() });
            event::ended();
            event::show(&app.snapshot.load());
        }
        if replaced || now.since(looked) >= ALARMS_EVERY {
            looked = now;
            let snapshot = Arc::clone(&snapshot);
            // Reads the pinned keys.
            drop(spawn_blocking(move || {
                event::alarms(&snapshot, now);
                own::alarms(&snapshot, now);
            }));
        }
        drop(snapshot);
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Keeps one federation fresh until the configuration changes.
async fn keep(app: Arc<App>, config: Arc<Config>, index: usize) {
    let Some(federation) = config.federations.get(index).cloned() else { return };
    let client = federation.source.roots().map(|roots| {
        let tls = app.snapshot.load().client_tls.of_roots(roots);
        tls.ok_or_else(|| "no roots".to_owned()).and_then(|tls| fetch::client(&tls).map_err(|error| error.to_string()))
    });
    let client = match client.transpose() {
        Ok(client) => client,
        Err(error) => return event::Refreshed { federation: &federation.name, result: Err(&error) }.emit(),
    };
    let snapshot = app.snapshot.load_full();
    let now = app.clock.now();
    let pace = |id: DocumentId| {
        let due = snapshot.idps.held(&id).map_or(now, |held| {
            let wait = jitter(period(&federation, &held.verified, now));
            held.since.plus(wait)
        });
        (id, Pace { due, failures: 0, validators: Validators::default() })
    };
    let paces = documents(&config, &federation).into_iter().map(pace).collect();
    drop(snapshot);
    Keeper { app, config: Arc::clone(&config), index, federation, client, paces }.run().await;
}

/// The state of one federation's refreshing.
struct Keeper {
    app: Arc<App>,
    config: Arc<Config>,
    index: usize,
    federation: Federation,
    /// Absent for files.
    client: Option<reqwest::Client>,
    paces: HashMap<DocumentId, Pace>,
}

/// When a document is next looked at.
struct Pace {
    due: WallTime,
    failures: u32,
    validators: Validators,
}

/// Why a refresh changed nothing.
struct Failed {
    message: String,
    /// The source did not answer: its other documents need not be tried now.
    unreachable: bool,
}

impl From<FetchError> for Failed {
    fn from(error: FetchError) -> Self {
        Self { message: error.message, unreachable: error.unreachable }
    }
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self { message, unreachable: false }
    }
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let next = self.paces.iter().min_by_key(|(_, pace)| pace.due).map(|(id, pace)| (id.clone(), pace.due));
            let Some((id, due)) = next else { return };
            let wait = due.since(self.app.clock.now());
            if wait > Duration::ZERO {
                // In steps: the wall clock may be set.
                tokio::time::sleep(wait.min(STEP)).await;
            } else {
                self.refresh(id).await;
            }
        }
    }

    async fn refresh(&mut self, id: DocumentId) {
        let mut validators = self.paces.get(&id).map(|pace| pace.validators.clone()).unwrap_or_default();
        let result = self.try_refresh(&id, &mut validators).await;
        let now = self.app.clock.now();
        if let Some(pace) = self.paces.get_mut(&id) {
            pace.validators = validators;
            match &result {
                Ok(_) => {
                    pace.failures = 0;
                    let held = self.app.snapshot.load();
                    let verified = held.idps.held(&id).map(|held| period(&self.federation, &held.verified, now));
                    pace.due = now.plus(jitter(verified.unwrap_or(self.federation.refresh)));
                }
                Err(failed) => {
                    pace.failures = pace.failures.saturating_add(1);
                    let due = now.plus(jitter(back_off(pace.failures, self.federation.refresh)));
                    pace.due = due;
                    if failed.unreachable {
                        self.paces.values_mut().for_each(|pace| pace.due = pace.due.max(due));
                    }
                }
            }
        }
        let result = result.as_ref().copied().map_err(|failed| failed.message.as_str());
        event::Refreshed { federation: &self.federation.name, result }.emit();
        event::show(&self.app.snapshot.load());
        if result == Ok("new") {
            event::show_certificates(&self.app.snapshot.load(), &self.federation.name);
        }
    }

    async fn try_refresh(&self, id: &DocumentId, validators: &mut Validators) -> Result<&'static str, Failed> {
        let held = self.app.snapshot.load().idps.held(id).cloned();
        let (Some(url), Some(client)) = (id.url(&self.federation.source), &self.client) else {
            return self.take(id, None, held).await.map(|()| "new");
        };
        match fetch::get(client, &url, id.bytes_max(), validators).await? {
            Fetched::Document(bytes, new) => {
                // They count for what is held, so only once this is.
                let result = self.take(id, Some(bytes), held).await;
                *validators = if result.is_ok() { new } else { Validators::default() };
                result.map(|()| "new")
            }
            Fetched::Unchanged => {
                let held = held.ok_or_else(|| "the source says `unchanged` of nothing".to_owned())?;
                self.unchanged(id, held).await.map(|()| "unchanged")
            }
        }
    }

    /// Verifies what came (`None`: reads the file), keeps it and uses it.
    async fn take(&self, id: &DocumentId, fetched: Option<Vec<u8>>, held: Option<Held>) -> Result<(), Failed> {
        let (config, index, now) = (Arc::clone(&self.config), self.index, self.app.clock.now());
        let document = id.clone();
        let work = move || -> Result<Verified, String> {
            let federation = config.federations.get(index).ok_or("the federation is gone")?;
            let reader = Reader::new(&config, federation).map_err(|error| error.to_string())?;
            let drops = |verified: &Verified| {
                let Some(held) = &held else { return Ok(()) };
                let dropped = Dropped::between(idps_of_tenants(&config), &held.verified, verified);
                let checked = dropped.check(federation.dropped_percent_max);
                let (federation, entity_ids) = (&federation.name, &dropped.entity_ids);
                event::Dropped { federation, entity_ids, taken: checked.is_ok() }.emit();
                checked.map_err(|error| error.to_string())
            };
            let Some(bytes) = fetched else {
                let stored = reader.stored(&document, now).map_err(|error| error.to_string())?;
                let (verified, _) = stored.ok_or_else(|| "the file is gone".to_owned())?;
                return drops(&verified).map(|()| verified);
            };
            let verified = reader.read(&document, &bytes, now).map_err(|error| error.to_string())?;
            // Whoever can answer for the source could bring back an IdP's old key with an older document.
            if held.as_ref().is_some_and(|held| verified.valid_until < held.verified.valid_until) {
                return Err("the document is older than the one in use (its validUntil is earlier)".to_owned());
            }
            drops(&verified)?;
            if let Err(error) = reader.keep(&document, &bytes, now) {
                event::not_kept(&document.federation, &error);
            }
            Ok(verified)
        };
        let verified = aside(work).await.ok_or_else(|| "the reader failed".to_owned())??;
        self.hold(id, Held { verified: Arc::new(verified), since: now }).await
    }

    async fn unchanged(&self, id: &DocumentId, held: Held) -> Result<(), Failed> {
        let (config, index, now, document) = (Arc::clone(&self.config), self.index, self.app.clock.now(), id.clone());
        let work = move || {
            let federation = config.federations.get(index)?;
            let reader = Reader::new(&config, federation).ok()?;
            reader.keep_unchanged(&document, now).err()
        };
        if let Ok(Some(error)) = spawn_blocking(work).await {
            event::not_kept(&id.federation, &error);
        }
        self.hold(id, Held { since: now, ..held }).await
    }

    async fn hold(&self, id: &DocumentId, held: Held) -> Result<(), Failed> {
        let _one_at_a_time = self.app.changing.lock().await;
        if !Arc::ptr_eq(&self.app.snapshot.load().config, &self.config) {
            return Err("the configuration was replaced meanwhile".to_owned().into());
        }
        let now = self.app.clock.now();
        self.app.replace(|before| {
            let idps = Arc::new(before.idps.with(id.clone(), held.clone(), now));
            Snapshot { idps, ..before.share() }
        });
        Ok(())
    }
}

/// Runs `work` on a thread of its own, at the lowest priority: a document of 100 MB is a second of work that has time, and
/// logins have not. `None`: no thread, or it panicked.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = oneshot::channel();
    let thread = std::thread::Builder::new().name("metadata".to_owned());
    let thread = thread.spawn(move || {
        // Linux does it for this thread alone. Where it may not, the thread is as any other.
        if let Err(error) = rustix::process::setpriority_process(None, PRIORITY_LOWEST) {
            tracing::debug!(%error, "Metadata is read at the usual priority.");
        }
        drop(send.send(work()));
    });
    thread.ok()?;
    receive.await.ok()
}

/// From one good refresh to the next: what the operator says, sooner when the document says so or ends soon.
fn period(federation: &Federation, verified: &Verified, now: WallTime) -> Duration {
    if federation.source.roots().is_none() {
        return federation.refresh;
    }
    let asked = verified.cache_duration.map(|asked| asked.max(PERIOD_MIN));
    let ends = verified.valid_until.map(|end| (end.since(now) / 2).max(PERIOD_MIN));
    [asked, ends].into_iter().flatten().fold(federation.refresh, Duration::min)
}

/// Ten seconds, twenty, forty… and the usual distance at last.
fn back_off(failures: u32, refresh: Duration) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(refresh)
}

/// As `nice` counts: it gets what others leave.
const PRIORITY_LOWEST: i32 = 19;
const LOOK_EVERY: Duration = Duration::from_secs(2);
const ALARMS_EVERY: Duration = Duration::from_secs(12 * 3600);
const STEP: Duration = Duration::from_secs(60);
const BACK_OFF_FIRST: Duration = Duration::from_secs(10);
/// No document makes us ask more often.
const PERIOD_MIN: Duration = Duration::from_secs(60);
