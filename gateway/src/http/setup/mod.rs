//! Mail programs that ask for their settings: Mozilla's autoconfig, Microsoft's autodiscover, Apple's profile, the paths of
//! calendars and contacts (RFC 6764), and a page for people.
//!
//! Nobody logs in here, and nothing here tells whether an address exists: every address of a mail domain gets the same
//! answer. Programs come by a host of ours, by `autoconfig.DOMAIN` or by `autodiscover.DOMAIN` of a mail domain.

mod autodiscover;
mod document;
mod page;
mod request;

use guichet_config::{Address, Config, Domain, Host, Tenant};
use http::{Method, StatusCode, header};
use pingora::http::RequestHeader;

use super::{
    Session, event,
    form::Form,
    lang::Lang,
    page::{Answer, wants_html},
    service,
};
use crate::setup::Offer;

/// A request for one of the documents.
pub(crate) struct Wanted {
    document: Document,
    /// Mail domain of the host that was asked, when it was none of ours.
    domain: Option<Domain>,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Document {
    Autoconfig,
    Autodiscover,
    AutodiscoverJson,
    Profile,
    Dav,
    Page,
}

impl Document {
    /// What a path asks for.
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/mail/config-v1.1.xml" | "/.well-known/autoconfig/mail/config-v1.1.xml" => Self::Autoconfig,
            "/mail/setup.mobileconfig" => Self::Profile,
            "/.well-known/caldav" | "/.well-known/carddav" => Self::Dav,
            PAGE => Self::Page,
            _ if is_autodiscover(path) => Self::Autodiscover,
            _ if autodiscover::is_json(path) => Self::AutodiscoverJson,
            _ => return None,
        })
    }

    /// In metrics and logs.
    fn as_str(self) -> &'static str {
        match self {
            Self::Autoconfig => "autoconfig",
            Self::Autodiscover => "autodiscover",
            Self::AutodiscoverJson => "autodiscover_json",
            Self::Profile => "profile",
            Self::Dav => "dav",
            Self::Page => "page",
        }
    }

    /// Methods it answers, as `Allow` lists them; none: any.
    fn allow(self) -> Option<&'static str> {
        match self {
            Self::Autodiscover => Some("POST"),
            Self::Dav => None,
            _ => Some("GET, HEAD"),
        }
    }

    /// The label under a mail domain that it is asked by.
    fn label(self) -> Option<&'static str> {
        match self {
            Self::Autoconfig => Some("autoconfig"),
            Self::Autodiscover | Self::AutodiscoverJson => Some("autodiscover"),
            Self::Profile | Self::Dav | Self::Page => None,
        }
    }
}

/// Whether a path is that of Microsoft's autodiscover, whose programs disagree on its letters.
pub(crate) fn is_autodiscover(path: &str) -> bool {
    path.split('?').next().is_some_and(|path| path.eq_ignore_ascii_case(autodiscover::PATH))
}

/// What a request asks of us, if anything. `own`: it names a host of ours.
pub(crate) fn wanted(head: &RequestHeader, config: &Config, own: bool) -> Option<Wanted> {
    let document = Document::of(head.uri.path()).filter(|_| config.setup.enabled)?;
    if own {
        // Without a path of ours the cell knows better.
        let ours = document != Document::Dav || config.setup.dav_path.is_some();
        return ours.then_some(Wanted { document, domain: None });
    }
    let (label, domain) = service::named_host(head)?.split_once('.')?;
    if !document.label().is_some_and(|expected| expected.eq_ignore_ascii_case(label)) {
        return None;
    }
    let domain: Domain = domain.parse().ok()?;
    config.domains.contains_key(&domain).then_some(Wanted { document, domain: Some(domain) })
}

/// The answer; none when it is the cell's to give. `host`: the one that was asked, or the public one for a mail domain's.
pub(crate) async fn answer(session: &mut Session, wanted: Wanted, config: &Config, host: &Host) -> Option<Answer> {
    let Wanted { document, domain } = wanted;
    let visit = Visit::new(session.req_header(), domain, config, host);
    let method = &session.req_header().method;
    let allow = document.allow().filter(|allow| !allow.split(", ").any(|one| one == method.as_str()));
    let answer = match (document, allow) {
        (_, Some(allow)) => {
            let said = "This method is not allowed.";
            Some(Answer::text(StatusCode::METHOD_NOT_ALLOWED, said).with("allow", allow))
        }
        (Document::Autoconfig, _) => Some(visit.autoconfig()),
        (Document::Autodiscover, _) => visit.autodiscover(session).await,
        (Document::AutodiscoverJson, _) => Some(visit.autodiscover_json()),
        (Document::Profile, _) => Some(visit.profile()),
        (Document::Dav, _) => visit.dav(method),
        (Document::Page, _) => Some(visit.page()),
    };
    let result = match answer.as_ref().map(Answer::status) {
        None => "forwarded",
        Some(StatusCode::NOT_FOUND) => "unknown",
        Some(status) if status.is_client_error() => "refused",
        Some(_) => "told",
    };
    event::setup_asked(document.as_str(), result);
    answer
}

/// One request.
struct Visit<'a> {
    config: &'a Config,
    offer: Offer<'a>,
    path: String,
    query: Form,
    /// Mail domain of the host that was asked.
    domain: Option<Domain>,
    /// Language of documents: `Accept-Language` alone, so that a cache can tell them apart.
    lang: Lang,
    /// Language of pages.
    lang_page: Lang,
    html: bool,
}

