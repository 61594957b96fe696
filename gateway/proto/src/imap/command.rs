//! The commands a client may send before login (RFC 9051 §6.1, §6.2; RFC 2971), read from a command that is whole.

use zeroize::Zeroizing;

use crate::{Mechanism, line::Piece};

/// Longest tag, bytes.
pub(crate) const TAG_BYTES_MAX: usize = 64;
/// Most fields of an ID command (RFC 2971 §3.3 allows 30).
const ID_FIELDS_MAX: usize = 30;

/// What the first two words of a command say: enough to answer it and to judge a literal before it comes.
#[derive(Debug)]
pub(crate) struct Head {
    /// The client's tag; legal, so it may be echoed.
    pub(crate) tag: String,
    /// Which command.
    pub(crate) verb: Verb,
    /// Where its arguments start in the first line.
    arguments: usize,
}

/// A command's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Capability,
    Noop,
    Logout,
    Id,
    StartTls,
    Login,
    Authenticate,
    /// A command of the states behind the login.
    AfterLogin,
    Unknown,
}

impl Verb {
    fn of(word: &[u8]) -> Self {
        const BEFORE_LOGIN: [(&[u8], Verb); 7] = [
            (b"CAPABILITY", Verb::Capability),
            (b"NOOP", Verb::Noop),
            (b"LOGOUT", Verb::Logout),
            (b"ID", Verb::Id),
            (b"STARTTLS", Verb::StartTls),
            (b"LOGIN", Verb::Login),
            (b"AUTHENTICATE", Verb::Authenticate),
        ];
        const AFTER_LOGIN: [&[u8]; 42] = [
            b"ENABLE",
            b"SELECT",
            b"EXAMINE",
            b"CREATE",
            b"DELETE",
            b"RENAME",
            b"SUBSCRIBE",
            b"UNSUBSCRIBE",
            b"LIST",
            b"LSUB",
            b"NAMESPACE",
            b"STATUS",
            b"APPEND",
            b"IDLE",
            b"CLOSE",
            b"UNSELECT",
            b"EXPUNGE",
            b"SEARCH",
            b"FETCH",
            b"STORE",
            b"COPY",
            b"MOVE",
            b"UID",
            b"CHECK",
            b"GETQUOTA",
            b"GETQUOTAROOT",
            b"SETQUOTA",
            b"GETACL",
            b"SETACL",
            b"DELETEACL",
            b"MYRIGHTS",
            b"LISTRIGHTS",
            b"GETMETADATA",
            b"SETMETADATA",
            b"SORT",
            b"THREAD",
            b"COMPRESS",
            b"NOTIFY",
            b"XLIST",
            b"UNAUTHENTICATE",
            b"ESEARCH",
            b"REPLACE",
        ];
        let before = BEFORE_LOGIN.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        match before {
            Some((_, verb)) => *verb,
            None if AFTER_LOGIN.iter().any(|name| word.eq_ignore_ascii_case(name)) => Self::AfterLogin,
            None => Self::Unknown,
        }
    }
}

/// A command and its arguments.
pub(crate) enum Command {
    Capability,
    Noop,
    Logout,
    Id,
    StartTls,
    Login {
        username: Zeroizing<Vec<u8>>,
        password: Zeroizing<Vec<u8>>,
    },
    /// The mechanism is none when we do not know it.
    Authenticate {
        mechanism: Option<Mechanism>,
        initial: Option<Zeroizing<Vec<u8>>>,
    },
}

/// Why a command was not taken; a fixed sentence, nothing of what was sent.
pub(crate) type Complaint = &'static str;

/// A list within a list: no command before login has one, a parser that follows them has a stack to lose.
pub(crate) const TOO_DEEP: Complaint = "A list within a list";

