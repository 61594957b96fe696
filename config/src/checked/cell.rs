//! Back end groups as used.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use crate::{CellId, Domain, MailProtocol, Secret};

/// `[cell.NAME]`
#[derive(Clone, Debug)]
pub struct Cell {
    /// NAME.
    pub id: CellId,
    /// Addresses of this machine that connections come from, in turn; empty: the kernel chooses.
    pub source_addresses: Vec<IpAddr>,
    /// Web back end.
    pub web: Option<CellWeb>,
    /// Mail back ends.
    pub mail: BTreeMap<MailProtocol, CellMail>,
    /// Back end of relay listeners.
    pub relay: Option<CellRelay>,
    /// Where it gives auth tokens.
    pub zimbra: Option<CellZimbra>,
}

/// A host and port; the host is a name (resolved with its TTL) or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// TLS towards a cell.
#[derive(Clone, Debug)]
pub struct CellTls {
    /// PEM roots; absent: the system's.
    pub ca: Option<PathBuf>,
    /// Name the certificate must hold; absent: the endpoint's host.
    pub name: Option<String>,
}

/// Health checks of endpoints.
#[derive(Clone, Debug)]
pub struct Health {
    /// Between two checks.
    pub interval: Duration,
    /// One check.
    pub timeout: Duration,
    /// Failures in a row that take an endpoint out.
    pub failures: u32,
    /// Successes in a row that bring it back.
    pub successes: u32,
}

/// `[cell.NAME.web]`
#[derive(Clone, Debug)]
pub struct CellWeb {
    /// Endpoints, equal in rank.
    pub endpoints: Vec<Endpoint>,
    /// TLS to them; absent: plain HTTP.
    pub tls: Option<CellTls>,
    /// How a logged-in user enters.
    pub entry: WebEntry,
    /// Checks (TCP connect, and `GET health_path` when set).
    pub health: Health,
    /// Path whose answer below 500 means healthy.
    pub health_path: Option<String>,
}

/// How a logged-in user enters a cell's web side.
#[derive(Clone, Debug)]
pub enum WebEntry {
    /// `Remote-User` with the address, and `Guichet-Identity`: a JWT (HS256) with `sub`, `tenant`, `category`, `aud` (cell), `iat`, `exp`.
    IdentityHeaders {
        /// HMAC key shared with the cell, at least 32 bytes.
        key: Secret<Vec<u8>>,
    },
    /// The cookie `ZM_AUTH_TOKEN` with an auth token; the cell has a [`CellZimbra`].
    ZimbraPreauth,
}

/// `[cell.NAME.imap]`, `pop3`, `submission`, `sieve`
#[derive(Clone, Debug)]
pub struct CellMail {
    /// Endpoints, equal in rank.
    pub endpoints: Vec<Endpoint>,
    /// TLS to them.
    pub tls: CellMailTls,
    /// How the gateway logs in for a user.
    pub login: MailLogin,
    /// How the cell learns the client's address.
    pub client_address: ClientAddress,
    /// Checks (TCP connect and greeting).
    pub health: Health,
}

/// TLS towards a mail back end.
#[derive(Clone, Debug)]
pub enum CellMailTls {
    /// None (loopback or a network of its own; the file says `dangerous_plaintext = true`).
    Plain,
    /// From the first byte.
    Implicit(CellTls),
    /// STARTTLS, required.
    StartTls(CellTls),
}

/// How the gateway logs in at a cell for a user.
#[derive(Clone, Debug)]
pub enum MailLogin {
    /// With the password the user gave.
    Password,
    /// As master: SASL PLAIN with authzid = the user.
    Master {
        /// authcid.
        username: String,
        /// Its password.
        password: Secret<String>,
    },
    /// With an auth token; the cell has a [`CellZimbra`].
    ZimbraToken,
}

/// `[cell.NAME.zimbra]`
#[derive(Clone, Debug)]
pub struct CellZimbra {
    /// Endpoints of its SOAP service, equal in rank.
    pub endpoints: Vec<Endpoint>,
    /// TLS to them; absent: plain HTTP.
    pub tls: Option<CellTls>,
    /// PreAuth key of domains that have none of their own, as Zimbra writes it: its ASCII digits are the key.
    pub key: Option<Secret<String>>,
    /// PreAuth keys by domain.
    pub keys: BTreeMap<Domain, Secret<String>>,
    /// Life of a token.
    pub token_life: Duration,
    /// Checks (TCP connect, TLS).
    pub health: Health,
}

impl MailLogin {
    /// Whether only the user's own password opens the cell.
    pub fn needs_password(&self) -> bool {
        matches!(self, Self::Password)
    }
}

/// How a cell learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// Not at all.
    None,
    /// IMAP ID before login (`x-originating-ip`, `x-originating-port`, `x-connected-ip`, `x-session-id`).
    Id,
    /// XCLIENT before login (POP3, submission, ManageSieve).
    Xclient,
    /// Zimbra's XOIP before login (POP3).
    Xoip,
    /// PROXY v2 header before anything.
    ProxyV2,
}

/// `[cell.NAME.relay]`
#[derive(Clone, Debug)]
pub struct CellRelay {
    /// Endpoints, equal in rank.
    pub endpoints: Vec<Endpoint>,
    /// TLS to them; absent: none.
    pub tls: Option<CellTls>,
    /// A PROXY v2 header goes before anything.
    pub proxy_v2: bool,
    /// Checks (TCP connect, TLS).
    pub health: Health,
}
