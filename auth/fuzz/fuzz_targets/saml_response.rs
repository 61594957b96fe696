//! `cargo fuzz run saml_response`: bytes at the consumer of SAML Responses. The IdP's key is thrown away at start, so
//! whatever is accepted is forged.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use guichet_auth::{
    WallTime,
    saml::{Asked, IdpMetadata, ServiceProvider, properties, response::Expected},
};
use guichet_config::{Category, CertificateFiles, FallbackPolicy, IdpOfTenant, Tenant, Text};

const MAIL: &str = "urn:oid:0.9.2342.19200300.100.1.3";
const IDP: &str = "https://idp.univ-a.example/idp";

struct World {
    sp: ServiceProvider,
    idp: IdpMetadata,
    tenant: Tenant,
}

/// PEM certificate, PEM key, DER certificate.
fn pair() -> (String, String, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem(), certificate.der().to_vec())
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("guichet-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let files = CertificateFiles { certificate: dir.join("sp.crt"), key: dir.join("sp.key") };
    let (certificate, key, _) = pair();
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key).unwrap();
    let settings = guichet_config::ServiceProvider {
        entity_id: "https://mail.example/saml/metadata".to_owned(),
        signing: files.clone(),
        encryption: vec![files],
        clock_skew: Duration::from_secs(180),
        signing_next: None,
        decryption_only: vec![],
        publication: guichet_config::Publication::default(),
    };
    let sp = ServiceProvider::from_parts("https://mail.example", &settings).unwrap();
    let _ = std::fs::remove_dir_all(&dir);
    let idp = IdpMetadata {
        entity_id: IDP.to_owned(),
        signing_certificates: vec![pair().2],
        scopes: vec!["univ-a.example".to_owned()],
        ..IdpMetadata::default()
    };
    let tenant = Tenant {
        id: "univ-a".parse().unwrap(),
        name: Text::default(),
        domains: vec!["univ-a.example".parse().unwrap()],
        cell: "one".parse().unwrap(),
        category: Category::Student,
        idp: Some(IdpOfTenant {
            address_attributes: vec![MAIL.parse().unwrap()],
            affiliation_attributes: vec![MAIL.parse().unwrap()],
            assertion_signature_only: true,
            ..IdpOfTenant::new(IDP)
        }),
        fallback_staff: FallbackPolicy::Off,
        fallback_students: FallbackPolicy::Off,
        idp_forced: None,
        contact: None,
        step_up: None,
    };
    World { sp, idp, tenant }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let World { sp, idp, tenant } = &*WORLD;
    let now = WallTime(1_795_478_400_000);
    let expected = Expected {
        idp,
        request_id: "_q",
        acs_url: "https://mail.example/saml/acs",
        tenant,
        asked: Asked::default(),
        clock_skew: Duration::from_secs(180),
        now,
    };
    properties::unsigned_response(data, sp, &expected);
});
