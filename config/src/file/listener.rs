//! Open ports.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lapse;

/// Open ports, by kind and name. A name is used once over all kinds.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listeners {
    /// HTTPS.
    pub(crate) web: BTreeMap<String, PlainListener>,
    /// HTTP that only redirects to HTTPS.
    pub(crate) redirect: BTreeMap<String, PlainListener>,
    /// IMAP.
    pub(crate) imap: BTreeMap<String, MailListener>,
    /// POP3.
    pub(crate) pop3: BTreeMap<String, MailListener>,
    /// Submission of mail (SMTP).
    pub(crate) submission: BTreeMap<String, SubmissionListener>,
    /// ManageSieve.
    pub(crate) sieve: BTreeMap<String, MailListener>,
    /// TLS ended here, the bytes passed on by the name the client asked for.
    pub(crate) relay: BTreeMap<String, RelayListener>,
}

/// A listener without settings of its own.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlainListener {
    /// Addresses and ports; `[::]` takes IPv4 too.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) bind: Vec<String>,
    /// A load balancer in front that sends PROXY headers.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

/// A listener for IMAP, POP3 or ManageSieve.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MailListener {
    /// Addresses and ports; `[::]` takes IPv4 too.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) bind: Vec<String>,
    /// From the first byte, or by STARTTLS.
    #[serde(default)]
    pub(crate) tls: MailTls,
    /// Ways to log in; by default all that the protocol and the configuration have.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) mechanisms: Option<Vec<Mechanism>>,
    /// Client certificates it asks for.
    pub(crate) client_ca: Option<ClientCa>,
    /// Port that mail programs are told; by default the one of `bind`. Needed where a load balancer listens on another.
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) public_port: Option<u16>,
    /// A load balancer in front that sends PROXY headers.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

/// A listener for submission of mail.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmissionListener {
    /// Addresses and ports; `[::]` takes IPv4 too.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) bind: Vec<String>,
    /// From the first byte, or by STARTTLS.
    #[serde(default)]
    pub(crate) tls: MailTls,
    /// Ways to log in; by default all that the protocol and the configuration have.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) mechanisms: Option<Vec<Mechanism>>,
    /// Client certificates it asks for.
    pub(crate) client_ca: Option<ClientCa>,
    /// What becomes of a message with bare CR or LF in it.
    #[serde(default)]
    pub(crate) data_lines: DataLines,
    /// Port that mail programs are told; by default the one of `bind`. Needed where a load balancer listens on another.
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) public_port: Option<u16>,
    /// A load balancer in front that sends PROXY headers.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

/// A listener that passes bytes on.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelayListener {
    /// Addresses and ports; `[::]` takes IPv4 too.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) bind: Vec<String>,
    /// Cell by the name the client asks for (SNI); the cell has a `relay`.
    #[serde(default)]
    pub(crate) routes: BTreeMap<String, String>,
    /// Cell of clients that ask for another name or none; by default they are turned away.
    pub(crate) cell_default: Option<String>,
    /// Longest time in which nothing moves.
    #[serde(default = "timeout_idle")]
    pub(crate) timeout_idle: Lapse,
    /// A load balancer in front that sends PROXY headers.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

fn timeout_idle() -> Lapse {
    Lapse::new("10m")
}

/// Client certificates that a mail listener asks for: who shows one needs no password.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientCa {
    /// PEM certificates of the authorities that issue them.
    pub(crate) file: String,
    /// Turn away clients that show none.
    #[serde(default)]
    pub(crate) required: bool,
    /// OID of the subject attribute that holds the address; by default the e-mail address among the alternative names does.
    pub(crate) subject_attribute: Option<String>,
    /// Tenants whose users the authorities may name; by default all.
    #[schemars(length(min = 1, max = 1024))]
    pub(crate) tenants: Option<Vec<String>>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mechanism {
    /// The protocol's own command: IMAP `LOGIN`, POP3 `USER` and `PASS`.
    Command,
    /// SASL PLAIN.
    Plain,
    /// SASL LOGIN.
    Login,
    /// SASL XOAUTH2: a bearer token.
    XOAuth2,
    /// SASL OAUTHBEARER: a bearer token.
    OAuthBearer,
    /// SASL EXTERNAL: the client's certificate.
    External,
}

/// What becomes of a message with bare CR or LF in it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DataLines {
    /// It is refused.
    #[default]
    Reject,
    /// They become CRLF; NUL is refused.
    Normalise,
    /// It passes as it is: only for cells that refuse it themselves.
    Off,
}

/// How a mail listener reaches TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MailTls {
    /// From the first byte.
    #[default]
    Implicit,
    /// By STARTTLS; nothing can be done before.
    StartTls,
}

/// PROXY v1 or v2 headers.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyProtocol {
    /// Networks that must send a header; everybody else is refused.
    #[schemars(length(min = 1, max = 1024))]
    pub(crate) from: Vec<String>,
}
