//! A gateway with two tenants in front of one recording cell, all on loopback.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::StreamExt;
use guichet::{app::App, listener::Peer};
use guichet_auth::{Clock, Identity, ManualClock, Method, WallTime, session::Session};
use guichet_config::Category;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::BoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// What a test stands on.
pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) gateway: SocketAddr,
    pub(crate) cell: Arc<Cell>,
    pub(crate) client: reqwest::Client,
    roots: RootCertStore,
    _dir: tempfile::TempDir,
}

/// A request as the cell saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
}

/// The cell: records heads, echoes bodies.
#[derive(Default)]
pub(crate) struct Cell {
    pub(crate) seen: Mutex<Vec<Seen>>,
    /// Lets `/stream` send its second piece.
    pub(crate) go_on: Notify,
    /// Closes its port.
    pub(crate) stop: Notify,
    pub(crate) refuses_tokens: AtomicBool,
    /// WebSockets open now.
    pub(crate) tunnels: AtomicUsize,
    /// Where connections came from.
    pub(crate) peers: Mutex<Vec<SocketAddr>>,
}

impl Cell {
    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().expect("the cell saw a request")
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

async fn answer(request: Request<Incoming>, cell: Arc<Cell>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let seen = Seen { method: head.method.to_string(), path: path.clone(), headers: head.headers.clone() };
    cell.seen.lock().unwrap().push(seen);
    let response = Response::builder().header("server", "Cell/1").header("x-powered-by", "Cell");
    let response = match path.as_str() {
        "/stream" => {
            let second = async move {
                cell.go_on.notified().await;
                Ok(Frame::data(Bytes::from_static(b"two\n")))
            };
            let first = futures::stream::once(async { Ok(Frame::data(Bytes::from_static(b"one\n"))) });
            response.body(BodyExt::boxed(StreamBody::new(first.chain(futures::stream::once(second)))))
        }
        "/file" => {
            let read = body.collect().await.is_ok();
            response.body(full(if read { "stored" } else { "broken" }))
        }
        // Each piece goes back as it comes.
        "/echo" | "/Autodiscover/Autodiscover.xml" => {
            let pieces = BodyStream::new(body).filter_map(|piece| async { piece.ok() }).map(Ok);
            response.body(BodyExt::boxed(StreamBody::new(pieces)))
        }
        "/service/soap/AuthRequest" if cell.refuses_tokens.load(Ordering::SeqCst) => {
            let fault = serde_json::json!({"Detail": {"Error": {"Code": "account.AUTH_FAILED"}}});
            response.status(500).body(full(serde_json::json!({"Body": {"Fault": fault}}).to_string()))
        }
        "/service/soap/AuthRequest" => {
            // Each token is another one.
            let token = format!("0_{}", cell.count());
            let given = serde_json::json!({"authToken": [{"_content": token}], "lifetime": 3_600_000});
            response.body(full(serde_json::json!({"Body": {"AuthResponse": given}}).to_string()))
        }
        "/logout-there" => response
            .header("set-cookie", "ZM_AUTH_TOKEN=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
            .header("set-cookie", "CELL=1; Path=/")
            .body(full("out")),
        "/other-login" => response.header("set-cookie", "ZM_AUTH_TOKEN=0_other; Path=/").body(full("in")),
        "/denied" => response.status(401).body(full("denied")),
        "/cookies" => response
            .header("set-cookie", "__Host-guichet=forged; Path=/")
            .header("set-cookie", "CELL=1; Path=/")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .body(full("cookies")),
        "/ws" | "/ws-late" => {
            if path == "/ws-late" {
                cell.go_on.notified().await;
            }
            let request = Request::from_parts(head, body);
            let key = request.headers().get("sec-websocket-key").cloned();
            tokio::spawn(async move {
                let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
                let mut upgraded = TokioIo::new(upgraded);
                cell.tunnels.fetch_add(1, Ordering::SeqCst);
                let mut piece = [0; 64];
                while let Ok(read @ 1..) = upgraded.read(&mut piece).await {
                    if upgraded.write_all(&piece[..read]).await.is_err() {
                        break;
                    }
                }
                cell.tunnels.fetch_sub(1, Ordering::SeqCst);
            });
            let mut response = response.status(101).header("connection", "upgrade").header("upgrade", "websocket");
            if let Some(key) = key {
                response = response.header("sec-websocket-accept", key);
            }
            response.body(full(""))
        }
        _ => response.body(full("cell")),
    };
    Ok(response.unwrap())
}

async fn start_cell(tls: Option<Arc<ServerConfig>>) -> (SocketAddr, Arc<Cell>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cell = Arc::new(Cell::default());
    let shared = Arc::clone(&cell);
    tokio::spawn(async move {
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = shared.stop.notified() => return,
            };
            shared.peers.lock().unwrap().push(peer);
            let cell = Arc::clone(&shared);
            let service = service_fn(move |request| answer(request, Arc::clone(&cell)));
            let http = hyper::server::conn::http1::Builder::new();
            match tls.clone() {
                None => drop(tokio::spawn(http.serve_connection(TokioIo::new(stream), service).with_upgrades())),
                Some(tls) => drop(tokio::spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                })),
            }
        }
    });
    (address, cell)
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Names in the gateway's certificate.
const NAMES: [&str; 4] =
    ["localhost", "autoconfig.univ.example", "autodiscover.univ.example", "autoconfig.other.example"];

