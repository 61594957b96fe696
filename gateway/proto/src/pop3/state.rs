//! The dialogue with the client.
//!
//! ```text
//!   greet ──► AwaitCommand ──AUTH──► AwaitSaslData
//!               │   ▲  ▲ └──USER, PASS──┐    │
//!               │   │  └── no, cancel ──┼────┤
//!   STLS     ◄──┤   └──── denied ── AwaitAnswer ◄┘
//!   close    ◄──┘                       │
//!                                       └── opened ──► hand-off
//! ```

use std::{sync::Arc, time::Instant};

use crate::{
    Answer, CloseReason, Credential, Dialogue, InputBuf, LoginRequest, Mechanism, SecretText, Step,
    line::{self, LINE_BYTES_MAX, LineScan},
    patience::{self, Exhausted, Patience},
    sasl::{self, Exchange, Flaw, SaslError, Turn},
};

use super::{
    Pop3Profile,
    command::{self, Command},
    reply::{self, Replies},
};

/// Longest AUTH line, bytes: the words and the longest SASL message.
const AUTH_BYTES_MAX: usize = sasl::LINE_BYTES_MAX + 128;

/// A client's talk before login.
#[derive(Debug)]
pub struct Pop3Dialogue {
    session: Session,
    awaiting: Awaiting,
}

#[derive(Debug)]
struct Session {
    profile: Arc<Pop3Profile>,
    patience: Patience,
    /// What USER said, until PASS.
    user: Option<String>,
    in_clear: Option<String>,
}

/// What the dialogue waits for.
#[derive(Debug)]
enum Awaiting {
    Command(LineScan),
    SaslData { exchange: Exchange, scan: LineScan },
    Answer(Mechanism),
}

/// What one line led to.
enum Next {
    More(Awaiting),
    Go(Awaiting),
    Login(LoginRequest),
    Upgrade,
    Close(CloseReason),
}

impl Next {
    fn command() -> Self {
        Self::Go(Awaiting::Command(LineScan::default()))
    }
}

impl Dialogue for Pop3Dialogue {
    type Profile = Pop3Profile;

    fn greet(profile: Arc<Pop3Profile>, now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.greeting(&profile);
        Self::start(profile, replies, now)
    }

    /// The greeting is not repeated after STLS (RFC 2595 §4).
    fn after_starttls(profile: Arc<Pop3Profile>, now: Instant) -> Step<Self> {
        Self::start(profile, Replies::default(), now)
    }

    fn on_bytes(self, input: &mut InputBuf, now: Instant) -> Step<Self> {
        let Self { mut session, mut awaiting } = self;
        let mut replies = Replies::default();
        if now >= session.patience.deadline() {
            return Self { session, awaiting }.on_deadline(now);
        }
        loop {
            let next = match awaiting {
                Awaiting::Command(scan) => session.on_command_bytes(scan, input, &mut replies),
                Awaiting::SaslData { exchange, scan } => session.on_sasl_bytes(exchange, scan, input, &mut replies),
                answer @ Awaiting::Answer(_) => Next::More(answer),
            };
            awaiting = match next {
                // The driver must hear of it before anything ends the dialogue.
                Next::Go(awaiting) if session.in_clear.is_some() => return Self { session, awaiting }.wait(replies),
                Next::Go(awaiting) => awaiting,
                Next::More(awaiting) => return Self { session, awaiting }.wait(replies),
                Next::Login(login) => {
                    let deadline = session.patience.deadline();
                    let next = Self { session, awaiting: Awaiting::Answer(login.mechanism) };
                    return Step::Ask { next, reply: replies.into_bytes(), login, deadline };
                }
                Next::Upgrade => {
                    replies.ok("Begin TLS negotiation now");
                    return Step::Upgrade { reply: replies.into_bytes() };
                }
                Next::Close(reason) => return Step::Close { reply: replies.into_bytes(), reason },
            };
        }
    }

