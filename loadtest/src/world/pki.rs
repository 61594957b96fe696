//! Keys and certificates of the world and of the gateway in front of it: made on the fly, good for nothing else.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};

/// A key with its certificate, both PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM certificate.
    pub certificate: String,
    /// PKCS#8 PEM key.
    pub key: String,
}

/// A certificate authority, and a server certificate it signed for `localhost`.
///
/// # Errors
/// The crypto library refuses.
pub fn localhost() -> Result<(String, Pair), rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name = name("Guichet demo CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?.pem();
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])?;
    leaf.distinguished_name = name("localhost");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?.pem();
    Ok((ca_certificate, Pair { certificate, key: key.serialize_pem() }))
}

/// An RSA 3072 key in a self-signed certificate, as SAML parties use them.
///
/// # Errors
/// The crypto library refuses.
pub fn saml(common_name: &str) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(common_name);
    let certificate = params.self_signed(&key)?.pem();
    Ok(Pair { certificate, key: key.serialize_pem() })
}

/// The base64 text of a PEM certificate, without its frame: what metadata holds.
pub fn certificate_text(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect()
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
