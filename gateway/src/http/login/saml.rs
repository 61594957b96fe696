//! The institution's way in: the request that leaves, the Response that comes back, our metadata.

use std::sync::Arc;

use guichet_auth::{
    Decision,
    saml::{
        Binding, IdpMetadata, Login, ServiceProvider,
        response::{Expected, consume},
    },
    session::PendingLogin,
};
use guichet_config::{Tenant, TenantId};
use http::{StatusCode, header};

use super::{Form, Visit, reference, view};
use crate::{
    http::{cookie, event, page::Answer, target},
    telemetry::event::IdpStateChanged,
};

/// Why a Response led to no session.
struct Refused {
    kind: &'static str,
    error: String,
    /// Something of ours failed: try later.
    ours: bool,
}

impl Refused {
    fn new(kind: &'static str, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), ours: false }
    }

    fn ours(kind: &'static str, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), ours: true }
    }
}

impl Visit {
    /// Sends the browser to the tenant's IdP.
    pub(super) async fn start_saml(&self, tenant: &Tenant, next: &str) -> Answer {
        let Some((sp, idp)) = self.parties(tenant) else {
            let reference = reference();
            event::trouble("saml", "no metadata for the tenant's IdP", &reference);
            return self.trouble(&reference);
        };
        let handle: String = crate::http::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        let (now, relay_state) = (self.now, handle.clone());
        let made = tokio::task::spawn_blocking(move || sp.authn_request(&idp, &relay_state, now)).await;
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
            target: target::safe(next).to_owned(),
            issued: self.now,
        };
        let mut answer = match &outgoing.binding {
            Binding::Redirect { url } => self.redirect(url.clone()),
            Binding::Post { action, saml_request } => {
                view::post(self.lang, action, saml_request, &pending.handle, &self.form_action())
            }
        };
        // Each tab has its own; a browser that piles them up starts over.
        let others = self.pending_cookies();
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
        let tenant = tenant.ok_or_else(|| Refused::new("tenant_gone", "the tenant is no longer configured"))?;
        *found = Some(Arc::clone(&tenant));
        let (sp, idp) =
            self.parties(&tenant).ok_or_else(|| Refused::ours("no_metadata", "no metadata for the tenant's IdP"))?;

        let login = self.verified(response, sp, idp, &tenant, pending.request_id).await?;
        if let Some(state) = self.app.board.on_signed_success(&tenant.id, self.now) {
            IdpStateChanged { tenant: &tenant.id, state }.emit();
        }
        match self.snapshot.authenticator.complete(login.identity().clone()).await {
            Decision::Allow(identity) => {
                event::saml_accepted(&identity);
                Ok(self.enter(&identity, login.session_not_after(), &pending.target))
            }
            Decision::Deny(reason) => Err(Refused::new("account", format!("the directory says {}", reason.as_str()))),
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
        request_id: String,
    ) -> Result<Login, Refused> {
        let (tenant, store, now) = (Arc::clone(tenant), Arc::clone(&self.app.store), self.now);
        let clock_skew = self.snapshot.config.saml.as_ref().map_or(CLOCK_SKEW, |saml| saml.clock_skew);
        let work = move || {
            let expected = Expected { idp: &idp, request_id: &request_id, tenant: &tenant, clock_skew, now };
            let login = consume(response.as_bytes(), &sp, &expected)
                .map_err(|refusal| Refused::new(refusal.kind(), refusal.to_string()))?;
            for id in login.replay_ids() {
                match store.mark_once("saml", id, login.replay_until(), now) {
                    Ok(true) => {}
                    Ok(false) => return Err(Refused::new("replay", "the response was used before")),
                    Err(error) => return Err(Refused::ours("store", crate::telemetry::chain(&error))),
                }
            }
            Ok(login)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Refused::ours("panic", "the verifier failed"))?
    }

    /// The login this browser waits for under a handle.
    fn pending(&self, handle: &str) -> Result<PendingLogin, Refused> {
        let legal = handle.len() == 32 && handle.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !legal {
            return Err(Refused::new("relay_state", "RelayState is none of ours"));
        }
        let value = self.cookie(&format!("{}{handle}", cookie::PENDING));
        let value = value.ok_or_else(|| Refused::new("no_pending", "this browser waits for no such login"))?;
        let pending = self.snapshot.sealer.open_pending(value, self.now);
        let pending = pending.map_err(|error| Refused::new("pending_ended", error.to_string()))?;
        if pending.handle != handle {
            return Err(Refused::new("relay_state", "RelayState belongs to another login"));
        }
        Ok(pending)
    }

    fn pending_cookies(&self) -> Vec<String> {
        let fields = self.head.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes());
        let ours = cookie::pairs(fields).filter(|(name, _)| name.starts_with(cookie::PENDING));
        ours.map(|(name, _)| name.to_owned()).filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic())).collect()
    }

    fn parties(&self, tenant: &Tenant) -> Option<(Arc<ServiceProvider>, Arc<IdpMetadata>)> {
        let idp = self.snapshot.idps.idp(&tenant.idp.as_ref()?.entity_id)?;
        Some((self.snapshot.sp.clone()?, idp))
    }

    /// The page of a refused Response: what to do and a reference, never the reason.
    fn refused(&self, tenant: Option<&Tenant>, refused: &Refused) -> Answer {
        let lang = self.lang;
        let reference = reference();
        let id: Option<&TenantId> = tenant.map(|tenant| &tenant.id);
        event::saml_refused(id, self.client.ip(), refused.kind, &refused.error, &reference);
        if refused.ours {
            return self.trouble(&reference);
        }
        let said = match refused.kind {
            "account" => lang.pick(
                "Votre établissement vous a reconnu, mais aucune messagerie active ne correspond à votre compte.",
                "Your institution knows you, but no active mailbox belongs to your account.",
            ),
            "no_pending" | "pending_ended" | "relay_state" => lang.pick(
                "Cette connexion a expiré ou a été commencée dans un autre navigateur.",
                "This sign-in has expired or was started in another browser.",
            ),
            _ => lang.pick(
                "La réponse de votre établissement n’a pas pu être acceptée.",
                "The answer of your institution could not be accepted.",
            ),
        };
        let next = tenant.map(|tenant| format!("/login?tenant={}", tenant.id)).unwrap_or_else(|| "/login".to_owned());
        let links = [(next, lang.pick("Recommencer la connexion", "Start signing in again"))];
        let contact = tenant.and_then(|tenant| tenant.contact.as_deref()).unwrap_or_default();
        let title = lang.pick("Connexion refusée", "Sign-in refused");
        let notice = view::Notice { title, paragraphs: &[said], reference: &reference, contact, links: &links };
        view::notice(StatusCode::FORBIDDEN, lang, &notice)
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
const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(180);
