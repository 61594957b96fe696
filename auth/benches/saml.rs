//! What a signed and encrypted Response costs beside the cryptography that it cannot do without: one RSA decryption and
//! one RSA verification (2048 bits both), as aws-lc does them. Prints the ratio.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark; criterion's macros make undocumented items")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey},
    signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use bergshamra_dsig::DsigContext;
use bergshamra_enc::EncContext;
use bergshamra_keys::{KeysManager, loader};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use guichet_auth::{
    WallTime,
    saml::{Asked, IdpMetadata, ServiceProvider, response},
};
use guichet_config::{Category, CertificateFiles, FallbackPolicy, IdpOfTenant, Tenant, Text};

const SP: &str = "https://mail.example/saml/metadata";
const ACS: &str = "https://mail.example/saml/acs";
const IDP: &str = "https://idp.univ-a.example/idp";
const MAIL: &str = "urn:oid:0.9.2342.19200300.100.1.3";
/// 2026-11-24T00:00:00Z.
const NOW: WallTime = WallTime(1_795_478_400_000);

struct Pair {
    key: String,
    pem: String,
    certificate: Vec<u8>,
}

fn pair() -> Pair {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
    Pair { key: key.serialize_pem(), pem: certificate.pem(), certificate: certificate.der().to_vec() }
}

/// The shape of a Shibboleth IdP: the Response signed, the assertion encrypted with AES-128-GCM, a dozen attributes.
fn response(idp: &Pair, sp: &Pair) -> String {
    let attributes: String = (0..12)
        .map(|n| {
            let name = if n == 0 { MAIL.to_owned() } else { format!("urn:oid:1.3.6.1.4.1.5923.1.1.1.{n}") };
            format!(
                "<saml:Attribute Name=\"{name}\"><saml:AttributeValue>ada@univ-a.example</saml:AttributeValue>\
                 </saml:Attribute>"
            )
        })
        .collect();
    let assertion = format!(
        "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_a\" Version=\"2.0\" \
         IssueInstant=\"2026-11-24T00:00:00Z\"><saml:Issuer>{IDP}</saml:Issuer><saml:Subject><saml:NameID>x</saml:NameID>\
         <saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><saml:SubjectConfirmationData \
         Recipient=\"{ACS}\" InResponseTo=\"_q\" NotOnOrAfter=\"2026-11-24T00:05:00Z\"/></saml:SubjectConfirmation>\
         </saml:Subject><saml:Conditions NotBefore=\"2026-11-24T00:00:00Z\" NotOnOrAfter=\"2026-11-24T00:05:00Z\">\
         <saml:AudienceRestriction><saml:Audience>{SP}</saml:Audience></saml:AudienceRestriction></saml:Conditions>\
         <saml:AuthnStatement AuthnInstant=\"2026-11-24T00:00:00Z\"/><saml:AttributeStatement>{attributes}\
         </saml:AttributeStatement></saml:Assertion>"
    );
    let sealed = format!(
        "<saml:EncryptedAssertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"><e:EncryptedData \
         xmlns:e=\"http://www.w3.org/2001/04/xmlenc#\" Type=\"http://www.w3.org/2001/04/xmlenc#Element\">\
         <e:EncryptionMethod Algorithm=\"{}\"/><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">\
         <e:EncryptedKey><e:EncryptionMethod Algorithm=\"{}\"><ds:DigestMethod Algorithm=\"{}\"/></e:EncryptionMethod>\
         <e:CipherData><e:CipherValue></e:CipherValue></e:CipherData></e:EncryptedKey></ds:KeyInfo><e:CipherData>\
         <e:CipherValue></e:CipherValue></e:CipherData></e:EncryptedData></saml:EncryptedAssertion>",
        alg::AES128_GCM,
        alg::RSA_OAEP,
        alg::SHA1,
    );
    let mut keys = KeysManager::new();
    keys.add_key(loader::load_x509_cert_der(&sp.certificate).unwrap());
    let sealed = bergshamra_enc::encrypt::encrypt(&EncContext::new(keys), &sealed, assertion.as_bytes()).unwrap();
    let unsigned = format!(
        "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_r\" Version=\"2.0\" \
         IssueInstant=\"2026-11-24T00:00:00Z\" Destination=\"{ACS}\" InResponseTo=\"_q\"><saml:Issuer \
         xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">{IDP}</saml:Issuer><ds:Signature \
         xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{c14n}\"/>\
         <ds:SignatureMethod Algorithm=\"{}\"/><ds:Reference URI=\"#_r\"><ds:Transforms><ds:Transform Algorithm=\"{}\"/>\
         <ds:Transform Algorithm=\"{c14n}\"/></ds:Transforms><ds:DigestMethod Algorithm=\"{}\"/><ds:DigestValue>\
         </ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue></ds:SignatureValue></ds:Signature>\
         <samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/></samlp:Status>{sealed}\
         </samlp:Response>",
        alg::RSA_SHA256,
        alg::ENVELOPED_SIGNATURE,
        alg::SHA256,
        c14n = alg::EXC_C14N,
    );
    let mut keys = KeysManager::new();
    keys.add_key(loader::load_pem_auto(idp.key.as_bytes(), None).unwrap());
    bergshamra_dsig::sign::sign(&DsigContext::new(keys), &unsigned).unwrap()
}

