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

use zeroize::Zeroizing;

use crate::{
    Answer, CloseReason, InputBuf, LoginRequest, Mechanism, SecretText, Step,
    line::{LITERAL_BYTES_MAX, LITERALS_MAX, LineScan, Piece, Split, Splitter},
    sasl,
};

use super::{
    ImapProfile,
    command::{self, Command, Head, NAME_BYTES_MAX, PASSWORD_BYTES_MAX, Verb},
    reply::{self, Replies},
};

/// Longest text of a command, all its lines together, bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The same for AUTHENTICATE with an initial response: tag, words and the longest SASL message.
const AUTHENTICATE_BYTES_MAX: usize = sasl::LINE_BYTES_MAX + 128;
/// Commands taken before login: no client needs a quarter of it, and it bounds what one input can make us say.
const COMMANDS_MAX: u8 = 64;
/// Bad commands before we give up.
const ERRORS_MAX: u8 = 5;
/// Logins that came to nothing before we give up.
const FAILURES_MAX: u8 = 3;

/// A client's talk before login.
#[derive(Debug)]
pub struct ImapDialogue {
    session: Session,
    awaiting: Awaiting,
}

#[derive(Debug)]
struct Session {
    profile: Arc<ImapProfile>,
    deadline: Instant,
    commands: u8,
    errors: u8,
    failures: u8,
    asked_capability: bool,
}

/// What the dialogue waits for.
#[derive(Debug)]
enum Awaiting {
    Command(Splitter),
    SaslData { tag: String, scan: LineScan },
    Answer { tag: String },
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

impl ImapDialogue {
    /// The greeting. `now` starts the login deadline.
    pub fn greet(profile: Arc<ImapProfile>, now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.greeting(&profile);
        Self::start(profile, replies, now)
    }

    /// The greeting is not repeated after STARTTLS (RFC 9051 §6.2.1): the fresh dialogue waits for a command.
    pub fn after_starttls(profile: Arc<ImapProfile>, now: Instant) -> Step<Self> {
        Self::start(profile, Replies::default(), now)
    }

    fn start(profile: Arc<ImapProfile>, replies: Replies, now: Instant) -> Step<Self> {
        let deadline = now.checked_add(profile.login_deadline).unwrap_or(now);
        let session = Session { profile, deadline, commands: 0, errors: 0, failures: 0, asked_capability: false };
        Self { session, awaiting: Awaiting::Command(Splitter::default()) }.wait(replies)
    }

    fn wait(self, replies: Replies) -> Step<Self> {
        let deadline = self.session.deadline;
        Step::Wait { next: self, reply: replies.into_bytes(), deadline }
    }

