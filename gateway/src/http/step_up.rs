//! Pages that want a fresher or stronger login: who has none is not let through.

use guichet_auth::{
    Identity,
    session::Session,
    step_up::{guard, is_met, is_possible},
};
use guichet_config::{GuardedPath, Tenant};
use http::{HeaderMap, Method, StatusCode};
use pingora::http::RequestHeader;

use super::{
    event,
    lang::Lang,
    login::{can_ask, view},
    page::{Answer, wants_html},
    service, target,
};
use crate::app::{App, Snapshot};

/// The answer to a request for a guarded page by somebody whose login is not fresh or strong enough for it. `session` is
/// absent when credentials came with the request.
pub(crate) fn refuse(
    head: &RequestHeader,
    identity: &Identity,
    session: Option<&Session>,
    app: &App,
    snapshot: &Snapshot,
) -> Option<Answer> {
    let tenant = snapshot.config.tenants.get(&identity.tenant)?;
    let rule = tenant.step_up.as_ref()?;
    // What the cell gets, byte by byte; and its path alone, for a target in absolute form (RFC 9112 §3.2.2).
    let raw = String::from_utf8_lossy(head.raw_path());
    let guarded = guard(rule, &raw).or_else(|| guard(rule, head.uri.path()))?;
    let now = app.clock.now();
    if session.is_some_and(|session| is_met(rule, session, now)) {
        return None;
    }
    let lang = service::lang_of(head);
    let page = wants_html(&head.headers) && !is_scripted(&head.headers);
    let (result, answer) = match session.filter(|session| is_possible(session)) {
        Some(_) if page && matches!(head.method, Method::GET | Method::HEAD) => ("asked", to_step_up(head, guarded)),
        Some(_) if page => ("told", resend(lang, guarded)),
        Some(_) => ("told", told("required")),
        None if page => ("impossible", impossible(lang, tenant, guarded, can_ask(app, tenant))),
        None => ("impossible", told("impossible")),
    };
    event::step_up(&identity.address, &identity.tenant, result);
    Some(answer)
}

/// Whether a script asks: it cannot follow to another site's login page.
fn is_scripted(headers: &HeaderMap) -> bool {
    let fetched = headers.get("sec-fetch-mode").is_some_and(|mode| mode != "navigate");
    fetched || headers.contains_key("x-requested-with")
}

fn to_step_up(head: &RequestHeader, guarded: &GuardedPath) -> Answer {
    let wanted = head.uri.path_and_query().map_or(target::HOME, |path| path.as_str());
    // A target that cannot be kept leads to the guarded part itself, never past it.
    let next = match target::safe(wanted) {
        target::HOME => guarded.as_str(),
        next => next,
    };
    Answer::found(step_up_link(next))
}

/// Where a login for a guarded page begins.
pub(crate) fn step_up_link(next: &str) -> String {
    format!("/login/step-up?next={}", target::encode(next))
}

/// 403 for what is no page: the field says why.
fn told(why: &'static str) -> Answer {
    let said = "This needs a fresher or stronger login at the institution.";
    Answer::text(StatusCode::FORBIDDEN, said).with(STEP_UP, why)
}

/// 403 for a form: its content cannot wait for a login.
fn resend(lang: Lang, guarded: &GuardedPath) -> Answer {
    let paragraphs = [
        lang.pick(
            "Cette page demande que vous vous identifiiez à nouveau auprès de votre établissement.",
            "This page asks you to sign in again at your institution.",
        ),
        lang.pick("Ce que vous avez envoyé n’a pas été pris en compte.", "What you sent was not taken into account."),
    ];
    let links = [(step_up_link(guarded.as_str()), lang.pick("S’identifier à nouveau", "Sign in again"))];
    notice(lang, &paragraphs, "", &links).with(STEP_UP, "required")
}

/// 403 for who came by a password: only the institution can vouch for more.
pub(crate) fn impossible(lang: Lang, tenant: &Tenant, guarded: &GuardedPath, can_ask: bool) -> Answer {
    let first = lang.pick(
        "Cette page demande une connexion auprès de votre établissement. Votre session a été ouverte avec le mot de passe de messagerie, ce qui ne suffit pas ici.",
        "This page asks for a sign-in at your institution. Your session was opened with the mail password, which is not enough here.",
    );
    let contact = tenant.contact.as_deref().unwrap_or_default();
    let answer = if can_ask {
        let next = target::encode(guarded.as_str());
        let link = format!("/login/start?tenant={}&force=idp&next={next}", tenant.id);
        let links = [(link, lang.pick("Se connecter auprès de votre établissement", "Sign in at your institution"))];
        notice(lang, &[first], contact, &links)
    } else {
        notice(lang, &[first, down(lang)], contact, &[])
    };
    answer.with(STEP_UP, "impossible")
}

/// That the IdP is down, in words.
pub(crate) fn down(lang: Lang) -> &'static str {
    lang.pick(
        "La page de connexion de votre établissement ne répond pas en ce moment. Réessayez plus tard ; le reste de votre messagerie fonctionne.",
        "The sign-in page of your institution does not answer at the moment. Please try again later; the rest of your mail works.",
    )
}

fn notice(lang: Lang, paragraphs: &[&str], contact: &str, links: &[(String, &str)]) -> Answer {
    let title = title(lang);
    view::notice(StatusCode::FORBIDDEN, lang, &view::Notice { title, paragraphs, contact, links, ..Default::default() })
}

/// Heading of these pages.
pub(crate) fn title(lang: Lang) -> &'static str {
    lang.pick("Connexion plus sûre demandée", "A stronger sign-in is needed")
}

/// Tells a script why: `required` (a login would help) or `impossible` (this user cannot be asked).
pub(crate) const STEP_UP: &str = "guichet-step-up";