const SIGNED: &str = "entry.identity_headers.key_file = \"cell.key\"";

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

impl World {
    /// In front of a cell without TLS.
    pub(crate) async fn new() -> Self {
        Self::build(None, None, "").await
    }

    /// In front of a Zimbra that gives its own tokens.
    pub(crate) async fn zimbra() -> Self {
        let (address, cell) = start_cell(None).await;
        let more = format!("[cell.main.zimbra]\nendpoints = [\"{address}\"]\nkey_file = \"preauth.key\"");
        Self::build_before(None, &[address], cell, "entry.zimbra_preauth = {}", &more).await
    }

    /// In front of a cell that is reached from this address of ours.
    pub(crate) async fn from(source: &str) -> Self {
        let (address, cell) = start_cell(None).await;
        let more = format!("[cell.main]\nsource_addresses = [\"{source}\"]");
        Self::build_before(None, &[address], cell, SIGNED, &more).await
    }

    /// In front of a cell that speaks TLS as `cell.test`; the gateway expects it under `expected`.
    pub(crate) async fn with(expected: &str) -> Self {
        Self::build(Some(expected), None, "").await
    }

    /// In front of a cell that has `other` as its second endpoint.
    pub(crate) async fn beside(other: SocketAddr) -> Self {
        Self::build(None, Some(other), "").await
    }

    /// In front of a cell at `address`, and of no other.
    pub(crate) async fn before(address: SocketAddr) -> Self {
        Self::build_before(None, &[address], Arc::default(), SIGNED, "").await
    }

    /// With more tables in its file.
    pub(crate) async fn with_tables(tables: &str) -> Self {
        Self::build(None, None, tables).await
    }

