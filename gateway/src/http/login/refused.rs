//! A Response that led to no session: the page for the user, the exact reason for operators.
//!
//! The page says what the user can do, whom to turn to and with which reference; of the reason no more than it takes for
//! that: which attribute the institution has to release, by its name. A value is never repeated.

use guichet_auth::{
    Unidentified,
    saml::{ErrorCode, ErrorReport, IdpMetadata, Refusal, fill_error_url, metadata::ContactKind},
};
use guichet_config::{AttributeName, IdpOfTenant, Tenant};
use http::StatusCode;

use super::{Visit, reference, view};
use crate::http::{event, lang::Lang, page::Answer};

/// Why a Response led to no session.
#[derive(Debug)]
pub(super) struct Refused {
    kind: &'static str,
    error: String,
    matter: Matter,
    code: ErrorCode,
}

/// What the user has to do with it.
#[derive(Debug)]
enum Matter {
    /// Something of ours failed: try later.
    Ours,
    /// This browser waits for no such login.
    Browser,
    /// The time is over, or has not come.
    Clock,
    /// The Response was used before.
    Again,
    /// The institution's page did not let the user through.
    NotThrough,
    /// The institution did not do what was asked of the login.
    Weak,
    /// The answer to a step-up is another user's.
    OtherUser,
    /// None of these names the user.
    Unnamed(Vec<AttributeName>),
    /// This does not say that the user is of the tenant.
    Outside(AttributeName),
    /// There is no mailbox for the user.
    NoMailbox,
    /// The tenant is not served any longer.
    Gone,
    /// The Response itself.
    Response,
}

impl Refused {
    /// Something of ours.
    pub(super) fn ours(kind: &'static str, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), matter: Matter::Ours, code: ErrorCode::Other }
    }

    /// The browser has no such login under way.
    pub(super) fn browser(kind: &'static str, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), matter: Matter::Browser, code: ErrorCode::Other }
    }

    pub(super) fn tenant_gone() -> Self {
        let error = "the tenant is no longer configured".to_owned();
        Self { kind: "tenant_gone", error, matter: Matter::Gone, code: ErrorCode::Other }
    }

    pub(super) fn replay() -> Self {
        let error = "the response was used before".to_owned();
        Self { kind: "replay", error, matter: Matter::Again, code: ErrorCode::Other }
    }

    pub(super) fn account(error: impl Into<String>) -> Self {
        Self { kind: "account", error: error.into(), matter: Matter::NoMailbox, code: ErrorCode::Authorization }
    }

    /// A step-up is for the user of the session.
    pub(super) fn other_user() -> Self {
        let error = "another user than the session's logged in".to_owned();
        Self { kind: "step_up_user", error, matter: Matter::OtherUser, code: ErrorCode::Authentication }
    }

    pub(super) fn unidentified(nobody: Unidentified) -> Self {
        Self { kind: nobody.kind(), ..Self::account(nobody.to_string()) }
    }

    /// The consumer's word.
    pub(super) fn response(refusal: &Refusal, wanted: Option<&IdpOfTenant>) -> Self {
        let matter = match refusal {
            Refusal::Scope
            | Refusal::Domain
            | Refusal::AddressMissing
            | Refusal::IdentifierMissing
            | Refusal::Identifier => Matter::Unnamed(wanted.map(naming).unwrap_or_default()),
            Refusal::Requirement { attribute, .. } => Matter::Outside(attribute.clone()),
            Refusal::Expired | Refusal::NotYetValid => Matter::Clock,
            Refusal::AuthnContext | Refusal::Status { code: "NoAuthnContext", .. } => Matter::Weak,
            Refusal::Status { .. } => Matter::NotThrough,
            _ => Matter::Response,
        };
        Self { kind: refusal.kind(), error: refusal.to_string(), matter, code: refusal.error_code() }
    }

    /// Names of attributes that the institution has to look at.
    fn attributes(&self) -> Vec<&str> {
        match &self.matter {
            Matter::Unnamed(names) => names.iter().map(AttributeName::known_as).collect(),
            Matter::Outside(name) => vec![name.known_as()],
            _ => Vec::new(),
        }
    }

