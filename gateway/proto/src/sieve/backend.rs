//! Our own login at the cell.
//!
//! ```text
//!   List … OK ──► StartTls ══ TLS ══► List … OK ──► Xclient ──► LoggingIn ──► ready
//! ```
//! The list comes unasked, in the greeting and again behind TLS (RFC 5804 §2.2); only the last one counts.

use zeroize::Zeroizing;

use crate::{
    InputBuf,
    cell::{
        self, CellAccount, CellFailure, CellMechanism, CellStep, EnterCell, Heard, LINE_BYTES_MAX, Lines, Script,
        Taken, Xclient,
    },
    line::{LITERALS_MAX, Piece, Split, Splitter},
};

use super::reply::quoted;

/// Longest quoted string (RFC 5804 §4), bytes: a longer SASL message is a literal.
const QUOTED_BYTES_MAX: usize = 1024;

/// How to log in at a cell.
#[derive(Debug)]
pub struct CellProfile {
    /// STARTTLS is required before anything else.
    pub starttls: bool,
    /// The client's address, told to a Dovecot cell. A cell that refuses it is not entered: it would judge every user
    /// by our address.
    pub xclient: Option<Xclient>,
    /// Who we are.
    pub account: CellAccount,
}

/// Our login at the cell.
#[derive(Debug)]
pub struct CellLogin {
    profile: CellProfile,
    awaiting: Awaiting,
    splitter: Splitter,
    lines: Lines,
    sasl: Option<String>,
    extensions: Option<String>,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    List,
    StartTls,
    Xclient,
    LoggingIn,
}

impl CellLogin {
    /// Waits for the cell's greeting.
    pub fn new(profile: CellProfile) -> Self {
        Self {
            profile,
            awaiting: Awaiting::List,
            splitter: Splitter::default(),
            lines: Lines::default(),
            sasl: None,
            extensions: None,
        }
    }

    fn say(&mut self, awaiting: Awaiting, words: &[&str]) -> Taken {
        self.awaiting = awaiting;
        Ok(Heard::Say(cell::line(words)))
    }

    fn on_ok(&mut self) -> Taken {
        match self.awaiting {
            Awaiting::List if self.profile.starttls => self.say(Awaiting::StartTls, &["STARTTLS"]),
            Awaiting::List => match self.profile.xclient.as_ref().map(Xclient::command) {
                Some(xclient) => self.say(Awaiting::Xclient, &[&xclient]),
                None => self.login(),
            },
            Awaiting::StartTls => Ok(Heard::StartTls),
            Awaiting::Xclient => self.login(),
            Awaiting::LoggingIn => Ok(Heard::Ready),
        }
    }

    fn on_no(&self, text: &str) -> CellFailure {
        match self.awaiting {
            Awaiting::List => CellFailure::Protocol("no ManageSieve greeting"),
            Awaiting::StartTls => CellFailure::Protocol("STARTTLS refused"),
            Awaiting::Xclient => CellFailure::Protocol("the client's address refused"),
            Awaiting::LoggingIn => refusal(text).unwrap_or(CellFailure::Refused),
        }
    }

    fn login(&mut self) -> Taken {
        let account = &self.profile.account;
        if !account.is_sendable() {
            return Err(CellFailure::Refused);
        }
        let mut listed = self.sasl.iter().flat_map(|names| names.split(' '));
        if account.mechanism == CellMechanism::Plain && !listed.any(|name| name.eq_ignore_ascii_case("PLAIN")) {
            return Err(CellFailure::Protocol("no SASL PLAIN is offered"));
        }
        let (name, message) = (account.mechanism_name(), account.sasl_message());
        if message.len() <= QUOTED_BYTES_MAX {
            return self.say(Awaiting::LoggingIn, &["AUTHENTICATE \"", name, "\" \"", &message, "\""]);
        }
        let announced = format!("\" {{{}+}}\r\n", message.len());
        self.say(Awaiting::LoggingIn, &["AUTHENTICATE \"", name, &announced, &message])
    }

