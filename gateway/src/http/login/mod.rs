//! Our own paths: choosing an institution, logging in there or by the directory, logging out.
//!
//! ```text
//! /login ──address, list or link──▶ /login/start ──▶ IdP ──▶ /saml/acs ──▶ session
//!                                        │ no IdP, or IdP down and fallback allowed
//!                                        └──▶ password page ──▶ /login/password ──▶ session
//! a guarded page ──▶ /login/step-up ──▶ IdP ──▶ /saml/acs ──▶ a session in the place of the other
//! ```

mod chooser;
mod discovery;
mod institution;
mod password;
mod refused;
mod saml;
mod step_up;
mod test;
pub(crate) mod view;
mod way;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use guichet_auth::{
    Identity, WallTime,
    saml::{Login, discovery::RESPONSE_PATH},
    session::Session as BrowserSession,
};
use guichet_config::{Host, Tenant, TenantId};
use http::{Method, StatusCode, header};
use pingora::{Result, http::RequestHeader};

pub(crate) use self::step_up::can_ask;
use super::{
    Session, cookie, event,
    form::{self, BodyError, Form},
    identity,
    lang::Lang,
    page::Answer,
    service, target,
};
use crate::{
    app::{App, Snapshot},
    mail::{Selector, Traffic},
};

/// One request for one of our pages.
pub(crate) struct Visit {
    app: Arc<App>,
    snapshot: Arc<Snapshot>,
    /// By which of our names the browser came.
    host: Arc<Host>,
    client: SocketAddr,
    head: RequestHeader,
    query: Form,
    lang: Lang,
    now: WallTime,
}

/// Whether a path is ours and never reaches a cell.
pub(crate) fn is_own(path: &str) -> bool {
    matches!(
        path,
        "/login"
            | "/login/start"
            | "/login/password"
            | "/login/forget"
            | "/login/step-up"
            | "/login/test"
            | RESPONSE_PATH
            | ASK_FEDERATION
            | DISCOVERY
            | DISCOVERY_FEED
            | "/logout"
            | "/saml/acs"
            | "/saml/ecp"
            | "/saml/metadata"
    ) || path.starts_with(LOGIN_AT)
}

