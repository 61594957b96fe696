//! From a known institution to the way in that it offers now.

use std::sync::Arc;

use guichet_auth::availability::offers_fallback;
use guichet_config::Tenant;
use http::{Method, StatusCode};

use super::{
    Form, Visit,
    chooser::{Errand, Said},
    institution::{Named, remember},
    view,
};
use crate::http::{event, identity, page::Answer, target};

impl Visit {
    /// `GET /login`: the chooser, or straight on when the institution is known: by the link, by the host, or because it is
    /// the only one.
    pub(super) async fn login(&self) -> Answer {
        let next = self.wanted();
        let choose = !self.query.field("choose").is_empty();
        if !choose && identity::session(&self.head.headers, &self.app, &self.snapshot, self.now).is_some() {
            return Answer::see_other(next);
        }
        let only = || {
            let mut tenants = self.snapshot.config.tenants.values();
            tenants.next().filter(|_| tenants.next().is_none()).cloned()
        };
        let known = || self.tenant_of_host().or_else(only).filter(|_| !choose);
        match self.named() {
            Named::Nobody => self.by_link(known().map_or(Named::Nobody, Named::One), next, false).await,
            named => self.by_link(named, next, false).await,
        }
    }

    /// `GET /login/at/ID`: the short link of a tenant, for portals and help pages.
    pub(super) async fn login_at(&self, id: &str) -> Answer {
        let next = target::safe(self.query.field("next"));
        if identity::session(&self.head.headers, &self.app, &self.snapshot, self.now).is_some() {
            return Answer::see_other(next);
        }
        self.by_link(self.tenant(id).map_or(Named::Nobody, Named::One), next, false).await
    }

    /// `GET /login/start?tenant=…`: a link of our pages, also past a fallback (`force=idp`).
    pub(super) async fn start_from_link(&self) -> Answer {
        let next = target::safe(self.query.field("next"));
        let named = match self.named() {
            Named::Nobody => self.tenant_of_host().map_or(Named::Nobody, Named::One),
            named => named,
        };
        self.by_link(named, next, self.query.field("force") == "idp").await
    }

    async fn by_link(&self, named: Named, next: &str, force_idp: bool) -> Answer {
        let errand = Errand::Login { next };
        match named {
            Named::One(tenant) => {
                event::institution_chosen("link");
                self.step(&tenant, next, self.hinted_address(), force_idp).await
            }
            Named::Several(among) => self.which(&errand, &among),
            Named::Stranger(address) => {
                self.chooser(&errand, &Said { address: &address, error: self.no_such_address(), ..Said::default() })
            }
            Named::Nobody => self.chooser(&errand, &Said::default()),
        }
    }

    /// `POST /login/start`: an address typed, or an institution chosen from the list.
    pub(super) async fn start_from_form(&self, form: Form) -> Answer {
        let next = target::safe(form.field("next"));
        let address = form.field("address").trim();
        match self.chosen(&form) {
            Some(tenant) => {
                event::institution_chosen(if form.field("tenant").is_empty() { "address" } else { "list" });
                let answer = self.step(&tenant, next, address, form.field("force") == "idp").await;
                answer.with_cookie(remember(&tenant.id))
            }
            None => {
                let said = Said { address, error: self.no_such_address(), ..Said::default() };
                self.chooser(&Errand::Login { next }, &said)
            }
        }
    }

    /// The institution that a form of the chooser brings: from its list, or by an address.
    pub(super) fn chosen(&self, form: &Form) -> Option<Arc<Tenant>> {
        match form.field("tenant") {
            "" => self.of_address(form.field("address").trim()),
            id => self.tenant(id),
        }
    }

    /// The chooser for tenants that share an IdP.
    pub(super) fn which(&self, errand: &Errand<'_>, among: &[Arc<Tenant>]) -> Answer {
        let notice = self.lang.pick(
            "Plusieurs établissements ont cette page de connexion. Quel est le vôtre ?",
            "Several institutions have this sign-in page. Which one is yours?",
        );
        self.chooser(errand, &Said { notice, among, ..Said::default() })
    }

    pub(super) fn no_such_address(&self) -> &'static str {
        self.lang.pick(
            "Cette adresse n’appartient à aucun établissement de ce service. Exemple : prenom.nom@universite.fr",
            "This address belongs to no institution of this service. Example: first.last@university.fr",
        )
    }

    /// The way in that a tenant offers now: its IdP, or the directory's password.
    pub(super) async fn step(&self, tenant: &Tenant, next: &str, address: &str, force_idp: bool) -> Answer {
        if tenant.idp.is_none() {
            return self.password_page(StatusCode::OK, tenant, next, address, "");
        }
        if !force_idp && offers_fallback(tenant, self.app.board.state(&tenant.id, self.now)) {
            return self.password_page(StatusCode::OK, tenant, next, address, "");
        }
        self.start_saml(tenant, next).await
    }

    /// The password page of a tenant, telling its IdP's outage when there is one.
    pub(super) fn password_page(
        &self,
        status: StatusCode,
        tenant: &Tenant,
        next: &str,
        address: &str,
        error: &str,
    ) -> Answer {
        let outage = tenant.idp.as_ref().map(|_| {
            let known = self.app.board.list(self.now).into_iter().find(|status| status.tenant == tenant.id);
            let began = known.map_or(self.now, |status| status.trouble_since.unwrap_or(status.since));
            view::Outage::since(began, self.lang)
        });
        view::password(status, self.lang, view::PasswordForm { tenant, outage, next, address, error })
    }

    /// An answer that leads elsewhere: a redirect after a link, a page that leads on after a form.
    ///
    /// Browsers hold `form-action` against the redirects that answer a form, too: with a redirect, the policy of each
    /// page with a form would have to let forms go to every IdP there is.
    pub(super) fn redirect(&self, location: String) -> Answer {
        if self.head.method == Method::POST { view::lead_on(self.lang, &location) } else { Answer::found(location) }
    }
}
