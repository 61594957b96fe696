//! The configuration as used: every reference resolved, every secret read, every value in its own type.

mod bearer;
mod cell;
mod discovery;
mod host;
mod listener;
mod publication;
mod request;
mod setup;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

pub use bearer::*;
pub use cell::*;
pub use discovery::*;
pub use host::*;
pub use listener::*;
pub use publication::*;
pub use request::*;
pub use setup::*;

use crate::{Address, AttributeName, CellId, Domain, IdentifierSyntax, Place, Problem, Secret, TenantId};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// What users reach.
    pub public: Public,
    /// The names by which browsers reach it.
    pub hosts: Hosts,
    /// Where operators reach the node.
    pub management: Management,
    /// Log output.
    pub log: Log,
    /// Open ports, in name order.
    pub listeners: Vec<Listener>,
    /// Who knows the passwords.
    pub directory: Directory,
    /// Our side of SAML; present when a tenant has an IdP.
    pub saml: Option<ServiceProvider>,
    /// Choosing an institution with the help of others, and for others.
    pub discovery: Discovery,
    /// Sources of IdP metadata.
    pub federations: Vec<Federation>,
    /// Issuers of bearer tokens.
    pub bearers: Vec<Bearer>,
    /// When an IdP counts as down.
    pub availability: Availability,
    /// Browser sessions.
    pub session: Session,
    /// Rates and caps.
    pub limits: Limits,
    /// What mail programs are told.
    pub setup: Setup,
    /// Name servers for cell endpoints; empty: the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Back end groups.
    pub cells: BTreeMap<CellId, Arc<Cell>>,
    /// Institutions.
    pub tenants: BTreeMap<TenantId, Arc<Tenant>>,
    /// Tenant of each domain.
    pub domains: HashMap<Domain, TenantId>,
    /// Where each key path stands, so that later checks (certificates, metadata) can point at it.
    pub places: BTreeMap<String, Place>,
    /// What works and may still not be meant, in file and line order.
    pub remarks: Vec<Problem>,
}

impl Config {
    /// The tenant of an address.
    pub fn tenant_of(&self, address: &Address) -> Option<&TenantId> {
        // The domain of an address is a domain in canonical form already: its parsing cannot change it.
        address.domain().parse().ok().and_then(|domain: Domain| self.domains.get(&domain))
    }
}

/// `[node]`
#[derive(Clone, Debug)]
pub struct Node {
    /// Shown in logs and metrics.
    pub name: String,
    /// Holds keys, ledger and last good copies; created 0700 when missing.
    pub state_dir: PathBuf,
    /// Worker threads; absent: one per core.
    pub workers: Option<usize>,
}

/// `[public]`
#[derive(Clone, Debug)]
pub struct Public {
    /// The one hostname.
    pub hostname: String,
    /// Origin that browsers see, such as `https://mail.example` or, with a port, `https://localhost:8443`. No trailing slash.
    pub origin: String,
    /// Folder of `NAME.crt` (PEM chain) with `NAME.key` (PEM key) pairs.
    pub certificates: PathBuf,
    /// TLS policy for every listener.
    pub tls_profile: TlsProfile,
}

/// A named TLS policy (design: one for every listener).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3, ECDHE, AEAD; extended master secret required; hybrid key exchange first.
    Anssi,
    /// As `anssi`, TLS 1.3 only.
    Strict,
}

/// `[management]`
#[derive(Clone, Debug)]
pub struct Management {
    /// Address of metrics, health and API. Other than loopback needs TLS.
    pub bind: SocketAddr,
    /// Bearer token for the API, at least 32 characters.
    pub token: Secret<String>,
    /// TLS: PEM chain and PEM key.
    pub tls: Option<CertificateFiles>,
}

