//! The dialogue with the client before login.
//!
//! ```text
//!   greet ─► AwaitCommand ──AUTH──► AwaitSaslData ──► AwaitAnswer ── opened ─► hand-off
//!              ▲   │  ▲                  │                 │
//!              │   │  └── cancel, bad ───┴──── denied ─────┘
//!              └───┤ EHLO, NOOP, RSET, HELP, VRFY: answered; MAIL: 530; XCLIENT: 550
//!                  └─ STARTTLS ─► TLS, and a fresh dialogue: the EHLO before it is forgotten (RFC 3207 §4.2)
//! ```

use std::{sync::Arc, time::Instant};

use crate::{
    Answer, CloseReason, Dialogue, InputBuf, LoginRequest, Mechanism, Step,
    line::{self, LineScan},
    patience::{self, Exhausted, Patience},
    sasl::{self, Exchange, Turn},
};

use super::{
    SubmissionProfile,
    command::{self, Command, Verb},
    reply,
};

/// Longest AUTH with an initial response, bytes: the words and the longest SASL message (RFC 4954 §4).
const AUTH_BYTES_MAX: usize = sasl::LINE_BYTES_MAX + 64;

/// A client's talk before login.
#[derive(Debug)]
pub struct SubmissionDialogue {
    session: Session,
    awaiting: Awaiting,
}

#[derive(Debug)]
struct Session {
    profile: Arc<SubmissionProfile>,
    patience: Patience,
    /// The name given with EHLO; AUTH needs one (RFC 4954 §4).
    helo: Option<String>,
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

#[derive(Default)]
struct Replies(Vec<u8>);

impl Replies {
    fn line(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }
}

impl Dialogue for SubmissionDialogue {
    type Profile = SubmissionProfile;

    fn greet(profile: Arc<SubmissionProfile>, now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.line(&format!("220 {} ESMTP", profile.hostname));
        Self::start(profile, replies, now)
    }

    fn after_starttls(profile: Arc<SubmissionProfile>, now: Instant) -> Step<Self> {
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
                    return Step::Ask { next, reply: replies.0, login, deadline };
                }
                Next::Upgrade => {
                    replies.line("220 2.0.0 Begin TLS negotiation now");
                    return Step::Upgrade { reply: replies.0 };
                }
                Next::Close(reason) => return Step::Close { reply: replies.0, reason },
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
            replies.line("235 2.7.0 Logged in");
            return Step::HandOff { reply: replies.0 };
        }
        if let Some((exchange, challenge)) = Exchange::on_answer(mechanism, &answer) {
            replies.line(&format!("334 {challenge}"));
            return Self { session, awaiting: Awaiting::SaslData { exchange, scan: LineScan::default() } }
                .wait(replies);
        }
        replies.line(match answer {
            // Outside, a wrong password and a locked account are alike.
            Answer::Denied | Answer::Refused => reply::INVALID_CREDENTIALS,
            // A 421 is the last word (RFC 5321 §3.8).
            Answer::Limited => {
                replies.line("421 4.7.0 Too many attempts, try again later");
                return Step::Close { reply: replies.0, reason: CloseReason::TooManyFailures };
            }
            Answer::Held => reply::HELD,
            Answer::Crowded => {
                replies.line("421 4.7.0 Too many sessions of this account are open");
                return Step::Close { reply: replies.0, reason: CloseReason::TooManySessions };
            }
            Answer::PasswordNeeded => reply::PASSWORD_NEEDED,
            Answer::Unavailable | Answer::Opened { .. } => reply::UNAVAILABLE,
        });
        match session.failed(&mut replies) {
            Next::Close(reason) => Step::Close { reply: replies.0, reason },
            _ => Self { session, awaiting: Awaiting::Command(LineScan::default()) }.wait(replies),
        }
    }

    fn on_deadline(self, _now: Instant) -> Step<Self> {
        let mut replies = Replies::default();
        replies.line(&format!("421 4.4.2 {}", patience::DEADLINE));
        Step::Close { reply: replies.0, reason: CloseReason::Deadline }
    }

    fn password_in_clear(&mut self) -> Option<String> {
        self.session.in_clear.take()
    }

    fn refuse_connection() -> &'static [u8] {
        b"421 4.7.0 Too many connections, try again later\r\n"
    }
}

