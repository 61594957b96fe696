//! Logins without a password: client certificates and bearer tokens.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet::telemetry::METRICS;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::{Client, PASSWORD, USER, World, within};

pub(crate) type Connected = Client<TlsStream<TcpStream>>;

/// Issues client certificates; its own certificate is `NAME.pem` of a folder.
pub(crate) struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>);

impl Authority {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(name).with_extension("pem"), certificate.pem()).unwrap();
        Self(rcgen::Issuer::new(params, key))
    }

    pub(crate) fn issue(&self, address: &str) -> Arc<CertifiedKey> {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::Rfc822Name(address.try_into().unwrap())];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Arc::new(CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider).unwrap())
    }
}

/// A mail program: shows its certificate while it is told to, and remembers its sessions.
#[derive(Clone)]
pub(crate) struct Program {
    config: Arc<ClientConfig>,
    purse: Arc<Purse>,
}

#[derive(Debug)]
struct Purse {
    certificate: Option<Arc<CertifiedKey>>,
    open: AtomicBool,
}

impl ResolvesClientCert for Purse {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certificate.clone().filter(|_| self.open.load(Ordering::SeqCst))
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}

impl Program {
    pub(crate) fn new(world: &World, certificate: Option<Arc<CertifiedKey>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&world.roots()).unwrap()).unwrap();
        let purse = Arc::new(Purse { certificate, open: AtomicBool::new(true) });
        let config = ClientConfig::builder().with_root_certificates(roots).with_client_cert_resolver(purse.clone());
        Self { config: Arc::new(config), purse }
    }

    fn shows(&self, so: bool) {
        self.purse.open.store(so, Ordering::SeqCst);
    }

    /// The greeting, and how the handshake went. An empty greeting: the door was shut.
    pub(crate) async fn connect(&self, world: &World, listener: &str) -> (Connected, String, Option<HandshakeKind>) {
        let tcp = TcpStream::connect(world.port(listener)).await.unwrap();
        let connector = TlsConnector::from(self.config.clone());
        let stream = within(connector.connect("localhost".try_into().unwrap(), tcp)).await.unwrap();
        let mut client = Client::new(stream);
        let greeting = client.line().await;
        let kind = client.stream.get_ref().get_ref().1.handshake_kind();
        (client, greeting, kind)
    }
}

pub(crate) async fn answer(client: &mut Connected, command: &str) -> String {
    client.send(&format!("t {command}\r\n")).await;
    client.until_tagged("t").await
}

fn b64(text: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(text)
}

/// A folder with what more tables name.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let master = dir.path().join("master");
    std::fs::write(&master, "master secret").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&master, std::fs::Permissions::from_mode(0o600)).unwrap();
    dir
}

fn master(dir: &Path) -> String {
    format!("[cell.main.imap.login.master]\nusername = \"m\"\npassword_file = \"{}\"\n", dir.join("master").display())
}

pub(crate) fn listener(name: &str, dir: &Path, authority: &str, more: &str) -> String {
    let file = dir.join(authority).with_extension("pem");
    format!("[listener.imap.{name}]\nbind = [\"127.0.0.1:0\"]\nclient_ca = {{ file = \"{}\"{more} }}\n", file.display())
}

