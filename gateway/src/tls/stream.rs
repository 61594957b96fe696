//! TLS on a socket that holds no buffer while nothing moves.
//!
//! rustls' buffered connections keep four kilobytes each for the next record, which is more than everything else of an
//! idle mail session. Its unbuffered interface keeps nothing: records are opened where they were read and sealed where
//! they are sent from. [`Session`] is that state with the little that may wait beside it; [`TlsStream`] is a session on
//! a socket, until a relay takes both apart.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ClientConfig, CommonState, ProtocolVersion, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
    server::{Acceptor, ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use zeroize::Zeroizing;

/// The TLS state of one connection.
pub(crate) struct Session {
    side: Side,
    /// The start of a record whose rest is still to come.
    incoming: Vec<u8>,
    /// Opened and not read yet.
    plain: Zeroizing<Vec<u8>>,
    /// Sealed and not sent yet.
    outgoing: Vec<u8>,
    /// close_notify has come.
    closed: bool,
    /// Over by an error. What rustls holds fits no buffer of ours any more: it is not asked again.
    failed: bool,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// The same states under two types.
trait Machine {
    type Data;

    /// Something waits to be encoded.
    fn wants_write(&self) -> bool;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(incoming)
    }
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn wants_write(&self) -> bool {
        CommonState::wants_write(self)
    }

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(incoming)
    }
}

impl Session {
    fn new(side: Side) -> Self {
        Self {
            side,
            incoming: Vec::new(),
            plain: Zeroizing::default(),
            outgoing: Vec::new(),
            closed: false,
            failed: false,
        }
    }

    /// What the handshake came to.
    pub(crate) fn state(&self) -> &CommonState {
        match &self.side {
            Side::Server(server) => server,
            Side::Client(client) => client,
        }
    }

    /// The peer has sent close_notify: nothing comes behind it.
    pub(crate) fn peer_has_closed(&self) -> bool {
        self.closed
    }

    /// Copies the start of a record to the front of `buffer`, which must have room for a whole one. How much it was; the
    /// bytes that follow belong behind it.
    pub(crate) fn resume(&self, buffer: &mut [u8]) -> usize {
        let kept = self.incoming.len();
        if let Some(front) = buffer.get_mut(..kept) {
            front.copy_from_slice(&self.incoming);
        }
        kept
    }

    /// Opens what [`Self::resume`] and a read put into `buffer`, all of it; keeps the start of a record that is cut. Bytes
    /// of plaintext.
    ///
    /// # Errors
    /// The sink's, or [`io::ErrorKind::InvalidData`] with rustls' error; its alert waits to be sent.
    pub(crate) fn open(
        &mut self,
        buffer: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut moved = 0;
        let sink = |bytes: &[u8]| {
            moved += bytes.len();
            sink(bytes)
        };
        let opened = match &mut self.side {
            Side::Server(server) => open(server, buffer, &mut self.outgoing, &mut self.closed, sink),
            Side::Client(client) => open(client, buffer, &mut self.outgoing, &mut self.closed, sink),
        };
        let used = opened.inspect_err(|_| self.failed = true)?;
        let rest = buffer.get(used..).unwrap_or_default();
        self.incoming.clear();
        if rest.is_empty() {
            self.incoming = Vec::new();
        } else {
            self.incoming.extend_from_slice(rest);
        }
        if rest.len() > INCOMING_BYTES_MAX {
            self.failed = true;
            return Err(invalid(rustls::Error::General("a message is too large".into())));
        }
        Ok(moved)
    }

    /// Moves the plaintext that was opened before and not read.
    pub(crate) fn drain(&mut self, sink: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<usize> {
        let plain = std::mem::take(&mut self.plain);
        sink(&plain)?;
        Ok(plain.len())
    }

    /// Seals into `buffer`, behind what waits to be sent. Bytes of ciphertext; `buffer` needs [`sealed_max`] of room.
    ///
    /// # Errors
    /// The keys are used up, or the handshake is not through.
    pub(crate) fn seal(&mut self, bytes: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        let Self { side, incoming, outgoing, failed: false, .. } = self else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match side {
            Side::Server(server) => seal(server, incoming, outgoing, bytes, buffer),
            Side::Client(client) => seal(client, incoming, outgoing, bytes, buffer),
        }
    }

    /// Queues close_notify. Nothing when it cannot be said any more.
    pub(crate) fn close(&mut self) {
        let Self { side, incoming, outgoing, failed: false, .. } = self else { return };
        let mut alert = [0; ALERT_BYTES_MAX];
        let said = match side {
            Side::Server(server) => close(server, incoming, outgoing, &mut alert),
            Side::Client(client) => close(client, incoming, outgoing, &mut alert),
        };
        outgoing.extend_from_slice(alert.get(..said).unwrap_or_default());
    }

    /// What waits to be sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.outgoing
    }

