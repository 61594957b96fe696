//! What the mail sides of a cell share: accepting connections, lines, commands with literals.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::{Cell, words::literal_at_end};

/// One client's connection.
pub(super) struct Wire(BufStream<TcpStream>);

/// How literals of a command are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literals {
    /// Longest one.
    pub(super) bytes_max: usize,
    /// Said to a client that waits to be asked on.
    pub(super) go_on: &'static str,
    /// Said before closing on a client whose literal is longer.
    pub(super) too_long: &'static str,
}

/// Accepts until the task ends; its connections end with it.
pub(super) async fn serve<F, W>(listener: TcpListener, cell: Arc<Cell>, converse: F)
where
    F: Fn(Wire, Arc<Cell>) -> W,
    W: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if stream.set_nodelay(true).is_ok() {
                        // Small buffers: thousands of these wait in IDLE. A peer that goes away is its own affair.
                        let wire = Wire(BufStream::with_capacity(1024, 1024, stream));
                        connections.spawn(converse(wire, Arc::clone(&cell)));
                    }
                }
                // Out of descriptors: the connections that end will free some.
                Err(error) => {
                    tracing::warn!(%error, "A simulated cell could not accept.");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

impl Wire {
    /// A line without its end; `None` when the peer has gone, said too much, or nothing for half an hour (RFC 3501 §5.4).
    pub(super) async fn line(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.0).take(limit as u64);
        let Ok(read) = timeout(AUTOLOGOUT, limited.read_until(b'\n', &mut line)).await else { return Ok(None) };
        if read? == 0 || line.pop() != Some(b'\n') {
            return Ok(None);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// One command with its literals inlined: `A1 LOGIN {5}\r\nalice x` becomes one buffer; whoever cuts it reads the literal
    /// by its length. `None` as for a line.
    pub(super) async fn command(&mut self, literals: Literals) -> io::Result<Option<Vec<u8>>> {
        let mut command = Vec::new();
        loop {
            let Some(line) = self.line(COMMAND_LINE_MAX).await? else { return Ok(None) };
            command.extend_from_slice(&line);
            let Some((length, waits)) = literal_at_end(&line) else { return Ok(Some(command)) };
            if length > literals.bytes_max || command.len() + length > 2 * literals.bytes_max {
                self.say(literals.too_long).await?;
                return Ok(None);
            }
            if waits {
                self.say(literals.go_on).await?;
            }
            command.extend_from_slice(b"\r\n");
            let start = command.len();
            command.resize(start + length, 0);
            if let Some(literal) = command.get_mut(start..) {
                self.0.read_exact(literal).await?;
            }
        }
    }

    /// Returns when there is something to read; whether there ever will be. May be dropped without loss.
    pub(super) async fn readable(&mut self) -> io::Result<bool> {
        match timeout(AUTOLOGOUT, self.0.fill_buf()).await {
            Ok(read) => Ok(!read?.is_empty()),
            Err(_) => Ok(false),
        }
    }

    /// Writes without sending yet.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Sends what was written.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    /// Writes and sends.
    pub(super) async fn say(&mut self, text: &str) -> io::Result<()> {
        self.write(text.as_bytes()).await?;
        self.flush().await
    }

    /// Sends the rest and ends our side.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

pub(super) const COMMAND_LINE_MAX: usize = 8 * 1024;
const AUTOLOGOUT: Duration = Duration::from_secs(30 * 60);
