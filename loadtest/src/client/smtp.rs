//! A client that submits mail over TLS and checks every answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Failure, Target, lines::Secure};
use crate::demo::DemoUser;

/// A connection.
#[derive(Debug)]
pub struct SmtpClient(Secure);

impl SmtpClient {
    /// Connects over TLS, reads the greeting and says EHLO.
    ///
    /// # Errors
    /// No connection, bad TLS, or a server that is not ready.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        let mut client = Self(Secure::connect(target.submissions, &target.mail_tls).await?);
        client.reply("220").await?;
        client.command("EHLO loadtest.example", "250").await?;
        Ok(client)
    }

    /// AUTH PLAIN.
    ///
    /// # Errors
    /// Refused, told to try later, or closed.
    pub async fn login(&mut self, user: &DemoUser) -> Result<(), Failure> {
        let message = STANDARD.encode(format!("\0{}\0{}", user.address, user.password));
        self.command(&format!("AUTH PLAIN {message}"), "235").await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Refused, told to try later, or closed.
    pub async fn submit(&mut self, from: &DemoUser, to: &DemoUser, subject: &str) -> Result<(), Failure> {
        self.command(&format!("MAIL FROM:<{}>", from.address), "250").await?;
        self.command(&format!("RCPT TO:<{}>", to.address), "250").await?;
        self.command("DATA", "354").await?;
        let (from, to) = (&from.address, &to.address);
        let text = "This message was sent by a rehearsal.\r\n..It has a line that begins with a dot.\r\n";
        self.command(&format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\n{text}."), "250").await
    }

    /// QUIT.
    ///
    /// # Errors
    /// Closed without a word.
    pub async fn quit(mut self) -> Result<(), Failure> {
        self.command("QUIT", "221").await?;
        self.0.closed().await
    }

    async fn command(&mut self, command: &str, code: &str) -> Result<(), Failure> {
        self.0.send(&format!("{command}\r\n")).await?;
        self.reply(code).await
    }

    /// One reply, of all its lines.
    async fn reply(&mut self, code: &str) -> Result<(), Failure> {
        loop {
            let line = self.0.line().await?;
            match line.strip_prefix(code) {
                Some(rest) if rest.starts_with('-') => {}
                Some(_) => return Ok(()),
                None if line.starts_with('4') => return Err(Failure::new("later", line)),
                None => return Err(Failure::new("refused", line)),
            }
        }
    }
}
