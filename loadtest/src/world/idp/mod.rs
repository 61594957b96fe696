//! The identity provider: one process, a URL prefix for each institution.
//!
//! | request | answer |
//! |---|---|
//! | `GET /TENANT/sso?SAMLRequest=…&RelayState=…` | sign-in form (HTTP-Redirect binding), or at once the form below when the browser has a session here |
//! | `POST /TENANT/sso`, same fields | sign-in form (HTTP-POST binding) |
//! | `POST /TENANT/login`: `idp_login`, `idp_password` and the form's hidden fields | a form that posts the Response to the assertion consumer |
//! | `POST /TENANT/ecp`: SOAP, with Basic credentials | the Response in an envelope (ECP), where the institution has one password for everything |
//! | `GET /TENANT/` | who is signed in here, and a button to sign out everywhere |
//! | `POST /TENANT/logout` | ends the session here and leads on to the service provider's logout |
//! | `GET /TENANT/slo?SAMLRequest=…` or `SAMLResponse=…` | logout asked for by the service provider, or its answer to ours |
//! | `POST /control/down`, `POST /control/up`, `?tenant=TENANT` for one | every page of the IdP answers 503, or works again |
//! | `GET /control` | which IdPs are down, as JSON |
//!
//! Signatures of requests are not verified: what is rehearsed here is the service provider.

mod ecp;
mod logout;
mod sessions;
mod sso;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;

pub use self::sessions::Session;
use self::sessions::Sessions;
use super::{people::Institution, pki::Pair, saml::ServiceProvider};

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
    sessions: Sessions,
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
        let (sessions, switch) = (Sessions::default(), IdpSwitch::default());
        Self { institutions, idps: Arc::new(idps), sp: Arc::new(sp), sessions, switch }
    }

    /// Takes it down and up.
    pub fn switch(&self) -> IdpSwitch {
        self.switch.clone()
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/{tenant}/", get(logout::page))
            .route("/{tenant}/sso", get(sso::by_redirect).post(sso::by_post))
            .route("/{tenant}/login", post(sso::login))
            .route("/{tenant}/ecp", post(ecp::answer))
            .route("/{tenant}/logout", post(logout::everywhere))
            .route("/{tenant}/slo", get(logout::by_redirect))
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
