//! SASL as a server (RFC 4422): one exchange that every protocol carries in its own lines.
//!
//! [`Exchange`] knows PLAIN, LOGIN, XOAUTH2, OAUTHBEARER and EXTERNAL. It takes lines of base64 and gives challenges in
//! base64 or the login to decide. What stands around a line (`+ `, `334 `, a quoted string) is the protocol's.

mod base64;
mod bounds;
mod exchange;
mod mechanism;
mod oauth;
mod plain;

pub(crate) use bounds::{Flaw, flaw};
pub(crate) use exchange::name_in_clear;
pub use exchange::{Exchange, Turn};
pub use mechanism::Mechanisms;
pub use plain::{Plain, decode_plain, encode_plain, text};

/// Longest line that carries a SASL message, bytes (RFC 9051 names no bound, RFC 4954 §4 asks for 12,288).
pub const LINE_BYTES_MAX: usize = 12_288;

/// A SASL message that cannot be taken. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// Not base64 as RFC 4648 §4 wants it: padded, no stray bits, nothing else.
    #[error("not valid base64")]
    Base64,
    /// PLAIN wants exactly two NULs, and none inside the three parts.
    #[error("not a PLAIN message")]
    Plain,
    /// Not what XOAUTH2 or OAUTHBEARER (RFC 7628 §3.1) looks like.
    #[error("not a token message")]
    Token,
    /// A NUL or a line end in a name, password or token: it could become a command at the cell.
    #[error("a NUL or a line end in a credential")]
    Illegal,
    /// Over [`LINE_BYTES_MAX`].
    #[error("too long")]
    TooLong,
}