impl SubmissionDialogue {
    fn start(profile: Arc<SubmissionProfile>, replies: Replies, now: Instant) -> Step<Self> {
        let patience = Patience::new(now, profile.login_deadline);
        let session = Session { profile, patience, helo: None, in_clear: None };
        Self { session, awaiting: Awaiting::Command(LineScan::default()) }.wait(replies)
    }

    fn wait(self, replies: Replies) -> Step<Self> {
        let deadline = self.session.patience.deadline();
        Step::Wait { next: self, reply: replies.0, deadline }
    }

    /// The name the client gave with EHLO, for XCLIENT. None when it cannot be told to a cell.
    pub fn client_name(&self) -> Option<&str> {
        self.session.helo.as_deref().filter(|name| !name.is_empty())
    }
}

impl Session {
    fn on_command_bytes(&mut self, mut scan: LineScan, input: &mut InputBuf, replies: &mut Replies) -> Next {
        let bytes = input.as_slice();
        let line = scan.find(bytes);
        let auth = bytes.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH "));
        let bytes_max = if auth { AUTH_BYTES_MAX } else { command::LINE_BYTES_MAX };
        if line.map_or(bytes.len(), |line| line.length) > bytes_max {
            return too_long(replies);
        }
        let Some(line) = line else { return Next::More(Awaiting::Command(scan)) };
        let next = self.on_line(bytes.get(..line.text).unwrap_or_default(), replies);
        input.consume(line.length);
        if matches!(next, Next::Upgrade) && !input.is_empty() {
            // A command injected in front of TLS would be answered behind it (RFC 3207 §6).
            replies.line("421 4.7.0 Nothing may follow STARTTLS");
            return Next::Close(CloseReason::BytesBeforeTls);
        }
        next
    }

    fn on_line(&mut self, text: &[u8], replies: &mut Replies) -> Next {
        if self.patience.is_fresh() && line::is_http(text) {
            return Next::Close(CloseReason::WrongProtocol);
        }
        let Ok(command) = command::read(text) else { return self.refuse(reply::ILLEGAL_LINE, replies) };
        let tls = self.profile.tls;
        match command.verb {
            Verb::Ehlo | Verb::Helo => match command::client_name(command.arguments) {
                None => self.refuse(reply::NAME_WANTED, replies),
                Some(name) if command.verb == Verb::Ehlo => {
                    self.helo = Some(name);
                    replies.0.extend_from_slice(self.list().as_bytes());
                    self.counted(replies)
                }
                Some(_) => self.answer(&format!("250 {}", self.profile.hostname), replies),
            },
            Verb::Rset | Verb::Quit | Verb::StartTls if !command.arguments.is_empty() => {
                self.refuse(reply::NO_ARGUMENTS, replies)
            }
            Verb::StartTls if tls => self.refuse(reply::TLS_IS_UP, replies),
            Verb::StartTls => Next::Upgrade,
            Verb::Quit => {
                replies.line("221 2.0.0 Bye");
                Next::Close(CloseReason::Logout)
            }
            Verb::Auth => self.on_auth(&command, replies),
            Verb::Noop | Verb::Rset => self.answer("250 2.0.0 OK", replies),
            Verb::Help => self.answer(reply::HELP, replies),
            Verb::Vrfy => self.answer(reply::VRFY, replies),
            Verb::Mail | Verb::Rcpt | Verb::Data if tls => self.refuse("530 5.7.0 Log in first", replies),
            // RFC 3207 §4
            Verb::Mail | Verb::Rcpt | Verb::Data => {
                self.refuse("530 5.7.0 Must issue a STARTTLS command first", replies)
            }
            Verb::OfProxies => self.refuse(reply::NO_PROXY, replies),
            Verb::Never => self.refuse(reply::NOT_HERE, replies),
            Verb::Bdat => {
                // A chunk follows that no line ends (RFC 3030), and what is in it must not be taken for commands.
                replies.line(reply::NOT_HERE);
                Next::Close(CloseReason::TooManyErrors)
            }
            Verb::Unknown => self.refuse(reply::UNKNOWN_COMMAND, replies),
        }
    }

