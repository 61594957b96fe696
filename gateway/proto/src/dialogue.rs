//! The shape every dialogue has: a state is consumed with an input and becomes a [`Step`].

use std::time::Instant;

use crate::SecretText;

/// What one input led to: the dialogue's only way to reach the world. Replies are sent before anything else happens.
#[derive(Debug)]
pub enum Step<S> {
    /// Send the reply, wait for more bytes or the deadline.
    Wait {
        /// Next state.
        next: S,
        /// To the client; may be empty.
        reply: Vec<u8>,
        /// Then call `on_deadline`.
        deadline: Instant,
    },
    /// Send the reply, decide the login, come back with `on_answer`.
    Ask {
        /// Next state.
        next: S,
        /// To the client; may be empty.
        reply: Vec<u8>,
        /// The login to decide.
        login: LoginRequest,
        /// Login must be decided then; call `on_deadline`.
        deadline: Instant,
    },
    /// Send the reply, then start TLS with a fresh dialogue. Holds no state: no plaintext byte crosses into TLS.
    Upgrade {
        /// To the client.
        reply: Vec<u8>,
    },
    /// Logged in, and the cell is open: send the reply, then relay. What waits in the input belongs to the cell.
    HandOff {
        /// To the client.
        reply: Vec<u8>,
    },
    /// Send the reply and close.
    Close {
        /// To the client; may be empty.
        reply: Vec<u8>,
        /// Why.
        reason: CloseReason,
    },
}

/// A login as the client asked for it. Names are as typed; nothing is trusted yet.
#[derive(Debug)]
pub struct LoginRequest {
    /// By which mechanism.
    pub mechanism: Mechanism,
    /// authcid.
    pub username: String,
    /// Password.
    pub password: SecretText,
    /// authzid, when one was sent that differs from the user name: refused unless allowed.
    pub authzid: Option<String>,
}

/// How a client logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// The protocol's own command (IMAP `LOGIN`).
    Login,
    /// SASL PLAIN (RFC 4616).
    Plain,
}

impl Mechanism {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Plain => "plain",
        }
    }
}

/// What became of a login.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Allowed, and the cell is open and logged in.
    Opened {
        /// The cell's capability list after login as it sent it (without `CAPABILITY`), when it sent one.
        capability: Option<String>,
    },
    /// Wrong credential, unknown user: all alike.
    Denied,
    /// The account may not log in.
    Refused,
    /// Directory or cell away: try later.
    Unavailable,
    /// Too many failures or sessions: try later.
    Limited,
}

/// Why a dialogue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// LOGOUT, QUIT.
    Logout,
    /// No login in time.
    Deadline,
    /// Bytes waited behind STARTTLS.
    BytesBeforeTls,
    /// A line or literal over its bound.
    TooLong,
    /// Too many bad commands.
    TooManyErrors,
    /// Too many failed logins.
    TooManyFailures,
    /// Another protocol (an HTTP request line).
    WrongProtocol,
}

impl CloseReason {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Deadline => "deadline",
            Self::BytesBeforeTls => "bytes_before_tls",
            Self::TooLong => "too_long",
            Self::TooManyErrors => "too_many_errors",
            Self::TooManyFailures => "too_many_failures",
            Self::WrongProtocol => "wrong_protocol",
        }
    }
}
