//! The plain port: every request is sent to HTTPS.

use std::{sync::Arc, time::Duration};

use guichet_config::{Host, Hosts};
use guichet_proto::http1::{self, Gate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::service;
use crate::{app::App, listener::Peer};

/// Reads one request head, answers with a redirect to the same host of ours (to the public one when it names none) and
/// closes.
pub(crate) async fn connection(mut stream: TcpStream, peer: &Peer, app: &Arc<App>) {
    let config = Arc::clone(&app.snapshot.load().config);
    let exchange = async {
        let mut head = Vec::new();
        let answer = loop {
            match http1::inspect(&head, 0) {
                Gate::Pass { length, .. } => {
                    let head = head.get(..length).unwrap_or_default();
                    break redirect(head, &host(head, &config.hosts).origin);
                }
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

/// The host that a request names, when it is one of ours, at whatever port; else the public one. What stands in the
/// redirect is our word in each case.
fn host<'a>(head: &[u8], hosts: &'a Hosts) -> &'a Host {
    let mut named = head.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    let only = named.next().filter(|_| named.next().is_none());
    only.and_then(service::host_of).and_then(|name| hosts.named(name)).unwrap_or_else(|| hosts.public())
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
    fn only_a_host_of_ours_is_led_to_itself() {
        let own = vec![("mail.univ.example".parse().unwrap(), "univ".parse().unwrap())];
        let hosts = Hosts::new("mail.example", "https://mail.example", own);
        for (fields, expected) in [
            ("Host: Mail.Univ.Example:80\r\n", "https://mail.univ.example"),
            ("host:mail.univ.example\r\n", "https://mail.univ.example"),
            ("Host: mail.example\r\n", "https://mail.example"),
            ("Host: evil.example\r\n", "https://mail.example"),
            ("Host: mail.univ.example@evil.example\r\n", "https://mail.example"),
            ("Host: mail.univ.example\r\nHost: mail.univ.example\r\n", "https://mail.example"),
            ("X-Host: mail.univ.example\r\n", "https://mail.example"),
            ("", "https://mail.example"),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(host(head.as_bytes(), &hosts).origin, expected, "{fields:?}");
        }
    }

    #[test]
    fn the_host_never_comes_from_the_request() {
        for head in ["GET http://evil.example/ HTTP/1.1\r\n\r\n", "GET * HTTP/1.1\r\n\r\n", "\r\n\r\n"] {
            let answer = redirect(head.as_bytes(), "https://mail.example");
            assert!(answer.contains("\r\nLocation: https://mail.example/\r\n"), "{answer}");
        }
    }
}
