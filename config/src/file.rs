//! The files as written: plain structs, key by key, that refuse what they do not know.
//!
//! Kinds are tables (`[tenant.acme.idp.saml]`), text stays text: `check` gives it meaning and knows where it stands.
//! The JSON Schema is made from these structs, so a comment here is what an editor shows. `shape` reads the same schema.

mod bearer;
mod cell;
mod directory;
mod discovery;
mod listener;
mod saml;
mod server;
mod setup;
mod step_up;
mod tenant;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use bearer::{Bearer, BearerAlgorithm};
pub(crate) use cell::{
    Cell, CellMail, CellRelay, CellTls, CellWeb, CellZimbra, ClientAddress, Health, MasterLogin, RelayAddress,
};
pub(crate) use directory::{Directory, Embedded, Ldap, Status, User, UsersFile};
pub(crate) use discovery::DiscoveryClient;
pub(crate) use listener::{
    ClientCa, DataLines, Listeners, MailTls, Mechanism, PlainListener, ProxyProtocol, RelayListener,
};
pub(crate) use saml::{Contact, Federation, Keep, MetadataSource, Saml};
pub(crate) use server::{Availability, Dns, Limits, Log, LogFormat, Management, Node, Public, Session, TlsProfile};
pub(crate) use setup::Setup;
pub(crate) use step_up::StepUp;
pub(crate) use tenant::{
    Ecp, EcpUsername, FallbackPolicy, Forced, IdpIdentifier, IdpSaml, Logout, RequestBinding, Tenant, Text,
};

/// The main file of a Guichet node.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Main {
    /// This node.
    #[serde(default)]
    pub(crate) node: Node,
    /// What users reach.
    pub(crate) public: Public,
    /// Where operators reach the node: metrics, health and API.
    pub(crate) management: Management,
    /// Log output.
    #[serde(default)]
    pub(crate) log: Log,
    /// Name servers.
    #[serde(default)]
    pub(crate) dns: Dns,
    /// Open ports.
    pub(crate) listener: Listeners,
    /// Who knows the passwords: exactly one kind.
    pub(crate) directory: Directory,
    /// The gateway as SAML service provider; needed when a tenant has an identity provider.
    pub(crate) saml: Option<Saml>,
    /// Sources of metadata of identity providers, by name.
    #[serde(default)]
    pub(crate) federation: BTreeMap<String, Federation>,
    /// Issuers of bearer tokens that mail programs log in with, by name.
    #[serde(default)]
    pub(crate) bearer: BTreeMap<String, Bearer>,
    /// When an identity provider counts as down.
    #[serde(default)]
    pub(crate) availability: Availability,
    /// Browser sessions.
    #[serde(default)]
    pub(crate) session: Session,
    /// Rates and caps.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// What mail programs are told about the service.
    #[serde(default)]
    pub(crate) setup: Setup,
    /// Back end groups, by name.
    pub(crate) cell: BTreeMap<String, Cell>,
    /// Institutions, by name; usually in files of their own under `tenants.d/`.
    #[serde(default)]
    pub(crate) tenant: BTreeMap<String, Tenant>,
}

/// A file under `tenants.d/`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenants {
    /// Institutions, by name.
    pub(crate) tenant: BTreeMap<String, Tenant>,
}

/// A length of time: a number and `ms`, `s`, `m`, `h` or `d`, such as `"30s"`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
pub(crate) struct Lapse(pub(crate) String);

impl Lapse {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A certificate and its key.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    /// PEM chain, leaf first.
    pub(crate) certificate: String,
    /// PEM private key.
    pub(crate) key_file: String,
}

/// Who a user is to the institution.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Category {
    /// Staff.
    Staff,
    /// Student.
    #[default]
    Student,
}
