//! The page that asks for the institution: for a login here, or for another service.

use std::sync::Arc;

use guichet_auth::saml::discovery::{Institution, Question};
use guichet_config::Tenant;

use super::{Visit, view::chooser as page};
use crate::http::{page::Answer, target};

/// What an institution is chosen for.
pub(super) enum Errand<'a> {
    /// A login here, then this page.
    Login {
        /// A safe target.
        next: &'a str,
    },
    /// Another service asked us.
    Other(&'a Question<'a>),
}

/// What the page says beside its list.
#[derive(Default)]
pub(super) struct Said<'a> {
    /// Address as typed.
    pub(super) address: &'a str,
    /// What is wrong with it; empty: nothing.
    pub(super) error: &'a str,
    /// A sentence ahead of everything; empty: none.
    pub(super) notice: &'a str,
    /// Only these may be chosen; empty: all.
    pub(super) among: &'a [Arc<Tenant>],
}

impl Errand<'_> {
    /// Path of the page.
    fn page(&self) -> &'static str {
        match self {
            Self::Login { .. } => "/login",
            Self::Other(_) => super::DISCOVERY,
        }
    }

    /// Where a choice is sent.
    fn action(&self) -> &'static str {
        match self {
            Self::Login { .. } => "/login/start",
            Self::Other(_) => super::DISCOVERY,
        }
    }

    /// What each form of the page carries along.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Login { next } => vec![("next", next)],
            Self::Other(question) => question.fields().to_vec(),
        }
    }

    /// Path and query of the page as it is asked for first.
    pub(super) fn link(&self) -> String {
        let encode = |(name, value): &(&str, &str)| format!("{name}={}", target::encode(value));
        format!("{}?{}", self.page(), self.fields().iter().map(encode).collect::<Vec<_>>().join("&"))
    }

    /// Others are told of institutions with an IdP only.
    fn offers(&self, one: &Institution) -> bool {
        match self {
            Self::Login { .. } => true,
            Self::Other(_) => one.shown_to_others,
        }
    }
}

impl Visit {
    /// The page. Asked for by its own links and search form, it shows what they say (`q`, `list`, `choose`).
    pub(super) fn chooser(&self, errand: &Errand<'_>, said: &Said<'_>) -> Answer {
        let lang = self.lang;
        let typed = self.query.field("q").trim();
        let wanted = self.query.field("list").parse().unwrap_or(0_usize);
        let institutions = self.institutions();
        let english = lang.code() == "en";
        let among = |one: &Institution| {
            errand.offers(one) && (said.among.is_empty() || said.among.iter().any(|known| known.id == one.tenant.id))
        };
        let found = institutions.search(typed, english, wanted, among);
        let few = typed.is_empty() && found.total <= FEW;
        let show = few || !typed.is_empty() || wanted > 0;
        let asked_to_choose = !self.query.field("choose").is_empty() || wanted > 0;
        let quiet = typed.is_empty() && said.error.is_empty() && said.notice.is_empty() && said.among.is_empty();
        let remembered = self.remembered().filter(|tenant| match errand {
            Errand::Login { .. } => true,
            Errand::Other(_) => tenant.idp.is_some(),
        });
        let fields = errand.fields();
        let link = errand.link();
        let mut switch = link.clone();
        for (name, value) in [("choose", self.query.field("choose")), ("q", typed), ("list", self.query.field("list"))]
        {
            if !value.is_empty() {
                switch.push_str(&format!("&{name}={}", target::encode(value)));
            }
        }
        let row = |tenant: &Tenant| page::Row {
            id: tenant.id.as_str().to_owned(),
            name: lang.of(&tenant.name).to_owned(),
            domain: tenant.domains.first().map(ToString::to_string).unwrap_or_default(),
        };
        let service = self.snapshot.config.discovery.service.as_deref();
        page::render(page::Chooser {
            lang,
            switch,
            action: errand.action(),
            page: errand.page(),
            asker: match errand {
                Errand::Login { .. } => "",
                Errand::Other(question) => question.host(),
            },
            remembered: remembered.filter(|_| quiet && !asked_to_choose).map(|tenant| row(&tenant)),
            rows: found.rows.iter().filter(|_| show).map(|one| row(&one.tenant)).collect(),
            searchable: !few,
            listed: show,
            total: found.total,
            at: (found.page, found.pages),
            typed,
            federation: match errand {
                Errand::Login { next } => service.map(|service| page::Federation::new(service, next)),
                Errand::Other(_) => None,
            },
            setup: matches!(errand, Errand::Login { .. }) && self.snapshot.config.setup.enabled,
            address: said.address,
            error: said.error,
            notice: said.notice,
            fields,
            link,
        })
    }
}

/// So many are shown without being asked for; more are searched, or listed page by page.
const FEW: usize = 10;
