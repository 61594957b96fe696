//! The institution's way in: the request that leaves, the Response that comes back, our metadata.

use std::{sync::Arc, time::Duration};

use guichet_auth::{
    Decision,
    saml::{
        Ask, Asked, Binding, IdpMetadata, Login, ServiceProvider, acs_url,
        response::{Expected, Refusal, consume},
    },
    session::{PendingLogin, Replaced},
};
use guichet_config::Tenant;
use http::StatusCode;

use super::{Form, Visit, reference, refused::Refused, view};
use crate::{
    http::{cookie, event, page::Answer, target},
    telemetry::event::IdpStateChanged,
};

/// What a login at the IdP is for.
#[derive(Debug, Default)]
pub(super) struct Errand {
    /// What is asked of it.
    pub(super) ask: Ask,
    /// The session that it is to take the place of.
    pub(super) step_up: Option<Replaced>,
    /// Its answer is shown to its user, and opens no session.
    pub(super) test: bool,
}

impl Visit {
    /// Sends the browser to the tenant's IdP.
    pub(super) async fn start_saml(&self, tenant: &Tenant, next: &str) -> Answer {
        self.send_to_idp(tenant, next, Errand { ask: Self::ask_for(tenant, next), ..Errand::default() }).await
    }

    /// Sends the browser to the tenant's IdP.
    pub(super) async fn send_to_idp(&self, tenant: &Tenant, next: &str, errand: Errand) -> Answer {
        let Errand { ask, step_up, test } = errand;
        let Some((sp, idp)) = self.parties(tenant) else {
            let reference = reference();
            event::trouble("saml", "no metadata for the tenant's IdP", &reference);
            return self.trouble(&reference);
        };
        let handle: String = crate::http::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        let (now, relay_state, asked) = (self.now, handle.clone(), ask.clone());
        let acs_url = acs_url(&self.host.origin);
        let binding = tenant.idp.as_ref().and_then(|idp| idp.request.binding);
        let make = move || sp.authn_request_with(&idp, &acs_url, binding, &asked, &relay_state, now);
        let made = tokio::task::spawn_blocking(make).await;
        let outgoing = match made {
            Ok(Ok(outgoing)) => outgoing,
            failed => {
                let reference = reference();
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the signing task failed".to_owned(),
                };
                event::trouble("saml", &error, &reference);
                return self.trouble(&reference);
            }
        };
        event::saml_request(&tenant.id);
        let pending = PendingLogin {
            handle,
            request_id: outgoing.id,
            tenant: tenant.id.clone(),
            host: self.host.hostname.clone(),
            target: target::safe(next).to_owned(),
            issued: self.now,
            test,
            ask,
            step_up,
        };
        let mut answer = match &outgoing.binding {
            Binding::Redirect { url } => self.redirect(url.clone()),
            Binding::Post { action, saml_request } => view::post(self.lang, action, saml_request, &pending.handle),
        };
        // Each tab has its own; a browser that piles them up starts over.
        let others = self.cookies_named(cookie::PENDING);
        if others.len() >= PENDING_MAX {
            for name in others {
                answer = answer.with_cookie(cookie::clear(&name));
            }
        }
        let name = format!("{}{}", cookie::PENDING, pending.handle);
        let value = self.snapshot.sealer.seal_pending(&pending);
        answer.with_cookie(cookie::set(&name, &value, cookie::SameSite::None, Some(PENDING_SECONDS)))
    }

    /// `POST /saml/acs`.
    pub(super) async fn consume(&self, mut form: Form) -> Answer {
        let handle = form.take("RelayState");
        let response = form.take("SAMLResponse");
        let mut tenant = None;
        match self.session_of(&handle, response, &mut tenant).await {
            Ok(answer) => answer.with_cookie(cookie::clear(&format!("{}{handle}", cookie::PENDING))),
            Err(refused) => self.refused(tenant.as_deref(), &refused),
        }
    }

    async fn session_of(
        &self,
        handle: &str,
        response: String,
        found: &mut Option<Arc<Tenant>>,
    ) -> Result<Answer, Refused> {
        let pending = self.pending(handle)?;
        let tenant = self.snapshot.config.tenants.get(&pending.tenant).cloned();
        let tenant = tenant.ok_or_else(Refused::tenant_gone)?;
        *found = Some(Arc::clone(&tenant));
        if pending.host != self.host.hostname {
            // The response of a login that began on another host: a browser would not have brought its cookie here.
            return Err(Refused::response(&Refusal::Destination, tenant.idp.as_ref()));
        }
        let (sp, idp) =
            self.parties(&tenant).ok_or_else(|| Refused::ours("no_metadata", "no metadata for the tenant's IdP"))?;
        if pending.test {
            return self.tested(response, sp, idp, &tenant, &pending).await;
        }
        let entity_id = idp.entity_id.clone();
        let login = self.verified(response, sp, idp, &tenant, &pending).await;
        if let (Err(_), Some(before)) = (&login, &pending.step_up) {
            event::step_up(&before.address, &tenant.id, "refused");
        }
        let login = login?;
        let tags = login.named().and_then(|named| self.logout_tags(&entity_id, named));
        if tags.is_some_and(|tags| self.app.store.logged_out(&tenant.id, &tags, login.issued())) {
            return Err(Refused::browser("logged_out", "the identity provider ended this login before it arrived"));
        }
        if let Some(state) = self.app.board.on_signed_success(&tenant.id, self.now) {
            IdpStateChanged { tenant: &tenant.id, state }.emit();
        }
        let completed = self.snapshot.authenticator.complete_login(&login).await;
        match completed.map_err(Refused::unidentified)? {
            Decision::Allow(identity) => {
                if let Some(before) = &pending.step_up {
                    self.take_place(before, &tenant, &identity.address).await?;
                }
                event::saml_accepted(&identity);
                Ok(self.enter(&identity, Some((entity_id.as_str(), &login)), &pending.target))
            }
            Decision::Deny(reason) => Err(Refused::account(format!("the directory says {}", reason.as_str()))),
            Decision::Unavailable(reason) => {
                Err(Refused::ours("directory", format!("the directory cannot tell: {}", reason.as_str())))
            }
        }
    }

    /// Verifies the Response and marks it used, off the network threads.
    async fn verified(
        &self,
        response: String,
        sp: Arc<ServiceProvider>,
        idp: Arc<IdpMetadata>,
        tenant: &Arc<Tenant>,
        pending: &PendingLogin,
    ) -> Result<Login, Refused> {
        let (tenant, store, now) = (Arc::clone(tenant), Arc::clone(&self.app.store), self.now);
        let clock_skew = self.clock_skew();
        let acs_url = acs_url(&self.host.origin);
        // What was asked is in the cookie: the configuration may say something else by now.
        let (request_id, ask, issued) = (pending.request_id.clone(), pending.ask.clone(), pending.issued);
        let work = move || {
            let (request_id, acs_url) = (&request_id, &acs_url);
            let asked = Asked::of(&ask, issued);
            let expected = Expected { idp: &idp, request_id, acs_url, tenant: &tenant, asked, clock_skew, now };
            let login = consume(response.as_bytes(), &sp, &expected)
                .map_err(|refusal| Refused::response(&refusal, tenant.idp.as_ref()))?;
            for id in login.replay_ids() {
                match store.mark_once("saml", id, login.replay_until(), now) {
                    Ok(true) => {}
                    Ok(false) => return Err(Refused::replay()),
                    Err(error) => return Err(Refused::ours("store", crate::telemetry::chain(&error))),
                }
            }
            Ok(login)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Refused::ours("panic", "the verifier failed"))?
    }

    pub(super) fn clock_skew(&self) -> Duration {
        self.snapshot.config.saml.as_ref().map_or(CLOCK_SKEW, |saml| saml.clock_skew)
    }

    /// The login this browser waits for under a handle.
    fn pending(&self, handle: &str) -> Result<PendingLogin, Refused> {
        let legal = handle.len() == 32 && handle.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !legal {
            return Err(Refused::browser("relay_state", "RelayState is none of ours"));
        }
        let value = self.cookie(&format!("{}{handle}", cookie::PENDING));
        let value = value.ok_or_else(|| Refused::browser("no_pending", "this browser waits for no such login"))?;
        let pending = self.snapshot.sealer.open_pending(value, self.now);
        let pending = pending.map_err(|error| Refused::browser("pending_ended", error.to_string()))?;
        if pending.handle != handle {
            return Err(Refused::browser("relay_state", "RelayState belongs to another login"));
        }
        Ok(pending)
    }

    pub(super) fn parties(&self, tenant: &Tenant) -> Option<(Arc<ServiceProvider>, Arc<IdpMetadata>)> {
        let idp = self.snapshot.idps.idp(&tenant.idp.as_ref()?.entity_id)?;
        Some((self.snapshot.sp.clone()?, idp))
    }

    /// `GET /saml/metadata`.
    pub(super) fn metadata(&self) -> Answer {
        match &self.snapshot.sp {
            Some(sp) => Answer::new(StatusCode::OK, "application/samlmetadata+xml", sp.metadata_xml().to_owned()),
            None => Answer::text(StatusCode::NOT_FOUND, "No tenant has an identity provider."),
        }
    }
}

const PENDING_MAX: usize = 5;
const PENDING_SECONDS: u64 = 600;
/// Only until the configuration says otherwise: `[saml]` is present whenever a tenant has an IdP.
const CLOCK_SKEW: Duration = Duration::from_secs(180);
