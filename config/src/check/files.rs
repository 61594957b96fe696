//! Files that the configuration names: found beside the file that names them, read or at least readable, secrets private.

use std::{
    collections::BTreeMap,
    fs,
    io::Error,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroize;

use super::Check;
use crate::{CertificateFiles, Secret, document, file, shape};

/// Folder of a file.
pub(super) fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

impl Check {
    /// A path, relative to the file that holds the key.
    pub(super) fn path(&self, key: &str, text: &str) -> PathBuf {
        folder(&self.place(key).file).join(text)
    }

    /// A file that can be read.
    pub(super) fn file(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        let path = self.path(key, text);
        self.regular(key, &path)?;
        Some(path)
    }

    /// As [`Check::file`], and absent is fine too: the outer `None` is a problem.
    pub(super) fn file_or_none(&mut self, key: &str, text: Option<&str>) -> Option<Option<PathBuf>> {
        text.map_or(Some(None), |text| self.file(key, text).map(Some))
    }

    /// A file that can be read, by us alone.
    pub(super) fn private(&mut self, key: &str, path: &Path) -> Option<()> {
        self.regular(key, path)?;
        let mode = fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
        if mode & OTHERS != 0 {
            let hint = format!("chmod o= {}", path.display());
            self.problem(key, format!("{} can be read or changed by every user of this machine", path.display()), hint);
            return None;
        }
        Some(())
    }

    /// A certificate and its key.
    pub(super) fn pair(&mut self, key: &str, pair: &file::Pair) -> Option<CertificateFiles> {
        let certificate = self.file(&format!("{key}.certificate"), &pair.certificate);
        let key_key = format!("{key}.key_file");
        let key_file = self.path(&key_key, &pair.key_file);
        self.private(&key_key, &key_file)?;
        Some(CertificateFiles { certificate: certificate?, key: key_file })
    }

    /// The bytes of a secret without the newline at their end.
    pub(super) fn secret_bytes(&mut self, key: &str, text: &str) -> Option<Secret<Vec<u8>>> {
        let path = self.path(key, text);
        self.private(key, &path)?;
        let mut bytes = match document::read_bounded(&path, SECRET_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(key, &path, &error),
        };
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            self.problem(key, format!("{} is empty", path.display()), None);
            return None;
        }
        Some(Secret::new(bytes))
    }

    /// A secret text.
    pub(super) fn secret(&mut self, key: &str, text: &str) -> Option<Secret<String>> {
        let bytes = self.secret_bytes(key, text)?;
        match String::from_utf8(bytes.expose().clone()) {
            Ok(secret) if !secret.contains(['\0', '\n', '\r']) => Some(Secret::new(secret)),
            Ok(mut secret) => {
                secret.zeroize();
                self.problem(
                    key,
                    "the secret holds a NUL or a line break",
                    "the file must hold the secret alone, on one line".to_owned(),
                );
                None
            }
            Err(error) => {
                error.into_bytes().zeroize();
                self.problem(key, "the secret is not UTF-8 text", None);
                None
            }
        }
    }

    /// The folder of server certificates: at least one pair, no certificate without its key.
    pub(super) fn certificates(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        let path = self.path(key, text);
        let names = match names_in(&path, "crt") {
            Ok(names) => names,
            Err(error) => return self.unreadable(key, &path, &error),
        };
        if names.is_empty() {
            let message = format!("{} holds no certificate", path.display());
            self.problem(key, message, "put NAME.crt (PEM chain) and NAME.key (PEM key) there".to_owned());
            return None;
        }
        let mut good = Some(());
        for name in names {
            good = good.and(self.regular(key, &name));
            let key_file = name.with_extension("key");
            if !key_file.exists() {
                self.problem(
                    key,
                    format!("{} has no key", name.display()),
                    format!("put its PEM key into {}", key_file.display()),
                );
                good = None;
            } else if self.private(key, &key_file).is_none() {
                good = None;
            }
        }
        good.map(|()| path)
    }

    /// The tenants of `tenants.d/*.toml`, in file order. A name that stands already is a problem.
    pub(super) fn tenant_files(&mut self, folder: &Path) -> Vec<(String, file::Tenant)> {
        let mut tenants = Vec::new();
        let names = match names_in(folder, "toml") {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return tenants,
            Err(error) => {
                self.tenants_partial = true;
                let _: Option<()> = self.unreadable("", folder, &error);
                return tenants;
            }
        };
        for path in names {
            let document = document::read::<file::Tenants>(&path, &mut self.problems);
            self.tenants_partial |= document.value.is_none();
            let mut given = document.value.map_or_else(BTreeMap::new, |value| value.tenant);
            for key in document.places.keys().filter(|key| is_tenant(key)) {
                if let (Some(first), Some(again)) = (self.places.get(key), document.places.get(key)) {
                    let (message, place) =
                        (format!("this tenant stands already in {}, line {}", first.file.display(), first.line), again);
                    self.problems.push(crate::Problem { place: place.clone(), key: key.clone(), message, hint: None });
                    given.retain(|name, _| shape::join("tenant", name) != *key);
                }
            }
            for (key, place) in document.places {
                self.places.entry(key).or_insert(place);
            }
            tenants.extend(given);
        }
        tenants
    }

    fn regular(&mut self, key: &str, path: &Path) -> Option<()> {
        let opened = fs::File::open(path).and_then(|file| file.metadata());
        match opened {
            Ok(meta) if meta.is_file() => Some(()),
            Ok(_) => self.unreadable(key, path, &Error::other("not a regular file")),
            Err(error) => self.unreadable(key, path, &error),
        }
    }

    fn unreadable<T>(&mut self, key: &str, path: &Path, error: &Error) -> Option<T> {
        let hint = (error.kind() == std::io::ErrorKind::NotFound)
            .then(|| "paths are relative to the folder of the file they stand in".to_owned());
        self.problem(key, format!("{} cannot be read: {error}", path.display()), hint);
        None
    }
}

/// `tenant.NAME`, whatever the name.
fn is_tenant(key: &str) -> bool {
    let Some(name) = key.strip_prefix("tenant.") else { return false };
    if name.starts_with('"') { name.ends_with('"') && !name.contains("\".") } else { !name.contains(['.', '[']) }
}

/// Files of a folder with an extension, in name order, hidden ones left out.
fn names_in(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|found| found == extension) {
            names.push(path);
        }
        if names.len() > FILES_MAX {
            return Err(Error::other(format!("more than {FILES_MAX} files")));
        }
    }
    names.sort();
    Ok(names)
}

/// What people outside the file's group may do.
const OTHERS: u32 = 0o007;

/// Tokens, passwords and HMAC keys are far shorter.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Institutions and certificates come in hundreds.
const FILES_MAX: usize = 10_000;
