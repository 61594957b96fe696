//! What the mail clients share: a connection, with TLS at once or later, read line by line.

use std::{net::SocketAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Failure;

/// A connection over TLS.
pub(super) type Secure = Lines<TlsStream<TcpStream>>;

/// A connection.
#[derive(Debug)]
pub(super) struct Lines<S>(BufReader<S>);

impl Lines<TcpStream> {
    /// Without TLS.
    pub(super) async fn plain(address: SocketAddr) -> Result<Self, Failure> {
        let socket = TcpStream::connect(address).await.map_err(|error| Failure::new("connect", error.to_string()))?;
        socket.set_nodelay(true)?;
        Ok(Self::on(socket))
    }

    /// Goes on over TLS. What was read ahead would have come without it: that is an error.
    pub(super) async fn secured(self, tls: &Arc<ClientConfig>) -> Result<Secure, Failure> {
        if !self.0.buffer().is_empty() {
            return Err(Failure::wrong("the server spoke ahead of TLS"));
        }
        let name = ServerName::try_from("localhost").map_err(|error| Failure::wrong(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, self.0.into_inner())
            .await
            .map_err(|error| Failure::new("tls", error.to_string()))?;
        Ok(Lines::on(stream))
    }
}

impl Secure {
    /// TLS from the first byte.
    pub(super) async fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self, Failure> {
        Lines::plain(address).await?.secured(tls).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    fn on(stream: S) -> Self {
        // Small: thousands of these are held at once.
        Self(BufReader::with_capacity(1024, stream))
    }

    /// Sends.
    pub(super) async fn send(&mut self, text: &str) -> Result<(), Failure> {
        self.0.write_all(text.as_bytes()).await?;
        self.0.flush().await?;
        Ok(())
    }

    /// A line without its end.
    pub(super) async fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.0).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Err(Failure::new("closed", "the server closed in the middle"));
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Reads and forgets so many bytes.
    pub(super) async fn skip(&mut self, mut bytes: usize, buffer: &mut [u8]) -> Result<(), Failure> {
        while bytes > 0 {
            let piece = buffer.len().min(bytes);
            let Some(piece) = buffer.get_mut(..piece) else { break };
            let read = self.0.read(piece).await?;
            if read == 0 {
                return Err(Failure::new("closed", "the server closed in the middle"));
            }
            bytes -= read;
        }
        Ok(())
    }

    /// Waits for the server to close, as it said it would.
    pub(super) async fn closed(mut self) -> Result<(), Failure> {
        let mut rest = Vec::new();
        (&mut self.0).take(LINE_MAX).read_to_end(&mut rest).await?;
        Ok(())
    }
}

const LINE_MAX: u64 = 64 * 1024;
