//! Our own login at the cell.
//!
//! ```text
//!   Greeting ──► StartTls ══ TLS ══► Capability ──► Id ──► SaslWanted ────────► LoggingIn ──► CapabilityAfter ──► ready
//!                                    (unknown yet)  (listed)  or UserWanted, PasswordWanted     (not told yet)
//! ```
//! One command at a time, each under our own tag, and every answer must carry the tag that is awaited.

use zeroize::Zeroizing;

use crate::{
    InputBuf,
    cell::{self, CellAccount, CellFailure, CellMechanism, CellStep, EnterCell, Heard, Lines, Script, Taken},
};

/// Longest value of an ID field (RFC 2971 §3.3); a key has at most 30, a list at most 30 fields.
const ID_VALUE_BYTES_MAX: usize = 1024;
const ID_KEY_BYTES_MAX: usize = 30;
const ID_FIELDS_MAX: usize = 30;

/// How to log in at a cell.
#[derive(Debug)]
pub struct CellProfile {
    /// STARTTLS is required before anything else.
    pub starttls: bool,
    /// Fields for `ID`, sent before login; empty: no ID.
    pub id_fields: Vec<(String, String)>,
    /// Who we are.
    pub account: CellAccount,
}

/// Our login at the cell.
#[derive(Debug)]
pub struct CellLogin {
    profile: CellProfile,
    awaiting: Awaiting,
    lines: Lines,
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

impl CellLogin {
    /// Waits for the cell's greeting.
    pub fn new(profile: CellProfile) -> Self {
        Self {
            profile,
            awaiting: Awaiting::Greeting,
            lines: Lines::default(),
            tag: 0,
            capability: None,
            id_sent: false,
        }
    }
}

impl EnterCell for CellLogin {
    fn on_bytes(self, input: &mut InputBuf) -> CellStep<Self> {
        cell::advance(self, input)
    }

    fn after_starttls(mut self) -> CellStep<Self> {
        self.capability = None;
        self.profile.starttls = false;
        let taken = self.go_on();
        cell::first(self, taken)
    }
}

impl Script for CellLogin {
    fn next_line(&mut self, input: &mut InputBuf) -> Result<Option<Zeroizing<String>>, CellFailure> {
        self.lines.next(input)
    }

    fn is_unasked(text: &str) -> bool {
        text.starts_with("* ")
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
                Ok(Heard::Nothing)
            }
            Line::UntaggedOk(text) => {
                if let Some(list) = capability_code(text) {
                    self.capability = Some(list);
                }
                Ok(Heard::Nothing)
            }
            Line::PreAuth => Err(CellFailure::Protocol("PREAUTH greeting")),
            Line::Other | Line::Bye => Ok(Heard::Nothing),
            Line::Continue => self.on_continue(),
            Line::Ok(text) => self.on_ok(text),
            Line::No(text) => self.on_no(text),
            Line::Bad => self.on_no(""),
        }
    }

    fn capability(self) -> Option<String> {
        self.capability
    }
}

impl CellLogin {
    fn on_ok(&mut self, text: &str) -> Taken {
        match self.awaiting {
            Awaiting::StartTls => {
                self.awaiting = Awaiting::Tls;
                Ok(Heard::StartTls)
            }
            Awaiting::Capability if self.capability.is_none() => Err(CellFailure::Protocol("no capability list")),
            Awaiting::Capability | Awaiting::Id => self.go_on(),
            Awaiting::LoggingIn => {
                if let Some(list) = capability_code(text) {
                    self.capability = Some(list);
                }
                match self.capability {
                    Some(_) => Ok(Heard::Ready),
                    None => Ok(Heard::Say(self.command(Awaiting::CapabilityAfter, &["CAPABILITY"]))),
                }
            }
            Awaiting::CapabilityAfter => Ok(Heard::Ready),
            _ => Err(CellFailure::Protocol("OK before the credential was sent")),
        }
    }

    fn on_no(&mut self, text: &str) -> Taken {
        match self.awaiting {
            // What an ID is answered with, or whether the list comes after login, changes nothing for the user.
            Awaiting::Id => self.go_on(),
            Awaiting::CapabilityAfter => Ok(Heard::Ready),
            Awaiting::StartTls => Err(CellFailure::Protocol("STARTTLS refused")),
            Awaiting::SaslWanted | Awaiting::UserWanted | Awaiting::PasswordWanted | Awaiting::LoggingIn => {
                Err(refusal(text))
            }
            _ => Err(CellFailure::Protocol("a command refused")),
        }
    }

