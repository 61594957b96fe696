//! `/logout`: the session ends here first and always; then the institution is asked to end its own, and its answer told.

use std::{sync::Arc, time::Duration};

use guichet_auth::{
    saml::{
        Binding, Outgoing,
        logout::{ExpectedLogout, LogoutOutcome, Received, accept_response},
    },
    session::{IdpSession, PendingLogout, Session as BrowserSession},
};
use guichet_config::Address;
use http::{Method, StatusCode};

use super::{
    Visit, reference,
    slo::{RELAY_STATE_BYTES_MAX, Unheard},
    view,
};
use crate::{
    http::{cookie, event, identity, page::Answer},
    mail::{Selector, Traffic},
};

/// What is known of the session at the institution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtIdp {
    /// It has ended: the institution says so.
    Ended,
    /// It has ended; some other service may go on: the institution says so.
    Partly,
    /// Nobody asked, or nobody knows.
    MayLiveOn,
}

impl Visit {
    /// `/logout`.
    pub(super) async fn logout(&self) -> Answer {
        let session = identity::session(&self.head.headers, &self.app, &self.snapshot, self.now);
        let at_idp = self.idp_session(session.as_deref());
        if let Some(session) = session {
            let store = Arc::clone(&self.app.store);
            let (sid, ends) = (session.sid, session.ends);
            let revoked = tokio::task::spawn_blocking(move || store.revoke_session(&sid, ends)).await;
            if !matches!(revoked, Ok(Ok(()))) {
                let reference = reference();
                event::trouble("logout", "the session could not be revoked", &reference);
                return self.without_session(self.trouble(&reference));
            }
            self.end_what_is_open(&session.address, false).await;
        }
        let answer = match at_idp {
            Some(at_idp) => self.ask_idp(at_idp).await,
            None => self.signed_out(AtIdp::MayLiveOn, ""),
        };
        self.without_session(answer)
    }

    /// Ends what a user has open on this node besides sessions: tunnels, the tokens of cells, and mail where it is meant.
    pub(super) async fn end_what_is_open(&self, user: &Address, mail: bool) {
        // Of the tunnels those of the user's other sessions open theirs again, and so do their requests with the tokens.
        let protocol = (!mail).then_some(Traffic::Web);
        let meant = Selector { user: Some(user.clone()), protocol, ..Selector::default() };
        self.app.relays.kick(&meant, Duration::ZERO);
        self.app.tokens.forget_user(self.snapshot.config.cells.keys(), user).await;
    }

    /// An answer after which the browser has no session.
    pub(super) fn without_session(&self, answer: Answer) -> Answer {
        answer.with_cookie(cookie::clear(cookie::SESSION)).with_cookie(cookie::clear(cookie::IDP_SESSION))
    }

    /// The institution's session of this browser: of `session`, or of one that has ended by itself.
    fn idp_session(&self, session: Option<&BrowserSession>) -> Option<IdpSession> {
        let at_idp = self.snapshot.sealer.open_idp_session(self.cookie(cookie::IDP_SESSION)?, self.now).ok()?;
        session.is_none_or(|session| session.sid == at_idp.sid).then_some(at_idp)
    }

    /// Sends the browser to the IdP to log out there, when it can. Nothing here waits for it.
    async fn ask_idp(&self, at_idp: IdpSession) -> Answer {
        let tenant = self.snapshot.config.tenants.get(&at_idp.tenant);
        let wanted = tenant.and_then(|tenant| tenant.idp.as_ref());
        let asks = wanted.is_some_and(|idp| idp.logout_asks_idp && idp.entity_id == at_idp.idp);
        // A browser that is sent to an IdP that is down never sees our page.
        let down = self.app.board.state(&at_idp.tenant, self.now).offers_fallback();
        let parties = tenant.filter(|_| asks && !down).and_then(|tenant| self.parties(tenant));
        let Some((sp, idp)) = parties else { return self.signed_out(AtIdp::MayLiveOn, "") };
        let handle: String = crate::http::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        let (relay_state, now, named) = (self.logout_state(&handle), self.now, at_idp.named);
        let made = tokio::task::spawn_blocking(move || sp.logout_request(&idp, &named, &relay_state, now)).await;
        let Outgoing { id, binding } = match made {
            Ok(Ok(Some(outgoing))) => outgoing,
            Ok(Ok(None)) => return self.signed_out(AtIdp::MayLiveOn, ""),
            Ok(Err(error)) => return self.unasked(&error.to_string()),
            Err(_) => return self.unasked("the signing task failed"),
        };
        event::logout_sent(&at_idp.tenant);
        let pending =
            PendingLogout { handle, request_id: id, tenant: at_idp.tenant, idp: at_idp.idp, issued: self.now };
        let mut answer = match &binding {
            Binding::Redirect { url } => self.go_on(url.clone()),
            Binding::Post { action, saml_request } => {
                view::post_logout(self.lang, action, ("SAMLRequest", saml_request), &self.logout_state(&pending.handle))
            }
        };
        let others = self.cookies_named(cookie::PENDING_LOGOUT);
        if others.len() >= PENDING_MAX {
            for name in others {
                answer = answer.with_cookie(cookie::clear(&name));
            }
        }
        let name = format!("{}{}", cookie::PENDING_LOGOUT, pending.handle);
        let value = self.snapshot.sealer.seal_pending_logout(&pending);
        // The IdP may answer by a form of its own.
        answer.with_cookie(cookie::set(&name, &value, cookie::SameSite::None, Some(PENDING_SECONDS)))
    }