impl<'a> Visit<'a> {
    fn new(head: &RequestHeader, domain: Option<Domain>, config: &'a Config, host: &'a Host) -> Self {
        let accepts = head.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Self {
            config,
            offer: Offer { origin: &host.origin, ..Offer::of(config) },
            path: head.uri.path().to_owned(),
            query: Form::parse(head.uri.query().unwrap_or_default().as_bytes()),
            domain,
            lang: Lang::accepted(accepts.unwrap_or_default()),
            lang_page: service::lang_of(head),
            html: wants_html(&head.headers),
        }
    }

    /// The tenant of a mail domain of ours.
    fn tenant(&self, domain: &Domain) -> Option<&'a Tenant> {
        self.config.tenants.get(self.config.domains.get(domain)?).map(AsRef::as_ref)
    }

    /// The address in a text, and its tenant.
    fn known(&self, text: &str) -> Option<(Address, &'a Tenant)> {
        let address: Address = text.trim().parse().ok()?;
        let tenant = self.tenant(&address.domain().parse().ok()?)?;
        Some((address, tenant))
    }

    /// The service's name, else the tenant's; in XML any character of it may stand.
    fn name(&self, tenant: &Tenant) -> String {
        let name = self.lang.of(self.config.setup.name.as_ref().unwrap_or(&tenant.name));
        name.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect()
    }

    /// RFC 6764 §5: where calendars and contacts are. 308 keeps the method and body of a POST, 301 those of the rest.
    fn dav(&self, method: &Method) -> Option<Answer> {
        let path = self.config.setup.dav_path.as_deref()?;
        let status =
            if method == Method::POST { StatusCode::PERMANENT_REDIRECT } else { StatusCode::MOVED_PERMANENTLY };
        let location = format!("{}{path}", self.offer.origin);
        Some(Answer::empty(status).with("location", location).with_cache("public"))
    }

    /// 404 in words.
    fn unknown(&self) -> Answer {
        let said = self.lang_page.pick(
            "Cette adresse n’appartient à aucun établissement de ce service.",
            "This address belongs to no institution of this service.",
        );
        if !self.html {
            return Answer::text(StatusCode::NOT_FOUND, said);
        }
        let title = self.lang_page.pick("Adresse inconnue", "Unknown address");
        let links = [(PAGE.to_owned(), self.lang_page.pick("Essayer une autre adresse", "Try another address"))];
        let notice = super::login::view::Notice { title, paragraphs: &[said], links: &links, ..Default::default() };
        super::login::view::notice(StatusCode::NOT_FOUND, self.lang_page, &notice)
    }
}

/// The page for people.
pub(crate) const PAGE: &str = "/setup";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::tests::config;

    const WEB: &str = "[listener.web.https]\nbind = [\"[::]:443\"]\n";

    fn wants(config: &Config, host: &str, path: &str) -> Option<(Document, Option<String>)> {
        let mut head = RequestHeader::build("GET", path.as_bytes(), None).unwrap();
        head.insert_header("host", host).unwrap();
        let wanted = wanted(&head, config, host == "mail.example")?;
        Some((wanted.document, wanted.domain.map(|domain| domain.to_string())))
    }

    #[test]
    fn a_host_of_a_mail_domain_answers_only_for_what_it_is_named_after() {
        use Document::{Autoconfig, Autodiscover, AutodiscoverJson, Page, Profile};
        let (_dir, config) = config("https://mail.example", WEB, "");
        let univ = || Some("univ.example".to_owned());
        for (host, path, expected) in [
            ("mail.example", "/mail/config-v1.1.xml", Some((Autoconfig, None))),
            ("mail.example", "/.well-known/autoconfig/mail/config-v1.1.xml?a=b", Some((Autoconfig, None))),
            ("mail.example", "/AutoDiscover/AutoDiscover.XML", Some((Autodiscover, None))),
            ("mail.example", "/autodiscover/autodiscover.json/v1.0/a%40univ.example", Some((AutodiscoverJson, None))),
            ("mail.example", "/mail/setup.mobileconfig", Some((Profile, None))),
            ("mail.example", "/setup", Some((Page, None))),
            ("mail.example", "/setup/", None),
            ("mail.example", "/mail", None),
            // Nobody named a path: the cell may know.
            ("mail.example", "/.well-known/caldav", None),
            ("autoconfig.univ.example", "/mail/config-v1.1.xml", Some((Autoconfig, univ()))),
            ("AutoConfig.Univ.Example:443", "/mail/config-v1.1.xml", Some((Autoconfig, univ()))),
            ("autoconfig.univ.example", "/autodiscover/autodiscover.xml", None),
            ("autoconfig.univ.example", "/setup", None),
            ("autoconfig.univ.example", "/login", None),
            ("autoconfig.other.example", "/mail/config-v1.1.xml", None),
            ("autoconfig.example", "/mail/config-v1.1.xml", None),
            ("univ.example", "/mail/config-v1.1.xml", None),
            ("autodiscover.univ.example", "/Autodiscover/Autodiscover.xml", Some((Autodiscover, univ()))),
            ("autodiscover.univ.example", "/mail/config-v1.1.xml", None),
        ] {
            assert_eq!(wants(&config, host, path), expected, "{host} {path}");
        }
    }

    #[test]
    fn a_path_of_calendars_is_told_and_everything_can_be_turned_off() {
        let (_dir, dav) = config("https://mail.example", WEB, "dav_path = \"/dav/\"");
        assert_eq!(wants(&dav, "mail.example", "/.well-known/carddav"), Some((Document::Dav, None)));
        let (_dir, off) = config("https://mail.example", WEB, "enabled = false\ndav_path = \"/dav/\"");
        for path in ["/setup", "/.well-known/carddav", "/autodiscover/autodiscover.xml", "/mail/config-v1.1.xml"] {
            assert_eq!(wants(&off, "mail.example", path), None, "{path}");
        }
    }
}
