//! A cell's IMAP side: IMAP4rev1 (RFC 3501) with one read-only INBOX, enough for real clients.

mod command;
mod message;
mod session;

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

pub use message::LARGE_BYTES;

use super::Cell;
use session::{After, Session};

/// Accepts until the task ends; its connections end with it.
pub async fn serve(listener: TcpListener, cell: Arc<Cell>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let cell = Arc::clone(&cell);
                    connections.spawn(async move {
                        // A peer that goes away is its own affair.
                        let _ = converse(stream, &cell).await;
                    });
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

async fn converse(stream: TcpStream, cell: &Cell) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    // Small buffers: thousands of these wait in IDLE.
    let mut stream = BufStream::with_capacity(1024, 1024, stream);
    let mut session = Session::new(cell);
    stream.write_all(session.greeting().as_bytes()).await?;
    stream.flush().await?;
    loop {
        let Some(command) = read_command(&mut stream).await? else { return Ok(()) };
        let mut after = session.on_command(&command);
        loop {
            for piece in session.take_reply() {
                stream.write_all(&piece).await?;
            }
            stream.flush().await?;
            match after {
                After::Next => break,
                After::Bye => {
                    stream.get_mut().shutdown().await?;
                    return Ok(());
                }
                After::Line => {
                    let Some(line) = read_line(&mut stream, LINE_MAX).await? else { return Ok(()) };
                    after = session.on_line(&line);
                }
            }
        }
    }
}

/// One command with its literals inlined: `A1 LOGIN {5}\r\nalice x` becomes one buffer; the parser reads the literal by its length.
async fn read_command(stream: &mut BufStream<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut command = Vec::new();
    loop {
        let Some(line) = read_line(stream, LINE_MAX).await? else { return Ok(None) };
        command.extend_from_slice(&line);
        let Some((length, waits)) = command::literal_at_end(&line) else { return Ok(Some(command)) };
        if length > LITERAL_MAX || command.len() + length > COMMAND_MAX {
            stream.write_all(b"* BYE literal too long\r\n").await?;
            stream.flush().await?;
            return Ok(None);
        }
        if waits {
            stream.write_all(b"+ go on\r\n").await?;
            stream.flush().await?;
        }
        command.extend_from_slice(b"\r\n");
        let start = command.len();
        command.resize(start + length, 0);
        if let Some(literal) = command.get_mut(start..) {
            stream.read_exact(literal).await?;
        }
    }
}

/// A line without its end; `None` when the peer has gone, said too much, or nothing for half an hour (RFC 3501 §5.4).
async fn read_line(stream: &mut BufStream<TcpStream>, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut limited = (&mut *stream).take(limit as u64);
    let Ok(read) = timeout(AUTOLOGOUT, limited.read_until(b'\n', &mut line)).await else { return Ok(None) };
    if read? == 0 || line.pop() != Some(b'\n') {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

const LINE_MAX: usize = 8 * 1024;
const LITERAL_MAX: usize = 64 * 1024;
const COMMAND_MAX: usize = 128 * 1024;
const AUTOLOGOUT: Duration = Duration::from_secs(30 * 60);
