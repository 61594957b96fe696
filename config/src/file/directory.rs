//! Who knows the passwords.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Category, Lapse};

/// The users of an embedded directory.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersFile {
    /// One user each.
    #[serde(default)]
    pub(crate) user: Vec<User>,
}

/// Who knows the passwords.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Directory {
    /// Users in a file.
    pub(crate) embedded: Option<Embedded>,
    /// LDAP servers.
    pub(crate) ldap: Option<Ldap>,
}

/// Users in a file.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Embedded {
    /// The file, made of `[[user]]` tables.
    pub(crate) file: String,
}

/// One user of an embedded directory.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// Canonical address.
    pub(crate) address: String,
    /// Other addresses the user may log in with.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// What the institution's identity provider calls the user, for tenants with `idp.saml.identifier`.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(crate) identifiers: Vec<String>,
    /// What `guichet hash-password` printed, `$argon2id$…`.
    pub(crate) password: String,
    /// Staff or student; by default the tenant's.
    pub(crate) category: Option<Category>,
    /// Whether the account may log in.
    #[serde(default)]
    pub(crate) status: Status,
    /// Cell; by default the tenant's.
    pub(crate) cell: Option<String>,
}

/// Whether an account may log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It may.
    #[default]
    Active,
    /// It may not.
    Locked,
}

/// LDAP servers.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ldap {
    /// `ldap://HOST:PORT` or `ldaps://HOST:PORT`, in order of preference.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) urls: Vec<String>,
    /// Search base.
    pub(crate) base: String,
    /// DN of the service account that searches.
    pub(crate) bind_dn: String,
    /// File with its password.
    pub(crate) password_file: String,
    /// Upgrade `ldap://` by StartTLS; by default yes, unless `dangerous_plaintext` is set.
    pub(crate) start_tls: Option<bool>,
    /// Let passwords travel in the clear to `ldap://` servers.
    #[serde(default)]
    pub(crate) dangerous_plaintext: bool,
    /// PEM roots; by default the system's.
    pub(crate) tls_ca: Option<String>,
    /// Attributes with the addresses users log in with; the first is the canonical one.
    #[serde(default = "ldap_address_attributes")]
    #[schemars(length(min = 1, max = 8))]
    pub(crate) address_attributes: Vec<String>,
    /// Attribute that names the cell; by default the tenant's cell is used.
    pub(crate) cell_attribute: Option<String>,
    /// Attribute that tells the category; by default the tenant's category is used.
    pub(crate) category_attribute: Option<String>,
    /// Its values that mean staff; other values mean student.
    #[serde(default = "ldap_category_staff")]
    pub(crate) category_staff: Vec<String>,
    /// Attribute that tells whether the account may log in; by default every account may.
    pub(crate) status_attribute: Option<String>,
    /// Its values that may.
    #[serde(default = "ldap_status_active")]
    pub(crate) status_active: Vec<String>,
    /// Longest time to connect, TLS included.
    #[serde(default = "ldap_timeout_connect")]
    pub(crate) timeout_connect: Lapse,
    /// Longest time of one bind or search.
    #[serde(default = "ldap_timeout_request")]
    pub(crate) timeout_request: Lapse,
    /// Connections for binds to one server.
    #[serde(default = "ldap_connections_max")]
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) connections_max: usize,
}

fn ldap_address_attributes() -> Vec<String> {
    vec!["mail".to_owned()]
}

fn ldap_category_staff() -> Vec<String> {
    vec!["staff".to_owned()]
}

fn ldap_status_active() -> Vec<String> {
    vec!["active".to_owned()]
}

fn ldap_timeout_connect() -> Lapse {
    Lapse::new("1s")
}

fn ldap_timeout_request() -> Lapse {
    Lapse::new("2s")
}

fn ldap_connections_max() -> usize {
    16
}
