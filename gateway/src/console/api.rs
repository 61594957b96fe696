//! The paths of the management listener.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use guichet_auth::{
    WallTime,
    availability::IdpStatus,
    placement::{LineProblem, Problems},
    session::TestTicket,
    store::{DrainOverride, IdpOverride, Store, StoreError},
};
use guichet_config::{Forced, TenantId};
use serde::{Deserialize, Serialize};

use super::{drains, placements, relays, users, waves};
use crate::{
    app::App,
    mail::Selector,
    maintenance::spelled,
    telemetry::{METRICS, chain, event::IdpStateChanged},
};

pub(super) type Shared = State<Arc<App>>;

/// All paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/status", get(status))
        .route("/idps", get(idps))
        .route("/idps/{tenant}/force", post(force))
        .route("/idps/{tenant}/release", post(release))
        .route("/idps/{tenant}/test", post(test))
        .route("/cells", get(cells))
        .route("/cells/{cell}/drain", post(drains::drain_cell))
        .route("/cells/{cell}/resume", post(drains::resume_cell))
        .route("/listeners", get(drains::listeners))
        .route("/listeners/{listener}/drain", post(drains::drain_listener))
        .route("/listeners/{listener}/resume", post(drains::resume_listener))
        .route("/drains", get(drains::list))
        .route("/relays", get(relays::list))
        .route("/relays/kick", post(relays::kick))
        .route("/users", get(users::list))
        .route("/users/{address}/place", post(users::place))
        .route("/users/{address}/release", post(users::release))
        .route("/placements/import", post(placements::import))
        .route("/placements/export", get(placements::export))
        .route("/placements/{address}", get(placements::show))
        .route("/placements/{address}/set", post(placements::set))
        .route("/placements/{address}/clear", post(placements::clear))
        .route("/waves", get(waves::list))
        .route("/waves/{name}", get(waves::show))
        .route("/waves/{name}/plan", post(waves::plan))
        .route("/waves/{name}/hold", post(waves::hold))
        .route("/waves/{name}/commit", post(waves::commit))
        .route("/waves/{name}/rollback", post(waves::rollback))
        .route("/waves/{name}/remove", post(waves::remove))
        .route("/reload", post(reload))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), authorise));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .nest("/api/v1", api)
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here.") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

/// What the API answers when it does not do what was asked.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// Of a file that was sent.
    problems: Vec<LineProblem>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), problems: Vec::new() }
    }

    /// A file with problems, each with its line.
    pub(super) fn lines(problems: &Problems) -> Self {
        let message = match problems.total - problems.first.len() {
            0 => "Nothing was changed: the file has problems.".to_owned(),
            more => format!("Nothing was changed: the file has problems, {more} more than are shown."),
        };
        let problems = problems.first.clone();
        Self { problems, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "lines", message) }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({"error": {"kind": self.kind, "message": self.message}});
        if let (false, Some(error)) = (self.problems.is_empty(), body.get_mut("error").and_then(|e| e.as_object_mut()))
        {
            error.insert("problems".to_owned(), serde_json::json!(self.problems));
        }
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

async fn authorise(State(app): Shared, request: Request, next: Next) -> Response {
    let snapshot = app.snapshot.load_full();
    let sent = request.headers().get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let sent = sent.strip_prefix(b"Bearer ").unwrap_or_default();
    if verify_slices_are_equal(sent, snapshot.config.management.token.expose().as_bytes()).is_err() {
        let message = "Send the token of [management] as `Authorization: Bearer …`.";
        return Refusal::new(StatusCode::UNAUTHORIZED, "unauthorised", message).into_response();
    }
    next.run(request).await
}

async fn readyz(State(app): Shared) -> Response {
    match app.ready() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], METRICS.render()).into_response()
}

/// `GET /api/v1/status`.
#[derive(Debug, Serialize)]
struct Status {
    node: String,
    version: &'static str,
    ready: bool,
    generation: u64,
    started: String,
    uptime_seconds: u64,
    connections_open: usize,
    tenants: usize,
    idps_down: usize,
    endpoints: usize,
    endpoints_unhealthy: usize,
    relays_open: usize,
    /// What an operator drains, until when and why.
    drains: Vec<String>,
}

