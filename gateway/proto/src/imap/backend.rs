//! Our own login at the cell.
//!
//! ```text
//!   Greeting ──► StartTls ══ TLS ══► Capability ──► Id ──► SaslWanted ────────► LoggingIn ──► CapabilityAfter ──► ready
//!                                    (unknown yet)  (listed)  or UserWanted, PasswordWanted     (not told yet)
//! ```
//! One command at a time, each under our own tag; the cell is trusted to hold mail, not to speak well: lines and their
//! number are bounded, and every answer must carry the tag that is awaited.

use std::fmt;

use zeroize::Zeroizing;

use crate::{InputBuf, SecretText, line::LineScan, sasl};

/// Longest line taken from a cell, bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most lines taken from a cell until the login is through.
const LINES_MAX: u8 = 64;
/// Longest value of an ID field (RFC 2971 §3.3); a key has at most 30, a list at most 30 fields.
const ID_VALUE_BYTES_MAX: usize = 1024;
const ID_KEY_BYTES_MAX: usize = 30;
const ID_FIELDS_MAX: usize = 30;

/// The failure when an answer comes ahead of its command.
pub(crate) const AHEAD: &str = "an answer before the command";

/// How to log in at a cell.
#[derive(Debug)]
pub struct CellProfile {
    /// STARTTLS is required before anything else.
    pub starttls: bool,
    /// Fields for `ID`, sent before login; empty: no ID.
    pub id_fields: Vec<(String, String)>,
    /// authcid.
    pub username: String,
    /// Password.
    pub password: SecretText,
    /// authzid, for master login.
    pub authzid: Option<String>,
}

/// What one input of the cell led to.
pub enum CellStep<S> {
    /// Send (may be empty) and read on.
    Send {
        /// Next state.
        next: S,
        /// To the cell; may hold a password, so it is wiped.
        bytes: Zeroizing<Vec<u8>>,
    },
    /// Send nothing more: start TLS, then call `after_starttls`.
    Upgrade {
        /// Next state.
        next: S,
    },
    /// Logged in. What waits in the input belongs to the client.
    Ready {
        /// Capability list the cell gave with its OK, or after it.
        capability: Option<String>,
    },
    /// Not logged in.
    Failed(CellFailure),
}

impl<S: fmt::Debug> fmt::Debug for CellStep<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { next, bytes } => write!(f, "Send {{ next: {next:?}, bytes: {} }}", bytes.len()),
            Self::Upgrade { next } => write!(f, "Upgrade {{ next: {next:?} }}"),
            Self::Ready { capability } => write!(f, "Ready {{ capability: {capability:?} }}"),
            Self::Failed(failure) => write!(f, "Failed({failure:?})"),
        }
    }
}

/// Why the cell did not let us in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CellFailure {
    /// `NO` with a temporary code (`UNAVAILABLE`, `INUSE`, `LIMIT` …).
    #[error("the cell cannot take the login now")]
    Temporary,
    /// `NO`: it refuses a login that the directory allowed. Or the credential cannot be put into IMAP.
    #[error("the cell refused the login")]
    Refused,
    /// PREAUTH greeting, bytes before TLS, wrong tag, over-long line.
    #[error("the cell broke the protocol: {0}")]
    Protocol(&'static str),
    /// `BYE`.
    #[error("the cell said BYE")]
    Bye,
}

/// Our login at the cell.
#[derive(Debug)]
pub struct CellLogin {
    profile: CellProfile,
    awaiting: Awaiting,
    scan: LineScan,
    lines: u8,
    tag: u8,
    capability: Option<String>,
    id_sent: bool,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    Greeting,
    StartTls,
    Tls,
    Capability,
    Id,
    /// The go-ahead for the SASL message.
    SaslWanted,
    /// The go-aheads for the literals of LOGIN.
    UserWanted,
    PasswordWanted,
    LoggingIn,
    CapabilityAfter,
    /// Logged in.
    Nothing,
}

