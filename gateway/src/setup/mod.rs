//! What the service offers to mail programs: the listeners that users can reach, by protocol, implicit TLS first.
//!
//! [`Offer`] is derived from the configuration. `http::setup` tells it to programs that ask by HTTP, [`dns`] prints the
//! records by which others find it.

pub mod dns;

use std::net::SocketAddr;

use guichet_config::{Config, Listener, ListenerKind, MailProtocol, MailTls};

/// What is offered, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Host of everything.
    pub hostname: &'a str,
    /// `https://` and what browsers see behind it.
    pub origin: &'a str,
    /// Port of HTTPS; absent: nothing is served by HTTPS.
    pub web_port: Option<u16>,
    /// Mail services, best first within each protocol, in the order of [`PROTOCOLS`].
    pub services: Vec<Service>,
    /// Path of calendars and contacts; only with a `web_port`.
    pub dav_path: Option<&'a str>,
}

/// One way to one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it speaks.
    pub protocol: MailProtocol,
    /// How it reaches TLS.
    pub tls: MailTls,
    /// Port that users connect to.
    pub port: u16,
}

impl<'a> Offer<'a> {
    /// What a configuration offers.
    pub fn of(config: &'a Config) -> Self {
        let ways = PROTOCOLS.into_iter().flat_map(|protocol| TLS.map(|tls| (protocol, tls)));
        let port = |(protocol, tls)| public_port(config, protocol, tls).map(|port| Service { protocol, tls, port });
        let origin = config.public.origin.as_str();
        let has_web = config.listeners.iter().any(|listener| listener.kind == ListenerKind::Web);
        let web_port = has_web.then(|| port_of(origin));
        Self {
            hostname: &config.public.hostname,
            origin,
            web_port,
            services: ways.filter_map(port).collect(),
            dav_path: config.setup.dav_path.as_deref().filter(|_| has_web),
        }
    }

    /// The services of one protocol, best first.
    pub fn all(&self, protocol: MailProtocol) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(move |service| service.protocol == protocol)
    }

    /// The best service of one protocol.
    pub fn best(&self, protocol: MailProtocol) -> Option<&Service> {
        self.all(protocol).next()
    }
}

/// The port by which users reach a protocol. Several listeners may serve it (one for each network, one behind a load
/// balancer): a port that the file names for users comes first, then the standard one. Programs are told of passwords
/// alone: a listener that takes none, or that only certificates open, is nobody's to find.
fn public_port(config: &Config, protocol: MailProtocol, tls: MailTls) -> Option<u16> {
    let standard = standard_port(protocol, tls);
    let of_kind = config.listeners.iter().filter(|listener| match &listener.kind {
        ListenerKind::Mail { protocol: p, tls: t, mechanisms, client_ca, .. } => {
            let by_password = mechanisms.iter().any(|mechanism| mechanism.has_password());
            *p == protocol && *t == tls && by_password && !client_ca.as_ref().is_some_and(|ca| ca.required)
        }
        _ => false,
    });
    let rank = |(listener, port): &(&Listener, u16)| (listener.public_port.is_none(), Some(*port) != standard);
    let users_are_here = config.public.hostname == "localhost";
    let told = of_kind.filter_map(|listener| told(listener, users_are_here).map(|port| (listener, port)));
    told.min_by_key(rank).map(|(_, port)| port)
}

/// The port of a listener, when users can reach it: loopback alone is for programs of this machine, and a port of the
/// system's choice is another one after each start.
fn told(listener: &Listener, users_are_here: bool) -> Option<u16> {
    let reaches = |bind: &&SocketAddr| bind.port() != 0 && (users_are_here || !bind.ip().is_loopback());
    let reachable = listener.bind.iter().find(reaches);
    listener.public_port.or_else(|| reachable.map(SocketAddr::port))
}

/// The port that programs try by themselves. ManageSieve has one, for STARTTLS (RFC 5804 §1.8).
fn standard_port(protocol: MailProtocol, tls: MailTls) -> Option<u16> {
    match (protocol, tls) {
        (MailProtocol::Imap, MailTls::Implicit) => Some(993),
        (MailProtocol::Imap, MailTls::StartTls) => Some(143),
        (MailProtocol::Pop3, MailTls::Implicit) => Some(995),
        (MailProtocol::Pop3, MailTls::StartTls) => Some(110),
        (MailProtocol::Submission, MailTls::Implicit) => Some(465),
        (MailProtocol::Submission, MailTls::StartTls) => Some(587),
        (MailProtocol::Sieve, MailTls::Implicit) => None,
        (MailProtocol::Sieve, MailTls::StartTls) => Some(4190),
    }
}

/// `https://HOST` or `https://HOST:PORT`, as the configuration's check leaves it.
fn port_of(origin: &str) -> u16 {
    let host = origin.strip_prefix("https://").unwrap_or(origin);
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443)
}

