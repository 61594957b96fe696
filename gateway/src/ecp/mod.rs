//! Passwords of institutions: the wire to the ECP endpoints of their IdPs.
//!
//! `guichet_auth::saml::ecp` makes the request and judges the answer, the authenticator decides what follows from it; here
//! are the connections, the places at one IdP, and what is told of it. A password leaves for the endpoint that verified
//! metadata names, by TLS, in one request that follows no redirect; it is in no log, and its buffers here are wiped.
//!
//! An endpoint that does not answer says nothing on the board: its state is that of the page that browsers see, and slow
//! answers can be had by whoever guesses passwords. A signed Success is evidence, like any other.

mod event;
mod line;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use guichet_auth::{
    Institutions, Word,
    availability::IdpState,
    directory::Answer,
    saml::{
        IdpMetadata, Login, Refusal, ServiceProvider,
        ecp::{self, EcpAnswer},
        response::Expected,
    },
};
use guichet_config::{Address, Secret, Tenant, TenantId};
use tokio::task::spawn_blocking;

use self::{
    event::Asked,
    line::{Lines, Posted},
};
use crate::{
    app::{App, Snapshot},
    telemetry::{self, event::IdpStateChanged},
};

/// Asks IdPs about passwords.
#[derive(Debug, Default)]
pub(crate) struct Ecp {
    app: OnceLock<Weak<App>>,
    lines: Lines,
}

/// What an IdP said.
#[derive(Debug)]
enum Said {
    Known(Box<Login>),
    WrongPassword,
    NotAdmitted(Refusal),
}

/// Why there is no word of it.
#[derive(Debug)]
enum Trouble {
    /// Nobody answers.
    Away(String),
    /// As many are asking it as may.
    Busy,
    /// It answers, and the answer cannot be accepted.
    Refused { kind: &'static str, error: String, alarming: bool },
    /// Something of ours is missing or failed.
    Ours(String),
}

impl Ecp {
    /// Where configuration, metadata and board are found from now on.
    pub(crate) fn attach(&self, app: &Arc<App>) {
        // Once, at the start.
        let _ = self.app.set(Arc::downgrade(app));
    }

    fn app(&self) -> Option<Arc<App>> {
        self.app.get()?.upgrade()
    }

    async fn exchange(&self, tenant: &Arc<Tenant>, user: &Address, password: &Secret<String>) -> Result<Said, Trouble> {
        let ours = |what: &str| Trouble::Ours(what.to_owned());
        let app = self.app().ok_or_else(|| ours("the node is stopping"))?;
        let snapshot = app.snapshot.load_full();
        let wanted = tenant.idp.as_ref().and_then(|idp| Some((idp, idp.ecp.as_ref()?)));
        let (wanted, settings) = wanted.ok_or_else(|| ours("the tenant's IdP is not to be asked"))?;
        let idp = snapshot.idps.idp(&wanted.entity_id).ok_or_else(|| ours("no metadata for the tenant's IdP"))?;
        let sp = snapshot.sp.clone().ok_or_else(|| ours("the configuration has no [saml]"))?;
        let Some(credentials) = line::basic(settings.username.of(user), password) else {
            return Ok(Said::WrongPassword);
        };
        let client = self.lines.client(&settings.ca, &snapshot).map_err(Trouble::Ours)?;
        let turns = self.lines.turns(&wanted.entity_id);
        let turn = tokio::time::timeout(TURN, turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Trouble::Busy) };

        let (now, signer, asked) = (app.clock.now(), Arc::clone(&sp), Arc::clone(&idp));
        let made = spawn_blocking(move || signer.ecp_request(&asked, now)).await;
        let request = made.map_err(|_| ours("the signing task failed"))?;
        let request = request.map_err(|error| Trouble::Ours(error.to_string()))?;
        let posted = line::post(&client, &request.endpoint, request.envelope, credentials).await;
        let posted = posted.map_err(|error| Trouble::Away(telemetry::chain(&error.without_url())))?;
        let answer = self.answer(&app, &snapshot, tenant, (sp, idp), request.id, posted).await?;
        if matches!(answer, Said::Known(_))
            && let Some(state) = app.board.on_signed_success(&tenant.id, app.clock.now())
        {
            IdpStateChanged { tenant: &tenant.id, state }.emit();
        }
        Ok(answer)
    }

    /// Reads an answer and marks it used, off the network threads.
    async fn answer(
        &self,
        app: &Arc<App>,
        snapshot: &Snapshot,
        tenant: &Arc<Tenant>,
        (sp, idp): (Arc<ServiceProvider>, Arc<IdpMetadata>),
        request_id: String,
        posted: Posted,
    ) -> Result<Said, Trouble> {
        let (app, tenant) = (Arc::clone(app), Arc::clone(tenant));
        let clock_skew = snapshot.config.saml.as_ref().map_or(Duration::ZERO, |saml| saml.clock_skew);
        let work = move || {
            let now = app.clock.now();
            let (request_id, acs_url) = (&request_id, sp.ecp_url());
            // No browser, no second factor: by this way nothing is asked of the login.
            let asked = guichet_auth::saml::Asked::default();
            let expected = Expected { idp: &idp, request_id, acs_url, tenant: &tenant, asked, clock_skew, now };
            let login = match ecp::read(posted.status, &posted.body, &sp, &expected) {
                EcpAnswer::Known(login) => login,
                EcpAnswer::WrongPassword => return Ok(Said::WrongPassword),
                EcpAnswer::NotAdmitted(refusal) => return Ok(Said::NotAdmitted(refusal)),
                EcpAnswer::Unusable(fault) => {
                    let (kind, alarming) = (fault.kind(), fault.is_alarming());
                    return Err(Trouble::Refused { kind, error: fault.to_string(), alarming });
                }
            };
            for id in login.replay_ids() {
                match app.store.mark_once("saml", id, login.replay_until(), now) {
                    Ok(true) => {}
                    Ok(false) => {
                        let error = "the response was used before".to_owned();
                        return Err(Trouble::Refused { kind: "replay", error, alarming: true });
                    }
                    Err(error) => return Err(Trouble::Ours(telemetry::chain(&error))),
                }
            }
            Ok(Said::Known(login))
        };
        spawn_blocking(work).await.map_err(|_| Trouble::Ours("the verifier failed".to_owned()))?
    }
}

impl Institutions for Ecp {
    fn ask<'a>(&'a self, tenant: &'a Arc<Tenant>, user: &'a Address, password: &'a Secret<String>) -> Answer<'a, Word> {
        Box::pin(async move {
            let began = Instant::now();
            let said = tokio::time::timeout(WHOLE, self.exchange(tenant, user, password)).await;
            let said = said.unwrap_or_else(|_| Err(Trouble::Away("no answer in time".to_owned())));
            Asked { tenant: &tenant.id, user, said: &said, took: began.elapsed() }.emit();
            match said {
                Ok(Said::Known(login)) => Word::Known { subject: login.subject().clone(), category: login.category() },
                Ok(Said::WrongPassword) => Word::BadCredential,
                Ok(Said::NotAdmitted(_)) => Word::AccountRefused,
                Err(_) => Word::Unavailable,
            }
        })
    }

    fn state(&self, tenant: &TenantId) -> IdpState {
        self.app().map_or(IdpState::Up, |app| app.board.state(tenant, app.clock.now()))
    }
}

/// From the wait for a turn to the verified answer: a mail program waits longer than that before it gives up.
const WHOLE: Duration = Duration::from_secs(5);
/// For a turn at an IdP that others are asking.
const TURN: Duration = Duration::from_millis(500);
