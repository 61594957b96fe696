//! One HTTPS connection to its end: HTTP/2 goes to the engine whole, HTTP/1.1 request by request.
//!
//! Between two HTTP/1.1 requests the connection is parked here, outside the engine, where it costs little; each head
//! passes the strict gate before the engine's parser sees it.

use std::{sync::Arc, time::Duration};

use pingora::apps::ServerApp;

use super::{
    Entrance, Session,
    engine::Engine,
    stream::{Head, WebStream},
};
use crate::app::App;

/// Serves the connection until it ends or the node stops.
pub(super) async fn connection(stream: Box<WebStream>, entrance: &Entrance, app: &Arc<App>) {
    let engine = Engine::of(app);
    if stream.is_h2() {
        engine.web.process_new(stream, engine.shutdown()).await;
        return;
    }
    http1(stream, entrance, app, &engine).await;
}

async fn http1(mut stream: Box<WebStream>, entrance: &Entrance, app: &Arc<App>, engine: &Engine) {
    let mut idle = HEAD_DEADLINE;
    loop {
        let head = tokio::select! {
            biased;
            () = app.stop.cancelled() => return,
            head = stream.next_head(idle, HEAD_DEADLINE) => head,
        };
        match head {
            Head::Ready => {}
            Head::Closed => return,
            Head::Refuse { status, kind } => {
                super::event::refused_head(kind);
                stream.refuse(status).await;
                return;
            }
        }
        let mut session = Session::new_http1(stream);
        session.set_keepalive((!app.stop.is_cancelled()).then_some(KEEPALIVE.as_secs()));
        session.set_total_drain_timeout(Some(DRAIN));
        session.set_write_timeout(Some(WRITE));
        let reused = engine.web.serve(session, Some(entrance)).await;
        let Some(reused) = reused else { return };
        match reused.consume().0.into_any().downcast::<WebStream>() {
            Ok(ours) => stream = ours,
            Err(_) => return,
        }
        idle = KEEPALIVE;
    }
}

/// From the first byte of a head to its blank line; also for the first byte after the handshake.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Between two requests.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// For reading the rest of a body nobody wants.
const DRAIN: Duration = Duration::from_secs(10);
/// One write to a client that does not read.
const WRITE: Duration = Duration::from_secs(60);
