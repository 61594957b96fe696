//! Single logout (profiles §4.4): what an IdP sends is received and judged, what we send is written and signed.
//!
//! ```text
//! query, form field or envelope → Received → one tree → the one message in its place → issuer → signature
//!     → destination, times → name and session indexes, or status
//! ```
//!
//! Nothing is believed that the IdP did not sign: a logout that anybody could ask for is a way to throw users out.

mod received;
mod refusal;
mod request;
mod response;
mod write;

use std::time::Duration;

pub use self::{
    received::{Channel, Kind, Received},
    refusal::LogoutRefusal,
    request::{Asker, Faulted, LogoutRequest, accept_request},
    response::{ExpectedLogout, LogoutOutcome, accept_response},
    write::{LogoutStatus, Reply},
};

/// How old a message may be that names no end: a redirect takes seconds, a chain of services a minute or two.
const AGE_MAX: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
#[path = "tests/logout.rs"]
mod tests;
