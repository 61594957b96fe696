//! Connections to ECP endpoints: kept open between questions, bounded in number, time and bytes, never led elsewhere.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use guichet_auth::saml::ecp::ANSWER_BYTES_MAX;
use guichet_config::Secret;
use http::{HeaderValue, header};
use reqwest::Client;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::app::Snapshot;

/// One client for each file of roots, and the turns at each IdP. Made anew with the configuration.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    generation: u64,
    clients: HashMap<Option<PathBuf>, Client>,
    /// By entityID, of those that a configuration names.
    turns: HashMap<String, Arc<Semaphore>>,
}

/// What an endpoint answered.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) status: u16,
    /// Cut off behind [`ANSWER_BYTES_MAX`], which makes it too long for the reader.
    pub(super) body: Vec<u8>,
}

impl Lines {
    /// The client with these roots.
    pub(super) fn client(&self, roots: &Option<PathBuf>, snapshot: &Snapshot) -> Result<Client, String> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.generation != snapshot.generation {
            *open = Open { generation: snapshot.generation, ..Open::default() };
        }
        if let Some(client) = open.clients.get(roots) {
            return Ok(client.clone());
        }
        let tls = snapshot.client_tls.of_roots(roots).ok_or_else(|| "no roots for the endpoint".to_owned())?;
        let client = client(&tls).map_err(|error| error.to_string())?;
        open.clients.insert(roots.clone(), client.clone());
        Ok(client)
    }

    /// The turns at an IdP.
    pub(super) fn turns(&self, entity_id: &str) -> Arc<Semaphore> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = open.turns.entry(entity_id.to_owned());
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }
}

fn client(tls: &rustls::ClientConfig) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("Guichet/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(AT_ONCE)
        .pool_idle_timeout(IDLE)
        .connect_timeout(CONNECT)
        .build()
}

/// Posts an envelope with a user's credentials. The caller bounds the time.
pub(super) async fn post(
    client: &Client,
    endpoint: &str,
    envelope: String,
    credentials: HeaderValue,
) -> reqwest::Result<Posted> {
    let request = client
        .post(endpoint)
        .header(header::CONTENT_TYPE, "text/xml; charset=utf-8")
        .header(header::ACCEPT, "text/xml")
        // Bindings §3.2.2.1 of the SOAP binding over HTTP.
        .header("soapaction", "http://www.oasis-open.org/committees/security")
        .header(header::AUTHORIZATION, credentials)
        .body(envelope);
    let mut response = request.send().await?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = (ANSWER_BYTES_MAX + 1).saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(Posted { status, body })
}

/// Basic credentials (RFC 7617), wiped when the request is gone; `None` for a name that has no place in them. What the HTTP
/// and TLS libraries copy into their own buffers is theirs to forget.
pub(super) fn basic(name: &str, password: &Secret<String>) -> Option<HeaderValue> {
    let password = password.expose();
    if name.contains(':') || name.is_empty() {
        return None;
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut plain = Zeroizing::new(String::with_capacity(name.len() + 1 + password.len()));
    plain.push_str(name);
    plain.push(':');
    plain.push_str(password);
    let mut field = Zeroizing::new(String::with_capacity(BASIC.len() + plain.len().div_ceil(3) * 4));
    field.push_str(BASIC);
    BASE64_STANDARD.encode_string(plain.as_bytes(), &mut field);
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(field)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

const BASIC: &str = "Basic ";

/// Questions at once to one IdP from this node: what a small IdP bears, and 300 logins a second when it answers in 100 ms.
const AT_ONCE: usize = 32;
/// Connect and TLS.
const CONNECT: Duration = Duration::from_secs(1);
/// Below what web servers keep.
const IDLE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::tls::policy::PROVIDER;

    /// Asks an endpoint that answers so, whatever it is asked; and what it read.
    async fn asked(answer: Vec<u8>) -> (reqwest::Result<Posted>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}/ecp", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"</end>") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            // The other side may have read enough before all of it is written.
            let _ = stream.write_all(&answer).await;
            String::from_utf8(seen).unwrap()
        });
        let tls = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let credentials = basic("alice", &Secret::new("right".to_owned())).unwrap();
        let posted = post(&client(&tls).unwrap(), &endpoint, "<end></end>".to_owned(), credentials).await;
        (posted, server.await.unwrap())
    }

    #[tokio::test]
    async fn an_envelope_goes_with_its_credentials_and_the_answer_comes_back() {
        let (posted, seen) = asked(b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\n<a/>".to_vec()).await;
        let posted = posted.unwrap();
        assert_eq!((posted.status, posted.body.as_slice()), (500, b"<a/>".as_slice()));
        assert!(seen.starts_with("POST /ecp HTTP/1.1\r\n"), "{seen}");
        let seen = seen.to_ascii_lowercase();
        assert!(seen.contains("\r\nauthorization: basic ywxpy2u6cmlnahq=\r\n"), "{seen}");
        assert!(seen.contains("\r\ncontent-type: text/xml; charset=utf-8\r\n"), "{seen}");
        assert!(!seen.contains("\r\ncookie:"), "{seen}");
    }

    #[tokio::test]
    async fn nobody_leads_a_password_elsewhere() {
        let elsewhere = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let there = elsewhere.local_addr().unwrap();
        for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
            let answer = format!("HTTP/1.1 {status}\r\nlocation: http://{there}/\r\ncontent-length: 0\r\n\r\n");
            let (posted, _) = asked(answer.into_bytes()).await;
            assert!((300..400).contains(&posted.unwrap().status));
        }
        assert!(elsewhere.accept().now_or_never().is_none(), "somebody came");
    }

    #[tokio::test]
    async fn no_more_is_read_than_an_answer_may_have() {
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n".to_vec();
        answer.resize(answer.len() + 4 * ANSWER_BYTES_MAX, b'x');
        let (posted, _) = asked(answer).await;
        assert_eq!(posted.unwrap().body.len(), ANSWER_BYTES_MAX + 1);
        // One that ends too early is no answer.
        assert!(asked(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<a/>".to_vec()).await.0.is_err());
        assert!(asked(b"sign in first".to_vec()).await.0.is_err());
    }

    #[test]
    fn credentials_are_written_as_rfc_7617_wants_and_never_shown() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let value = basic("alice", &secret("pàss:wörd")).unwrap();
        let told = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(BASE64_STANDARD.decode(told).unwrap(), "alice:pàss:wörd".as_bytes());
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert!(basic("al:ice", &secret("x")).is_none() && basic("", &secret("x")).is_none());
    }
}
