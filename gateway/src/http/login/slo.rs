//! `/saml/slo` and `/saml/slo/soap`: what an IdP says of logouts. Its request ends sessions by their tags, wherever they
//! are; a browser's own cookies need not come along.

use std::sync::Arc;

use guichet_auth::{
    saml::logout::{Asker, Faulted, Kind, LogoutRefusal, LogoutRequest, LogoutStatus, Received, Reply, accept_request},
    session::{LogoutTag, Session as BrowserSession},
    store::{Logout, Store, StoreError},
};
use guichet_config::{Address, Tenant};
use http::{StatusCode, header};

use super::{Form, Visit, logout::AtIdp, reference, view};
use crate::{
    app::Snapshot,
    http::{Session, cookie, event, form, page::Answer},
};

/// Why a logout message came to nothing.
pub(super) struct Unheard {
    /// For the metric.
    pub(super) kind: &'static str,
    /// For the log.
    pub(super) error: String,
}

impl Unheard {
    pub(super) fn new(kind: &'static str, error: impl Into<String>) -> Self {
        Self { kind, error: error.into() }
    }
}

impl From<&LogoutRefusal> for Unheard {
    fn from(refusal: &LogoutRefusal) -> Self {
        Self::new(refusal.kind(), refusal.to_string())
    }
}

/// What became of a LogoutRequest.
struct Heard {
    /// Whose tunnels, tokens and mail are to end.
    users: Vec<Address>,
    /// Mail, too.
    mail: bool,
    /// The session of the browser that brought the request is among those that ended.
    own: bool,
    tenants: Vec<Arc<Tenant>>,
    reply: Option<Reply>,
}

impl Visit {
    /// `GET /saml/slo`.
    pub(super) async fn slo_by_redirect(&self) -> Answer {
        // As received: the signature is over these octets.
        let query = self.head.uri.query().unwrap_or_default();
        let received = Received::by_redirect(query);
        match received.as_ref().ok().and_then(|received| self.asked_from(received)) {
            Some(origin) => Answer::found(format!("{origin}/saml/slo?{query}")),
            None => self.slo(received).await,
        }
    }

    /// The origin of the host on which a logout began, when its answer came to another: the IdP knows one address of ours,
    /// the browser's cookies are that host's. It is one of ours, whatever the answer says.
    fn asked_from(&self, received: &Received) -> Option<&str> {
        let state = received.relay_state().filter(|_| received.kind() == Kind::Response)?;
        let host = self.snapshot.config.hosts.named(state.split_once('.')?.1)?;
        (host.hostname != self.host.hostname).then_some(&host.origin)
    }

    /// `POST /saml/slo`.
    pub(super) async fn slo_by_post(&self, form: Form) -> Answer {
        let field = |name: &str| form.field(name);
        self.slo(Received::by_post(field("SAMLRequest"), field("SAMLResponse"), field("RelayState"))).await
    }