/// Answers a request for one of our paths.
pub(crate) async fn answer(
    session: &mut Session,
    client: SocketAddr,
    app: &Arc<App>,
    snapshot: &Arc<Snapshot>,
    host: &Arc<Host>,
) -> Result<Answer> {
    let head = session.req_header().clone();
    let visit = Visit {
        app: Arc::clone(app),
        snapshot: Arc::clone(snapshot),
        host: Arc::clone(host),
        client,
        query: Form::parse(head.uri.query().unwrap_or_default().as_bytes()),
        lang: service::lang_of(&head),
        now: app.clock.now(),
        head,
    };
    let reads = matches!(visit.head.method, Method::GET | Method::HEAD);
    let posts = visit.head.method == Method::POST;
    let path = visit.head.uri.path();
    let answer = match path {
        "/login" if reads => visit.login().await,
        "/login/start" if reads => visit.start_from_link().await,
        "/login/step-up" if reads => visit.step_up().await,
        "/login/test" if reads => visit.start_test().await,
        RESPONSE_PATH if reads => visit.from_federation().await,
        ASK_FEDERATION if reads => visit.ask_federation(),
        DISCOVERY if reads => visit.asked(),
        DISCOVERY_FEED if reads => visit.feed(),
        path if reads && path.starts_with(LOGIN_AT) => {
            visit.login_at(path.get(LOGIN_AT.len()..).unwrap_or_default()).await
        }
        "/saml/metadata" if reads => visit.metadata(),
        // Names us towards IdPs; we are the client of that profile ourselves, and nobody posts to it.
        "/saml/ecp" => Answer::text(StatusCode::NOT_FOUND, "Nothing is taken here."),
        "/logout" if reads => visit.logout().await,
        "/login/start" | "/login/password" | "/login/forget" | DISCOVERY | "/logout" | "/saml/acs" if posts => {
            let bytes_max = if path == "/saml/acs" { ACS_BYTES_MAX } else { FORM_BYTES_MAX };
            if path != "/saml/acs" && !is_same_origin(&visit.head, &visit.host.origin) {
                return Ok(visit.foreign_form());
            }
            match (path, form::read(session, bytes_max).await) {
                ("/logout", Ok(_) | Err(BodyError::WrongType)) => visit.logout().await,
                (_, Err(error)) => visit.bad_body(error),
                ("/login/start", Ok(form)) => visit.start_from_form(form).await,
                ("/login/password", Ok(form)) => visit.password(form).await,
                ("/login/forget", Ok(form)) => visit.forget(&form),
                (DISCOVERY, Ok(form)) => visit.asked_and_chosen(&form),
                (_, Ok(form)) => visit.consume(form).await,
            }
        }
        path => {
            let allow = match path {
                "/login/start" | "/logout" | DISCOVERY => "GET, HEAD, POST",
                "/login/password" | "/login/forget" | "/saml/acs" => "POST",
                _ => "GET, HEAD",
            };
            Answer::text(StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed.").with("allow", allow)
        }
    };
    Ok(if Lang::named(visit.query.field("lang")).is_some() {
        answer.with_cookie(cookie::set(cookie::LANG, visit.lang.code(), cookie::SameSite::Lax, Some(YEAR)))
    } else {
        answer
    })
}

impl Visit {
    fn tenant(&self, id: &str) -> Option<Arc<Tenant>> {
        let id: TenantId = id.parse().ok()?;
        self.snapshot.config.tenants.get(&id).cloned()
    }

    /// The tenant whose own host the browser came by.
    fn tenant_of_host(&self) -> Option<Arc<Tenant>> {
        self.snapshot.config.tenants.get(self.host.tenant.as_ref()?).cloned()
    }

    fn cookie(&self, wanted: &str) -> Option<&str> {
        let fields = self.head.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes());
        cookie::pairs(fields).find(|(name, _)| *name == wanted).map(|(_, value)| value)
    }

    /// Names of the browser's cookies that begin with `prefix`.
    fn cookies_named(&self, prefix: &str) -> Vec<String> {
        let fields = self.head.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes());
        let ours = cookie::pairs(fields).filter(|(name, _)| name.starts_with(prefix));
        ours.map(|(name, _)| name.to_owned()).filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic())).collect()
    }

    /// Opens a session and goes on to `next`. `login` is the IdP's word, when there is one.
    fn enter(&self, identity: &Identity, login: Option<&Login>, next: &str) -> Answer {
        let mut session = BrowserSession::open(identity, &self.snapshot.config.session, self.now);
        if let Some(login) = login {
            session.ends = login.session_not_after().map_or(session.ends, |ends| session.ends.min(ends));
            session.assurance = Some(login.assurance());
        }
        event::session_opened(identity, self.client.ip());
        let value = self.snapshot.sealer.seal_session(&session);
        Answer::see_other(target::safe(next))
            .with_cookie(cookie::set(cookie::SESSION, &value, cookie::SameSite::Lax, None))
            .with_cookie(institution::remember(&identity.tenant))
    }

    /// Ends the session here; the institution's own may live on.
    async fn logout(&self) -> Answer {
        let lang = self.lang;
        let session = identity::session(&self.head.headers, &self.app, &self.snapshot, self.now);
        if let Some(session) = session {
            // Those of the user's other sessions open theirs again.
            let user = Some(session.identity().address);
            let tunnels = Selector { user, protocol: Some(Traffic::Web), ..Selector::default() };
            let store = Arc::clone(&self.app.store);
            let revoked = tokio::task::spawn_blocking(move || store.revoke_session(&session.sid, session.ends)).await;
            if !matches!(revoked, Ok(Ok(()))) {
                let reference = reference();
                event::trouble("logout", "the session could not be revoked", &reference);
                return self.trouble(&reference).with_cookie(cookie::clear(cookie::SESSION));
            }
            self.app.relays.kick(&tunnels, Duration::ZERO);
        }
        let paragraphs = [
            lang.pick("Votre session de messagerie est terminée.", "Your mail session has ended."),
            lang.pick(
                "La session ouverte chez votre établissement peut continuer : sur un poste partagé, fermez le navigateur.",
                "The session at your institution may live on: on a shared computer, close the browser.",
            ),
        ];
        let links = [("/login".to_owned(), lang.pick("Se connecter à nouveau", "Sign in again"))];
        let title = lang.pick("Déconnexion", "Signed out");
        let notice = view::Notice { title, paragraphs: &paragraphs, links: &links, ..view::Notice::default() };
        view::notice(StatusCode::OK, lang, &notice).with_cookie(cookie::clear(cookie::SESSION))
    }

    /// 503: something of ours does not work now.
    fn trouble(&self, reference: &str) -> Answer {
        let lang = self.lang;
        let said = lang.pick(
            "La connexion n’est pas possible pour le moment. Votre mot de passe n’est pas en cause. Réessayez plus tard.",
            "Signing in is not possible right now. This is not about your password. Please try again later.",
        );
        let title = lang.pick("Service momentanément indisponible", "Service unavailable for the moment");
        let notice = view::Notice { title, paragraphs: &[said], reference, ..view::Notice::default() };
        view::notice(StatusCode::SERVICE_UNAVAILABLE, lang, &notice).with_retry_after()
    }

    /// 403: the form was not ours.
    fn foreign_form(&self) -> Answer {
        let lang = self.lang;
        let said = lang.pick("Ce formulaire vient d’un autre site.", "This form comes from another site.");
        let links = [("/login".to_owned(), lang.pick("Recommencer", "Start again"))];
        let title = lang.pick("Demande refusée", "Request refused");
        let notice = view::Notice { title, paragraphs: &[said], links: &links, ..view::Notice::default() };
        view::notice(StatusCode::FORBIDDEN, lang, &notice)
    }

    fn bad_body(&self, error: BodyError) -> Answer {
        match error {
            BodyError::TooLarge => view::failure(413, self.lang, true),
            BodyError::WrongType => view::failure(415, self.lang, true),
            BodyError::Gone => view::failure(400, self.lang, true),
        }
    }
}