    /// RelayState of a logout: its handle, and an institution's own host when it begins there.
    fn logout_state(&self, handle: &str) -> String {
        let own = self.host.tenant.is_some() && handle.len() + 1 + self.host.hostname.len() <= RELAY_STATE_BYTES_MAX;
        if own { format!("{handle}.{}", self.host.hostname) } else { handle.to_owned() }
    }

    /// On to the IdP by a plain redirect. No form on a page of ours leads here, so no `form-action` stands against it.
    pub(super) fn go_on(&self, url: String) -> Answer {
        if self.head.method == Method::POST { Answer::see_other(url) } else { Answer::found(url) }
    }

    fn unasked(&self, error: &str) -> Answer {
        let reference = reference();
        event::trouble("logout", error, &reference);
        self.signed_out(AtIdp::MayLiveOn, &reference)
    }

    /// The IdP's LogoutResponse. Whatever it says, the session here ended before.
    pub(super) async fn idp_answers(&self, received: Received) -> Answer {
        let state = received.relay_state().unwrap_or_default();
        let handle = state.split_once('.').map_or(state, |(handle, _)| handle).to_owned();
        match self.outcome(received, &handle).await {
            Ok(at_idp) => {
                let cleared = cookie::clear(&format!("{}{handle}", cookie::PENDING_LOGOUT));
                self.signed_out(at_idp, "").with_cookie(cleared)
            }
            Err(unheard) => {
                let reference = reference();
                event::logout_refused(self.client.ip(), unheard.kind, &unheard.error, &reference);
                self.signed_out(AtIdp::MayLiveOn, &reference)
            }
        }
    }

    async fn outcome(&self, received: Received, handle: &str) -> Result<AtIdp, Unheard> {
        let pending = self.pending_logout(handle)?;
        let (sp, idp) = (self.snapshot.sp.clone(), self.snapshot.idps.idp(&pending.idp));
        let (Some(sp), Some(idp)) = (sp, idp) else {
            return Err(Unheard::new("tenant_gone", "there is no metadata of the identity provider any more"));
        };
        let (clock_skew, now, request_id) = (self.clock_skew(), self.now, pending.request_id);
        let judged = tokio::task::spawn_blocking(move || {
            let expected = ExpectedLogout { idp: &idp, request_id: &request_id, clock_skew, now };
            accept_response(&received, &sp, &expected)
        });
        let judged = judged.await.map_err(|_| Unheard::new("panic", "the verifier failed"))?;
        let outcome = judged.map_err(|refusal| Unheard::new(refusal.kind(), refusal.to_string()))?;
        event::logout_answered(&pending.tenant, outcome);
        Ok(match outcome {
            LogoutOutcome::Ended => AtIdp::Ended,
            LogoutOutcome::Partly => AtIdp::Partly,
            _ => AtIdp::MayLiveOn,
        })
    }

    /// The logout this browser waits for under a handle.
    fn pending_logout(&self, handle: &str) -> Result<PendingLogout, Unheard> {
        if !(handle.len() == 32 && handle.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(Unheard::new("relay_state", "RelayState is none of ours"));
        }
        let value = self.cookie(&format!("{}{handle}", cookie::PENDING_LOGOUT));
        let value = value.ok_or_else(|| Unheard::new("no_pending", "this browser waits for no such logout"))?;
        let pending = self.snapshot.sealer.open_pending_logout(value, self.now);
        let pending = pending.map_err(|error| Unheard::new("pending_ended", error.to_string()))?;
        if pending.handle == handle {
            Ok(pending)
        } else {
            Err(Unheard::new("relay_state", "RelayState belongs to another logout"))
        }
    }

    /// The page after a logout: what has ended, and honestly what may not.
    pub(super) fn signed_out(&self, at_idp: AtIdp, reference: &str) -> Answer {
        let lang = self.lang;
        let institution = match at_idp {
            AtIdp::Ended => lang.pick(
                "La session ouverte chez votre établissement est terminée aussi.",
                "The session at your institution has ended, too.",
            ),
            AtIdp::Partly => lang.pick(
                "La session ouverte chez votre établissement est terminée, mais un autre service peut rester ouvert : sur un poste partagé, fermez le navigateur.",
                "The session at your institution has ended, but another service may still be open: on a shared computer, close the browser.",
            ),
            AtIdp::MayLiveOn => lang.pick(
                "La session ouverte chez votre établissement peut continuer : sur un poste partagé, fermez le navigateur.",
                "The session at your institution may live on: on a shared computer, close the browser.",
            ),
        };
        let paragraphs =
            [lang.pick("Votre session de messagerie est terminée.", "Your mail session has ended."), institution];
        let links = [("/login".to_owned(), lang.pick("Se connecter à nouveau", "Sign in again"))];
        let title = lang.pick("Déconnexion", "Signed out");
        let notice =
            view::Notice { title, paragraphs: &paragraphs, reference, links: &links, ..view::Notice::default() };
        view::notice(StatusCode::OK, lang, &notice)
    }
}

const PENDING_MAX: usize = 5;
const PENDING_SECONDS: u64 = PendingLogout::LIFETIME.as_secs();
