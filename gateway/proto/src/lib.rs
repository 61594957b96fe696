//! Protocols without input or output: bytes and time in, steps out.
//!
//! A dialogue is what a protocol says before the hand-off. It owns no socket, reads no clock and knows no configuration;
//! one driver in the gateway meets the sockets. Lines and literals are split, with a bound on both, before parsing.

pub mod cell;
pub mod dialogue;
#[cfg(test)]
mod hazards;
pub mod http1;
pub mod imap;
mod input;
mod line;
mod patience;
pub mod pop3;
#[cfg(any(test, feature = "properties"))]
pub mod properties;
pub mod proxy_header;
pub mod sasl;
#[cfg(test)]
mod secrets;
pub mod sieve;
pub mod smtp;
#[cfg(test)]
mod testing;

pub use dialogue::{Answer, CloseReason, Credential, Dialogue, LoginRequest, Mechanism, Step};
pub use input::{InputBuf, SecretText};
