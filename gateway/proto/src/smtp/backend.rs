//! Our own login at the cell.
//!
//! ```text
//!   Greeting ─► Ehlo ─► StartTls ══ TLS ══╗    ┌────────► AUTH PLAIN ─► LoggingIn ─► ready
//!                ▲ ▲      (configured)    ║    │ (short: with the message)   ▲
//!                │ ╚══════════════════════╝    │                             │
//!                └──── Xclient ◄───────────────┴────────► SaslWanted … ──────┘
//!                     (configured; its good answer is a new greeting)
//! ```
//! One command at a time. Each EHLO reply replaces what was known of the cell before (RFC 3207 §4.2); what was configured
//! and is not offered ends the login, because going on without it would tell the cell a wrong address or a password in
//! the clear.

use std::{fmt, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    InputBuf, SecretText,
    cell::{AHEAD, BYTES_BEFORE_TLS, CellFailure, CellStep, EnterCell},
    sasl,
};

use super::cell_reply::{CellReply, ReplyReader};

/// Longest command that is sent as one line, bytes, with its end (RFC 5321 §4.5.3.1.4). A SASL message that makes it
/// longer goes on a line of its own (RFC 4954 §4).
const COMMAND_BYTES_MAX: usize = 512;
/// Most replies taken from a cell until the login is through.
const REPLIES_MAX: u8 = 16;

/// How to log in at a cell.
#[derive(Debug)]
pub struct CellProfile {
    /// STARTTLS is required before anything else.
    pub starttls: bool,
    /// Our name, for EHLO.
    pub hostname: String,
    /// Told to the cell by XCLIENT, and a cell that does not take it is a failure. `None`: nothing is told this way.
    pub client: Option<ClientFacts>,
    /// authcid.
    pub username: String,
    /// Password.
    pub password: SecretText,
    /// authzid, for master login.
    pub authzid: Option<String>,
}

/// What XCLIENT tells of a client.
#[derive(Clone, Debug)]
pub struct ClientFacts {
    /// Its address.
    pub address: SocketAddr,
    /// The name it gave with EHLO.
    pub helo: Option<String>,
    /// LOGIN: the name it is logged in with, for a cell that takes our word instead of a login of its own. Usually `None`.
    pub login: Option<String>,
}

/// Our login at the cell.
#[derive(Debug)]
pub struct CellLogin {
    profile: CellProfile,
    awaiting: Awaiting,
    reader: ReplyReader,
    replies: u8,
    offer: Offer,
}

/// What we wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    Greeting,
    Ehlo,
    StartTls,
    Tls,
    Xclient,
    /// The go-ahead for the PLAIN message.
    SaslWanted,
    /// The go-aheads of LOGIN.
    UserWanted,
    PasswordWanted,
    LoggingIn,
    /// Logged in.
    Nothing,
}

/// What the cell listed last.
#[derive(Default)]
struct Offer(String);

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({:?})", self.0.lines().collect::<Vec<_>>())
    }
}

impl Offer {
    /// The EHLO reply without its first line, which names the host. Only ASCII words are looked at.
    fn read(reply: &CellReply) -> Self {
        let lines = reply.texts().skip(1).map(String::from_utf8_lossy);
        Self(
            lines.fold(
                String::new(),
                |list, line| if list.is_empty() { line.into_owned() } else { list + "\n" + &line },
            ),
        )
    }

    /// The words behind a keyword; some cells write `AUTH=PLAIN` for old programs.
    fn words(&self, keyword: &str) -> Option<impl Iterator<Item = &str>> {
        let mut lines = self.0.lines().map(|line| line.split([' ', '=']));
        lines.find_map(|mut words| {
            words.next().is_some_and(|first| first.eq_ignore_ascii_case(keyword)).then_some(words)
        })
    }

    fn has(&self, keyword: &str, word: &str) -> bool {
        self.words(keyword).is_some_and(|mut words| words.any(|listed| listed.eq_ignore_ascii_case(word)))
    }
}

type Taken = Result<Option<Zeroizing<Vec<u8>>>, CellFailure>;

impl CellLogin {
    /// Waits for the cell's greeting.
    pub fn new(profile: CellProfile) -> Self {
        Self {
            profile,
            awaiting: Awaiting::Greeting,
            reader: ReplyReader::default(),
            replies: 0,
            offer: Offer::default(),
        }
    }
}