async fn status(State(app): Shared) -> Json<Status> {
    let snapshot = app.snapshot.load_full();
    let now = app.clock.now();
    let cells = app.cells.list();
    Json(Status {
        node: snapshot.config.node.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        ready: app.ready(),
        generation: snapshot.generation,
        started: timestamp(app.started),
        uptime_seconds: now.since(app.started).as_secs(),
        connections_open: app.connections.open(),
        tenants: snapshot.config.tenants.len(),
        idps_down: app.board.list(now).iter().filter(|one| one.state.offers_fallback()).count(),
        endpoints: cells.len(),
        endpoints_unhealthy: cells.iter().filter(|one| !one.healthy).count(),
        relays_open: app.relays.count(&Selector::default()),
        drains: app.drains().iter().map(drained).collect(),
    })
}

fn drained(word: &DrainOverride) -> String {
    let (kind, name) = spelled(&word.target);
    format!("{kind} {name} until {} ({})", timestamp(WallTime(word.until)), word.reason)
}

/// One of `GET /api/v1/idps`.
#[derive(Debug, Serialize)]
struct Idp {
    tenant: String,
    state: &'static str,
    since: String,
    failures: u32,
    last_success: Option<String>,
    forced: Option<Word>,
}

#[derive(Debug, Serialize)]
struct Word {
    state: &'static str,
    until: Option<String>,
    reason: String,
}

impl From<IdpStatus> for Idp {
    fn from(status: IdpStatus) -> Self {
        Self {
            tenant: status.tenant.as_str().to_owned(),
            state: status.state.as_str(),
            since: timestamp(status.since),
            failures: status.failures,
            last_success: status.last_success.map(timestamp),
            forced: status.forced.map(|(forced, until, reason)| Word {
                state: word(forced),
                until: until.map(timestamp),
                reason,
            }),
        }
    }
}

async fn idps(State(app): Shared) -> Json<Vec<Idp>> {
    Json(app.board.list(app.clock.now()).into_iter().map(Idp::from).collect())
}

async fn cells(State(app): Shared) -> Json<Vec<crate::cell::EndpointStatus>> {
    Json(app.cells.list())
}

/// `POST /api/v1/idps/{tenant}/force`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Force {
    /// `down` or `up`.
    state: String,
    /// `10m`; at most a day.
    #[serde(rename = "for")]
    duration: String,
    /// For the audit and the next shift.
    reason: String,
}

async fn force(
    State(app): Shared,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Idp>, Refusal> {
    let tenant = known(&app, &tenant)?;
    let asked: Force = serde_json::from_slice(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    let forced = match asked.state.as_str() {
        "down" => Forced::Down,
        "up" => Forced::Up,
        _ => return Err(Refusal::bad("`state` is `down` or `up`.")),
    };
    let duration =
        super::parse_duration(&asked.duration).filter(|duration| *duration <= FORCE_MAX).ok_or_else(|| {
            Refusal::bad("`for` is a duration such as `10m` or `2h`, at most a day; for longer, use the configuration.")
        })?;
    let reason = reason(&asked.reason)?;
    let actor = actor(&headers);
    let now = app.clock.now();
    let until = now.plus(duration);
    let override_ = IdpOverride {
        forced: word(forced).to_owned(),
        until: until.0,
        reason: reason.clone(),
        actor: actor.clone(),
        since: now.0,
    };
    write(&app, tenant.clone(), Some(override_)).await?;
    app.board.force(&tenant, Some((forced, Some(until), reason.clone())), now);
    tracing::info!(
        target: "guichet::audit", actor, action = "idp_force", %tenant, state = word(forced),
        until = timestamp(until), reason, "An operator spoke about an IdP."
    );
    told(&app, &tenant, now)
}

async fn release(State(app): Shared, Path(tenant): Path<String>, headers: HeaderMap) -> Result<Json<Idp>, Refusal> {
    let tenant = known(&app, &tenant)?;
    write(&app, tenant.clone(), None).await?;
    let now = app.clock.now();
    app.board.force(&tenant, None, now);
    tracing::info!(
        target: "guichet::audit", actor = actor(&headers), action = "idp_release", %tenant,
        "An operator released an IdP."
    );
    told(&app, &tenant, now)
}

/// The answer to `POST /api/v1/idps/{tenant}/test`.
#[derive(Debug, Serialize)]
struct TestLink {
    tenant: String,
    link: String,
    until: String,
}

/// A link for a test login: whoever has it may try the tenant's IdP and see what comes back. It opens no session.
async fn test(State(app): Shared, Path(tenant): Path<String>, headers: HeaderMap) -> Result<Json<TestLink>, Refusal> {
    let tenant = known(&app, &tenant)?;
    let (snapshot, now) = (app.snapshot.load_full(), app.clock.now());
    let ticket = snapshot.sealer.seal_ticket(&TestTicket { tenant: tenant.clone(), issued: now });
    let until = timestamp(now.plus(TestTicket::LIFETIME));
    tracing::info!(
        target: "guichet::audit", actor = actor(&headers), action = "saml_test", %tenant, until,
        "An operator made a link for a test login."
    );
    // At the tenant's own name, when it has one: there its users log in.
    let hosts = &snapshot.config.hosts;
    let host = hosts.all().find(|host| host.tenant.as_ref() == Some(&tenant)).unwrap_or_else(|| hosts.public());
    let link = format!("{}/login/test?ticket={ticket}", host.origin);
    Ok(Json(TestLink { tenant: tenant.to_string(), link, until }))
}

async fn reload(State(app): Shared, headers: HeaderMap) -> Result<Json<serde_json::Value>, Refusal> {
    let result = app.reload().await;
    tracing::info!(
        target: "guichet::audit", actor = actor(&headers), action = "reload", done = result.is_ok(),
        "An operator asked for a reload."
    );
    match result {
        Ok(generation) => Ok(Json(serde_json::json!({"generation": generation}))),
        Err(refused) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "configuration", refused.to_string())),
    }
}