/// A PEM chain and its PEM key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// Lines or objects.
    pub format: LogFormat,
    /// A `tracing` filter, such as `info` or `info,guichet::mail=debug`.
    pub level: String,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[directory.KIND]`
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a configuration, behind its `Arc`")]
pub enum Directory {
    /// Users in a file, read with the configuration.
    Embedded(Users),
    /// LDAP.
    Ldap(Ldap),
}

/// The users of an embedded directory, by address and by alias.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// The file.
    pub file: PathBuf,
    /// Keyed by address and by every alias.
    pub by_address: HashMap<Address, Arc<User>>,
    /// Keyed by the tenant and by what its IdP calls the user, in ASCII lower case.
    pub by_identifier: HashMap<(TenantId, String), Arc<User>>,
}

/// One user of an embedded directory.
#[derive(Clone, Debug)]
pub struct User {
    /// Canonical address.
    pub address: Address,
    /// PHC string, `$argon2id$…`.
    pub password: Secret<String>,
    /// Category.
    pub category: Option<Category>,
    /// May log in.
    pub active: bool,
    /// Cell, when not the tenant's.
    pub cell: Option<CellId>,
}

/// Who the user is to the institution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// Staff.
    Staff,
    /// Student.
    Student,
}

impl Category {
    /// `staff` or `student`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staff => "staff",
            Self::Student => "student",
        }
    }
}

/// `[directory.ldap]`
#[derive(Clone, Debug)]
pub struct Ldap {
    /// `ldap://host:port` or `ldaps://host:port`, in order of preference.
    pub urls: Vec<String>,
    /// Search base.
    pub base: String,
    /// DN of the service account that searches.
    pub bind_dn: String,
    /// Its password.
    pub password: Secret<String>,
    /// Upgrade `ldap://` by StartTLS (default). `dangerous_plaintext = true` in the file turns both off.
    pub start_tls: bool,
    /// PEM roots; absent: the system's.
    pub tls_ca: Option<PathBuf>,
    /// Attributes that hold addresses users log in with, first one canonical.
    pub address_attributes: Vec<String>,
    /// Attribute that names the cell.
    pub cell_attribute: Option<String>,
    /// Attribute that names the category.
    pub category_attribute: Option<String>,
    /// Values of it that mean staff; other values are students.
    pub category_staff: Vec<String>,
    /// Attribute that tells whether the account may log in.
    pub status_attribute: Option<String>,
    /// Its values that may.
    pub status_active: Vec<String>,
    /// Connect and TLS.
    pub timeout_connect: Duration,
    /// One bind or search.
    pub timeout_request: Duration,
    /// Binds at once to one server.
    pub connections_max: usize,
}

/// `[saml]`: our side.
#[derive(Clone, Debug)]
pub struct ServiceProvider {
    /// entityID.
    pub entity_id: String,
    /// Signs requests.
    pub signing: CertificateFiles,
    /// Will sign requests next: published already.
    pub signing_next: Option<CertificateFiles>,
    /// Decrypt assertions, newest first; all are tried.
    pub encryption: Vec<CertificateFiles>,
    /// Decrypt assertions, too, and are not published.
    pub decryption_only: Vec<CertificateFiles>,
    /// Clock difference allowed to an IdP.
    pub clock_skew: Duration,
    /// What its metadata says to people.
    pub publication: Publication,
}

/// `[federation.NAME]`
#[derive(Clone, Debug)]
pub struct Federation {
    /// NAME.
    pub name: String,
    /// Where the signed metadata is.
    pub source: MetadataSource,
    /// PEM certificates or public keys; one of them signed the metadata.
    pub signing_keys: Vec<PathBuf>,
    /// How often the metadata is looked at again, at least.
    pub refresh: Duration,
    /// How far ahead the `validUntil` of fetched metadata may be.
    pub validity_max: Duration,
    /// How many of the tenants' IdPs, of a hundred, a new document may drop.
    pub dropped_percent_max: u8,
    /// Whether all IdPs are kept, or those of the tenants.
    pub keep_all: bool,
}

/// Where signed metadata is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataSource {
    /// A file: an EntityDescriptor or EntitiesDescriptor.
    File(PathBuf),
    /// The same, by HTTPS.
    Url {
        /// Where.
        url: String,
        /// PEM roots; by default the system's.
        ca: Option<PathBuf>,
    },
    /// One document for each entity, by HTTPS.
    Mdq {
        /// The server's base, or a template with `{sha1}`.
        base: String,
        /// PEM roots; by default the system's.
        ca: Option<PathBuf>,
    },
}

