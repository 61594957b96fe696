//! Open ports as used.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use crate::{CellId, Domain, ListenerId, TenantId};

/// `[listener.KIND.NAME]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// NAME; unique over all kinds.
    pub id: ListenerId,
    /// What it speaks.
    pub kind: ListenerKind,
    /// Addresses.
    pub bind: Vec<SocketAddr>,
    /// Networks that must send a PROXY v1 or v2 header (others are refused); empty: no header is read.
    pub proxy_from: Vec<IpNet>,
    /// Port that mail programs are told, when the file names one; mail listeners only.
    pub public_port: Option<u16>,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// HTTPS, HTTP/1.1 and HTTP/2.
    Web,
    /// Plain HTTP that only redirects to HTTPS.
    Redirect,
    /// A mail protocol with a login.
    Mail {
        /// Which.
        protocol: MailProtocol,
        /// TLS at once or by STARTTLS.
        tls: MailTls,
        /// Ways to log in, none twice; at least one that the protocol has.
        mechanisms: Vec<MailMechanism>,
        /// Bare line ends in messages; of use to submission only.
        data_lines: DataLines,
        /// Client certificates it asks for.
        client_ca: Option<ClientCa>,
    },
    /// TLS from the first byte, then whatever the client speaks, to the cell its SNI names.
    Relay {
        /// Cell by SNI; each has a `relay`.
        routes: BTreeMap<Domain, CellId>,
        /// Cell of clients that ask for another name or none; absent: they are turned away.
        cell_default: Option<CellId>,
        /// Longest time in which nothing moves.
        timeout_idle: Duration,
    },
}

impl ListenerKind {
    /// KIND in `[listener.KIND.NAME]`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Redirect => "redirect",
            Self::Mail { protocol, .. } => protocol.as_str(),
            Self::Relay { .. } => "relay",
        }
    }
}

/// A mail protocol with a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MailProtocol {
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// Submission (SMTP).
    Submission,
    /// ManageSieve.
    Sieve,
}

impl MailProtocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Imap, Self::Pop3, Self::Submission, Self::Sieve];

    /// `imap`, `pop3`, `submission` or `sieve`: in keys, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Submission => "submission",
            Self::Sieve => "sieve",
        }
    }

    /// Its name in sentences.
    pub fn title(self) -> &'static str {
        match self {
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
            Self::Submission => "submission",
            Self::Sieve => "ManageSieve",
        }
    }

    /// Whether it has a login command of its own besides SASL: IMAP `LOGIN`, POP3 `USER` and `PASS`.
    pub fn has_login_command(self) -> bool {
        matches!(self, Self::Imap | Self::Pop3)
    }
}

/// How a mail listener reaches TLS. No password is taken before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// From the first byte.
    Implicit,
    /// By STARTTLS; nothing can be done before.
    StartTls,
}

/// `client_ca` of a mail listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// PEM roots.
    pub file: PathBuf,
    /// Clients without a certificate are turned away.
    pub required: bool,
    /// OID of the subject attribute that holds the address; absent: the alternative names (rfc822Name) do.
    pub subject_attribute: Option<String>,
    /// Tenants whose users the roots may name.
    pub tenants: BTreeSet<TenantId>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailMechanism {
    /// The protocol's own command.
    Command,
    /// SASL PLAIN (RFC 4616).
    Plain,
    /// SASL LOGIN (draft-murchison-sasl-login).
    Login,
    /// SASL XOAUTH2: a bearer token.
    XOAuth2,
    /// SASL OAUTHBEARER (RFC 7628): a bearer token.
    OAuthBearer,
    /// SASL EXTERNAL (RFC 4422 appendix A): the client's certificate.
    External,
}

impl MailMechanism {
    /// Its name for clients.
    pub fn sasl_name(self) -> &'static str {
        match self {
            Self::Command => "a login command",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::XOAuth2 => "XOAUTH2",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::External => "EXTERNAL",
        }
    }

    /// Whether the client gives a password, which a cell may be entered with.
    pub fn has_password(self) -> bool {
        matches!(self, Self::Command | Self::Plain | Self::Login)
    }
}

/// What becomes of a message with bare CR or LF in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataLines {
    /// It is refused.
    #[default]
    Reject,
    /// They become CRLF; NUL is refused.
    Normalise,
    /// It passes as it is.
    Off,
}
