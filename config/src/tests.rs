//! Whole files: the examples, each kind of problem with its place, and texts that somebody mangled.

mod examples;
mod mangled;
mod problems;
mod reference;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{Config, Report, load};

/// A copy of an example in a folder of its own, with the files that are not kept beside it: certificates, keys, users.
pub(crate) struct Copy {
    dir: TempDir,
    main: PathBuf,
}

/// The examples, relative to `config/examples/`.
pub(crate) const EXAMPLES: [&str; 3] = ["minimal.toml", "one-node.toml", "fleet/fleet.toml"];

impl Copy {
    pub(crate) fn of(example: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        let main = dir.path().join(source.file_name().unwrap());
        fs::copy(&source, &main).unwrap();
        if let Ok(tenants) = fs::read_dir(source.parent().unwrap().join("tenants.d")) {
            fs::create_dir(dir.path().join("tenants.d")).unwrap();
            for file in tenants {
                let file = file.unwrap();
                fs::copy(file.path(), dir.path().join("tenants.d").join(file.file_name())).unwrap();
            }
        }
        let copy = Self { dir, main };
        for (name, text) in SIDE_FILES {
            copy.write(name, text);
        }
        copy
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.chmod(name, 0o600);
    }

    pub(crate) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a text of a file, which must be there.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} does not hold {from:?}");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    pub(crate) fn main_name(&self) -> String {
        self.main.file_name().unwrap().to_str().unwrap().to_owned()
    }

    pub(crate) fn load(&self) -> Result<Config, Report> {
        load(&self.main)
    }

    /// The report with the folder's own name left out.
    pub(crate) fn report(&self) -> String {
        match self.load() {
            Ok(_) => String::new(),
            Err(report) => {
                assert!(!report.problems.is_empty(), "an empty report");
                report.to_string().replace(&format!("{}/", self.dir.path().display()), "")
            }
        }
    }
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef\n";

/// The key of Zimbra's own example.
const PREAUTH_KEY: &str = "6b7ead4bd425836e8cf0079cd6c1a05acc127acd07c8ee4b61023e19250e929c\n";

const SIDE_FILES: [(&str, &str); 30] = [
    ("tls/mail.crt", "certificate"),
    ("tls/mail.key", "key"),
    ("management/node.crt", "certificate"),
    ("management/node.key", "key"),
    ("saml/signing.crt", "certificate"),
    ("saml/signing.key", "key"),
    ("saml/encryption.crt", "certificate"),
    ("saml/encryption.key", "key"),
    ("saml/encryption-1.crt", "certificate"),
    ("saml/encryption-1.key", "key"),
    ("saml/encryption-2.crt", "certificate"),
    ("saml/encryption-2.key", "key"),
    ("metadata/federation.xml", "<EntitiesDescriptor/>"),
    ("metadata/federation.crt", "certificate"),
    ("metadata/renater.xml", "<EntitiesDescriptor/>"),
    ("metadata/renater-1.crt", "certificate"),
    ("metadata/renater-2.crt", "certificate"),
    ("metadata/local.xml", "<EntitiesDescriptor/>"),
    ("metadata/local.crt", "certificate"),
    ("metadata/national.jwks", "keys"),
    ("ca.pem", "certificate"),
    ("secrets/management.token", TOKEN),
    ("secrets/ldap.password", "correct horse\n"),
    ("secrets/main.key", TOKEN),
    ("secrets/alpha.key", TOKEN),
    ("secrets/beta.key", TOKEN),
    ("secrets/alpha.password", "master secret\n"),
    ("secrets/gamma.preauth", PREAUTH_KEY),
    ("secrets/univ-sud.preauth", PREAUTH_KEY),
    (
        "users.toml",
        r#"[[user]]
address = "alice@univ.example"
aliases = ["a.martin@univ.example"]
password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo"
category = "staff"
cell = "main"

[[user]]
address = "bob@univ.example"
password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo"
status = "locked"
"#,
    ),
];
