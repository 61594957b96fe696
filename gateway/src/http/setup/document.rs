//! The documents for programs. Their texts are templates, which escape what is put into them.

use askama::Template;
use aws_lc_rs::digest;
use guichet_config::{Address, Domain, MailProtocol, MailTls};
use http::StatusCode;

use super::{PAGE, Visit};
use crate::{
    http::{lang::Lang, page::Answer},
    setup::{Offer, Service},
};

#[derive(Template)]
#[template(path = "autoconfig.xml", escape = "html")]
struct Autoconfig<'a> {
    domain: &'a Domain,
    name: &'a str,
    hostname: &'a str,
    incoming: Vec<&'a Service>,
    outgoing: Vec<&'a Service>,
    dav: Option<String>,
    page: Option<String>,
}

#[derive(Template)]
#[template(path = "autodiscover.xml", escape = "html")]
struct Autodiscover<'a> {
    address: &'a Address,
    hostname: &'a str,
    services: Vec<&'a Service>,
}

#[derive(Template)]
#[template(path = "profile.xml", escape = "html")]
struct Profile<'a> {
    address: &'a Address,
    lang: Lang,
    name: &'a str,
    hostname: &'a str,
    /// `hostname` backwards.
    identifier: String,
    mail: Option<(&'a Service, &'a Service)>,
    /// Port of calendars and contacts.
    dav: Option<u16>,
}

impl Visit<'_> {
    /// Mozilla's document: the same for every address of a domain.
    pub(super) fn autoconfig(&self) -> Answer {
        let domain: Option<Domain> = match self.query.field("emailaddress") {
            "" => self.domain.clone(),
            address => address.rsplit_once('@').and_then(|(_, domain)| domain.trim().parse().ok()),
        };
        let offer = &self.offer;
        let incoming = [MailProtocol::Imap, MailProtocol::Pop3].into_iter().flat_map(|one| offer.all(one));
        let incoming: Vec<_> = incoming.collect();
        let known = domain.and_then(|domain| self.tenant(&domain).map(|tenant| (domain, tenant)));
        let Some((domain, tenant)) = known.filter(|_| !incoming.is_empty()) else { return self.unknown() };
        let document = Autoconfig {
            domain: &domain,
            name: &self.name(tenant),
            hostname: offer.hostname,
            incoming,
            outgoing: offer.all(MailProtocol::Submission).collect(),
            dav: offer.dav_path.map(|path| format!("{}{path}", offer.origin)),
            page: offer.web_port.map(|_| format!("{}{PAGE}", offer.origin)),
        };
        self.told("text/xml; charset=utf-8", render(&document)).with_cache("public")
    }

    /// Microsoft's document: one service for each protocol, the best one. None when there is none.
    pub(super) fn autodiscover_document(&self, address: &Address) -> Option<String> {
        let protocols = [MailProtocol::Imap, MailProtocol::Pop3, MailProtocol::Submission];
        let services: Vec<_> = protocols.into_iter().filter_map(|one| self.offer.best(one)).collect();
        let document = Autodiscover { address, hostname: self.offer.hostname, services };
        (!document.services.is_empty()).then(|| render(&document))
    }

    /// Apple's document, unsigned: signing it would need a certificate that devices trust for that.
    pub(super) fn profile(&self) -> Answer {
        let Some((address, tenant)) = self.known(self.query.field("emailaddress")).filter(|_| has_profile(&self.offer))
        else {
            return self.unknown();
        };
        let hostname = self.offer.hostname;
        let document = Profile {
            address: &address,
            lang: self.lang,
            name: &self.name(tenant),
            hostname,
            identifier: hostname.rsplit('.').collect::<Vec<_>>().join("."),
            mail: profile_mail(&self.offer),
            dav: profile_dav(&self.offer),
        };
        let file = format!("attachment; filename=\"{}.mobileconfig\"", address.domain());
        let answer = self.told("application/x-apple-aspen-config", render(&document));
        answer.with("content-disposition", file).with_cache("private")
    }

    fn told(&self, content_type: &str, body: String) -> Answer {
        Answer::new(StatusCode::OK, content_type, body).with("vary", "accept-language")
    }
}

/// Whether a profile would hold anything.
pub(super) fn has_profile(offer: &Offer<'_>) -> bool {
    profile_mail(offer).is_some() || profile_dav(offer).is_some()
}

/// Mail that comes in and goes out: a profile has both or none.
fn profile_mail<'a>(offer: &'a Offer<'_>) -> Option<(&'a Service, &'a Service)> {
    let incoming = offer.best(MailProtocol::Imap).or_else(|| offer.best(MailProtocol::Pop3));
    incoming.zip(offer.best(MailProtocol::Submission))
}

fn profile_dav(offer: &Offer<'_>) -> Option<u16> {
    offer.web_port.filter(|_| offer.dav_path.is_some())
}

impl Profile<'_> {
    /// The UUID of a part: always the same for an address, so that a profile that is installed again replaces the first
    /// one. From a hash of ours (RFC 9562 §5.8).
    fn uuid(&self, part: &str) -> String {
        let name = format!("guichet profile\0{}\0{}\0{part}", self.hostname, self.address);
        let hash = digest::digest(&digest::SHA256, name.as_bytes());
        let number = hash.as_ref().iter().take(16).fold(0u128, |number, byte| (number << 8) | u128::from(*byte));
        let (version, variant) = (0xf << 76, 0b11 << 62);
        let number = (number & !version & !variant) | (8 << 76) | (0b10 << 62);
        let hex = format!("{number:032X}");
        let group = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32))
    }
}

impl Service {
    fn is_implicit(&self) -> bool {
        self.tls == MailTls::Implicit
    }

    fn is_imap(&self) -> bool {
        self.protocol == MailProtocol::Imap
    }

    /// As Mozilla has it.
    fn socket_type(&self) -> &'static str {
        if self.is_implicit() { "SSL" } else { "STARTTLS" }
    }

    /// As Microsoft has it.
    fn pox_type(&self) -> &'static str {
        match self.protocol {
            MailProtocol::Imap => "IMAP",
            MailProtocol::Pop3 => "POP3",
            MailProtocol::Submission => "SMTP",
            MailProtocol::Sieve => "SIEVE",
        }
    }

    /// As Microsoft has it.
    fn pox_encryption(&self) -> &'static str {
        if self.is_implicit() { "SSL" } else { "TLS" }
    }
}

fn render(document: &impl Template) -> String {
    // Rendering into memory cannot fail.
    document.render().unwrap_or_default()
}
