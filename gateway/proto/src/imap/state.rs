//! The dialogue with the client.
//!
//! ```text
//!   greet ──► AwaitCommand ──AUTHENTICATE──► AwaitSaslData
//!               │   ▲  ▲ └──────LOGIN────┐        │
//!               │   │  └── no, cancel ───┼────────┤
//!   STARTTLS ◄──┤   └──── denied ──── AwaitAnswer ◄┘
//!   close    ◄──┘                        │
//!                                        └── opened ──► hand-off
//! ```
//! Whatever trickles in, the time from the greeting to the login is bounded, and so are commands, errors and failures.

use std::{sync::Arc, time::Instant};

use crate::{
    Answer, CloseReason, Credential, Dialogue, InputBuf, LoginRequest, Mechanism, SecretText, Step,
    line::{self, LINE_BYTES_MAX, LITERAL_BYTES_MAX, LITERALS_MAX, LineScan, Piece, Split, Splitter},
    patience::{self, Exhausted, Patience},
    sasl::{self, Exchange, Flaw, SaslError, Turn},
};

use super::{
    ImapProfile,
    command::{self, Command, Head, Verb},
    reply::{self, Replies},
};

/// Longest AUTHENTICATE with an initial response, bytes: tag, words and the longest SASL message.
const AUTHENTICATE_BYTES_MAX: usize = sasl::LINE_BYTES_MAX + 128;

/// A client's talk before login.
#[derive(Debug)]
pub struct ImapDialogue {
    session: Session,
    awaiting: Awaiting,
}

#[derive(Debug)]
struct Session {
    profile: Arc<ImapProfile>,
    patience: Patience,
    asked_capability: bool,
    in_clear: Option<String>,
}

/// What the dialogue waits for.
#[derive(Debug)]
enum Awaiting {
    Command(Splitter),
    SaslData { tag: String, exchange: Exchange, scan: LineScan },
    Answer { tag: String, mechanism: Mechanism },
}

/// What one command led to.
enum Next {
    More(Awaiting),
    Go(Awaiting),
    Login(String, LoginRequest),
    Upgrade(String),
    Close(CloseReason),
}

impl Next {
    fn command() -> Self {
        Self::Go(Awaiting::Command(Splitter::default()))
    }
}

impl Dialogue for ImapDialogue {
    type Profile = ImapProfile;

    fn greet(profile: Arc<ImapProfile>, now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.greeting(&profile);
        Self::start(profile, replies, now)
    }

