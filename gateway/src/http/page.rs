//! Answers we make ourselves: pages, redirects and short texts, with their headers.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::{Result, http::ResponseHeader, protocols::http::HttpTask};
use tokio::time::timeout;

use super::{Session, lang::Lang};

/// An answer of ours.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    fields: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Answer {
    /// An HTML page. `csp` is the policy's part beside `default-src 'none'`.
    pub(crate) fn html(status: StatusCode, lang: Lang, csp: &str, body: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", body)
            .with("content-language", lang.code())
            .with(
                "content-security-policy",
                format!("default-src 'none'; base-uri 'none'; frame-ancestors 'none'; {csp}"),
            )
            .with("x-frame-options", "DENY")
    }

    /// A short text, for clients that are no browsers.
    pub(crate) fn text(status: StatusCode, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{body}\n"))
    }

    /// Any other body.
    pub(crate) fn new(status: StatusCode, content_type: &str, body: String) -> Self {
        let fields = vec![("content-type", content_type.to_owned())];
        Self { status, fields, body: body.into() }
    }

    /// No body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, fields: Vec::new(), body: Bytes::new() }
    }

    /// `303 See Other`: go there by GET.
    pub(crate) fn see_other(location: impl Into<String>) -> Self {
        Self::empty(StatusCode::SEE_OTHER).with("location", location)
    }

    /// `302 Found`.
    pub(crate) fn found(location: impl Into<String>) -> Self {
        Self::empty(StatusCode::FOUND).with("location", location)
    }

    /// Status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// With one more field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// With leave to keep it for an hour: `public`, or `private` when it holds an address.
    pub(crate) fn with_cache(self, whose: &str) -> Self {
        self.with(CACHE_CONTROL, format!("{whose}, max-age=3600"))
    }

    /// With a cookie.
    pub(crate) fn with_cookie(self, set_cookie: String) -> Self {
        self.with("set-cookie", set_cookie)
    }

    /// With a `Retry-After` spread over 30 to 120 seconds, so that clients do not come back all at once.
    pub(crate) fn with_retry_after(self) -> Self {
        let seconds = 30 + u64::from(super::random::<1>()[0]) * 90 / 255;
        self.with("retry-after", seconds.to_string())
    }

    /// Sends it. What the client still sends of its body is read, within bounds, so that the connection stays good.
    pub(crate) async fn send(self, session: &mut Session) -> Result<()> {
        settle_body(session).await;
        let mut head = ResponseHeader::build(self.status, Some(self.fields.len() + 6))?;
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        for (name, value) in self.fields {
            match name {
                // The answer's own word beats ours.
                CACHE_CONTROL => head.insert_header(header::CACHE_CONTROL, value)?,
                name => {
                    head.append_header(name, value)?;
                }
            }
        }
        head.insert_header(header::CONTENT_LENGTH, self.body.len().to_string())?;
        head.insert_header(header::STRICT_TRANSPORT_SECURITY, super::HSTS)?;
        head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        head.insert_header(header::REFERRER_POLICY, "same-origin")?;
        let bodyless = self.body.is_empty() || session.req_header().method == http::Method::HEAD;
        let mut tasks = vec![HttpTask::Header(Box::new(head), bodyless)];
        if !bodyless {
            tasks.push(HttpTask::Body(Some(self.body), true));
        }
        session.response_duplex_vec(tasks).await?;
        Ok(())
    }
}

/// Reads the rest of a request body when it is announced and small; otherwise the connection closes after the answer. By
/// HTTP/2 the connection goes on in any case, but a stream that ends with its body unread is reset, and the reset may
/// overtake the answer.
async fn settle_body(session: &mut Session) {
    if session.is_body_done() {
        return;
    }
    let length = session.get_header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let waits = session.get_header(header::EXPECT).is_some();
    let small = length.is_some_and(|length: u64| length <= SETTLE_BYTES_MAX) && !waits;
    let settled = small && matches!(timeout(SETTLE, session.drain_request_body()).await, Ok(Ok(())));
    if !settled && !session.is_http2() {
        session.set_keepalive(None);
    }
}

/// Whether a request comes from a person in a browser that can show a page.
pub(crate) fn wants_html(headers: &http::HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| {
        let value = value.as_bytes();
        value.windows(b"text/html".len()).any(|window| window.eq_ignore_ascii_case(b"text/html"))
    })
}

const CACHE_CONTROL: &str = "cache-control";
const SETTLE_BYTES_MAX: u64 = 256 * 1024;
/// A body that is announced and does not come is not waited for.
const SETTLE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn browsers_are_told_by_their_accept_field() {
        let mut headers = HeaderMap::new();
        assert!(!wants_html(&headers));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        assert!(!wants_html(&headers));
        headers.insert("accept", HeaderValue::from_static("text/HTML,application/xml;q=0.9,*/*;q=0.8"));
        assert!(wants_html(&headers));
    }

    #[test]
    fn retries_are_spread() {
        for _ in 0..50 {
            let answer = Answer::text(StatusCode::SERVICE_UNAVAILABLE, "later").with_retry_after();
            let seconds: u64 = answer.fields.last().unwrap().1.parse().unwrap();
            assert!((30..=120).contains(&seconds), "{seconds}");
        }
    }
}