/// In the order in which programs should take them: mail that stays on the server first.
const PROTOCOLS: [MailProtocol; 4] =
    [MailProtocol::Imap, MailProtocol::Pop3, MailProtocol::Submission, MailProtocol::Sieve];

/// RFC 8314 §3: implicit TLS before STARTTLS.
const TLS: [MailTls; 2] = [MailTls::Implicit, MailTls::StartTls];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A configuration with these listeners and keys of `[setup]`, in a folder that must live as long.
    pub(crate) fn config(origin: &str, listeners: &str, setup: &str) -> (tempfile::TempDir, Config) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("token", "0123456789abcdef0123456789abcdef");
        write("mail.crt", "certificate");
        write("mail.key", "key");
        write("users.toml", "");
        write(
            "guichet.toml",
            &format!(
                r#"
[public]
hostname = "mail.example"
origin = "{origin}"
certificates = "."
[management]
token_file = "token"
{listeners}
[setup]
{setup}
[directory.embedded]
file = "users.toml"
[cell.main]
imap.endpoints = ["127.0.0.1:143"]
pop3.endpoints = ["127.0.0.1:110"]
submission.endpoints = ["127.0.0.1:587"]
sieve.endpoints = ["127.0.0.1:4190"]
[tenant.univ]
name = {{ fr = "Université", en = "University" }}
domains = ["univ.example", "etu.univ.example"]
cell = "main"
[tenant.labo]
name.fr = "Labo"
domains = ["labo.example"]
cell = "main"
"#
            ),
        );
        let config = guichet_config::load(&dir.path().join("guichet.toml")).unwrap_or_else(|report| panic!("{report}"));
        (dir, config)
    }

    fn services(listeners: &str) -> Vec<(MailProtocol, MailTls, u16)> {
        let (_dir, config) = config("https://mail.example", listeners, "");
        Offer::of(&config).services.iter().map(|one| (one.protocol, one.tls, one.port)).collect()
    }

    #[test]
    fn only_listeners_that_users_reach_are_offered_implicit_tls_first() {
        use MailProtocol::{Imap, Pop3, Submission};
        use MailTls::{Implicit, StartTls};
        let found = services(
            r#"
            [listener.imap.a]
            bind = ["[::]:143"]
            tls = "starttls"
            [listener.imap.z]
            bind = ["127.0.0.1:2993", "[::]:993"]
            [listener.pop3.local]
            bind = ["127.0.0.1:995", "[::1]:995"]
            [listener.pop3.open]
            bind = ["127.0.0.1:1110"]
            tls = "starttls"
            public_port = 110
            [listener.sieve.any]
            bind = ["[::]:0"]
            [listener.submission.one]
            bind = ["[::]:587"]
            tls = "starttls"
            "#,
        );
        let expected =
            [(Imap, Implicit, 993), (Imap, StartTls, 143), (Pop3, StartTls, 110), (Submission, StartTls, 587)];
        assert_eq!(found, expected);
    }

    #[test]
    fn of_several_listeners_the_named_port_comes_first_then_the_standard_one() {
        let first = |listeners: &str| services(listeners).first().map(|(.., port)| *port);
        let odd = "[listener.imap.a]\nbind = [\"[::]:2993\"]\n";
        let standard = "[listener.imap.b]\nbind = [\"[::]:993\"]\n";
        let named = "[listener.imap.c]\nbind = [\"[::]:8993\"]\npublic_port = 1993\n";
        assert_eq!(first(odd), Some(2993));
        assert_eq!(first(&format!("{odd}{standard}")), Some(993));
        assert_eq!(first(&format!("{odd}{standard}{named}")), Some(1993));
    }

    #[test]
    fn a_listener_that_a_password_does_not_open_is_not_offered() {
        let cards = r#"
            [listener.imap.a]
            bind = ["[::]:993"]
            mechanisms = ["plain"]
            client_ca = { file = "mail.crt", required = true }
        "#;
        assert_eq!(services(cards), []);
        let open = "[listener.imap.b]\nbind = [\"[::]:2993\"]\n";
        assert_eq!(services(&format!("{cards}{open}")), [(MailProtocol::Imap, MailTls::Implicit, 2993)]);
    }

    #[test]
    fn calendars_need_the_web() {
        let imap = "[listener.imap.a]\nbind = [\"[::]:993\"]\n";
        let (_dir, alone) = config("https://mail.example:8443", imap, "dav_path = \"/dav/\"");
        assert_eq!((Offer::of(&alone).web_port, Offer::of(&alone).dav_path), (None, None));
        let web = "[listener.web.a]\nbind = [\"[::]:443\"]\n";
        let (_dir, both) = config("https://mail.example:8443", web, "dav_path = \"/dav/\"");
        assert_eq!((Offer::of(&both).web_port, Offer::of(&both).dav_path), (Some(8443), Some("/dav/")));
        let (_dir, plain) = config("https://mail.example", web, "");
        assert_eq!((Offer::of(&plain).web_port, Offer::of(&plain).dav_path), (Some(443), None));
    }
}