impl MetadataSource {
    /// The roots for HTTPS, when the source is fetched: `Some(None)` are the system's.
    pub fn roots(&self) -> Option<&Option<PathBuf>> {
        match self {
            Self::File(_) => None,
            Self::Url { ca, .. } | Self::Mdq { ca, .. } => Some(ca),
        }
    }
}

/// `[availability]`: see `reference` in docs/life-of-a-session.md.
#[derive(Clone, Debug)]
pub struct Availability {
    /// Between two probes of an IdP that is up.
    pub probe_interval: Duration,
    /// Between two probes of a suspect.
    pub probe_interval_suspect: Duration,
    /// One probe.
    pub probe_timeout: Duration,
    /// Failures in a row that make a suspect.
    pub failures_to_suspect: u32,
    /// Failures in a row that prove an outage (one node: 6).
    pub failures_to_down: u32,
    /// And the time they must span (one node: 120 s).
    pub down_after: Duration,
    /// A signed success younger than this vetoes "down".
    pub veto: Duration,
    /// Good probes that bring it back without a login.
    pub successes_to_up: u32,
    /// And the time they must span.
    pub up_after: Duration,
    /// Least time in DOWN; doubles at each relapse within an hour, to 60 min.
    pub dwell: Duration,
}

/// `[session]`
#[derive(Clone, Debug)]
pub struct Session {
    /// Longest life.
    pub lifetime: Duration,
    /// Without a request.
    pub lifetime_idle: Duration,
    /// Longest life of a session opened by fallback.
    pub lifetime_fallback: Duration,
}

/// `[limits]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections in all.
    pub connections_max: usize,
    /// Open connections of one source (IPv4 address, IPv6 /64).
    pub connections_per_source: usize,
    /// New connections of one source, a second (burst is ten times that).
    pub connections_per_source_rate: u32,
    /// Wrong logins of one source within `login_window`.
    pub login_failures_per_source: u32,
    /// Wrong logins of one user within `login_window`, over all sources.
    pub login_failures_per_user: u32,
    /// The window.
    pub login_window: Duration,
    /// Sources that are never limited (webmail hosts, monitoring).
    pub exempt: Vec<IpNet>,
    /// Time from accept to a login, whatever trickles in.
    pub login_deadline: Duration,
    /// Password cache: entries.
    pub password_cache_entries: u64,
    /// Password cache: life of a success.
    pub password_cache_ttl: Duration,
    /// Logins that wait for the end of a move.
    pub held_logins: usize,
    /// Of these, logins of one tenant.
    pub held_logins_per_tenant: usize,
    /// Open mail sessions of one user, over all protocols.
    pub sessions_per_user: usize,
    /// Of these, from one source.
    pub sessions_per_user_source: usize,
    /// Messages of one user within `messages_window`.
    pub messages_per_user: u32,
    /// Recipients of one user within `messages_window`.
    pub recipients_per_user: u32,
    /// Messages of a tenant's users within `messages_window`.
    pub messages_per_tenant: u32,
    /// Recipients of a tenant's users within `messages_window`.
    pub recipients_per_tenant: u32,
    /// The window.
    pub messages_window: Duration,
    /// Request body, bytes.
    pub body_bytes_max: u64,
}

/// `[tenant.NAME]`
#[derive(Clone, Debug)]
pub struct Tenant {
    /// NAME.
    pub id: TenantId,
    /// Name shown to users.
    pub name: Text,
    /// Mail domains.
    pub domains: Vec<Domain>,
    /// Cell of users that nothing places elsewhere.
    pub cell: CellId,
    /// Category of users the directory has none for.
    pub category: Category,
    /// Identity provider; absent: the directory is the login.
    pub idp: Option<IdpOfTenant>,
    /// Fallback for staff.
    pub fallback_staff: FallbackPolicy,
    /// Fallback for students.
    pub fallback_students: FallbackPolicy,
    /// Operator's word on the IdP, in the configuration.
    pub idp_forced: Option<Forced>,
    /// Help desk address shown on error pages.
    pub contact: Option<String>,
    /// Pages that want a fresher or stronger login; only with an IdP.
    pub step_up: Option<StepUp>,
}

