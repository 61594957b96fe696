//! TLS towards cells, sources of metadata and ECP endpoints: always verified, one configuration per file of roots, so that sessions resume.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use guichet_config::{CellMailTls, CellTls, Config, Endpoint};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::{CertificateProblem, policy::PROVIDER};

/// Client configurations by file of roots (`None`: the system's).
#[derive(Debug, Default)]
pub struct ClientTls {
    by_roots: HashMap<Option<PathBuf>, Arc<ClientConfig>>,
}

impl ClientTls {
    /// Reads every file of roots the configuration names. Each problem comes with the key that names the file.
    ///
    /// # Errors
    /// All files that cannot be used.
    pub fn load(config: &Config) -> Result<Self, Vec<(String, CertificateProblem)>> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        for (id, cell) in &config.cells {
            let web = cell.web.as_ref().and_then(|web| web.tls.as_ref()).map(|tls| ("web", tls));
            let relay = cell.relay.as_ref().and_then(|relay| relay.tls.as_ref()).map(|tls| ("relay", tls));
            let mail = cell.mail.iter().filter_map(|(protocol, mail)| match &mail.tls {
                CellMailTls::Plain => None,
                CellMailTls::Implicit(tls) | CellMailTls::StartTls(tls) => Some((protocol.as_str(), tls)),
            });
            let zimbra = cell.zimbra.as_ref().and_then(|zimbra| zimbra.tls.as_ref()).map(|tls| ("zimbra", tls));
            for (service, tls) in web.into_iter().chain(relay).chain(mail).chain(zimbra) {
                if all.by_roots.contains_key(&tls.ca) {
                    continue;
                }
                match client_config(tls.ca.as_deref()) {
                    Ok(config) => drop(all.by_roots.insert(tls.ca.clone(), config)),
                    Err(problem) => problems.push((format!("cell.{id}.{service}.tls"), problem)),
                }
            }
        }
        for federation in &config.federations {
            let Some(ca) = federation.source.roots().filter(|ca| !all.by_roots.contains_key(ca)) else { continue };
            match client_config(ca.as_deref()) {
                Ok(config) => drop(all.by_roots.insert(ca.clone(), config)),
                Err(problem) => problems.push((format!("federation.{}.source.ca", federation.name), problem)),
            }
        }
        for tenant in config.tenants.values() {
            let Some(ecp) = tenant.idp.as_ref().and_then(|idp| idp.ecp.as_ref()) else { continue };
            if all.by_roots.contains_key(&ecp.ca) {
                continue;
            }
            match client_config(ecp.ca.as_deref()) {
                Ok(config) => drop(all.by_roots.insert(ecp.ca.clone(), config)),
                Err(problem) => problems.push((format!("tenant.{}.idp.saml.ecp.ca", tenant.id), problem)),
            }
        }
        if problems.is_empty() { Ok(all) } else { Err(problems) }
    }

    /// The configuration for one cell; `None` when it was not part of the configuration this was loaded from.
    pub fn of(&self, tls: &CellTls) -> Option<Arc<ClientConfig>> {
        self.of_roots(&tls.ca)
    }

    /// The configuration with these roots; `None` as for [`ClientTls::of`].
    pub fn of_roots(&self, roots: &Option<PathBuf>) -> Option<Arc<ClientConfig>> {
        self.by_roots.get(roots).cloned()
    }
}

/// The name the certificate of an endpoint must hold.
///
/// # Errors
/// Neither a DNS name nor an address.
pub fn server_name(tls: &CellTls, endpoint: &Endpoint) -> Result<ServerName<'static>, String> {
    let name = tls.name.as_deref().unwrap_or(&endpoint.host);
    ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is not a name a certificate can hold"))
}

/// A verifying client configuration.
///
/// # Errors
/// The file cannot be used; without one: the system has no roots.
pub fn client_config(roots: Option<&Path>) -> Result<Arc<ClientConfig>, CertificateProblem> {
    let store = match roots {
        Some(file) => root_store(file)?,
        None => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                let message = "the system has no root certificates".to_owned();
                return Err(CertificateProblem { file: PathBuf::from("/etc/ssl/certs"), message });
            }
            store
        }
    };
    let config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites for both versions")
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The certificates of a file, as roots; at least one.
pub(super) fn root_store(file: &Path) -> Result<RootCertStore, CertificateProblem> {
    let problem = |message: String| CertificateProblem { file: file.to_owned(), message };
    let bytes = std::fs::read(file).map_err(|e| problem(format!("it cannot be read: {e}")))?;
    let mut store = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&bytes) {
        let one = one.map_err(|_| problem("it is not PEM".to_owned()))?;
        store.add(one).map_err(|e| problem(format!("a certificate cannot be a root: {e}")))?;
    }
    if store.is_empty() { Err(problem("it holds no certificate".to_owned())) } else { Ok(store) }
}
