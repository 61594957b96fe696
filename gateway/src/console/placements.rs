//! Placements of users: a whole file of them, or one. What is open at another cell than the new one ends.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use guichet_auth::{
    placement::{Known, Listing, Rule},
    store::{Imported, PlacementError},
};
use guichet_config::{Address, CellId, Config};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    api::{Refusal, Shared, actor, timestamp},
    users::known,
};
use crate::{
    app::App,
    placement::{Whose, end_sessions},
    telemetry::{METRICS, chain},
};

/// `?dry_run=true`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/placements/import`: the body is the file.
pub(super) async fn import(
    State(app): Shared,
    Query(asked): Query<Import>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done<Imported>>, Refusal> {
    let one = one_at_a_time(&app)?;
    let text = whole(body).await?;
    let actor = actor(&headers);
    let done = blocking(move || {
        // Whoever asked may be gone meanwhile: all of it, or nothing.
        let _one = one;
        let config = app.snapshot.load().config.clone();
        let listing = read(&text, Rule::CellRequired, &config)?;
        drop(text);
        let mut ended = 0;
        let moved = |user: &Address, cell: &CellId| ended += end_sessions(&app, user, Whose::NotAt(cell));
        let imported = app.store.import_placements(listing, asked.dry_run, moved)?;
        if !asked.dry_run {
            let Imported { users, added, moved, removed } = imported;
            count_users(&app);
            tracing::info!(
                target: "guichet::audit", actor, action = "placement_import", users, added, moved, removed,
                sessions_ended = ended, "An operator imported placements."
            );
        }
        Ok(Done { dry_run: asked.dry_run, sessions_ended: ended, done: imported })
    });
    done.await.map(Json)
}

/// `GET /api/v1/placements/export`: the file.
pub(super) async fn export(State(app): Shared) -> Result<Response, Refusal> {
    let one = one_at_a_time(&app)?;
    let work = blocking(move || {
        let _one = one;
        Ok(app.store.export_placements())
    });
    let chunks = work.await?;
    let chunks = chunks.into_iter().map(|chunk| Ok::<_, std::convert::Infallible>(Bytes::from(chunk)));
    let body = Body::from_stream(futures::stream::iter(chunks));
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], body).into_response())
}

/// `GET /api/v1/placements/{address}`.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    user: String,
    /// Where a login goes now; nothing: the directory or the tenant decides.
    cell: Option<String>,
    /// `operator`, `wave`, `placement`, or nothing.
    by: Option<&'static str>,
    /// No login until then.
    held_until: Option<String>,
    /// In the table, whatever else is said.
    placement: Option<String>,
    wave: Option<String>,
    wave_stage: Option<&'static str>,
    wave_to: Option<String>,
}

pub(super) async fn show(State(app): Shared, Path(address): Path<String>) -> Result<Json<Shown>, Refusal> {
    let address = known(&app, &address)?;
    Ok(Json(shown(&app, &address)))
}

/// `POST /api/v1/placements/{address}/set`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    /// As the configuration names it.
    cell: String,
}

