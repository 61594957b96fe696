//! A signed aggregate of 8,000 entities: verified, read for the IdPs of 400 tenants, looked up in. Prints seconds and
//! bytes of each round, and their medians. The aggregate is made by a process of its own, so that its memory is not
//! counted.
//!
//! Then the work of logins at a steady pace, without a refresh and while one follows the other: a look-up in the index in
//! use, one RSA decryption and one RSA verification (2048 bits), timed from the moment each was due.
//!
//! `MINT_INTO=DIR` only makes it: `DIR/aggregate.xml`, signed by the key of `DIR/pin.pem`, for a gateway that refreshes it
//! while it is measured (docs/performance.md).

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark"
)]

use std::{
    collections::HashSet,
    fmt::Write as _,
    hint::black_box,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_dsig::DsigContext;
use bergshamra_keys::{KeysManager, loader};
use guichet_auth::{
    WallTime,
    saml::{DocumentId, Held, MetadataIndex, metadata::Reader},
};
use guichet_config::{Federation, MetadataSource};

const ENTITIES: usize = 8_000;
const TENANTS: usize = 400;
const ROUNDS: usize = 7;
/// As many as the machine of the figures has cores.
const WORKERS: usize = 2;
const LOGINS: u32 = 2_000;
const PACE: Duration = Duration::from_millis(5);
const TURNS: usize = 3;
const NOW: WallTime = WallTime(1_795_478_400_000);

fn entity_id(number: usize) -> String {
    format!("https://idp.univ-{number}.example/idp/shibboleth")
}

/// As large as entities of federations are: two certificates, two languages, four endpoints, a contact or two.
fn entity(number: usize, certificate: &str) -> String {
    let scope = format!("univ-{number}.example");
    let key = |usage: &str| {
        format!(
            "<md:KeyDescriptor use=\"{usage}\">\n<ds:KeyInfo><ds:X509Data><ds:X509Certificate>\n{certificate}\n</ds:X509Certificate>\
             </ds:X509Data></ds:KeyInfo>\n</md:KeyDescriptor>\n"
        )
    };
    let endpoint = |service: &str, binding: &str, path: &str| {
        format!(
            "<md:{service} Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:{binding}\" Location=\"https://idp.{scope}/idp/profile/SAML2/{path}\"/>\n"
        )
    };
    let contact = |kind: &str| {
        format!(
            "<md:ContactPerson contactType=\"{kind}\">\n  <md:GivenName>Support of {scope}</md:GivenName>\n  \
             <md:EmailAddress>mailto:{kind}@{scope}</md:EmailAddress>\n</md:ContactPerson>\n"
        )
    };
    let about = "An institution of research and education whose members use many services of the federation.";
    format!(
        "<md:EntityDescriptor entityID=\"{}\">\n<md:Extensions>\n<mdrpi:RegistrationInfo registrationAuthority=\
         \"https://federation.example/\" registrationInstant=\"2020-01-01T00:00:00Z\"/>\n<mdattr:EntityAttributes><saml:Attribute \
         Name=\"http://macedir.org/entity-category-support\" NameFormat=\"urn:oasis:names:tc:SAML:2.0:attrname-format:uri\">\
         <saml:AttributeValue>http://refeds.org/category/research-and-scholarship</saml:AttributeValue></saml:Attribute>\
         </mdattr:EntityAttributes>\n</md:Extensions>\n<md:IDPSSODescriptor errorURL=\"https://help.{scope}/\" \
         protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">\n<md:Extensions><shibmd:Scope regexp=\"false\">\
         {scope}</shibmd:Scope><mdui:UIInfo>\n<mdui:DisplayName xml:lang=\"fr\">Université {number} é</mdui:DisplayName>\
         <mdui:DisplayName xml:lang=\"en\">University {number}</mdui:DisplayName><mdui:Description xml:lang=\"en\">{about}\
         </mdui:Description><mdui:Logo height=\"60\" width=\"80\">https://{scope}/logo.png</mdui:Logo></mdui:UIInfo>\
         </md:Extensions>\n{}{}{}{}{}{}<md:NameIDFormat>urn:oasis:names:tc:SAML:2.0:nameid-format:transient</md:NameIDFormat>\n\
         </md:IDPSSODescriptor>\n<md:Organization><md:OrganizationName xml:lang=\"en\">{scope}</md:OrganizationName>\
         <md:OrganizationDisplayName xml:lang=\"en\">University {number}</md:OrganizationDisplayName>\
         <md:OrganizationURL xml:lang=\"en\">https://{scope}/</md:OrganizationURL></md:Organization>\n{}{}{}\
         </md:EntityDescriptor>\n",
        entity_id(number),
        key("signing"),
        key("encryption"),
        endpoint("SingleLogoutService", "HTTP-Redirect", "Redirect/SLO"),
        endpoint("SingleLogoutService", "SOAP", "SOAP/SLO"),
        endpoint("SingleSignOnService", "HTTP-Redirect", "Redirect/SSO"),
        endpoint("SingleSignOnService", "HTTP-POST", "POST/SSO"),
        contact("technical"),
        contact("support"),
        contact("administrative"),
    )
}

/// Writes `aggregate.xml` and the pinned certificate beside it.
fn mint(dir: &Path) {
    kryptering::initialize_backend().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["signer.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let encoded = BASE64_STANDARD.encode(certificate.der());
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    // Certificates of IdPs are about 1.5 KB of base64 with their names and extensions.
    let lines = lines.join("\n");
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<md:EntitiesDescriptor \
         xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" \
         xmlns:shibmd=\"urn:mace:shibboleth:metadata:1.0\" xmlns:mdui=\"urn:oasis:names:tc:SAML:metadata:ui\" \
         xmlns:mdrpi=\"urn:oasis:names:tc:SAML:metadata:rpi\" xmlns:mdattr=\"urn:oasis:names:tc:SAML:metadata:attribute\" \
         xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_all\" cacheDuration=\"PT1H\" \
         validUntil=\"2126-11-30T00:00:00Z\"><ds:Signature><ds:SignedInfo><ds:CanonicalizationMethod \
         Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/><ds:SignatureMethod \
         Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\"/><ds:Reference URI=\"#_all\"><ds:Transforms>\
         <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/><ds:Transform \
         Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/></ds:Transforms><ds:DigestMethod \
         Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/><ds:DigestValue></ds:DigestValue></ds:Reference></ds:SignedInfo>\
         <ds:SignatureValue></ds:SignatureValue></ds:Signature>\n"
        .to_owned();
    for number in 0..ENTITIES {
        xml.push_str(&entity(number, &lines));
        // Up to the size of real ones.
        let _ = writeln!(xml, "<!-- {} -->", "-registered ".repeat(160));
    }
    xml.push_str("</md:EntitiesDescriptor>\n");
    let mut keys = KeysManager::new();
    keys.add_key(loader::load_pem_auto(key.serialize_pem().as_bytes(), None).unwrap());
    let signed = bergshamra_dsig::sign::sign(&DsigContext::new(keys), &xml).unwrap();
    std::fs::write(dir.join("aggregate.xml"), signed).unwrap();
    std::fs::write(dir.join("pin.pem"), certificate.pem()).unwrap();
}

/// `VmRSS` or `VmHWM` of this process, bytes.
fn memory(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn main() {
    if let Some(dir) = std::env::var_os("MINT_INTO") {
        return mint(Path::new(&dir));
    }
    kryptering::initialize_backend().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let minted = Command::new(std::env::current_exe().unwrap()).env("MINT_INTO", dir.path()).status().unwrap();
    assert!(minted.success());
    let file = dir.path().join("aggregate.xml");
    let size = usize::try_from(std::fs::metadata(&file).unwrap().len()).unwrap();
    println!("file: {ENTITIES} entities, {:.1} MB", size as f64 / 1e6);

    let federation = Federation {
        name: "bench".to_owned(),
        source: MetadataSource::File(file),
        signing_keys: vec![dir.path().join("pin.pem")],
        refresh: Duration::from_secs(3600),
        validity_max: Duration::from_secs(14 * 86400),
        dropped_percent_max: 50,
        keep_all: false,
    };
    let wanted: HashSet<String> = (0..TENANTS).map(|tenant| entity_id(tenant * ENTITIES / TENANTS)).collect();
    let reader = Reader::with_idps(&federation, dir.path(), Some(wanted.clone())).unwrap();
    let id = DocumentId { federation: federation.name.clone(), entity_id: None };
    let before = memory("VmRSS");
    println!("before: {:.1} MB resident", before as f64 / 1e6);
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        // Forgets the peak so far.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let began = Instant::now();
        let (verified, since) = reader.stored(&id, NOW).unwrap().unwrap();
        let took = began.elapsed().as_secs_f64();
        assert_eq!((verified.entities, verified.idps.len()), (ENTITIES, TENANTS));
        let index = MetadataIndex::of_federations(vec!["bench".to_owned()]);
        let index = index.with(id.clone(), Held { verified: Arc::new(verified), since }, NOW);
        let (peak, stays) = (memory("VmHWM").saturating_sub(before), memory("VmRSS").saturating_sub(before));
        rounds.push([took, peak as f64 / 1e6, peak as f64 / size as f64, stays as f64 / 1e6]);
        println!("round {round}: {}", told(*rounds.last().unwrap()));
        let began = Instant::now();
        for entity_id in wanted.iter().cycle().take(1_000_000) {
            black_box(index.idp(black_box(entity_id)).unwrap());
        }
        println!("look-up: {:.0} ns", began.elapsed().as_nanos() as f64 / 1e6);
    }
    let median = |what: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[what]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("medians: {}", told([0, 1, 2, 3].map(median)));

    let index = || {
        let (verified, since) = reader.stored(&id, NOW).unwrap().unwrap();
        let index = MetadataIndex::of_federations(vec!["bench".to_owned()]);
        index.with(id.clone(), Held { verified: Arc::new(verified), since }, NOW)
    };
    let in_use = ArcSwap::from_pointee(index());
    let wanted: Vec<&String> = wanted.iter().collect();
    for turn in 1..=TURNS {
        let without = logins(&in_use, &wanted);
        let over = AtomicBool::new(false);
        let (with, refreshes) = std::thread::scope(|scope| {
            let refreshes = scope.spawn(|| {
                // As the gateway's: it gets what logins leave.
                rustix::process::setpriority_process(None, 19).unwrap();
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    in_use.store(Arc::new(index()));
                    count += 1;
                }
                count
            });
            let with = logins(&in_use, &wanted);
            over.store(true, Ordering::Relaxed);
            (with, refreshes.join().unwrap())
        });
        let spoken = |[half, most]: [Duration; 2]| format!("median {half:.2?}, p99 {most:.2?}");
        println!(
            "turn {turn}: logins without a refresh {}; during {refreshes} refreshes {}; p99 {:.2} times",
            spoken(without),
            spoken(with),
            with[1].as_secs_f64() / without[1].as_secs_f64()
        );
    }
}

/// Median and 99th percentile of [`LOGINS`] at each of [`WORKERS`], one due every [`PACE`].
fn logins(index: &ArcSwap<MetadataIndex>, wanted: &[&String]) -> [Duration; 2] {
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let login = cryptography();
                scope.spawn(move || {
                    let began = Instant::now();
                    (0..LOGINS)
                        .map(|number| {
                            let due = began + PACE * number;
                            std::thread::sleep(due.saturating_duration_since(Instant::now()));
                            black_box(index.load().idp(wanted[number as usize % wanted.len()]).unwrap());
                            login();
                            due.elapsed()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    all.sort();
    [all[all.len() / 2], all[all.len() * 99 / 100]]
}

/// What a signed Response with an encrypted assertion cannot do without.
fn cryptography() -> impl Fn() + Send {
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

fn told([took, peak, times, stays]: [f64; 4]) -> String {
    format!(
        "read, verified and indexed in {took:.2} s; peak {peak:.0} MB more, {times:.2} times the file; {stays:.1} MB more stay resident"
    )
}
