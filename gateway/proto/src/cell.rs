//! Our own login at a cell: what IMAP, POP3 and ManageSieve have in common.
//!
//! One command at a time. The cell is trusted to hold mail, not to speak well: lines and their number are bounded, an
//! answer that comes ahead of its command is no answer, and nothing may wait behind the one that leads to TLS.

use std::{fmt, net::SocketAddr};

use zeroize::Zeroizing;

use crate::{InputBuf, SecretText, line::LineScan, sasl};

/// Longest line taken from a cell, bytes.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most lines taken from a cell until the login is through.
pub(crate) const LINES_MAX: u8 = 64;

/// The failure when an answer comes ahead of its command.
pub(crate) const AHEAD: &str = "an answer before the command";
/// The failure when the cell sends what only TLS may carry.
pub(crate) const BYTES_BEFORE_TLS: &str = "bytes before TLS";

/// A login at a cell, by whatever protocol.
pub trait EnterCell: Sized {
    /// Bytes came from the cell.
    fn on_bytes(self, input: &mut InputBuf) -> CellStep<Self>;

    /// TLS with the cell is up. What the cell said before is forgotten.
    fn after_starttls(self) -> CellStep<Self>;
}

/// Who we are to the cell.
#[derive(Clone, Debug)]
pub struct CellAccount {
    /// How it is proved.
    pub mechanism: CellMechanism,
    /// authcid: the user, or the master.
    pub username: String,
    /// Password, or Zimbra's auth token.
    pub secret: SecretText,
    /// authzid: the user, for a master login.
    pub authzid: Option<String>,
}

/// How we log in at a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellMechanism {
    /// SASL PLAIN (RFC 4616), or the protocol's own command where the cell knows no better.
    Plain,
    /// Zimbra's `X-ZIMBRA`: an auth token instead of a password. No Zimbra lists it, each takes it.
    ZimbraToken,
}

impl CellAccount {
    /// Whether it can be sent without becoming a command.
    pub(crate) fn is_sendable(&self) -> bool {
        let authzid = self.authzid.as_deref().unwrap_or_default();
        ![&self.username, self.secret.expose(), authzid].iter().any(|part| part.contains(['\0', '\r', '\n']))
    }

    pub(crate) fn mechanism_name(&self) -> &'static str {
        match self.mechanism {
            CellMechanism::Plain => "PLAIN",
            CellMechanism::ZimbraToken => "X-ZIMBRA",
        }
    }

    /// The one message of both mechanisms, in base64: authzid NUL authcid NUL secret.
    pub(crate) fn sasl_message(&self) -> Zeroizing<String> {
        let authzid = match self.mechanism {
            CellMechanism::Plain => self.authzid.as_deref(),
            // Zimbra names the account twice when the token is the user's own.
            CellMechanism::ZimbraToken => Some(self.authzid.as_deref().unwrap_or(&self.username)),
        };
        sasl::encode_plain(authzid, &self.username, &self.secret)
    }
}

/// The client, told to a Dovecot cell by `XCLIENT` in POP3 and ManageSieve. The cell must trust our address.
#[derive(Clone, Debug)]
pub struct Xclient {
    /// The client's address and port.
    pub client: SocketAddr,
    /// Names the session in the cell's log; up to 64 characters, others than visible ones are left out.
    pub session: String,
    /// Proxies that may still follow: a loop of proxies comes to an end.
    pub ttl: u8,
}

impl Xclient {
    const SESSION_CHARS_MAX: usize = 64;

    /// `XCLIENT ADDR=… PORT=… SESSION=… TTL=…`, without line end; below Dovecot's 1,024 bytes.
    pub(crate) fn command(&self) -> String {
        let mut command = format!("XCLIENT ADDR={} PORT={}", self.client.ip().to_canonical(), self.client.port());
        // Letters, digits and a few signs: in ManageSieve it must be an atom.
        let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.+/=:".contains(*c);
        let session: String = self.session.chars().filter(plain).take(Self::SESSION_CHARS_MAX).collect();
        if !session.is_empty() {
            command.push_str(" SESSION=");
            command.push_str(&session);
        }
        command + &format!(" TTL={}", self.ttl)
    }
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
        /// What the cell can do, when it said so. IMAP: the list after login, for the client. POP3: the lines of CAPA
        /// before login. ManageSieve: its Sieve extensions.
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
    /// Refused with a temporary code (`UNAVAILABLE`, `SYS/TEMP`, `TRYLATER` …).
    #[error("the cell cannot take the login now")]
    Temporary,
    /// It says that the mailbox is elsewhere. Where, is not its word to give.
    #[error("the cell says that the mailbox is elsewhere")]
    Elsewhere,
    /// It refuses a login that the directory allowed. Or the credential cannot be put into the protocol.
    #[error("the cell refused the login")]
    Refused,
    /// PREAUTH greeting, bytes before TLS, wrong tag, over-long line.
    #[error("the cell broke the protocol: {0}")]
    Protocol(&'static str),
    /// It sent us away: `BYE`, or a greeting that is a refusal.
    #[error("the cell said BYE")]
    Bye,
}

/// What one line of the cell led to.
pub(crate) enum Heard {
    /// Read on.
    Nothing,
    /// Send this and read on.
    Say(Zeroizing<Vec<u8>>),
    /// The cell waits for TLS.
    StartTls,
    /// Logged in.
    Ready,
}

pub(crate) type Taken = Result<Heard, CellFailure>;

/// A protocol's part of the login.
pub(crate) trait Script: Sized {
    /// Takes one line, or what the protocol has instead, off the input.
    fn next_line(&mut self, input: &mut InputBuf) -> Result<Option<Zeroizing<String>>, CellFailure>;

