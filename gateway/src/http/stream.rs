//! The connection as pingora sees it: TLS with a read prefix (what the gate read) and coalesced writes.
//!
//! Small writes of one response gather in a plaintext buffer and leave as one TLS record; the buffer is freed at each
//! flush, so that an idle connection holds none.

use std::{
    fmt, io,
    ops::ControlFlow,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use guichet_proto::http1::{self, Gate};
use pingora::{
    prelude::fast_timeout::fast_timeout,
    protocols::{
        ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
        UniqueID, UniqueIDType, l4::socket::SocketAddr as PeerAddress, raw_connect::ProxyDigest, tls::SslDigest,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::listener::Peer;

/// One HTTPS connection.
pub(crate) struct WebStream {
    tls: TlsStream<TcpStream>,
    /// Bytes read from TLS and not handed to the engine yet.
    input: BytesMut,
    /// How many of them the engine may read now.
    released: usize,
    /// The request at hand has no body: what follows its head is the next request, kept for the gate.
    bodyless: bool,
    /// Plaintext that waits for a flush.
    output: Vec<u8>,
    socket: Arc<SocketDigest>,
    ssl: Arc<SslDigest>,
}

/// What waiting for a request led to.
#[derive(Debug)]
pub(crate) enum Head {
    /// A clean head waits in the stream.
    Ready,
    /// The client closed or broke the connection.
    Closed,
    /// The head is refused.
    Refuse {
        /// To answer.
        status: u16,
        /// For the metric.
        kind: &'static str,
    },
}

impl WebStream {
    /// Wraps an accepted connection; its addresses are the peer's (from a PROXY header when one was read).
    pub(crate) fn new(mut tls: TlsStream<TcpStream>, peer: &Peer) -> Self {
        let socket = SocketDigest::from_raw_fd(tls.get_ref().0.as_raw_fd());
        // Cells are fresh: `set` cannot fail.
        let _ = socket.peer_addr.set(Some(PeerAddress::Inet(peer.client)));
        let _ = socket.local_addr.set(Some(PeerAddress::Inet(peer.local)));
        let connection = tls.get_mut().1;
        connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        let ssl = Arc::new(SslDigest::new(cipher, version, None, None, Vec::new()));
        Self {
            tls,
            input: BytesMut::new(),
            released: 0,
            bodyless: false,
            output: Vec::new(),
            socket: Arc::new(socket),
            ssl,
        }
    }

    /// Whether the client chose HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        self.tls.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// Waits for the next request and lets the strict gate look at its head. `idle` is the time to its first byte,
    /// `deadline` the time from there to the blank line, whatever trickles in.
    pub(crate) async fn next_head(&mut self, idle: Duration, deadline: Duration) -> Head {
        self.released = 0;
        self.bodyless = false;
        if self.input.is_empty() && !self.park(idle).await {
            return Head::Closed;
        }
        // Most heads come whole: no timer for them.
        let looked = match self.look(0) {
            ControlFlow::Continue(looked) => looked,
            ControlFlow::Break(head) => return head,
        };
        match tokio::time::timeout(deadline, self.read_head(looked)).await {
            Ok(head) => head,
            Err(_) => Head::Refuse { status: 408, kind: "head_deadline" },
        }
    }

    /// Waits for the first bytes of a request; holds no buffer meanwhile.
    async fn park(&mut self, idle: Duration) -> bool {
        self.input = BytesMut::new();
        self.output = Vec::new();
        let mut first = [0; PARK_BYTES];
        let first = &mut first;
        match fast_timeout(idle, self.tls.read(first)).await {
            Ok(Ok(read)) if read > 0 => {
                self.input.extend_from_slice(first.get(..read).unwrap_or_default());
                true
            }
            _ => false,
        }
    }

    async fn read_head(&mut self, mut looked: usize) -> Head {
        loop {
            match self.tls.read_buf(&mut self.input).await {
                Ok(read) if read > 0 => {}
                _ => return Head::Closed,
            }
            match self.look(looked) {
                ControlFlow::Continue(now) => looked = now,
                ControlFlow::Break(head) => return head,
            }
        }
    }

    /// Looks at what has come, from where the last look ended: a verdict, or how far it looked.
    fn look(&mut self, looked: usize) -> ControlFlow<Head, usize> {
        // RFC 9112 §2.2: empty lines before a request are skipped; two are enough for any real client.
        if looked == 0 {
            for _ in 0..2 {
                if self.input.starts_with(b"\r\n") {
                    self.input.advance(2);
                }
            }
        }
        match http1::inspect(&self.input, looked) {
            Gate::Pass { length, bodyless } => {
                self.bodyless = bodyless;
                self.released = if bodyless { length } else { self.input.len() };
                ControlFlow::Break(Head::Ready)
            }
            Gate::Refuse { status, kind } => ControlFlow::Break(Head::Refuse { status, kind }),
            Gate::More if self.input.len() > http1::HEAD_BYTES_MAX => {
                ControlFlow::Break(Head::Refuse { status: 431, kind: "head_too_large" })
            }
            Gate::More => ControlFlow::Continue(self.input.len()),
        }
    }

    /// Answers a refused head in one short sentence and closes.
    pub(crate) async fn refuse(mut self, status: u16) {
        let reason =
            http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("Refused");
        let body = format!("{reason}\n");
        let answer = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Strict-Transport-Security: {}\r\nConnection: close\r\n\r\n{body}",
            body.len(),
            super::HSTS
        );
        let goodbye = async {
            self.tls.write_all(answer.as_bytes()).await?;
            self.tls.flush().await?;
            self.tls.shutdown().await
        };
        // The client may be gone; nothing to do about it.
        if let Ok(Ok(())) = tokio::time::timeout(GOODBYE, goodbye).await {
            let _ = tokio::time::timeout(LINGER, self.discard()).await;
        }
    }

    /// Reads on a body nobody wants: a close over unread bytes is a reset, which may overtake our answer (RFC 9112 §9.6).
    async fn discard(&mut self) {
        let mut left = LINGER_BYTES_MAX;
        let mut chunk = [0; PARK_BYTES];
        while let Ok(read @ 1..) = self.tls.read(&mut chunk).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    }

    fn poll_drain_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.tls).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.drain(..written);
        }
        self.output = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for WebStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.released > 0 {
            let take = this.released.min(buf.remaining()).min(this.input.len());
            buf.put_slice(this.input.get(..take).unwrap_or_default());
            this.input.advance(take);
            this.released -= take;
            if this.input.is_empty() {
                this.input = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        // Whoever comes to wait has said what there was to say: a long answer of known length is not held back.
        if !this.output.is_empty()
            && let Poll::Ready(Err(error)) = Pin::new(&mut *this).poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        if !this.bodyless {
            return Pin::new(&mut this.tls).poll_read(cx, buf);
        }
        // The engine only asks whether the client is still there. What arrives is the next request: kept for the gate,
        // one piece at most, so that a client cannot make us hold more.
        if !this.input.is_empty() {
            return Poll::Pending;
        }
        let mut early = [0; PARK_BYTES];
        let mut early = ReadBuf::new(&mut early);
        ready!(Pin::new(&mut this.tls).poll_read(cx, &mut early))?;
        if early.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        this.input.extend_from_slice(early.filled());
        Poll::Pending
    }
}

impl AsyncWrite for WebStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.output.len() + data.len() > COALESCE_BYTES {
            ready!(this.poll_drain_output(cx))?;
            if data.len() >= COALESCE_BYTES {
                return Pin::new(&mut this.tls).poll_write(cx, data);
            }
        }
        if this.output.capacity() == 0 {
            this.output.reserve(data.len().max(ANSWER_BYTES));
        }
        this.output.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain_output(cx))?;
        Pin::new(&mut this.tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain_output(cx))?;
        Pin::new(&mut this.tls).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for WebStream {
    async fn shutdown(&mut self) {
        // The client may be gone or not reading.
        let _ = tokio::time::timeout(GOODBYE, AsyncWriteExt::shutdown(self)).await;
        if !self.bodyless {
            let _ = tokio::time::timeout(LINGER, self.discard()).await;
        }
    }
}