    /// What happened, and what to do next.
    fn advice(&self, lang: Lang) -> [&'static str; 2] {
        let again = lang.pick(
            "Recommencez la connexion. Si cela se répète, donnez la référence ci-dessous à l’assistance.",
            "Start signing in again. If this happens again, give the reference below to the help desk.",
        );
        match self.matter {
            Matter::Ours | Matter::Response => [
                lang.pick(
                    "La réponse de votre établissement n’a pas pu être acceptée.",
                    "The answer of your institution could not be accepted.",
                ),
                again,
            ],
            Matter::Browser => [
                lang.pick(
                    "Cette connexion a expiré ou a été commencée dans un autre navigateur.",
                    "This sign-in has expired or was started in another browser.",
                ),
                lang.pick(
                    "Vérifiez que votre navigateur accepte les cookies de ce site, puis recommencez depuis le lien \
                     ci-dessous, et non depuis un favori ou avec le bouton « Précédent ».",
                    "Check that your browser accepts cookies from this site, then start again by the link below, not by a \
                     bookmark or the Back button.",
                ),
            ],
            Matter::Clock => [
                lang.pick(
                    "La réponse de votre établissement n’est pas valable à cette heure : la page de connexion est restée \
                     ouverte trop longtemps, ou une horloge n’est pas à l’heure.",
                    "The answer of your institution is not valid at this time: the sign-in page was left open too long, or \
                     a clock is wrong.",
                ),
                again,
            ],
            Matter::Again => [
                lang.pick("Cette réponse a déjà servi une fois.", "This answer was used once already."),
                lang.pick(
                    "Recommencez la connexion depuis le lien ci-dessous, sans recharger la page.",
                    "Start signing in again by the link below, without reloading the page.",
                ),
            ],
            Matter::NotThrough => [
                lang.pick(
                    "La page de connexion de votre établissement n’a pas abouti.",
                    "The sign-in page of your institution did not complete.",
                ),
                again,
            ],
            Matter::Weak => [
                lang.pick(
                    "Votre établissement n’a pas pu faire la vérification demandée, par exemple un second facteur.",
                    "Your institution could not do the check that was asked for, such as a second factor.",
                ),
                lang.pick(
                    "Vérifiez auprès de l’assistance que votre second facteur est enregistré dans votre établissement, puis \
                     recommencez.",
                    "Check with the help desk that your second factor is registered at your institution, then start again.",
                ),
            ],
            Matter::OtherUser => [
                lang.pick(
                    "La personne identifiée par votre établissement n’est pas celle de la session ouverte.",
                    "The person your institution signed in is not the one of the open session.",
                ),
                lang.pick(
                    "La session ouverte reste telle quelle. Pour changer de personne, déconnectez-vous d’abord.",
                    "The open session stays as it was. To change to another person, sign out first.",
                ),
            ],
            Matter::Unnamed(_) => [
                lang.pick(
                    "Votre établissement vous a reconnu, mais ne nous a pas transmis de valeur utilisable qui désigne votre \
                     messagerie.",
                    "Your institution knows you, but sent us no usable value that names your mailbox.",
                ),
                lang.pick(
                    "Transmettez cette page à l’assistance de votre établissement : elle peut faire transmettre l’attribut à \
                     ce service. Recommencer n’y changera rien d’ici là.",
                    "Send this page to the help desk of your institution: they can have the attribute released to this \
                     service. Starting again will not help until then.",
                ),
            ],
            Matter::Outside(_) => [
                lang.pick(
                    "Votre établissement vous a reconnu, mais ce qu’il nous transmet ne vous donne pas accès à cette \
                     messagerie.",
                    "Your institution knows you, but what it sends us does not give you access to this mail service.",
                ),
                lang.pick(
                    "Si vous relevez d’un autre établissement, choisissez-le ci-dessous. Sinon, transmettez cette page à \
                     l’assistance.",
                    "If you belong to another institution, choose it below. If not, send this page to the help desk.",
                ),
            ],
            Matter::NoMailbox => [
                lang.pick(
                    "Votre établissement vous a reconnu, mais aucune messagerie active ne correspond à votre compte.",
                    "Your institution knows you, but no active mailbox belongs to your account.",
                ),
                lang.pick(
                    "Demandez à l’assistance de créer ou de rouvrir votre messagerie, avec la référence ci-dessous.",
                    "Ask the help desk to create or reopen your mailbox, with the reference below.",
                ),
            ],
            Matter::Gone => [
                lang.pick(
                    "Cet établissement n’est plus servi ici.",
                    "This institution is no longer served here.",
                ),
                lang.pick("Choisissez votre établissement à nouveau.", "Choose your institution again."),
            ],
        }
    }
}