    fn on_continue(&mut self) -> Taken {
        let account = &self.profile.account;
        let (bytes, awaiting) = match self.awaiting {
            Awaiting::SaslWanted => (cell::line(&[&account.sasl_message()]), Awaiting::LoggingIn),
            Awaiting::UserWanted => {
                let announced = format!(" {{{}}}", account.secret.expose().len());
                (cell::line(&[&account.username, &announced]), Awaiting::PasswordWanted)
            }
            Awaiting::PasswordWanted => (cell::line(&[account.secret.expose()]), Awaiting::LoggingIn),
            _ => return Err(CellFailure::Protocol("a go-ahead for nothing")),
        };
        self.awaiting = awaiting;
        Ok(Heard::Say(bytes))
    }

    /// The next command: TLS, then the capability list, then ID, then the login.
    fn go_on(&mut self) -> Taken {
        if self.profile.starttls {
            return Ok(Heard::Say(self.command(Awaiting::StartTls, &["STARTTLS"])));
        }
        let Some(list) = self.capability.clone() else {
            return Ok(Heard::Say(self.command(Awaiting::Capability, &["CAPABILITY"])));
        };
        let lists = |name: &str| list.split(' ').any(|listed| listed.eq_ignore_ascii_case(name));
        if !self.id_sent && !self.profile.id_fields.is_empty() && lists("ID") {
            self.id_sent = true;
            let id = id_command(&self.profile.id_fields);
            return Ok(Heard::Say(self.command(Awaiting::Id, &[&id])));
        }
        self.login(&lists)
    }

    fn login(&mut self, lists: &dyn Fn(&str) -> bool) -> Taken {
        let account = self.profile.account.clone();
        if !account.is_sendable() {
            return Err(CellFailure::Refused);
        }
        // From here on a list is the one after login.
        self.capability = None;
        if lists("AUTH=PLAIN") || account.mechanism == CellMechanism::ZimbraToken {
            let name = account.mechanism_name();
            if !lists("SASL-IR") {
                return Ok(Heard::Say(self.command(Awaiting::SaslWanted, &["AUTHENTICATE ", name])));
            }
            let words = ["AUTHENTICATE ", name, " ", &account.sasl_message()];
            return Ok(Heard::Say(self.command(Awaiting::LoggingIn, &words)));
        }
        if account.authzid.is_some() {
            return Err(CellFailure::Protocol("no AUTH=PLAIN for a master login"));
        }
        if lists("LOGINDISABLED") {
            return Err(CellFailure::Protocol("no login is offered"));
        }
        let (user, password) = (account.username.as_str(), account.secret.expose());
        if !(lists("LITERAL+") || lists("LITERAL-")) {
            let announced = format!("LOGIN {{{}}}", user.len());
            return Ok(Heard::Say(self.command(Awaiting::UserWanted, &[&announced])));
        }
        let user = format!("LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n", user.len(), password.len());
        Ok(Heard::Say(self.command(Awaiting::LoggingIn, &[&user, password])))
    }

    fn command(&mut self, awaiting: Awaiting, words: &[&str]) -> Zeroizing<Vec<u8>> {
        self.awaiting = awaiting;
        self.tag += 1;
        let tag = format!("G{} ", self.tag);
        cell::line(&[&[tag.as_str()], words].concat())
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

/// What a `NO` to the login means: whether it may be an `OK` later (RFC 9051 §7.1; Zimbra says `ALERT` in maintenance) or
/// elsewhere (RFC 2221; Zimbra without it says `(wrong host)` at the end of its text).
fn refusal(text: &str) -> CellFailure {
    const TEMPORARY: [&str; 5] = ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "ALERT"];
    let code = text.strip_prefix('[').and_then(|text| text.split([']', ' ']).next());
    let is = |name: &str| code.is_some_and(|code| code.eq_ignore_ascii_case(name));
    match () {
        () if is("REFERRAL") || (code.is_none() && text.ends_with("(wrong host)")) => CellFailure::Elsewhere,
        () if TEMPORARY.into_iter().any(is) => CellFailure::Temporary,
        () => CellFailure::Refused,
    }
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
