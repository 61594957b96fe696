//! `/login/step-up`: another login of the same user, for a page that wants more than the session has.

use std::sync::Arc;

use guichet_auth::{
    saml::Ask,
    session::{PendingLogin, Replaced},
    step_up::{guard, is_met, is_possible},
};
use guichet_config::{Address, Tenant};
use http::StatusCode;

use super::{Visit, refused::Refused, saml::Errand, view};
use crate::{
    app::App,
    http::{event, identity, page::Answer, step_up, target},
};

impl Visit {
    /// `GET /login/step-up?next=…`
    pub(super) async fn step_up(&self) -> Answer {
        let next = target::safe(self.query.field("next"));
        let Some(session) = identity::session(&self.head.headers, &self.app, &self.snapshot, self.now) else {
            return Answer::see_other(format!("/login?next={}", target::encode(next)));
        };
        let Some(tenant) = self.snapshot.config.tenants.get(&session.tenant).cloned() else {
            return Answer::see_other(next);
        };
        let rule = tenant.step_up.as_ref();
        let Some((rule, guarded)) = rule.and_then(|rule| Some((rule, guard(rule, next)?))) else {
            return Answer::see_other(next);
        };
        if is_met(rule, &session, self.now) {
            return Answer::see_other(next);
        }
        let asks = can_ask(&self.app, &tenant);
        if !is_possible(&session) {
            event::step_up(&session.address, &tenant.id, "impossible");
            return step_up::impossible(self.lang, &tenant, guarded, asks);
        }
        if !asks && self.query.field("force") != "idp" {
            event::step_up(&session.address, &tenant.id, "idp_down");
            return self.step_up_waits(&tenant, next);
        }
        let replaced = Replaced { sid: session.sid, ends: session.ends, address: session.address.clone() };
        let next = if next.len() > PendingLogin::TARGET_BYTES_MAX { guarded.as_str() } else { next };
        let errand = Errand { ask: Ask::of_step_up(rule), step_up: Some(replaced), test: false };
        self.send_to_idp(&tenant, next, errand).await
    }

    /// What a login asks that leads to `next`: where that is guarded, all of it at once.
    pub(super) fn ask_for(tenant: &Tenant, next: &str) -> Ask {
        match tenant.step_up.as_ref().filter(|rule| guard(rule, next).is_some()) {
            Some(rule) => Ask::of_step_up(rule),
            None => tenant.idp.as_ref().map(|idp| Ask::of_login(&idp.request)).unwrap_or_default(),
        }
    }

    /// The new session is the same user's, and the one it takes the place of ends before it begins.
    pub(super) async fn take_place(&self, before: &Replaced, tenant: &Tenant, now: &Address) -> Result<(), Refused> {
        if before.address != *now {
            event::step_up(&before.address, &tenant.id, "refused");
            return Err(Refused::other_user());
        }
        let (store, sid, ends) = (Arc::clone(&self.app.store), before.sid, before.ends);
        let revoked = tokio::task::spawn_blocking(move || store.revoke_session(&sid, ends)).await;
        if !matches!(revoked, Ok(Ok(()))) {
            return Err(Refused::ours("store", "the session before could not be revoked"));
        }
        event::step_up(&before.address, &tenant.id, "done");
        Ok(())
    }

    /// 503: the IdP is down, and nothing else can vouch for more.
    fn step_up_waits(&self, tenant: &Tenant, next: &str) -> Answer {
        let lang = self.lang;
        let first = lang.pick(
            "Cette page demande que vous vous identifiiez à nouveau auprès de votre établissement.",
            "This page asks you to sign in again at your institution.",
        );
        let again = format!("{}&force=idp", step_up::step_up_link(next));
        let links = [
            (again, lang.pick("Essayer quand même", "Try anyway")),
            (target::HOME.to_owned(), lang.pick("Retour à la messagerie", "Back to your mail")),
        ];
        let notice = view::Notice {
            title: step_up::title(lang),
            paragraphs: &[first, step_up::down(lang)],
            contact: tenant.contact.as_deref().unwrap_or_default(),
            links: &links,
            ..view::Notice::default()
        };
        view::notice(StatusCode::SERVICE_UNAVAILABLE, lang, &notice).with_retry_after()
    }
}

/// Whether a tenant's IdP can be asked now, as far as is known.
pub(crate) fn can_ask(app: &App, tenant: &Tenant) -> bool {
    tenant.idp.is_some() && !app.board.state(&tenant.id, app.clock.now()).offers_fallback()
}
