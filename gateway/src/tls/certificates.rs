//! The folder of certificates: pairs `NAME.crt` (PEM chain, leaf first) and `NAME.key` (PEM), chosen by SNI.
//!
//! Names come from the certificate's own SAN, wildcards included. Several certificates may hold one name (ECDSA and
//! RSA): the first that the client can verify is taken, ECDSA before RSA. A client without SNI, or with a name that no
//! certificate holds, gets the one of the public hostname. The folder is watched: a good change serves new handshakes
//! at once and touches no connection, a bad one changes nothing and is reported once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use guichet_auth::WallTime;
use rustls::{
    SignatureAlgorithm,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::policy::PROVIDER;
use crate::telemetry::{METRICS, chain, event};

/// Something wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}", file = file.display())]
pub struct CertificateProblem {
    /// The file.
    pub file: PathBuf,
    /// One sentence.
    pub message: String,
}

impl CertificateProblem {
    fn new(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), message: message.into() }
    }
}

/// One certificate with its key.
#[derive(Debug)]
pub struct Pair {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// Names of the leaf, lower-case; wildcards as `*.example.org`.
    names: Vec<String>,
    /// End of validity, Unix seconds.
    not_after: i64,
}

/// The certificates that serve now.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
    hostname: String,
    index: ArcSwap<Index>,
    /// What the folder looked like when it was last read, well or badly.
    seen: Mutex<Fingerprint>,
}

#[derive(Debug)]
struct Index {
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
    count: usize,
}

/// Name, length and time of change of each file of the folder.
type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

impl Certificates {
    /// Reads the folder. Every pair must be usable now, and one must hold `hostname`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(folder: &Path, hostname: &str, now: WallTime) -> Result<Self, Vec<CertificateProblem>> {
        let seen = fingerprint(folder);
        let index = Index::read(folder, hostname, now)?;
        Ok(Self {
            folder: folder.to_owned(),
            hostname: hostname.to_owned(),
            index: ArcSwap::from_pointee(index),
            seen: Mutex::new(seen),
        })
    }

    /// Whether a certificate holds this name; a browser that comes by another one is shown that of the public hostname.
    pub fn holds(&self, name: &str) -> bool {
        self.index.load().of(name).is_some()
    }

    /// Looks at the folder and takes over what changed. Called every few seconds; costs a few `stat`.
    pub fn refresh(&self, now: WallTime) {
        let fresh = fingerprint(&self.folder);
        {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if *seen == fresh {
                return;
            }
            *seen = fresh;
        }
        match Index::read(&self.folder, &self.hostname, now) {
            Ok(index) => {
                let count = index.count;
                self.index.store(Arc::new(index));
                event::CertificatesChanged { result: Ok(count) }.emit();
            }
            Err(problems) => {
                let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                event::CertificatesChanged { result: Err(&text) }.emit();
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = self.index.load();
        let named = hello.server_name().and_then(|name| index.of(name));
        let keys = named.unwrap_or(&index.default);
        let schemes = hello.signature_schemes();
        keys.iter().find(|one| one.key.choose_scheme(schemes).is_some()).or(keys.first()).cloned()
    }
}

impl Index {
    fn read(folder: &Path, hostname: &str, now: WallTime) -> Result<Self, Vec<CertificateProblem>> {
        let mut problems = Vec::new();
        let mut pairs = Vec::new();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) => return Err(vec![CertificateProblem::new(folder, format!("the folder cannot be read: {e}"))]),
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in &files {
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => match load_pair(file, &file.with_extension("key"), now) {
                    Ok(pair) => pairs.push((file.clone(), pair)),
                    Err(problem) => problems.push(problem),
                },
                Some("key") if !file.with_extension("crt").exists() => {
                    problems.push(CertificateProblem::new(file, "the key has no certificate (NAME.crt) beside it"));
                }
                _ => {}
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let mut index = Self { by_name: HashMap::new(), default: Vec::new(), count: pairs.len() };
        for (file, pair) in &pairs {
            for name in &pair.names {
                index.by_name.entry(name.clone()).or_default().push(pair.key.clone());
            }
            let label = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            METRICS.tls_certificate_not_after.with_label_values(&[label]).set(pair.not_after);
        }
        for keys in index.by_name.values_mut() {
            keys.sort_by_key(|one| one.key.algorithm() != SignatureAlgorithm::ECDSA);
        }
        index.default = match index.of(hostname) {
            Some(keys) => keys.to_vec(),
            None => {
                let message = format!("no certificate of the folder holds the public hostname `{hostname}`");
                return Err(vec![CertificateProblem::new(folder, message)]);
            }
        };
        Ok(index)
    }

    /// Exact name first, then the wildcard one label up (RFC 6125 §6.4.3).
    fn of(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.to_ascii_lowercase();
        let keys = self.by_name.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        });
        keys.map(Vec::as_slice)
    }
}

/// Reads one pair: the chain parses, the leaf is valid now and the key is the leaf's.
///
/// # Errors
/// The file that cannot be used.
pub fn load_pair(certificate: &Path, key: &Path, now: WallTime) -> Result<Pair, CertificateProblem> {
    let bytes = read(certificate)?;
    let unreadable = || CertificateProblem::new(certificate, "it is not a PEM certificate chain");
    let parsed = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(|_| unreadable())?;
    let leaf = parsed.first().ok_or_else(unreadable)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;

    let validity = leaf.validity();
    let seconds = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
    if validity.not_after.timestamp() <= seconds {
        return Err(CertificateProblem::new(certificate, format!("the certificate expired on {}", validity.not_after)));
    }
    if validity.not_before.timestamp() > seconds {
        return Err(CertificateProblem::new(
            certificate,
            format!("the certificate is not valid before {}", validity.not_before),
        ));
    }
    let not_after = validity.not_after.timestamp();
    let names = match leaf.subject_alternative_name() {
        Ok(Some(san)) => san.value.general_names.iter().filter_map(dns_name).collect(),
        _ => Vec::new(),
    };

    if !key.exists() {
        return Err(CertificateProblem::new(certificate, format!("its key {} is missing", key.display())));
    }
    let bytes = zeroize::Zeroizing::new(read(key)?);
    let private = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| CertificateProblem::new(key, "it is not a PEM private key"))?;
    let certified = CertifiedKey::from_der(parsed, private, &PROVIDER).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateProblem::new(key, format!("the key is not the one of {}", certificate.display()))
        }
        other => CertificateProblem::new(key, format!("the key cannot be used: {}", chain(&other))),
    })?;
    Ok(Pair { key: Arc::new(certified), names, not_after })
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) => Some(text.to_ascii_lowercase()),
        _ => None,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateProblem> {
    std::fs::read(file).map_err(|e| CertificateProblem::new(file, format!("it cannot be read: {e}")))
}

fn fingerprint(folder: &Path) -> Fingerprint {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Fingerprint = entries
        .flatten()
        .filter_map(|entry| {
            // Follows links: certificate tools replace the target of a link.
            let meta = std::fs::metadata(entry.path()).ok()?;
            Some((entry.path(), meta.len(), meta.modified().ok()))
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
#[path = "certificates/tests.rs"]
mod tests;
