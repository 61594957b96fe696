//! The dialogue with the client.
//!
//! ```text
//!   greet ──► AwaitCommand ──AUTHENTICATE──► AwaitSaslData
//!               │   ▲  ▲                        │
//!               │   │  └── no, cancel ──────────┤
//!   STARTTLS ◄──┤   └──── denied ── AwaitAnswer ◄┘
//!   close    ◄──┘                       │
//!                                       └── opened ──► hand-off
//! ```

use std::{sync::Arc, time::Instant};

use crate::{
    Answer, CloseReason, Dialogue, InputBuf, LoginRequest, Mechanism, Step,
    line::{self, LINE_BYTES_MAX, LITERAL_BYTES_MAX, LITERALS_MAX, Split, Splitter},
    patience::{self, Exhausted, Patience},
    sasl::{self, Exchange, SaslError, Turn},
};

use super::{
    SieveProfile,
    command::{self, Command},
    reply::{Refusal, Replies},
};

/// Longest AUTHENTICATE, and longest line of an exchange, bytes: words, quotes and the longest SASL message.
const SASL_BYTES_MAX: usize = sasl::LINE_BYTES_MAX + 128;

/// Longest command up to the end of a literal, bytes. With the line behind it, it fits the input.
const COMMAND_BYTES_MAX: usize = SASL_BYTES_MAX + LITERAL_BYTES_MAX;

/// A client's talk before login.
#[derive(Debug)]
pub struct SieveDialogue {
    session: Session,
    awaiting: Awaiting,
}

#[derive(Debug)]
struct Session {
    profile: Arc<SieveProfile>,
    patience: Patience,
    in_clear: Option<String>,
}

/// What the dialogue waits for.
#[derive(Debug)]
enum Awaiting {
    Command(Splitter),
    SaslData { exchange: Exchange, splitter: Splitter },
    Answer(Mechanism),
}

/// What one command led to.
enum Next {
    More(Awaiting),
    Go(Awaiting),
    Login(LoginRequest),
    Upgrade,
    Close(CloseReason),
}

/// How a command or a response was split.
enum Taken {
    More,
    /// Goes on behind an announced literal.
    Again,
    Whole(usize),
    TooLong,
}

impl Dialogue for SieveDialogue {
    type Profile = SieveProfile;

    fn greet(profile: Arc<SieveProfile>, now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.greeting(&profile);
        Self::start(profile, replies, now)
    }

    /// RFC 5804 §2.2: the list comes again, unasked, because what was said before TLS may have been changed on its way.
    fn after_starttls(profile: Arc<SieveProfile>, now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.capabilities(&profile, "TLS is up");
        Self::start(profile, replies, now)
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
                Awaiting::SaslData { exchange, splitter } => {
                    session.on_sasl_bytes(exchange, splitter, input, &mut replies)
                }
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
            // No list here: RFC 5804 §2.1 sends one only when a SASL security layer begins, and we have none.
            replies.ok("Logged in");
            return Step::HandOff { reply: replies.into_bytes() };
        }
        if let Some((exchange, challenge)) = Exchange::on_answer(mechanism, &answer) {
            replies.challenge(challenge);
            let awaiting = Awaiting::SaslData { exchange, splitter: Splitter::default() };
            return Self { session, awaiting }.wait(replies);
        }
        replies.no(Refusal::of(&answer));
        match session.failed(&mut replies) {
            Next::Close(reason) => Step::Close { reply: replies.into_bytes(), reason },
            _ => Self { session, awaiting: Awaiting::Command(Splitter::default()) }.wait(replies),
        }
    }

    fn on_deadline(self, _now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        if let Awaiting::Answer(_) = &self.awaiting {
            replies.no(Refusal::UNAVAILABLE);
        }
        replies.bye(patience::DEADLINE);
        Step::Close { reply: replies.into_bytes(), reason: CloseReason::Deadline }
    }

    fn password_in_clear(&mut self) -> Option<String> {
        self.session.in_clear.take()
    }

    fn refuse_connection() -> &'static [u8] {
        b"BYE (TRYLATER) \"Too many connections, try again later\"\r\n"
    }
}

impl SieveDialogue {
    fn start(profile: Arc<SieveProfile>, replies: Replies, now: Instant) -> Step<Self> {
        let patience = Patience::new(now, profile.login_deadline);
        let session = Session { profile, patience, in_clear: None };
        Self { session, awaiting: Awaiting::Command(Splitter::default()) }.wait(replies)
    }

    fn wait(self, replies: Replies) -> Step<Self> {
        let deadline = self.session.patience.deadline();
        Step::Wait { next: self, reply: replies.into_bytes(), deadline }
    }
}

/// Splits on. A literal of a client never waits for a go-ahead (RFC 5804 §4 knows only `{n+}`; old programs write `{n}`
/// and send on all the same), so one over the bound ends the connection: its bytes are coming.
fn split(splitter: &mut Splitter, bytes: &[u8], long: bool) -> Taken {
    let line_bytes_max = if long { SASL_BYTES_MAX } else { LINE_BYTES_MAX };
    let literal_bytes_max = if long { sasl::LINE_BYTES_MAX } else { LITERAL_BYTES_MAX };
    match splitter.advance(bytes, line_bytes_max) {
        Split::More => Taken::More,
        Split::Whole(taken) => Taken::Whole(taken),
        Split::Announced { length, taken, .. }
            if length <= literal_bytes_max
                && splitter.literals() < LITERALS_MAX
                && taken.saturating_add(length) <= COMMAND_BYTES_MAX =>
        {
            splitter.accept_literal(length);
            Taken::Again
        }
        Split::TooLong | Split::Announced { .. } => Taken::TooLong,
    }
}

