//! Auth tokens of Zimbra cells: the gateway vouches for a user by PreAuth and is given a token to enter the cell with, so
//! that the user's password goes no further than here.
//!
//! ```text
//!   login ──► kept token? ──► refused lately? ──► AuthRequest (SOAP as JSON, PreAuth) ──► token, kept for its life
//! ```
//! [`preauth`] makes the question and reads the answer, [`exchange`] carries them, [`tokens`] keeps what was given, and
//! [`door`] says when a cell must not be asked: Zimbra counts a bad PreAuth like a wrong password, so a wrong key or clock
//! would lock users out one by one.

mod door;
mod exchange;
mod preauth;
mod tokens;

pub(crate) use self::tokens::{Token, TokenError, Tokens};