    fn on_answer(self, answer: Answer, _now: Instant) -> Step<Self> {
        let Self { mut session, awaiting } = self;
        let mut replies = Replies::default();
        let Awaiting::Answer(mechanism) = awaiting else {
            // Nothing was asked: an answer to nothing logs nobody in.
            return Self { session, awaiting }.wait(replies);
        };
        if let Answer::Opened { .. } = &answer {
            replies.ok("Logged in");
            return Step::HandOff { reply: replies.into_bytes() };
        }
        if let Some((exchange, challenge)) = Exchange::on_answer(mechanism, &answer) {
            replies.challenge(challenge);
            let awaiting = Awaiting::SaslData { exchange, scan: LineScan::default() };
            return Self { session, awaiting }.wait(replies);
        }
        replies.err(reply::refusal(&answer));
        match session.failed() {
            Next::Close(reason) => Step::Close { reply: replies.into_bytes(), reason },
            _ => Self { session, awaiting: Awaiting::Command(LineScan::default()) }.wait(replies),
        }
    }

    fn on_deadline(self, _now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.err(match &self.awaiting {
            Awaiting::Answer(_) => reply::UNAVAILABLE,
            _ => patience::DEADLINE,
        });
        Step::Close { reply: replies.into_bytes(), reason: CloseReason::Deadline }
    }

    /// Empty when a PASS came without its USER.
    fn password_in_clear(&mut self) -> Option<String> {
        self.session.in_clear.take()
    }

    fn refuse_connection() -> &'static [u8] {
        b"-ERR [SYS/TEMP] Too many connections, try again later\r\n"
    }
}

impl Pop3Dialogue {
    fn start(profile: Arc<Pop3Profile>, replies: Replies, now: Instant) -> Step<Self> {
        let patience = Patience::new(now, profile.login_deadline);
        let session = Session { profile, patience, user: None, in_clear: None };
        Self { session, awaiting: Awaiting::Command(LineScan::default()) }.wait(replies)
    }

    fn wait(self, replies: Replies) -> Step<Self> {
        let deadline = self.session.patience.deadline();
        Step::Wait { next: self, reply: replies.into_bytes(), deadline }
    }
}

impl Session {
    fn on_command_bytes(&mut self, mut scan: LineScan, input: &mut InputBuf, replies: &mut Replies) -> Next {
        let bytes = input.as_slice();
        let line = scan.find(bytes);
        let max = if command::is_auth(bytes) { AUTH_BYTES_MAX } else { LINE_BYTES_MAX };
        if line.map_or(bytes.len(), |line| line.length) > max {
            replies.err("Line too long");
            return Next::Close(CloseReason::TooLong);
        }
        let Some(line) = line else { return Next::More(Awaiting::Command(scan)) };
        let text = bytes.get(..line.text).unwrap_or_default();
        if self.patience.is_fresh() && line::is_http(text) {
            return Next::Close(CloseReason::WrongProtocol);
        }
        let command = command::command(text);
        input.consume(line.length);
        match command {
            Err(complaint) => {
                self.user = None;
                replies.err(complaint);
                self.erred()
            }
            Ok(Command::Stls) if !self.profile.tls && !input.is_empty() => {
                // A command injected in front of TLS would be answered behind it (RFC 2595 §2.2).
                replies.err("Nothing may follow STLS");
                Next::Close(CloseReason::BytesBeforeTls)
            }
            Ok(command) => self.on_command(command, replies),
        }
    }

    fn on_command(&mut self, command: Command, replies: &mut Replies) -> Next {
        // A name waits for the command that follows it, and for no other.
        let user = self.user.take();
        match command {
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.profile.tls => {
                self.before_tls(command, user);
                replies.err(reply::PRIVACY_REQUIRED);
                self.erred()
            }
            Command::User(_) | Command::Pass(_) if !self.profile.mechanisms.contains(Mechanism::Login) => {
                replies.err("USER is not offered");
                self.erred()
            }
            Command::User(name) => {
                self.user = Some(sasl::text(&name));
                // The same for every name: who has an account is nobody's business.
                replies.ok("Password?");
                self.counted()
            }
            Command::Pass(password) => self.on_pass(user, &password, replies),
            Command::Auth { mechanism, initial } => {
                match mechanism.filter(|mechanism| self.profile.mechanisms.contains(*mechanism)) {
                    Some(mechanism) => {
                        let turn = Exchange::start(mechanism, initial.as_ref().map(|initial| initial.as_slice()));
                        self.on_turn(turn, replies)
                    }
                    None => {
                        replies.err("Unsupported mechanism");
                        self.erred()
                    }
                }
            }
            Command::AuthList => {
                replies.mechanisms(&self.profile);
                self.counted()
            }
            Command::Capa => {
                replies.capabilities(&self.profile);
                self.user = user;
                self.counted()
            }
            Command::Quit => {
                replies.ok("Bye");
                Next::Close(CloseReason::Logout)
            }
            Command::Stls if self.profile.tls => {
                replies.err("TLS is already up");
                self.erred()
            }
            Command::Stls => Next::Upgrade,
        }
    }

