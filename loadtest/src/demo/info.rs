//! `demo.json`: where a running demo is met. A stable interface: fields are added, never changed.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Folder, Ports};
use crate::world::{Institution, Person};

/// A running demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoInfo {
    /// `https://localhost:PORT`
    pub web: String,
    /// URL of the management listener.
    pub management: String,
    /// IMAP with STARTTLS, `host:port`.
    pub imap: String,
    /// IMAP over TLS, `host:port`.
    pub imaps: String,
    /// POP3 with STLS, `host:port`.
    pub pop3: String,
    /// POP3 over TLS, `host:port`.
    pub pop3s: String,
    /// Submission with STARTTLS, `host:port`.
    pub submission: String,
    /// Submission over TLS, `host:port`.
    pub submissions: String,
    /// ManageSieve with STARTTLS, `host:port`.
    pub sieve: String,
    /// PEM file of the CA that signed the gateway's certificate.
    pub ca: PathBuf,
    /// The gateway's configuration file.
    pub config: PathBuf,
    /// URL of the gateway's SAML metadata.
    pub saml_metadata: String,
    /// Path that ends a session.
    pub logout_path: String,
    /// URL that takes the IdPs down and up: `POST {idp_control}/down`, `POST {idp_control}/up`.
    pub idp_control: String,
    /// Institutions.
    pub tenants: Vec<DemoTenant>,
}

/// An institution of the demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoTenant {
    /// Tenant name.
    pub id: String,
    /// Mail domain.
    pub domain: String,
    /// URL prefix of its IdP.
    pub idp: String,
    /// Its people.
    pub users: Vec<DemoUser>,
}

/// Someone of the demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoUser {
    /// Address.
    pub address: String,
    /// For mail and for fallback.
    pub password: String,
    /// At the IdP.
    pub idp_login: String,
    /// At the IdP.
    pub idp_password: String,
    /// `staff` or `student`.
    pub category: String,
}

impl From<&Person> for DemoUser {
    fn from(person: &Person) -> Self {
        Self {
            address: person.address.clone(),
            password: person.password.clone(),
            idp_login: person.idp_login.clone(),
            idp_password: person.idp_password.clone(),
            category: person.category.to_owned(),
        }
    }
}

impl DemoInfo {
    /// Of a demo in `folder`.
    pub(super) fn new(folder: &Folder, ports: &Ports, people: &[Institution]) -> Self {
        let origin = ports.origin();
        let local = |port: u16| format!("localhost:{port}");
        let tenants = people
            .iter()
            .map(|institution| DemoTenant {
                id: institution.id.to_owned(),
                domain: institution.domain.to_owned(),
                idp: ports.idp_prefix(institution),
                users: institution.people.iter().map(DemoUser::from).collect(),
            })
            .collect();
        Self {
            management: format!("http://127.0.0.1:{}", ports.management),
            imap: local(ports.imap),
            imaps: local(ports.imaps),
            pop3: local(ports.pop3),
            pop3s: local(ports.pop3s),
            submission: local(ports.submission),
            submissions: local(ports.submissions),
            sieve: local(ports.sieve),
            ca: folder.path("ca.pem"),
            config: folder.path("guichet.toml"),
            saml_metadata: format!("{origin}/saml/metadata"),
            logout_path: "/logout".to_owned(),
            idp_control: format!("{}/control", ports.idp_url()),
            web: origin,
            tenants,
        }
    }

    /// Writes `demo.json`, at once.
    pub(super) fn write(&self, folder: &Folder) -> anyhow::Result<()> {
        folder.write("demo.json", &format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// Reads a `demo.json`.
    ///
    /// # Errors
    /// It is missing or not one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read: is the demo running?", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a demo.json", path.display()))
    }
}
