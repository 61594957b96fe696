//! The identity provider: one process, a URL prefix for each institution.
//!
//! | request | answer |
//! |---|---|
//! | `GET /TENANT/sso?SAMLRequest=…&RelayState=…` | sign-in form (HTTP-Redirect binding) |
//! | `POST /TENANT/sso`, same fields | sign-in form (HTTP-POST binding) |
//! | `POST /TENANT/login`: `idp_login`, `idp_password` and the form's hidden fields | a form that posts the Response to the assertion consumer |
//! | `POST /control/down`, `POST /control/up`, `?tenant=TENANT` for one | every page of the IdP answers 503, or works again |
//! | `GET /control` | which IdPs are down, as JSON |
//!
//! Signatures of requests are not verified: what is rehearsed here is the service provider.

use std::{
    collections::BTreeSet,
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Form, Json, Router,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::DeflateDecoder;
use serde::Deserialize;

use super::{
    people::Institution,
    pki::Pair,
    saml::{self, AuthnRequest, Login, SamlError, ServiceProvider},
    web::escape,
};

/// One institution's IdP.
#[derive(Clone, Debug)]
pub struct IdpOf {
    /// Tenant name: the URL prefix.
    pub tenant: String,
    /// entityID.
    pub entity_id: String,
    /// Signs Responses.
    pub signing: Pair,
}

/// The IdPs of the world.
#[derive(Clone, Debug)]
pub struct Idp {
    institutions: Arc<Vec<Institution>>,
    idps: Arc<Vec<IdpOf>>,
    sp: Arc<ServiceProvider>,
    switch: IdpSwitch,
}

/// Takes IdPs down and up. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct IdpSwitch {
    down: Arc<Mutex<BTreeSet<String>>>,
}

impl IdpSwitch {
    /// Takes one tenant's IdP down, or up again.
    pub fn set(&self, tenant: &str, down: bool) {
        let mut set = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if down {
            set.insert(tenant.to_owned());
        } else {
            set.remove(tenant);
        }
    }

    /// Tenants whose IdP is down.
    pub fn down(&self) -> Vec<String> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn is_down(&self, tenant: &str) -> bool {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }
}

impl Idp {
    /// IdPs that all know one service provider.
    pub fn new(institutions: Arc<Vec<Institution>>, idps: Vec<IdpOf>, sp: ServiceProvider) -> Self {
        Self { institutions, idps: Arc::new(idps), sp: Arc::new(sp), switch: IdpSwitch::default() }
    }

    /// Takes it down and up.
    pub fn switch(&self) -> IdpSwitch {
        self.switch.clone()
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/{tenant}/sso", get(sso_redirect).post(sso_post))
            .route("/{tenant}/login", post(login))
            .layer(middleware::from_fn_with_state(self.clone(), refuse_when_down))
            .route("/control", get(control))
            .route("/control/{word}", post(switch))
            .with_state(self)
    }

    fn idp(&self, tenant: &str) -> Option<(&IdpOf, &Institution)> {
        let idp = self.idps.iter().find(|idp| idp.tenant == tenant)?;
        let institution = self.institutions.iter().find(|institution| institution.id == tenant)?;
        Some((idp, institution))
    }

    /// Only our service provider, only at its assertion consumer: as an IdP with metadata does.
    fn known(&self, request: &AuthnRequest) -> Result<(), SamlError> {
        if request.issuer != self.sp.entity_id {
            return Err(SamlError(format!("unknown service provider {}", request.issuer)));
        }
        if request.acs != self.sp.acs {
            return Err(SamlError(format!("{} is not an assertion consumer of {}", request.acs, request.issuer)));
        }
        Ok(())
    }
}

async fn refuse_when_down(
    State(idp): State<Idp>,
    Path(tenant): Path<String>,
    request: Request,
    next: Next,
) -> Response {
    if idp.switch.is_down(&tenant) {
        return (StatusCode::SERVICE_UNAVAILABLE, "This identity provider is down (simulated).\n").into_response();
    }
    next.run(request).await
}

#[derive(Deserialize)]
struct Sso {
    #[serde(rename = "SAMLRequest")]
    request: String,
    #[serde(rename = "RelayState", default)]
    relay_state: String,
}

async fn sso_redirect(State(idp): State<Idp>, Path(tenant): Path<String>, Query(sso): Query<Sso>) -> Response {
    let xml = STANDARD.decode(&sso.request).map_err(|_| SamlError("SAMLRequest is not base64".to_owned())).and_then(
        |deflated| {
            let mut xml = String::new();
            DeflateDecoder::new(deflated.as_slice())
                .take(REQUEST_MAX)
                .read_to_string(&mut xml)
                .map_err(|_| SamlError("SAMLRequest is not deflated text".to_owned()))?;
            Ok(xml)
        },
    );
    form_or_error(&idp, &tenant, xml, &sso.relay_state)
}

