//! Back end groups.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lapse;

/// A back end group.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    /// Addresses of this machine that connections to the cell come from, in turn; by default the kernel chooses. Each has
    /// about 28,000 connections to one endpoint in it.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub(crate) source_addresses: Vec<String>,
    /// Web back end.
    pub(crate) web: Option<CellWeb>,
    /// IMAP back end.
    pub(crate) imap: Option<CellMail>,
    /// POP3 back end.
    pub(crate) pop3: Option<CellMail>,
    /// Submission back end.
    pub(crate) submission: Option<CellMail>,
    /// ManageSieve back end.
    pub(crate) sieve: Option<CellMail>,
    /// Back end of relay listeners.
    pub(crate) relay: Option<CellRelay>,
    /// Where a Zimbra cell gives auth tokens.
    pub(crate) zimbra: Option<CellZimbra>,
}

impl Cell {
    /// Names of the back ends that are there.
    pub(crate) fn services(&self) -> Vec<&'static str> {
        let all = [
            ("web", self.web.is_some()),
            ("imap", self.imap.is_some()),
            ("pop3", self.pop3.is_some()),
            ("submission", self.submission.is_some()),
            ("sieve", self.sieve.is_some()),
            ("relay", self.relay.is_some()),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
}

/// Web back end of a cell.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellWeb {
    /// `HOST:PORT`, equal in rank.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) endpoints: Vec<String>,
    /// TLS to them; absent: plain HTTP.
    pub(crate) tls: Option<CellTls>,
    /// Let identities and pages travel in the clear to endpoints that are not loopback.
    #[serde(default)]
    pub(crate) dangerous_plaintext: bool,
    /// How a logged-in user enters: exactly one kind.
    pub(crate) entry: WebEntry,
    /// Health checks.
    #[serde(default)]
    pub(crate) health: Health,
    /// Path whose answer below 500 means healthy; by default a TCP connect is enough.
    pub(crate) health_path: Option<String>,
}

/// TLS towards a cell.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CellTls {
    /// PEM roots; by default the system's.
    pub(crate) ca: Option<String>,
    /// Name the certificate must hold; by default the endpoint's host.
    pub(crate) name: Option<String>,
}

/// How a logged-in user enters the web side of a cell.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebEntry {
    /// By signed headers: `Remote-User` and `Guichet-Identity`.
    pub(crate) identity_headers: Option<IdentityHeaders>,
    /// By an auth token of `[cell.NAME.zimbra]`, which the browser never sees.
    pub(crate) zimbra_preauth: Option<ZimbraPreauth>,
}

/// Entry by auth token of a Zimbra cell; it has no settings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ZimbraPreauth {}

/// Entry by signed headers.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityHeaders {
    /// File with the HMAC key shared with the cell, at least 32 bytes.
    pub(crate) key_file: String,
}

/// Health checks of endpoints.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Health {
    /// Between two checks.
    pub(crate) interval: Lapse,
    /// Longest time of one check.
    pub(crate) timeout: Lapse,
    /// Failures in a row that take an endpoint out.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failures: u32,
    /// Successes in a row that bring it back.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) successes: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval: Lapse::new("5s"), timeout: Lapse::new("2s"), failures: 3, successes: 2 }
    }
}

/// Mail back end of a cell.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellMail {
    /// `HOST:PORT`, equal in rank.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) endpoints: Vec<String>,
    /// TLS to them; absent: none.
    #[serde(default)]
    pub(crate) tls: CellMailTls,
    /// Let passwords and mail travel in the clear to endpoints that are not loopback.
    #[serde(default)]
    pub(crate) dangerous_plaintext: bool,
    /// How the gateway logs in for a user; by default with the user's password.
    #[serde(default)]
    pub(crate) login: MailLogin,
    /// How the cell learns the client's address; by default `"id"` for IMAP, `"none"` for the others.
    pub(crate) client_address: Option<ClientAddress>,
    /// Health checks.
    #[serde(default)]
    pub(crate) health: Health,
}

/// TLS towards a mail back end: at most one kind.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CellMailTls {
    /// From the first byte.
    pub(crate) implicit: Option<CellTls>,
    /// By STARTTLS, required.
    pub(crate) starttls: Option<CellTls>,
}

/// How the gateway logs in at a cell: at most one kind.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MailLogin {
    /// With the password the user gave.
    pub(crate) password: Option<PasswordLogin>,
    /// As a master user.
    pub(crate) master: Option<MasterLogin>,
    /// With an auth token of `[cell.NAME.zimbra]`.
    pub(crate) zimbra_token: Option<ZimbraTokenLogin>,
}

/// Login with the password the user gave; it has no settings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordLogin {}

/// Login with an auth token of a Zimbra cell; it has no settings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ZimbraTokenLogin {}

/// Login as a master user.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MasterLogin {
    /// Name of the master user.
    pub(crate) username: String,
    /// File with its password.
    pub(crate) password_file: String,
}

/// Where a Zimbra cell gives auth tokens (SOAP `AuthRequest` with PreAuth), so that passwords stay with the gateway.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellZimbra {
    /// `HOST:PORT` of its `/service/soap`, equal in rank.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) endpoints: Vec<String>,
    /// TLS to them; absent: plain HTTP.
    pub(crate) tls: Option<CellTls>,
    /// Let keys and tokens travel in the clear to endpoints that are not loopback.
    #[serde(default)]
    pub(crate) dangerous_plaintext: bool,
    /// File with the PreAuth key of all domains that have none of their own: 64 hexadecimal digits, Zimbra's
    /// `zimbraPreAuthKey`.
    pub(crate) key_file: Option<String>,
    /// Files with the PreAuth keys of single domains.
    #[serde(default)]
    pub(crate) key_files: BTreeMap<String, String>,
    /// Life of a token.
    #[serde(default = "token_life")]
    pub(crate) token_life: Lapse,
    /// Health checks: a connection, and TLS where it is spoken.
    #[serde(default)]
    pub(crate) health: Health,
}

fn token_life() -> Lapse {
    Lapse::new("1h")
}

/// How a cell learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientAddress {
    /// Not at all.
    None,
    /// By the IMAP ID command before login.
    Id,
    /// By XCLIENT before login (POP3, submission, ManageSieve).
    Xclient,
    /// By Zimbra's XOIP before login (POP3).
    Xoip,
    /// By a PROXY v2 header before anything.
    ProxyV2,
}

/// Back end of relay listeners.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellRelay {
    /// `HOST:PORT`, equal in rank.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) endpoints: Vec<String>,
    /// TLS to them; absent: none.
    pub(crate) tls: Option<CellTls>,
    /// Let everything travel in the clear to endpoints that are not loopback.
    #[serde(default)]
    pub(crate) dangerous_plaintext: bool,
    /// How the cell learns the client's address.
    #[serde(default)]
    pub(crate) client_address: RelayAddress,
    /// Health checks: a connection, and TLS where it is spoken.
    #[serde(default)]
    pub(crate) health: Health,
}

/// How the back end of a relay learns the client's address.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RelayAddress {
    /// Not at all.
    #[default]
    None,
    /// By a PROXY v2 header before anything.
    ProxyV2,
}
