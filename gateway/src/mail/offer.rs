//! What a mail listener offers, in the terms of each dialogue.

use std::{sync::Arc, time::Duration};

use guichet_config::{DataLines, MailMechanism, MailProtocol, MailTls};
use guichet_proto::{
    Dialogue, Mechanism,
    imap::{ImapDialogue, ImapProfile},
    pop3::{Pop3Dialogue, Pop3Profile},
    sasl::Mechanisms,
    sieve::{SieveDialogue, SieveProfile},
    smtp::{LineEnds, SubmissionDialogue, SubmissionProfile},
};

use super::driver::Visit;

/// A mail listener, as far as a connection needs to know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(super) protocol: MailProtocol,
    pub(super) tls: MailTls,
    pub(super) mechanisms: Mechanisms,
    /// Of use to submission only.
    pub(super) line_ends: LineEnds,
}

impl Offer {
    pub(crate) fn new(
        protocol: MailProtocol,
        tls: MailTls,
        mechanisms: &[MailMechanism],
        data_lines: DataLines,
    ) -> Self {
        let mechanism = |one: &MailMechanism| match one {
            MailMechanism::Command => Mechanism::Login,
            MailMechanism::Plain => Mechanism::Plain,
            MailMechanism::Login => Mechanism::SaslLogin,
            MailMechanism::XOAuth2 => Mechanism::XOAuth2,
            MailMechanism::OAuthBearer => Mechanism::OAuthBearer,
            MailMechanism::External => Mechanism::External,
        };
        let line_ends = match data_lines {
            DataLines::Reject => LineEnds::Reject,
            DataLines::Normalise => LineEnds::Normalise,
            DataLines::Off => LineEnds::Off,
        };
        Self { protocol, tls, mechanisms: mechanisms.iter().map(mechanism).collect(), line_ends }
    }

    /// How long a logged-in session may be silent.
    pub(super) fn inactivity(&self) -> Duration {
        Duration::from_secs(match self.protocol {
            // RFC 9051 §5.4, RFC 5804 §1.1: at least 30 minutes.
            MailProtocol::Imap | MailProtocol::Sieve => 35 * 60,
            // RFC 1939 §3: at least 10 minutes. The relay of submission keeps its own time.
            MailProtocol::Pop3 | MailProtocol::Submission => 11 * 60,
        })
    }
}

/// A dialogue that can be offered.
pub(super) trait Offered: Dialogue {
    /// What is said to this visit.
    fn profile(visit: &Visit, tls: bool) -> Arc<Self::Profile>;

    /// The name the client gave itself, where there is one that a cell may want to know.
    fn helo(&self) -> Option<&str> {
        None
    }
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

impl Offered for SubmissionDialogue {
    fn profile(visit: &Visit, tls: bool) -> Arc<SubmissionProfile> {
        let config = &visit.snapshot.config;
        Arc::new(SubmissionProfile {
            tls,
            mechanisms: visit.offer.mechanisms,
            extensions: visit.extensions,
            login_deadline: config.limits.login_deadline,
            hostname: config.public.hostname.as_str().into(),
        })
    }

    fn helo(&self) -> Option<&str> {
        self.client_name()
    }
}

/// Turns a connection away before TLS, in the protocol's words.
pub(crate) fn refusal(protocol: MailProtocol) -> &'static [u8] {
    match protocol {
        MailProtocol::Imap => ImapDialogue::refuse_connection(),
        MailProtocol::Pop3 => Pop3Dialogue::refuse_connection(),
        MailProtocol::Sieve => SieveDialogue::refuse_connection(),
        MailProtocol::Submission => SubmissionDialogue::refuse_connection(),
    }
}