    async fn build(expected: Option<&str>, other: Option<SocketAddr>, tables: &str) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut tls = None;
        let ca_and_name = expected.map(|expected| {
            let made = rcgen::generate_simple_self_signed(["cell.test".to_owned()]).unwrap();
            let key = made.signing_key.serialize_der().try_into().unwrap();
            let config = ServerConfig::builder().with_no_client_auth();
            tls = Some(Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap()));
            (made.cert.pem(), expected)
        });
        let (address, cell) = start_cell(tls).await;
        let endpoints: Vec<_> = std::iter::once(address).chain(other).collect();
        Self::build_before(ca_and_name, &endpoints, cell, SIGNED, tables).await
    }

    /// `entry`: how the cell is entered; `more` is said of it.
    async fn build_before(
        ca_and_name: Option<(String, &str)>,
        endpoints: &[SocketAddr],
        cell: Arc<Cell>,
        entry: &str,
        more: &str,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let mut cell_tls = "dangerous_plaintext = true".to_owned();
        if let Some((ca, name)) = ca_and_name {
            write(dir.path(), "cell.pem", ca);
            cell_tls = format!("tls = {{ ca = \"cell.pem\", name = \"{name}\" }}");
        }
        let endpoints: Vec<_> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
        let endpoints = endpoints.join(", ");
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned)).unwrap();
        write(dir.path(), "tls/localhost.crt", made.cert.pem());
        write(dir.path(), "tls/localhost.key", made.signing_key.serialize_pem());
        write(dir.path(), "management.token", TOKEN);
        write(dir.path(), "saml.crt", &saml_pair().0);
        write(dir.path(), "saml.key", &saml_pair().1);
        write(dir.path(), "cell.key", [b'k'; 32]);
        write(dir.path(), "preauth.key", [b'a'; 64]);
        if more.contains("[saml]") {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
            let own = rcgen::CertificateParams::new(vec!["sp".to_owned()]).unwrap().self_signed(&key).unwrap();
            write(dir.path(), "saml.crt", own.pem());
            write(dir.path(), "saml.key", key.serialize_pem());
        }
        let hash =
            guichet_auth::password::hash_password(&guichet_config::Secret::new("correct horse".to_owned())).unwrap();
        write(
            dir.path(),
            "users.toml",
            format!(
                "[[user]]\naddress = \"alice@univ.example\"\npassword = \"{hash}\"\n\n\
                 [[user]]\naddress = \"locked@univ.example\"\npassword = \"{hash}\"\nstatus = \"locked\"\n"
            ),
        );
        write(
            dir.path(),
            "guichet.toml",
            format!(
                r#"
[node]
name = "test"
state_dir = "state"
[public]
hostname = "localhost"
certificates = "tls"
[management]
bind = "127.0.0.1:0"
token_file = "management.token"
[listener.web.https]
bind = ["127.0.0.1:0"]
[directory.embedded]
file = "users.toml"
[limits]
body_bytes_max = 1000000
login_failures_per_user = 3
[cell.main.web]
endpoints = [{endpoints}]
{entry}
{cell_tls}
{more}
[tenant.univ]
name = {{ fr = "Université <b>", en = "University <b>" }}
domains = ["univ.example"]
cell = "main"
[tenant.labo]
name.fr = "Laboratoire"
domains = ["labo.example"]
cell = "main"
"#
            ),
        );
        let clock = Arc::new(ManualClock::new(WallTime(SystemNow::now())));
        let app = App::build_with(&dir.path().join("guichet.toml"), clock.clone()).await.unwrap();
        let gateway = serve(&app).await;

        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client =
            reqwest::Client::builder().tls_certs_only([reqwest::Certificate::from_der(made.cert.der()).unwrap()]);
        let client = NAMES
            .iter()
            .fold(client, |client, name| client.resolve(name, gateway))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { app, clock, gateway, cell, client, roots, _dir: dir }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.gateway.port())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    /// A URL of another name of the gateway's.
    pub(crate) fn url_of(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.gateway.port())
    }

    /// A `Cookie` field with a session of alice's.
    pub(crate) fn session(&self) -> String {
        let snapshot = self.app.snapshot.load();
        let session = Session::open(&alice(), &snapshot.config.session, self.clock.now());
        format!("__Host-guichet={}", snapshot.sealer.seal_session(&session))
    }

    /// A TLS connection that speaks what the test writes.
    pub(crate) async fn raw(&self) -> TlsStream<TcpStream> {
        let mut config = ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.gateway).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Sends bytes on a fresh connection and reads to its end.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.raw().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A close without close_notify still ends the answer.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Reads until `end` has come.
pub(crate) async fn read_until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    while !String::from_utf8_lossy(&text).contains(end) {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "the connection ended before {end:?}: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(text).unwrap()
}

async fn serve(app: &Arc<App>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Arc::clone(app);
    tokio::spawn(async move {
        loop {
            let (stream, client) = listener.accept().await.unwrap();
            let app = Arc::clone(&app);
            tokio::spawn(async move {
                let local = stream.local_addr().unwrap();
                let acceptor = TlsAcceptor::from(app.snapshot.load().tls.web.clone());
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let peer = Peer { client, local, conn: app.next_connection(), listener: "https".parse().unwrap() };
                guichet::http::serve(stream, peer, app).await;
            });
        }
    });
    address
}

pub(crate) fn alice() -> Identity {
    Identity {
        address: "alice@univ.example".parse().unwrap(),
        tenant: "univ".parse().unwrap(),
        category: Category::Student,
        cell: None,
        method: Method::Password,
    }
}

/// A certificate and its RSA key, made once: that takes its time.
fn saml_pair() -> &'static (String, String) {
    static PAIR: std::sync::OnceLock<(String, String)> = std::sync::OnceLock::new();
    PAIR.get_or_init(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    })
}

struct SystemNow;

impl SystemNow {
    fn now() -> u64 {
        guichet_auth::SystemClock.now().0
    }
}