    /// `POST /saml/slo/soap`.
    pub(super) async fn slo_by_soap(&self, session: &mut Session) -> Answer {
        // Read first: an answer that overtakes the message is lost with it.
        let body = form::body(session, SOAP_BYTES_MAX).await;
        let kind = self.head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        match body {
            // SOAP 1.1 §6; no page of another site can send it unasked.
            Ok(_) if !kind.eq_ignore_ascii_case(b"text/xml") => {
                Answer::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "text/xml is expected.")
            }
            Ok(body) => self.slo(Received::by_soap(&body)).await,
            Err(form::BodyError::TooLarge) => Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "The message is too large."),
            Err(_) => Answer::text(StatusCode::BAD_REQUEST, "The message did not arrive."),
        }
    }

    async fn slo(&self, received: Result<Received, LogoutRefusal>) -> Answer {
        let soap = self.head.uri.path().ends_with("/soap");
        match received {
            Ok(received) if received.kind() == Kind::Response => self.idp_answers(received).await,
            Ok(received) => match self.idp_asks(received).await {
                Ok(answer) => answer,
                Err(unheard) => self.unheard(&unheard, soap),
            },
            Err(refusal) => self.unheard(&Unheard::from(&refusal), soap),
        }
    }

    /// The IdP's LogoutRequest.
    async fn idp_asks(&self, received: Received) -> Result<Answer, Unheard> {
        let channel = received.channel();
        let own =
            self.cookie(cookie::SESSION).and_then(|value| self.snapshot.sealer.open_session(value, self.now).ok());
        let work = Work {
            snapshot: Arc::clone(&self.snapshot),
            store: Arc::clone(&self.app.store),
            own,
            clock_skew: self.clock_skew(),
            now: self.now,
        };
        let app = Arc::clone(&self.app);
        let heard =
            tokio::task::spawn_blocking(move || work.hear(&received, &|tags: &[LogoutTag]| app.tagged.users(tags)));
        let heard = match heard.await.map_err(|_| Unheard::new("panic", "the verifier failed"))? {
            Ok(heard) => heard,
            // An IdP that signed is told that we refuse; the operator why.
            Err((unheard, Some(reply))) => {
                event::logout_refused(self.client.ip(), unheard.kind, &unheard.error, &reference());
                return Ok(self.reply(reply));
            }
            Err((unheard, None)) => return Err(unheard),
        };
        for user in &heard.users {
            self.end_what_is_open(user, heard.mail).await;
        }
        for tenant in &heard.tenants {
            event::logout_received(&tenant.id, channel, heard.users.len());
        }
        let answer = match heard.reply {
            Some(reply) => self.reply(reply),
            // It takes no answers by a browser.
            None => self.signed_out(AtIdp::MayLiveOn, ""),
        };
        Ok(if heard.own { self.without_session(answer) } else { answer })
    }

    /// Sends the answer where the metadata says: never where a message says.
    fn reply(&self, reply: Reply) -> Answer {
        match reply {
            Reply::Redirect { url } => self.go_on(url),
            Reply::Post { action, saml_response, relay_state } => {
                view::post_logout(self.lang, &action, ("SAMLResponse", &saml_response), &relay_state)
            }
            Reply::Soap { body } => Answer::new(StatusCode::OK, "text/xml; charset=utf-8", body),
        }
    }

    /// Nobody whom we know said it: a page with a reference, or a line for a program.
    fn unheard(&self, unheard: &Unheard, soap: bool) -> Answer {
        let reference = reference();
        event::logout_refused(self.client.ip(), unheard.kind, &unheard.error, &reference);
        if soap {
            return Answer::text(StatusCode::BAD_REQUEST, &format!("The message is refused. Reference: {reference}"));
        }
        let lang = self.lang;
        let said = lang.pick(
            "La demande de déconnexion n’a pas pu être acceptée. Pour vous déconnecter de la messagerie, utilisez le lien ci-dessous.",
            "The request to sign you out could not be accepted. To sign out of the mail service, use the link below.",
        );
        let links = [("/logout".to_owned(), lang.pick("Se déconnecter", "Sign out"))];
        let title = lang.pick("Déconnexion refusée", "Sign-out refused");
        let notice = view::Notice {
            title,
            paragraphs: &[said],
            reference: &reference,
            links: &links,
            ..view::Notice::default()
        };
        view::notice(StatusCode::FORBIDDEN, lang, &notice)
    }
}

/// What is done off the network threads.
struct Work {
    snapshot: Arc<Snapshot>,
    store: Arc<Store>,
    /// Of the browser that brought the message.
    own: Option<Arc<BrowserSession>>,
    clock_skew: std::time::Duration,
    now: guichet_auth::WallTime,
}

type NotHeard = (Unheard, Option<Reply>);

