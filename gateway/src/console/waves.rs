//! Waves: plan, hold, commit, roll back, remove. Each is one durable change, and leaves one audit line.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use guichet_auth::{
    WallTime,
    placement::{Rule, Stage, Step, Wave, WaveName},
};
use guichet_config::{Address, CellId};
use serde::{Deserialize, Serialize};

use super::{
    api::{Refusal, Shared, actor, timestamp},
    placements::{Done, blocking, count_users, known_cell, one_at_a_time, read, whole},
};
use crate::{
    app::App,
    placement::{Whose, end_sessions},
    telemetry::event::WavesChanged,
};

/// One of `GET /api/v1/waves`, and the answer to a change.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    wave: String,
    /// `planned`, `held`, `committed` or `rolled_back`.
    state: &'static str,
    /// Where its users are, holds aside.
    stage: &'static str,
    held_until: Option<String>,
    users: u64,
    epoch: u64,
    planned: String,
    changed: String,
    actor: String,
}

impl Status {
    fn of(wave: Wave, now: WallTime) -> Self {
        let held = wave.held(now);
        Self {
            state: if held.is_some() { "held" } else { wave.stage.as_str() },
            stage: wave.stage.as_str(),
            held_until: held.map(timestamp),
            users: wave.users,
            epoch: wave.epoch,
            planned: timestamp(WallTime(wave.planned)),
            changed: timestamp(WallTime(wave.changed)),
            actor: wave.actor,
            wave: wave.name.into(),
        }
    }
}

pub(super) async fn list(State(app): Shared) -> Json<Vec<Status>> {
    let now = app.clock.now();
    Json(app.store.waves().into_iter().map(|wave| Status::of(wave, now)).collect())
}

/// `GET /api/v1/waves/{name}`.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    #[serde(flatten)]
    status: Status,
    /// The first of them.
    first_users: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    user: String,
    to: String,
}

pub(super) async fn show(State(app): Shared, Path(name): Path<String>) -> Result<Json<Whole>, Refusal> {
    let name = wave_name(&name)?;
    let now = app.clock.now();
    let (wave, users) = blocking(move || {
        let users = app.store.wave_users(&name)?;
        let wave = app.store.waves().into_iter().find(|wave| wave.name == name);
        Ok((wave.ok_or(guichet_auth::store::PlacementError::UnknownWave)?, users))
    })
    .await?;
    let member = |(user, to): &(Address, CellId)| Member { user: user.to_string(), to: to.to_string() };
    let first_users = users.iter().take(SHOWN_MAX).map(member).collect();
    Ok(Json(Whole { status: Status::of(wave, now), first_users }))
}

/// `?to=CELL&dry_run=true`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    to: String,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/waves/{name}/plan`: the body is the file of users.
pub(super) async fn plan(
    State(app): Shared,
    Path(name): Path<String>,
    Query(asked): Query<Plan>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done<Status>>, Refusal> {
    let name = wave_name(&name)?;
    let to = known_cell(&app, &asked.to)?;
    let one = one_at_a_time(&app)?;
    let text = whole(body).await?;
    let actor = actor(&headers);
    let done = blocking(move || {
        // Whoever asked may be gone meanwhile: all of it, or nothing.
        let _one = one;
        let now = app.clock.now();
        let config = app.snapshot.load().config.clone();
        let listing = read(&text, Rule::CellDefault(&to), &config)?;
        drop(text);
        let wave = app.store.plan_wave(&name, &listing, &actor, now, asked.dry_run)?;
        if !asked.dry_run {
            tracing::info!(
                target: "guichet::audit", actor, action = "wave_plan", wave = %wave.name, %to, users = wave.users,
                "An operator planned a wave."
            );
            WavesChanged { waves: &app.store.waves() }.emit();
        }
        Ok(Done { dry_run: asked.dry_run, sessions_ended: 0, done: Status::of(wave, now) })
    });
    done.await.map(Json)
}

/// `POST /api/v1/waves/{name}/hold`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    /// `30s`; at most an hour.
    #[serde(rename = "for")]
    duration: String,
}

pub(super) async fn hold(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Done<Status>>, Refusal> {
    let asked: Hold = serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    let duration = super::parse_duration(&asked.duration).filter(|duration| *duration <= HOLD_MAX);
    let duration = duration.ok_or_else(|| Refusal::bad("`for` is a duration such as `30s`, at most an hour."))?;
    let until = app.clock.now().plus(duration);
    step(&app, &name, Step::Hold { until }, "wave_hold", &headers).await
}

pub(super) async fn commit(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Done<Status>>, Refusal> {
    step(&app, &name, Step::Commit, "wave_commit", &headers).await
}

pub(super) async fn rollback(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Done<Status>>, Refusal> {
    step(&app, &name, Step::Rollback, "wave_rollback", &headers).await
}

async fn step(
    app: &Arc<App>,
    name: &str,
    step: Step,
    action: &'static str,
    headers: &HeaderMap,
) -> Result<Json<Done<Status>>, Refusal> {
    let name = wave_name(name)?;
    let actor = actor(headers);
    let app = Arc::clone(app);
    let done = blocking(move || {
        let now = app.clock.now();
        let (wave, changed) = app.store.step_wave(&name, step, &actor, now)?;
        // Also when nothing changed: the node may have been killed between the two.
        let ended = end_sessions_of(&app, &wave, step)?;
        tracing::info!(
            target: "guichet::audit", actor, action, wave = %wave.name, stage = wave.stage.as_str(),
            hold_until = wave.held(now).map(timestamp), users = wave.users, epoch = wave.epoch, changed,
            sessions_ended = ended, "An operator took a wave one step on."
        );
        WavesChanged { waves: &app.store.waves() }.emit();
        Ok(Done { dry_run: false, sessions_ended: ended, done: Status::of(wave, now) })
    });
    done.await.map(Json)
}

/// Whoever is held or moved has nothing open where he is no more. Behind the change: a login that is under way either sees
/// it, or is seen here.
fn end_sessions_of(app: &App, wave: &Wave, step: Step) -> Result<usize, Refusal> {
    let users = app.store.wave_users(&wave.name)?;
    let ended = users.iter().map(|(user, to)| {
        // A cell must be quiet before the last copy; the way back leads from the other one.
        let whose = match (step, wave.stage) {
            (Step::Hold { .. }, Stage::Committed) | (Step::Rollback, _) => Whose::At(to),
            (Step::Hold { .. } | Step::Commit, _) => Whose::NotAt(to),
        };
        end_sessions(app, user, whose)
    });
    Ok(ended.sum())
}

pub(super) async fn remove(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Status>, Refusal> {
    let name = wave_name(&name)?;
    let actor = actor(&headers);
    let done = blocking(move || {
        let wave = app.store.remove_wave(&name)?;
        tracing::info!(
            target: "guichet::audit", actor, action = "wave_remove", wave = %wave.name, stage = wave.stage.as_str(),
            users = wave.users, "An operator ended a wave."
        );
        count_users(&app);
        WavesChanged { waves: &app.store.waves() }.emit();
        Ok(Status::of(wave, app.clock.now()))
    });
    done.await.map(Json)
}

fn wave_name(name: &str) -> Result<WaveName, Refusal> {
    name.parse().map_err(|error: guichet_config::NameError| {
        Refusal::new(StatusCode::BAD_REQUEST, "bad_name", format!("the name of a wave: {error}"))
    })
}

const HOLD_MAX: Duration = Duration::from_secs(3600);
const SHOWN_MAX: usize = 1000;