impl Visit {
    /// The page of a refused Response.
    pub(super) fn refused(&self, tenant: Option<&Tenant>, refused: &Refused) -> Answer {
        let lang = self.lang;
        let reference = reference();
        event::saml_refused(
            tenant.map(|tenant| &tenant.id),
            self.client.ip(),
            refused.kind,
            &refused.error,
            &reference,
        );
        if matches!(refused.matter, Matter::Ours) {
            return self.trouble(&reference);
        }
        let idp = tenant.and_then(|tenant| tenant.idp.as_ref()).and_then(|idp| self.snapshot.idps.idp(&idp.entity_id));
        let next = match tenant {
            Some(tenant) => format!("/login?tenant={}", tenant.id),
            None => "/login".to_owned(),
        };
        let mut links = vec![(next, lang.pick("Recommencer la connexion", "Start signing in again"))];
        if matches!(refused.matter, Matter::Outside(_) | Matter::Gone) {
            links.push((
                "/login?choose=1".to_owned(),
                lang.pick("Changer d’établissement", "Choose another institution"),
            ));
        }
        let help = idp.as_deref().and_then(|idp| self.error_url(idp, refused, &reference));
        links.extend(
            help.map(|url| (url, lang.pick("Page d’aide de votre établissement", "Help page of your institution"))),
        );
        let attributes = refused.attributes();
        let label = match refused.matter {
            Matter::Unnamed(_) if attributes.len() > 1 => {
                lang.pick("Il faut l’un de ces attributs :", "One of these attributes is needed:")
            }
            _ => lang.pick("Attribut concerné :", "Attribute concerned:"),
        };
        let notice = view::Notice {
            title: lang.pick("Connexion refusée", "Sign-in refused"),
            paragraphs: &refused.advice(lang),
            attributes: view::Named { label, names: &attributes },
            reference: &reference,
            contact: tenant.and_then(|tenant| contact(tenant, idp.as_deref())).unwrap_or_default(),
            links: &links,
        };
        view::notice(StatusCode::FORBIDDEN, lang, &notice)
    }

    /// The institution's own page about what went wrong, when its metadata names one.
    fn error_url(&self, idp: &IdpMetadata, refused: &Refused, reference: &str) -> Option<String> {
        let sp = self.snapshot.sp.as_deref()?;
        let context = refused.attributes().join(" ");
        let report = ErrorReport { code: refused.code, at: self.now, sp: sp.entity_id(), reference, context: &context };
        idp.error_url.as_deref().map(|url| fill_error_url(url, &report))
    }
}

/// Attributes by which a tenant's users are named.
fn naming(wanted: &IdpOfTenant) -> Vec<AttributeName> {
    match &wanted.identifier {
        Some(source) => vec![source.attribute.clone()],
        None => wanted.address_attributes.clone(),
    }
}

/// Whom to ask: the tenant's help desk, else the one its IdP has in the metadata.
fn contact<'a>(tenant: &'a Tenant, idp: Option<&'a IdpMetadata>) -> Option<&'a str> {
    let registered = |kind| {
        let contacts = idp.into_iter().flat_map(|idp| &idp.contacts);
        contacts.into_iter().find(|contact| contact.kind == kind).map(|contact| contact.address.as_str())
    };
    tenant
        .contact
        .as_deref()
        .or_else(|| registered(ContactKind::Support))
        .or_else(|| registered(ContactKind::Technical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_decides_the_page_and_the_code() {
        let idp = IdpOfTenant::new("https://idp.example");
        let attribute: AttributeName = "supannEtablissement".parse().unwrap();
        for (refusal, code, attributes) in [
            (Refusal::AddressMissing, ErrorCode::Identification, &["mail", "eduPersonPrincipalName"][..]),
            (Refusal::Scope, ErrorCode::Identification, &["mail", "eduPersonPrincipalName"]),
            (Refusal::Requirement { attribute, released: true }, ErrorCode::Authorization, &["supannEtablissement"]),
            (Refusal::Status { code: "NoAuthnContext", signed: true }, ErrorCode::Authentication, &[]),
            (Refusal::SignatureInvalid, ErrorCode::Other, &[]),
        ] {
            let refused = Refused::response(&refusal, Some(&idp));
            assert_eq!((refused.code, refused.attributes().as_slice()), (code, attributes), "{refusal}");
        }
        assert_eq!(Refused::account("x").code, ErrorCode::Authorization);
        assert_eq!(Refused::unidentified(Unidentified::Unknown).kind, "identifier_unknown");
    }

    #[test]
    fn every_page_says_what_to_do_next_in_both_languages() {
        let matters = [
            Matter::Browser,
            Matter::Clock,
            Matter::Again,
            Matter::NotThrough,
            Matter::Weak,
            Matter::OtherUser,
            Matter::Unnamed(Vec::new()),
            Matter::Outside(AttributeName::MAIL),
            Matter::NoMailbox,
            Matter::Gone,
            Matter::Response,
        ];
        let mut said = std::collections::HashSet::new();
        for matter in matters {
            let refused = Refused { kind: "x", error: String::new(), matter, code: ErrorCode::Other };
            for lang in [Lang::Fr, Lang::En] {
                let [what, next] = refused.advice(lang);
                assert!(said.insert(what), "{what} is said of two matters");
                assert!(!next.is_empty());
            }
        }
    }
}