/// Whether a form was sent from one of our pages. Browsers say so by `Sec-Fetch-Site` or `Origin`; a client that sends
/// neither is no browser and brings nobody's cookies.
fn is_same_origin(head: &RequestHeader, origin: &str) -> bool {
    let field = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let fetch = field("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    fetch && field("origin").is_none_or(|sent| sent.eq_ignore_ascii_case(origin))
}

/// Eight characters that can be read out on a telephone (Crockford's base 32).
fn reference() -> String {
    const ALPHABET: [char; 32] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'M', 'N',
        'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Y', 'Z',
    ];
    super::random::<8>().iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 31))).collect()
}

/// The short links of tenants: an id follows.
const LOGIN_AT: &str = "/login/at/";
/// Leads to the federation's discovery service.
const ASK_FEDERATION: &str = "/login/discovery/start";
/// Where other service providers ask for an institution.
const DISCOVERY: &str = "/discovery";
const DISCOVERY_FEED: &str = "/discovery/feed.json";
const YEAR: u64 = 365 * 24 * 3600;
const FORM_BYTES_MAX: usize = 16 * 1024;
/// A Response of 256 KiB in base64 and percent signs.
const ACS_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/login/start", None).unwrap();
        for (name, value) in fields {
            head.insert_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn forms_of_other_sites_are_told() {
        let origin = "https://mail.example";
        assert!(is_same_origin(&head(&[]), origin));
        assert!(is_same_origin(
            &head(&[("origin", "https://mail.example"), ("sec-fetch-site", "same-origin")]),
            origin
        ));
        for fields in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "https://mail.example"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://mail.example.evil")],
        ] {
            assert!(!is_same_origin(&head(fields), origin), "{fields:?}");
        }
    }

    #[test]
    fn a_reference_is_eight_plain_characters() {
        let reference = reference();
        assert_eq!(reference.len(), 8);
        assert!(reference.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()));
    }
}
