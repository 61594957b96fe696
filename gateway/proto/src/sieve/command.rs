//! The commands a client may send before login (RFC 5804 §2), read from a command that is whole.

use zeroize::Zeroizing;

use crate::{Mechanism, line::Piece};

/// Longest tag of NOOP that comes back, bytes.
const TAG_BYTES_MAX: usize = 256;

/// A command and its arguments.
pub(crate) enum Command {
    Capability,
    Logout,
    StartTls,
    /// With a tag that may be echoed.
    Noop(Option<String>),
    /// The mechanism is none when we do not know it.
    Authenticate {
        mechanism: Option<Mechanism>,
        initial: Option<Zeroizing<Vec<u8>>>,
    },
}

/// Why a command was not taken; a fixed sentence, nothing of what was sent.
pub(crate) type Complaint = &'static str;

type Strings = Vec<Zeroizing<Vec<u8>>>;

/// Reads a whole command.
///
/// # Errors
/// It is no command that is taken before login.
pub(crate) fn command(bytes: &[u8], pieces: &[Piece]) -> Result<Command, Complaint> {
    let verb = verb(first_line(bytes, pieces));
    let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
    let known = ["CAPABILITY", "LOGOUT", "STARTTLS", "NOOP", "AUTHENTICATE"].into_iter().any(is);
    if !known {
        return Err(if AFTER_LOGIN.into_iter().any(is) { "Log in first" } else { "Unknown command" });
    }
    let mut arguments = strings(bytes, pieces, verb.len())?.into_iter();
    let command = match () {
        () if is("CAPABILITY") => Command::Capability,
        () if is("LOGOUT") => Command::Logout,
        () if is("STARTTLS") => Command::StartTls,
        () if is("NOOP") => Command::Noop(arguments.next().map(|tag| echoable(&tag)).transpose()?),
        () => {
            let mechanism = arguments.next().ok_or("Missing argument")?;
            Command::Authenticate { mechanism: Mechanism::of_sasl_name(&mechanism), initial: arguments.next() }
        }
    };
    if arguments.next().is_some() { Err("Too many arguments") } else { Ok(command) }
}

/// Reads the one string that answers a challenge (RFC 5804 §2.1).
///
/// # Errors
/// It is not one string.
pub(crate) fn response(bytes: &[u8], pieces: &[Piece]) -> Result<Zeroizing<Vec<u8>>, Complaint> {
    let mut strings = strings(bytes, pieces, 0)?.into_iter();
    match (strings.next(), strings.next()) {
        (Some(response), None) => Ok(response),
        _ => Err("A string is wanted"),
    }
}

/// The first line of a command.
pub(crate) fn first_line<'a>(bytes: &'a [u8], pieces: &[Piece]) -> &'a [u8] {
    match pieces.first() {
        Some(Piece::Text(range)) => bytes.get(range.clone()).unwrap_or_default(),
        _ => &[],
    }
}

/// Whether the command that starts so may be as long as a SASL message.
pub(crate) fn is_authenticate(bytes: &[u8]) -> bool {
    bytes.get(..13).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTHENTICATE "))
}

fn verb(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// The strings behind the verb, quoted or literal.
fn strings(bytes: &[u8], pieces: &[Piece], from: usize) -> Result<Strings, Complaint> {
    const STRINGS_MAX: usize = 3;
    let mut strings = Strings::new();
    let mut skip = from;
    for piece in pieces {
        let mut text = match piece {
            Piece::Text(range) => bytes.get(range.clone()).unwrap_or_default(),
            Piece::Literal(range) => {
                let literal = bytes.get(range.clone()).unwrap_or_default();
                legal(literal)?;
                strings.push(Zeroizing::new(literal.to_vec()));
                continue;
            }
        };
        legal(text)?;
        text = text.get(skip..).unwrap_or_default();
        skip = 0;
        loop {
            text = text.trim_ascii_start();
            if text.is_empty() {
                break;
            }
            let (string, rest) = quoted(text)?;
            strings.push(string);
            if strings.len() > STRINGS_MAX || !matches!(rest.first(), None | Some(b' ')) {
                return Err("Invalid string");
            }
            text = rest;
        }
    }
    Ok(strings)
}

/// RFC 5804 §4: neither NUL nor a line end stands in a string before login.
fn legal(bytes: &[u8]) -> Result<(), Complaint> {
    if bytes.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        Err("NUL or line end in a command")
    } else {
        Ok(())
    }
}

fn quoted(text: &[u8]) -> Result<(Zeroizing<Vec<u8>>, &[u8]), Complaint> {
    const INVALID: Complaint = "Invalid string";
    let text = text.strip_prefix(b"\"").ok_or(INVALID)?;
    let mut content = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok((content, text.get(at + 1..).unwrap_or_default())),
            b'\\' => match bytes.next() {
                Some((_, escaped @ (b'"' | b'\\'))) => content.push(*escaped),
                _ => return Err(INVALID),
            },
            byte => content.push(*byte),
        }
    }
    Err(INVALID)
}

/// RFC 5804 §2.13 wants the tag back, whatever it is; visible ASCII it must be, lest we say what others take for ours.
fn echoable(tag: &[u8]) -> Result<String, Complaint> {
    let printable = tag.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    match String::from_utf8(tag.to_vec()) {
        Ok(tag) if printable && tag.len() <= TAG_BYTES_MAX => Ok(tag),
        _ => Err("Invalid tag"),
    }
}

const AFTER_LOGIN: [&str; 9] = [
    "HAVESPACE",
    "PUTSCRIPT",
    "LISTSCRIPTS",
    "SETACTIVE",
    "GETSCRIPT",
    "DELETESCRIPT",
    "RENAMESCRIPT",
    "CHECKSCRIPT",
    "UNAUTHENTICATE",
];