    fn on_auth(&mut self, command: &Command<'_>, replies: &mut Replies) -> Next {
        let mut words = command.arguments.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (name, initial, more) = (words.next(), words.next(), words.next());
        if !self.profile.tls {
            let mechanism = name.and_then(Mechanism::of_sasl_name);
            self.in_clear = mechanism.zip(initial).and_then(|(known, initial)| sasl::name_in_clear(known, initial));
            return self.refuse("538 5.7.11 Encryption required, issue a STARTTLS command first", replies);
        }
        if self.helo.is_none() {
            return self.refuse("503 5.5.1 EHLO first", replies);
        }
        let (Some(name), None) = (name, more) else {
            return self.refuse("501 5.5.4 Syntax: AUTH mechanism [initial response]", replies);
        };
        match self.profile.mechanisms.offered(name) {
            Some(mechanism) => self.on_turn(Exchange::start(mechanism, initial), replies),
            None => self.refuse("504 5.5.4 Mechanism not offered", replies),
        }
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
            return too_long(replies);
        }
        let Some(line) = line else { return Next::More(Awaiting::SaslData { exchange, scan }) };
        let turn = exchange.on_line(bytes.get(..line.text).unwrap_or_default());
        input.consume(line.length);
        self.on_turn(turn, replies)
    }

    fn on_turn(&mut self, turn: Turn, replies: &mut Replies) -> Next {
        match turn {
            Turn::Challenge { next, challenge } => {
                replies.line(&format!("334 {challenge}"));
                Next::Go(Awaiting::SaslData { exchange: next, scan: LineScan::default() })
            }
            Turn::Login(login) => Next::Login(login),
            // RFC 4954 §4
            Turn::Cancelled => self.answer("501 5.7.0 Authentication cancelled", replies),
            Turn::Invalid(_) => self.refuse("501 5.5.2 Invalid SASL message", replies),
            Turn::Hopeless | Turn::Denied => {
                replies.line(reply::INVALID_CREDENTIALS);
                self.failed(replies)
            }
        }
    }

    /// The EHLO reply: what all cells have, and AUTH under TLS or STARTTLS without.
    fn list(&self) -> String {
        let profile = &self.profile;
        let names: Vec<&str> = profile.mechanisms.sasl_names().collect();
        let more = match (profile.tls, names.is_empty()) {
            (false, _) => vec!["STARTTLS".to_owned()],
            (true, false) => vec![format!("AUTH {}", names.join(" "))],
            (true, true) => Vec::new(),
        };
        profile.extensions.reply(&profile.hostname, &more)
    }

    fn answer(&mut self, text: &str, replies: &mut Replies) -> Next {
        replies.line(text);
        self.counted(replies)
    }

    fn refuse(&mut self, text: &str, replies: &mut Replies) -> Next {
        replies.line(text);
        goes_on(self.patience.on_error(), replies)
    }

    fn counted(&mut self, replies: &mut Replies) -> Next {
        goes_on(self.patience.on_command(), replies)
    }

    fn failed(&mut self, replies: &mut Replies) -> Next {
        goes_on(self.patience.on_failure(), replies)
    }
}

fn goes_on(patience: Result<(), Exhausted>, replies: &mut Replies) -> Next {
    match patience {
        Ok(()) => Next::command(),
        Err(Exhausted { text, reason }) => {
            replies.line(&format!("421 4.7.0 {text}"));
            Next::Close(reason)
        }
    }
}

fn too_long(replies: &mut Replies) -> Next {
    replies.line(reply::LINE_TOO_LONG);
    Next::Close(CloseReason::TooLong)
}