impl EnterCell for CellLogin {
    fn on_bytes(mut self, input: &mut InputBuf) -> CellStep<Self> {
        let mut send = Zeroizing::new(Vec::new());
        loop {
            let reply = match self.reader.read(input.as_slice()) {
                Ok((taken, reply)) => {
                    input.consume(taken);
                    reply
                }
                Err(what) => return CellStep::Failed(CellFailure::Protocol(what)),
            };
            let Some(reply) = reply else {
                return CellStep::Send { next: self, bytes: send };
            };
            self.replies += 1;
            if self.replies > REPLIES_MAX {
                return CellStep::Failed(CellFailure::Protocol("too many replies before login"));
            }
            // What is still to be sent cannot have been answered.
            if !send.is_empty() {
                return CellStep::Failed(CellFailure::Protocol(AHEAD));
            }
            match self.on_reply(&reply) {
                Ok(None) if self.awaiting == Awaiting::Tls => {
                    // Response injection: what was sent before TLS would be read as if it came through it.
                    return match input.is_empty() {
                        true => CellStep::Upgrade { next: self },
                        false => CellStep::Failed(CellFailure::Protocol(BYTES_BEFORE_TLS)),
                    };
                }
                Ok(None) => {
                    // No server speaks unasked: the client would take it for the reply to its first command.
                    return match input.is_empty() {
                        true => CellStep::Ready { capability: Some(self.offer.0) },
                        false => CellStep::Failed(CellFailure::Protocol(AHEAD)),
                    };
                }
                Ok(Some(more)) => send = more,
                Err(failure) => return CellStep::Failed(failure),
            }
        }
    }

    fn after_starttls(mut self) -> CellStep<Self> {
        self.offer = Offer::default();
        self.profile.starttls = false;
        let bytes = self.ehlo();
        CellStep::Send { next: self, bytes }
    }
}

impl CellLogin {
    fn on_reply(&mut self, reply: &CellReply) -> Taken {
        let code = reply.code;
        // 421 may come at any time; 4xx is no verdict on the user.
        if (400..500).contains(&code) {
            return Err(CellFailure::Temporary);
        }
        match (self.awaiting, code) {
            (Awaiting::Greeting | Awaiting::Xclient, 220) => Ok(Some(self.ehlo())),
            (Awaiting::Ehlo, 250) => {
                self.offer = Offer::read(reply);
                self.go_on()
            }
            (Awaiting::StartTls, 220) => {
                self.awaiting = Awaiting::Tls;
                Ok(None)
            }
            (Awaiting::SaslWanted, 334) => {
                let message = self.sasl_message();
                Ok(Some(self.send(Awaiting::LoggingIn, &[&message])))
            }
            (Awaiting::UserWanted, 334) => {
                let username = base64(&self.profile.username);
                Ok(Some(self.send(Awaiting::PasswordWanted, &[&username])))
            }
            (Awaiting::PasswordWanted, 334) => {
                let password = base64(self.profile.password.expose());
                Ok(Some(self.send(Awaiting::LoggingIn, &[&password])))
            }
            (Awaiting::LoggingIn, 235) => {
                self.awaiting = Awaiting::Nothing;
                Ok(None)
            }
            (Awaiting::Greeting, _) => Err(CellFailure::Protocol("no SMTP greeting")),
            (Awaiting::Ehlo, _) => Err(CellFailure::Protocol("EHLO refused")),
            (Awaiting::StartTls, _) => Err(CellFailure::Protocol("STARTTLS refused")),
            (Awaiting::Xclient, _) => Err(CellFailure::Protocol("XCLIENT refused")),
            (Awaiting::Tls | Awaiting::Nothing, _) => Err(CellFailure::Protocol(AHEAD)),
            // RFC 4954 §6: what it says of the way of the login is no word on the user.
            (_, 500..=504 | 530 | 538) => Err(CellFailure::Protocol("the cell takes no such login")),
            (_, 500..) => Err(CellFailure::Refused),
            (_, 334) => Err(CellFailure::Protocol("a go-ahead for nothing")),
            _ => Err(CellFailure::Protocol("OK before the credential was sent")),
        }
    }

