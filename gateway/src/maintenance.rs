//! Emptying a cell, one endpoint of it or a listener, and taking that back: an operator's override with a reason and an
//! end, kept in the store and put in force here.
//!
//! While it holds, nobody new goes there: logins go to another endpoint or are told to try later, a listener's ports are
//! closed. Who is there is ended over the time the operator gave, each at a moment of its own. A restart forgets none of
//! it; a reload touches none of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use guichet_auth::{
    WallTime,
    store::{DrainOverride, DrainTarget, StoreError},
};
use guichet_config::ListenerId;
use tokio::time::Instant;

use crate::{
    app::App,
    mail::{Drain, Selector},
    telemetry::{chain, event},
};

/// Why a drain was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// A port of a listener that is to be open again.
    #[error("a port cannot be opened")]
    Port(#[source] anyhow::Error),
    /// The override cannot be kept.
    #[error("the override cannot be written")]
    Store(#[source] StoreError),
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
}

impl App {
    /// The drains in force now.
    pub fn drains(&self) -> Vec<DrainOverride> {
        self.store.drains(self.clock.now())
    }

    /// Live relays that a drain of this target ends.
    pub fn relays_of(&self, target: &DrainTarget) -> usize {
        meant(target).map_or(0, |(selector, endpoint)| self.relays.count_at(&selector, endpoint.as_deref()))
    }

    /// Drains a target from now on.
    ///
    /// # Errors
    /// The override cannot be kept; nothing changed.
    pub async fn drain(&self, word: DrainOverride) -> Result<(), DrainError> {
        let app = self.going_on()?;
        whole(async move {
            let (kind, name) = spelled(&word.target);
            let relays = app.relays_of(&word.target);
            app.change_drains(std::slice::from_ref(&word.target), Some(&word)).await?;
            let DrainOverride { done, until, since, reason, actor, .. } = &word;
            tracing::info!(
                target: "guichet::audit", actor, action = "drain", kind, name, relays,
                over_seconds = done.saturating_sub(*since) / 1000, for_seconds = until.saturating_sub(*since) / 1000,
                reason, "An operator drains."
            );
            Ok(())
        })
        .await
    }

    /// Takes drains back: who was not ended yet stays.
    ///
    /// # Errors
    /// A port cannot be opened, or the store cannot be written; nothing changed.
    pub async fn resume(&self, targets: Vec<DrainTarget>, actor: String) -> Result<(), DrainError> {
        let app = self.going_on()?;
        whole(async move {
            app.change_drains(&targets, None).await?;
            for target in &targets {
                let (kind, name) = spelled(target);
                tracing::info!(
                    target: "guichet::audit", actor, action = "resume", kind, name, "An operator took a drain back."
                );
            }
            Ok(())
        })
        .await
    }

    fn going_on(&self) -> Result<Arc<Self>, DrainError> {
        self.arc().filter(|app| !app.stop.is_cancelled()).ok_or(DrainError::Stopping)
    }

    /// Without `gone`, with `new`.
    async fn change_drains(
        self: &Arc<Self>,
        gone: &[DrainTarget],
        new: Option<&DrainOverride>,
    ) -> Result<(), DrainError> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.drains();
        let mut after: Vec<_> = before.iter().filter(|word| !gone.contains(&word.target)).cloned().collect();
        after.extend(new.cloned());

        // What can fail comes first: the ports, then the file.
        let config = self.snapshot.load().config.clone();
        let ports_before = self.listeners.set_drained(drained_listeners(&after));
        let prepared = match self.listeners.prepare(&config) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.listeners.set_drained(ports_before);
                return Err(DrainError::Port(error));
            }
        };
        let (store, gone, new) = (self.store.clone(), gone.to_vec(), new.cloned());
        let written = tokio::task::spawn_blocking(move || match new {
            Some(word) => store.drain(word),
            None => store.resume(&gone),
        });
        let written = written.await.unwrap_or_else(|error| Err(StoreError::Use(Box::new(error))));
        if let Err(error) = written {
            self.listeners.set_drained(ports_before);
            return Err(DrainError::Store(error));
        }
        self.listeners.commit(prepared, &config, self);
        self.put_in_force(&after);
        Ok(())
    }

    /// After a start: what an operator said before it still holds.
    pub(crate) fn restore_drains(&self) {
        let words = self.drains();
        for word in &words {
            let (kind, name) = spelled(&word.target);
            tracing::warn!(
                kind,
                name,
                reason = word.reason,
                actor = word.actor,
                "An operator's drain is still in force."
            );
        }
        self.listeners.set_drained(drained_listeners(&words));
        self.put_in_force(&words);
    }

    /// Looks for overrides that have ended since. Called now and then, one change at a time.
    pub(crate) fn end_drains(self: &Arc<Self>) {
        let words = self.drains();
        let in_force = self.drained.load_full();
        let ended: Vec<_> = in_force.iter().filter(|word| !words.contains(word)).collect();
        if ended.is_empty() {
            return;
        }
        let config = self.snapshot.load().config.clone();
        let ports_before = self.listeners.set_drained(drained_listeners(&words));
        match self.listeners.prepare(&config) {
            Ok(prepared) => self.listeners.commit(prepared, &config, self),
            Err(error) => {
                self.listeners.set_drained(ports_before);
                tracing::error!(
                    error = chain(&*error),
                    "A drained listener cannot be opened again; the next try is soon."
                );
                return;
            }
        }
        for word in ended {
            let (kind, name) = spelled(&word.target);
            tracing::info!(kind, name, "An operator's drain has ended.");
        }
        self.put_in_force(&words);
    }

    fn put_in_force(&self, words: &[DrainOverride]) {
        let now = (self.clock.now(), Instant::now());
        let drains: Vec<_> = words.iter().filter_map(|word| drain(word, now)).collect();
        self.cells.set_drains(drains.clone());
        self.relays.set_drains(drains);
        let before = self.drained.swap(Arc::new(words.to_vec()));
        for gone in before.iter().filter(|word| words.iter().all(|one| one.target != word.target)) {
            event::set_drained(&gone.target, false);
        }
        for word in words {
            event::set_drained(&word.target, true);
        }
    }
}