    /// So much of it is sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.outgoing.drain(..bytes.min(self.outgoing.len()));
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
        }
    }

    /// Lets ciphertext wait that the socket did not take.
    pub(crate) fn keep(&mut self, ciphertext: &[u8]) {
        self.outgoing.extend_from_slice(ciphertext);
    }

    /// Processes bytes of the peer, plaintext to be read.
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.incoming);
        buffer.extend_from_slice(bytes);
        let mut plain = std::mem::take(&mut self.plain);
        let opened = self.open(&mut buffer, |bytes| {
            plain.extend_from_slice(bytes);
            Ok(())
        });
        self.plain = plain;
        opened.map(drop)
    }
}

/// Most bytes that sealing `bytes` may make.
pub(crate) const fn sealed_max(bytes: usize) -> usize {
    bytes + (bytes / FRAGMENT_BYTES + 1) * RECORD_OVERHEAD_MAX
}

fn open<M: Machine>(
    machine: &mut M,
    buffer: &mut [u8],
    outgoing: &mut Vec<u8>,
    closed: &mut bool,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<usize> {
    let mut used = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = machine.step(buffer.get_mut(used..).unwrap_or_default());
        let mut more = true;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(invalid)?;
                    discard += record.discard;
                    sink(record.payload)?;
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing)?,
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => *closed = true,
            Ok(_) => more = false,
            Err(error) => {
                used += discard;
                // Its alert. No further: the same record would be met again.
                while machine.wants_write() {
                    let again = machine.step(buffer.get_mut(used..).unwrap_or_default());
                    let Ok(ConnectionState::EncodeTlsData(data)) = again.state else { break };
                    encode(data, outgoing)?;
                    used += again.discard;
                }
                return Err(invalid(error));
            }
        }
        used += discard;
        if !more {
            return Ok(used);
        }
    }
}

/// Comes to where application data can be written, handshake messages queued on the way. rustls always sees the start of
/// what is still to come: it may remember places in it.
fn writing<M: Machine, T>(
    machine: &mut M,
    incoming: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    then: impl FnOnce(WriteTraffic<'_, M::Data>) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        let UnbufferedStatus { discard, state } = machine.step(incoming);
        match state.map_err(invalid)? {
            ConnectionState::WriteTraffic(traffic) => {
                let done = then(traffic);
                incoming.drain(..discard);
                return done;
            }
            ConnectionState::EncodeTlsData(data) => encode(data, outgoing)?,
            // We may go on when the peer has ended.
            ConnectionState::PeerClosed => {}
            ConnectionState::TransmitTlsData(data) => data.done(),
            _ => return Err(io::ErrorKind::NotConnected.into()),
        }
        incoming.drain(..discard);
    }
}

fn seal<M: Machine>(
    machine: &mut M,
    incoming: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    bytes: &[u8],
    buffer: &mut [u8],
) -> io::Result<usize> {
    writing(machine, incoming, outgoing, |mut traffic| traffic.encrypt(bytes, buffer).map_err(exhausted))
}

fn close<M: Machine>(machine: &mut M, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>, alert: &mut [u8]) -> usize {
    let said = writing(machine, incoming, outgoing, |mut traffic| traffic.queue_close_notify(alert).map_err(exhausted));
    said.unwrap_or_default()
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    let begun = outgoing.len();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        outgoing.resize(begun + needed.required_size, 0);
        data.encode(outgoing.get_mut(begun..).unwrap_or_default()).map_err(io::Error::other)?;
    }
    Ok(())
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn exhausted(error: EncryptError) -> io::Error {
    io::Error::other(error)
}

/// A session on a socket.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    session: Box<Session>,
    closing: bool,
}

