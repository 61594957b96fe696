//! Which institution, and which way in it offers now.

use guichet_auth::availability::offers_fallback;
use guichet_config::{Address, Domain, Tenant};
use http::{Method, StatusCode};

use super::{Form, Visit, view};
use crate::http::{cookie, identity, page::Answer, target};

impl Visit {
    /// `GET /login`: the chooser, or straight on when the institution is known: by the link, by the host, or because it is
    /// the only one.
    pub(super) async fn login(&self) -> Answer {
        let next = target::safe(self.query.field("next"));
        let choose = !self.query.field("choose").is_empty();
        if !choose && identity::session(&self.head.headers, &self.app, &self.snapshot, self.now).is_some() {
            return Answer::see_other(next);
        }
        let only = || {
            let mut tenants = self.snapshot.config.tenants.values();
            tenants.next().filter(|_| tenants.next().is_none()).cloned()
        };
        let hinted = self.tenant(self.query.field("tenant")).or_else(|| self.of_idp(self.query.field("idp")));
        match hinted.or_else(|| self.tenant_of_host().or_else(only).filter(|_| !choose)) {
            Some(tenant) => self.step(&tenant, next, "", false).await,
            None => self.chooser(next, "", ""),
        }
    }

    /// `GET /login/start?tenant=…`: a link of our pages, also past a fallback (`force=idp`).
    pub(super) async fn start_from_link(&self) -> Answer {
        let next = target::safe(self.query.field("next"));
        let hinted = self.tenant(self.query.field("tenant")).or_else(|| self.of_idp(self.query.field("idp")));
        match hinted.or_else(|| self.tenant_of_host()) {
            Some(tenant) => self.step(&tenant, next, "", self.query.field("force") == "idp").await,
            None => self.chooser(next, "", ""),
        }
    }

    /// `POST /login/start`: an address typed, or an institution chosen from the list.
    pub(super) async fn start_from_form(&self, form: Form) -> Answer {
        let next = target::safe(form.field("next"));
        let address = form.field("address").trim();
        let tenant =
            if form.field("tenant").is_empty() { self.of_address(address) } else { self.tenant(form.field("tenant")) };
        match tenant {
            Some(tenant) => {
                let answer = self.step(&tenant, next, address, form.field("force") == "idp").await;
                let remember =
                    cookie::set(cookie::TENANT, tenant.id.as_str(), cookie::SameSite::Lax, Some(super::YEAR));
                answer.with_cookie(remember)
            }
            None => {
                let error = self.lang.pick(
                    "Cette adresse n’appartient à aucun établissement de ce service. Exemple : prenom.nom@universite.fr",
                    "This address belongs to no institution of this service. Example: first.last@university.fr",
                );
                self.chooser(next, address, error)
            }
        }
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
        let form = view::PasswordForm { tenant, outage, next, address, error };
        // Once the IdP is back, the form leads there.
        view::password(status, self.lang, form, &self.form_action())
    }

    fn chooser(&self, next: &str, address: &str, error: &str) -> Answer {
        let remembered = self.cookie(cookie::TENANT).and_then(|id| self.tenant(id));
        let choice = |tenant: &Tenant| view::Choice {
            id: tenant.id.as_str().to_owned(),
            name: self.lang.of(&tenant.name).to_owned(),
            chosen: remembered.as_ref().is_some_and(|known| known.id == tenant.id),
        };
        let mut tenants: Vec<_> = self.snapshot.config.tenants.values().map(|tenant| choice(tenant)).collect();
        tenants.sort_by_cached_key(|tenant| tenant.name.to_lowercase());
        let remembered = remembered.as_ref().map(|tenant| choice(tenant));
        let setup = self.snapshot.config.setup.enabled;
        view::chooser(self.lang, tenants, remembered, (next, address, error), &self.form_action(), setup)
    }

    /// Where our forms may lead: browsers hold `form-action` against the redirect to an IdP, too.
    pub(super) fn form_action(&self) -> String {
        let mut origins = vec!["'self'".to_owned()];
        for tenant in self.snapshot.config.tenants.values() {
            let idp = tenant.idp.as_ref().and_then(|idp| self.snapshot.idps.idp(&idp.entity_id));
            let Some(idp) = idp else { continue };
            for url in [&idp.sso_redirect, &idp.sso_post].into_iter().flatten() {
                let Ok(url) = url::Url::parse(url) else { continue };
                // Every https IdP by one word: the list of hundreds would not fit a field.
                let origin =
                    if url.scheme() == "https" { "https:".to_owned() } else { url.origin().ascii_serialization() };
                if origins.len() < ORIGINS_MAX && !origins.contains(&origin) {
                    origins.push(origin);
                }
            }
        }
        origins.join(" ")
    }

    /// The tenant of a typed address, by its domain.
    pub(super) fn of_address(&self, address: &str) -> Option<std::sync::Arc<Tenant>> {
        let domain: Domain = address.parse::<Address>().ok()?.domain().parse().ok()?;
        let id = self.snapshot.config.domains.get(&domain)?;
        self.snapshot.config.tenants.get(id).cloned()
    }

    fn of_idp(&self, entity_id: &str) -> Option<std::sync::Arc<Tenant>> {
        let known = |tenant: &&std::sync::Arc<Tenant>| {
            tenant.idp.as_ref().is_some_and(|idp| !entity_id.is_empty() && idp.entity_id == entity_id)
        };
        self.snapshot.config.tenants.values().find(known).cloned()
    }

    /// An answer that leads elsewhere: 303 after a form, 302 after a link.
    pub(super) fn redirect(&self, location: String) -> Answer {
        if self.head.method == Method::POST { Answer::see_other(location) } else { Answer::found(location) }
    }
}

/// Origins in one `form-action`.
const ORIGINS_MAX: usize = 16;
