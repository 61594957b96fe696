//! Signing in: the form, and the Response that the browser carries on.

use axum::{
    Form,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Idp, Session};
use crate::world::{
    people::Institution,
    saml::{self, AuthnRequest, Login, SamlError, ServiceProvider},
    web::escape,
};

#[derive(Deserialize)]
pub(super) struct Sso {
    #[serde(rename = "SAMLRequest")]
    request: String,
    #[serde(rename = "RelayState", default)]
    relay_state: String,
}

pub(super) async fn by_redirect(
    State(idp): State<Idp>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    Query(sso): Query<Sso>,
) -> Response {
    answer(&idp, &tenant, &headers, saml::inflate(&sso.request), &sso.relay_state)
}

pub(super) async fn by_post(
    State(idp): State<Idp>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    Form(sso): Form<Sso>,
) -> Response {
    let xml = STANDARD
        .decode(&sso.request)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| SamlError("SAMLRequest is not base64 of text".to_owned()));
    answer(&idp, &tenant, &headers, xml, &sso.relay_state)
}

fn answer(idp: &Idp, tenant: &str, headers: &HeaderMap, xml: Result<String, SamlError>, relay_state: &str) -> Response {
    let Some((_, institution)) = idp.idp(tenant) else { return StatusCode::NOT_FOUND.into_response() };
    let request =
        xml.and_then(|xml| saml::read_request(&xml)).and_then(|request| known(&idp.sp, &request).map(|()| request));
    let request = match request {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let session = idp
        .sessions
        .of(tenant, headers)
        .filter(|session| !request.force && (request.context.is_empty() || request.context == session.context));
    match session {
        Some(session) => hand_over(idp, tenant, &request, &session, relay_state),
        None => sign_in_form(institution, &request, relay_state, StatusCode::OK, ""),
    }
}

/// Only our service provider, only at its assertion consumer: as an IdP with metadata does.
pub(super) fn known(sp: &ServiceProvider, request: &AuthnRequest) -> Result<(), SamlError> {
    if request.issuer != sp.entity_id {
        return Err(SamlError(format!("unknown service provider {}", request.issuer)));
    }
    if request.acs != sp.acs && request.acs != sp.ecp {
        return Err(SamlError(format!("{} is not an assertion consumer of {}", request.acs, request.issuer)));
    }
    Ok(())
}

fn sign_in_form(
    institution: &Institution,
    request: &AuthnRequest,
    relay_state: &str,
    status: StatusCode,
    error: &str,
) -> Response {
    let error = if error.is_empty() { String::new() } else { format!("<p role=\"alert\">{error}</p>") };
    let factor = if request.context == MFA {
        format!(
            "<input type=\"hidden\" name=\"context\" value=\"{MFA}\">\
             <p><label>Code of your phone (any six digits) <input name=\"code\" inputmode=\"numeric\"></label></p>"
        )
    } else {
        String::new()
    };
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}: sign in</title><body><h1>{name}</h1>{error}\
         <form method=\"post\" action=\"/{tenant}/login\">\
         <input type=\"hidden\" name=\"request_id\" value=\"{id}\"><input type=\"hidden\" name=\"RelayState\" value=\"{relay_state}\">\
         <p><label>Login <input name=\"idp_login\" autocomplete=\"username\" autofocus></label></p>\
         <p><label>Password <input name=\"idp_password\" type=\"password\" autocomplete=\"current-password\"></label></p>\
         {factor}<p><button type=\"submit\">Sign in</button></p></form></body></html>\n",
        name = escape(institution.name_en),
        tenant = institution.id,
        id = escape(&request.id),
        relay_state = escape(relay_state),
    );
    (status, Html(page)).into_response()
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    request_id: String,
    #[serde(rename = "RelayState", default)]
    relay_state: String,
    idp_login: String,
    idp_password: String,
    /// Asked for by the service provider.
    #[serde(default)]
    context: String,
    #[serde(default)]
    code: String,
}

pub(super) async fn login(State(idp): State<Idp>, Path(tenant): Path<String>, Form(form): Form<LoginForm>) -> Response {
    let Some((_, institution)) = idp.idp(&tenant) else { return StatusCode::NOT_FOUND.into_response() };
    // The service provider is one and known, so that only what it asked for has to travel with the form.
    let request = AuthnRequest {
        id: form.request_id,
        issuer: idp.sp.entity_id.clone(),
        acs: idp.sp.acs.clone(),
        force: false,
        context: form.context,
    };
    let person =
        institution.people.iter().find(|p| p.idp_login == form.idp_login && p.idp_password == form.idp_password);
    let Some(person) = person else {
        return sign_in_form(institution, &request, &form.relay_state, StatusCode::OK, "Wrong login or password.");
    };
    let second = form.code.len() == 6 && form.code.bytes().all(|byte| byte.is_ascii_digit());
    if request.context == MFA && !second {
        return sign_in_form(institution, &request, &form.relay_state, StatusCode::OK, "Six digits, please.");
    }
    let context = if request.context == MFA { MFA } else { PASSWORD };
    match idp.sessions.open(&tenant, &person.idp_login, context) {
        Ok((cookie, session)) => {
            let page = hand_over(&idp, &tenant, &request, &session, &form.relay_state);
            ([(header::SET_COOKIE, cookie)], page).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The page that posts the Response.
fn hand_over(idp: &Idp, tenant: &str, request: &AuthnRequest, session: &Session, relay_state: &str) -> Response {
    let Some((this, institution)) = idp.idp(tenant) else { return StatusCode::NOT_FOUND.into_response() };
    let Some(person) = institution.people.iter().find(|person| person.idp_login == session.login) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let now = jiff::Timestamp::now();
    let login = Login { person, institution, issuer: &this.entity_id, request, session, now };
    match saml::response(&login, &idp.sp, &this.signing) {
        Ok(response) => Html(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Signing in</title><body onload=\"document.forms[0].submit()\">\
             <form method=\"post\" action=\"{acs}\"><input type=\"hidden\" name=\"SAMLResponse\" value=\"{response}\">\
             <input type=\"hidden\" name=\"RelayState\" value=\"{relay_state}\"><button type=\"submit\">Continue</button></form></body></html>\n",
            acs = escape(&request.acs),
            response = STANDARD.encode(response),
            relay_state = escape(relay_state),
        ))
        .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

pub(super) const PASSWORD: &str = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport";
const MFA: &str = "https://refeds.org/profile/mfa";
