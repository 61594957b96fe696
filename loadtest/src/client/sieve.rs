//! A ManageSieve client with STARTTLS that checks every answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Failure, Target,
    lines::{Lines, Secure},
};
use crate::demo::DemoUser;

/// A connection.
#[derive(Debug)]
pub struct SieveClient(Secure);

impl SieveClient {
    /// Connects, starts TLS and reads what the server can do.
    ///
    /// # Errors
    /// No connection, bad TLS, or a server that is not ready.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        let mut lines = Lines::plain(target.sieve).await?;
        ok(&mut lines).await?;
        lines.send("STARTTLS\r\n").await?;
        ok(&mut lines).await?;
        let mut lines = lines.secured(&target.mail_tls).await?;
        let said = ok(&mut lines).await?;
        if said.contains("\"SASL\"") { Ok(Self(lines)) } else { Err(Failure::wrong("no login is offered behind TLS")) }
    }

    /// AUTHENTICATE PLAIN.
    ///
    /// # Errors
    /// Refused, told to try later, or closed.
    pub async fn login(&mut self, user: &DemoUser) -> Result<(), Failure> {
        let message = STANDARD.encode(format!("\0{}\0{}", user.address, user.password));
        self.command(&format!("AUTHENTICATE \"PLAIN\" \"{message}\"")).await.map(|_| ())
    }

    /// Puts a script, makes it active, and checks that it is there as it was written.
    ///
    /// # Errors
    /// Refused, closed, or another script.
    pub async fn upload(&mut self, name: &str, script: &str) -> Result<(), Failure> {
        self.command(&format!("PUTSCRIPT \"{name}\" {{{}+}}\r\n{script}", script.len())).await?;
        self.command(&format!("SETACTIVE \"{name}\"")).await?;
        let listed = self.command("LISTSCRIPTS").await?;
        let kept = self.command(&format!("GETSCRIPT \"{name}\"")).await?;
        let wanted: Vec<&str> = script.lines().collect();
        let there = listed.lines().any(|line| line == format!("\"{name}\" ACTIVE"));
        if there && kept.lines().skip(1).take(wanted.len()).eq(wanted) {
            Ok(())
        } else {
            Err(Failure::wrong("the script is not there as it was written"))
        }
    }

    /// LOGOUT.
    ///
    /// # Errors
    /// Closed without a word.
    pub async fn logout(mut self) -> Result<(), Failure> {
        self.command("LOGOUT").await?;
        self.0.closed().await
    }

    async fn command(&mut self, command: &str) -> Result<String, Failure> {
        self.0.send(&format!("{command}\r\n")).await?;
        ok(&mut self.0).await
    }
}

/// Everything before the line that is OK. Scripts sent here have no line that reads like one.
async fn ok<S: AsyncRead + AsyncWrite + Unpin>(lines: &mut Lines<S>) -> Result<String, Failure> {
    let mut said = String::new();
    loop {
        let line = lines.line().await?;
        match line.split(' ').next() {
            Some("OK") => return Ok(said),
            Some("NO" | "BYE") if line.contains("(TRYLATER)") => return Err(Failure::new("later", line)),
            Some("NO" | "BYE") => return Err(Failure::new("refused", line)),
            _ if said.len() > SAID_BYTES_MAX => return Err(Failure::wrong("too many lines")),
            _ => {
                said.push_str(&line);
                said.push('\n');
            }
        }
    }
}

const SAID_BYTES_MAX: usize = 256 * 1024;
