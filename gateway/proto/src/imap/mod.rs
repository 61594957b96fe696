//! IMAP before login (RFC 9051 §3): the client's side ([`ImapDialogue`]) and our own login at the cell ([`CellLogin`]).

use std::{sync::Arc, time::Duration};

use crate::sasl::Mechanisms;

mod backend;
mod command;
mod reply;
mod state;
#[cfg(test)]
mod tests;

pub use backend::{CellLogin, CellProfile};
pub use state::ImapDialogue;

/// What a listener offers.
#[derive(Clone, Debug)]
pub struct ImapProfile {
    /// TLS is up. Without it no login is taken and STARTTLS is offered.
    pub tls: bool,
    /// Ways to log in that are offered under TLS.
    pub mechanisms: Mechanisms,
    /// Capabilities all cells have that are shown before login besides our own, such as `IDLE`.
    pub extra_capabilities: Arc<[String]>,
    /// From greeting to login.
    pub login_deadline: Duration,
    /// Shown in the greeting and to ID.
    pub hostname: Arc<str>,
}
