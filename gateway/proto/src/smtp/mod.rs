//! Submission (RFC 6409): the client before login, our own login at the cell, and the relay that never becomes opaque.
//!
//! ```text
//!   client ─► SubmissionDialogue ─ AUTH ─► decision ─► CellLogin: EHLO, STARTTLS, XCLIENT, AUTH ─► 235 to the client
//!                                                                                                      │
//!   client ─► SubmissionRelay: commands ──────────── written anew, or answered here ───────────► cell ◄┘
//!                              DATA, 354 ─► text ─── DataScanner: CRLF . CRLF and nothing like it ─► cell
//!                              the cell's word ◄──── one Message told ◄───────────────────────── cell
//! ```

use std::{sync::Arc, time::Duration};

use crate::sasl::Mechanisms;

mod backend;
mod cell_reply;
mod command;
mod ehlo;
mod relay;
mod reply;
mod scan;
mod state;
#[cfg(test)]
mod tests;

pub use backend::{CellLogin, CellProfile, ClientFacts};
pub use ehlo::Extensions;
pub use relay::{
    COMMAND_DEADLINE, DOT_DEADLINE, Message, Question, RelayEnd, RelayEvent, RelayProfile, SubmissionRelay, Totals,
    Verdict,
};
pub use scan::{BadByte, DataScanner, Found, LineEnds, Scanned};
pub use state::SubmissionDialogue;

/// What a listener offers.
#[derive(Clone, Debug)]
pub struct SubmissionProfile {
    /// TLS is up. Without it no login is taken and STARTTLS is offered.
    pub tls: bool,
    /// Ways to log in that are offered under TLS.
    pub mechanisms: Mechanisms,
    /// What all submission cells have in common ([`Extensions::common`]): a client is shown its list before its cell is
    /// known.
    pub extensions: Extensions,
    /// From greeting to login.
    pub login_deadline: Duration,
    /// Shown in the greeting and to EHLO.
    pub hostname: Arc<str>,
}
