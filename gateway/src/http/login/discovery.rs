//! The identity provider discovery protocol: our users chosen for elsewhere, and others' users chosen for here.
//!
//! ```text
//! /login ──▶ /login/discovery/start ──▶ federation's service ──▶ /login/discovery ──▶ the tenant's way in
//! another service provider ──▶ /discovery ──choice or memory──▶ its return address
//! ```

use guichet_auth::{
    saml::discovery::{self, Question, QuestionRefusal},
    session::{PendingDiscovery, PendingLogin},
};
use http::StatusCode;

use super::{
    Form, Visit,
    chooser::{Errand, Said},
    institution::{Named, remember},
    reference, view,
};
use crate::http::{cookie, event, page::Answer, target};

impl Visit {
    /// `GET /login/discovery/start`: to the federation's service, which will send the browser back here.
    pub(super) fn ask_federation(&self) -> Answer {
        let config = &self.snapshot.config;
        let (Some(service), Some(saml)) = (&config.discovery.service, &config.saml) else {
            return Answer::text(StatusCode::NOT_FOUND, "There is no discovery service.");
        };
        let handle: String = crate::http::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        let return_to = format!("{}{}?state={handle}", self.host.origin, discovery::RESPONSE_PATH);
        let mut answer = Answer::found(discovery::ask(service, &saml.entity_id, &return_to));
        // Each tab has its own; a browser that piles them up starts over.
        let others = self.cookies_named(cookie::DISCOVERY);
        if others.len() >= PENDING_MAX {
            for name in others {
                answer = answer.with_cookie(cookie::clear(&name));
            }
        }
        let name = format!("{}{handle}", cookie::DISCOVERY);
        let target = target::safe(self.query.field("next")).to_owned();
        let value = self.snapshot.sealer.seal_discovery(&PendingDiscovery { handle, target, issued: self.now });
        let seconds = PendingLogin::LIFETIME.as_secs();
        answer.with_cookie(cookie::set(&name, &value, cookie::SameSite::Lax, Some(seconds)))
    }

    /// `GET /login/discovery`: what the federation's service says. Only this browser's own question counts, and only an
    /// IdP of a tenant.
    pub(super) async fn from_federation(&self) -> Answer {
        let Some(pending) = self.pending_discovery() else {
            event::discovery_returned("no_state");
            return Answer::see_other("/login?choose=1");
        };
        let (next, lang) = (target::safe(&pending.target), self.lang);
        let errand = Errand::Login { next };
        let brought = discovery::brings_back(self.query.pairs());
        let answer = match Named::of(brought.map(|id| self.of_idp(id)).unwrap_or_default()) {
            Named::One(tenant) => {
                event::discovery_returned("chosen");
                event::institution_chosen("discovery");
                self.step(&tenant, next, "", false).await.with_cookie(remember(&tenant.id))
            }
            Named::Several(among) => {
                event::discovery_returned("several");
                self.which(&errand, &among)
            }
            Named::Stranger(_) | Named::Nobody => {
                event::discovery_returned(if brought.is_some() { "unknown" } else { "none" });
                let notice = match brought {
                    Some(_) => lang.pick(
                        "L’établissement choisi n’a pas de messagerie sur ce service.",
                        "The institution you chose has no mailboxes on this service.",
                    ),
                    None => lang.pick("Aucun établissement n’a été choisi.", "No institution was chosen."),
                };
                self.chooser(&errand, &Said { notice, ..Said::default() })
            }
        };
        answer.with_cookie(cookie::clear(&format!("{}{}", cookie::DISCOVERY, pending.handle)))
    }

    /// The choice that this browser went to the federation's service for.
    fn pending_discovery(&self) -> Option<PendingDiscovery> {
        let handle = self.query.only("state")?;
        let legal = handle.len() == 32 && handle.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = self.cookie(&format!("{}{handle}", cookie::DISCOVERY)).filter(|_| legal)?;
        let pending = self.snapshot.sealer.open_discovery(value, self.now).ok()?;
        (pending.handle == handle).then_some(pending)
    }

