//! Operators' words on where a user's mailbox is. A word counts from the next login or request on; what is open stays.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use guichet_auth::store::PlacementOverride;
use guichet_config::{Address, CellId};
use serde::{Deserialize, Serialize};

use super::api::{Refusal, Shared, actor, reason, stored, timestamp};
use crate::app::App;

/// One of `GET /api/v1/users`, and the answer to a change.
#[derive(Debug, Serialize)]
pub(super) struct User {
    user: String,
    cell: Option<String>,
    until: Option<String>,
    reason: Option<String>,
    actor: Option<String>,
}

impl User {
    fn placed(address: &Address, word: PlacementOverride) -> Self {
        let until = guichet_auth::WallTime(word.until);
        Self {
            user: address.to_string(),
            cell: Some(word.cell),
            until: Some(timestamp(until)),
            reason: Some(word.reason),
            actor: Some(word.actor),
        }
    }
}

/// `POST /api/v1/users/{address}/place`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// As the configuration names it.
    cell: String,
    /// `10m`; at most 31 days.
    #[serde(rename = "for")]
    duration: String,
    /// For the audit and the next shift.
    reason: String,
}

pub(super) async fn list(State(app): Shared) -> Json<Vec<User>> {
    let words = app.store.placed_users(app.clock.now());
    Json(words.into_iter().map(|(address, word)| User::placed(&address, word)).collect())
}

pub(super) async fn place(
    State(app): Shared,
    Path(address): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<User>, Refusal> {
    let address = known(&app, &address)?;
    let asked: Place = serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    let cell = asked.cell.parse::<CellId>().ok().filter(|id| app.snapshot.load().config.cells.contains_key(id));
    let Some(cell) = cell else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_cell", "The configuration has no such cell."));
    };
    let duration = super::parse_duration(&asked.duration).filter(|duration| *duration <= PLACE_MAX);
    let duration = duration.ok_or_else(|| {
        Refusal::bad("`for` is a duration such as `10m` or `2h`, at most 31 days; for longer, use the directory.")
    })?;
    let reason = reason(&asked.reason)?;
    let actor = actor(&headers);
    let now = app.clock.now();
    let until = now.plus(duration);
    let word = PlacementOverride {
        cell: cell.to_string(),
        until: until.0,
        reason: reason.clone(),
        actor: actor.clone(),
        since: now.0,
    };
    let (user, written) = (address.clone(), word.clone());
    stored(&app, move |store| store.place_user(&user, Some(&written))).await?;
    tracing::info!(
        target: "guichet::audit", actor, action = "user_place", user = %address, %cell, until = timestamp(until),
        reason, "An operator placed a user."
    );
    Ok(Json(User::placed(&address, word)))
}

pub(super) async fn release(
    State(app): Shared,
    Path(address): Path<String>,
    headers: HeaderMap,
) -> Result<Json<User>, Refusal> {
    let address = known(&app, &address)?;
    let user = address.clone();
    stored(&app, move |store| store.place_user(&user, None)).await?;
    tracing::info!(
        target: "guichet::audit", actor = actor(&headers), action = "user_release", user = %address,
        "An operator released a user's placement."
    );
    Ok(Json(User { user: address.to_string(), cell: None, until: None, reason: None, actor: None }))
}

/// The address in its canonical form, of a domain that is ours.
pub(super) fn known(app: &App, address: &str) -> Result<Address, Refusal> {
    let ours = |address: &Address| {
        let domain = address.domain().parse().ok();
        domain.is_some_and(|domain: guichet_config::Domain| app.snapshot.load().config.domains.contains_key(&domain))
    };
    address.parse().ok().filter(ours).ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "unknown_user", "This is no address in a domain of a tenant.")
    })
}

const PLACE_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
