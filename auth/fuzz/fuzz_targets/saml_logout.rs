//! `cargo fuzz run saml_logout`: bytes at the readers of logout messages, by all three bindings. The IdP's key is thrown
//! away at start, so whatever is accepted is forged.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use guichet_auth::{
    WallTime,
    saml::{IdpMetadata, ServiceProvider, properties},
};
use guichet_config::CertificateFiles;

/// PEM certificate, PEM key, DER certificate.
fn pair() -> (String, String, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem(), certificate.der().to_vec())
}

static WORLD: LazyLock<(ServiceProvider, IdpMetadata)> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("guichet-fuzz-logout-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let files = CertificateFiles { certificate: dir.join("sp.crt"), key: dir.join("sp.key") };
    let (certificate, key, _) = pair();
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key).unwrap();
    let settings = guichet_config::ServiceProvider {
        entity_id: "https://mail.example/saml/metadata".to_owned(),
        signing: files.clone(),
        signing_next: None,
        encryption: vec![files],
        decryption_only: vec![],
        publication: guichet_config::Publication::default(),
        clock_skew: Duration::from_secs(180),
    };
    let sp = ServiceProvider::from_parts("https://mail.example", &settings).unwrap();
    let _ = std::fs::remove_dir_all(&dir);
    let idp = IdpMetadata {
        entity_id: "https://idp.univ-a.example/idp".to_owned(),
        signing_certificates: vec![pair().2],
        ..IdpMetadata::default()
    };
    (sp, idp)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (sp, idp) = &*WORLD;
    properties::unsigned_logout(data, sp, idp, WallTime(1_795_478_400_000));
});