fn files(dir: &std::path::Path, name: &str, pair: &Pair) -> CertificateFiles {
    let files = CertificateFiles { certificate: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
    std::fs::write(&files.certificate, &pair.pem).unwrap();
    std::fs::write(&files.key, &pair.key).unwrap();
    files
}

fn tenant() -> Tenant {
    Tenant {
        id: "univ-a".parse().unwrap(),
        name: Text::default(),
        domains: vec!["univ-a.example".parse().unwrap()],
        cell: "one".parse().unwrap(),
        category: Category::Student,
        idp: Some(IdpOfTenant::new(IDP)),
        fallback_staff: FallbackPolicy::Off,
        fallback_students: FallbackPolicy::Off,
        idp_forced: None,
        contact: None,
        step_up: None,
    }
}

/// One RSA decryption and one RSA verification, nothing else.
fn bare() -> impl Fn() {
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let public = OaepPublicEncryptingKey::new(private.public_key()).unwrap();
    let private = OaepPrivateDecryptingKey::new(private).unwrap();
    let mut sealed = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA1_MGF1SHA1, &[7; 16], &mut sealed, None).unwrap();
    let signer = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; signer.public_modulus_len()];
    signer.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature).unwrap();
    let verifier = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, signer.public_key().as_ref().to_vec());
    move || {
        let mut out = vec![0; private.min_output_size()];
        black_box(private.decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut out, None).unwrap());
        verifier.verify(b"message", &signature).unwrap();
    }
}

fn each(run: &dyn Fn(), rounds: u32) -> Duration {
    let start = Instant::now();
    (0..rounds).for_each(|_| run());
    start.elapsed() / rounds
}

fn consumer(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (signing, encryption, idp_key) = (pair(), pair(), pair());
    let settings = guichet_config::ServiceProvider {
        entity_id: SP.to_owned(),
        signing: files(dir.path(), "signing", &signing),
        encryption: vec![files(dir.path(), "encryption", &encryption)],
        clock_skew: Duration::from_secs(180),
        signing_next: None,
        decryption_only: vec![],
        publication: guichet_config::Publication::default(),
    };
    let sp = ServiceProvider::from_parts("https://mail.example", &settings).unwrap();
    let idp = IdpMetadata {
        entity_id: IDP.to_owned(),
        signing_certificates: vec![idp_key.certificate.clone()],
        ..IdpMetadata::default()
    };
    let tenant = tenant();
    let field = BASE64_STANDARD.encode(response(&idp_key, &encryption));
    let expected = response::Expected {
        idp: &idp,
        request_id: "_q",
        acs_url: ACS,
        tenant: &tenant,
        asked: Asked::default(),
        clock_skew: Duration::from_secs(180),
        now: NOW,
    };
    let whole = || {
        black_box(response::consume(field.as_bytes(), &sp, &expected).unwrap());
    };
    let bare = bare();

    let mut group = criterion.benchmark_group("saml");
    group.throughput(Throughput::Elements(1));
    group.bench_function("signed_and_encrypted", |bencher| bencher.iter(whole));
    group.bench_function("bare_cryptography", |bencher| bencher.iter(&bare));
    group.finish();

    // In turns, so that a busy machine slows both alike; the best round of each.
    let rounds: Vec<_> = (0..20).map(|_| (each(&whole, 100), each(&bare, 100))).collect();
    let best = |pick: fn(&(Duration, Duration)) -> Duration| rounds.iter().map(pick).min().unwrap_or_default();
    let (whole, bare) = (best(|round| round.0), best(|round| round.1));
    println!(
        "one response {whole:?}, its bare cryptography {bare:?}: {:.2} times",
        whole.as_secs_f64() / bare.as_secs_f64()
    );
}

criterion_group!(benches, consumer);
criterion_main!(benches);