impl TlsStream {
    /// The server's side of a handshake. What rustls sends behind it (tickets) leaves with our first words.
    ///
    /// # Errors
    /// The socket's, or rustls'.
    pub(crate) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        Self::server(tcp, config)?.shake_hands(|_| ()).await
    }

    /// As [`Self::accept`], with the name the client asked for (SNI).
    ///
    /// # Errors
    /// The socket's, or rustls'.
    pub(crate) async fn accept_named(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<(Self, Option<String>)> {
        // The unbuffered state does not tell it: the hello is read a second time. What is wrong with it, the state says.
        let (mut hello, mut name) = (Some(Acceptor::default()), None);
        let stream = Self::server(tcp, config)?;
        let stream = stream
            .shake_hands(|mut bytes| {
                while let Some(acceptor) = &mut hello
                    && acceptor.read_tls(&mut bytes).is_ok_and(|read| read > 0)
                {
                    match acceptor.accept() {
                        Ok(None) => {}
                        Ok(Some(accepted)) => {
                            name = accepted.client_hello().server_name().map(str::to_owned);
                            hello = None;
                        }
                        Err(_) => hello = None,
                    }
                }
            })
            .await?;
        Ok((stream, name))
    }

    /// The client's side.
    ///
    /// # Errors
    /// The socket's, or rustls'.
    pub(crate) async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let client = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        Self::new(tcp, Side::Client(client)).shake_hands(|_| ()).await
    }

    fn server(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let server = UnbufferedServerConnection::new(config).map_err(invalid)?;
        Ok(Self::new(tcp, Side::Server(server)))
    }

    fn new(tcp: TcpStream, side: Side) -> Self {
        Self { tcp, session: Box::new(Session::new(side)), closing: false }
    }

    async fn shake_hands(mut self, mut overhear: impl FnMut(&[u8])) -> io::Result<Self> {
        let mut chunk = [0; READ_BYTES];
        let mut heard = &[][..];
        loop {
            let opened = self.session.hear(heard);
            if let Err(error) = opened {
                // The alert, as far as the peer takes it.
                let _ = self.tcp.try_write(self.session.unsent());
                return Err(error);
            }
            let state = self.session.state();
            let through = !state.is_handshaking();
            // What a server says last in TLS 1.3 are tickets, which can wait for our first words.
            let tickets = matches!(self.session.side, Side::Server(_))
                && state.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if !(through && tickets) {
                self.flush().await?;
            }
            if through {
                return Ok(self);
            }
            let read = self.tcp.read(&mut chunk).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            heard = chunk.get(..read).unwrap_or_default();
            overhear(heard);
        }
    }

    /// What the handshake came to.
    pub(crate) fn state(&self) -> &CommonState {
        self.session.state()
    }

    /// The socket and the state, for a relay.
    pub(crate) fn into_parts(self) -> (TcpStream, Box<Session>) {
        (self.tcp, self.session)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.unsent().is_empty() {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, self.session.unsent()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.sent(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let Session { plain, .. } = &mut *this.session;
            if !plain.is_empty() {
                let take = plain.len().min(buf.remaining());
                buf.put_slice(plain.get(..take).unwrap_or_default());
                if take == plain.len() {
                    *plain = Zeroizing::default();
                } else {
                    plain.drain(..take);
                }
                return Poll::Ready(Ok(()));
            }
            if this.session.peer_has_closed() {
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [0; READ_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                // Cut: an end is said by close_notify.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let heard = this.session.hear(chunk.filled());
            // An alert, or the answer to a change of keys: nobody waits for it.
            if !this.session.unsent().is_empty()
                && let Ok(sent) = this.tcp.try_write(this.session.unsent())
            {
                this.session.sent(sent);
            }
            heard?;
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.session.unsent().len() > UNSENT_BYTES_MAX {
            ready!(this.poll_send(cx))?;
        }
        let bytes = bytes.get(..FRAGMENT_BYTES).unwrap_or(bytes);
        let mut sealed = vec![0; sealed_max(bytes.len())];
        let length = this.session.seal(bytes, &mut sealed)?;
        this.session.keep(sealed.get(..length).unwrap_or_default());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            this.session.close();
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

/// Plaintext of one record, at most (RFC 8446 §5.1).
const FRAGMENT_BYTES: usize = 16 * 1024;
/// Header, explicit nonce, content type and tag of any suite we offer are below it.
const RECORD_OVERHEAD_MAX: usize = 64;
/// A sealed alert.
const ALERT_BYTES_MAX: usize = 2 + RECORD_OVERHEAD_MAX;
/// Of messages that are not whole yet; rustls takes no handshake message beyond it.
const INCOMING_BYTES_MAX: usize = 64 * 1024 - 1;
/// Ciphertext that may wait for a slow reader before a writer waits, too.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// On the stack while something is read.
const READ_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
