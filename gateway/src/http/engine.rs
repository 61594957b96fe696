//! The node's HTTP engine: pingora's sessions at both ends, our own way between them.
//!
//! pingora reads and writes HTTP/1.1 and HTTP/2 ([`Session`]) and speaks to the cells; what a request leads to is [`Web`]'s.
//! Its proxy framework is not used: it ends a tunnel whose cell is fast (cloudflare/pingora issue 946), and every request
//! would pay for stages of caching and filtering that have no use here.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType,
    apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream},
    protocols::http::v2::server::{H2Options, default_h2_options},
    server::ShutdownWatch,
};
use tokio::sync::watch;

use super::{
    Entrance, Session,
    service::{Ctx, Web},
};
use crate::app::App;

/// Made at the first connection, kept over reloads (it holds the connections to the cells).
#[derive(Default)]
pub struct WebEngine(OnceLock<Arc<Engine>>);

impl std::fmt::Debug for WebEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebEngine")
    }
}

/// What serves the sessions of all connections.
pub(crate) struct Engine {
    pub(super) web: Arc<Web>,
    shutdown: ShutdownWatch,
}

impl Engine {
    pub(super) fn of(app: &Arc<App>) -> Arc<Self> {
        Arc::clone(app.web.0.get_or_init(|| Arc::new(Self::new(app))))
    }

    fn new(app: &Arc<App>) -> Self {
        let (stop, shutdown) = watch::channel(false);
        let stopped = app.stop.clone();
        tokio::spawn(async move {
            stopped.cancelled().await;
            // Kept until every connection has seen it.
            let _ = stop.send(true);
            stop.closed().await;
        });
        Self { web: Arc::new(Web::new(Arc::downgrade(app))), shutdown }
    }

    pub(super) fn shutdown(&self) -> &ShutdownWatch {
        &self.shutdown
    }
}

#[async_trait]
impl HttpServerApp for Web {
    async fn process_new_http(self: &Arc<Self>, session: Session, _: &ShutdownWatch) -> Option<ReusedHttpStream> {
        self.serve(session, None).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut h2 = default_h2_options();
        h2.max_header_list_size(64 * 1024).max_concurrent_streams(100).max_send_buffer_size(64 * 1024);
        h2.max_concurrent_reset_streams(20).max_pending_accept_reset_streams(20);
        Some(h2)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

impl Web {
    /// Serves one request. The connection, when it may carry another. `entrance`: of a connection that may become a
    /// tunnel.
    pub(super) async fn serve(&self, mut session: Session, entrance: Option<&Entrance>) -> Option<ReusedHttpStream> {
        match session.read_request().await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                if matches!(error.etype(), ErrorType::InvalidHTTPHeader) {
                    super::event::refused_head("engine");
                    // The client may be gone.
                    let _ = session.respond_error(400).await;
                }
                session.shutdown().await;
                return None;
            }
        }
        let mut ctx = Ctx::new(self);
        let answered = match self.answer(&mut session, entrance, &mut ctx).await {
            Ok(()) => true,
            Err(error) => self.fail(&mut session, &error, &mut ctx).await,
        };
        ctx.ended(&session);
        if !answered {
            // What was begun cannot be ended well: the client has to see it cut.
            return None;
        }
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::new(stream.into_parts().0, None))
    }

    async fn answer(
        &self,
        session: &mut Session,
        entrance: Option<&Entrance>,
        ctx: &mut Ctx,
    ) -> Result<(), Box<Error>> {
        match self.decide(session, ctx).await? {
            Some(answer) => answer.send(session).await,
            None => self.forward(session, entrance, ctx).await,
        }
    }
}
