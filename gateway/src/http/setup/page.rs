//! The page for people who set up a program by hand.

use askama::Template;
use guichet_config::{Address, MailProtocol, MailTls};
use http::StatusCode;

use super::{PAGE, Visit, document};
use crate::http::{
    lang::Lang,
    login::view::{Frame, render},
    page::Answer,
    target,
};

#[derive(Template)]
#[template(path = "setup.html")]
struct Page<'a> {
    frame: Frame<'a>,
    /// As typed.
    typed: &'a str,
    error: &'a str,
    found: Option<Found<'a>>,
}

/// What there is to say about an address.
struct Found<'a> {
    address: Address,
    institution: &'a str,
    hostname: &'a str,
    services: Vec<Line<'a>>,
    /// Where calendars and contacts are.
    dav: Option<&'a str>,
    /// Link to Apple's document.
    profile: Option<String>,
    contact: Option<&'a str>,
}

/// A service in words.
struct Line<'a> {
    title: &'a str,
    port: u16,
    security: &'static str,
}

impl Visit<'_> {
    /// The form and, when it came back with an address, the settings.
    pub(super) fn page(&self) -> Answer {
        let lang = self.lang_page;
        let typed = self.query.field("address").trim();
        let found = self.found(typed);
        let (status, error) = if found.is_some() || typed.is_empty() {
            (StatusCode::OK, "")
        } else {
            let said = lang.pick(
                "Cette adresse n’appartient à aucun établissement de ce service. Exemple : prenom.nom@universite.fr",
                "This address belongs to no institution of this service. Example: first.last@university.fr",
            );
            (StatusCode::NOT_FOUND, said)
        };
        let mut frame = Frame::new(lang, lang.pick("Configurer un logiciel de messagerie", "Set up a mail program"));
        frame.switch = Some(format!("{PAGE}?address={}", target::encode(typed)));
        render(status, lang, "'self'", &Page { frame, typed, error, found })
    }

    fn found(&self, typed: &str) -> Option<Found<'_>> {
        let (address, tenant) = self.known(typed)?;
        let offer = &self.offer;
        let line = |protocol| {
            let service = offer.best(protocol)?;
            let security = if service.tls == MailTls::Implicit { "SSL/TLS" } else { "STARTTLS" };
            Some(Line { title: title(protocol, self.lang_page), port: service.port, security })
        };
        let protocols = [MailProtocol::Imap, MailProtocol::Pop3, MailProtocol::Submission, MailProtocol::Sieve];
        let profile = document::has_profile(offer)
            .then(|| format!("/mail/setup.mobileconfig?emailaddress={}", target::encode(address.as_str())));
        Some(Found {
            address,
            institution: self.lang_page.of(&tenant.name),
            hostname: offer.hostname,
            services: protocols.into_iter().filter_map(line).collect(),
            dav: offer.dav_path.map(|_| offer.origin),
            profile,
            contact: tenant.contact.as_deref(),
        })
    }
}

fn title(protocol: MailProtocol, lang: Lang) -> &'static str {
    match protocol {
        MailProtocol::Imap => {
            lang.pick("Courrier reçu, gardé sur le serveur (IMAP)", "Incoming mail, kept on the server (IMAP)")
        }
        MailProtocol::Pop3 => lang.pick("Courrier reçu, téléchargé (POP3)", "Incoming mail, downloaded (POP3)"),
        MailProtocol::Submission => lang.pick("Courrier envoyé (SMTP)", "Outgoing mail (SMTP)"),
        MailProtocol::Sieve => lang.pick("Filtres (ManageSieve)", "Filters (ManageSieve)"),
    }
}
