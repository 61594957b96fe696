//! The page that asks for the institution.

use std::sync::LazyLock;

use askama::Template;
use http::StatusCode;

use super::{CSS_HASH, Frame, csp_hash};
use crate::http::{lang::Lang, page::Answer, target};

/// What the page is made of.
pub(crate) struct Chooser<'a> {
    /// Language.
    pub(crate) lang: Lang,
    /// Path and query of the language switch.
    pub(crate) switch: String,
    /// Path of the page.
    pub(crate) page: &'static str,
    /// Where a choice is sent.
    pub(crate) action: &'static str,
    /// What each form carries along.
    pub(crate) fields: Vec<(&'static str, &'a str)>,
    /// Path and query of the page as it is asked for first.
    pub(crate) link: String,
    /// Host of the service that asked; empty: a login here.
    pub(crate) asker: &'a str,
    /// The institution chosen last, to be offered alone.
    pub(crate) remembered: Option<Row>,
    /// The rows to show.
    pub(crate) rows: Vec<Row>,
    /// There are more than can be shown unasked.
    pub(crate) searchable: bool,
    /// The rows were asked for, or are few.
    pub(crate) listed: bool,
    /// Rows on all pages.
    pub(crate) total: usize,
    /// This page and how many there are.
    pub(crate) at: (usize, usize),
    /// Search words as typed.
    pub(crate) typed: &'a str,
    /// The federation's discovery service.
    pub(crate) federation: Option<Federation>,
    /// There is a page for mail programs.
    pub(crate) setup: bool,
    /// Address as typed.
    pub(crate) address: &'a str,
    /// What is wrong with it; empty: nothing.
    pub(crate) error: &'a str,
    /// A sentence ahead of everything; empty: none.
    pub(crate) notice: &'a str,
}

/// An institution in the list.
pub(crate) struct Row {
    /// Tenant id.
    pub(crate) id: String,
    /// Name in the page's language.
    pub(crate) name: String,
    /// A domain that its people know.
    pub(crate) domain: String,
}

/// The federation's discovery service.
pub(crate) struct Federation {
    link: String,
    host: String,
}

impl Federation {
    /// At `service`; goes to `next` in the end.
    pub(crate) fn new(service: &str, next: &str) -> Self {
        let address = service.strip_prefix("https://").unwrap_or(service);
        let host = address.split(['/', '?']).next().unwrap_or_default().to_owned();
        Self { link: format!("/login/discovery/start?next={}", target::encode(next)), host }
    }
}

#[derive(Template)]
#[template(path = "chooser.html")]
struct Page<'a> {
    frame: Frame<'a>,
    it: Chooser<'a>,
    script: &'static str,
}

impl Page<'_> {
    /// How many were found, in words; empty when nothing was asked for.
    fn hits(&self) -> String {
        let (lang, total) = (self.frame.lang, self.it.total);
        if !self.it.listed || !self.it.searchable {
            return String::new();
        }
        match total {
            0 => lang.pick("Aucun établissement trouvé.", "No institution found.").to_owned(),
            1 => lang.pick("1 établissement trouvé.", "1 institution found.").to_owned(),
            _ => format!("{total} {}.", lang.pick("établissements trouvés", "institutions found")),
        }
    }

    /// Link to another page of the list.
    fn list(&self, page: usize) -> String {
        let q = if self.it.typed.is_empty() { String::new() } else { format!("&q={}", target::encode(self.it.typed)) };
        format!("{}&choose=1{q}&list={page}#find", self.it.link)
    }
}

/// The page.
pub(crate) fn render(it: Chooser<'_>) -> Answer {
    let lang = it.lang;
    let title = if it.asker.is_empty() {
        lang.pick("Connexion", "Sign in")
    } else {
        lang.pick("Votre établissement", "Your institution")
    };
    let mut frame = Frame::new(lang, title);
    frame.switch = Some(it.switch.clone());
    let status = if it.error.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let mut csp = format!("style-src '{}'; form-action 'self'", *CSS_HASH);
    if it.searchable && it.remembered.is_none() {
        csp.push_str(&format!("; script-src '{}'; connect-src 'self'", *FILTER_HASH));
    }
    let page = Page { frame, it, script: FILTER };
    // Rendering into memory cannot fail.
    Answer::html(status, lang, &csp, page.render().unwrap_or_default())
}

/// Asks the server for the list again as somebody types; without it the form's button does.
const FILTER: &str = include_str!("filter.js");
static FILTER_HASH: LazyLock<String> = LazyLock::new(|| csp_hash(FILTER));
