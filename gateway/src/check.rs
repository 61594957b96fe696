//! What the files alone cannot tell: do certificates, keys, roots and metadata work? `guichet check`, `guichet run` and a
//! reload all come through here, before anything is changed.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use guichet_auth::{
    WallTime,
    bearer::Issuers,
    saml::{MetadataIndex, ServiceProvider},
};
use guichet_config::{Config, Place, Problem, Report};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Socket, Type};

use crate::{
    telemetry,
    tls::{self, Certificates, ClientCas, ClientTls, client_ca},
};

/// A configuration with everything it names read and found good.
#[derive(Debug)]
pub struct Loaded {
    /// The files.
    pub config: Arc<Config>,
    /// Certificates by SNI.
    pub certificates: Arc<Certificates>,
    /// Certificate of the management listener.
    pub management: Option<Arc<CertifiedKey>>,
    /// Authorities of client certificates.
    pub client_cas: ClientCas,
    /// Roots of the cells.
    pub client_tls: Arc<ClientTls>,
    /// Issuers of bearer tokens.
    pub issuers: Arc<Issuers>,
    /// Our side of SAML.
    pub sp: Option<Arc<ServiceProvider>>,
    /// The other sides.
    pub idps: Arc<MetadataIndex>,
}

/// Reads and checks everything. Opens no port and writes nothing.
///
/// # Errors
/// Every problem found, in file and line order.
pub fn load(path: &Path, now: WallTime) -> Result<Loaded, Report> {
    let mut config = guichet_config::load(path)?;
    let mut problems = Vec::new();
    let mut note = |key: &str, message: String| {
        problems.push(Problem { place: place(&config, path, key), key: key.to_owned(), message, hint: None })
    };

    if let Err(error) = telemetry::log::check(&config.log.level) {
        note("log.level", format!("not a log filter: {error}"));
    }
    let certificates = Certificates::load(&config.public.certificates, &config.public.hostname, now)
        .map_err(|all| all.iter().for_each(|one| note("public.certificates", one.to_string())))
        .ok();
    let management = match &config.management.tls {
        Some(files) => {
            tls::management_key(files, now).map_err(|one| note("management.certificate", one.to_string())).ok()
        }
        None => None,
    };
    let client_tls =
        ClientTls::load(&config).map_err(|all| all.iter().for_each(|(key, one)| note(key, one.to_string()))).ok();
    for (key, message) in foreign_sources(&config) {
        note(&key, message);
    }
    let client_cas =
        client_ca::load(&config).map_err(|all| all.iter().for_each(|(key, one)| note(key, one.to_string()))).ok();
    let sp = match config.saml.as_ref().map(|_| ServiceProvider::new(&config)) {
        Some(Ok(sp)) => Some(Arc::new(sp)),
        Some(Err(error)) => {
            note(&error.key, error.message);
            None
        }
        None => None,
    };
    let found = remarks(&config, certificates.as_ref(), sp.as_deref(), now);
    let mut found: Vec<_> = found.into_iter().map(|(key, message)| config.problem(&key, message, None)).collect();
    config.remarks.append(&mut found);
    config.remarks.sort();
    let config = Arc::new(config);
    let idps = MetadataIndex::load(&config, now).map_err(|all| problems.extend(all)).ok();
    let issuers = Issuers::load(&config).map_err(|all| problems.extend(all)).ok();

    match (certificates, client_cas, client_tls, idps, issuers) {
        (Some(certificates), Some(client_cas), Some(client_tls), Some(idps), Some(issuers)) if problems.is_empty() => {
            Ok(Loaded {
                config,
                certificates: Arc::new(certificates),
                management,
                client_cas,
                client_tls: Arc::new(client_tls),
                issuers: Arc::new(issuers),
                sp,
                idps: Arc::new(idps),
            })
        }
        _ => {
            problems.sort();
            Err(Report { problems })
        }
    }
}

