//! The demo's folder: files written whole or not at all, keys and users made once.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use argon2::{Argon2, PasswordHasher as _};

use crate::world::{Institution, people::CELLS, pki, pki::Pair};

/// A folder that one demo lives in. It is locked as long as one of its clones lives; the lock ends with the process, however that ends.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: PathBuf,
    _lock: Arc<fs::File>,
}

impl Folder {
    /// Opens or makes it, for this user only.
    ///
    /// # Errors
    /// It cannot be made, or another demo lives in it.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("the folder {} cannot be made", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("the folder {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let lock = fs::File::create(dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => bail!("a demo runs in {} already", dir.display()),
            Err(fs::TryLockError::Error(error)) => return Err(error).context("the lock of the folder"),
        }
        let folder = Self { dir, _lock: Arc::new(lock) };
        for sub in ["tls", "saml", "metadata", "secrets", "tenants.d", "world", "state"] {
            fs::create_dir_all(folder.path(sub))?;
        }
        // What the last run said of itself holds no longer.
        folder.remove("demo.json")?;
        Ok(folder)
    }

    /// Path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether a file is there.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Text of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| format!("{} cannot be read", self.path(name).display()))
    }

    /// A certificate and its key.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn pair(&self, name: &str) -> anyhow::Result<Pair> {
        Ok(Pair { certificate: self.read(&format!("{name}.crt"))?, key: self.read(&format!("{name}.key"))? })
    }

    /// Writes a file so that a reader, or a crash, meets the old or the new one and nothing between.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        let fresh = self.path(&format!("{name}.new"));
        let written = (|| {
            let mut file = fs::File::create(&fresh)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        })();
        written.with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Removes a file that may be there.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.path(name).display()))
            }
            _ => Ok(()),
        }
    }

    /// Makes the keys, secrets and users that are not there yet.
    ///
    /// # Errors
    /// A file cannot be written, or the crypto library refuses.
    pub fn prepare(&self, people: &[Institution]) -> anyhow::Result<()> {
        if !self.has("ca.pem") || !self.has("tls/localhost.crt") {
            let (ca, localhost) = pki::localhost()?;
            self.write("tls/localhost.key", &localhost.key)?;
            self.write("ca.pem", &ca)?;
            self.write("tls/localhost.crt", &localhost.certificate)?;
        }
        self.make_pair("saml/signing", "Guichet demo, signing")?;
        self.make_pair("saml/encryption", "Guichet demo, encryption")?;
        self.make_pair("world/federation", "Demo federation")?;
        for institution in people {
            self.make_pair(&format!("world/idp-{}", institution.id), institution.name_en)?;
        }
        // What verifies is apart from what signs: this one the gateway reads.
        self.write("metadata/federation.crt", &self.read("world/federation.crt")?)?;
        self.make_secret("secrets/management.token")?;
        self.make_secret("secrets/master.password")?;
        for cell in CELLS {
            self.make_secret(&format!("secrets/{cell}.key"))?;
        }
        if !self.has("users.toml") {
            self.write("users.toml", &users(people)?)?;
        }
        Ok(())
    }

    /// The certificate is written last: with it, the pair is whole.
    fn make_pair(&self, name: &str, common_name: &str) -> anyhow::Result<()> {
        if !self.has(&format!("{name}.crt")) {
            let pair = pki::saml(common_name)?;
            self.write(&format!("{name}.key"), &pair.key)?;
            self.write(&format!("{name}.crt"), &pair.certificate)?;
        }
        Ok(())
    }

    /// 64 hexadecimal digits, without a line end: every reader gets the same bytes.
    fn make_secret(&self, name: &str) -> anyhow::Result<()> {
        if !self.has(name) {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
            self.write(name, &bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())?;
        }
        Ok(())
    }
}

/// The embedded directory.
fn users(people: &[Institution]) -> anyhow::Result<String> {
    let mut text =
        String::from("# The demo's directory. Passwords are `mail-LOGIN-1`, those of School C `idp-LOGIN-1`.\n");
    for person in people.iter().flat_map(|institution| &institution.people) {
        let hash = Argon2::default()
            .hash_password(person.password.as_bytes())
            .map_err(|error| anyhow::anyhow!("a password cannot be hashed: {error}"))?;
        text.push_str(&format!(
            "\n[[user]]\naddress = \"{}\"\ncategory = \"{}\"\npassword = \"{hash}\"\n",
            person.address, person.category
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::institutions;

    #[test]
    fn a_second_demo_in_the_folder_is_refused_and_leaves_the_first_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        folder.write("demo.json", "{}").unwrap();
        let refused = Folder::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("already"), "{refused}");
        assert!(folder.has("demo.json"));
        drop(folder);
        assert!(!Folder::open(dir.path()).unwrap().has("demo.json"));
    }

    #[test]
    fn keys_and_users_are_made_once_and_a_pair_cut_short_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let people = institutions(0);
        folder.prepare(&people).unwrap();
        let kept =
            ["users.toml", "saml/signing.key", "secrets/alpha.key", "ca.pem"].map(|name| folder.read(name).unwrap());
        // As a kill between key and certificate leaves it.
        folder.remove("saml/encryption.crt").unwrap();
        folder.prepare(&people).unwrap();
        let again =
            ["users.toml", "saml/signing.key", "secrets/alpha.key", "ca.pem"].map(|name| folder.read(name).unwrap());
        assert_eq!(kept, again);
        assert!(folder.pair("saml/encryption").is_ok());
        let mode = fs::metadata(folder.path("saml/signing.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}
