//! A request's way to the user's cell and its answer's way back, streaming in both directions at once.
//!
//! ```text
//! connect (another endpoint when one takes no connection) ─▶ head ─▶ ┌ body up, as it comes   ┐ ─▶ kept for the next
//!        ▲                                                           └ answer down, as it comes┘
//!        └── once more, when nothing was answered and the request may be sent twice
//! ```
//! A request that switches protocols (WebSocket) becomes a [tunnel](super::tunnel) when the cell agrees; from there on its
//! body is the tunnel, and either end closes it, or an operator.

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, StatusCode, Version, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Stream,
        http::{HttpTask, v1::client::HttpSession as CellSession},
    },
};

use super::{
    Entrance, Session, header as fields, login,
    page::wants_html,
    pool::Key,
    service::{Ctx, Web, client_of, lang_of},
};
use crate::mail::Tunnel;

/// What is left to do for one exchange.
pub(super) struct Exchange<'a> {
    entrance: Option<&'a Entrance>,
    /// The client asks to switch protocols.
    upgrade: bool,
    /// Both ends have switched.
    switched: bool,
    /// Entered, and not begun yet.
    pub(super) tunnel: Option<Tunnel>,
    /// Of a tunnel, bytes.
    pub(super) to_cell: u64,
    pub(super) to_client: u64,
    /// Which end closed a tunnel.
    pub(super) first_end: &'static str,
    /// The request is with the cell, whole.
    sent: bool,
    /// The cell takes no more of the request: its answer may still come.
    lost: Option<Box<Error>>,
}

