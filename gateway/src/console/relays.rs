//! Live relays: who is logged in by mail or has a tunnel open in a browser, and ending it.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
};
use guichet_config::{CellId, ListenerId, TenantId};
use serde::{Deserialize, Serialize};

use super::api::{Refusal, Shared, actor, reason};
use crate::{
    app::App,
    mail::{RelayStatus, Selector, Traffic},
};

/// `GET /api/v1/relays?tenant=…&limit=…`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    tenant: Option<String>,
    user: Option<String>,
    cell: Option<String>,
    protocol: Option<String>,
    listener: Option<String>,
    limit: Option<usize>,
}

/// `POST /api/v1/relays/kick`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    tenant: Option<String>,
    user: Option<String>,
    cell: Option<String>,
    protocol: Option<String>,
    listener: Option<String>,
    /// `30s`; at most a day; absent: now.
    over: Option<String>,
    /// For the audit.
    reason: String,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Listed {
    /// How many match.
    total: usize,
    /// Those of them that were asked for.
    relays: Vec<RelayStatus>,
}

#[derive(Debug, Serialize)]
pub(super) struct Kicked {
    /// How many are meant.
    relays: usize,
    dry_run: bool,
}

pub(super) async fn list(
    State(app): Shared,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Listed>, Refusal> {
    let Query(asked) = asked.map_err(|error| Refusal::bad(error.body_text()))?;
    let Asked { tenant, user, cell, protocol, listener, limit } = asked;
    let selector = selector(&app, [&tenant, &user, &cell, &protocol, &listener])?;
    let relays = app.relays.list(&selector, limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX));
    Ok(Json(Listed { total: app.relays.count(&selector), relays }))
}

pub(super) async fn kick(State(app): Shared, headers: HeaderMap, body: Bytes) -> Result<Json<Kicked>, Refusal> {
    let asked: Kick = serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    let Kick { tenant, user, cell, protocol, listener, over, reason: why, dry_run } = asked;
    let selector = selector(&app, [&tenant, &user, &cell, &protocol, &listener])?;
    if selector.is_empty() {
        return Err(Refusal::bad("Say whose relays: `tenant`, `user`, `cell`, `protocol` or `listener`."));
    }
    let over = match over {
        None => Duration::ZERO,
        Some(text) => over_of(&text)?,
    };
    let why = reason(&why)?;
    if dry_run {
        return Ok(Json(Kicked { relays: app.relays.count(&selector), dry_run }));
    }
    let relays = app.relays.kick(&selector, over);
    let text = |part: Option<String>| part.unwrap_or_default();
    tracing::info!(
        target: "guichet::audit", actor = actor(&headers), action = "relay_kick", tenant = text(tenant),
        user = text(user), cell = text(cell), protocol = text(protocol), listener = text(listener), relays,
        over_seconds = over.as_secs(), reason = why, "An operator ended live relays."
    );
    Ok(Json(Kicked { relays, dry_run }))
}

/// How long the ends may take.
pub(super) fn over_of(text: &str) -> Result<Duration, Refusal> {
    let over = super::parse_duration(text).filter(|over| *over <= OVER_MAX);
    over.ok_or_else(|| Refusal::bad("`over` is a duration such as `30s` or `10m`, at most a day."))
}

/// Names must be known: to the configuration, or to a relay that is older than it. A typing error must not look like
/// "nobody is there".
fn selector(app: &App, asked: [&Option<String>; 5]) -> Result<Selector, Refusal> {
    let [tenant, user, cell, protocol, listener] = asked.map(Option::as_deref);
    let config = app.snapshot.load().config.clone();
    let live = |selector: Selector| app.relays.count(&selector) > 0;
    let mut selector = Selector::default();
    if let Some(name) = tenant {
        let id: TenantId = name.parse().map_err(|_| unknown("tenant", name))?;
        if !config.tenants.contains_key(&id) && !live(Selector { tenant: Some(id.clone()), ..Selector::default() }) {
            return Err(unknown("tenant", name));
        }
        selector.tenant = Some(id);
    }
    if let Some(name) = user {
        selector.user = Some(name.parse().map_err(|_| unknown("user", name))?);
    }
    if let Some(name) = cell {
        let id: CellId = name.parse().map_err(|_| unknown("cell", name))?;
        if !config.cells.contains_key(&id) && !live(Selector { cell: Some(id.clone()), ..Selector::default() }) {
            return Err(unknown("cell", name));
        }
        selector.cell = Some(id);
    }
    if let Some(name) = protocol {
        selector.protocol = Some(Traffic::named(name).ok_or_else(|| unknown("protocol", name))?);
    }
    if let Some(name) = listener {
        let id: ListenerId = name.parse().map_err(|_| unknown("listener", name))?;
        let known = config.listeners.iter().any(|one| one.id == id);
        if !known && !live(Selector { listener: Some(id.clone()), ..Selector::default() }) {
            return Err(unknown("listener", name));
        }
        selector.listener = Some(id);
    }
    Ok(selector)
}

fn unknown(what: &str, name: &str) -> Refusal {
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Refusal::new(StatusCode::NOT_FOUND, "unknown_name", format!("There is no {what} of the name `{name}`."))
}

const LIST_DEFAULT: usize = 100;
/// A few megabytes of JSON.
const LIST_MAX: usize = 10_000;
const OVER_MAX: Duration = Duration::from_secs(24 * 3600);
