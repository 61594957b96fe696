//! Submission (RFC 6409).

mod backend;
mod cell_reply;
mod command;
mod ehlo;
mod relay;
mod reply;
mod scan;
#[cfg(test)]
mod tests;

pub use crate::imap::{CellFailure, CellStep};
#[cfg(any(test, feature = "properties"))]
pub(crate) use backend::AHEAD;
pub use backend::{CellLogin, CellProfile, ClientFacts};
pub use ehlo::Extensions;
pub use relay::{
    COMMAND_DEADLINE, DOT_DEADLINE, Message, Question, RelayEnd, RelayEvent, RelayProfile, SubmissionRelay, Totals,
    Verdict,
};
pub use scan::{BadByte, DataScanner, Found, LineEnds, Scanned};
