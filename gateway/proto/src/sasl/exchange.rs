//! The server's side of one exchange.
//!
//! ```text
//!   start ──► First ──message──► login            a token denied ──► Dummy ──anything──► failed
//!     │         └──LOGIN: name──► Password ──► login
//!     └── with an initial response
//! ```
//! `*` cancels in every state (RFC 9051 §6.2.2, RFC 4954 §4, RFC 5034 §4, RFC 5804 §2.1).

use crate::{Answer, Credential, LoginRequest, Mechanism, SecretText};

use super::{Flaw, LINE_BYTES_MAX, SaslError, base64, flaw, oauth, plain};

/// `Username:` and `Password:`, as programs expect them to the letter.
const USERNAME_PROMPT: &str = "VXNlcm5hbWU6";
const PASSWORD_PROMPT: &str = "UGFzc3dvcmQ6";

/// An exchange that waits for the client's next line.
#[derive(Debug)]
pub struct Exchange {
    awaiting: Awaiting,
}

#[derive(Debug)]
enum Awaiting {
    First(Mechanism),
    /// LOGIN: the name was told.
    Password {
        username: String,
    },
    /// The token was denied, the client has been told why and must say something (RFC 7628 §3.2.3).
    Dummy,
}

/// What a line led to.
#[derive(Debug)]
pub enum Turn {
    /// Send the challenge and wait for a line.
    Challenge {
        /// Takes that line.
        next: Exchange,
        /// In base64; may be empty.
        challenge: &'static str,
    },
    /// The login to decide. It has no flaw: names, secret and their lengths are fit to ask about.
    Login(LoginRequest),
    /// The client cancelled.
    Cancelled,
    /// The message cannot be read: a bad command. Costs only this exchange.
    Invalid(SaslError),
    /// Nobody can have such a credential: answer like a wrong password.
    Hopeless,
    /// The end of an exchange whose login was denied before.
    Denied,
}

impl Exchange {
    /// Begins. `initial` is the initial response as it was sent: base64, or `=` for an empty one.
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>) -> Turn {
        let next = Self { awaiting: Awaiting::First(mechanism) };
        match (mechanism, initial) {
            // Here it may carry the name, though the mechanism (draft-murchison-sasl-login) has no initial response.
            (Mechanism::SaslLogin, None | Some(b"" | b"=")) => Turn::Challenge { next, challenge: USERNAME_PROMPT },
            (_, None) => Turn::Challenge { next, challenge: "" },
            (_, Some(initial)) => next.on_message(initial),
        }
    }

    /// The client's next line, without its end or quotes.
    pub fn on_line(self, line: &[u8]) -> Turn {
        match self.awaiting {
            // Whatever it says, `*` too: the answer is the refusal.
            Awaiting::Dummy => Turn::Denied,
            _ if line == b"*" => Turn::Cancelled,
            _ => self.on_message(line),
        }
    }

    /// A login of this mechanism got this answer: whether the exchange goes on before the refusal is said. It does
    /// when a token was denied, and only then: a program that hears of a bad token drops it.
    pub fn on_answer(mechanism: Mechanism, answer: &Answer) -> Option<(Self, &'static str)> {
        let challenge = match (mechanism, answer) {
            (Mechanism::XOAuth2, Answer::Denied | Answer::Refused) => oauth::XOAUTH2_FAILURE,
            (Mechanism::OAuthBearer, Answer::Denied | Answer::Refused) => oauth::OAUTHBEARER_FAILURE,
            _ => return None,
        };
        Some((Self { awaiting: Awaiting::Dummy }, challenge))
    }

    fn on_message(self, line: &[u8]) -> Turn {
        if line.len() > LINE_BYTES_MAX {
            return Turn::Invalid(SaslError::TooLong);
        }
        let message = match base64::decode(line) {
            Ok(message) => message,
            Err(error) => return Turn::Invalid(error),
        };
        let login = match self.awaiting {
            Awaiting::Dummy => return Turn::Denied,
            Awaiting::First(Mechanism::SaslLogin) => {
                let next = Self { awaiting: Awaiting::Password { username: plain::text(&message) } };
                return Turn::Challenge { next, challenge: PASSWORD_PROMPT };
            }
            Awaiting::Password { username } => Ok(LoginRequest {
                mechanism: Mechanism::SaslLogin,
                username,
                credential: Credential::Password(SecretText::new(plain::text(&message))),
                authzid: None,
            }),
            Awaiting::First(Mechanism::XOAuth2) => oauth::decode_xoauth2(&message),
            Awaiting::First(Mechanism::OAuthBearer) => oauth::decode_oauthbearer(&message),
            // RFC 4422 A.1: the message is the authzid, or empty when the certificate's user is meant.
            Awaiting::First(Mechanism::External) => Ok(LoginRequest {
                mechanism: Mechanism::External,
                username: String::new(),
                credential: Credential::Certificate,
                authzid: (!message.is_empty()).then(|| plain::text(&message)),
            }),
            Awaiting::First(Mechanism::Plain | Mechanism::Login) => {
                plain::of_message(&message).map(|plain| LoginRequest {
                    mechanism: Mechanism::Plain,
                    username: plain.authcid,
                    credential: Credential::Password(plain.password),
                    authzid: plain.authzid,
                })
            }
        };
        match login {
            Err(error) => Turn::Invalid(error),
            Ok(login) => match flaw(&login) {
                None => Turn::Login(login),
                Some(Flaw::Illegal) => Turn::Invalid(SaslError::Illegal),
                Some(Flaw::Hopeless) => Turn::Hopeless,
            },
        }
    }
}

/// Whose secret an initial response carries, for one that came before TLS. None when it holds no secret.
pub(crate) fn name_in_clear(mechanism: Mechanism, initial: &[u8]) -> Option<String> {
    match Exchange::start(mechanism, Some(initial)) {
        Turn::Login(LoginRequest { credential: Credential::Certificate, .. }) => None,
        Turn::Login(login) => Some(login.username),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