    /// Bytes came, or some may wait from before.
    pub fn on_bytes(self, input: &mut InputBuf, now: Instant) -> Step<Self> {
        let Self { mut session, mut awaiting } = self;
        let mut replies = Replies::default();
        if now >= session.deadline {
            return Self { session, awaiting }.on_deadline(now);
        }
        loop {
            let next = match awaiting {
                Awaiting::Command(splitter) => session.on_command_bytes(splitter, input, &mut replies),
                Awaiting::SaslData { tag, scan } => session.on_sasl_bytes(tag, scan, input, &mut replies),
                answer @ Awaiting::Answer { .. } => Next::More(answer),
            };
            awaiting = match next {
                Next::Go(awaiting) => awaiting,
                Next::More(awaiting) => return Self { session, awaiting }.wait(replies),
                Next::Login(tag, login) => {
                    let deadline = session.deadline;
                    let next = Self { session, awaiting: Awaiting::Answer { tag } };
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

    /// The login was decided. What waits in `input` is looked at by the next `on_bytes`.
    pub fn on_answer(self, answer: Answer, _now: Instant) -> Step<Self> {
        let Self { mut session, awaiting } = self;
        let mut replies = Replies::default();
        let Awaiting::Answer { tag } = awaiting else {
            // Nothing was asked: an answer to nothing logs nobody in.
            return Self { session, awaiting }.wait(replies);
        };
        if let Answer::Opened { capability } = &answer {
            replies.logged_in(&tag, capability.as_deref(), session.asked_capability);
            return Step::HandOff { reply: replies.into_bytes() };
        }
        replies.no(&tag, reply::refusal(&answer));
        match session.failed(&mut replies) {
            Next::Close(reason) => Step::Close { reply: replies.into_bytes(), reason },
            _ => Self { session, awaiting: Awaiting::Command(Splitter::default()) }.wait(replies),
        }
    }

    /// The deadline passed.
    pub fn on_deadline(self, _now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        if let Awaiting::Answer { tag } = &self.awaiting {
            replies.no(tag, reply::UNAVAILABLE);
        }
        replies.bye("No login in time");
        Step::Close { reply: replies.into_bytes(), reason: CloseReason::Deadline }
    }

    /// The reply that refuses a connection before any dialogue (limits): `* BYE …`.
    pub fn refuse_connection() -> &'static [u8] {
        b"* BYE [LIMIT] Too many connections, try again later\r\n"
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
        if self.commands == 0 && is_http(line) {
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
                return self.erred(replies);
            }
        };
        self.on_valid_command(head.tag, command, replies)
    }

    fn on_valid_command(&mut self, tag: String, command: Command, replies: &mut Replies) -> Next {
        match command {
            Command::Login { .. } | Command::Authenticate { .. } if !self.profile.tls => {
                replies.no(&tag, reply::PRIVACY_REQUIRED);
                self.erred(replies)
            }
            Command::Login { username, password } => {
                let login = LoginRequest {
                    mechanism: Mechanism::Login,
                    username: sasl::text(&username),
                    password: SecretText::new(sasl::text(&password)),
                    authzid: None,
                };
                self.login(tag, login, replies)
            }
            Command::Authenticate { plain: false, .. } => {
                replies.no(&tag, "[CANNOT] Unsupported mechanism");
                self.erred(replies)
            }
            Command::Authenticate { plain: true, initial: Some(initial) } => {
                self.on_sasl_message(tag, &initial, replies)
            }
            Command::Authenticate { plain: true, initial: None } => {
                replies.sasl_wanted();
                Next::Go(Awaiting::SaslData { tag, scan: LineScan::default() })
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

    fn on_sasl_bytes(&mut self, tag: String, mut scan: LineScan, input: &mut InputBuf, replies: &mut Replies) -> Next {
        let bytes = input.as_slice();
        let line = scan.find(bytes);
        if line.map_or(bytes.len(), |line| line.length) > sasl::LINE_BYTES_MAX + 2 {
            replies.bye("Line too long");
            return Next::Close(CloseReason::TooLong);
        }
        let Some(line) = line else {
            return Next::More(Awaiting::SaslData { tag, scan });
        };
        let message = Zeroizing::new(bytes.get(..line.text).unwrap_or_default().to_vec());
        input.consume(line.length);
        if message.as_slice() == b"*" {
            // RFC 9051 §6.2.2: the client cancels.
            replies.bad(&tag, "AUTHENTICATE cancelled");
            return self.counted(replies);
        }
        self.on_sasl_message(tag, &message, replies)
    }

    fn on_sasl_message(&mut self, tag: String, message: &[u8], replies: &mut Replies) -> Next {
        let plain = match sasl::decode_plain(message) {
            Ok(plain) if message.len() <= sasl::LINE_BYTES_MAX => plain,
            _ => {
                replies.bad(&tag, "Invalid SASL message");
                return self.erred(replies);
            }
        };
        let login = LoginRequest {
            mechanism: Mechanism::Plain,
            username: plain.authcid,
            password: plain.password,
            authzid: plain.authzid,
        };
        self.login(tag, login, replies)
    }

    /// Asks, unless no one could have such a name or password. An empty password never leaves: to a directory it
    /// would be an unauthenticated bind, which succeeds (RFC 4513 §5.1.2).
    fn login(&mut self, tag: String, login: LoginRequest, replies: &mut Replies) -> Next {
        let names = [Some(&login.username), login.authzid.as_ref()];
        let password = login.password.expose();
        let line_end = |text: &str| text.contains(['\r', '\n', '\0']);
        if names.iter().flatten().any(|name| line_end(name)) || line_end(password) {
            replies.bad(&tag, "NUL or line end in a name or password");
            return self.erred(replies);
        }
        let named = names.iter().flatten().all(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
        if !named || password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            replies.no(&tag, reply::INVALID_CREDENTIALS);
            return self.failed(replies);
        }
        Next::Login(tag, login)
    }

    fn counted(&mut self, replies: &mut Replies) -> Next {
        self.commands = self.commands.saturating_add(1);
        if self.commands < COMMANDS_MAX {
            return Next::command();
        }
        replies.bye("Too many commands without a login");
        Next::Close(CloseReason::TooManyErrors)
    }

    fn erred(&mut self, replies: &mut Replies) -> Next {
        self.errors = self.errors.saturating_add(1);
        if self.errors < ERRORS_MAX {
            return self.counted(replies);
        }
        replies.bye("Too many bad commands");
        Next::Close(CloseReason::TooManyErrors)
    }

    fn failed(&mut self, replies: &mut Replies) -> Next {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return self.counted(replies);
        }
        replies.bye("Too many failed logins");
        Next::Close(CloseReason::TooManyFailures)
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

/// An HTTP request line: a browser was led here to make us speak to it (cross-protocol attacks).
fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] =
        [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ", b"PATCH ", b"PRI "];
    METHODS.iter().any(|method| line.starts_with(method))
}
