//! What a mail listener offers, in the terms of each dialogue.

use std::{sync::Arc, time::Duration};

use guichet_config::{MailMechanism, MailProtocol, MailTls};
use guichet_proto::{
    Dialogue, Mechanism,
    imap::{ImapDialogue, ImapProfile},
    pop3::{Pop3Dialogue, Pop3Profile},
    sasl::Mechanisms,
    sieve::{SieveDialogue, SieveProfile},
};

use super::driver::Visit;

/// A mail listener, as far as a connection needs to know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(super) protocol: MailProtocol,
    pub(super) tls: MailTls,
    pub(super) mechanisms: Mechanisms,
}

impl Offer {
    pub(crate) fn new(protocol: MailProtocol, tls: MailTls, mechanisms: &[MailMechanism]) -> Self {
        let mechanism = |one: &MailMechanism| match one {
            MailMechanism::Command => Mechanism::Login,
            MailMechanism::Plain => Mechanism::Plain,
            MailMechanism::Login => Mechanism::SaslLogin,
        };
        Self { protocol, tls, mechanisms: mechanisms.iter().map(mechanism).collect() }
    }

    /// How long a logged-in session may be silent.
    pub(super) fn inactivity(&self) -> Duration {
        Duration::from_secs(match self.protocol {
            // RFC 9051 §5.4, RFC 5804 §1.1: at least 30 minutes.
            MailProtocol::Imap | MailProtocol::Sieve => 35 * 60,
            // RFC 1939 §3: at least 10 minutes. RFC 5321 §4.5.3.2: 10 minutes behind the end of a message.
            MailProtocol::Pop3 | MailProtocol::Submission => 11 * 60,
        })
    }
}

/// A dialogue that can be offered.
pub(super) trait Offered: Dialogue {
    /// What is said to this visit.
    fn profile(visit: &Visit, tls: bool) -> Arc<Self::Profile>;
}

impl Offered for ImapDialogue {
    fn profile(visit: &Visit, tls: bool) -> Arc<ImapProfile> {
        let config = &visit.snapshot.config;
        Arc::new(ImapProfile {
            tls,
            mechanisms: visit.offer.mechanisms,
            extra_capabilities: visit.app.cells.learnt(MailProtocol::Imap).names.into(),
            login_deadline: config.limits.login_deadline,
            hostname: config.public.hostname.as_str().into(),
        })
    }
}

impl Offered for Pop3Dialogue {
    fn profile(visit: &Visit, tls: bool) -> Arc<Pop3Profile> {
        let config = &visit.snapshot.config;
        Arc::new(Pop3Profile {
            tls,
            mechanisms: visit.offer.mechanisms,
            extra_capabilities: visit.app.cells.learnt(MailProtocol::Pop3).names.into(),
            login_deadline: config.limits.login_deadline,
            hostname: config.public.hostname.as_str().into(),
        })
    }
}

impl Offered for SieveDialogue {
    fn profile(visit: &Visit, tls: bool) -> Arc<SieveProfile> {
        let config = &visit.snapshot.config;
        let learnt = visit.app.cells.learnt(MailProtocol::Sieve);
        Arc::new(SieveProfile {
            tls,
            mechanisms: visit.offer.mechanisms,
            sieve_extensions: learnt.names.into(),
            extra_capabilities: learnt.values.into(),
            login_deadline: config.limits.login_deadline,
            hostname: config.public.hostname.as_str().into(),
        })
    }
}

/// Turns a connection away before TLS, in the protocol's words.
pub(crate) fn refusal(protocol: MailProtocol) -> &'static [u8] {
    match protocol {
        MailProtocol::Imap => ImapDialogue::refuse_connection(),
        MailProtocol::Pop3 => Pop3Dialogue::refuse_connection(),
        MailProtocol::Sieve => SieveDialogue::refuse_connection(),
        // RFC 5321 §4.2.3: the service closes the channel.
        MailProtocol::Submission => b"421 4.7.0 Too many connections, try again later\r\n",
    }
}