impl Session {
    fn on_command_bytes(&mut self, mut splitter: Splitter, input: &mut InputBuf, replies: &mut Replies) -> Next {
        let bytes = input.as_slice();
        let taken = match split(&mut splitter, bytes, command::is_authenticate(bytes)) {
            Taken::More => return Next::More(Awaiting::Command(splitter)),
            Taken::Again => return Next::Go(Awaiting::Command(splitter)),
            Taken::TooLong => return too_long(replies),
            Taken::Whole(taken) => taken,
        };
        let bytes = bytes.get(..taken).unwrap_or_default();
        if self.patience.is_fresh() && line::is_http(command::first_line(bytes, splitter.pieces())) {
            return Next::Close(CloseReason::WrongProtocol);
        }
        let command = command::command(bytes, splitter.pieces());
        input.consume(taken);
        match command {
            Err(complaint) => {
                replies.no(Refusal::plain(complaint));
                self.erred(replies)
            }
            Ok(Command::StartTls) if !self.profile.tls && !input.is_empty() => {
                // A command injected in front of TLS would be answered behind it (RFC 5804 §2.2).
                replies.bye("Nothing may follow STARTTLS");
                Next::Close(CloseReason::BytesBeforeTls)
            }
            Ok(command) => self.on_command(command, replies),
        }
    }

    fn on_command(&mut self, command: Command, replies: &mut Replies) -> Next {
        match command {
            Command::Authenticate { mechanism, initial } if !self.profile.tls => {
                self.in_clear = mechanism.zip(initial).and_then(|(m, initial)| sasl::name_in_clear(m, &initial));
                replies.no(Refusal::ENCRYPT_NEEDED);
                self.erred(replies)
            }
            Command::Authenticate { mechanism: Some(mechanism), initial }
                if self.profile.mechanisms.contains(mechanism) =>
            {
                let turn = Exchange::start(mechanism, initial.as_ref().map(|initial| initial.as_slice()));
                self.on_turn(turn, replies)
            }
            Command::Authenticate { mechanism, .. } => {
                let unknown = Refusal::plain("Unsupported mechanism");
                replies.no(if mechanism.is_some() { Refusal::AUTH_TOO_WEAK } else { unknown });
                self.erred(replies)
            }
            Command::Capability => {
                replies.capabilities(&self.profile, "CAPABILITY completed");
                self.counted(replies)
            }
            Command::Noop(tag) => {
                replies.noop(tag.as_deref());
                self.counted(replies)
            }
            Command::Logout => {
                replies.ok("Logging out");
                Next::Close(CloseReason::Logout)
            }
            Command::StartTls if self.profile.tls => {
                replies.no(Refusal::plain("TLS is already up"));
                self.erred(replies)
            }
            Command::StartTls => Next::Upgrade,
        }
    }

    fn on_sasl_bytes(
        &mut self,
        exchange: Exchange,
        mut splitter: Splitter,
        input: &mut InputBuf,
        replies: &mut Replies,
    ) -> Next {
        let bytes = input.as_slice();
        let taken = match split(&mut splitter, bytes, true) {
            Taken::More => return Next::More(Awaiting::SaslData { exchange, splitter }),
            Taken::Again => return Next::Go(Awaiting::SaslData { exchange, splitter }),
            Taken::TooLong => return too_long(replies),
            Taken::Whole(taken) => taken,
        };
        let response = command::response(bytes.get(..taken).unwrap_or_default(), splitter.pieces());
        input.consume(taken);
        match response {
            Ok(response) => self.on_turn(exchange.on_line(&response), replies),
            Err(complaint) => {
                replies.no(Refusal::plain(complaint));
                self.erred(replies)
            }
        }
    }

    fn on_turn(&mut self, turn: Turn, replies: &mut Replies) -> Next {
        match turn {
            Turn::Challenge { next, challenge } => {
                replies.challenge(challenge);
                Next::Go(Awaiting::SaslData { exchange: next, splitter: Splitter::default() })
            }
            Turn::Login(login) => Next::Login(login),
            Turn::Cancelled => {
                replies.no(Refusal::plain("AUTHENTICATE cancelled"));
                self.counted(replies)
            }
            Turn::Invalid(SaslError::Illegal) => {
                replies.no(Refusal::plain("NUL or line end in a name or password"));
                self.erred(replies)
            }
            Turn::Invalid(_) => {
                replies.no(Refusal::plain("Invalid SASL message"));
                self.erred(replies)
            }
            Turn::Hopeless | Turn::Denied => {
                replies.no(Refusal::INVALID_CREDENTIALS);
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

fn too_long(replies: &mut Replies) -> Next {
    replies.bye("Line or literal too long");
    Next::Close(CloseReason::TooLong)
}

fn goes_on(patience: Result<(), Exhausted>, replies: &mut Replies) -> Next {
    match patience {
        Ok(()) => Next::Go(Awaiting::Command(Splitter::default())),
        Err(Exhausted { text, reason }) => {
            replies.bye(text);
            Next::Close(reason)
        }
    }
}
