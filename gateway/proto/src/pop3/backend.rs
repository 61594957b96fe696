//! Our own login at the cell.
//!
//! ```text
//!   Greeting ──► Stls ══ TLS ══► Capa … CapaLines ──► Introduction ──► SaslWanted ─┬─► LoggingIn ──► ready
//!                                                     (XOIP, XCLIENT)  or User ────┘
//! ```

use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::{
    InputBuf,
    cell::{self, CellAccount, CellFailure, CellMechanism, CellStep, EnterCell, Heard, Lines, Script, Taken, Xclient},
};

/// Longest command line (RFC 2449 §4), bytes with the line end: a longer initial response goes on a line of its own.
const COMMAND_BYTES_MAX: usize = 255;

/// How to log in at a cell.
#[derive(Debug)]
pub struct CellProfile {
    /// STLS is required before anything else.
    pub starttls: bool,
    /// How the cell hears of the client's address, before login. A cell that refuses it is not entered: it would judge
    /// every user by our address.
    pub introduction: Option<Introduction>,
    /// Who we are.
    pub account: CellAccount,
}

/// The client's address, told to the cell.
#[derive(Clone, Debug)]
pub enum Introduction {
    /// Zimbra's `XOIP`.
    Xoip(IpAddr),
    /// Dovecot's `XCLIENT`.
    Xclient(Xclient),
}

/// Our login at the cell.
#[derive(Debug)]
pub struct CellLogin {
    profile: CellProfile,
    awaiting: Awaiting,
    lines: Lines,
    capabilities: Vec<String>,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    Greeting,
    Stls,
    Capa,
    CapaLines,
    Introduction,
    /// The go-ahead for the SASL message.
    SaslWanted,
    User,
    LoggingIn,
}

impl CellLogin {
    /// Waits for the cell's greeting.
    pub fn new(profile: CellProfile) -> Self {
        Self { profile, awaiting: Awaiting::Greeting, lines: Lines::default(), capabilities: Vec::new() }
    }

    fn say(&mut self, awaiting: Awaiting, words: &[&str]) -> Taken {
        self.awaiting = awaiting;
        Ok(Heard::Say(cell::line(words)))
    }

    fn on_ok(&mut self) -> Taken {
        match self.awaiting {
            Awaiting::Greeting if self.profile.starttls => self.say(Awaiting::Stls, &["STLS"]),
            Awaiting::Greeting => self.say(Awaiting::Capa, &["CAPA"]),
            Awaiting::Stls => Ok(Heard::StartTls),
            Awaiting::Capa => {
                self.awaiting = Awaiting::CapaLines;
                Ok(Heard::Nothing)
            }
            Awaiting::Introduction => self.login(),
            Awaiting::User => {
                let secret = self.profile.account.secret.clone();
                self.say(Awaiting::LoggingIn, &["PASS ", secret.expose()])
            }
            Awaiting::LoggingIn => Ok(Heard::Ready),
            Awaiting::SaslWanted | Awaiting::CapaLines => {
                Err(CellFailure::Protocol("+OK before the credential was sent"))
            }
        }
    }

    fn on_err(&mut self, text: &str) -> Taken {
        Err(match self.awaiting {
            // It knows none of the extensions: USER and PASS are left.
            Awaiting::Capa => {
                self.capabilities.push("USER".to_owned());
                return self.introduce();
            }
            Awaiting::Greeting if is_temporary(text) => CellFailure::Temporary,
            Awaiting::Greeting => CellFailure::Bye,
            Awaiting::Stls => CellFailure::Protocol("STLS refused"),
            Awaiting::Introduction => CellFailure::Protocol("the client's address refused"),
            _ if is_temporary(text) => CellFailure::Temporary,
            _ => CellFailure::Refused,
        })
    }

    fn introduce(&mut self) -> Taken {
        match self.profile.introduction.clone() {
            None => self.login(),
            Some(Introduction::Xoip(address)) => {
                self.say(Awaiting::Introduction, &["XOIP ", &address.to_canonical().to_string()])
            }
            Some(Introduction::Xclient(xclient)) => self.say(Awaiting::Introduction, &[&xclient.command()]),
        }
    }

    fn login(&mut self) -> Taken {
        let account = self.profile.account.clone();
        if !account.is_sendable() {
            return Err(CellFailure::Refused);
        }
        if account.mechanism == CellMechanism::ZimbraToken || self.lists_plain() {
            let (name, message) = (account.mechanism_name(), account.sasl_message());
            if "AUTH  \r\n".len() + name.len() + message.len() > COMMAND_BYTES_MAX {
                return self.say(Awaiting::SaslWanted, &["AUTH ", name]);
            }
            return self.say(Awaiting::LoggingIn, &["AUTH ", name, " ", &message]);
        }
        if account.authzid.is_some() {
            return Err(CellFailure::Protocol("no SASL PLAIN for a master login"));
        }
        if !self.capabilities.iter().any(|line| line.eq_ignore_ascii_case("USER")) {
            return Err(CellFailure::Protocol("no login is offered"));
        }
        self.say(Awaiting::User, &["USER ", &account.username])
    }

    fn lists_plain(&self) -> bool {
        let words = |line: &String| line.split(' ').map(str::to_ascii_uppercase).collect::<Vec<_>>();
        self.capabilities.iter().map(words).any(|words| match words.split_first() {
            Some((name, mechanisms)) => name == "SASL" && mechanisms.iter().any(|mechanism| mechanism == "PLAIN"),
            None => false,
        })
    }
}

impl EnterCell for CellLogin {
    fn on_bytes(self, input: &mut InputBuf) -> CellStep<Self> {
        cell::advance(self, input)
    }

    fn after_starttls(mut self) -> CellStep<Self> {
        let taken = self.say(Awaiting::Capa, &["CAPA"]);
        cell::first(self, taken)
    }
}

impl Script for CellLogin {
    fn next_line(&mut self, input: &mut InputBuf) -> Result<Option<Zeroizing<String>>, CellFailure> {
        self.lines.next(input)
    }

    /// POP3 has nothing that comes unasked.
    fn is_unasked(_text: &str) -> bool {
        false
    }

    fn on_line(&mut self, text: &str) -> Taken {
        if self.awaiting == Awaiting::CapaLines {
            if text == "." {
                return self.introduce();
            }
            self.capabilities.push(cell::printable(text));
            return Ok(Heard::Nothing);
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match (word, self.awaiting) {
            ("+OK", _) => self.on_ok(),
            ("-ERR", _) => self.on_err(rest),
            (_, Awaiting::Greeting) => Err(CellFailure::Protocol("no POP3 greeting")),
            ("+", Awaiting::SaslWanted) => {
                let message = self.profile.account.sasl_message();
                self.say(Awaiting::LoggingIn, &[&message])
            }
            ("+", _) => Err(CellFailure::Protocol("a go-ahead for nothing")),
            _ => Err(CellFailure::Protocol("neither +OK nor -ERR")),
        }
    }

    fn capability(self) -> Option<String> {
        Some(self.capabilities.join("\n"))
    }
}

/// Whether a refusal may be a yes later (RFC 2449 §8.1, RFC 3206 §4).
fn is_temporary(text: &str) -> bool {
    const TEMPORARY: [&str; 3] = ["SYS/TEMP", "IN-USE", "LOGIN-DELAY"];
    let code = text.strip_prefix('[').and_then(|text| text.split(']').next());
    code.is_some_and(|code| TEMPORARY.iter().any(|name| code.eq_ignore_ascii_case(name)))
}