/// What works and may still not be meant: hostnames without a certificate, certificates of ours in the SAML metadata that
/// end. By their key in the configuration.
fn remarks(
    config: &Config,
    certificates: Option<&Certificates>,
    sp: Option<&ServiceProvider>,
    now: WallTime,
) -> Vec<(String, String)> {
    let mut remarks = Vec::new();
    if let Some(certificates) = certificates {
        for host in config.hosts.all().filter(|host| !certificates.holds(&host.hostname)) {
            let tenant =
                host.tenant.as_ref().map_or("public.hostname".to_owned(), |id| format!("tenant.{id}.hostnames"));
            let message = format!("no certificate holds {}: browsers will refuse to go there", host.hostname);
            remarks.push((tenant, message));
        }
    }
    for certificate in sp.map(ServiceProvider::certificates).unwrap_or_default() {
        let not_after = certificate.not_after;
        let ended = not_after <= now;
        if ended || not_after < now.plus(CERTIFICATE_WARNED) {
            let end = if ended { "has ended" } else { "ends soon" };
            let days = if ended { now.since(not_after) } else { not_after.since(now) }.as_secs() / 86400;
            let when = if ended { format!("{days} days ago") } else { format!("in {days} days") };
            let message =
                format!("this certificate {end} ({when}), and some identity providers mind: replace the pair");
            remarks.push((certificate.key.clone(), message));
        }
    }
    remarks
}

/// Source addresses of cells that nothing on this machine can come from.
fn foreign_sources(config: &Config) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (id, cell) in &config.cells {
        for (index, ip) in cell.source_addresses.iter().enumerate() {
            let address = SocketAddr::new(*ip, 0);
            let bound = Socket::new(Domain::for_address(address), Type::STREAM, None)
                .and_then(|socket| socket.bind(&address.into()));
            if let Err(error) = bound {
                let message = format!("{ip} cannot be bound, is it an address of this machine? {error}");
                problems.push((format!("cell.{id}.source_addresses[{index}]"), message));
            }
        }
    }
    problems
}

/// Where a key stands; the nearest table above it when the key itself is not written, the file when nothing is.
fn place(config: &Config, path: &Path, key: &str) -> Place {
    let mut key = key;
    loop {
        if let Some(place) = config.places.get(key) {
            return place.clone();
        }
        match key.rsplit_once('.') {
            Some((above, _)) => key = above,
            None => return Place { file: Arc::new(path.to_owned()), line: 1, column: 1 },
        }
    }
}

/// Registries and institutions take weeks to follow a change of keys.
pub(crate) const CERTIFICATE_WARNED: Duration = Duration::from_secs(60 * 86400);

/// What differs between two configurations, in words for the log line of a reload.
pub fn difference(before: &Config, after: &Config) -> String {
    let mut changed = Vec::new();
    let mut names = |what: &str, before: Vec<String>, after: Vec<String>| {
        changed.extend(after.iter().filter(|n| !before.contains(n)).map(|n| format!("+{what} {n}")));
        changed.extend(before.iter().filter(|n| !after.contains(n)).map(|n| format!("-{what} {n}")));
    };
    let listeners = |config: &Config| config.listeners.iter().map(listener_name).collect();
    names("listener", listeners(before), listeners(after));
    let cells = |config: &Config| config.cells.keys().map(ToString::to_string).collect();
    names("cell", cells(before), cells(after));
    let tenants = |config: &Config| config.tenants.keys().map(ToString::to_string).collect();
    names("tenant", tenants(before), tenants(after));
    if changed.is_empty() { "values only".to_owned() } else { changed.join(", ") }
}

fn listener_name(listener: &guichet_config::Listener) -> String {
    let kind = listener.kind.as_str();
    let bind: Vec<String> = listener.bind.iter().map(ToString::to_string).collect();
    format!("{kind} {} on {}", listener.id, bind.join(" "))
}
