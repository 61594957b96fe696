//! One question and its answer over HTTP/1.1, on a connection of its own: a user's token is asked for once an hour.

use std::pin::pin;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::preauth;

/// What came back.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// The cell's clock, milliseconds, when it told it.
    pub(super) clock: Option<i64>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Sends the question, reads the whole answer. Bounded in size; the caller bounds the time.
pub(super) async fn post<S>(stream: S, host: &str, question: Zeroizing<Vec<u8>>) -> Result<Answered, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::post(preauth::PATH)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "guichet")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from_owner(question)))
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await.map_err(told)?;
    let mut connection = pin!(connection);
    let mut answered = pin!(async move { whole(sender.send_request(request).await.map_err(told)?).await });
    tokio::select! {
        answered = &mut answered => answered,
        // It is over, and what came of it is at hand.
        _ = &mut connection => answered.await,
    }
}

async fn whole(response: Response<Incoming>) -> Result<Answered, String> {
    let status = response.status();
    let clock = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let clock = clock.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp().as_millisecond());
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    Ok(Answered { status, clock, body: Zeroizing::new(body.to_bytes().to_vec()) })
}

fn told(error: hyper::Error) -> String {
    crate::telemetry::chain(&error)
}

/// The least that the engine allows.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// An answer has one or two KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