fn known(app: &App, tenant: &str) -> Result<TenantId, Refusal> {
    let id = tenant.parse::<TenantId>().ok();
    let snapshot = app.snapshot.load();
    let with_idp = |id: &TenantId| snapshot.config.tenants.get(id).is_some_and(|tenant| tenant.idp.is_some());
    id.filter(with_idp).ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "unknown_tenant", "No tenant of this name has an identity provider.")
    })
}

async fn write(app: &Arc<App>, tenant: TenantId, word: Option<IdpOverride>) -> Result<(), Refusal> {
    stored(app, move |store| store.force_idp(&tenant, word.as_ref())).await
}

/// Writes to the store, off the workers.
pub(super) async fn stored(
    app: &App,
    change: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static,
) -> Result<(), Refusal> {
    let store = Arc::clone(&app.store);
    let written = tokio::task::spawn_blocking(move || change(&store)).await;
    let failed = |message: String| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "store", message);
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(chain(&error))),
        Err(_) => Err(failed("the write failed".to_owned())),
    }
}

fn told(app: &App, tenant: &TenantId, now: WallTime) -> Result<Json<Idp>, Refusal> {
    let status = app.board.list(now).into_iter().find(|status| status.tenant == *tenant);
    let status = status.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "unknown_tenant", "The tenant is gone."))?;
    IdpStateChanged { tenant, state: status.state }.emit();
    Ok(Json(status.into()))
}

/// What an operator must say with every change.
pub(super) fn reason(text: &str) -> Result<String, Refusal> {
    let reason = text.trim();
    if reason.is_empty() || reason.chars().count() > REASON_MAX || reason.chars().any(char::is_control) {
        return Err(Refusal::bad("`reason` is one line of 1 to 200 characters."));
    }
    Ok(reason.to_owned())
}

/// Who acts, by their own word: the token is what proves the right to.
pub(super) fn actor(headers: &HeaderMap) -> String {
    let name = headers.get("guichet-actor").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { "token".to_owned() } else { name }
}

fn word(forced: Forced) -> &'static str {
    match forced {
        Forced::Down => "down",
        Forced::Up => "up",
    }
}

/// RFC 3339, whole seconds.
pub(super) fn timestamp(time: WallTime) -> String {
    let seconds = i64::try_from(time.seconds()).ok();
    seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).unwrap_or_default().to_string()
}

const BODY_BYTES_MAX: usize = 16 * 1024;
const FORCE_MAX: Duration = Duration::from_secs(24 * 3600);
const REASON_MAX: usize = 200;