async fn sso_post(State(idp): State<Idp>, Path(tenant): Path<String>, Form(sso): Form<Sso>) -> Response {
    let xml = STANDARD
        .decode(&sso.request)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| SamlError("SAMLRequest is not base64 of text".to_owned()));
    form_or_error(&idp, &tenant, xml, &sso.relay_state)
}

fn form_or_error(idp: &Idp, tenant: &str, xml: Result<String, SamlError>, relay_state: &str) -> Response {
    let Some((_, institution)) = idp.idp(tenant) else { return StatusCode::NOT_FOUND.into_response() };
    let request =
        xml.and_then(|xml| saml::read_request(&xml)).and_then(|request| idp.known(&request).map(|()| request));
    match request {
        Ok(request) => sign_in_form(institution, &request, relay_state, StatusCode::OK, ""),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn sign_in_form(
    institution: &Institution,
    request: &AuthnRequest,
    relay_state: &str,
    status: StatusCode,
    error: &str,
) -> Response {
    let error = if error.is_empty() { String::new() } else { format!("<p role=\"alert\">{error}</p>") };
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}: sign in</title><body><h1>{name}</h1>{error}\
         <form method=\"post\" action=\"/{tenant}/login\">\
         <input type=\"hidden\" name=\"request_id\" value=\"{id}\"><input type=\"hidden\" name=\"RelayState\" value=\"{relay_state}\">\
         <p><label>Login <input name=\"idp_login\" autocomplete=\"username\" autofocus></label></p>\
         <p><label>Password <input name=\"idp_password\" type=\"password\" autocomplete=\"current-password\"></label></p>\
         <p><button type=\"submit\">Sign in</button></p></form></body></html>\n",
        name = escape(institution.name_en),
        tenant = institution.id,
        id = escape(&request.id),
        relay_state = escape(relay_state),
    );
    (status, Html(page)).into_response()
}

#[derive(Deserialize)]
struct LoginForm {
    request_id: String,
    #[serde(rename = "RelayState", default)]
    relay_state: String,
    idp_login: String,
    idp_password: String,
}

async fn login(State(idp): State<Idp>, Path(tenant): Path<String>, Form(form): Form<LoginForm>) -> Response {
    let Some((this, institution)) = idp.idp(&tenant) else { return StatusCode::NOT_FOUND.into_response() };
    // The service provider is one and known, so that only the ID has to travel with the form.
    let request = AuthnRequest { id: form.request_id, issuer: idp.sp.entity_id.clone(), acs: idp.sp.acs.clone() };
    let person = institution
        .people
        .iter()
        .find(|person| person.idp_login == form.idp_login && person.idp_password == form.idp_password);
    let Some(person) = person else {
        return sign_in_form(institution, &request, &form.relay_state, StatusCode::OK, "Wrong login or password.");
    };
    let login = Login { person, institution, issuer: &this.entity_id, request: &request, now: jiff::Timestamp::now() };
    match saml::response(&login, &idp.sp, &this.signing) {
        Ok(response) => Html(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Signing in</title><body onload=\"document.forms[0].submit()\">\
             <form method=\"post\" action=\"{acs}\"><input type=\"hidden\" name=\"SAMLResponse\" value=\"{response}\">\
             <input type=\"hidden\" name=\"RelayState\" value=\"{relay_state}\"><button type=\"submit\">Continue</button></form></body></html>\n",
            acs = escape(&request.acs),
            response = STANDARD.encode(response),
            relay_state = escape(&form.relay_state),
        ))
        .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[derive(Deserialize)]
struct Which {
    tenant: Option<String>,
}

async fn control(State(idp): State<Idp>) -> Response {
    Json(serde_json::json!({ "down": idp.switch.down() })).into_response()
}

async fn switch(State(idp): State<Idp>, Path(word): Path<String>, Query(which): Query<Which>) -> Response {
    let down = match word.as_str() {
        "down" => true,
        "up" => false,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let tenants: Vec<&str> = idp
        .idps
        .iter()
        .map(|idp| idp.tenant.as_str())
        .filter(|tenant| which.tenant.as_deref().is_none_or(|wanted| wanted == *tenant))
        .collect();
    if tenants.is_empty() {
        return (StatusCode::NOT_FOUND, "no such tenant\n").into_response();
    }
    for tenant in tenants {
        idp.switch.set(tenant, down);
    }
    control(State(idp)).await
}

const REQUEST_MAX: u64 = 64 * 1024;
