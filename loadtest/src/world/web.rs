//! A cell's web side: pages that name the logged-in user, and endpoints to exercise a gateway with.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` and other pages | HTML naming address, institution, category, cell |
//! | `GET /whoami` | the same as JSON |
//! | any method, `/echo…` | method, path, headers and body size as JSON |
//! | `POST` or `PUT /upload` | counts the body: `{"bytes":N}` |
//! | `GET /download?bytes=N` | N bytes, at most 1 GiB |
//! | `GET /slow?ms=N` | answers after N ms, at most a minute |
//! | `GET /ws` | WebSocket echo |
//! | `GET /healthz` | `ok`, needs no identity |
//!
//! Everything else needs a valid `Guichet-Identity`; missing or bad: 403.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Cell,
    identity::{Identity, verify},
    websocket,
};

/// The routes of one cell.
pub fn router(cell: Arc<Cell>) -> Router {
    Router::new()
        .route("/whoami", get(whoami))
        .route("/echo", any(echo))
        .route("/echo/{*path}", any(echo))
        .route("/upload", any(upload))
        .route("/download", get(download))
        .route("/slow", get(slow))
        .route("/ws", get(websocket::echo))
        .fallback(page)
        .layer(middleware::from_fn_with_state(Arc::clone(&cell), identify))
        .route("/healthz", get(|| async { "ok\n" }))
}

/// Lets only verified identities through, and hands them on.
async fn identify(State(cell): State<Arc<Cell>>, mut request: Request, next: Next) -> Response {
    match identity_of(request.headers(), &cell, now_seconds()) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(reason) => (StatusCode::FORBIDDEN, format!("cell {}: {reason}\n", cell.name)).into_response(),
    }
}

fn identity_of(headers: &HeaderMap, cell: &Cell, now: u64) -> Result<Identity, String> {
    let mut values = headers.get_all("guichet-identity").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err("exactly one Guichet-Identity is needed".to_owned());
    };
    let token = value.to_str().map_err(|_| "the identity is not text".to_owned())?;
    let identity = verify(token, &cell.identity_key, &cell.name, now).map_err(|error| error.to_string())?;
    match headers.get("remote-user") {
        Some(user) if user.as_bytes() != identity.sub.as_bytes() => {
            Err("Remote-User and the identity disagree".to_owned())
        }
        _ => Ok(identity),
    }
}

fn identity(request: &Request) -> Option<Identity> {
    request.extensions().get::<Identity>().cloned()
}

async fn page(request: Request) -> Response {
    let Some(who) = identity(&request) else { return StatusCode::FORBIDDEN.into_response() };
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Mail of {address}</title>\
         <body><h1>Mail</h1><p>You are <strong id=\"user\">{address}</strong>, {category} of <span id=\"tenant\">{tenant}</span>, \
         in cell <span id=\"cell\">{cell}</span>.</p><p>This is <code>{method} {path}</code>.</p></body></html>\n",
        address = escape(&who.sub),
        category = escape(who.category.as_deref().unwrap_or("member")),
        tenant = escape(&who.tenant),
        cell = escape(&who.aud),
        method = escape(request.method().as_str()),
        path = escape(request.uri().path()),
    ))
    .into_response()
}

async fn whoami(request: Request) -> Json<Option<Identity>> {
    Json(identity(&request))
}

async fn echo(request: Request) -> Response {
    let who = identity(&request);
    let (parts, body) = request.into_parts();
    let Ok(bytes) = count(body).await else { return StatusCode::BAD_REQUEST.into_response() };
    let mut headers = serde_json::Map::new();
    for (name, value) in &parts.headers {
        if name == "guichet-identity" {
            continue;
        }
        let value = Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned());
        match headers.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(values) => values.push(value),
            _ => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
    Json(json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "headers": headers,
        "body_bytes": bytes,
        "user": who.map(|who| who.sub),
    }))
    .into_response()
}

async fn upload(body: Body) -> Response {
    match count(body).await {
        Ok(bytes) => Json(json!({ "bytes": bytes })).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn count(mut body: Body) -> Result<u64, axum::Error> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct DownloadQuery {
    bytes: u64,
}

async fn download(Query(query): Query<DownloadQuery>) -> Response {
    static CHUNK: [u8; CHUNK_BYTES] = [b'x'; CHUNK_BYTES];
    let total = query.bytes.min(DOWNLOAD_MAX);
    let pieces = stream::unfold(total, |left| async move {
        let take = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        (take > 0).then(|| {
            (Ok::<_, Infallible>(Bytes::from_static(CHUNK.get(..take).unwrap_or_default())), left - take as u64)
        })
    });
    (
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, total.to_string())],
        Body::from_stream(pieces),
    )
        .into_response()
}

#[derive(Deserialize)]
struct SlowQuery {
    ms: u64,
}

async fn slow(Query(query): Query<SlowQuery>) -> String {
    let wait = Duration::from_millis(query.ms).min(SLOW_MAX);
    tokio::time::sleep(wait).await;
    format!("waited {} ms\n", wait.as_millis())
}

/// Text for an HTML page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Seconds since the epoch.
pub(super) fn now_seconds() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

const CHUNK_BYTES: usize = 64 * 1024;
const DOWNLOAD_MAX: u64 = 1 << 30;
const SLOW_MAX: Duration = Duration::from_secs(60);
