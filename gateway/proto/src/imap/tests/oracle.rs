//! A second reader of the same grammar: what imap-codec takes as a legal command before login, we read alike. It is no
//! part of the gateway, because it refuses much that real programs send and leaves the bounds to others.

use base64::{Engine, engine::general_purpose::STANDARD};
use imap_codec::{
    CommandCodec,
    decode::Decoder,
    imap_types::command::{Command as TheirCommand, CommandBody},
};
use proptest::{prelude::*, sample::select};

use crate::{
    Mechanism,
    imap::command::{self, Command},
    line::{Split, Splitter},
};

/// A command as either reader sees it.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Capability,
    Noop,
    Logout,
    StartTls,
    Id,
    Login { username: Vec<u8>, password: Vec<u8> },
    Authenticate { mechanism: Option<Mechanism>, initial: Option<Vec<u8>> },
}

/// Tag, command, and how many bytes it took.
type Read = (String, Seen, usize);

fn ours(bytes: &[u8]) -> Option<Read> {
    let mut splitter = Splitter::default();
    let taken = loop {
        match splitter.advance(bytes, 8192) {
            Split::Whole(taken) => break taken,
            Split::Announced { length, .. } => splitter.accept_literal(length),
            Split::More | Split::TooLong => return None,
        }
    };
    let line_end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let head = command::head(&bytes[..line_end]).ok()?;
    let seen = match command::command(&head, &bytes[..taken], splitter.pieces()).ok()? {
        Command::Capability => Seen::Capability,
        Command::Noop => Seen::Noop,
        Command::Logout => Seen::Logout,
        Command::StartTls => Seen::StartTls,
        Command::Id => Seen::Id,
        Command::Login { username, password } => {
            Seen::Login { username: username.to_vec(), password: password.to_vec() }
        }
        Command::Authenticate { mechanism, initial } => {
            let decoded = |line: &[u8]| if line == b"=" { Some(Vec::new()) } else { STANDARD.decode(line).ok() };
            let initial = match initial {
                Some(initial) => Some(decoded(&initial)?),
                None => None,
            };
            Seen::Authenticate { mechanism, initial }
        }
    };
    Some((head.tag, seen, taken))
}

fn theirs(bytes: &[u8]) -> Option<Read> {
    let (rest, TheirCommand { tag, body }) = CommandCodec::default().decode(bytes).ok()?;
    let seen = match body {
        CommandBody::Capability => Seen::Capability,
        CommandBody::Noop => Seen::Noop,
        CommandBody::Logout => Seen::Logout,
        CommandBody::StartTLS => Seen::StartTls,
        CommandBody::Id { .. } => Seen::Id,
        CommandBody::Login { username, password } => {
            Seen::Login { username: username.as_ref().to_vec(), password: password.declassify().as_ref().to_vec() }
        }
        CommandBody::Authenticate { mechanism, initial_response } => Seen::Authenticate {
            mechanism: Mechanism::of_sasl_name(mechanism.as_ref().as_bytes()),
            initial: initial_response.map(|initial| initial.declassify().to_vec()),
        },
        _ => return None,
    };
    Some((tag.as_ref().to_owned(), seen, bytes.len() - rest.len()))
}

/// A string in each of its three forms (RFC 9051 §4.3), without what we refuse on purpose: NUL and line ends.
fn string() -> impl Strategy<Value = Vec<u8>> {
    let literal = (prop::collection::vec(any::<u8>(), 0..24), any::<bool>()).prop_map(|(bytes, plus)| {
        let bytes: Vec<u8> = bytes.into_iter().filter(|byte| !matches!(byte, 0 | b'\r' | b'\n')).collect();
        let announced = format!("{{{}{}}}\r\n", bytes.len(), if plus { "+" } else { "" });
        [announced.as_bytes(), &bytes].concat()
    });
    let quoted = "[ -~]{0,24}".prop_map(|text| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"").into_bytes()
    });
    let atom = "[!#$&'+,./0-9:;<=>?@A-Z\\[\\]^_`a-z|}~-]{1,24}".prop_map(|text| text.replace('}', "]").into_bytes());
    prop_oneof![literal, quoted, atom]
}

fn legal_command() -> impl Strategy<Value = Vec<u8>> {
    let words = |text: &'static str| Just(text.as_bytes().to_vec());
    let bare = select(&["CAPABILITY", "NOOP", "LOGOUT", "STARTTLS", "noop", "ID NIL", "ID ()", "id (\"a\" NIL)"][..])
        .prop_map(|text| text.as_bytes().to_vec());
    let login =
        (words("LOGIN"), string(), string()).prop_map(|(verb, user, password)| [verb, user, password].join(&b' '));
    let id_string = || string().prop_filter("an ID field is no atom", |text| matches!(text.first(), Some(b'"' | b'{')));
    let id = (id_string(), id_string()).prop_map(|(key, value)| [b"ID (", &key[..], b" ", &value, b")"].concat());
    let mechanism = select(&["PLAIN", "LOGIN", "XOAUTH2", "plain", "OAUTHBEARER", "EXTERNAL", "GSSAPI"][..]);
    let initial = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let authenticate = (mechanism, initial).prop_map(|(mechanism, initial)| match initial {
        None => format!("AUTHENTICATE {mechanism}").into_bytes(),
        Some(initial) if initial.is_empty() => format!("AUTHENTICATE {mechanism} =").into_bytes(),
        Some(initial) => format!("AUTHENTICATE {mechanism} {}", STANDARD.encode(initial)).into_bytes(),
    });
    let tag = "[!#$&',./0-9:;<=>?@A-Z\\[\\]^_`a-z|~-]{1,20}".prop_map(String::into_bytes);
    (tag, prop_oneof![bare, login, id, authenticate])
        .prop_map(|(tag, command)| [&tag[..], b" ", &command, b"\r\n"].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn legal_commands_are_read_as_imap_codec_reads_them(command in legal_command(), behind in "[ -~]{0,8}") {
        let bytes = [&command[..], behind.as_bytes()].concat();
        let read = ours(&bytes);
        prop_assert!(read.is_some(), "we refuse {}", command.escape_ascii());
        prop_assert_eq!(read.as_ref().map(|read| read.2), Some(command.len()), "all of it and no more");
        prop_assert_eq!(read, theirs(&bytes), "{}", command.escape_ascii());
    }

    #[test]
    fn what_both_readers_take_they_take_for_the_same(
        mut command in legal_command(), at in any::<prop::sample::Index>(), byte in any::<u8>(), insert in any::<bool>(),
    ) {
        let at = at.index(command.len());
        if insert { command.insert(at, byte) } else { command[at] = byte }
        if let (Some(ours), Some(theirs)) = (ours(&command), theirs(&command)) {
            prop_assert_eq!(ours, theirs, "{}", command.escape_ascii());
        }
    }
}
