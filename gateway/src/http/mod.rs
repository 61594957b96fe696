//! The web way: pingora as the engine behind our own accept loop and TLS.
//!
//! [`serve`] takes an accepted TLS connection; [`stream`] makes it pingora's, [`serve`](mod@serve) parks it between
//! requests and guards its heads, [`service`] decides each request: answered here ([`login`]) or by the user's cell.

mod cookie;
mod event;
mod form;
mod header;
mod identity;
mod lang;
mod login;
mod page;
mod redirect;
mod serve;
mod service;
mod setup;
mod stream;
mod target;
mod token;
mod upgrade;

use std::sync::{Arc, OnceLock};

use pingora::{
    apps::HttpServerOptions,
    protocols::http::v2::server::default_h2_options,
    proxy::{HttpProxy, http_proxy},
    server::{ShutdownWatch, configuration::ServerConf},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::server::TlsStream;

use crate::{app::App, listener::Peer};

/// Serves one HTTPS connection (HTTP/1.1 or HTTP/2 by ALPN) to its end.
pub async fn serve(stream: TlsStream<TcpStream>, peer: Peer, app: Arc<App>) {
    tokio::select! {
        () = serve::connection(stream::WebStream::new(stream, &peer), &app) => {}
        () = app.cut.cancelled() => {}
    }
}

/// Serves one plain connection that only redirects to HTTPS.
pub async fn serve_redirect(stream: TcpStream, peer: Peer, app: Arc<App>) {
    redirect::connection(stream, &peer, &app).await;
}

/// The node's HTTP engine: made at the first connection, kept over reloads (it holds the connections to the cells).
#[derive(Default)]
pub struct WebEngine(OnceLock<Arc<Engine>>);

impl std::fmt::Debug for WebEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebEngine")
    }
}

struct Engine {
    proxy: Arc<HttpProxy<service::Web>>,
    shutdown: ShutdownWatch,
}

impl Engine {
    fn of(app: &Arc<App>) -> Arc<Self> {
        Arc::clone(app.web.0.get_or_init(|| Arc::new(Self::new(app))))
    }

    fn new(app: &Arc<App>) -> Self {
        let conf = ServerConf {
            // First try and one more.
            max_retries: 2,
            upstream_keepalive_pool_size: 4096,
            ..ServerConf::default()
        };
        let mut proxy = http_proxy(&Arc::new(conf), service::Web::new(Arc::downgrade(app)));
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(std::time::Duration::from_secs(180));
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_header_list_size(64 * 1024).max_concurrent_streams(100).max_send_buffer_size(64 * 1024);
        h2.max_concurrent_reset_streams(20).max_pending_accept_reset_streams(20);
        proxy.h2_options = Some(h2);

        let (stop, shutdown) = watch::channel(false);
        let stopped = app.stop.clone();
        tokio::spawn(async move {
            stopped.cancelled().await;
            // Kept until every connection has seen it.
            let _ = stop.send(true);
            stop.closed().await;
        });
        Self { proxy: Arc::new(proxy), shutdown }
    }

    fn shutdown(&self) -> ShutdownWatch {
        self.shutdown.clone()
    }
}

/// RFC 6797: browsers come back by HTTPS for a year.
const HSTS: &str = "max-age=31536000";

/// Random bytes.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
