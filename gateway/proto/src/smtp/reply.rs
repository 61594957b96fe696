//! What we say ourselves. Nothing of what a client sent comes back.

pub(crate) const ILLEGAL_LINE: &str = "500 5.5.2 A command holds no control characters";
pub(crate) const LINE_TOO_LONG: &str = "500 5.5.2 Line too long";
pub(crate) const UNKNOWN_COMMAND: &str = "500 5.5.1 Command not recognized";
pub(crate) const NO_ARGUMENTS: &str = "501 5.5.4 No arguments here";
pub(crate) const NAME_WANTED: &str = "501 5.5.4 Say your name";
pub(crate) const NOT_HERE: &str = "502 5.5.1 Command not implemented";
/// RFC 5321 §3.5.3: says nothing about anybody.
pub(crate) const VRFY: &str = "252 2.1.5 Send mail, and you will hear";
pub(crate) const HELP: &str = "214 2.0.0 See RFC 5321, or ask your institution";
/// To a client that speaks as a proxy, in every state.
pub(crate) const NO_PROXY: &str = "550 5.7.0 Not for you";
pub(crate) const TOO_MANY_ERRORS: &str = "421 4.7.0 Too many errors";
/// Unknown user, wrong password, locked account: all alike.
pub(crate) const INVALID_CREDENTIALS: &str = "535 5.7.8 Authentication credentials invalid";
pub(crate) const UNAVAILABLE: &str = "454 4.7.0 Login is not possible now, try again later";
/// RFC 3463 §3.4: the system is not accepting, for a while.
pub(crate) const HELD: &str = "451 4.3.2 The mailbox is being moved, try again in a minute";
/// RFC 4954 §4, RFC 3463 §3.8: this mechanism does not work for this user.
pub(crate) const PASSWORD_NEEDED: &str = "504 5.7.4 This account opens to its password only, log in with it";
pub(crate) const TLS_IS_UP: &str = "503 5.5.1 TLS is already up";