/// Lets a change come to its end also when whoever asked for it goes away in the middle.
async fn whole(change: impl Future<Output = Result<(), DrainError>> + Send + 'static) -> Result<(), DrainError> {
    tokio::spawn(change).await.unwrap_or(Err(DrainError::Stopping))
}

/// `cell`, `endpoint` or `listener`, and its name.
pub fn spelled(target: &DrainTarget) -> (&'static str, String) {
    match target {
        DrainTarget::Cell(cell) => ("cell", cell.clone()),
        DrainTarget::Endpoint(cell, endpoint) => ("endpoint", format!("{cell} {endpoint}")),
        DrainTarget::Listener(listener) => ("listener", listener.clone()),
    }
}

/// The relays of a target. `None`: no configuration can have such a name.
fn meant(target: &DrainTarget) -> Option<(Selector, Option<String>)> {
    let of_cell = |cell: &str| Some(Selector { cell: Some(cell.parse().ok()?), ..Selector::default() });
    Some(match target {
        DrainTarget::Cell(cell) => (of_cell(cell)?, None),
        DrainTarget::Endpoint(cell, endpoint) => (of_cell(cell)?, Some(endpoint.clone())),
        DrainTarget::Listener(name) => (Selector { listener: Some(name.parse().ok()?), ..Selector::default() }, None),
    })
}

/// In the time that timers run on.
fn drain(word: &DrainOverride, (wall, now): (WallTime, Instant)) -> Option<Drain> {
    let (selector, endpoint) = meant(&word.target)?;
    let at = |millis: u64| now + Duration::from_millis(millis.saturating_sub(wall.0)).min(LONGEST);
    Some(Drain { selector, endpoint, word: word.clone(), done: at(word.done), until: at(word.until) })
}

fn drained_listeners(words: &[DrainOverride]) -> BTreeSet<ListenerId> {
    let name = |word: &DrainOverride| match &word.target {
        DrainTarget::Listener(name) => name.parse().ok(),
        DrainTarget::Cell(_) | DrainTarget::Endpoint(..) => None,
    };
    words.iter().filter_map(name).collect()
}

/// Longer than the API allows; a file may say anything.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