/// How a line from the cell reads.
enum Line<'a> {
    Ok(&'a str),
    No(&'a str),
    Bad,
    Continue,
    Bye,
    PreAuth,
    UntaggedOk(&'a str),
    Capability(&'a str),
    Other,
}

type Taken = Result<Option<Zeroizing<Vec<u8>>>, CellFailure>;

impl CellLogin {
    /// Waits for the cell's greeting.
    pub fn new(profile: CellProfile) -> Self {
        Self {
            profile,
            awaiting: Awaiting::Greeting,
            scan: LineScan::default(),
            lines: 0,
            tag: 0,
            capability: None,
            id_sent: false,
        }
    }

    /// Bytes came from the cell.
    pub fn on_bytes(mut self, input: &mut InputBuf) -> CellStep<Self> {
        let mut send = Zeroizing::new(Vec::new());
        loop {
            let bytes = input.as_slice();
            let line = self.scan.find(bytes);
            if line.map_or(bytes.len(), |line| line.length) > LINE_BYTES_MAX {
                return CellStep::Failed(CellFailure::Protocol("a line is too long"));
            }
            let Some(line) = line else {
                return CellStep::Send { next: self, bytes: send };
            };
            self.lines = self.lines.saturating_add(1);
            if self.lines > LINES_MAX {
                return CellStep::Failed(CellFailure::Protocol("too many lines before login"));
            }
            // A cell's texts may be in any character set; only ASCII words are looked at.
            let text = String::from_utf8_lossy(bytes.get(..line.text).unwrap_or_default()).into_owned();
            input.consume(line.length);
            self.scan = LineScan::default();
            // What is still to be sent cannot have been answered: a cell that does so, or who speaks for it, would end
            // the dialogue with a login that never left.
            if !send.is_empty() && !text.starts_with("* ") {
                return CellStep::Failed(CellFailure::Protocol(AHEAD));
            }
            match self.on_line(&text) {
                Ok(None) if self.awaiting == Awaiting::Tls => {
                    // Response injection: what was sent before TLS would be read as if it came through it.
                    return match input.is_empty() {
                        true => CellStep::Upgrade { next: self },
                        false => CellStep::Failed(CellFailure::Protocol("bytes before TLS")),
                    };
                }
                Ok(None) if self.awaiting == Awaiting::Nothing => {
                    return CellStep::Ready { capability: self.capability };
                }
                Ok(None) => {}
                Ok(Some(more)) => send = joined(&send, &more),
                Err(failure) => return CellStep::Failed(failure),
            }
        }
    }

    /// TLS with the cell is up. What the cell said before is forgotten.
    pub fn after_starttls(mut self) -> CellStep<Self> {
        self.capability = None;
        self.profile.starttls = false;
        match self.go_on() {
            Ok(bytes) => CellStep::Send { next: self, bytes: bytes.unwrap_or_default() },
            Err(failure) => CellStep::Failed(failure),
        }
    }

    fn ready(&mut self) -> Taken {
        self.awaiting = Awaiting::Nothing;
        Ok(None)
    }

    fn on_line(&mut self, text: &str) -> Taken {
        let line = self.read(text)?;
        if let Line::Bye = line {
            return Err(CellFailure::Bye);
        }
        if self.awaiting == Awaiting::Greeting {
            return match line {
                Line::UntaggedOk(text) => {
                    self.capability = capability_code(text);
                    self.go_on()
                }
                Line::PreAuth => Err(CellFailure::Protocol("PREAUTH greeting")),
                _ => Err(CellFailure::Protocol("no IMAP greeting")),
            };
        }
        match line {
            Line::Capability(list) => {
                self.capability = Some(list.to_owned());
                Ok(None)
            }
            Line::UntaggedOk(text) => {
                if let Some(list) = capability_code(text) {
                    self.capability = Some(list);
                }
                Ok(None)
            }
            Line::PreAuth => Err(CellFailure::Protocol("PREAUTH greeting")),
            Line::Other | Line::Bye => Ok(None),
            Line::Continue => self.on_continue(),
            Line::Ok(text) => self.on_ok(text),
            Line::No(text) => self.on_no(text),
            Line::Bad => self.on_no(""),
        }
    }

    fn on_ok(&mut self, text: &str) -> Taken {
        match self.awaiting {
            Awaiting::StartTls => {
                self.awaiting = Awaiting::Tls;
                Ok(None)
            }
            Awaiting::Capability if self.capability.is_none() => Err(CellFailure::Protocol("no capability list")),
            Awaiting::Capability | Awaiting::Id => self.go_on(),
            Awaiting::LoggingIn => {
                if let Some(list) = capability_code(text) {
                    self.capability = Some(list);
                }
                match self.capability {
                    Some(_) => self.ready(),
                    None => Ok(Some(self.command(Awaiting::CapabilityAfter, "CAPABILITY"))),
                }
            }
            Awaiting::CapabilityAfter => self.ready(),
            _ => Err(CellFailure::Protocol("OK before the credential was sent")),
        }
    }

    fn on_no(&mut self, text: &str) -> Taken {
        match self.awaiting {
            // What an ID is answered with, or whether the list comes after login, changes nothing for the user.
            Awaiting::Id => self.go_on(),
            Awaiting::CapabilityAfter => self.ready(),
            Awaiting::StartTls => Err(CellFailure::Protocol("STARTTLS refused")),
            Awaiting::SaslWanted | Awaiting::UserWanted | Awaiting::PasswordWanted | Awaiting::LoggingIn => {
                Err(if is_temporary(text) { CellFailure::Temporary } else { CellFailure::Refused })
            }
            _ => Err(CellFailure::Protocol("a command refused")),
        }
    }

    fn on_continue(&mut self) -> Taken {
        let line = |text: &str| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + 32));
            bytes.extend_from_slice(text.as_bytes());
            bytes
        };
        match self.awaiting {
            Awaiting::SaslWanted => {
                self.awaiting = Awaiting::LoggingIn;
                let message = self.sasl_message();
                let mut bytes = line(&message);
                bytes.extend_from_slice(b"\r\n");
                Ok(Some(bytes))
            }
            Awaiting::UserWanted => {
                self.awaiting = Awaiting::PasswordWanted;
                let mut bytes = line(&self.profile.username);
                bytes.extend_from_slice(format!(" {{{}}}\r\n", self.profile.password.expose().len()).as_bytes());
                Ok(Some(bytes))
            }
            Awaiting::PasswordWanted => {
                self.awaiting = Awaiting::LoggingIn;
                let mut bytes = line(self.profile.password.expose());
                bytes.extend_from_slice(b"\r\n");
                Ok(Some(bytes))
            }
            _ => Err(CellFailure::Protocol("a go-ahead for nothing")),
        }
    }

    /// The next command: TLS, then the capability list, then ID, then the login.
    fn go_on(&mut self) -> Taken {
        if self.profile.starttls {
            return Ok(Some(self.command(Awaiting::StartTls, "STARTTLS")));
        }
        let Some(list) = self.capability.clone() else {
            return Ok(Some(self.command(Awaiting::Capability, "CAPABILITY")));
        };
        let lists = |name: &str| list.split(' ').any(|listed| listed.eq_ignore_ascii_case(name));
        if !self.id_sent && !self.profile.id_fields.is_empty() && lists("ID") {
            self.id_sent = true;
            let id = id_command(&self.profile.id_fields);
            return Ok(Some(self.command(Awaiting::Id, &id)));
        }
        self.login(&lists)
    }

    fn login(&mut self, lists: &dyn Fn(&str) -> bool) -> Taken {
        let profile = &self.profile;
        let parts =
            [profile.username.as_str(), profile.password.expose(), profile.authzid.as_deref().unwrap_or_default()];
        if parts.iter().any(|part| part.contains(['\0', '\r', '\n'])) {
            return Err(CellFailure::Refused);
        }
        // From here on a list is the one after login.
        self.capability = None;
        if lists("AUTH=PLAIN") {
            if !lists("SASL-IR") {
                return Ok(Some(self.command(Awaiting::SaslWanted, "AUTHENTICATE PLAIN")));
            }
            let message = self.sasl_message();
            let mut words = Zeroizing::new(String::with_capacity(message.len() + 32));
            words.push_str("AUTHENTICATE PLAIN ");
            words.push_str(&message);
            return Ok(Some(self.command(Awaiting::LoggingIn, &words)));
        }
        if profile.authzid.is_some() {
            return Err(CellFailure::Protocol("no AUTH=PLAIN for a master login"));
        }
        if lists("LOGINDISABLED") {
            return Err(CellFailure::Protocol("no login is offered"));
        }
        let (user, password) = (profile.username.as_str(), profile.password.expose());
        if !(lists("LITERAL+") || lists("LITERAL-")) {
            let words = format!("LOGIN {{{}}}", user.len());
            return Ok(Some(self.command(Awaiting::UserWanted, &words)));
        }
        let mut words = Zeroizing::new(String::with_capacity(user.len() + password.len() + 64));
        words.push_str(&format!("LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n", user.len(), password.len()));
        words.push_str(password);
        Ok(Some(self.command(Awaiting::LoggingIn, &words)))
    }

    fn sasl_message(&self) -> Zeroizing<String> {
        sasl::encode_plain(self.profile.authzid.as_deref(), &self.profile.username, &self.profile.password)
    }

    fn command(&mut self, awaiting: Awaiting, words: &str) -> Zeroizing<Vec<u8>> {
        self.awaiting = awaiting;
        self.tag += 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(words.len() + 16));
        bytes.extend_from_slice(format!("G{} ", self.tag).as_bytes());
        bytes.extend_from_slice(words.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn read<'a>(&self, text: &'a str) -> Result<Line<'a>, CellFailure> {
        if text == "+" || text.starts_with("+ ") {
            return Ok(Line::Continue);
        }
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if first == "*" {
            return Ok(match () {
                () if is("OK") => Line::UntaggedOk(rest),
                () if is("BYE") => Line::Bye,
                () if is("PREAUTH") => Line::PreAuth,
                () if is("CAPABILITY") => Line::Capability(rest),
                // Its bytes would be read as lines; no cell sends one before login.
                () if rest.ends_with('}') && !is("NO") && !is("BAD") => {
                    return Err(CellFailure::Protocol("a literal before login"));
                }
                () => Line::Other,
            });
        }
        if self.tag == 0 || first != format!("G{}", self.tag) {
            return Err(CellFailure::Protocol("wrong tag"));
        }
        match () {
            () if is("OK") => Ok(Line::Ok(rest)),
            () if is("NO") => Ok(Line::No(rest)),
            () if is("BAD") => Ok(Line::Bad),
            () => Err(CellFailure::Protocol("no OK, NO or BAD behind the tag")),
        }
    }
}

