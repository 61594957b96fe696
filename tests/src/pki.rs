//! Certificates made on the fly.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::world::{run, write_secret};

/// A certificate authority that every peer and client of a world trusts.
pub struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// Chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl Pki {
    /// Makes the authority in `dir`.
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("pki folder");
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Guichet test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("self-signed");
        std::fs::write(dir.join("ca.crt"), certificate.pem()).expect("ca.crt");
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A server certificate for `names` (DNS names and addresses), kept as `FILE.crt` and `FILE.key`.
    pub fn server(&self, file: &str, names: &[&str]) -> Files {
        self.server_in(&self.dir, file, names)
    }

    /// As [`Pki::server`], into another folder. Writing over an older pair is how a story renews a certificate.
    pub fn server_in(&self, dir: &Path, file: &str, names: &[&str]) -> Files {
        let mut params =
            CertificateParams::new(names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, *names.first().expect("a name"));
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let files = Files { certificate: dir.join(format!("{file}.crt")), key: dir.join(format!("{file}.key")) };
        write_secret(&files.key, &key.serialize_pem());
        std::fs::write(&files.certificate, certificate.pem()).expect("certificate file");
        files
    }

    /// A client certificate whose one e-mail name is `address`, kept as `FILE.crt` and `FILE.key`.
    pub fn client(&self, file: &str, address: &str) -> Files {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, file);
        params.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().expect("an ASCII address"))];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::EmailProtection];
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let files =
            Files { certificate: self.dir.join(format!("{file}.crt")), key: self.dir.join(format!("{file}.key")) };
        write_secret(&files.key, &key.serialize_pem());
        std::fs::write(&files.certificate, certificate.pem()).expect("certificate file");
        files
    }

    /// A self-signed RSA pair, as SAML peers use them, made by `openssl` (RSA is what every IdP speaks).
    pub fn saml(&self, file: &str) -> Files {
        self.saml_for(file, TEN_YEARS)
    }

    /// As [`Pki::saml`], with an end in `days`.
    pub fn saml_for(&self, file: &str, days: u32) -> Files {
        self.self_signed(file, days, &["rsa:2048"])
    }

    /// The same on the curve P-256.
    pub fn saml_ecdsa(&self, file: &str) -> Files {
        self.self_signed(file, TEN_YEARS, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    fn self_signed(&self, file: &str, days: u32, kind: &[&str]) -> Files {
        let files =
            Files { certificate: self.dir.join(format!("{file}.crt")), key: self.dir.join(format!("{file}.key")) };
        run(Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-sha256", "-days", &days.to_string(), "-newkey"])
            .args(kind)
            .arg("-subj")
            .arg(format!("/CN={file}"))
            .arg("-keyout")
            .arg(&files.key)
            .arg("-out")
            .arg(&files.certificate));
        files
    }
}

/// Days.
const TEN_YEARS: u32 = 3650;
