//! One conditional GET by HTTPS: bounded in bytes and time, no redirect followed, the source's certificate verified.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};
use reqwest::Client;

use crate::telemetry;

/// What a source said of its document, to ask for changes only.
#[derive(Clone, Debug, Default)]
pub(super) struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Fetched {
    /// What we have is what there is.
    Unchanged,
    /// The document.
    Document(Vec<u8>, Validators),
}

/// Why there is no document.
#[derive(Debug)]
pub(super) struct FetchError {
    pub(super) message: String,
    /// Nobody answered.
    pub(super) unreachable: bool,
}

impl FetchError {
    fn answer(message: String) -> Self {
        Self { message, unreachable: false }
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        // The address may hold a secret of the operator's.
        Self { message: telemetry::chain(&error.without_url()), unreachable: true }
    }
}

/// A client for one source.
pub(super) fn client(tls: &Arc<rustls::ClientConfig>) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("Guichet/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(rustls::ClientConfig::clone(tls))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .https_only(true)
        .pool_max_idle_per_host(1)
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .timeout(WHOLE)
        .build()
}

/// Fetches `url`, of at most `bytes_max` bytes.
pub(super) async fn get(
    client: &Client,
    url: &str,
    bytes_max: usize,
    known: &Validators,
) -> Result<Fetched, FetchError> {
    let mut request = client.get(url).header(header::ACCEPT, "application/samlmetadata+xml, application/xml, text/xml");
    for (name, value) in [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.last_modified)] {
        if let Some(value) = value {
            request = request.header(name, value.clone());
        }
    }
    let mut response = request.send().await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(Fetched::Unchanged),
        status => return Err(FetchError::answer(format!("the source answered {status}"))),
    }
    let field = |name: HeaderName| response.headers().get(name).cloned();
    let validators = Validators { etag: field(header::ETAG), last_modified: field(header::LAST_MODIFIED) };
    let too_long = || FetchError::answer(format!("the source has more than {bytes_max} bytes"));
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_long());
    }
    let mut document = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(chunk) = response.chunk().await? {
        if document.len() + chunk.len() > bytes_max {
            return Err(too_long());
        }
        document.extend_from_slice(&chunk);
    }
    Ok(Fetched::Document(document, validators))
}

const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces.
const SILENCE: Duration = Duration::from_secs(20);
/// 100 MB at 5 Mbit/s.
const WHOLE: Duration = Duration::from_secs(180);
