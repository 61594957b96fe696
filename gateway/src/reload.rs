//! Reload: check first, then replace at once, or change nothing. And what is kept fresh between reloads: certificates
//! and session keys.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use guichet_auth::session::Sealer;

use crate::{
    app::{App, Snapshot, configure_board, make_snapshot},
    check,
    telemetry::{self, event},
};

/// Why nothing was changed: the same report as `guichet check`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReloadRefused(pub String);

impl App {
    /// Reads the files again; on any problem the old configuration stays. Returns the new generation.
    ///
    /// New ports are opened before anything is replaced, and ports that are gone are closed after. No connection is
    /// touched: each keeps the snapshot it began with.
    ///
    /// # Errors
    /// The report of `guichet check`, or a port that cannot be opened.
    pub async fn reload(&self) -> Result<u64, ReloadRefused> {
        let result = self.try_reload().await;
        match &result {
            Ok((generation, changed)) => event::Reloaded { result: Ok((*generation, changed)) }.emit(),
            Err(refused) => event::Reloaded { result: Err(&refused.0) }.emit(),
        }
        result.map(|(generation, _)| generation)
    }

    async fn try_reload(&self) -> Result<(u64, String), ReloadRefused> {
        let app = self.arc().ok_or_else(|| ReloadRefused("the node is stopping".to_owned()))?;
        let _one_at_a_time = self.changing.lock().await;
        let now = self.clock.now();
        // Reads files and verifies XML signatures: off the workers.
        let task = app.clone();
        let made = tokio::task::spawn_blocking(move || {
            let loaded = check::load(&task.config_path, now).map_err(|report| ReloadRefused(report.to_string()))?;
            let before = task.snapshot.load_full();
            let generation = before.generation + 1;
            make_snapshot(loaded, &task.store, &task.tickets, &task.ecp, Some(&before), generation, now)
                .map_err(|error| ReloadRefused(format!("{error:#}")))
        });
        let snapshot = made.await.map_err(|error| ReloadRefused(error.to_string()))??;

        let config = snapshot.config.clone();
        let prepared = self.listeners.prepare(&config).map_err(|error| ReloadRefused(format!("{error:#}")))?;
        // From here on nothing can fail.
        let generation = snapshot.generation;
        let client_tls = snapshot.client_tls.clone();
        let before = self.snapshot.swap(Arc::new(snapshot));
        configure_board(&self.board, &config, now);
        self.cells.configure(&config, &client_tls);
        crate::placement::warn_of_unknown_cells(&self.store, &config);
        telemetry::log::set_level(&config.log.level);
        self.listeners.commit(prepared, &config, &app);
        Ok((generation, check::difference(&before.config, &config)))
    }

    /// Replaces one part of the snapshot, between reloads.
    pub(crate) fn replace(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        let before = self.snapshot.load_full();
        self.snapshot.store(Arc::new(change(&before)));
    }
}

/// Looks at the certificate folder every few seconds, at session keys now and then, until the node stops.
pub(crate) async fn keep_fresh(app: Arc<App>) {
    let mut ticks: u32 = 0;
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        ticks = ticks.wrapping_add(1);
        let now = app.clock.now();
        let _one_at_a_time = app.changing.lock().await;
        app.end_drains();
        let task = app.clone();
        let keys_due = ticks.is_multiple_of(KEYS_EVERY);
        // A panic in there is logged by its own hook; the next tick tries again.
        let _ = tokio::task::spawn_blocking(move || {
            let snapshot = task.snapshot.load_full();
            snapshot.tls.certificates.refresh(now);
            if keys_due {
                refresh_keys(&task);
            }
        })
        .await;
    }
}

fn refresh_keys(app: &App) {
    match app.store.seal_keys(app.clock.now()) {
        Ok(keys) => app.replace(|before| {
            let sealer = Arc::new(Sealer::new(keys, &before.config.public.hostname));
            Snapshot { sealer, ..before.share() }
        }),
        Err(error) => {
            tracing::error!(error = telemetry::chain(&error), "The session keys cannot be read; the old ones stay.")
        }
    }
}

impl Snapshot {
    /// The same parts, shared.
    pub(crate) fn share(&self) -> Self {
        Self {
            config: self.config.clone(),
            authenticator: self.authenticator.clone(),
            bearers: self.bearers.clone(),
            sp: self.sp.clone(),
            idps: self.idps.clone(),
            institutions: OnceLock::new(),
            sealer: self.sealer.clone(),
            tls: self.tls.clone(),
            client_tls: self.client_tls.clone(),
            generation: self.generation,
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// In ticks: ten minutes.
const KEYS_EVERY: u32 = 300;
