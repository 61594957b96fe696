//! Drains: an operator empties a cell, an endpoint or a listener, or takes that back. See [`crate::maintenance`].

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use guichet_auth::{
    WallTime,
    store::{DrainOverride, DrainTarget},
};
use serde::{Deserialize, Serialize};

use super::{
    api::{Refusal, Shared, actor, reason, timestamp},
    relays::over_of,
};
use crate::{
    app::App,
    maintenance::{DrainError, spelled},
    telemetry::chain,
};

/// `POST /api/v1/cells/{cell}/drain` and `/listeners/{listener}/drain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Of a cell: only this one, `host:port`.
    endpoint: Option<String>,
    /// `10m`: live relays are ended within it; at most a day.
    over: String,
    /// `2h`; at most 31 days.
    #[serde(rename = "for")]
    duration: String,
    /// For the audit and the next shift.
    reason: String,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/cells/{cell}/resume`; the body may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    /// Only this one; absent: the cell and all of its endpoints.
    endpoint: Option<String>,
}

/// One of `GET /api/v1/drains`, and the answer to a change.
#[derive(Debug, Serialize)]
pub(super) struct Drained {
    /// `cell`, `endpoint` or `listener`.
    kind: &'static str,
    name: String,
    /// Live relays.
    relays: usize,
    /// When the last of them ends.
    done: String,
    until: String,
    reason: String,
    actor: String,
    dry_run: bool,
}

impl Drained {
    fn of(app: &App, word: &DrainOverride, dry_run: bool) -> Self {
        let (kind, name) = spelled(&word.target);
        Self {
            kind,
            name,
            relays: app.relays_of(&word.target),
            done: timestamp(WallTime(word.done)),
            until: timestamp(WallTime(word.until)),
            reason: word.reason.clone(),
            actor: word.actor.clone(),
            dry_run,
        }
    }
}

/// One of `GET /api/v1/listeners`.
#[derive(Debug, Serialize)]
pub(super) struct Listener {
    listener: String,
    /// Ports that are open.
    open: Vec<String>,
    drained: bool,
    relays: usize,
}

pub(super) async fn list(State(app): Shared) -> Json<Vec<Drained>> {
    Json(app.drains().iter().map(|word| Drained::of(&app, word, false)).collect())
}

pub(super) async fn listeners(State(app): Shared) -> Json<Vec<Listener>> {
    let config = app.snapshot.load().config.clone();
    let drains = app.drains();
    let told = config.listeners.iter().map(|one| {
        let target = DrainTarget::Listener(one.id.to_string());
        Listener {
            listener: one.id.to_string(),
            open: app.listeners.addresses(one.id.as_str()).iter().map(ToString::to_string).collect(),
            drained: drains.iter().any(|word| word.target == target),
            relays: app.relays_of(&target),
        }
    });
    Json(told.collect())
}

pub(super) async fn drain_cell(
    State(app): Shared,
    Path(cell): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Drained>, Refusal> {
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    let endpoints = app.cells.list().into_iter().filter(|one| one.cell == cell).map(|one| one.endpoint);
    let endpoints: Vec<String> = endpoints.collect();
    if endpoints.is_empty() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_cell", "The configuration has no such cell."));
    }
    let target = match asked.endpoint.clone() {
        None => DrainTarget::Cell(cell),
        Some(one) if endpoints.contains(&one) => DrainTarget::Endpoint(cell, one),
        Some(_) => {
            let message = format!("The cell has no such endpoint (it has {}).", endpoints.join(", "));
            return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_endpoint", message));
        }
    };
    drain(&app, target, asked, &headers).await
}

pub(super) async fn drain_listener(
    State(app): Shared,
    Path(listener): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Drained>, Refusal> {
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    if asked.endpoint.is_some() {
        return Err(Refusal::bad("`endpoint` is of cells."));
    }
    if !app.snapshot.load().config.listeners.iter().any(|one| one.id.as_str() == listener) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_listener", "The configuration has no such listener."));
    }
    drain(&app, DrainTarget::Listener(listener), asked, &headers).await
}

async fn drain(
    app: &Arc<App>,
    target: DrainTarget,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<Json<Drained>, Refusal> {
    let over = over_of(&asked.over)?;
    let duration = super::parse_duration(&asked.duration).filter(|duration| *duration <= DRAIN_MAX);
    let duration = duration.ok_or_else(|| {
        Refusal::bad("`for` is a duration such as `10m` or `2h`, at most 31 days; for longer, use the configuration.")
    })?;
    if over > duration {
        return Err(Refusal::bad("`over` is longer than `for`: some would never be ended."));
    }
    let now = app.clock.now();
    let word = DrainOverride {
        target,
        done: now.plus(over).0,
        until: now.plus(duration).0,
        reason: reason(&asked.reason)?,
        actor: actor(headers),
        since: now.0,
    };
    // Before: a drain over seconds has ended some by the time it is told.
    let told = Drained::of(app, &word, asked.dry_run);
    if asked.dry_run {
        return Ok(Json(told));
    }
    app.drain(word).await.map_err(refusal)?;
    Ok(Json(told))
}

pub(super) async fn resume_cell(
    State(app): Shared,
    Path(cell): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Vec<Drained>>, Refusal> {
    let asked: Resume = match body.is_empty() {
        true => Resume::default(),
        false => serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?,
    };
    let meant = |target: &DrainTarget| match (target, &asked.endpoint) {
        (DrainTarget::Cell(one), None) => *one == cell,
        (DrainTarget::Endpoint(one, _), None) => *one == cell,
        (DrainTarget::Endpoint(one, endpoint), Some(wanted)) => *one == cell && endpoint == wanted,
        _ => false,
    };
    resume(&app, meant, &headers).await
}

pub(super) async fn resume_listener(
    State(app): Shared,
    Path(listener): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Vec<Drained>>, Refusal> {
    resume(&app, |target| *target == DrainTarget::Listener(listener.clone()), &headers).await
}

/// Takes back what is meant; tells what that was.
async fn resume(
    app: &Arc<App>,
    meant: impl Fn(&DrainTarget) -> bool,
    headers: &HeaderMap,
) -> Result<Json<Vec<Drained>>, Refusal> {
    let words: Vec<_> = app.drains().into_iter().filter(|word| meant(&word.target)).collect();
    if words.is_empty() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_drained", "Nothing of this name is drained."));
    }
    let targets = words.iter().map(|word| word.target.clone()).collect();
    app.resume(targets, actor(headers)).await.map_err(refusal)?;
    Ok(Json(words.iter().map(|word| Drained::of(app, word, false)).collect()))
}

fn refusal(error: DrainError) -> Refusal {
    let kind = match &error {
        DrainError::Port(_) => "port",
        DrainError::Store(_) => "store",
        DrainError::Stopping => "stopping",
    };
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, kind, chain(&error))
}

const DRAIN_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
