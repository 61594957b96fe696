//! `cargo fuzz run metadata`: bytes given as metadata of a federation. The pinned key is thrown away at start, so whatever
//! is accepted is forged; and what is taken in pieces is compared with the reader of one tree.
#![no_main]

use std::sync::LazyLock;

use guichet_auth::saml::properties;

static KEYS: LazyLock<[Vec<u8>; 1]> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
    [certificate.der().to_vec()]
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::metadata(data, &*KEYS));
