//! A test login: an operator's link leads to the institution's IdP and back to a page that says, check by check, what the
//! IdP sent and what would come of it. No session is opened. The page is for the one who logged in there: it alone among
//! our pages tells reasons and values.

use std::sync::Arc;

use guichet_auth::{
    Decision,
    saml::{Asked, Check, Expected, IdpMetadata, Outcome, Rehearsal, ServiceProvider, Subject, acs_url, rehearse},
    session::{PendingLogin, SealError},
};
use guichet_config::{Category, Tenant};
use http::StatusCode;

use super::{Visit, refused::Refused, saml::Errand, view};
use crate::{
    http::{event, lang::Lang, page::Answer},
    telemetry::event::IdpStateChanged,
};

impl Visit {
    /// `GET /login/test?ticket=…`: on to the IdP, whatever the board says of it.
    pub(super) async fn start_test(&self) -> Answer {
        let ticket = self.snapshot.sealer.open_ticket(self.query.field("ticket"), self.now);
        let tenant = ticket.map(|ticket| self.snapshot.config.tenants.get(&ticket.tenant).cloned());
        match tenant {
            Ok(Some(tenant)) if tenant.idp.is_some() => {
                let errand = Errand { ask: Self::ask_for(&tenant, "/"), test: true, ..Errand::default() };
                self.send_to_idp(&tenant, "/", errand).await
            }
            Ok(_) => self.no_test(self.lang.pick(
                "L’établissement de ce lien n’a plus de fournisseur d’identité ici.",
                "The institution of this link no longer has an identity provider here.",
            )),
            Err(SealError::Ended) => self.no_test(self.lang.pick(
                "Ce lien de test a expiré : il est valable une heure.",
                "This test link has ended: it is good for an hour.",
            )),
            Err(_) => self.no_test(self.lang.pick(
                "Ce lien de test n’est pas complet, ou n’a pas été créé par ce service.",
                "This test link is not complete, or was not made by this service.",
            )),
        }
    }

    fn no_test(&self, said: &str) -> Answer {
        let lang = self.lang;
        let next = lang.pick("Demandez un nouveau lien à l’exploitant.", "Ask the operator for a new link.");
        let title = lang.pick("Test de connexion", "Test login");
        let notice = view::Notice { title, paragraphs: &[said, next], ..view::Notice::default() };
        view::notice(StatusCode::FORBIDDEN, lang, &notice)
    }

    /// The page of an answer to a test.
    pub(super) async fn tested(
        &self,
        response: String,
        sp: Arc<ServiceProvider>,
        idp: Arc<IdpMetadata>,
        tenant: &Arc<Tenant>,
        pending: &PendingLogin,
    ) -> Result<Answer, Refused> {
        let (tested, clock_skew, now) = (Arc::clone(tenant), self.clock_skew(), self.now);
        let (request_id, ask, issued) = (pending.request_id.clone(), pending.ask.clone(), pending.issued);
        let acs_url = acs_url(&self.host.origin);
        let work = move || {
            let (request_id, acs_url) = (&request_id, &acs_url);
            let asked = Asked::of(&ask, issued);
            let expected = Expected { idp: &idp, request_id, acs_url, tenant: &tested, asked, clock_skew, now };
            rehearse(response.as_bytes(), &sp, &expected)
        };
        let seen = tokio::task::spawn_blocking(work).await;
        let seen = seen.map_err(|_| Refused::ours("panic", "the verifier failed"))?;
        if seen.login.is_some()
            && let Some(state) = self.app.board.on_signed_success(&tenant.id, self.now)
        {
            IdpStateChanged { tenant: &tenant.id, state }.emit();
        }
        let (directory, ends) = self.directory_says(&seen).await;
        let failed = failed(&seen).chain(ends.as_ref().err().copied()).collect::<Vec<_>>();
        event::saml_tested(&tenant.id, self.client.ip(), &failed);
        Ok(view::tested(self.lang, &page(self.lang, tenant, &seen, directory, ends.ok().flatten(), failed.is_empty())))
    }

