//! A gateway in this process, between a client of the test and a cell whose every word the test can say.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use guichet::app::App;
use guichet_config::Secret;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) const USER: &str = "alice@univ.example";
pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) app: Arc<App>,
    pub(crate) cell: Cell,
}

impl World {
    /// A running gateway; `more` is appended to its file.
    pub(crate) async fn start(more: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let cell = Cell::start().await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for folder in ["tls", "secrets"] {
            std::fs::create_dir(path.join(folder)).unwrap();
        }
        write_certificate(path);
        secret(&path.join("secrets/management.token"), "0123456789abcdef0123456789abcdef");
        secret(&path.join("secrets/web.key"), "0123456789abcdef0123456789abcdef");
        write_users(path, "");
        write_config(path, cell.address, more);
        let app = App::build(&path.join("guichet.toml")).await.unwrap();
        app.start().unwrap();
        let world = Self { dir, app, cell };
        world.until(|app| app.cells.list().iter().any(|one| one.service == "imap" && one.healthy)).await;
        world
    }

    /// The node goes and another comes up with its file and state.
    pub(crate) async fn restart(self) -> Self {
        let Self { dir, app, cell } = self;
        guichet::drain::drain(&app, Duration::ZERO).await;
        let before = Arc::downgrade(&app);
        drop(app);
        // Whoever still holds it holds the state file.
        within(async {
            while before.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let app = App::build(&dir.path().join("guichet.toml")).await.unwrap();
        app.start().unwrap();
        let world = Self { dir, app, cell };
        world.until(|app| app.cells.list().iter().any(|one| one.service == "imap" && one.healthy)).await;
        world
    }

    /// Writes the file anew, for a reload.
    pub(crate) fn rewrite(&self, more: &str) {
        write_config(self.dir.path(), self.cell.address, more);
    }

    /// Writes the file of users anew, `more` appended to the one user, and reloads.
    pub(crate) async fn users(&self, more: &str) {
        write_users(self.dir.path(), more);
        self.app.reload().await.unwrap();
    }

    pub(crate) fn port(&self, listener: &str) -> SocketAddr {
        self.app.listeners.addresses(listener)[0]
    }

    pub(crate) fn roots(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("tls/main.crt")).unwrap()
    }

    /// TLS to the IMAPS listener.
    pub(crate) async fn imaps(&self) -> Client<TlsStream<TcpStream>> {
        self.connect("imaps").await
    }

    /// TLS to a listener.
    pub(crate) async fn connect(&self, listener: &str) -> Client<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.port(listener)).await.unwrap();
        Client::new(tls(tcp, &self.roots()).await.unwrap())
    }

    /// A logged-in client and the cell's end of its session.
    pub(crate) async fn session(&self) -> (Client<TlsStream<TcpStream>>, BufReader<TcpStream>) {
        let mut client = self.imaps().await;
        client.line().await;
        client.send(&format!("a1 LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
        let answer = client.until_tagged("a1").await;
        assert!(answer.starts_with("a1 OK"), "{answer}");
        (client, self.cell.next().await)
    }

    /// Waits until the node is as asked.
    pub(crate) async fn until(&self, so: impl Fn(&App) -> bool) {
        within(async {
            while !so(&self.app) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// The cell's end: sessions come out after their login, which it lets everybody do.
pub(crate) struct Cell {
    pub(crate) address: SocketAddr,
    sessions: tokio::sync::Mutex<mpsc::Receiver<BufReader<TcpStream>>>,
}

impl Cell {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Some(stream) = let_in(BufReader::new(stream)).await {
                        let _ = sender.send(stream).await;
                    }
                });
            }
        });
        Self { address, sessions: tokio::sync::Mutex::new(sessions) }
    }

    pub(crate) async fn next(&self) -> BufReader<TcpStream> {
        within(async { self.sessions.lock().await.recv().await.unwrap() }).await
    }
}

async fn let_in(mut stream: BufReader<TcpStream>) -> Option<BufReader<TcpStream>> {
    stream.write_all(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR ID IDLE] cell\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (tag, verb) = (words.next()?.to_owned(), words.next()?.to_owned());
        let answer = match verb.as_str() {
            "ID" => format!("* ID NIL\r\n{tag} OK\r\n"),
            "AUTHENTICATE" => {
                if words.nth(1).is_none() {
                    stream.write_all(b"+ \r\n").await.ok()?;
                    line.clear();
                    stream.read_line(&mut line).await.ok()?;
                }
                stream.write_all(format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE MOVE] in\r\n").as_bytes()).await.ok()?;
                return Some(stream);
            }
            "LOGOUT" => return None,
            _ => format!("{tag} BAD no\r\n"),
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// A client that reads lines.
pub(crate) struct Client<S> {
    pub(crate) stream: BufReader<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next line; empty at the end.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        within(self.stream.read_line(&mut line)).await.unwrap_or_default();
        line.trim_end().to_owned()
    }

    pub(crate) async fn until_tagged(&mut self, tag: &str) -> String {
        loop {
            let line = self.line().await;
            if line.starts_with(tag) || line.is_empty() {
                return line;
            }
        }
    }

    /// All that comes up to the end, and how it ends.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, std::io::Result<usize>) {
        let mut rest = Vec::new();
        let end = within(self.stream.read_to_end(&mut rest)).await;
        (rest, end)
    }
}

pub(crate) async fn tls(tcp: TcpStream, roots: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = rustls::RootCertStore::empty();
    store.add(CertificateDer::from_pem_slice(roots).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

/// Anything here takes milliseconds; a hang is a failure.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it happens in time")
}

/// A fresh certificate for `localhost` in place of the one before. Returns its DER.
pub(crate) fn write_certificate(dir: &Path) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join("tls/main.crt"), cert.pem()).unwrap();
    secret(&dir.join("tls/main.key"), &key.serialize_pem());
    cert.der().to_vec()
}

fn write_config(dir: &Path, cell: SocketAddr, more: &str) {
    let text = format!(
        r#"
[node]
state_dir = "state"
[public]
hostname = "localhost"
certificates = "tls"
[management]
bind = "127.0.0.1:9443"
token_file = "secrets/management.token"
[listener.imap.imaps]
bind = ["127.0.0.1:0"]
[listener.imap.imap]
bind = ["127.0.0.1:0"]
tls = "starttls"
[directory.embedded]
file = "users.toml"
[cell.main.imap]
endpoints = ["{cell}"]
health.interval = "1s"
[cell.main.web]
endpoints = ["127.0.0.1:9"]
entry.identity_headers.key_file = "secrets/web.key"
[tenant.example]
name.fr = "Exemple"
domains = ["univ.example"]
cell = "main"
{more}
"#
    );
    std::fs::write(dir.join("guichet.toml"), text).unwrap();
}

fn write_users(dir: &Path, more: &str) {
    let users = format!("[[user]]\naddress = \"{USER}\"\npassword = \"{}\"\n{more}\n", hash());
    secret(&dir.join("users.toml"), &users);
}

/// Argon2id takes its time: once for all tests.
fn hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| guichet_auth::password::hash_password(&Secret::new(PASSWORD.to_owned())).unwrap())
}

fn secret(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}
