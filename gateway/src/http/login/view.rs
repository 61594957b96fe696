//! The pages: server-rendered, French and English, no script needed, nothing from elsewhere.

pub(crate) mod chooser;

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use guichet_config::Tenant;
use http::StatusCode;

use crate::http::{lang::Lang, page::Answer, target};

/// What every page has.
pub(crate) struct Frame<'a> {
    /// Language.
    pub(crate) lang: Lang,
    /// Heading.
    pub(crate) title: &'a str,
    /// Style.
    pub(crate) css: &'static str,
    /// Path and query of the language switch, to which `&lang=` is added.
    pub(crate) switch: Option<String>,
}

impl<'a> Frame<'a> {
    /// Without a language switch.
    pub(crate) fn new(lang: Lang, title: &'a str) -> Self {
        Self { lang, title, css: CSS, switch: None }
    }
}

/// An outage as told to users.
pub(crate) struct Outage {
    since: String,
    since_iso: String,
}

impl Outage {
    /// Since that moment.
    pub(crate) fn since(since: guichet_auth::WallTime, lang: Lang) -> Self {
        let at = i64::try_from(since.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        let at = at.unwrap_or_default();
        let form = lang.pick("%d/%m/%Y à %H:%M UTC", "%d %B %Y, %H:%M UTC");
        Self { since: at.strftime(form).to_string(), since_iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() }
    }
}

#[derive(Template)]
#[template(path = "password.html")]
struct Password<'a> {
    frame: Frame<'a>,
    outage: Option<Outage>,
    tenant: &'a str,
    tenant_id: &'a str,
    next: &'a str,
    next_encoded: String,
    address: &'a str,
    error: &'a str,
}

/// What the password page says beside its form.
pub(crate) struct PasswordForm<'a> {
    /// Institution.
    pub(crate) tenant: &'a Tenant,
    /// Its IdP is down.
    pub(crate) outage: Option<Outage>,
    /// Goes there afterwards.
    pub(crate) next: &'a str,
    /// As typed.
    pub(crate) address: &'a str,
    /// In words; empty: none.
    pub(crate) error: &'a str,
}

/// The password page.
pub(crate) fn password(status: StatusCode, lang: Lang, form: PasswordForm<'_>) -> Answer {
    let tenant_id = form.tenant.id.as_str();
    let mut frame = Frame::new(lang, lang.pick("Connexion", "Sign in"));
    frame.switch = Some(format!("/login?tenant={tenant_id}&next={}", target::encode(form.next)));
    let page = Password {
        frame,
        outage: form.outage,
        tenant: lang.of(&form.tenant.name),
        tenant_id,
        next: form.next,
        next_encoded: target::encode(form.next),
        address: form.address,
        error: form.error,
    };
    render(status, lang, "'self'", &page)
}

#[derive(Template)]
#[template(path = "post.html")]
struct Post<'a> {
    frame: Frame<'a>,
    action: &'a str,
    saml_request: &'a str,
    relay_state: &'a str,
    script: &'static str,
}

/// The page that posts a request to an IdP: by its one line of script, or by its button.
///
/// Its form may go on to any host by https: identity providers redirect what they were posted, and browsers hold that
/// against `form-action`, too. Nothing on the page is typed by anybody.
pub(crate) fn post(lang: Lang, action: &str, saml_request: &str, relay_state: &str) -> Answer {
    let url = url::Url::parse(action).ok();
    let form_action = match url.filter(|url| url.scheme() == "http") {
        Some(url) => url.origin().ascii_serialization(),
        None => "https:".to_owned(),
    };
    let frame = Frame::new(lang, lang.pick("Votre établissement", "Your institution"));
    let page = Post { frame, action, saml_request, relay_state, script: SUBMIT };
    let csp = format!("style-src '{}'; script-src '{}'; form-action {form_action}", *CSS_HASH, *SUBMIT_HASH);
    Answer::html(StatusCode::OK, lang, &csp, page.render().unwrap_or_default())
}

#[derive(Template)]
#[template(path = "post_logout.html")]
struct PostLogout<'a> {
    frame: Frame<'a>,
    action: &'a str,
    field: &'a str,
    message: &'a str,
    relay_state: &'a str,
    script: &'static str,
}