    /// `GET /discovery`: another service provider asks. A user who may be asked is; one who may not is told by memory.
    pub(super) fn asked(&self) -> Answer {
        let question = match self.question(&self.query) {
            Ok(question) => question,
            Err(answer) => return answer,
        };
        if question.passive() {
            let tenant = self.remembered();
            let idp = tenant.as_ref().and_then(|tenant| tenant.idp.as_ref()).map(|idp| idp.entity_id.as_str());
            event::discovery_asked(&question.client().name, if idp.is_some() { "remembered" } else { "nothing" });
            return Answer::found(question.answer(idp));
        }
        event::discovery_asked(&question.client().name, "shown");
        self.chooser(&Errand::Other(&question), &Said::default())
    }

    /// `POST /discovery`: the user chose.
    pub(super) fn asked_and_chosen(&self, form: &Form) -> Answer {
        let question = match self.question(form) {
            Ok(question) => question,
            Err(answer) => return answer,
        };
        let tenant = self.chosen(form);
        let Some((tenant, idp)) = tenant.as_ref().and_then(|tenant| Some((tenant, tenant.idp.as_ref()?))) else {
            let address = form.field("address").trim();
            let error = match tenant {
                Some(_) => self.lang.pick(
                    "Votre établissement n’a pas de page de connexion pour d’autres services.",
                    "Your institution has no sign-in page for other services.",
                ),
                None => self.no_such_address(),
            };
            return self.chooser(&Errand::Other(&question), &Said { address, error, ..Said::default() });
        };
        event::discovery_asked(&question.client().name, "chosen");
        view::lead_on(self.lang, &question.answer(Some(&idp.entity_id))).with_cookie(remember(&tenant.id))
    }

    /// `GET /discovery/feed.json`: the institutions, for discovery interfaces of others.
    pub(super) fn feed(&self) -> Answer {
        if self.snapshot.config.discovery.clients.is_empty() {
            return self.discovery_is_off();
        }
        Answer::new(StatusCode::OK, "application/json", self.institutions().feed().to_owned()).with_cache("public")
    }

    /// `POST /login/forget`: the browser forgets the institution, and is asked again.
    pub(super) fn forget(&self, form: &Form) -> Answer {
        let next = target::safe(form.field("next"));
        let question = (!form.field("entityID").is_empty()).then(|| self.question(form));
        let link = match &question {
            Some(Ok(question)) => Errand::Other(question).link(),
            _ => Errand::Login { next }.link(),
        };
        Answer::see_other(link + "&choose=1").with_cookie(cookie::clear(cookie::TENANT))
    }

    /// The question in a query or form, or what it is answered with.
    fn question(&self, form: &Form) -> Result<Question<'_>, Answer> {
        let clients = &self.snapshot.config.discovery.clients;
        if clients.is_empty() {
            return Err(self.discovery_is_off());
        }
        Question::read(form.pairs(), clients).map_err(|refusal| self.refused_question(form, refusal))
    }

    fn discovery_is_off(&self) -> Answer {
        Answer::text(StatusCode::NOT_FOUND, "This is no discovery service.")
    }

    /// Never back where it came from: nobody knows whether that is a service at all.
    fn refused_question(&self, form: &Form, refusal: QuestionRefusal) -> Answer {
        let (lang, reference) = (self.lang, reference());
        let (who, return_to) = (form.field("entityID"), form.field("return"));
        event::discovery_refused(self.client.ip(), refusal.kind(), who, return_to, &reference);
        let paragraphs = [
            lang.pick(
                "Le service qui vous envoie ici n’est pas admis à demander quel est votre établissement, ou sa demande est incomplète.",
                "The service that sent you here may not ask which institution is yours, or its request is incomplete.",
            ),
            lang.pick(
                "Revenez à ce service et donnez cette référence à son assistance.",
                "Go back to that service and give this reference to its help desk.",
            ),
        ];
        let title = lang.pick("Demande refusée", "Request refused");
        let notice = view::Notice { title, paragraphs: &paragraphs, reference: &reference, ..view::Notice::default() };
        view::notice(StatusCode::BAD_REQUEST, lang, &notice)
    }
}

/// Choices under way at once in one browser.
const PENDING_MAX: usize = 5;
