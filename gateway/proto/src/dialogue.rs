//! The shape every dialogue has: a state is consumed with an input and becomes a [`Step`].

use std::{sync::Arc, time::Instant};

use crate::{InputBuf, SecretText};

/// A protocol before the hand-off.
///
/// After `on_answer`, and after [`Dialogue::password_in_clear`] told a name, the driver calls `on_bytes` again when
/// something waits in the input: the dialogue stopped in the middle of it.
pub trait Dialogue: Sized {
    /// What a listener offers.
    type Profile;

    /// The greeting. `now` starts the login deadline.
    fn greet(profile: Arc<Self::Profile>, now: Instant) -> Step<Self>;

    /// A fresh dialogue behind STARTTLS, with a profile whose TLS is up: nothing said before counts.
    fn after_starttls(profile: Arc<Self::Profile>, now: Instant) -> Step<Self>;

    /// Bytes came, or some may wait from before.
    fn on_bytes(self, input: &mut InputBuf, now: Instant) -> Step<Self>;

    /// The login was decided.
    fn on_answer(self, answer: Answer, now: Instant) -> Step<Self>;

    /// The deadline passed.
    fn on_deadline(self, now: Instant) -> Step<Self>;

    /// The name under which a credential was sent before TLS, as typed, told once and at most one at a time. The login
    /// was refused; the credential has been on the wire for all to read, which its owner should hear of. When the
    /// same command ended the dialogue nobody is left to tell it.
    fn password_in_clear(&mut self) -> Option<String>;

    /// The reply that refuses a connection before any dialogue (limits).
    fn refuse_connection() -> &'static [u8];
}

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
    /// authcid. Empty when a certificate, or a token sent without a name, has to tell who it is.
    pub username: String,
    /// What proves it.
    pub credential: Credential,
    /// authzid, when one was sent that differs from the user name: refused unless allowed.
    pub authzid: Option<String>,
}

/// What proves who the client is.
#[derive(Debug)]
pub enum Credential {
    /// A password; never empty.
    Password(SecretText),
    /// A bearer token (RFC 6750); never empty. A bad one is no wrong password: it locks nobody out.
    Token(SecretText),
    /// The certificate of the TLS handshake, which the driver knows.
    Certificate,
}

/// How a client logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// The protocol's own command (IMAP `LOGIN`, POP3 `USER` and `PASS`).
    Login,
    /// SASL PLAIN (RFC 4616).
    Plain,
    /// SASL LOGIN (draft-murchison-sasl-login).
    SaslLogin,
    /// SASL XOAUTH2: a bearer token.
    XOAuth2,
    /// SASL OAUTHBEARER (RFC 7628): a bearer token.
    OAuthBearer,
    /// SASL EXTERNAL (RFC 4422 appendix A): the client's certificate.
    External,
}

/// What became of a login.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Allowed, and the cell is open and logged in.
    Opened {
        /// The cell's capability list after login as it sent it (without `CAPABILITY`), when it sent one. Of use to
        /// IMAP only: the others' clients ask.
        capability: Option<String>,
    },
    /// Wrong credential, unknown user: all alike.
    Denied,
    /// The account may not log in.
    Refused,
    /// Directory or cell away: try later.
    Unavailable,
    /// Too many failures: try later.
    Limited,
    /// The mailbox is being moved: try later.
    Held,
    /// The user has too many sessions open: end some, or try later.
    Crowded,
    /// Proven without a password, and the user's cell opens to nothing else: log in by the password.
    PasswordNeeded,
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
    /// A line, a literal or the depth of a list over its bound.
    TooLong,
    /// Too many bad commands.
    TooManyErrors,
    /// Too many failed logins.
    TooManyFailures,
    /// The user has too many sessions open.
    TooManySessions,
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
            Self::TooManySessions => "too_many_sessions",
            Self::WrongProtocol => "wrong_protocol",
        }
    }
}
