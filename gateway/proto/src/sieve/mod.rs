//! ManageSieve before login (RFC 5804): the client's side ([`SieveDialogue`]) and our own login at the cell
//! ([`CellLogin`]).
//!
//! A client learns what a server can from the list in the greeting, some never ask again: [`SieveProfile`] should name
//! what every cell has. Who asks behind the login is answered by the cell, with a list that holds at least as much.

use std::{sync::Arc, time::Duration};

use crate::sasl::Mechanisms;

mod backend;
mod command;
mod reply;
mod state;
#[cfg(test)]
mod tests;

pub use backend::{CellLogin, CellProfile};
pub use state::SieveDialogue;

/// What a listener offers.
#[derive(Clone, Debug)]
pub struct SieveProfile {
    /// TLS is up. Without it no login is taken and STARTTLS is offered.
    pub tls: bool,
    /// Ways to log in that are offered under TLS. ManageSieve has no login command of its own.
    pub mechanisms: Mechanisms,
    /// Sieve extensions that all cells have.
    pub sieve_extensions: Arc<[String]>,
    /// Other capabilities all cells have, such as `MAXREDIRECTS` with its value (RFC 5804 §1.7).
    pub extra_capabilities: Arc<[(String, String)]>,
    /// From greeting to login.
    pub login_deadline: Duration,
    /// Shown in the greeting.
    pub hostname: Arc<str>,
}
