//! An IMAP client over TLS that checks every answer.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Failure, Target};
use crate::demo::DemoUser;

/// A connection.
#[derive(Debug)]
pub struct ImapClient {
    stream: BufReader<TlsStream<TcpStream>>,
    commands: u32,
}

impl ImapClient {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// No connection, bad TLS, or a server that is not ready.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        let socket =
            TcpStream::connect(target.imaps).await.map_err(|error| Failure::new("connect", error.to_string()))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(|error| Failure::wrong(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(&target.mail_tls))
            .connect(name, socket)
            .await
            .map_err(|error| Failure::new("tls", error.to_string()))?;
        // Small: thousands of these are held at once.
        let mut client = Self { stream: BufReader::with_capacity(1024, stream), commands: 0 };
        let greeting = client.line().await?;
        if greeting.starts_with("* OK") { Ok(client) } else { Err(Failure::new("refused", greeting)) }
    }

    /// LOGIN.
    ///
    /// # Errors
    /// Refused, told to try later, or closed.
    pub async fn login(&mut self, user: &DemoUser) -> Result<(), Failure> {
        // The demo's passwords need no quoting; quotes are right for any without quote or backslash.
        self.command(&format!("LOGIN {} \"{}\"", user.address, user.password)).await.map(|_| ())
    }

    /// SELECT INBOX, and checks that the first message greets `user`.
    ///
    /// # Errors
    /// Refused, closed, or somebody else's mail.
    pub async fn read_inbox(&mut self, user: &DemoUser) -> Result<(), Failure> {
        self.command("SELECT INBOX").await?;
        let fetched = self.command("FETCH 1 (FLAGS BODY[])").await?;
        if fetched.contains(&format!("Hello {}.", user.address)) {
            Ok(())
        } else {
            Err(Failure::wrong("the first message does not greet its user"))
        }
    }

    /// Enters IDLE and stays there.
    ///
    /// # Errors
    /// Refused or closed.
    pub async fn idle(&mut self) -> Result<(), Failure> {
        let tag = self.send("IDLE").await?;
        let line = self.line().await?;
        if line.starts_with('+') { Ok(()) } else { Err(Failure::wrong(format!("{tag}: {line}"))) }
    }

    /// Leaves IDLE, and then.
    ///
    /// # Errors
    /// The connection was not there any more.
    pub async fn leave_idle(mut self) -> Result<(), Failure> {
        self.stream.write_all(b"DONE\r\n").await?;
        self.stream.flush().await?;
        let line = self.line().await?;
        if !line.contains(" OK") {
            return Err(Failure::wrong(line));
        }
        self.logout().await
    }

    /// LOGOUT.
    ///
    /// # Errors
    /// Closed without a word.
    pub async fn logout(mut self) -> Result<(), Failure> {
        self.command("LOGOUT").await?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await?;
        Ok(())
    }

    /// Sends a command; its untagged replies when it ends in OK.
    async fn command(&mut self, command: &str) -> Result<String, Failure> {
        let tag = self.send(command).await?;
        let mut replies = String::new();
        loop {
            let line = self.line().await?;
            if let Some(rest) = line.strip_prefix(&tag) {
                return match rest.trim_start() {
                    said if said.starts_with("OK") => Ok(replies),
                    said if said.contains("[UNAVAILABLE]") || said.contains("[LIMIT]") => {
                        Err(Failure::new("later", said))
                    }
                    said => Err(Failure::new("refused", said)),
                };
            }
            if replies.len() < REPLIES_MAX {
                replies.push_str(&line);
                replies.push('\n');
            }
        }
    }

    async fn send(&mut self, command: &str) -> Result<String, Failure> {
        self.commands += 1;
        let tag = format!("a{}", self.commands);
        self.stream.write_all(format!("{tag} {command}\r\n").as_bytes()).await?;
        self.stream.flush().await?;
        Ok(tag)
    }

    async fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Err(Failure::new("closed", "the server closed in the middle"));
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

const LINE_MAX: u64 = 64 * 1024;
const REPLIES_MAX: usize = 256 * 1024;