/// Reads the tag and the verb of the first line.
///
/// # Errors
/// The tag is missing, too long or not legal: it must not be echoed.
pub(crate) fn head(line: &[u8]) -> Result<Head, Complaint> {
    let tag_length = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (tag, rest) = line.split_at_checked(tag_length).unwrap_or_default();
    if tag.is_empty() || tag.len() > TAG_BYTES_MAX || !tag.iter().all(|byte| is_tag_byte(*byte)) {
        return Err("Invalid tag");
    }
    let tag = String::from_utf8(tag.to_vec()).map_err(|_| "Invalid tag")?;
    let spaces = spaces(rest);
    let word = rest.get(spaces..).unwrap_or_default();
    let word_length = word.iter().position(|byte| *byte == b' ').unwrap_or(word.len());
    let verb = Verb::of(word.get(..word_length).unwrap_or_default());
    Ok(Head { tag, verb, arguments: tag_length + spaces + word_length })
}

/// Reads the arguments of a whole command.
///
/// # Errors
/// They are not what the verb wants.
pub(crate) fn command(head: &Head, bytes: &[u8], pieces: &[Piece]) -> Result<Command, Complaint> {
    let mut arguments = Arguments::new(bytes, pieces, head.arguments)?;
    let command = match head.verb {
        Verb::Capability => Command::Capability,
        Verb::Noop => Command::Noop,
        Verb::Logout => Command::Logout,
        Verb::StartTls => Command::StartTls,
        Verb::Id => {
            arguments.id()?;
            Command::Id
        }
        Verb::Login => {
            let username = arguments.string(Atom::Strict)?;
            let password = arguments.string(Atom::Lenient)?;
            Command::Login { username, password }
        }
        Verb::Authenticate => {
            let mechanism = Mechanism::of_sasl_name(arguments.word()?);
            let initial = if arguments.at_end() { None } else { Some(Zeroizing::new(arguments.word()?.to_vec())) };
            Command::Authenticate { mechanism, initial }
        }
        Verb::AfterLogin => return Err("Log in first"),
        Verb::Unknown => return Err("Unknown command"),
    };
    if arguments.at_end() { Ok(command) } else { Err("Too many arguments") }
}

/// Whether an unquoted string may hold characters that RFC 9051 §9 keeps for other uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Atom {
    Strict,
    /// Passwords: people type brackets, and programs do not always quote them.
    Lenient,
}

/// Walks over the arguments: the text of the line, and literals between the texts.
struct Arguments<'a> {
    bytes: &'a [u8],
    text: &'a [u8],
    pieces: std::slice::Iter<'a, Piece>,
}

impl<'a> Arguments<'a> {
    fn new(bytes: &'a [u8], pieces: &'a [Piece], from: usize) -> Result<Self, Complaint> {
        // RFC 9051 §9: NUL is legal nowhere before login; a CR inside a line ends it for some parsers and not for others.
        for piece in pieces {
            let (range, forbidden): (_, &[u8]) = match piece {
                Piece::Text(range) => (range, b"\0\r"),
                Piece::Literal(range) => (range, b"\0\r\n"),
            };
            let piece = bytes.get(range.clone()).unwrap_or_default();
            if piece.iter().any(|byte| forbidden.contains(byte)) {
                return Err("NUL or line end in a command");
            }
        }
        let mut arguments = Self { bytes, text: &[], pieces: pieces.iter() };
        arguments.next_text();
        arguments.text = arguments.text.get(from..).unwrap_or_default();
        Ok(arguments)
    }

    fn next_text(&mut self) {
        self.text = match self.pieces.next() {
            Some(Piece::Text(range)) => self.bytes.get(range.clone()).unwrap_or_default(),
            _ => &[],
        };
    }