    /// The greeting is not repeated after STARTTLS (RFC 9051 §6.2.1): the fresh dialogue waits for a command.
    fn after_starttls(profile: Arc<ImapProfile>, now: Instant) -> Step<Self> {
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
                Awaiting::Command(splitter) => session.on_command_bytes(splitter, input, &mut replies),
                Awaiting::SaslData { tag, exchange, scan } => {
                    session.on_sasl_bytes(tag, exchange, scan, input, &mut replies)
                }
                answer @ Awaiting::Answer { .. } => Next::More(answer),
            };
            awaiting = match next {
                // The driver must hear of it before anything ends the dialogue.
                Next::Go(awaiting) if session.in_clear.is_some() => return Self { session, awaiting }.wait(replies),
                Next::Go(awaiting) => awaiting,
                Next::More(awaiting) => return Self { session, awaiting }.wait(replies),
                Next::Login(tag, login) => {
                    let deadline = session.patience.deadline();
                    let next = Self { session, awaiting: Awaiting::Answer { tag, mechanism: login.mechanism } };
                    return Step::Ask { next, reply: replies.into_bytes(), login, deadline };
                }
                Next::Upgrade(tag) => {
                    replies.ok(&tag, "Begin TLS negotiation now");
                    return Step::Upgrade { reply: replies.into_bytes() };
                }
                Next::Close(reason) => return Step::Close { reply: replies.into_bytes(), reason },
            };
        }
    }

    fn on_answer(self, answer: Answer, _now: Instant) -> Step<Self> {
        let Self { mut session, awaiting } = self;
        let mut replies = Replies::default();
        let Awaiting::Answer { tag, mechanism } = awaiting else {
            // Nothing was asked: an answer to nothing logs nobody in.
            return Self { session, awaiting }.wait(replies);
        };
        if let Answer::Opened { capability } = &answer {
            replies.logged_in(&tag, capability.as_deref(), session.asked_capability);
            return Step::HandOff { reply: replies.into_bytes() };
        }
        if let Some((exchange, challenge)) = Exchange::on_answer(mechanism, &answer) {
            replies.challenge(challenge);
            let awaiting = Awaiting::SaslData { tag, exchange, scan: LineScan::default() };
            return Self { session, awaiting }.wait(replies);
        }
        replies.no(&tag, reply::refusal(&answer));
        match session.failed(&mut replies) {
            Next::Close(reason) => Step::Close { reply: replies.into_bytes(), reason },
            _ => Self { session, awaiting: Awaiting::Command(Splitter::default()) }.wait(replies),
        }
    }

    fn on_deadline(self, _now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        if let Awaiting::Answer { tag, .. } = &self.awaiting {
            replies.no(tag, reply::UNAVAILABLE);
        }
        replies.bye(patience::DEADLINE);
        Step::Close { reply: replies.into_bytes(), reason: CloseReason::Deadline }
    }

    fn password_in_clear(&mut self) -> Option<String> {
        self.session.in_clear.take()
    }

    fn refuse_connection() -> &'static [u8] {
        b"* BYE [LIMIT] Too many connections, try again later\r\n"
    }
}

impl ImapDialogue {
    fn start(profile: Arc<ImapProfile>, replies: Replies, now: Instant) -> Step<Self> {
        let patience = Patience::new(now, profile.login_deadline);
        let session = Session { profile, patience, asked_capability: false, in_clear: None };
        Self { session, awaiting: Awaiting::Command(Splitter::default()) }.wait(replies)
    }

    fn wait(self, replies: Replies) -> Step<Self> {
        let deadline = self.session.patience.deadline();
        Step::Wait { next: self, reply: replies.into_bytes(), deadline }
    }
}

impl Session {
    fn on_command_bytes(&mut self, mut splitter: Splitter, input: &mut InputBuf, replies: &mut Replies) -> Next {
        let bytes = input.as_slice();
        // Asked only when it matters, so that bytes that trickle in are not read again and again.
        let long = bytes.len() > LINE_BYTES_MAX && is_authenticate(bytes);
        let line_bytes_max = if long { AUTHENTICATE_BYTES_MAX } else { LINE_BYTES_MAX };
        match splitter.advance(bytes, line_bytes_max) {
            Split::More => Next::More(Awaiting::Command(splitter)),
            Split::TooLong => {
                replies.bye("Command too long");
                Next::Close(CloseReason::TooLong)
            }
            Split::Announced { length, synchronising, taken } => {
                self.on_literal(splitter, length, synchronising, taken, input, replies)
            }
            Split::Whole(taken) => {
                let next = self.on_command(&splitter, bytes.get(..taken).unwrap_or_default(), replies);
                input.consume(taken);
                match next {
                    Next::Upgrade(_) if !input.is_empty() => {
                        // A command injected in front of TLS would be answered behind it (RFC 9051 §6.2.1).
                        replies.bye("Nothing may follow STARTTLS");
                        Next::Close(CloseReason::BytesBeforeTls)
                    }
                    next => next,
                }
            }
        }
    }