    /// Whose credential a refused command carried. A program that sends USER and PASS in one flight tells both.
    fn before_tls(&mut self, command: Command, user: Option<String>) {
        match command {
            Command::User(name) => self.user = Some(sasl::text(&name)),
            Command::Pass(_) => self.in_clear = Some(user.unwrap_or_default()),
            Command::Auth { mechanism: Some(mechanism), initial: Some(initial) } => {
                self.in_clear = sasl::name_in_clear(mechanism, &initial);
            }
            _ => {}
        }
    }

    fn on_pass(&mut self, user: Option<String>, password: &[u8], replies: &mut Replies) -> Next {
        let Some(username) = user else {
            replies.err("USER comes first");
            return self.erred();
        };
        let login = LoginRequest {
            mechanism: Mechanism::Login,
            username,
            credential: Credential::Password(SecretText::new(sasl::text(password))),
            authzid: None,
        };
        let turn = match sasl::flaw(&login) {
            None => Turn::Login(login),
            Some(Flaw::Illegal) => Turn::Invalid(SaslError::Illegal),
            Some(Flaw::Hopeless) => Turn::Hopeless,
        };
        self.on_turn(turn, replies)
    }

    fn on_sasl_bytes(
        &mut self,
        exchange: Exchange,
        mut scan: LineScan,
        input: &mut InputBuf,
        replies: &mut Replies,
    ) -> Next {
        let bytes = input.as_slice();
        let line = scan.find(bytes);
        if line.map_or(bytes.len(), |line| line.length) > sasl::LINE_BYTES_MAX + 2 {
            replies.err("Line too long");
            return Next::Close(CloseReason::TooLong);
        }
        let Some(line) = line else {
            return Next::More(Awaiting::SaslData { exchange, scan });
        };
        let turn = exchange.on_line(bytes.get(..line.text).unwrap_or_default());
        input.consume(line.length);
        self.on_turn(turn, replies)
    }

    fn on_turn(&mut self, turn: Turn, replies: &mut Replies) -> Next {
        match turn {
            Turn::Challenge { next, challenge } => {
                replies.challenge(challenge);
                Next::Go(Awaiting::SaslData { exchange: next, scan: LineScan::default() })
            }
            Turn::Login(login) => Next::Login(login),
            Turn::Cancelled => {
                replies.err("AUTH cancelled");
                self.counted()
            }
            Turn::Invalid(SaslError::Illegal) => {
                replies.err("NUL or line end in a name or password");
                self.erred()
            }
            Turn::Invalid(_) => {
                replies.err("Invalid SASL message");
                self.erred()
            }
            Turn::Hopeless | Turn::Denied => {
                replies.err(reply::INVALID_CREDENTIALS);
                self.failed()
            }
        }
    }

    fn counted(&mut self) -> Next {
        goes_on(self.patience.on_command())
    }

    fn erred(&mut self) -> Next {
        goes_on(self.patience.on_error())
    }

    fn failed(&mut self) -> Next {
        goes_on(self.patience.on_failure())
    }
}

/// POP3 has no reply that answers nothing: at the end of our patience we close without a word.
fn goes_on(patience: Result<(), Exhausted>) -> Next {
    match patience {
        Ok(()) => Next::command(),
        Err(Exhausted { reason, .. }) => Next::Close(reason),
    }
}