    fn on_capability(&mut self, text: &str) -> Taken {
        if self.awaiting != Awaiting::List {
            return Err(CellFailure::Protocol("a string that was not asked for"));
        }
        let (name, rest) = unquoted(text).ok_or(CellFailure::Protocol("no capability"))?;
        let value = unquoted(rest.trim_start()).map(|(value, _)| value).unwrap_or_default();
        match () {
            () if name.eq_ignore_ascii_case("SASL") => self.sasl = Some(value),
            () if name.eq_ignore_ascii_case("SIEVE") => self.extensions = Some(cell::printable(&value)),
            () => {}
        }
        Ok(Heard::Nothing)
    }
}

impl EnterCell for CellLogin {
    fn on_bytes(self, input: &mut InputBuf) -> CellStep<Self> {
        cell::advance(self, input)
    }

    fn after_starttls(mut self) -> CellStep<Self> {
        (self.sasl, self.extensions) = (None, None);
        self.profile.starttls = false;
        self.awaiting = Awaiting::List;
        cell::first(self, Ok(Heard::Nothing))
    }
}

impl Script for CellLogin {
    /// One response, its literals written as quoted strings: what is read next is one line.
    fn next_line(&mut self, input: &mut InputBuf) -> Result<Option<Zeroizing<String>>, CellFailure> {
        loop {
            let bytes = input.as_slice();
            match self.splitter.advance(bytes, LINE_BYTES_MAX) {
                Split::More => return Ok(None),
                Split::Announced { length, .. }
                    if length <= LINE_BYTES_MAX && self.splitter.literals() < LITERALS_MAX =>
                {
                    self.splitter.accept_literal(length);
                }
                Split::TooLong | Split::Announced { .. } => {
                    return Err(CellFailure::Protocol("a line is too long"));
                }
                Split::Whole(taken) => {
                    self.lines.count()?;
                    let response = one_line(bytes, self.splitter.pieces());
                    input.consume(taken);
                    self.splitter = Splitter::default();
                    return Ok(Some(Zeroizing::new(response)));
                }
            }
        }
    }

    /// RFC 5804 §1.2: nothing but BYE comes unasked.
    fn is_unasked(text: &str) -> bool {
        text.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("BYE"))
    }

    fn on_line(&mut self, text: &str) -> Taken {
        if text.starts_with('"') {
            return self.on_capability(text);
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match () {
            () if word.eq_ignore_ascii_case("OK") => self.on_ok(),
            () if word.eq_ignore_ascii_case("NO") => Err(self.on_no(rest)),
            () if word.eq_ignore_ascii_case("BYE") => Err(refusal(rest).unwrap_or(CellFailure::Bye)),
            () if self.awaiting == Awaiting::List => Err(CellFailure::Protocol("no ManageSieve greeting")),
            () => Err(CellFailure::Protocol("no OK, NO or BYE")),
        }
    }

    fn capability(self) -> Option<String> {
        self.extensions
    }
}

/// A cell's texts may be in any character set; only ASCII words are looked at.
fn one_line(bytes: &[u8], pieces: &[Piece]) -> String {
    let text = |range: &std::ops::Range<usize>| {
        String::from_utf8_lossy(bytes.get(range.clone()).unwrap_or_default()).into_owned()
    };
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(range) => text(range),
            Piece::Literal(range) => quoted(&text(range)),
        })
        .collect()
}

/// The quoted string at the start, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((content, text.get(at + 1..).unwrap_or_default())),
            '\\' => content.push(chars.next()?.1),
            c => content.push(c),
        }
    }
    None
}

/// What a refusal's code says, if it is one of those that promise a yes later or elsewhere (RFC 5804 §1.3).
fn refusal(text: &str) -> Option<CellFailure> {
    let code = text.strip_prefix('(')?.split([')', ' ']).next()?;
    match () {
        () if code.eq_ignore_ascii_case("TRYLATER") => Some(CellFailure::Temporary),
        () if code.eq_ignore_ascii_case("REFERRAL") => Some(CellFailure::Elsewhere),
        () => None,
    }
}
