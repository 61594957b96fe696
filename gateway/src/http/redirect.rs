//! The plain port: every request is sent to HTTPS.

use std::{sync::Arc, time::Duration};

use guichet_proto::http1::{self, Gate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{app::App, listener::Peer};

/// Reads one request head, answers with a redirect to the public origin and closes.
pub(crate) async fn connection(mut stream: TcpStream, peer: &Peer, app: &Arc<App>) {
    let origin = app.snapshot.load().config.public.origin.clone();
    let exchange = async {
        let mut head = Vec::new();
        let answer = loop {
            match http1::inspect(&head, 0) {
                Gate::Pass { length, .. } => break redirect(head.get(..length).unwrap_or_default(), &origin),
                Gate::Refuse { status, kind } => {
                    super::event::refused_head(kind);
                    break refusal(status);
                }
                Gate::More if head.len() > HEAD_BYTES_MAX => break refusal(431),
                Gate::More => {}
            }
            let mut piece = [0; 1024];
            match stream.read(&mut piece).await {
                Ok(read) if read > 0 => head.extend_from_slice(piece.get(..read).unwrap_or_default()),
                _ => return,
            }
        };
        // The client may be gone; nothing to do about it.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    };
    tokio::select! {
        () = app.stop.cancelled() => {}
        ended = tokio::time::timeout(DEADLINE, exchange) => {
            if ended.is_err() {
                tracing::debug!(client = %peer.client, "A plain connection sent no request in time.");
            }
        }
    }
}

/// 301 for GET and HEAD, 308 for methods whose body must not be lost. Outlook asks on the plain port, too, and knows
/// 302 alone.
fn redirect(head: &[u8], origin: &str) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().filter(|path| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()));
    let (status, reason) = match method {
        "GET" | "HEAD" if path.is_some_and(super::setup::is_autodiscover) => (302, "Found"),
        "GET" | "HEAD" => (301, "Moved Permanently"),
        _ => (308, "Permanent Redirect"),
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nLocation: {origin}{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        path.unwrap_or("/")
    )
}

fn refusal(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let reason = reason.unwrap_or("Refused");
    format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A request that only wants a redirect is short.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_kept_and_the_method_decides_the_status() {
        let answer = redirect(b"GET /mail?a=b HTTP/1.1\r\nHost: evil.example\r\n\r\n", "https://mail.example");
        assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
        assert!(answer.contains("\r\nLocation: https://mail.example/mail?a=b\r\n"), "{answer}");
        let answer = redirect(b"GET /Autodiscover/Autodiscover.xml HTTP/1.1\r\n\r\n", "https://mail.example");
        assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
        let answer = redirect(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "https://mail.example");
        assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    }

    #[test]
    fn the_host_never_comes_from_the_request() {
        for head in ["GET http://evil.example/ HTTP/1.1\r\n\r\n", "GET * HTTP/1.1\r\n\r\n", "\r\n\r\n"] {
            let answer = redirect(head.as_bytes(), "https://mail.example");
            assert!(answer.contains("\r\nLocation: https://mail.example/\r\n"), "{answer}");
        }
    }
}
