//! One TLS policy for every listener; certificates by SNI from a folder; verified TLS towards cells.
//!
//! [`policy`] says which suites and groups are spoken, [`certificates`] who we are, [`client_ca`] whose certificates
//! clients may show, [`client`] whom we trust behind us; [`stream`] carries mail. [`ServerTls`] puts the first three together, once per (re)load.

pub mod certificates;
pub mod client;
pub mod client_ca;
pub mod policy;
pub(crate) mod stream;

use std::{collections::HashMap, sync::Arc};

use guichet_config::{CertificateFiles, ListenerId, MailProtocol, TlsProfile};
use rustls::{
    ServerConfig,
    server::{ProducesTickets, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};

pub use certificates::{CertificateProblem, Certificates};
pub use client::ClientTls;
pub use client_ca::{ClientCa, ClientCas};

/// TLS of every listener under one configuration. The certificates inside follow their folder.
#[derive(Debug)]
pub struct ServerTls {
    /// HTTPS: `h2` and `http/1.1`.
    pub web: Arc<ServerConfig>,
    mail: [(MailProtocol, Arc<ServerConfig>); 4],
    /// Mail listeners that ask for client certificates.
    certified: HashMap<ListenerId, (Arc<ServerConfig>, ClientCa)>,
    /// Relay listeners: no ALPN is spoken, what the client speaks is the cell's matter.
    pub relay: Arc<ServerConfig>,
    /// The management listener, when it has a certificate.
    pub management: Option<Arc<ServerConfig>>,
    /// Who we are, by SNI.
    pub certificates: Arc<Certificates>,
}

impl ServerTls {
    /// Puts the pieces together.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(
        profile: TlsProfile,
        certificates: Arc<Certificates>,
        management: Option<Arc<CertifiedKey>>,
        client_cas: ClientCas,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, rustls::Error> {
        let resolver: Arc<dyn ResolvesServerCert> = certificates.clone();
        let public = |alpn: &[&[u8]]| policy::server_config(profile, resolver.clone(), tickets.clone(), alpn, None);
        let mut certified = HashMap::new();
        for (listener, ca) in client_cas {
            // A ticket holds the certificate of its session. Under keys of its own, which end with this configuration, it
            // cannot bring one to a listener that would not have taken it, nor one without to a listener that wants one.
            let tickets = policy::tickets()?;
            let clients = Some(ca.verifier.clone());
            let config = policy::server_config(profile, resolver.clone(), tickets, &[alpn(ca.protocol)], clients);
            certified.insert(listener, (config, ca));
        }
        Ok(Self {
            web: public(&[b"h2", b"http/1.1"]),
            mail: MailProtocol::ALL.map(|protocol| (protocol, public(&[alpn(protocol)]))),
            certified,
            relay: public(&[]),
            management: management.map(|key| {
                let resolver = Arc::new(SingleCertAndKey::from(key));
                policy::server_config(profile, resolver, tickets.clone(), &[b"http/1.1"], None)
            }),
            certificates,
        })
    }

    /// A mail listener, implicit TLS and STARTTLS. A client that offers other protocols by ALPN only is refused (ALPACA).
    pub fn mail(&self, protocol: MailProtocol, listener: &ListenerId) -> Arc<ServerConfig> {
        if let Some((config, _)) = self.certified.get(listener) {
            return config.clone();
        }
        let [first, ..] = &self.mail;
        self.mail.iter().find(|(one, _)| *one == protocol).unwrap_or(first).1.clone()
    }

    /// What a listener asks of its clients, when it asks for certificates.
    pub fn client_ca(&self, listener: &ListenerId) -> Option<&ClientCa> {
        self.certified.get(listener).map(|(_, ca)| ca)
    }
}

/// Names of the IANA registry; it has none for SMTP, and this one serves to refuse all others.
fn alpn(protocol: MailProtocol) -> &'static [u8] {
    match protocol {
        MailProtocol::Imap => b"imap",
        MailProtocol::Pop3 => b"pop3",
        MailProtocol::Submission => b"smtp",
        MailProtocol::Sieve => b"managesieve",
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
