//! POP3 before login (RFC 1939 §4): the client's side ([`Pop3Dialogue`]) and our own login at the cell ([`CellLogin`]).

use std::{sync::Arc, time::Duration};

use crate::sasl::Mechanisms;

mod backend;
mod command;
mod reply;
mod state;
#[cfg(test)]
mod tests;

pub use backend::{CellLogin, CellProfile, Introduction};
pub use state::Pop3Dialogue;

/// What a listener offers.
#[derive(Clone, Debug)]
pub struct Pop3Profile {
    /// TLS is up. Without it no login is taken and STLS is offered.
    pub tls: bool,
    /// Ways to log in that are offered under TLS.
    pub mechanisms: Mechanisms,
    /// Lines of CAPA that all cells have besides our own, such as `UIDL`: what is told before login must hold behind it
    /// (RFC 2449 §5).
    pub extra_capabilities: Arc<[String]>,
    /// From greeting to login.
    pub login_deadline: Duration,
    /// Shown in the greeting.
    pub hostname: Arc<str>,
}
