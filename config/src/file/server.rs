//! The node itself: names, management, logs, and the tables of thresholds and caps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Lapse, Pair};

/// This node.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Shown in logs and metrics; by default `public.hostname`.
    pub(crate) name: Option<String>,
    /// Folder of keys, ledger and last good copies; made when missing.
    pub(crate) state_dir: String,
    /// Worker threads; by default one per core.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) workers: Option<usize>,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: None, state_dir: "/var/lib/guichet".to_owned(), workers: None }
    }
}

/// What users reach.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Public {
    /// The one hostname.
    pub(crate) hostname: String,
    /// Origin that browsers see; by default `https://HOSTNAME`. Needed when users come by another port than 443.
    pub(crate) origin: Option<String>,
    /// Folder of `NAME.crt` (PEM chain) with `NAME.key` (PEM key) pairs.
    pub(crate) certificates: String,
    /// TLS policy of every listener.
    #[serde(default)]
    pub(crate) tls_profile: TlsProfile,
}

/// A TLS policy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsProfile {
    /// TLS 1.2 and 1.3, ECDHE, AEAD, extended master secret.
    #[default]
    Anssi,
    /// TLS 1.3 only.
    Strict,
}

/// Where operators reach the node.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Management {
    /// Address and port. Anything but loopback needs `tls`.
    #[serde(default = "management_bind")]
    pub(crate) bind: String,
    /// File with the bearer token of the API, at least 32 characters.
    pub(crate) token_file: String,
    /// Certificate of the management listener.
    pub(crate) tls: Option<Pair>,
}

fn management_bind() -> String {
    "127.0.0.1:9443".to_owned()
}

/// Log output.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Lines or objects.
    pub(crate) format: LogFormat,
    /// A level, or levels by module such as `info,guichet::mail=debug`.
    pub(crate) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Name servers.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dns {
    /// Addresses of name servers for cell endpoints, with or without port; empty: the system's.
    #[schemars(length(max = 16))]
    pub(crate) servers: Vec<String>,
}

/// When an identity provider counts as down.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Availability {
    /// Between two probes.
    pub(crate) probe_interval: Lapse,
    /// Between two probes of a suspect.
    pub(crate) probe_interval_suspect: Lapse,
    /// Longest time of one probe.
    pub(crate) probe_timeout: Lapse,
    /// Failed probes in a row that make a suspect.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failures_to_suspect: u32,
    /// Failed probes in a row that prove an outage.
    #[schemars(range(min = 2, max = 1000))]
    pub(crate) failures_to_down: u32,
    /// And the time they must span.
    pub(crate) down_after: Lapse,
    /// A valid signed response younger than this vetoes "down".
    pub(crate) veto: Lapse,
    /// Good probes in a row that bring it back without a login.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) successes_to_up: u32,
    /// And the time they must span.
    pub(crate) up_after: Lapse,
    /// Least time down; doubles at each relapse within an hour, to one hour.
    pub(crate) dwell: Lapse,
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            probe_interval: Lapse::new("15s"),
            probe_interval_suspect: Lapse::new("5s"),
            probe_timeout: Lapse::new("5s"),
            failures_to_suspect: 2,
            failures_to_down: 6,
            down_after: Lapse::new("120s"),
            veto: Lapse::new("60s"),
            successes_to_up: 5,
            up_after: Lapse::new("120s"),
            dwell: Lapse::new("5m"),
        }
    }
}

/// Browser sessions.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Session {
    /// Longest life.
    pub(crate) lifetime: Lapse,
    /// Longest time without a request.
    pub(crate) lifetime_idle: Lapse,
    /// Longest life of a session opened by fallback.
    pub(crate) lifetime_fallback: Lapse,
}

impl Default for Session {
    fn default() -> Self {
        Self { lifetime: Lapse::new("10h"), lifetime_idle: Lapse::new("1h"), lifetime_fallback: Lapse::new("2h") }
    }
}

/// Rates and caps.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Open connections in all.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) connections_max: usize,
    /// Open connections of one source (an IPv4 address, an IPv6 /64).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) connections_per_source: usize,
    /// New connections of one source, a second; ten times that at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) connections_per_source_rate: u32,
    /// Wrong logins of one source within `login_window`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) login_failures_per_source: u32,
    /// Wrong logins of one user within `login_window`, over all sources.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) login_failures_per_user: u32,
    /// The window.
    pub(crate) login_window: Lapse,
    /// Networks that are never limited, such as monitoring.
    #[schemars(length(max = 1024))]
    pub(crate) exempt: Vec<String>,
    /// Longest time from accept to a login, whatever trickles in.
    pub(crate) login_deadline: Lapse,
    /// Successes kept in the password cache.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub(crate) password_cache_entries: u64,
    /// How long one is kept.
    pub(crate) password_cache_ttl: Lapse,
    /// Logins of users being moved that wait for the end of it.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) held_logins: usize,
    /// Of these, logins of one tenant.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) held_logins_per_tenant: usize,
    /// Mail sessions one user may have open, over all protocols.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) sessions_per_user: usize,
    /// Of these, mail sessions from one source.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) sessions_per_user_source: usize,
    /// Messages one user may submit within `messages_window`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) messages_per_user: u32,
    /// Recipients one user may write to within `messages_window`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) recipients_per_user: u32,
    /// Messages all users of a tenant may submit within `messages_window`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) messages_per_tenant: u32,
    /// Recipients all users of a tenant may write to within `messages_window`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) recipients_per_tenant: u32,
    /// The window.
    pub(crate) messages_window: Lapse,
    /// Longest request body, bytes.
    #[schemars(range(min = 1024, max = 1_099_511_627_776_u64))]
    pub(crate) body_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_source: 2_000,
            connections_per_source_rate: 100,
            login_failures_per_source: 30,
            login_failures_per_user: 10,
            login_window: Lapse::new("15m"),
            exempt: Vec::new(),
            login_deadline: Lapse::new("60s"),
            password_cache_entries: 500_000,
            password_cache_ttl: Lapse::new("5m"),
            held_logins: 5_000,
            held_logins_per_tenant: 2_000,
            sessions_per_user: 100,
            sessions_per_user_source: 50,
            messages_per_user: 300,
            recipients_per_user: 2_000,
            messages_per_tenant: 50_000,
            recipients_per_tenant: 200_000,
            messages_window: Lapse::new("1h"),
            body_bytes_max: 100 << 20,
        }
    }
}
