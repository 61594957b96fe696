//! The commands a client may send before login (RFC 1939 §7, RFC 2449, RFC 2595, RFC 5034), read from a whole line.

use zeroize::Zeroizing;

use crate::Mechanism;

/// A command and its arguments.
pub(crate) enum Command {
    Capa,
    Quit,
    Stls,
    User(Vec<u8>),
    Pass(Zeroizing<Vec<u8>>),
    /// Bare `AUTH` asks for the list of mechanisms, as old programs do.
    AuthList,
    /// The mechanism is none when we do not know it.
    Auth {
        mechanism: Option<Mechanism>,
        initial: Option<Zeroizing<Vec<u8>>>,
    },
}

/// Why a command was not taken; a fixed sentence, nothing of what was sent.
pub(crate) type Complaint = &'static str;

/// Reads a line.
///
/// # Errors
/// It is no command that is taken before login.
pub(crate) fn command(line: &[u8]) -> Result<Command, Complaint> {
    // A CR inside a line ends it for some parsers and not for others.
    if line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
        return Err("NUL or line end in a command");
    }
    let (verb, argument) = match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (line.get(..at).unwrap_or_default(), line.get(at + 1..)),
        None => (line, None),
    };
    let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
    let word = argument.map(<[u8]>::trim_ascii).unwrap_or_default();
    let alone = |command: Command| if word.is_empty() { Ok(command) } else { Err("Too many arguments") };
    match () {
        () if is("CAPA") => alone(Command::Capa),
        () if is("QUIT") => alone(Command::Quit),
        () if is("STLS") => alone(Command::Stls),
        () if is("USER") && word.is_empty() => Err("Missing argument"),
        () if is("USER") => Ok(Command::User(word.to_vec())),
        // RFC 1939 §7: all behind the one space is the password, spaces and all.
        () if is("PASS") => match argument {
            Some(password) => Ok(Command::Pass(Zeroizing::new(password.to_vec()))),
            None => Err("Missing argument"),
        },
        () if is("AUTH") && word.is_empty() => Ok(Command::AuthList),
        () if is("AUTH") => auth(word),
        () if AFTER_LOGIN.into_iter().any(is) => Err("Log in first"),
        // Our greeting holds no timestamp: the cell could not check a digest of it.
        () if is("APOP") => Err("APOP is not offered"),
        () => Err("Unknown command"),
    }
}

/// Whether the line that starts so may be as long as a SASL message.
pub(crate) fn is_auth(line: &[u8]) -> bool {
    line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH "))
}

fn auth(words: &[u8]) -> Result<Command, Complaint> {
    let mut words = words.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let mechanism = words.next().and_then(Mechanism::of_sasl_name);
    let initial = words.next().map(|word| Zeroizing::new(word.to_vec()));
    if words.next().is_some() { Err("Too many arguments") } else { Ok(Command::Auth { mechanism, initial }) }
}

const AFTER_LOGIN: [&str; 9] = ["NOOP", "STAT", "LIST", "RETR", "DELE", "RSET", "TOP", "UIDL", "LAST"];
