//! Where documents come from: files of their owners, copies of what was fetched, and the addresses to fetch.
//!
//! A fetched document is kept as it came, in `state_dir/metadata`, and verified again whenever it is read: the copy is
//! what a node starts with when the network or the source is down.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Error, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use guichet_config::{Config, Federation, MetadataSource};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};

use super::{
    super::signature,
    MetadataError,
    document::{self, DOCUMENT_BYTES_MAX, Rules, Verified},
};
use crate::WallTime;

/// Names one document of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    /// Of this federation.
    pub federation: String,
    /// The one entity it is asked for (MDQ); absent: the federation has one document.
    pub entity_id: Option<String>,
}

/// The documents that a federation has.
pub fn documents(config: &Config, federation: &Federation) -> Vec<DocumentId> {
    let id = |entity_id| DocumentId { federation: federation.name.clone(), entity_id };
    match federation.source {
        MetadataSource::File(_) | MetadataSource::Url { .. } => vec![id(None)],
        MetadataSource::Mdq { .. } => {
            let wanted: BTreeSet<&String> = idps_of_tenants(config).collect();
            wanted.into_iter().map(|entity_id| id(Some(entity_id.clone()))).collect()
        }
    }
}

/// entityIDs of the tenants' IdPs.
pub fn idps_of_tenants(config: &Config) -> impl Iterator<Item = &String> {
    config.tenants.values().filter_map(|tenant| tenant.idp.as_ref()).map(|idp| &idp.entity_id)
}

impl DocumentId {
    /// Where it is fetched; `None`: it is a file.
    pub fn url(&self, source: &MetadataSource) -> Option<String> {
        match (source, &self.entity_id) {
            (MetadataSource::Url { url, .. }, _) => Some(url.clone()),
            (MetadataSource::Mdq { base, .. }, Some(entity_id)) => {
                let name = sha1(entity_id);
                // draft-young-md-query-saml §3.1: the transformed identifier is `{sha1}` and the digest, percent-encoded.
                let spelt = || format!("{}/entities/%7Bsha1%7D{name}", base.trim_end_matches('/'));
                Some(if base.contains("{sha1}") { base.replace("{sha1}", &name) } else { spelt() })
            }
            _ => None,
        }
    }

    /// The most bytes it may have.
    pub fn bytes_max(&self) -> usize {
        if self.entity_id.is_some() { ENTITY_BYTES_MAX } else { DOCUMENT_BYTES_MAX }
    }

    /// Where the last good copy is. Names of federations have no dot.
    fn copy(&self, state_dir: &Path) -> PathBuf {
        let name = match &self.entity_id {
            None => format!("{}.xml", self.federation),
            Some(entity_id) => format!("{}.{}.xml", self.federation, sha1(entity_id)),
        };
        state_dir.join(FOLDER).join(name)
    }
}

/// Only a name: nothing relies on its strength.
fn sha1(text: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the documents of one federation: its pinned keys, and what is wanted.
#[derive(Debug)]
pub struct Reader<'a> {
    federation: &'a Federation,
    state_dir: &'a Path,
    keys: Vec<Vec<u8>>,
    wanted: Option<HashSet<String>>,
}

impl<'a> Reader<'a> {
    /// Reads the pinned keys.
    ///
    /// # Errors
    /// A file without usable keys.
    pub fn new(config: &'a Config, federation: &'a Federation) -> Result<Self, MetadataError> {
        let wanted = (!federation.keep_all).then(|| idps_of_tenants(config).cloned().collect());
        Self::with_idps(federation, &config.node.state_dir, wanted)
    }

    /// The same for any choice of IdPs (`None`: all), and copies below `state_dir`.
    ///
    /// # Errors
    /// A file without usable keys.
    pub fn with_idps(
        federation: &'a Federation,
        state_dir: &'a Path,
        wanted: Option<HashSet<String>>,
    ) -> Result<Self, MetadataError> {
        let mut keys = Vec::new();
        for path in &federation.signing_keys {
            keys.extend(read_keys(path).map_err(|message| MetadataError { message })?);
        }
        Ok(Self { federation, state_dir, keys, wanted })
    }