impl UniqueID for WebStream {
    fn id(&self) -> UniqueIDType {
        self.tls.get_ref().0.as_raw_fd()
    }
}

impl Ssl for WebStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(Arc::clone(&self.ssl))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.is_h2() { ALPN::H2 } else { ALPN::H1 })
    }
}

impl GetTimingDigest for WebStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for WebStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for WebStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

impl Peek for WebStream {}

impl fmt::Debug for WebStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebStream").field("fd", &self.id()).finish_non_exhaustive()
    }
}

/// One response of usual size fits; also the most that waits unsent in plaintext.
const COALESCE_BYTES: usize = 8 * 1024;
/// Room made at once for the head of an answer and a small body.
const ANSWER_BYTES: usize = 1024;
/// Ciphertext that rustls may hold for a slow reader.
const TLS_BUFFER_BYTES: usize = 32 * 1024;
/// Read while parked, on the stack.
const PARK_BYTES: usize = 1024;
/// For the last words on a connection.
const GOODBYE: Duration = Duration::from_secs(2);
/// For a client that was answered and still sends.
const LINGER: Duration = Duration::from_secs(2);
/// More than the buffers of both sockets hold, so that the client comes to read before we close.
const LINGER_BYTES_MAX: usize = 64 << 20;