pub(super) async fn set(
    State(app): Shared,
    Path(address): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Shown>, Refusal> {
    let address = known(&app, &address)?;
    let asked: Set = serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    let cell = known_cell(&app, &asked.cell)?;
    change(app, address, Some(cell), actor(&headers)).await
}

pub(super) async fn clear(
    State(app): Shared,
    Path(address): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Shown>, Refusal> {
    let address = known(&app, &address)?;
    change(app, address, None, actor(&headers)).await
}

async fn change(app: Arc<App>, user: Address, cell: Option<CellId>, actor: String) -> Result<Json<Shown>, Refusal> {
    let done = blocking(move || {
        app.store.set_placement(&user, cell.as_ref())?;
        let ended = cell.as_ref().map_or(0, |cell| end_sessions(&app, &user, Whose::NotAt(cell)));
        count_users(&app);
        tracing::info!(
            target: "guichet::audit", actor, action = "placement_set", user = %user,
            cell = cell.as_ref().map_or("", CellId::as_str), sessions_ended = ended,
            "An operator set or cleared a user's placement."
        );
        Ok(shown(&app, &user))
    });
    done.await.map(Json)
}

fn shown(app: &App, address: &Address) -> Shown {
    let now = app.clock.now();
    let standing = app.store.standing(address);
    let word = app.store.placed_user(address, now);
    let committed = standing.wave.as_ref().filter(|(wave, _)| wave.stage == guichet_auth::placement::Stage::Committed);
    let (cell, by) = match (&word, committed, &standing.cell) {
        (Some(cell), _, _) => (Some(cell), Some("operator")),
        (None, Some((_, cell)), _) => (Some(cell), Some("wave")),
        (None, None, Some(cell)) => (Some(cell), Some("placement")),
        (None, None, None) => (None, None),
    };
    let wave = standing.wave.as_ref();
    Shown {
        user: address.to_string(),
        cell: cell.map(ToString::to_string),
        by,
        held_until: wave.and_then(|(wave, _)| wave.held(now)).map(timestamp),
        placement: standing.cell.as_ref().map(ToString::to_string),
        wave: wave.map(|(wave, _)| wave.name.to_string()),
        wave_stage: wave.map(|(wave, _)| wave.stage.as_str()),
        wave_to: wave.map(|(_, to)| to.to_string()),
    }
}

/// What a change of many did.
#[derive(Debug, Serialize)]
pub(super) struct Done<T> {
    /// Nothing was changed.
    pub(super) dry_run: bool,
    /// Mail sessions that end because of it.
    pub(super) sessions_ended: usize,
    #[serde(flatten)]
    pub(super) done: T,
}

/// Reads a file of users against the configuration.
pub(super) fn read(text: &[u8], rule: Rule<'_>, config: &Config) -> Result<Listing, Refusal> {
    let known =
        Known { domain: &|domain| config.domains.contains_key(domain), cell: &|cell| config.cells.contains_key(cell) };
    let listing = Listing::read(text, rule, &known).map_err(|problems| PlacementError::Lines(problems).into());
    listing.and_then(|listing| {
        // An empty file is a mistake, and would forget everybody.
        if listing.is_empty() { Err(Refusal::bad("The file names no user.")) } else { Ok(listing) }
    })
}

pub(super) fn known_cell(app: &App, cell: &str) -> Result<CellId, Refusal> {
    let known = cell.parse().ok().filter(|id| app.snapshot.load().config.cells.contains_key(id));
    known.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "unknown_cell", "The configuration has no such cell."))
}

/// The body of a request that carries a file.
pub(super) async fn whole(body: Body) -> Result<Bytes, Refusal> {
    axum::body::to_bytes(body, FILE_BYTES_MAX).await.map_err(|_| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The file did not come whole, or is over 512 MiB.")
    })
}

/// Files are big: one at a time.
pub(super) fn one_at_a_time(app: &App) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&app.files).try_acquire_owned().map_err(|_| {
        Refusal::new(StatusCode::CONFLICT, "busy", "Another file is being read or written; try again in a moment.")
    })
}

/// Work that waits for the disk or takes long, off the workers.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "store", "the change failed");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

pub(super) fn count_users(app: &App) {
    METRICS.placement_users.set(i64::try_from(app.store.placements_len()).unwrap_or(i64::MAX));
}

impl From<PlacementError> for Refusal {
    fn from(error: PlacementError) -> Self {
        let (status, kind) = match &error {
            PlacementError::Lines(problems) => return Self::lines(problems),
            PlacementError::UnknownWave => (StatusCode::NOT_FOUND, "unknown_wave"),
            PlacementError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store"),
            _ => (StatusCode::CONFLICT, "conflict"),
        };
        Self::new(status, kind, chain(&error))
    }
}

/// Two million of the longest addresses, with room.
const FILE_BYTES_MAX: usize = 512 << 20;
