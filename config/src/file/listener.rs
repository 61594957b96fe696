//! Open ports.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// A mail listener.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MailListener {
    /// Addresses and ports; `[::]` takes IPv4 too.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) bind: Vec<String>,
    /// From the first byte, or by STARTTLS.
    #[serde(default)]
    pub(crate) tls: MailTls,
    /// A load balancer in front that sends PROXY headers.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
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
