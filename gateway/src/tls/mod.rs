//! One TLS policy for every listener; certificates by SNI from a folder; verified TLS towards cells.
//!
//! [`policy`] says which suites and groups are spoken, [`certificates`] who we are, [`client`] whom we trust behind us.
//! [`ServerTls`] puts the first two together, once per (re)load.

pub mod certificates;
pub mod client;
pub mod policy;

use std::sync::Arc;

use guichet_config::{CertificateFiles, MailProtocol, TlsProfile};
use rustls::{
    ServerConfig,
    server::{ProducesTickets, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};

pub use certificates::{CertificateProblem, Certificates};
pub use client::ClientTls;

/// TLS of every listener under one configuration. The certificates inside follow their folder.
#[derive(Debug)]
pub struct ServerTls {
    /// HTTPS: `h2` and `http/1.1`.
    pub web: Arc<ServerConfig>,
    mail: [(MailProtocol, Arc<ServerConfig>); 4],
    /// Relay listeners: no ALPN is spoken, what the client speaks is the cell's matter.
    pub relay: Arc<ServerConfig>,
    /// The management listener, when it has a certificate.
    pub management: Option<Arc<ServerConfig>>,
    /// Who we are, by SNI.
    pub certificates: Arc<Certificates>,
}

impl ServerTls {
    /// Puts the pieces together.
    pub fn new(
        profile: TlsProfile,
        certificates: Arc<Certificates>,
        management: Option<Arc<CertifiedKey>>,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Self {
        let public = |alpn: &[&[u8]]| {
            let resolver: Arc<dyn ResolvesServerCert> = certificates.clone();
            policy::server_config(profile, resolver, tickets.clone(), alpn)
        };
        Self {
            web: public(&[b"h2", b"http/1.1"]),
            // Names of the IANA registry; it has none for SMTP, and this one serves to refuse all others.
            mail: MailProtocol::ALL.map(|protocol| match protocol {
                MailProtocol::Imap => (protocol, public(&[b"imap"])),
                MailProtocol::Pop3 => (protocol, public(&[b"pop3"])),
                MailProtocol::Submission => (protocol, public(&[b"smtp"])),
                MailProtocol::Sieve => (protocol, public(&[b"managesieve"])),
            }),
            relay: public(&[]),
            management: management.map(|key| {
                let resolver = Arc::new(SingleCertAndKey::from(key));
                policy::server_config(profile, resolver, tickets.clone(), &[b"http/1.1"])
            }),
            certificates,
        }
    }
    /// A mail protocol, implicit TLS and STARTTLS. A client that offers other protocols by ALPN only is refused (ALPACA).
    pub fn mail(&self, protocol: MailProtocol) -> Arc<ServerConfig> {
        let [first, ..] = &self.mail;
        self.mail.iter().find(|(one, _)| *one == protocol).unwrap_or(first).1.clone()
    }
}

/// The certificate and key of the management listener.
///
/// # Errors
/// A file that cannot be used.
pub fn management_key(
    files: &CertificateFiles,
    now: guichet_auth::WallTime,
) -> Result<Arc<CertifiedKey>, CertificateProblem> {
    certificates::load_pair(&files.certificate, &files.key, now).map(|pair| pair.key)
}