#[tokio::test]
async fn external_is_offered_to_a_good_certificate_and_lets_its_holder_in() {
    let dir = folder();
    let authority = Authority::new(dir.path(), "ours");
    let world = World::start(&(master(dir.path()) + &listener("certified", dir.path(), "ours", ""))).await;
    let program = Program::new(&world, Some(authority.issue("Alice@UNIV.example")));
    let (mut client, greeting, _) = program.connect(&world, "certified").await;
    assert!(greeting.contains("AUTH=PLAIN") && greeting.contains("AUTH=EXTERNAL"), "{greeting}");
    let decided = METRICS.auth_decisions.with_label_values(&["certificate", "imap", "allow", "directory"]);
    let before = decided.get();
    assert!(answer(&mut client, "AUTHENTICATE EXTERNAL =").await.starts_with("t OK"));
    assert!(decided.get() > before);
    world.cell.next().await;

    // As herself, by any spelling; as somebody else, or nobody, never.
    let (mut client, ..) = program.connect(&world, "certified").await;
    let named = answer(&mut client, &format!("AUTHENTICATE EXTERNAL {}", b64("ALICE@univ.example"))).await;
    assert!(named.starts_with("t OK"), "{named}");
    world.cell.next().await;
    let (mut client, ..) = program.connect(&world, "certified").await;
    for other in ["bob@univ.example", "alice@elsewhere.example", "alice"] {
        let refused = answer(&mut client, &format!("AUTHENTICATE EXTERNAL {}", b64(other))).await;
        assert!(refused.starts_with("t NO [AUTHENTICATIONFAILED]"), "{other}: {refused}");
    }

    // Without one, and where none is asked for, it is neither offered nor taken; the password is.
    let modest = Program::new(&world, Some(authority.issue(USER)));
    modest.shows(false);
    for (program, listener) in [(Program::new(&world, None), "certified"), (modest, "certified"), (program, "imaps")] {
        let (mut client, greeting, _) = program.connect(&world, listener).await;
        assert!(greeting.contains("AUTH=PLAIN") && !greeting.contains("EXTERNAL"), "{greeting}");
        let refused = answer(&mut client, "AUTHENTICATE EXTERNAL =").await;
        assert!(!refused.starts_with("t OK"), "{refused}");
        assert!(answer(&mut client, &format!("LOGIN {USER} \"{PASSWORD}\"")).await.starts_with("t OK"));
        world.cell.next().await;
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_here_is_not_offered_external() {
    let dir = folder();
    let authority = Authority::new(dir.path(), "ours");
    let world = World::start(&(master(dir.path()) + &listener("certified", dir.path(), "ours", ""))).await;
    let refused = METRICS.auth_proof_refusals.with_label_values(&["certificate", "foreign_domain"]);
    let before = refused.get();
    let program = Program::new(&world, Some(authority.issue("alice@elsewhere.example")));
    let (_client, greeting, _) = program.connect(&world, "certified").await;
    assert!(greeting.contains("AUTH=PLAIN") && !greeting.contains("EXTERNAL"), "{greeting}");
    assert!(refused.get() > before);
    // A user of ours whom the directory does not know looks like a wrong password.
    let program = Program::new(&world, Some(authority.issue("nobody@univ.example")));
    let (mut client, greeting, _) = program.connect(&world, "certified").await;
    assert!(greeting.contains("AUTH=EXTERNAL"), "{greeting}");
    let refused = answer(&mut client, "AUTHENTICATE EXTERNAL =").await;
    assert!(refused.starts_with("t NO [AUTHENTICATIONFAILED]"), "{refused}");
}

#[tokio::test]
async fn a_strangers_certificate_ends_the_handshake_and_so_does_none_where_one_is_required() {
    let dir = folder();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let tables = master(dir.path())
        + &listener("certified", dir.path(), "ours", "")
        + &listener("required", dir.path(), "ours", ", required = true");
    let world = World::start(&tables).await;
    let stranger = Program::new(&world, Some(theirs.issue(USER)));
    let nobody = Program::new(&world, None);
    for (program, listener) in [(&stranger, "certified"), (&stranger, "required"), (&nobody, "required")] {
        let (_client, greeting, _) = program.connect(&world, listener).await;
        assert_eq!(greeting, "", "{listener}");
    }
    let (_client, greeting, _) = Program::new(&world, Some(ours.issue(USER))).connect(&world, "required").await;
    assert!(greeting.contains("AUTH=EXTERNAL"), "{greeting}");
}

#[tokio::test]
async fn a_session_ticket_carries_its_certificate_to_no_other_listener_and_over_no_reload() {
    let dir = folder();
    let (ours, _theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let tables = master(dir.path())
        + &listener("certified", dir.path(), "ours", "")
        + &listener("other", dir.path(), "theirs", "")
        + &listener("required", dir.path(), "ours", ", required = true");
    let world = World::start(&tables).await;

    // At home a ticket resumes, and its holder is known without showing the certificate again.
    let program = Program::new(&world, Some(ours.issue(USER)));
    program.connect(&world, "certified").await;
    program.shows(false);
    let (mut client, greeting, kind) = program.connect(&world, "certified").await;
    assert_eq!(kind, Some(HandshakeKind::Resumed));
    assert!(greeting.contains("AUTH=EXTERNAL"), "{greeting}");
    assert!(answer(&mut client, "AUTHENTICATE EXTERNAL =").await.starts_with("t OK"));
    world.cell.next().await;

    // Elsewhere it is nothing: to an authority that would not have taken it, and where none is asked for.
    for elsewhere in ["other", "imaps"] {
        let program = Program::new(&world, Some(ours.issue(USER)));
        program.connect(&world, "certified").await;
        program.shows(false);
        let (_client, greeting, kind) = program.connect(&world, elsewhere).await;
        assert_eq!(kind, Some(HandshakeKind::Full), "{elsewhere}");
        assert!(greeting.contains("AUTH=PLAIN") && !greeting.contains("EXTERNAL"), "{greeting}");
    }
    // Nor does a session without one lead around the listener that requires it.
    for without in ["imaps", "certified"] {
        let program = Program::new(&world, None);
        let (_client, greeting, _) = program.connect(&world, without).await;
        assert!(greeting.starts_with("* OK"), "{greeting}");
        let (_client, greeting, _) = program.connect(&world, "required").await;
        assert_eq!(greeting, "", "{without}");
    }

    // A reload may have changed the authority: what it said before is asked again.
    let program = Program::new(&world, Some(ours.issue(USER)));
    program.connect(&world, "certified").await;
    program.shows(false);
    world.app.reload().await.unwrap();
    let (_client, greeting, kind) = program.connect(&world, "certified").await;
    assert_eq!(kind, Some(HandshakeKind::Full));
    assert!(!greeting.contains("EXTERNAL"), "{greeting}");
}

#[tokio::test]
async fn who_needs_a_password_at_the_cell_is_told_to_use_it() {
    let dir = folder();
    let authority = Authority::new(dir.path(), "ours");
    // The user's cell opens to a password only, another one to a master user.
    let tables = format!(
        "[cell.second.imap]\nendpoints = [\"127.0.0.1:9\"]\nhealth.interval = \"1h\"\n{}{}",
        master(dir.path()).replace("cell.main", "cell.second"),
        listener("certified", dir.path(), "ours", "")
    );
    let world = World::start(&tables).await;
    let remarks = world.app.snapshot.load().config.remarks.clone();
    assert!(remarks.iter().any(|one| one.key == "cell.main.imap" && one.message.contains("EXTERNAL")), "{remarks:?}");
    let program = Program::new(&world, Some(authority.issue(USER)));
    let (mut client, greeting, _) = program.connect(&world, "certified").await;
    assert!(greeting.contains("AUTH=EXTERNAL"), "{greeting}");
    let refused = answer(&mut client, "AUTHENTICATE EXTERNAL =").await;
    assert!(refused.starts_with("t NO [CONTACTADMIN]") && refused.contains("password"), "{refused}");
    assert!(answer(&mut client, &format!("LOGIN {USER} \"{PASSWORD}\"")).await.starts_with("t OK"));
}

/// An issuer of tokens; its keys are `NAME.jwks` of a folder.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new(file: &Path) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(&point[1..33]), BASE64_URL_SAFE_NO_PAD.encode(&point[33..]));
        let jwks = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#);
        std::fs::write(file, jwks).unwrap();
        Self(pair)
    }

    fn token(&self, world: &World, address: &str) -> String {
        let expires = world.app.clock.now().seconds() + 300;
        let claims = format!(r#"{{"iss":"https://login.example","aud":"mail","exp":{expires},"email":"{address}"}}"#);
        let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"at+jwt","kid":"k"}"#);
        let message = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn bearer(keys: &Path) -> String {
    format!(
        "[bearer.login]\nissuer = \"https://login.example\"\naudience = \"mail\"\nkeys_file = \"{}\"\ntenants = [\"example\"]\n",
        keys.display()
    )
}

fn xoauth2(user: &str, token: &str) -> String {
    format!("AUTHENTICATE XOAUTH2 {}", b64(format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}")))
}

fn oauthbearer(header: &str, token: &str) -> String {
    format!("AUTHENTICATE OAUTHBEARER {}", b64(format!("{header}\u{1}auth=Bearer {token}\u{1}\u{1}")))
}

#[tokio::test]
async fn a_token_lets_its_user_in_by_either_mechanism_and_nobody_else() {
    let dir = folder();
    let keys = dir.path().join("login.jwks");
    let issuer = Issuer::new(&keys);
    let world = World::start(&(master(dir.path()) + &bearer(&keys))).await;
    let good = issuer.token(&world, "Alice@UNIV.example");
    for command in [
        xoauth2(USER, &good),
        xoauth2("ALICE@univ.example", &good),
        oauthbearer("n,a=alice@univ.example,", &good),
        oauthbearer("n,,", &good),
    ] {
        let mut client = world.imaps().await;
        let greeting = client.line().await;
        assert!(greeting.contains("AUTH=XOAUTH2 AUTH=OAUTHBEARER") && !greeting.contains("EXTERNAL"), "{greeting}");
        let said = answer(&mut client, &command).await;
        assert!(said.starts_with("t OK"), "{said}");
        world.cell.next().await;
    }

    // A bad one is told so in JSON first, so that the program fetches another, and then refused.
    let stranger = Issuer::new(&dir.path().join("other.jwks"));
    let refused = METRICS.auth_proof_refusals.with_label_values(&["token", "signature"]);
    let before = refused.get();
    for (command, challenge) in [
        (xoauth2(USER, &stranger.token(&world, USER)), r#"{"status":"401","schemes":"bearer"}"#),
        (oauthbearer("n,,", &stranger.token(&world, USER)), r#"{"status":"invalid_token"}"#),
        (xoauth2("bob@univ.example", &good), r#"{"status":"401","schemes":"bearer"}"#),
        (xoauth2(USER, "opaque"), r#"{"status":"401","schemes":"bearer"}"#),
    ] {
        let mut client = world.imaps().await;
        client.line().await;
        client.send(&format!("t {command}\r\n")).await;
        assert_eq!(client.line().await, format!("+ {}", b64(challenge)));
        client.send("AQ==\r\n").await;
        assert!(client.until_tagged("t").await.starts_with("t NO [AUTHENTICATIONFAILED]"));
        // The connection goes on, and the password is not the worse for it.
        assert!(answer(&mut client, &format!("LOGIN {USER} \"{PASSWORD}\"")).await.starts_with("t OK"));
        world.cell.next().await;
    }
    assert_eq!(refused.get(), before + 2);
}

#[tokio::test]
async fn a_reload_reads_the_keys_again_and_a_broken_key_set_changes_nothing() {
    let dir = folder();
    let keys = dir.path().join("login.jwks");
    let old = Issuer::new(&keys);
    let world = World::start(&(master(dir.path()) + &bearer(&keys))).await;
    let works = async |issuer: &Issuer| {
        let mut client = world.imaps().await;
        client.line().await;
        client.send(&format!("t {}\r\n", xoauth2(USER, &issuer.token(&world, USER)))).await;
        let said = client.line().await;
        let works = said.starts_with("t OK");
        assert!(works || said.starts_with("+ "), "{said}");
        if works {
            world.cell.next().await;
        }
        works
    };
    assert!(works(&old).await);
    let new = Issuer::new(&keys);
    assert!(works(&old).await && !works(&new).await, "read at a reload, and not before");
    world.app.reload().await.unwrap();
    assert!(!works(&old).await && works(&new).await);
    std::fs::write(&keys, r#"{"keys":[]}"#).unwrap();
    let refused = world.app.reload().await.unwrap_err();
    assert!(refused.0.contains("bearer.login.keys_file") && refused.0.contains("holds no key"), "{refused}");
    assert!(works(&new).await);
}