impl Web {
    /// Forwards a routed request and answers it by what the cell says.
    pub(super) async fn forward(
        &self,
        session: &mut Session,
        entrance: Option<&Entrance>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if !session.is_body_done() {
            session.enable_retry_buffering();
        }
        loop {
            let (key, stream, reused) = self.enter(ctx).await?;
            let mut cell = CellSession::new(stream);
            cell.read_timeout = Ctx::read_timeout(session);
            cell.write_timeout = Some(CELL_WRITE);
            match self.exchange(session, &mut cell, entrance, ctx).await {
                Ok(reusable) => {
                    if reusable {
                        self.pool.release(key, cell).await;
                    }
                    return Ok(());
                }
                Err(error) => {
                    if !self.again(session, ctx, &error, reused) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// A connection to an endpoint of the cell: a kept one, or a new one, to a second endpoint when the first takes none.
    async fn enter(&self, ctx: &mut Ctx) -> Result<(Key, Stream, bool)> {
        loop {
            let key = self.endpoint(ctx).await?;
            if let Some(kept) = self.pool.take(&key) {
                return Ok((key, kept, true));
            }
            match self.connect(ctx).await {
                Ok(stream) => return Ok((key, stream, false)),
                Err(error) => {
                    ctx.failed(&error);
                    // Nothing was sent: another endpoint may take it, whatever the method.
                    if ctx.tries >= TRIES_MAX {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// One request and its answer. Whether the cell's connection may carry another.
    async fn exchange(
        &self,
        session: &mut Session,
        cell: &mut CellSession,
        entrance: Option<&Entrance>,
        ctx: &mut Ctx,
    ) -> Result<bool> {
        let upgrade = session.is_upgrade_req() && session.is_body_empty();
        let head = self.request_head(session, ctx, upgrade)?;
        cell.write_request_header(Box::new(head)).await.map_err(|error| error.into_up())?;
        let mut exchange = Exchange::new(entrance, upgrade);
        if let Some(begun) = session.get_retry_buffer() {
            exchange.send(cell, &begun).await?;
        }
        if session.is_body_done() {
            exchange.finish(cell).await?;
        }
        match self.carry(session, cell, ctx, &mut exchange).await? {
            Some(reusable) => Ok(reusable),
            // Boxed: no other request should hold room for it.
            None => Box::pin(self.tunnel(session, cell, ctx, &mut exchange)).await,
        }
    }

    /// Carries both directions to the end of the exchange, or to its switch to a tunnel. Whether the cell's connection may
    /// carry another; nothing: a tunnel begins.
    pub(super) async fn carry(
        &self,
        session: &mut Session,
        cell: &mut CellSession,
        ctx: &mut Ctx,
        exchange: &mut Exchange<'_>,
    ) -> Result<Option<bool>> {
        loop {
            tokio::select! {
                task = cell.read_response_task() => {
                    let task = task.map_err(|error| exchange.lost.take().unwrap_or(error).into_up())?;
                    if self.deliver(session, cell, ctx, exchange, task).await? {
                        let whole = exchange.sent && exchange.lost.is_none();
                        if !whole {
                            // What is left of the request has nobody to read it.
                            session.set_keepalive(None);
                        }
                        return Ok(Some(whole && !exchange.switched));
                    }
                    if exchange.tunnel.is_some() {
                        return Ok(None);
                    }
                }
                piece = next_piece(session, exchange), if exchange.listens() => {
                    match piece.map_err(|error| error.into_down())? {
                        Some(piece) => {
                            if !exchange.switched {
                                ctx.count_body(piece.len())?;
                            }
                            exchange.send(cell, &piece).await?;
                            if !exchange.switched && session.is_body_done() {
                                exchange.finish(cell).await?;
                            }
                        }
                        None if exchange.switched => {
                            exchange.first_end = "client_closed";
                            return Ok(Some(false));
                        }
                        None => exchange.finish(cell).await?,
                    }
                }
            }
        }
    }

    /// Passes a piece of the answer on, and what came with it. Whether it was the last.
    async fn deliver(
        &self,
        session: &mut Session,
        cell: &mut CellSession,
        ctx: &mut Ctx,
        exchange: &mut Exchange<'_>,
        task: HttpTask,
    ) -> Result<bool> {
        let mut tasks = Vec::with_capacity(TASKS_MAX);
        tasks.push(task);
        if let Some(HttpTask::Header(head, ended)) = tasks.first_mut() {
            let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
            if switches && !(exchange.upgrade && cell.was_upgraded()) {
                return Err(unasked_switch());
            }
            ctx.hear(head).await;
            answer_head(session, head, *ended, ctx)?;
            // A small answer leaves whole, in one write.
            while !switches && tasks.len() < TASKS_MAX && !tasks.last().is_some_and(HttpTask::is_end) {
                // Unconstrained, because a spent budget would look like an empty buffer.
                match tokio::task::unconstrained(cell.read_response_task()).now_or_never() {
                    Some(Ok(HttpTask::Header(mut head, ended))) => {
                        // The final answer behind an interim one.
                        if head.status == StatusCode::SWITCHING_PROTOCOLS {
                            return Err(unasked_switch());
                        }
                        ctx.hear(&head).await;
                        answer_head(session, &mut head, ended, ctx)?;
                        tasks.push(HttpTask::Header(head, ended));
                    }
                    Some(Ok(task)) => tasks.push(task),
                    Some(Err(error)) => tasks.push(HttpTask::Failed(error.into_up())),
                    None => break,
                }
            }
            exchange.switched = switches;
            if switches {
                // Owned: a session cannot be shared across a wait.
                let headers = session.req_header().headers.clone();
                exchange.tunnel = Some(Box::pin(self.open_tunnel(&headers, exchange.entrance, ctx)).await?);
            }
        }
        if exchange.switched {
            exchange.to_client += tasks.iter().map(bytes_of).sum::<u64>();
        }
        let ended = tasks.last().is_some_and(HttpTask::is_end);
        let written = session.response_duplex_vec(tasks).await.map_err(of_client)?;
        if exchange.switched && !session.was_upgraded() {
            return Err(unasked_switch());
        }
        Ok(ended || written)
    }

    /// The request's head as the cell gets it.
    fn request_head(&self, session: &mut Session, ctx: &Ctx, upgrade: bool) -> Result<RequestHeader> {
        let client = client_of(session).ok_or_else(|| Error::explain(ErrorType::InternalError, "no client address"))?;
        let told = self.told(ctx, client.ip())?;
        let mut head = fields::for_cell(session.req_header(), &told, upgrade)?;
        let framed =
            head.headers.contains_key(header::CONTENT_LENGTH) || head.headers.contains_key(header::TRANSFER_ENCODING);
        if !session.is_body_empty() && !framed {
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        Ok(head)
    }

    /// Whether a request whose exchange failed is sent once more.
    fn again(&self, session: &Session, ctx: &mut Ctx, error: &Error, reused: bool) -> bool {
        // A cell that takes a connection and drops it has failed as much as one that takes none. On a kept connection it
        // only closed what was idle.
        let dropped = is_dropped(error);
        if dropped && !reused {
            ctx.failed(error);
        } else {
            ctx.tries += 1;
        }
        let replayable = is_repeatable(&session.req_header().method)
            && !session.retry_buffer_truncated()
            && session.response_written().is_none();
        ctx.tries < TRIES_MAX && replayable && dropped
    }

    /// Answers a request that cannot be served, unless an answer was begun. Whether one was given.
    pub(super) async fn fail(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> bool {
        ctx.error = Some(error.to_string());
        let Some(status) = status_of(error) else { return false };
        if session.response_written().is_some() {
            return false;
        }
        let (lang, html) = (lang_of(session.req_header()), wants_html(&session.req_header().headers));
        session.set_keepalive(None);
        login::view::failure(status, lang, html).send(session).await.is_ok()
    }
}

impl<'a> Exchange<'a> {
    fn new(entrance: Option<&'a Entrance>, upgrade: bool) -> Self {
        let (to_cell, to_client, first_end) = (0, 0, "cell_closed");
        let (switched, sent, tunnel, lost) = (false, false, None, None);
        Self { entrance, upgrade, switched, tunnel, to_cell, to_client, first_end, sent, lost }
    }

    /// Whether the client is read: for its body, for the tunnel, or only to see it leave.
    fn listens(&self) -> bool {
        self.lost.is_none() && (self.switched || !self.upgrade)
    }

    async fn send(&mut self, cell: &mut CellSession, piece: &[u8]) -> Result<()> {
        if self.switched {
            cell.maybe_upgrade_body_writer();
            self.to_cell += piece.len() as u64;
        }
        // Zero bytes would end a chunked body.
        if !piece.is_empty()
            && let Err(error) = cell.write_body(piece).await
        {
            return self.lose(error);
        }
        Ok(())
    }

    async fn finish(&mut self, cell: &mut CellSession) -> Result<()> {
        self.sent = true;
        match cell.finish_body().await {
            Ok(_) => Ok(()),
            Err(error) => self.lose(error),
        }
    }

    /// A cell may answer early and read no further (RFC 9112 §9.3): its answer counts more than the error.
    fn lose(&mut self, error: Box<Error>) -> Result<()> {
        if self.switched {
            return Err(error.into_up());
        }
        self.lost.get_or_insert(error);
        Ok(())
    }
}

/// The client's next piece. Once the request is whole, resolves only when the client leaves.
async fn next_piece(session: &mut Session, exchange: &Exchange<'_>) -> Result<Option<Bytes>> {
    if exchange.switched { session.read_request_body().await } else { session.read_body_or_idle(exchange.sent).await }
}

fn bytes_of(task: &HttpTask) -> u64 {
    match task {
        HttpTask::Body(Some(piece), _) | HttpTask::UpgradedBody(Some(piece), _) => piece.len() as u64,
        _ => 0,
    }
}

/// Makes the head of an answer the client's.
fn answer_head(session: &Session, head: &mut ResponseHeader, ended: bool, ctx: &mut Ctx) -> Result<()> {
    let status = head.status;
    let bodyless = ended
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || session.req_header().method == Method::HEAD;
    let framed =
        head.headers.contains_key(header::CONTENT_LENGTH) || head.headers.contains_key(header::TRANSFER_ENCODING);
    if !bodyless && !framed {
        // The cell ends it by closing; the client's connection lives on.
        head.set_version(Version::HTTP_11);
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    fields::clean_response(head, status == StatusCode::SWITCHING_PROTOCOLS, ctx.by_token());
    if !status.is_informational()
        && let Some(set_cookie) = ctx.renewed.take()
    {
        head.append_header(header::SET_COOKIE, set_cookie)?;
    }
    Ok(())
}

/// An error of writing to the client says so; the cell's, passed through, stays the cell's.
fn of_client(error: Box<Error>) -> Box<Error> {
    if *error.esource() == ErrorSource::Unset { error.into_down() } else { error }
}

pub(super) fn unasked_switch() -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, "the cell switched to what was not asked for").into_up()
}

/// The status that tells an error; none when the client is gone.
fn status_of(error: &Error) -> Option<u16> {
    let kind = error.etype();
    Some(match (kind, error.esource()) {
        (ErrorType::HTTPStatus(status), _) => *status,
        // Nothing reached the cell: to the user the cell is away, not broken.
        (ErrorType::ConnectTimedout, ErrorSource::Upstream) => 503,
        (_, ErrorSource::Upstream) if is_connect_failure(kind) => 503,
        (ErrorType::ReadTimedout | ErrorType::WriteTimedout, ErrorSource::Upstream) => 504,
        (_, ErrorSource::Upstream) => 502,
        (ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed, ErrorSource::Downstream) => {
            return None;
        }
        (_, ErrorSource::Downstream) => 400,
        _ => 500,
    })
}

/// Methods that may be sent twice (RFC 9110 §9.2.2; RFC 4918, 3253, 5323: these only read).
fn is_repeatable(method: &Method) -> bool {
    method.is_idempotent() || matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH")
}

/// Whether the cell ended the connection, rather than being slow or answering what is none.
fn is_dropped(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream
        && matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError)
}

fn is_connect_failure(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
    )
}

/// First try and one more.
const TRIES_MAX: u8 = 2;
/// Gathered into one write.
const TASKS_MAX: usize = 4;
/// One write to a cell that does not read.
const CELL_WRITE: std::time::Duration = std::time::Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_methods_may_be_sent_twice_and_writing_ones_not() {
        for method in ["GET", "PROPFIND", "REPORT", "PUT"] {
            assert!(is_repeatable(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
        for method in ["POST", "MKCALENDAR", "LOCK", "PATCH"] {
            assert!(!is_repeatable(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
    }
}
