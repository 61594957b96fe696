//! Signing out, begun here or at the service provider, by HTTP-Redirect.

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::Idp;
use crate::world::{
    saml::{self, Field, LogoutMessage, SamlError},
    web::escape,
};

/// Who is signed in here.
pub(super) async fn page(State(idp): State<Idp>, Path(tenant): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, institution)) = idp.idp(&tenant) else { return StatusCode::NOT_FOUND.into_response() };
    let body = match idp.sessions.of(&tenant, &headers) {
        Some(session) => format!(
            "<p>Signed in as {}.</p><form method=\"post\" action=\"/{tenant}/logout\"><button>Sign out everywhere</button></form>",
            escape(&session.login)
        ),
        None => "<p>Nobody is signed in.</p>".to_owned(),
    };
    shown(institution.name_en, &body)
}

/// Ends the session here and asks the service provider to end its own.
pub(super) async fn everywhere(State(idp): State<Idp>, Path(tenant): Path<String>, headers: HeaderMap) -> Response {
    let Some((this, institution)) = idp.idp(&tenant) else { return StatusCode::NOT_FOUND.into_response() };
    let Some(session) = idp.sessions.end(&tenant, &headers) else {
        return shown(institution.name_en, "<p>Nobody was signed in.</p>");
    };
    let url = saml::logout_request(&this.entity_id, &idp.sp.slo, &session)
        .and_then(|xml| saml::signed_url(&idp.sp.slo, Field::Request, &xml, "", &this.signing));
    led_on(url)
}

#[derive(Deserialize)]
pub(super) struct Slo {
    #[serde(rename = "SAMLRequest")]
    request: Option<String>,
    #[serde(rename = "SAMLResponse")]
    response: Option<String>,
    #[serde(rename = "RelayState", default)]
    relay_state: String,
}

/// A request of the service provider, or its answer.
pub(super) async fn by_redirect(
    State(idp): State<Idp>,
    Path(tenant): Path<String>,
    Query(slo): Query<Slo>,
) -> Response {
    let Some((this, institution)) = idp.idp(&tenant) else { return StatusCode::NOT_FOUND.into_response() };
    let field = slo.request.or(slo.response).unwrap_or_default();
    match saml::inflate(&field).and_then(|xml| saml::read_logout(&xml)) {
        Ok(LogoutMessage::Request { id, name_id }) => {
            idp.sessions.end_named(&name_id);
            let url = saml::logout_response(&this.entity_id, &idp.sp.slo, &id)
                .and_then(|xml| saml::signed_url(&idp.sp.slo, Field::Response, &xml, &slo.relay_state, &this.signing));
            led_on(url)
        }
        Ok(LogoutMessage::Response { success }) => {
            let mail = if success { "ended" } else { "may live on" };
            shown(institution.name_en, &format!("<p>You are signed out here. Your mail session {mail}.</p>"))
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn led_on(url: Result<String, SamlError>) -> Response {
    match url {
        Ok(url) => Redirect::to(&url).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn shown(name: &str, body: &str) -> Response {
    let name = escape(name);
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title><body><h1>{name}</h1>{body}</body></html>\n"
    ))
    .into_response()
}
