//! Zimbra cells entered by auth token: the password stays here.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    mail::until_up,
    proofs::{Authority, Program, answer, listener},
    world::{PASSWORD, USER, World},
};

const KEY: &str = "6b7ead4bd425836e8cf0079cd6c1a05acc127acd07c8ee4b61023e19250e929c";
const OTHER_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What the SOAP side does with a question.
#[derive(Clone, Copy)]
enum Mode {
    Answer,
    Hang,
    /// This status and body.
    Say(u16, &'static str),
    /// More than anybody reads.
    Flood,
}

/// A Zimbra as far as logins go: SOAP over TLS that checks PreAuth, and IMAP, POP3 and ManageSieve that take its tokens.
struct Zimbra {
    dir: TempDir,
    soap: SocketAddr,
    imap: SocketAddr,
    pop3: SocketAddr,
    sieve: SocketAddr,
    state: Arc<State>,
}

struct State {
    mode: Mutex<Mode>,
    /// Lets questions through.
    gate: Semaphore,
    questions: AtomicUsize,
    /// PreAuths that did not hold: each counts towards a lockout.
    failed: AtomicUsize,
    tokens: Mutex<HashMap<String, String>>,
    /// Tokens it did not take.
    refused: AtomicUsize,
    takes_tokens: AtomicBool,
    /// All that was said to it.
    heard: Mutex<String>,
}

impl Zimbra {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["mbx.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(dir.path().join("soap.crt"), cert.pem()).unwrap();
        let certs = vec![CertificateDer::from_pem_slice(cert.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Answer),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            questions: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            tokens: Mutex::default(),
            refused: AtomicUsize::new(0),
            takes_tokens: true.into(),
            heard: Mutex::default(),
        });
        let (of_soap, of_imap, of_pop3, of_sieve) = (state.clone(), state.clone(), state.clone(), state.clone());
        let soap = serve(move |tcp| {
            let (acceptor, state) = (acceptor.clone(), of_soap.clone());
            async move { soap(acceptor.accept(tcp).await.ok()?, state).await }
        })
        .await;
        let imap = serve(move |tcp| imap(BufReader::new(tcp), of_imap.clone())).await;
        let pop3 = serve(move |tcp| pop3(BufReader::new(tcp), of_pop3.clone())).await;
        let sieve = serve(move |tcp| sieve(BufReader::new(tcp), of_sieve.clone())).await;
        let zimbra = Self { dir, soap, imap, pop3, sieve, state };
        zimbra.key(KEY);
        zimbra
    }

    /// What the gateway is told to be the key.
    fn key(&self, key: &str) {
        use std::os::unix::fs::PermissionsExt;
        let file = self.path("preauth.key");
        std::fs::write(&file, key).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn config(&self, keys: &str) -> String {
        let Self { soap, imap, pop3, sieve, .. } = self;
        let token = "login.zimbra_token = {}";
        format!(
            "[cell.zm.imap]\nendpoints = [\"{imap}\"]\n{token}\n[cell.zm.pop3]\nendpoints = [\"{pop3}\"]\n{token}\n\
             [cell.zm.sieve]\nendpoints = [\"{sieve}\"]\n{token}\n\
             [cell.zm.zimbra]\nendpoints = [\"{soap}\"]\ntls = {{ ca = \"{}\", name = \"mbx.example\" }}\n{keys}\n\
             [listener.pop3.pop3s]\nbind = [\"127.0.0.1:0\"]\n[listener.sieve.sieves]\nbind = [\"127.0.0.1:0\"]\n",
            self.path("soap.crt")
        )
    }

    /// A gateway whose one user is there.
    async fn world(&self) -> World {
        let world = World::start(&self.config(&format!("key_file = \"{}\"", self.path("preauth.key")))).await;
        world.users("cell = \"zm\"").await;
        for service in ["imap", "pop3", "sieve", "zimbra"] {
            until_up(&world, service).await;
        }
        world
    }

    fn mode(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    fn questions(&self) -> usize {
        self.state.questions.load(Ordering::SeqCst)
    }

    fn failed(&self) -> usize {
        self.state.failed.load(Ordering::SeqCst)
    }

    fn refused(&self) -> usize {
        self.state.refused.load(Ordering::SeqCst)
    }

    fn revoke(&self) {
        self.state.tokens.lock().unwrap().clear();
    }

    fn never_heard_the_password(&self) {
        let heard = self.state.heard.lock().unwrap();
        assert!(heard.contains(USER));
        let encoded = STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
        for secret in [PASSWORD, &encoded, &STANDARD.encode(PASSWORD)] {
            assert!(!heard.contains(secret), "{heard}");
        }
    }
}

async fn serve<F, S>(each: F) -> SocketAddr
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = Option<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(each(tcp));
        }
    });
    address
}