/// The list in `[CAPABILITY …] text`.
fn capability_code(text: &str) -> Option<String> {
    let (code, _) = text.strip_prefix('[')?.split_once(']')?;
    let (name, list) = code.split_once(' ')?;
    name.eq_ignore_ascii_case("CAPABILITY").then(|| list.to_owned())
}

/// Whether a `NO` may be a `OK` later or elsewhere (RFC 9051 §7.1; Zimbra says `ALERT` in maintenance and refers to
/// another host when the mailbox has moved).
fn is_temporary(text: &str) -> bool {
    const TEMPORARY: [&str; 6] = ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "ALERT", "REFERRAL"];
    let code = text.strip_prefix('[').and_then(|text| text.split([']', ' ']).next());
    code.is_some_and(|code| TEMPORARY.iter().any(|name| code.eq_ignore_ascii_case(name)))
}

/// `ID ("key" "value" …)` within the bounds of RFC 2971 §3.3; what may not stand in a quoted string is left out.
fn id_command(fields: &[(String, String)]) -> String {
    let quoted = |text: &str, bytes_max: usize| {
        let mut quoted = String::from('"');
        for c in text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(bytes_max) {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted + "\""
    };
    let fields: Vec<String> = fields
        .iter()
        .take(ID_FIELDS_MAX)
        .map(|(key, value)| quoted(key, ID_KEY_BYTES_MAX) + " " + &quoted(value, ID_VALUE_BYTES_MAX))
        .collect();
    format!("ID ({})", fields.join(" "))
}

fn joined(first: &[u8], second: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([first, second].concat())
}
