//! The web way: pingora as the engine behind our own accept loop and TLS.
//!
//! [`serve`] takes an accepted TLS connection; [`stream`] makes it pingora's, [`serve`](mod@serve) parks it between
//! requests and guards its heads, [`engine`] takes each request through [`service`], which decides it: answered here
//! ([`login`]) or by the user's cell ([`forward`]), in the end as a [`tunnel`].

mod cookie;
mod engine;
mod event;
mod form;
mod forward;
mod header;
mod identity;
mod lang;
mod login;
mod page;
mod pool;
mod redirect;
mod serve;
mod service;
mod setup;
mod step_up;
mod stream;
mod target;
mod token;
mod tunnel;

use std::sync::Arc;

use pingora::protocols::http::ServerSession as Session;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub use engine::WebEngine;
pub(crate) use login::Tagged;

use crate::{app::App, listener::Peer, tls::policy::Negotiated};

/// By which connection a request came.
struct Entrance {
    peer: Peer,
    tls: Negotiated,
}

/// Serves one HTTPS connection (HTTP/1.1 or HTTP/2 by ALPN) to its end.
pub async fn serve(stream: TlsStream<TcpStream>, peer: Peer, app: Arc<App>) {
    let entrance = Entrance { tls: Negotiated::of(stream.get_ref().1), peer };
    tokio::select! {
        () = serve::connection(Box::new(stream::WebStream::new(stream, &entrance.peer)), &entrance, &app) => {}
        () = app.cut.cancelled() => {}
    }
}

/// Serves one plain connection that only redirects to HTTPS.
pub async fn serve_redirect(stream: TcpStream, peer: Peer, app: Arc<App>) {
    redirect::connection(stream, &peer, &app).await;
}

/// RFC 6797: browsers come back by HTTPS for a year.
const HSTS: &str = "max-age=31536000";

/// Random bytes.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