/// A text in the two languages of the pages.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// French.
    pub fr: String,
    /// English.
    pub en: String,
}

/// `[tenant.NAME.idp.saml]`
#[derive(Clone, Debug)]
pub struct IdpOfTenant {
    /// entityID in the metadata of a federation.
    pub entity_id: String,
    /// Attributes tried for the address; only values in the tenant's domains count.
    pub address_attributes: Vec<AttributeName>,
    /// The address is found in the directory by this instead.
    pub identifier: Option<IdentifierSource>,
    /// Attributes whose values tell the category; the first that tells one decides.
    pub affiliation_attributes: Vec<AttributeName>,
    /// Their values that mean staff, in lower case.
    pub staff_affiliations: Vec<String>,
    /// Their values that mean student, in lower case.
    pub student_affiliations: Vec<String>,
    /// What must be said of a user besides.
    pub requirements: Vec<Requirement>,
    /// Accept an unsigned Response around a signed assertion.
    pub assertion_signature_only: bool,
    /// What a login request asks of it.
    pub request: LoginRequest,
    /// A logout here asks the IdP to end its session, too.
    pub logout_asks_idp: bool,
    /// A logout there also ends the user's mail connections to the node that hears of it.
    pub logout_ends_mail: bool,
    /// Ask the IdP about passwords of mail programs and Basic clients; absent: the directory.
    pub ecp: Option<Ecp>,
}

/// `[tenant.NAME.idp.saml.ecp]`
#[derive(Clone, Debug)]
pub struct Ecp {
    /// What the IdP knows its users by.
    pub username: EcpUsername,
    /// PEM roots for its endpoint; absent: the system's.
    pub ca: Option<PathBuf>,
}

/// The name that goes with a password to an IdP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcpUsername {
    /// The address.
    Address,
    /// What stands before its `@`.
    LocalPart,
}

impl EcpUsername {
    /// The name of the user with this address.
    pub fn of(self, address: &Address) -> &str {
        match self {
            Self::Address => address.as_str(),
            Self::LocalPart => address.local(),
        }
    }
}

impl IdpOfTenant {
    /// Default of `staff_affiliations`.
    pub const STAFF_AFFILIATIONS: [&str; 4] = ["staff", "faculty", "employee", "researcher"];
    /// Default of `student_affiliations`.
    pub const STUDENT_AFFILIATIONS: [&str; 1] = ["student"];

    /// An IdP with every key but its entityID left at its default.
    pub fn new(entity_id: &str) -> Self {
        Self {
            entity_id: entity_id.to_owned(),
            address_attributes: vec![AttributeName::MAIL, AttributeName::PRINCIPAL_NAME],
            identifier: None,
            affiliation_attributes: vec![AttributeName::SCOPED_AFFILIATION],
            staff_affiliations: Self::STAFF_AFFILIATIONS.map(str::to_owned).to_vec(),
            student_affiliations: Self::STUDENT_AFFILIATIONS.map(str::to_owned).to_vec(),
            requirements: Vec::new(),
            assertion_signature_only: false,
            ecp: None,
            request: LoginRequest::default(),
            logout_asks_idp: true,
            logout_ends_mail: false,
        }
    }
}

/// `[tenant.NAME.idp.saml.identifier]`
#[derive(Clone, Debug)]
pub struct IdentifierSource {
    /// Attribute of the assertion.
    pub attribute: AttributeName,
    /// How its value is read.
    pub syntax: IdentifierSyntax,
    /// Attribute of the LDAP directory; absent with an embedded one.
    pub directory_attribute: Option<String>,
}

/// One entry of `tenant.NAME.idp.saml.require`.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Attribute.
    pub attribute: AttributeName,
    /// One of its values is one of these, letter by letter.
    pub values: Vec<String>,
}

/// Whether the directory may stand in for the IdP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackPolicy {
    /// Never.
    Off,
    /// Only when an operator says so.
    Operator,
    /// When the outage is proven, or an operator says so.
    Auto,
}

/// An operator's word on an IdP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forced {
    /// Treat as down.
    Down,
    /// Treat as up.
    Up,
}