    /// A literal is announced. One that waits for our go-ahead is refused as soon as the command cannot succeed; one
    /// that comes anyway is swallowed within the bound, beyond it the connection is over.
    fn on_literal(
        &mut self,
        mut splitter: Splitter,
        length: usize,
        synchronising: bool,
        taken: usize,
        input: &mut InputBuf,
        replies: &mut Replies,
    ) -> Next {
        let too_many = splitter.literals() >= LITERALS_MAX;
        let too_long = length > LITERAL_BYTES_MAX;
        if !synchronising && (too_many || too_long) {
            replies.bye("Literal too long");
            return Next::Close(CloseReason::TooLong);
        }
        if synchronising {
            let head = command::head(first_line(&splitter, input.as_slice()));
            let takes_literals = matches!(head, Ok(Head { verb: Verb::Login | Verb::Id, .. }));
            let refused = match &head {
                Err(complaint) => {
                    replies.bad("*", complaint);
                    true
                }
                Ok(Head { tag, verb: Verb::Login, .. }) if !self.profile.tls => {
                    replies.no(tag, reply::PRIVACY_REQUIRED);
                    true
                }
                Ok(Head { tag, .. }) if !takes_literals || too_many => {
                    replies.bad(tag, "No literal is taken here");
                    true
                }
                Ok(Head { tag, .. }) if too_long => {
                    replies.no(tag, "[TOOBIG] Literal too long");
                    true
                }
                Ok(_) => false,
            };
            if refused {
                input.consume(taken);
                return self.erred(replies);
            }
            replies.literal_wanted();
        }
        splitter.accept_literal(length);
        Next::Go(Awaiting::Command(splitter))
    }

    fn on_command(&mut self, splitter: &Splitter, bytes: &[u8], replies: &mut Replies) -> Next {
        let line = first_line(splitter, bytes);
        if self.patience.is_fresh() && line::is_http(line) {
            return Next::Close(CloseReason::WrongProtocol);
        }
        let head = match command::head(line) {
            Ok(head) => head,
            Err(complaint) => {
                replies.bad("*", complaint);
                return self.erred(replies);
            }
        };
        let command = match command::command(&head, bytes, splitter.pieces()) {
            Ok(command) => command,
            Err(complaint) => {
                replies.bad(&head.tag, complaint);
                if complaint == command::TOO_DEEP {
                    replies.bye("Lists are not nested here");
                    return Next::Close(CloseReason::TooLong);
                }
                return self.erred(replies);
            }
        };
        self.on_valid_command(head.tag, command, replies)
    }

    fn on_valid_command(&mut self, tag: String, command: Command, replies: &mut Replies) -> Next {
        match command {
            Command::Login { .. } | Command::Authenticate { .. } if !self.profile.tls => {
                self.in_clear = name_in_clear(command);
                replies.no(&tag, reply::PRIVACY_REQUIRED);
                self.erred(replies)
            }
            Command::Login { .. } if !self.profile.mechanisms.contains(Mechanism::Login) => {
                replies.no(&tag, "[CANNOT] LOGIN is disabled");
                self.erred(replies)
            }
            Command::Login { username, password } => {
                let login = LoginRequest {
                    mechanism: Mechanism::Login,
                    username: sasl::text(&username),
                    credential: Credential::Password(SecretText::new(sasl::text(&password))),
                    authzid: None,
                };
                let turn = match sasl::flaw(&login) {
                    None => Turn::Login(login),
                    Some(Flaw::Illegal) => Turn::Invalid(SaslError::Illegal),
                    Some(Flaw::Hopeless) => Turn::Hopeless,
                };
                self.on_turn(tag, turn, replies)
            }
            Command::Authenticate { mechanism, initial } => {
                match mechanism.filter(|mechanism| self.profile.mechanisms.contains(*mechanism)) {
                    Some(mechanism) => {
                        let turn = Exchange::start(mechanism, initial.as_ref().map(|initial| initial.as_slice()));
                        self.on_turn(tag, turn, replies)
                    }
                    None => {
                        replies.no(&tag, "[CANNOT] Unsupported mechanism");
                        self.erred(replies)
                    }
                }
            }
            Command::Logout => {
                replies.bye("Logging out");
                replies.ok(&tag, "LOGOUT completed");
                Next::Close(CloseReason::Logout)
            }
            Command::StartTls if self.profile.tls => {
                replies.bad(&tag, "TLS is already up");
                self.erred(replies)
            }
            Command::StartTls => Next::Upgrade(tag),
            Command::Capability => {
                self.asked_capability = true;
                replies.capabilities(&self.profile);
                replies.ok(&tag, "CAPABILITY completed");
                self.counted(replies)
            }
            Command::Id => {
                replies.id(&self.profile);
                replies.ok(&tag, "ID completed");
                self.counted(replies)
            }
            Command::Noop => {
                replies.ok(&tag, "NOOP completed");
                self.counted(replies)
            }
        }
    }

