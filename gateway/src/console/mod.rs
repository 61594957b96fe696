//! The management listener: `/metrics`, `/healthz`, `/readyz` and the API that `guichet ctl` speaks.
//!
//! Its own port, on loopback or behind TLS; never the public one. The API wants the bearer token of `[management]`;
//! every change it makes leaves one audit line.

mod api;
mod drains;
mod duration;
mod placements;
mod relays;
mod users;
mod waves;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};

use crate::app::App;

pub(crate) use duration::parse as parse_duration;

/// Binds and serves until the node stops.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(app: Arc<App>) -> anyhow::Result<()> {
    let bind = app.snapshot.load().config.management.bind;
    let listener = TcpListener::bind(bind).await.with_context(|| format!("management.bind: {bind}"))?;
    serve_on(listener, app).await;
    Ok(())
}

/// Serves on a port that is open already.
pub async fn serve_on(listener: TcpListener, app: Arc<App>) {
    let router = api::router(Arc::clone(&app));
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            // The console answers until the drain is over: `/readyz` says 503 meanwhile.
            () = app.cut.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: a moment may free some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
        let tls = app.snapshot.load().tls.management.clone();
        let (router, app) = (router.clone(), Arc::clone(&app));
        tokio::spawn(async move {
            let _seat = seat;
            let talk = async {
                match tls {
                    None => talk(stream, router).await,
                    Some(config) => {
                        let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
                        if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await {
                            talk(stream, router).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = app.cut.cancelled() => {}
                () = talk => {}
            }
        });
    }
}

async fn talk<S>(stream: S, router: axum::Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "A management connection ended.");
    }
}

/// Monitoring and a few operators.
const CONNECTIONS_MAX: usize = 128;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(10);