    /// Whether the cell may say so without being asked.
    fn is_unasked(text: &str) -> bool;

    fn on_line(&mut self, text: &str) -> Taken;

    /// What `Ready` tells.
    fn capability(self) -> Option<String>;
}

/// Works off what came.
pub(crate) fn advance<S: Script>(mut script: S, input: &mut InputBuf) -> CellStep<S> {
    let mut send = Zeroizing::new(Vec::new());
    loop {
        let text = match script.next_line(input) {
            Ok(Some(text)) => text,
            Ok(None) => return CellStep::Send { next: script, bytes: send },
            Err(failure) => return CellStep::Failed(failure),
        };
        // What is still to be sent cannot have been answered: a cell that does so, or who speaks for it, would end the
        // dialogue with a login that never left.
        if !send.is_empty() && !S::is_unasked(&text) {
            return CellStep::Failed(CellFailure::Protocol(AHEAD));
        }
        match script.on_line(&text) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Say(more)) => send = Zeroizing::new([send.as_slice(), &more].concat()),
            // Response injection: what was sent before TLS would be read as if it came through it.
            Ok(Heard::StartTls) if !input.is_empty() => {
                return CellStep::Failed(CellFailure::Protocol(BYTES_BEFORE_TLS));
            }
            Ok(Heard::StartTls) => return CellStep::Upgrade { next: script },
            Ok(Heard::Ready) => return CellStep::Ready { capability: script.capability() },
            Err(failure) => return CellStep::Failed(failure),
        }
    }
}

/// What a script says first behind TLS.
pub(crate) fn first<S: Script>(script: S, taken: Taken) -> CellStep<S> {
    match taken {
        Ok(Heard::Say(bytes)) => CellStep::Send { next: script, bytes },
        Ok(Heard::Nothing) => CellStep::Send { next: script, bytes: Zeroizing::default() },
        Ok(Heard::StartTls) => CellStep::Failed(CellFailure::Protocol("TLS within TLS")),
        Ok(Heard::Ready) => CellStep::Ready { capability: script.capability() },
        Err(failure) => CellStep::Failed(failure),
    }
}

/// Takes lines off the input, as long and as many as are allowed.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    scan: LineScan,
    count: u8,
}

impl Lines {
    /// A cell's texts may be in any character set; only ASCII words are looked at.
    pub(crate) fn next(&mut self, input: &mut InputBuf) -> Result<Option<Zeroizing<String>>, CellFailure> {
        let bytes = input.as_slice();
        let line = self.scan.find(bytes);
        if line.map_or(bytes.len(), |line| line.length) > LINE_BYTES_MAX {
            return Err(CellFailure::Protocol("a line is too long"));
        }
        let Some(line) = line else { return Ok(None) };
        self.count()?;
        let text = String::from_utf8_lossy(bytes.get(..line.text).unwrap_or_default()).into_owned();
        input.consume(line.length);
        self.scan = LineScan::default();
        Ok(Some(Zeroizing::new(text)))
    }

    pub(crate) fn count(&mut self) -> Result<(), CellFailure> {
        self.count = self.count.saturating_add(1);
        if self.count > LINES_MAX { Err(CellFailure::Protocol("too many lines before login")) } else { Ok(()) }
    }
}

/// A cell's text as it may be kept, compared and shown.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect()
}

/// Words and a line end, in a buffer that never grows: it may hold a password.
pub(crate) fn line(words: &[&str]) -> Zeroizing<Vec<u8>> {
    let length = words.iter().map(|word| word.len()).sum::<usize>();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 2));
    for word in words {
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xclient_holds_what_may_stand_in_it() {
        let xclient = |client: &str, session: &str| {
            Xclient { client: client.parse().unwrap(), session: session.into(), ttl: 4 }.command()
        };
        assert_eq!(xclient("192.0.2.7:4711", "edge-1.2a"), "XCLIENT ADDR=192.0.2.7 PORT=4711 SESSION=edge-1.2a TTL=4");
        assert_eq!(xclient("[2001:db8::1]:1", "a b\r\nc\"{}"), "XCLIENT ADDR=2001:db8::1 PORT=1 SESSION=abc TTL=4");
        assert_eq!(xclient("[::ffff:192.0.2.7]:9", ""), "XCLIENT ADDR=192.0.2.7 PORT=9 TTL=4");
        assert!(xclient("[2001:db8::1]:65535", &"x".repeat(5000)).len() < 200);
    }

    #[test]
    fn a_zimbra_token_names_the_account_twice() {
        let account = |mechanism, authzid: Option<&str>| {
            let authzid = authzid.map(str::to_owned);
            let secret = SecretText::new("tok".into());
            CellAccount { mechanism, username: "a".into(), secret, authzid }.sasl_message().to_string()
        };
        // "a NUL a NUL tok", "b NUL a NUL tok", "NUL a NUL tok".
        assert_eq!(account(CellMechanism::ZimbraToken, None), "YQBhAHRvaw==");
        assert_eq!(account(CellMechanism::ZimbraToken, Some("b")), "YgBhAHRvaw==");
        assert_eq!(account(CellMechanism::Plain, None), "AGEAdG9r");
    }
}