    fn on_sasl_bytes(
        &mut self,
        tag: String,
        exchange: Exchange,
        mut scan: LineScan,
        input: &mut InputBuf,
        replies: &mut Replies,
    ) -> Next {
        let bytes = input.as_slice();
        let line = scan.find(bytes);
        if line.map_or(bytes.len(), |line| line.length) > sasl::LINE_BYTES_MAX + 2 {
            replies.bye("Line too long");
            return Next::Close(CloseReason::TooLong);
        }
        let Some(line) = line else {
            return Next::More(Awaiting::SaslData { tag, exchange, scan });
        };
        let turn = exchange.on_line(bytes.get(..line.text).unwrap_or_default());
        input.consume(line.length);
        self.on_turn(tag, turn, replies)
    }

    fn on_turn(&mut self, tag: String, turn: Turn, replies: &mut Replies) -> Next {
        match turn {
            Turn::Challenge { next, challenge } => {
                replies.challenge(challenge);
                Next::Go(Awaiting::SaslData { tag, exchange: next, scan: LineScan::default() })
            }
            Turn::Login(login) => Next::Login(tag, login),
            Turn::Cancelled => {
                replies.bad(&tag, "AUTHENTICATE cancelled");
                self.counted(replies)
            }
            Turn::Invalid(SaslError::Illegal) => {
                replies.bad(&tag, "NUL or line end in a name or password");
                self.erred(replies)
            }
            Turn::Invalid(_) => {
                replies.bad(&tag, "Invalid SASL message");
                self.erred(replies)
            }
            Turn::Hopeless | Turn::Denied => {
                replies.no(&tag, reply::INVALID_CREDENTIALS);
                self.failed(replies)
            }
        }
    }

    fn counted(&mut self, replies: &mut Replies) -> Next {
        goes_on(self.patience.on_command(), replies)
    }

    fn erred(&mut self, replies: &mut Replies) -> Next {
        goes_on(self.patience.on_error(), replies)
    }

    fn failed(&mut self, replies: &mut Replies) -> Next {
        goes_on(self.patience.on_failure(), replies)
    }
}

fn goes_on(patience: Result<(), Exhausted>, replies: &mut Replies) -> Next {
    match patience {
        Ok(()) => Next::command(),
        Err(Exhausted { text, reason }) => {
            replies.bye(text);
            Next::Close(reason)
        }
    }
}

/// Whose credential a refused command carried.
fn name_in_clear(command: Command) -> Option<String> {
    match command {
        Command::Login { username, .. } => Some(sasl::text(&username)),
        Command::Authenticate { mechanism, initial } => sasl::name_in_clear(mechanism?, &initial?),
        _ => None,
    }
}

/// The first line of the command at the start of `bytes`.
fn first_line<'a>(splitter: &Splitter, bytes: &'a [u8]) -> &'a [u8] {
    match splitter.pieces().first() {
        Some(Piece::Text(range)) => bytes.get(range.clone()).unwrap_or_default(),
        _ => &[],
    }
}

/// Whether the command at the start of `bytes` may be as long as a SASL message.
fn is_authenticate(bytes: &[u8]) -> bool {
    let longest = command::TAG_BYTES_MAX + LINE_BYTES_MAX;
    let start = bytes.get(..longest).unwrap_or(bytes);
    matches!(command::head(start), Ok(Head { verb: Verb::Authenticate, .. }))
}
