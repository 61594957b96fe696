//! A POP3 client over TLS that checks every answer.

use super::{Failure, Target, lines::Secure};
use crate::demo::DemoUser;

/// A connection.
#[derive(Debug)]
pub struct Pop3Client(Secure);

impl Pop3Client {
    /// Connects over TLS and reads the greeting.
    ///
    /// # Errors
    /// No connection, bad TLS, or a server that is not ready.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        let mut client = Self(Secure::connect(target.pop3s, &target.mail_tls).await?);
        client.ok().await?;
        Ok(client)
    }

    /// USER and PASS.
    ///
    /// # Errors
    /// Refused, told to try later, or closed.
    pub async fn login(&mut self, user: &DemoUser) -> Result<(), Failure> {
        self.command(&format!("USER {}", user.address)).await?;
        self.command(&format!("PASS {}", user.password)).await.map(|_| ())
    }

    /// STAT and UIDL as a mail program that asks for mail does, and checks that the first message greets `user`.
    ///
    /// # Errors
    /// Refused, closed, numbers that disagree, or somebody else's mail.
    pub async fn poll(&mut self, user: &DemoUser) -> Result<(), Failure> {
        let said = self.command("STAT").await?;
        let count: Option<usize> = said.split(' ').next().and_then(|count| count.parse().ok());
        self.command("UIDL").await?;
        let listed = self.lines().await?.lines().count();
        if count != Some(listed) {
            return Err(Failure::wrong(format!("STAT says {said}, UIDL lists {listed}")));
        }
        self.command("RETR 1").await?;
        if self.lines().await?.contains(&format!("Hello {}.", user.address)) {
            Ok(())
        } else {
            Err(Failure::wrong("the first message does not greet its user"))
        }
    }

    /// QUIT.
    ///
    /// # Errors
    /// Closed without a word.
    pub async fn quit(mut self) -> Result<(), Failure> {
        self.command("QUIT").await?;
        self.0.closed().await
    }

    async fn command(&mut self, command: &str) -> Result<String, Failure> {
        self.0.send(&format!("{command}\r\n")).await?;
        self.ok().await
    }

    async fn ok(&mut self) -> Result<String, Failure> {
        let line = self.0.line().await?;
        match line.strip_prefix("+OK") {
            Some(said) => Ok(said.trim_start().to_owned()),
            None if line.contains("[SYS/TEMP]") || line.contains("[IN-USE]") || line.contains("[LOGIN-DELAY]") => {
                Err(Failure::new("later", line))
            }
            None => Err(Failure::new("refused", line)),
        }
    }

    /// The lines to the dot.
    async fn lines(&mut self) -> Result<String, Failure> {
        let mut all = String::new();
        loop {
            let line = self.0.line().await?;
            if line == "." {
                return Ok(all);
            }
            if all.len() < LINES_BYTES_MAX {
                all.push_str(line.strip_prefix('.').unwrap_or(&line));
                all.push('\n');
            }
        }
    }
}

const LINES_BYTES_MAX: usize = 256 * 1024;