    /// The literal that comes next, when the text before it is used up.
    fn literal(&mut self) -> Option<&'a [u8]> {
        match (self.text.is_empty(), self.pieces.clone().next()) {
            (true, Some(Piece::Literal(range))) => {
                let literal = self.bytes.get(range.clone())?;
                self.pieces.next();
                self.next_text();
                Some(literal)
            }
            _ => None,
        }
    }

    /// Spaces before an argument: one by the standard, more from some programs.
    fn space(&mut self) -> Result<(), Complaint> {
        let spaces = spaces(self.text);
        self.skip(spaces);
        if spaces == 0 { Err("Missing argument") } else { Ok(()) }
    }

    fn skip(&mut self, bytes: usize) {
        self.text = self.text.get(bytes..).unwrap_or_default();
    }

    fn at_end(&self) -> bool {
        self.text.iter().all(|byte| *byte == b' ') && self.pieces.as_slice().is_empty()
    }

    /// A word up to the next space.
    fn word(&mut self) -> Result<&'a [u8], Complaint> {
        self.space()?;
        let length = self.text.iter().position(|byte| *byte == b' ').unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at_checked(length).unwrap_or_default();
        self.text = rest;
        if word.is_empty() || self.literal_is_next() { Err("Missing argument") } else { Ok(word) }
    }

    fn literal_is_next(&self) -> bool {
        self.text.is_empty() && matches!(self.pieces.as_slice().first(), Some(Piece::Literal(_)))
    }

    /// An `astring`, with the space before it.
    fn string(&mut self, atom: Atom) -> Result<Zeroizing<Vec<u8>>, Complaint> {
        self.space()?;
        if let Some(literal) = self.literal() {
            return Ok(Zeroizing::new(literal.to_vec()));
        }
        if self.text.starts_with(b"\"") {
            return self.quoted();
        }
        let length = self.text.iter().position(|byte| *byte == b' ').unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at_checked(length).unwrap_or_default();
        self.text = rest;
        let legal = |byte: &u8| !byte.is_ascii_control() && (atom == Atom::Lenient || !b"(){}\"\\".contains(byte));
        if word.is_empty() || !word.iter().all(legal) || self.literal_is_next() {
            return Err("Invalid argument");
        }
        Ok(Zeroizing::new(word.to_vec()))
    }

    /// A quoted string; 8-bit characters are taken as they come.
    fn quoted(&mut self) -> Result<Zeroizing<Vec<u8>>, Complaint> {
        let mut content = Zeroizing::new(Vec::with_capacity(self.text.len()));
        let mut bytes = self.text.iter().enumerate().skip(1);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.skip(at + 1);
                    // What follows must be a space or the end: `"a"b` is two things in one word.
                    let apart = matches!(self.text.first(), None | Some(b' ' | b')')) && !self.literal_is_next();
                    return if apart { Ok(content) } else { Err("Invalid quoted string") };
                }
                b'\\' => match bytes.next() {
                    Some((_, escaped @ (b'"' | b'\\'))) => content.push(*escaped),
                    _ => return Err("Invalid quoted string"),
                },
                byte => content.push(*byte),
            }
        }
        Err("Invalid quoted string")
    }

    /// The argument of ID (RFC 2971 §3.1). Nothing in it is believed or kept.
    fn id(&mut self) -> Result<(), Complaint> {
        const INVALID: Complaint = "Invalid ID parameters";
        self.space()?;
        let Some(rest) = self.text.strip_prefix(b"(") else {
            return if self.nil() { Ok(()) } else { Err(INVALID) };
        };
        self.text = rest;
        for strings in 0..=ID_FIELDS_MAX * 2 {
            let spaces = spaces(self.text);
            self.skip(spaces);
            if let Some(rest) = self.text.strip_prefix(b")") {
                self.text = rest;
                return if strings % 2 == 0 { Ok(()) } else { Err(INVALID) };
            }
            if strings % 2 == 1 && self.nil() {
                continue;
            }
            if self.literal().is_some() {
                continue;
            }
            match self.text.first() {
                Some(b'"') => self.quoted()?,
                Some(b'(') => return Err(TOO_DEEP),
                _ => return Err(INVALID),
            };
        }
        Err(INVALID)
    }

    fn nil(&mut self) -> bool {
        match self.text.split_at_checked(3) {
            Some((word, rest))
                if word.eq_ignore_ascii_case(b"NIL") && matches!(rest.first(), None | Some(b' ' | b')')) =>
            {
                self.text = rest;
                true
            }
            _ => false,
        }
    }
}

fn spaces(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte == b' ').count()
}

/// RFC 9051 §9: `1*<any ASTRING-CHAR except "+">`.
fn is_tag_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"(){%*\"\\+".contains(&byte)
}
