//! Our own paths: choosing an institution, logging in there or by the directory, logging out.
//!
//! ```text
//! /login ──address, list or link──▶ /login/start ──▶ IdP ──▶ /saml/acs ──▶ session
//!                                        │ no IdP, or IdP down and fallback allowed
//!                                        └──▶ password page ──▶ /login/password ──▶ session
//! a guarded page ──▶ /login/step-up ──▶ IdP ──▶ /saml/acs ──▶ a session in the place of the other
//!
//! /logout ──the session ends──▶ IdP ──▶ /saml/slo ──▶ signed out        IdP ──▶ /saml/slo[/soap] ──sessions end──▶ IdP
//! ```

mod chooser;
mod discovery;
mod institution;
mod logout;
mod password;
mod refused;
mod saml;
mod slo;
mod step_up;
mod tagged;
mod test;
pub(crate) mod view;
mod way;

use std::{net::SocketAddr, sync::Arc};

use guichet_auth::{
    Identity, WallTime,
    saml::{Login, Named, discovery::RESPONSE_PATH},
    session::{IdpSession, LogoutTags, Session as BrowserSession},
};
use guichet_config::{Host, Tenant, TenantId};
use http::{Method, StatusCode, header};
use pingora::{Result, http::RequestHeader};

pub(crate) use self::{step_up::can_ask, tagged::Tagged};
use super::{
    Session, cookie, event,
    form::{self, BodyError, Form},
    lang::Lang,
    page::Answer,
    service, target,
};
use crate::app::{App, Snapshot};

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
            | "/saml/slo"
            | "/saml/slo/soap"
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
        // A request of the IdP changes things: a look at the head must not.
        "/saml/slo" if visit.head.method == Method::GET => visit.slo_by_redirect().await,
        "/saml/slo/soap" if posts => visit.slo_by_soap(session).await,
        "/login/start" | "/login/password" | "/login/forget" | DISCOVERY | "/logout" | "/saml/acs" | "/saml/slo"
            if posts =>
        {
            let from_idp = matches!(path, "/saml/acs" | "/saml/slo");
            let bytes_max = if from_idp { ACS_BYTES_MAX } else { FORM_BYTES_MAX };
            if !from_idp && !is_same_origin(&visit.head, &visit.host.origin) {
                return Ok(visit.foreign_form());
            }
            match (path, form::read(session, bytes_max).await) {
                ("/logout", Ok(_) | Err(BodyError::WrongType)) => visit.logout().await,
                (_, Err(error)) => visit.bad_body(error),
                ("/login/start", Ok(form)) => visit.start_from_form(form).await,
                ("/login/password", Ok(form)) => visit.password(form).await,
                ("/login/forget", Ok(form)) => visit.forget(&form),
                (DISCOVERY, Ok(form)) => visit.asked_and_chosen(&form),
                ("/saml/slo", Ok(form)) => visit.slo_by_post(form).await,
                (_, Ok(form)) => visit.consume(form).await,
            }
        }
        path => {
            let allow = match path {
                "/login/start" | "/logout" | DISCOVERY => "GET, HEAD, POST",
                "/login/password" | "/login/forget" | "/saml/acs" | "/saml/slo/soap" => "POST",
                "/saml/slo" => "GET, POST",
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

    /// Opens a session and goes on to `next`. `at_idp`: the IdP and its word, when there is one.
    fn enter(&self, identity: &Identity, at_idp: Option<(&str, &Login)>, next: &str) -> Answer {
        let mut session = BrowserSession::open(identity, &self.snapshot.config.session, self.now);
        if let Some((_, login)) = at_idp {
            session.ends = login.session_not_after().map_or(session.ends, |ends| session.ends.min(ends));
            session.assurance = Some(login.assurance());
        }
        let known = at_idp.and_then(|(idp, login)| Some((idp, login.named()?)));
        session.logout = known.and_then(|(idp, named)| self.logout_tags(idp, named));
        self.app.tagged.see(&session);
        event::session_opened(identity, self.client.ip());
        let at_idp = known.and_then(|(idp, named)| {
            self.snapshot.sealer.seal_idp_session(&IdpSession {
                sid: session.sid,
                tenant: session.tenant.clone(),
                idp: idp.to_owned(),
                named: named.clone(),
                ends: session.ends,
            })
        });
        let value = self.snapshot.sealer.seal_session(&session);
        Answer::see_other(target::safe(next))
            .with_cookie(cookie::set(cookie::SESSION, &value, cookie::SameSite::Lax, None))
            .with_cookie(match at_idp {
                Some(value) => cookie::set(cookie::IDP_SESSION, &value, cookie::SameSite::Lax, None),
                None => cookie::clear(cookie::IDP_SESSION),
            })
            .with_cookie(institution::remember(&identity.tenant))
    }

    /// What a logout at the IdP will find a session by.
    fn logout_tags(&self, idp: &str, named: &Named) -> Option<LogoutTags> {
        let sp = self.snapshot.sp.as_ref()?;
        Some(self.snapshot.sealer.logout_tags(idp, sp.entity_id(), named))
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