    /// The next command: TLS, then XCLIENT, then the login. Behind each of the first two the cell starts anew.
    fn go_on(&mut self) -> Taken {
        if self.profile.starttls {
            if self.offer.words("STARTTLS").is_none() {
                return Err(CellFailure::Protocol("STARTTLS is not offered"));
            }
            return Ok(Some(self.send(Awaiting::StartTls, &["STARTTLS"])));
        }
        if let Some(client) = self.profile.client.take() {
            let command = xclient(&client, &self.offer)?;
            return Ok(Some(self.send(Awaiting::Xclient, &[&command])));
        }
        self.login()
    }

    fn ehlo(&mut self) -> Zeroizing<Vec<u8>> {
        let hostname: String = self.profile.hostname.chars().filter(char::is_ascii_graphic).collect();
        self.send(Awaiting::Ehlo, &["EHLO ", &hostname])
    }

    fn login(&mut self) -> Taken {
        let profile = &self.profile;
        let parts =
            [profile.username.as_str(), profile.password.expose(), profile.authzid.as_deref().unwrap_or_default()];
        if parts.iter().any(|part| part.contains(['\0', '\r', '\n'])) {
            return Err(CellFailure::Refused);
        }
        if self.offer.has("AUTH", "PLAIN") {
            let message = self.sasl_message();
            let command = "AUTH PLAIN ";
            if command.len() + message.len() + 2 <= COMMAND_BYTES_MAX {
                return Ok(Some(self.send(Awaiting::LoggingIn, &[command, &message])));
            }
            return Ok(Some(self.send(Awaiting::SaslWanted, &["AUTH PLAIN"])));
        }
        if profile.authzid.is_none() && self.offer.has("AUTH", "LOGIN") {
            return Ok(Some(self.send(Awaiting::UserWanted, &["AUTH LOGIN"])));
        }
        Err(CellFailure::Protocol("no mechanism of ours is offered"))
    }

    fn sasl_message(&self) -> Zeroizing<String> {
        sasl::encode_plain(self.profile.authzid.as_deref(), &self.profile.username, &self.profile.password)
    }

    fn send(&mut self, awaiting: Awaiting, words: &[&str]) -> Zeroizing<Vec<u8>> {
        self.awaiting = awaiting;
        let length: usize = words.iter().map(|word| word.len()).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 2));
        for word in words {
            bytes.extend_from_slice(word.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// `XCLIENT` with the attributes the cell lists (Postfix's XCLIENT_README). The address is what it is for: without it there
/// is nothing to say. NAME is never looked up, because a name that the client's network chose proves nothing.
fn xclient(client: &ClientFacts, offer: &Offer) -> Result<String, CellFailure> {
    if !offer.has("XCLIENT", "ADDR") {
        return Err(CellFailure::Protocol("XCLIENT is not offered"));
    }
    let address = match client.address.ip().to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("IPV6:{address}"),
    };
    let mut command = String::from("XCLIENT");
    let attributes = [
        ("NAME", Some("[UNAVAILABLE]".to_owned())),
        ("ADDR", Some(address)),
        ("PORT", Some(client.address.port().to_string())),
        ("PROTO", Some("ESMTP".to_owned())),
        ("LOGIN", client.login.as_deref().map(xtext)),
        ("HELO", client.helo.as_deref().map(xtext)),
    ];
    for (name, value) in attributes {
        let Some(value) = value else { continue };
        if !offer.has("XCLIENT", name) {
            if name == "LOGIN" {
                // Left out, the cell would take the session for another's, or for nobody's.
                return Err(CellFailure::Protocol("XCLIENT LOGIN is not offered"));
            }
            continue;
        }
        if command.len() + name.len() + value.len() + 4 > COMMAND_BYTES_MAX {
            if name == "HELO" {
                continue;
            }
            return Err(CellFailure::Refused);
        }
        command.push(' ');
        command.push_str(name);
        command.push('=');
        command.push_str(&value);
    }
    Ok(command)
}

/// RFC 3461 §4: what is not printable, and `+` and `=`, as `+` and two hexadecimal digits.
fn xtext(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut xtext, byte| {
        match byte {
            b'+' | b'=' => xtext.push_str(&format!("+{byte:02X}")),
            b'!'..=b'~' => xtext.push(char::from(byte)),
            _ => xtext.push_str(&format!("+{byte:02X}")),
        }
        xtext
    })
}

fn base64(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(text.len().div_ceil(3) * 4));
    STANDARD.encode_string(text, &mut encoded);
    encoded
}
