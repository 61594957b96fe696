//! Clients as users have them: a browser without JavaScript and mail programs, all strict about what they are told.

mod browser;
mod imap;
mod lines;
mod pop3;
mod sieve;
mod smtp;
mod target;

pub use browser::{Browser, form_fields};
pub use imap::ImapClient;
pub use pop3::Pop3Client;
pub use sieve::SieveClient;
pub use smtp::SmtpClient;
pub use target::{Target, TargetError, loopback, tls_of};

use std::io;

/// Why a step failed: a short kind to count, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Failure {
    /// `connect`, `tls`, `closed`, `timeout`, `refused`, `later`, `wrong answer`, `dropped start`.
    pub kind: &'static str,
    /// What was seen; the first one of a kind is shown.
    pub detail: String,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The answer came and says something that cannot be.
    pub fn wrong(detail: impl Into<String>) -> Self {
        Self::new("wrong answer", detail)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new("closed", error.to_string())
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let kind = if error.is_timeout() {
            "timeout"
        } else if error.is_connect() {
            "connect"
        } else {
            "closed"
        };
        let mut detail = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            detail = format!("{detail}: {cause}");
            source = cause.source();
        }
        Self::new(kind, detail)
    }
}
