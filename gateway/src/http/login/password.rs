//! `POST /login/password`: the directory's password, as the tenant's login or as the fallback of its IdP.

use guichet_auth::{
    AuthMethod, Decision, DenyReason, UnavailableReason,
    availability::{category_falls_back, offers_fallback},
};
use guichet_config::{Secret, Tenant};
use http::StatusCode;

use super::{Form, Visit, view};
use crate::http::{identity, page::Answer, target};

impl Visit {
    /// Decides a password typed into the page.
    pub(super) async fn password(&self, mut form: Form) -> Answer {
        let password = Secret::new(form.take("password"));
        let address = form.field("address").trim().to_owned();
        let next = target::safe(form.field("next")).to_owned();
        // The page's tenant only gives the page its look; the address decides what is asked of whom.
        let shown = self.tenant(form.field("tenant"));
        let own = self.of_address(&address);
        let Some(tenant) = own.clone().or(shown) else { return self.login().await };

        let mut method = AuthMethod::Password;
        if own.as_ref().is_some_and(|tenant| tenant.idp.is_some()) {
            method = AuthMethod::Fallback;
            if !offers_fallback(&tenant, self.app.board.state(&tenant.id, self.now)) {
                // Up again, or never down: the password is not even looked at.
                return self.step(&tenant, &next, &address, true).await;
            }
        }
        if address.is_empty() || password.expose().is_empty() {
            let error =
                self.lang.pick("Saisissez votre adresse et votre mot de passe.", "Enter your address and password.");
            return self.password_page(StatusCode::UNPROCESSABLE_ENTITY, &tenant, &next, &address, error);
        }
        let outcome = identity::decide(&address, &password, method, self.client, &self.snapshot).await;
        match outcome.decision {
            Decision::Allow(known) if method == AuthMethod::Fallback => {
                // Asked again: the state may have changed while the directory thought.
                let state = self.app.board.state(&known.tenant, self.app.clock.now());
                let tenant = self.snapshot.config.tenants.get(&known.tenant);
                match tenant {
                    Some(tenant) if category_falls_back(tenant, known.category, state) => {
                        self.enter(&known, None, &next)
                    }
                    _ => self.no_fallback(tenant.map(|tenant| &**tenant)),
                }
            }
            Decision::Allow(known) => self.enter(&known, None, &next),
            Decision::Deny(DenyReason::BadCredential | DenyReason::AccountRefused) => {
                let error =
                    self.lang.pick("Adresse ou mot de passe incorrect.", "The address or the password is wrong.");
                self.password_page(StatusCode::FORBIDDEN, &tenant, &next, &address, error)
            }
            Decision::Unavailable(UnavailableReason::Throttled) => {
                let error = self.lang.pick(
                    "Trop d’essais. Attendez quelques minutes avant de recommencer.",
                    "Too many attempts. Please wait a few minutes before trying again.",
                );
                self.password_page(StatusCode::TOO_MANY_REQUESTS, &tenant, &next, &address, error).with_retry_after()
            }
            Decision::Unavailable(_) => {
                let error = self.lang.pick(
                    "La vérification n’est pas possible pour le moment ; votre mot de passe n’est pas en cause. Réessayez plus tard.",
                    "Checking is not possible right now; this is not about your password. Please try again later.",
                );
                self.password_page(StatusCode::SERVICE_UNAVAILABLE, &tenant, &next, &address, error).with_retry_after()
            }
        }
    }

    /// The password was right, but this category may not log in by it.
    fn no_fallback(&self, tenant: Option<&Tenant>) -> Answer {
        let lang = self.lang;
        let said = lang.pick(
            "Votre établissement n’admet pas la connexion par mot de passe de messagerie pour votre compte. Réessayez quand sa page de connexion répondra.",
            "Your institution does not allow signing in with the mail password for your account. Please try again when its sign-in page answers.",
        );
        let contact = tenant.and_then(|tenant| tenant.contact.as_deref()).unwrap_or_default();
        let title = lang.pick("Connexion refusée", "Sign-in refused");
        let notice = view::Notice { title, paragraphs: &[said], contact, ..view::Notice::default() };
        view::notice(StatusCode::FORBIDDEN, lang, &notice)
    }
}