/// The page that posts a logout message (field and value) to an IdP: by its one line of script, or by its button.
pub(crate) fn post_logout(lang: Lang, action: &str, (field, message): (&str, &str), relay_state: &str) -> Answer {
    let frame = Frame::new(lang, lang.pick("Déconnexion", "Sign out"));
    let page = PostLogout { frame, action, field, message, relay_state, script: SUBMIT };
    // Browsers hold `form-action` against every redirect behind the form, and the IdP sends them on to services that only it
    // knows. The page has one form, and its address is the metadata's.
    let csp = format!("style-src '{}'; script-src '{}'; form-action http: https:", *CSS_HASH, *SUBMIT_HASH);
    Answer::html(StatusCode::OK, lang, &csp, page.render().unwrap_or_default())
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    frame: Frame<'a>,
    paragraphs: &'a [&'a str],
    attributes: Named<'a>,
    reference: &'a str,
    contact: &'a str,
    links: &'a [(String, &'a str)],
}

/// Names of attributes under a heading of their own.
#[derive(Clone, Copy, Default)]
pub(crate) struct Named<'a> {
    /// In words.
    pub(crate) label: &'a str,
    /// Empty: nothing is shown.
    pub(crate) names: &'a [&'a str],
}

/// A page that tells something.
#[derive(Default)]
pub(crate) struct Notice<'a> {
    /// Heading.
    pub(crate) title: &'a str,
    /// Sentences.
    pub(crate) paragraphs: &'a [&'a str],
    /// What the institution has to look at.
    pub(crate) attributes: Named<'a>,
    /// For the help desk; empty: none.
    pub(crate) reference: &'a str,
    /// Help desk; empty: none.
    pub(crate) contact: &'a str,
    /// Path, or address of the institution, and words.
    pub(crate) links: &'a [(String, &'a str)],
}

/// A page that tells something.
pub(crate) fn notice(status: StatusCode, lang: Lang, notice: &Notice<'_>) -> Answer {
    let frame = Frame::new(lang, notice.title);
    let Notice { paragraphs, attributes, reference, contact, links, .. } = *notice;
    render(status, lang, "'none'", &Message { frame, paragraphs, attributes, reference, contact, links })
}

/// What a test login showed.
pub(crate) struct Tested {
    /// A session would have been opened.
    pub(crate) good: bool,
    /// Institution.
    pub(crate) tenant: String,
    /// Its IdP.
    pub(crate) idp: String,
    /// Address or identifier that the IdP sent.
    pub(crate) sent: Option<String>,
    /// Address that a session would have.
    pub(crate) address: Option<String>,
    /// In words.
    pub(crate) category: Option<&'static str>,
    /// What the directory says, in words.
    pub(crate) directory: String,
    /// How the IdP says the user was authenticated.
    pub(crate) contexts: Vec<String>,
    /// eduPersonAssurance.
    pub(crate) assurance: Vec<String>,
    /// Each check.
    pub(crate) checks: Vec<TestedCheck>,
    /// Each attribute.
    pub(crate) attributes: Vec<TestedAttribute>,
}

impl Tested {
    /// Whether a check of the Response failed.
    fn fails(&self) -> bool {
        self.checks.iter().any(|check| check.reason.is_some())
    }
}

/// One check of a test login.
pub(crate) struct TestedCheck {
    /// In words.
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) result: &'static str,
    /// Of a failure: the sentence and its kind.
    pub(crate) reason: Option<(String, &'static str)>,
}

/// One attribute of a test login.
pub(crate) struct TestedAttribute {
    /// As the assertion names it.
    pub(crate) name: String,
    /// The word people know it by; empty: none.
    pub(crate) word: String,
    /// How many values it has.
    pub(crate) values: usize,
}

#[derive(Template)]
#[template(path = "test.html")]
struct TestPage<'a> {
    frame: Frame<'a>,
    tested: &'a Tested,
}

/// The page of a test login.
pub(crate) fn tested(lang: Lang, tested: &Tested) -> Answer {
    let frame = Frame::new(lang, lang.pick("Test de connexion", "Test login"));
    render(StatusCode::OK, lang, "'none'", &TestPage { frame, tested })
}