async fn soap<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<State>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
        let line = head[before..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    state.questions.fetch_add(1, Ordering::SeqCst);
    state.heard.lock().unwrap().push_str(&format!("{head}{}", String::from_utf8_lossy(&body)));
    state.gate.acquire().await.ok()?.forget();
    let mode = *state.mode.lock().unwrap();
    let (status, answer) = match mode {
        Mode::Answer if head.starts_with("POST /service/soap/AuthRequest HTTP/1.1\r\n") => judge(&body, &state),
        Mode::Answer => (404, "no such service".to_owned()),
        Mode::Hang => return std::future::pending().await,
        Mode::Say(status, body) => (status, body.to_owned()),
        Mode::Flood => (200, "x".repeat(100_000)),
    };
    let answer = format!("HTTP/1.1 {status} said\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

/// Zimbra's own rule: by, expires and timestamp are in the proof, five minutes either way are allowed.
fn judge(body: &[u8], state: &State) -> (u16, String) {
    let fault = |code: &str| (500, json!({"Body": {"Fault": {"Detail": {"Error": {"Code": code}}}}}).to_string());
    let question: Value = serde_json::from_slice(body).unwrap();
    let request = &question["Body"]["AuthRequest"];
    assert_eq!(request["_jsns"], "urn:zimbraAccount");
    let (account, by) = (request["account"]["_content"].as_str().unwrap(), request["account"]["by"].as_str().unwrap());
    let (timestamp, expires) =
        (request["preauth"]["timestamp"].as_u64().unwrap(), request["preauth"]["expires"].as_u64().unwrap());
    let message = format!("{account}|{by}|{expires}|{timestamp}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, KEY.as_bytes());
    let proof: String = hmac::sign(&key, message.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let now = u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    if request["preauth"]["_content"] != proof.as_str() || now.abs_diff(timestamp) > 300_000 || expires < now {
        state.failed.fetch_add(1, Ordering::SeqCst);
        return fault("account.AUTH_FAILED");
    }
    let token = format!("0_{:032x}", state.questions.load(Ordering::SeqCst));
    state.tokens.lock().unwrap().insert(token.clone(), account.to_owned());
    let answer = json!({"authToken": [{"_content": token}], "lifetime": expires - now, "skin": [{"_content": "x"}]});
    (200, json!({"Header": {"context": {}}, "Body": {"AuthResponse": answer}, "_jsns": "urn:zimbraSoap"}).to_string())
}

impl State {
    /// authzid NUL authcid NUL token.
    fn takes(&self, message: &str) -> bool {
        self.heard.lock().unwrap().push_str(message);
        let message = String::from_utf8(STANDARD.decode(message).unwrap()).unwrap();
        let [authzid, authcid, token] = message.split('\0').collect::<Vec<_>>().try_into().unwrap();
        let good = authzid == authcid && self.tokens.lock().unwrap().get(token).is_some_and(|user| user == authcid);
        let good = good && self.takes_tokens.load(Ordering::SeqCst);
        self.refused.fetch_add(usize::from(!good), Ordering::SeqCst);
        good
    }
}

async fn imap(mut stream: BufReader<TcpStream>, state: Arc<State>) -> Option<()> {
    stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] Zimbra\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        state.heard.lock().unwrap().push_str(&line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            [tag, "AUTHENTICATE", "X-ZIMBRA", message] if state.takes(message) => {
                format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE] AUTHENTICATE completed\r\n")
            }
            [tag, "AUTHENTICATE", ..] => format!("{tag} NO AUTHENTICATE failed\r\n"),
            [tag, ..] => format!("{tag} OK done\r\n"),
            [] => return None,
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn pop3(mut stream: BufReader<TcpStream>, state: Arc<State>) -> Option<()> {
    stream.write_all(b"+OK Zimbra\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        state.heard.lock().unwrap().push_str(&line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["CAPA"] => "+OK\r\nSASL PLAIN\r\n.\r\n",
            ["AUTH", "X-ZIMBRA", message] if state.takes(message) => "+OK in\r\n",
            ["AUTH", ..] => "-ERR authentication failed\r\n",
            _ => "+OK\r\n",
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn sieve(mut stream: BufReader<TcpStream>, state: Arc<State>) -> Option<()> {
    stream.write_all(b"\"SIEVE\" \"fileinto\"\r\n\"SASL\" \"PLAIN\"\r\nOK\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        state.heard.lock().unwrap().push_str(&line);
        let words: Vec<&str> = line.split('"').map(str::trim).collect();
        let answer = match words.as_slice() {
            ["AUTHENTICATE", "X-ZIMBRA", "", message, ""] if state.takes(message) => "OK\r\n",
            ["AUTHENTICATE", ..] => "NO \"no\"\r\n",
            _ => "OK\r\n",
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// One IMAP login; the tagged answer.
async fn log_in(world: &World) -> String {
    let mut client = world.imaps().await;
    client.line().await;
    client.send(&format!("a LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    client.until_tagged("a").await
}

async fn fails(world: &World) {
    let answer = log_in(world).await;
    assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{answer}");
}

async fn works(world: &World) {
    let answer = log_in(world).await;
    assert!(answer.starts_with("a OK"), "{answer}");
}

#[tokio::test]
async fn one_token_opens_the_cell_by_every_protocol_and_the_password_stays() {
    let zimbra = Zimbra::start().await;
    let world = zimbra.world().await;
    works(&world).await;
    works(&world).await;
    let mut client = world.connect("pop3s").await;
    client.send(&format!("USER {USER}\r\nPASS {PASSWORD}\r\nNOOP\r\n")).await;
    for _ in 0..4 {
        let line = client.line().await;
        assert!(line.starts_with("+OK"), "{line}");
    }
    let mut client = world.connect("sieves").await;
    let message = STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
    client.send(&format!("AUTHENTICATE \"PLAIN\" \"{message}\"\r\n")).await;
    client.until_tagged("OK").await;
    let answer = client.line().await;
    assert!(answer.starts_with("OK"), "{answer}");
    assert_eq!((zimbra.questions(), zimbra.failed(), zimbra.refused()), (1, 0, 0));
    zimbra.never_heard_the_password();
    // Nor does a wrong one lead to a token.
    let mut client = world.imaps().await;
    client.line().await;
    client.send(&format!("a LOGIN {USER} wrong\r\n")).await;
    assert!(client.until_tagged("a").await.starts_with("a NO [AUTHENTICATIONFAILED]"));
    assert_eq!(zimbra.questions(), 1);
}

#[tokio::test]
async fn a_user_without_a_password_enters_too() {
    let zimbra = Zimbra::start().await;
    let authority = Authority::new(zimbra.dir.path(), "ours");
    let keys = format!("key_file = \"{}\"", zimbra.path("preauth.key"));
    let world = World::start(&(zimbra.config(&keys) + &listener("certified", zimbra.dir.path(), "ours", ""))).await;
    world.users("cell = \"zm\"").await;
    let program = Program::new(&world, Some(authority.issue(USER)));
    let (mut client, ..) = program.connect(&world, "certified").await;
    let answer = answer(&mut client, "AUTHENTICATE EXTERNAL =").await;
    assert!(answer.starts_with("t OK"), "{answer}");
    assert_eq!((zimbra.questions(), zimbra.refused()), (1, 0));
}

#[tokio::test]
async fn logins_of_one_user_at_once_are_one_question() {
    let zimbra = Zimbra::start().await;
    let world = Arc::new(zimbra.world().await);
    zimbra.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    let logins: Vec<_> = (0..12)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { works(&world).await })
        })
        .collect();
    world.until(|_| zimbra.questions() == 1).await;
    // The one who asked may leave: the others are not left without.
    let mut client = world.imaps().await;
    client.send(&format!("a LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    drop(client);
    zimbra.state.gate.add_permits(1000);
    for login in logins {
        login.await.unwrap();
    }
    assert_eq!((zimbra.questions(), zimbra.refused()), (1, 0));
}

#[tokio::test]
async fn a_token_that_ended_early_is_replaced_once_and_nobody_notices() {
    let zimbra = Zimbra::start().await;
    let world = zimbra.world().await;
    works(&world).await;
    zimbra.revoke();
    works(&world).await;
    assert_eq!((zimbra.questions(), zimbra.refused()), (2, 1));
    // A cell that takes none, however new, is asked once for each login and no more.
    zimbra.state.takes_tokens.store(false, Ordering::SeqCst);
    fails(&world).await;
    assert_eq!((zimbra.questions(), zimbra.refused()), (3, 3), "the kept one and a new one");
    fails(&world).await;
    assert_eq!((zimbra.questions(), zimbra.refused()), (4, 4));
    zimbra.state.takes_tokens.store(true, Ordering::SeqCst);
    works(&world).await;
    zimbra.never_heard_the_password();
}

#[tokio::test]
async fn a_wrong_key_is_try_later_and_locks_nobody_out() {
    let zimbra = Zimbra::start().await;
    zimbra.key(OTHER_KEY);
    let world = zimbra.world().await;
    for _ in 0..5 {
        fails(&world).await;
    }
    assert_eq!(zimbra.failed(), 1, "each one counts towards a lockout of the user");
    // The right one counts at once.
    zimbra.key(KEY);
    world.app.reload().await.unwrap();
    works(&world).await;
    assert_eq!(zimbra.failed(), 1);
}

#[tokio::test]
async fn a_domain_may_have_a_key_of_its_own_and_without_one_there_is_no_question() {
    let zimbra = Zimbra::start().await;
    let world = World::start(
        &zimbra.config(&format!("key_files = {{ \"elsewhere.example\" = \"{}\" }}", zimbra.path("preauth.key"))),
    )
    .await;
    world.users("cell = \"zm\"").await;
    fails(&world).await;
    assert_eq!(zimbra.questions(), 0);
    std::fs::copy(zimbra.path("preauth.key"), zimbra.path("own.key")).unwrap();
    zimbra.key(OTHER_KEY);
    let (common, own) = (zimbra.path("preauth.key"), zimbra.path("own.key"));
    world.rewrite(&zimbra.config(&format!("key_file = \"{common}\"\nkey_files = {{ \"univ.example\" = \"{own}\" }}")));
    world.app.reload().await.unwrap();
    works(&world).await;
    assert_eq!((zimbra.questions(), zimbra.failed()), (1, 0));
}

#[tokio::test]
async fn a_token_service_that_talks_nonsense_is_try_later() {
    let zimbra = Zimbra::start().await;
    let world = zimbra.world().await;
    for (status, body) in [
        (200, ""),
        (200, "<html>Zimbra</html>"),
        (200, "{\"Body\":{\"AuthResponse\":{\"lifetime\":1}}}"),
        (
            200,
            "{\"Body\":{\"AuthResponse\":{\"authToken\":[{\"_content\":\"0_a\\r\\nG9 LOGOUT\"}],\"lifetime\":9000000}}}",
        ),
        (302, ""),
        (404, "{\"Body\":{\"AuthResponse\":{\"authToken\":[{\"_content\":\"0_a\"}],\"lifetime\":9000000}}}"),
        (500, "{\"Body\":{\"Fault\":{\"Detail\":{\"Error\":{\"Code\":\"account.MAINTENANCE_MODE\"}}}}}"),
        (503, "busy"),
    ] {
        let before = zimbra.questions();
        zimbra.mode(Mode::Say(status, body));
        fails(&world).await;
        assert_eq!(zimbra.questions(), before + 1, "{status} {body}");
    }
    zimbra.mode(Mode::Flood);
    fails(&world).await;
    // None of it is held against the user or the service.
    zimbra.mode(Mode::Answer);
    works(&world).await;
    zimbra.never_heard_the_password();
}

#[tokio::test]
async fn a_token_service_that_hangs_is_try_later_in_seconds() {
    let zimbra = Zimbra::start().await;
    let world = zimbra.world().await;
    zimbra.mode(Mode::Hang);
    let began = std::time::Instant::now();
    fails(&world).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    zimbra.mode(Mode::Answer);
    works(&world).await;
}

#[tokio::test]
async fn a_token_service_with_another_certificate_is_told_nothing() {
    let zimbra = Zimbra::start().await;
    let text = zimbra.config(&format!("key_file = \"{}\"", zimbra.path("preauth.key")));
    let world = World::start(&text.replace("mbx.example", "other.example")).await;
    world.users("cell = \"zm\"").await;
    fails(&world).await;
    assert_eq!(zimbra.questions(), 0);
}
