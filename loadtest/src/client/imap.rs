//! An IMAP client that checks every answer.

use std::{net::SocketAddr, sync::Arc};

use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    Failure, Target,
    lines::{Lines, Secure},
};
use crate::demo::DemoUser;

/// A connection; over TLS, unless it was made otherwise.
#[derive(Debug)]
pub struct ImapClient<S = TlsStream<TcpStream>> {
    lines: Lines<S>,
    commands: u32,
}

impl ImapClient {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// No connection, bad TLS, or a server that is not ready.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        Self::connect_to(target.imaps, &target.mail_tls).await
    }

    /// The same with any server whose certificate is for `localhost`.
    ///
    /// # Errors
    /// As for [`ImapClient::connect`].
    pub async fn connect_to(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self, Failure> {
        Self::greeted(Secure::connect(address, tls).await?).await
    }
}

impl ImapClient<TcpStream> {
    /// Without TLS: with a cell itself.
    ///
    /// # Errors
    /// No connection, or a server that is not ready.
    pub async fn connect_plainly(address: SocketAddr) -> Result<Self, Failure> {
        Self::greeted(Lines::plain(address).await?).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ImapClient<S> {
    async fn greeted(mut lines: Lines<S>) -> Result<Self, Failure> {
        let greeting = lines.line().await?;
        if greeting.starts_with("* OK") {
            Ok(Self { lines, commands: 0 })
        } else {
            Err(Failure::new("refused", greeting))
        }
    }

    /// LOGIN.
    ///
    /// # Errors
    /// Refused, told to try later, or closed.
    pub async fn login(&mut self, user: &DemoUser) -> Result<(), Failure> {
        // The demo's passwords need no quoting; quotes are right for any without quote or backslash.
        self.command(&format!("LOGIN {} \"{}\"", user.address, user.password)).await.map(|_| ())
    }

    /// SELECT INBOX; how many messages there are.
    ///
    /// # Errors
    /// Refused or closed.
    pub async fn select(&mut self) -> Result<usize, Failure> {
        let replies = self.command("SELECT INBOX").await?;
        replies.lines().find_map(exists).ok_or_else(|| Failure::wrong("SELECT tells no number of messages"))
    }

    /// SELECT INBOX, and checks that the first message greets `user`.
    ///
    /// # Errors
    /// Refused, closed, or somebody else's mail.
    pub async fn read_inbox(&mut self, user: &DemoUser) -> Result<(), Failure> {
        self.select().await?;
        let fetched = self.command("FETCH 1 (FLAGS BODY[])").await?;
        if fetched.contains(&format!("Hello {}.", user.address)) {
            Ok(())
        } else {
            Err(Failure::wrong("the first message does not greet its user"))
        }
    }

    /// Whether a message from number `first` on has this subject.
    ///
    /// # Errors
    /// Refused or closed.
    pub async fn has_subject(&mut self, first: usize, subject: &str) -> Result<bool, Failure> {
        let fetched = self.command(&format!("FETCH {first}:* (BODY.PEEK[HEADER.FIELDS (Subject)])")).await?;
        Ok(fetched.lines().any(|line| line.strip_prefix("Subject: ") == Some(subject)))
    }

    /// Reads message `number` and forgets it; how many bytes it had.
    ///
    /// # Errors
    /// Refused or closed.
    pub async fn fetch_and_forget(&mut self, number: usize, buffer: &mut [u8]) -> Result<usize, Failure> {
        let tag = self.send(&format!("FETCH {number} BODY.PEEK[]")).await?;
        let line = self.lines.line().await?;
        let length = line.rsplit_once('{').and_then(|(_, rest)| rest.strip_suffix('}')?.parse().ok());
        let Some(length) = length else { return Err(Failure::wrong(line)) };
        self.lines.skip(length, buffer).await?;
        self.replies(&tag).await?;
        Ok(length)
    }

    /// NOOP.
    ///
    /// # Errors
    /// Refused or closed.
    pub async fn noop(&mut self) -> Result<(), Failure> {
        self.command("NOOP").await.map(|_| ())
    }

    /// Enters IDLE and stays there.
    ///
    /// # Errors
    /// Refused or closed.
    pub async fn idle(&mut self) -> Result<(), Failure> {
        let tag = self.send("IDLE").await?;
        let line = self.lines.line().await?;
        if line.starts_with('+') { Ok(()) } else { Err(Failure::wrong(format!("{tag}: {line}"))) }
    }

    /// In IDLE: waits to be told of mail; how many messages there are then.
    ///
    /// # Errors
    /// Closed.
    pub async fn news(&mut self) -> Result<usize, Failure> {
        loop {
            if let Some(count) = exists(&self.lines.line().await?) {
                return Ok(count);
            }
        }
    }

    /// Leaves IDLE.
    ///
    /// # Errors
    /// The connection was not there any more.
    pub async fn done(&mut self) -> Result<(), Failure> {
        self.lines.send("DONE\r\n").await?;
        loop {
            let line = self.lines.line().await?;
            // Mail that comes at this moment is told before.
            if !line.starts_with("* ") {
                return if line.contains(" OK") { Ok(()) } else { Err(Failure::wrong(line)) };
            }
        }
    }

    /// Leaves IDLE, and then.
    ///
    /// # Errors
    /// The connection was not there any more.
    pub async fn leave_idle(mut self) -> Result<(), Failure> {
        self.done().await?;
        self.logout().await
    }

    /// LOGOUT.
    ///
    /// # Errors
    /// Closed without a word.
    pub async fn logout(mut self) -> Result<(), Failure> {
        self.command("LOGOUT").await?;
        self.lines.closed().await
    }

    /// Sends a command; its untagged replies when it ends in OK.
    async fn command(&mut self, command: &str) -> Result<String, Failure> {
        let tag = self.send(command).await?;
        self.replies(&tag).await
    }

    async fn replies(&mut self, tag: &str) -> Result<String, Failure> {
        let mut replies = String::new();
        loop {
            let line = self.lines.line().await?;
            if let Some(rest) = line.strip_prefix(tag) {
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
        self.lines.send(&format!("{tag} {command}\r\n")).await?;
        Ok(tag)
    }
}

/// The number in `* 5 EXISTS`.
fn exists(line: &str) -> Option<usize> {
    line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok()
}

const REPLIES_MAX: usize = 256 * 1024;