/// The page that leads a browser on after a form: at once, without a script, or by its link. `url` is of the metadata or
/// the configuration.
pub(crate) fn lead_on(lang: Lang, url: &str) -> Answer {
    let said = lang.pick("Vous allez être conduit à la page suivante.", "You are being taken to the next page.");
    let links = [(url.to_owned(), lang.pick("Continuer", "Continue"))];
    let title = lang.pick("Votre établissement", "Your institution");
    let notice = Notice { title, paragraphs: &[said], links: &links, ..Notice::default() };
    self::notice(StatusCode::OK, lang, &notice).with("refresh", format!("0; url={url}"))
}

/// 421: the request names another host.
pub(crate) fn misdirected(lang: Lang, html: bool) -> Answer {
    let said = lang.pick("Ce service ne répond pas sous ce nom.", "This service does not answer to this name.");
    short(StatusCode::MISDIRECTED_REQUEST, lang, html, lang.pick("Mauvaise adresse", "Wrong address"), said)
}

/// 413.
pub(crate) fn too_large(lang: Lang, html: bool) -> Answer {
    let said = lang.pick("Ce que vous envoyez dépasse la taille admise.", "What you send is over the size limit.");
    short(StatusCode::PAYLOAD_TOO_LARGE, lang, html, lang.pick("Trop volumineux", "Too large"), said)
}

/// 503: the user's cell has no healthy endpoint.
pub(crate) fn no_cell(lang: Lang, html: bool) -> Answer {
    let said = lang.pick(
        "Votre messagerie est momentanément indisponible. Vos messages sont conservés. Réessayez dans quelques minutes.",
        "Your mailbox is unavailable for the moment. Your messages are safe. Please try again in a few minutes.",
    );
    let title = lang.pick("Service momentanément indisponible", "Service unavailable for the moment");
    short(StatusCode::SERVICE_UNAVAILABLE, lang, html, title, said).with_retry_after()
}

/// 503: the user is being moved to another cell.
pub(crate) fn held(lang: Lang, html: bool) -> Answer {
    let said = lang.pick(
        "Votre boîte est en cours de déplacement vers un autre serveur. Vos messages sont conservés. Réessayez dans une minute.",
        "Your mailbox is being moved to another server. Your messages are safe. Please try again in a minute.",
    );
    let title = lang.pick("Boîte en cours de déplacement", "Mailbox being moved");
    short(StatusCode::SERVICE_UNAVAILABLE, lang, html, title, said).with_retry_after()
}

/// What a failed request is answered with.
pub(crate) fn failure(status: u16, lang: Lang, html: bool) -> Answer {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::SERVICE_UNAVAILABLE) => no_cell(lang, html),
        Ok(StatusCode::PAYLOAD_TOO_LARGE) => too_large(lang, html),
        Ok(status) if status.is_client_error() => {
            let said = lang.pick("La demande n’a pas pu être comprise.", "The request could not be understood.");
            short(status, lang, html, lang.pick("Demande refusée", "Request refused"), said)
        }
        status => {
            let said = lang.pick(
                "La messagerie n’a pas pu traiter la demande. Réessayez dans un instant.",
                "The mail service could not handle the request. Please try again in a moment.",
            );
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            short(status, lang, html, lang.pick("Une erreur est survenue", "Something went wrong"), said)
        }
    }
}

fn short(status: StatusCode, lang: Lang, html: bool, title: &str, said: &str) -> Answer {
    if html {
        notice(status, lang, &Notice { title, paragraphs: &[said], ..Notice::default() })
    } else {
        Answer::text(status, said)
    }
}

/// A page as an answer. `form_action` lists where its forms may lead.
pub(crate) fn render(status: StatusCode, lang: Lang, form_action: &str, page: &impl Template) -> Answer {
    let csp = format!("style-src '{}'; form-action {form_action}", *CSS_HASH);
    // Rendering into memory cannot fail.
    Answer::html(status, lang, &csp, page.render().unwrap_or_default())
}

fn csp_hash(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    format!("sha256-{}", BASE64_STANDARD.encode(digest))
}

const CSS: &str = include_str!("style.css");
const SUBMIT: &str = "document.forms[0].submit()";
static CSS_HASH: LazyLock<String> = LazyLock::new(|| csp_hash(CSS));
static SUBMIT_HASH: LazyLock<String> = LazyLock::new(|| csp_hash(SUBMIT));