impl Work {
    /// Verifies the request, marks it used, writes its tags to the ledger and makes the answer. `users`: whose tags are.
    fn hear(&self, received: &Received, users: &dyn Fn(&[LogoutTag]) -> Vec<Address>) -> Result<Heard, NotHeard> {
        let Snapshot { config, idps, sp: Some(sp), .. } = &*self.snapshot else {
            return Err((Unheard::new("issuer", "no tenant has an identity provider"), None));
        };
        let of_idp = |entity_id: &str| -> Vec<Arc<Tenant>> {
            let is_of = |tenant: &&Arc<Tenant>| tenant.idp.as_ref().is_some_and(|idp| idp.entity_id == entity_id);
            config.tenants.values().filter(is_of).cloned().collect()
        };
        let known = |entity_id: &str| idps.idp(entity_id).filter(|_| !of_idp(entity_id).is_empty());
        let request = accept_request(received, sp, &known, self.clock_skew, self.now)
            .map_err(|Faulted { refusal, asker }| self.refused(received, &refusal, asker.as_ref()))?;
        let failed = |error: &StoreError| {
            let reply = self.reply(received, request.asker(), LogoutStatus::Failed);
            (Unheard::new("store", crate::telemetry::chain(error)), reply)
        };
        match self.store.mark_once("saml logout", &request.replay_id(), request.replay_until(), self.now) {
            Ok(true) => {}
            Ok(false) => return Err(self.refused(received, &LogoutRefusal::Replay, Some(request.asker()))),
            Err(error) => return Err(failed(&error)),
        }
        let tenants = of_idp(&request.asker().idp.entity_id);
        let tags = self.tags(&request, sp.entity_id());
        let logout =
            Logout { before: self.now, asserted: request.issued(), until: self.now.plus(config.session.lifetime) };
        for tenant in &tenants {
            self.store.log_out(&tenant.id, &tags, &logout).map_err(|error| failed(&error))?;
        }
        let own = self.own.as_ref().filter(|own| self.store.revoked(own));
        let mut users = users(&tags);
        if let Some(own) = own.filter(|own| !users.contains(&own.address)) {
            users.push(own.address.clone());
        }
        let mail = tenants.iter().any(|tenant| tenant.idp.as_ref().is_some_and(|idp| idp.logout_ends_mail));
        // Sessions end by their tags. Mail ends by its user, whom this node may not know.
        let status = if mail && users.is_empty() { LogoutStatus::Partly } else { LogoutStatus::Ended };
        let reply = self.reply(received, request.asker(), status);
        Ok(Heard { users, mail, own: own.is_some(), tenants, reply })
    }

    fn tags(&self, request: &LogoutRequest, sp: &str) -> Vec<LogoutTag> {
        let lifetime = self.snapshot.config.session.lifetime;
        let (idp, name) = (&request.asker().idp.entity_id, request.name());
        self.snapshot.sealer.meant_tags(idp, sp, name, request.session_indexes(), lifetime)
    }

    fn refused(&self, received: &Received, refusal: &LogoutRefusal, asker: Option<&Asker>) -> NotHeard {
        let reply = asker.and_then(|asker| self.reply(received, asker, LogoutStatus::Refused));
        (Unheard::from(refusal), reply)
    }

    /// The answer; none when it cannot be signed, which the log tells.
    fn reply(&self, received: &Received, asker: &Asker, status: LogoutStatus) -> Option<Reply> {
        let sp = self.snapshot.sp.as_ref()?;
        // Bindings §3.4.3: 80 bytes at most. What is longer is none of the binding's, and not worth a session that lives on.
        let relay_state =
            received.relay_state().filter(|state| state.len() <= RELAY_STATE_BYTES_MAX).unwrap_or_default();
        sp.logout_response(asker, status, received.channel(), relay_state, self.now).unwrap_or_else(|error| {
            event::trouble("logout", &error.to_string(), "");
            None
        })
    }
}

/// Bindings §3.4.3.
pub(super) const RELAY_STATE_BYTES_MAX: usize = 80;
/// A message of 64 KiB.
const SOAP_BYTES_MAX: usize = 64 * 1024;