    /// What the directory makes of a good login, in words; and address and category as a session would have them, or the
    /// kind of the refusal.
    async fn directory_says(&self, seen: &Rehearsal) -> (String, Result<Option<(String, Category)>, &'static str>) {
        let lang = self.lang;
        let said = |fr: &str, en: &str| lang.pick(fr, en).to_owned();
        let Some(login) = &seen.login else {
            return (said("non consulté : une vérification a échoué", "not asked: a check failed"), Ok(None));
        };
        match self.snapshot.authenticator.complete_login(login).await {
            Ok(Decision::Allow(identity)) => (
                said("n’y fait pas obstacle", "does not object"),
                Ok(Some((identity.address.to_string(), identity.category))),
            ),
            Ok(Decision::Deny(_)) => {
                (said("le compte est fermé ou verrouillé", "the account is closed or locked"), Err("account"))
            }
            Ok(Decision::Unavailable(_)) => (said("ne répond pas", "does not answer"), Err("directory")),
            Err(nobody) => (nobody.to_string(), Err(nobody.kind())),
        }
    }
}

fn failed(seen: &Rehearsal) -> impl Iterator<Item = &'static str> {
    seen.inspection.checks.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Failed(refusal) => Some(refusal.kind()),
        Outcome::Passed | Outcome::NotReached => None,
    })
}

fn page(
    lang: Lang,
    tenant: &Tenant,
    seen: &Rehearsal,
    directory: String,
    ends: Option<(String, Category)>,
    good: bool,
) -> view::Tested {
    let sent = seen.subject.as_ref().map(|subject| match subject {
        Subject::Address(address) => address.to_string(),
        Subject::Identifier(identifier) => identifier.value().to_owned(),
    });
    let (address, category) = ends.unzip();
    let category = category.or(seen.category).map(|category| match category {
        Category::Staff => lang.pick("personnel", "staff"),
        Category::Student => lang.pick("étudiant", "student"),
    });
    let checks = seen.inspection.checks.iter().map(|(check, outcome)| {
        let reason = match outcome {
            Outcome::Failed(refusal) => Some((refusal.to_string(), refusal.kind())),
            Outcome::Passed | Outcome::NotReached => None,
        };
        let result = match outcome {
            Outcome::Passed => lang.pick("réussie", "passed"),
            Outcome::Failed(_) => lang.pick("ÉCHEC", "FAILED"),
            Outcome::NotReached => lang.pick("non atteinte", "not reached"),
        };
        view::TestedCheck { name: check_name(lang, *check), result, reason }
    });
    let attributes = seen.inspection.attributes.iter().map(|(name, values)| {
        let known: Option<guichet_config::AttributeName> = name.parse().ok();
        let word = known.as_ref().map(|known| known.known_as()).filter(|word| word != name).unwrap_or_default();
        view::TestedAttribute {
            name: name.chars().take(NAME_CHARS_MAX).collect(),
            word: word.to_owned(),
            values: *values,
        }
    });
    view::Tested {
        good,
        tenant: lang.of(&tenant.name).to_owned(),
        idp: seen.inspection.idp.clone().unwrap_or_default(),
        sent,
        address,
        category,
        directory,
        contexts: seen.contexts.clone(),
        assurance: seen.assurance.clone(),
        checks: checks.collect(),
        attributes: attributes.collect(),
    }
}

/// What is looked at, in the language of the page.
fn check_name(lang: Lang, check: Check) -> &'static str {
    let french = match check {
        Check::Encoding => "codage",
        Check::Document => "document",
        Check::Layout => "structure",
        Check::Issuer => "émetteur",
        Check::SignatureShape => "forme des signatures",
        Check::ResponseSignature => "signature de la réponse",
        Check::Decryption => "déchiffrement",
        Check::Plaintext => "texte déchiffré",
        Check::AssertionSignature => "signature de l’assertion",
        Check::AssertionIssuer => "émetteur de l’assertion",
        Check::Status => "statut",
        Check::Destination => "destination",
        Check::InResponseTo => "requête d’origine",
        Check::ResponseTime => "heure de la réponse",
        Check::AssertionId => "identifiant de l’assertion",
        Check::AssertionTime => "heure de l’assertion",
        Check::Subject => "confirmation du sujet",
        Check::Conditions => "conditions",
        Check::Authentication => "authentification",
        Check::User => "utilisateur",
        Check::Category => "catégorie",
        Check::Requirements => "exigences de l’établissement",
        other => other.as_str(),
    };
    lang.pick(french, check.as_str())
}

/// Names of attributes are an IdP's choice.
const NAME_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_in_each_language() {
        let same = ["document", "destination", "conditions"];
        for check in Check::ALL {
            let (french, english) = (check_name(Lang::Fr, check), check_name(Lang::En, check));
            assert!(french != english || same.contains(&english), "{english} has no French name");
        }
    }
}