    /// The pinned keys, DER.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// Verifies and reads what was fetched under `id`, or the file.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn read(&self, id: &DocumentId, bytes: &[u8], now: WallTime) -> Result<Verified, MetadataError> {
        let fetched = self.federation.source.roots().is_some();
        let validity_max = fetched.then_some(self.federation.validity_max);
        let rules = Rules { keys: &self.keys, wanted: self.wanted.as_ref(), validity_max };
        let verified = document::read(bytes, &rules, now)?;
        match &id.entity_id {
            Some(entity_id) if !verified.idps.contains_key(entity_id) => {
                Err(MetadataError { message: "the document does not hold the IdP it was asked for".to_owned() })
            }
            _ => Ok(verified),
        }
    }

    /// The document as this machine has it, and since when: the owner's file, or the copy of what was fetched last.
    /// `None`: nothing was fetched yet.
    ///
    /// # Errors
    /// It cannot be read, or is not used.
    pub fn stored(&self, id: &DocumentId, now: WallTime) -> Result<Option<(Verified, WallTime)>, MetadataError> {
        let (path, copy) = match &self.federation.source {
            MetadataSource::File(path) => (path.clone(), false),
            _ => (id.copy(self.state_dir), true),
        };
        let fail = |message: String| MetadataError { message: format!("{}: {message}", path.display()) };
        let file = match File::open(&path) {
            Err(error) if copy && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| fail(error.to_string()))?,
        };
        let meta = file.metadata().map_err(|error| fail(error.to_string()))?;
        if meta.len() > DOCUMENT_BYTES_MAX as u64 {
            return Err(fail("the file is larger than 128 MiB".to_owned()));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).saturating_add(1));
        let most = DOCUMENT_BYTES_MAX as u64 + 1;
        file.take(most).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
        let verified = self.read(id, &bytes, now).map_err(|error| fail(error.message))?;
        let since =
            if copy { meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()) } else { None };
        let since = since.map_or(now, |since| WallTime(u64::try_from(since.as_millis()).unwrap_or(0)).min(now));
        Ok(Some((verified, since)))
    }

    /// Keeps what was fetched and found good: whole or not at all.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(&self, id: &DocumentId, bytes: &[u8], now: WallTime) -> Result<(), Error> {
        let path = id.copy(self.state_dir);
        let folder = self.state_dir.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.set_modified(UNIX_EPOCH + Duration::from_millis(now.0))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&folder)?.sync_all()
    }

    /// The source says that what it gave last is what it has.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_unchanged(&self, id: &DocumentId, now: WallTime) -> Result<(), Error> {
        let file = OpenOptions::new().append(true).open(id.copy(self.state_dir))?;
        file.set_modified(UNIX_EPOCH + Duration::from_millis(now.0))
    }
}

/// Every certificate and public key of a PEM file.
fn read_keys(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let name = path.display();
    let pem = fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).flatten().map(|der| der.as_ref().to_vec());
    let keys = SubjectPublicKeyInfoDer::pem_slice_iter(&pem).flatten().map(|der| der.as_ref().to_vec());
    let all: Vec<Vec<u8>> = certificates.chain(keys).collect();
    if all.is_empty() {
        return Err(format!("{name}: no PEM certificate or public key"));
    }
    if all.iter().any(|der| signature::verification_key(der).is_none()) {
        return Err(format!(
            "{name}: only RSA keys of 2048 bits or more and ECDSA P-256, P-384, P-521 keys can be used"
        ));
    }
    Ok(all)
}

/// Below `node.state_dir`.
const FOLDER: &str = "metadata";
/// An entity has some kilobytes.
const ENTITY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
#[path = "../tests/metadata_source.rs"]
mod tests;
