//! A request that switches protocols (WebSocket): our own tunnel to the cell, with the engine's own sessions at both ends.
//!
//! The engine's tunnel ends right behind the 101 whenever it reads the cell's 101 before it has handled the end of the
//! request's own, empty body (cloudflare/pingora issue 946, open in 0.9.1): a fast cell or a busy node lost its user.
//! Here the request is over before the answer is read, so that no order of events can be mistaken.

use pingora::{
    Error, ErrorType, Result,
    protocols::http::{HttpTask, v1::client::HttpSession as CellSession},
    proxy::{ProxyHttp, Session},
};

use super::service::{Ctx, Web};

impl Web {
    /// Forwards an upgrade request that has no body and relays both ways until either side ends. A cell that answers
    /// otherwise than by switching is forwarded as it is.
    pub(crate) async fn tunnel(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let mut cell = self.enter(session, ctx).await?;
        let mut head = session.req_header().clone();
        head.set_version(http::Version::HTTP_11);
        self.upstream_request_filter(session, &mut head, ctx).await?;
        cell.write_request_header(Box::new(head)).await.map_err(|error| error.into_up())?;
        cell.finish_body().await.map_err(|error| error.into_up())?;

        let mut switched = false;
        loop {
            tokio::select! {
                task = cell.read_response_task() => {
                    let mut task = task.map_err(|error| error.into_up())?;
                    let is_head = matches!(task, HttpTask::Header(..));
                    if let HttpTask::Header(head, _) = &mut task {
                        self.response_filter(session, head, ctx).await?;
                    }
                    let ended = task.is_end();
                    let written = session.as_downstream_mut().response_duplex_vec(vec![task]).await;
                    if written.map_err(|error| error.into_down())? || ended {
                        return Ok(());
                    }
                    if is_head {
                        switched = cell.was_upgraded();
                        if switched != session.was_upgraded() {
                            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "the cell switched to what was not asked for").into_up());
                        }
                    }
                }
                bytes = session.as_downstream_mut().read_request_body(), if switched => {
                    let Some(bytes) = bytes.map_err(|error| error.into_down())? else { return Ok(()) };
                    // From here on the request's body is the tunnel.
                    cell.maybe_upgrade_body_writer();
                    cell.write_body(&bytes).await.map_err(|error| error.into_up())?;
                }
            }
        }
    }

    /// Connects to an endpoint of the cell, a second one when the first does not take the connection.
    async fn enter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<CellSession> {
        loop {
            let peer = self.upstream_peer(session, ctx).await?;
            match self.connector.get_http_session(&*peer).await {
                Ok((mut cell, _reused)) => {
                    cell.read_timeout = peer.options.read_timeout;
                    cell.write_timeout = peer.options.write_timeout;
                    return Ok(cell);
                }
                Err(error) => {
                    let error = self.fail_to_connect(session, &peer, ctx, error.into_up());
                    if !error.retry() {
                        return Err(error);
                    }
                }
            }
        }
    }
}
