//! Commands of a client (RFC 5321 §4.1), before and after login.
//!
//! A server that skips white space or takes a control character for a separator would find a command in a line where we
//! saw another, so a verb starts at the first byte, ends at a space, and no control character passes.

/// Longest command that is no AUTH, bytes, with its end: 512 of RFC 5321 §4.5.3.1.4, 500 of RFC 3461 §4, 26 of RFC 1870 and
/// some air.
pub(crate) const LINE_BYTES_MAX: usize = 2048;
/// Longest name given with EHLO that is kept, bytes (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Quit,
    Help,
    Auth,
    StartTls,
    Vrfy,
    /// Lists, queues, chatter: EXPN, ETRN, TURN, VERB.
    Never,
    /// What a proxy may say to a server: XCLIENT, XFORWARD.
    OfProxies,
    Bdat,
    Unknown,
}

/// One line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command<'a> {
    pub(crate) verb: Verb,
    /// What is behind the verb and its space, without white space at its end.
    pub(crate) arguments: &'a [u8],
}

/// A control character in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Illegal;

/// Reads a line without its end.
pub(crate) fn read(line: &[u8]) -> Result<Command<'_>, Illegal> {
    if line.iter().any(u8::is_ascii_control) {
        return Err(Illegal);
    }
    let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (word, arguments) = line.split_at_checked(space).unwrap_or((line, b""));
    Ok(Command { verb: verb(word), arguments: arguments.trim_ascii() })
}

fn verb(word: &[u8]) -> Verb {
    const VERBS: [(&str, Verb); 20] = [
        ("EHLO", Verb::Ehlo),
        ("HELO", Verb::Helo),
        ("MAIL", Verb::Mail),
        ("RCPT", Verb::Rcpt),
        ("DATA", Verb::Data),
        ("RSET", Verb::Rset),
        ("NOOP", Verb::Noop),
        ("QUIT", Verb::Quit),
        ("HELP", Verb::Help),
        ("AUTH", Verb::Auth),
        ("STARTTLS", Verb::StartTls),
        ("VRFY", Verb::Vrfy),
        ("EXPN", Verb::Never),
        ("ETRN", Verb::Never),
        ("TURN", Verb::Never),
        ("ATRN", Verb::Never),
        ("VERB", Verb::Never),
        ("XCLIENT", Verb::OfProxies),
        ("XFORWARD", Verb::OfProxies),
        ("BDAT", Verb::Bdat),
    ];
    let known = VERBS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    known.map_or(Verb::Unknown, |(_, verb)| *verb)
}

/// The name given with EHLO or HELO; `None` when there is none. A name that no cell could be told (too long, not ASCII, as
/// some systems call themselves) is an empty one.
pub(crate) fn client_name(arguments: &[u8]) -> Option<String> {
    let name = arguments.split(|byte| *byte == b' ').next().filter(|name| !name.is_empty())?;
    let tellable = name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
    Some(if tellable { String::from_utf8_lossy(name).into_owned() } else { String::new() })
}

/// An address and the parameters behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// With its brackets.
    pub(crate) path: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> Path<'a> {
    /// Reads `FROM:<path> parameters`. Spaces in front of the path are an old custom (RFC 5321 §3.3 forbids them); a path
    /// without brackets is not read, because nobody could tell where it ends.
    pub(crate) fn read(arguments: &'a [u8], keyword: &str) -> Option<Self> {
        let (head, rest) = arguments.split_at_checked(keyword.len())?;
        if !head.eq_ignore_ascii_case(keyword.as_bytes()) {
            return None;
        }
        let rest = rest.trim_ascii_start();
        let (path, parameters) = rest.split_at_checked(path_length(rest)?)?;
        (parameters.is_empty() || parameters.starts_with(b" ")).then_some(Self { path, parameters })
    }

    /// The address without brackets.
    pub(crate) fn address(&self) -> &'a [u8] {
        self.path.strip_prefix(b"<").and_then(|path| path.strip_suffix(b">")).unwrap_or_default()
    }

    /// `KEYWORD` or `KEYWORD=value`, each with its keyword and value.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8], Option<&'a [u8]>)> {
        let words = self.parameters.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        words.map(|word| match word.iter().position(|byte| *byte == b'=').and_then(|at| word.split_at_checked(at)) {
            Some((keyword, value)) => (word, keyword, value.get(1..)),
            None => (word, word, None),
        })
    }
}

/// Bytes of `<…>` at the start. A local part may be a quoted string with spaces and brackets in it (RFC 5321 §4.1.2).
fn path_length(bytes: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in bytes.iter().enumerate() {
        match (index, byte) {
            (0, b'<') => {}
            (0, _) => return None,
            _ if escaped => escaped = false,
            (_, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            _ if quoted => {}
            (_, b'>') => return Some(index + 1),
            (_, b'<' | b' ') => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_starts_the_line_and_ends_at_a_space() {
        for (line, verb, arguments) in [
            (&b"mail FROM:<a>  "[..], Verb::Mail, &b"FROM:<a>"[..]),
            (b"QUIT", Verb::Quit, b""),
            (b"xClient ADDR=1.2.3.4", Verb::OfProxies, b"ADDR=1.2.3.4"),
            (b" XCLIENT ADDR=1.2.3.4", Verb::Unknown, b"XCLIENT ADDR=1.2.3.4"),
            (b"NOOP: x", Verb::Unknown, b"x"),
            (b"NOOP\xa0XCLIENT", Verb::Unknown, b""),
            (b"", Verb::Unknown, b""),
        ] {
            assert_eq!(read(line), Ok(Command { verb, arguments }), "{}", line.escape_ascii());
        }
        for line in [&b"NOOP\tXCLIENT"[..], b"NOOP\rXCLIENT", b"NOOP \0", b"NOOP \x0b", b"NOOP \x7f"] {
            assert_eq!(read(line), Err(Illegal), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_path_ends_at_its_bracket() {
        let read = |text: &'static str| Path::read(text.as_bytes(), "FROM:");
        let path = read("from: <a@x.fr> SIZE=7 SMTPUTF8  BODY=8BITMIME").unwrap();
        assert_eq!((path.path, path.address()), (&b"<a@x.fr>"[..], &b"a@x.fr"[..]));
        let parameters: Vec<_> = path.parameters().map(|(_, keyword, value)| (keyword, value)).collect();
        assert_eq!(parameters, [(&b"SIZE"[..], Some(&b"7"[..])), (b"SMTPUTF8", None), (b"BODY", Some(b"8BITMIME"))]);
        assert_eq!(read("FROM:<\"a> AUTH=b \\\" <\"@x.fr> SIZE=1").unwrap().address(), b"\"a> AUTH=b \\\" <\"@x.fr");
        assert_eq!(read("FROM:<>").unwrap().address(), b"");
        for text in [
            "",
            "FROM:",
            "FROM:a@x.fr",
            "TO:<a>",
            "FROM <a>",
            "FROM:<a",
            "FROM:<a b>",
            "FROM:<a>SIZE=1",
            "FROM:<\"a>",
            "FROM:<<a>>",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_that_no_cell_could_be_told_is_empty() {
        assert_eq!(client_name(b"laptop.home x"), Some("laptop.home".into()));
        assert_eq!(client_name(b"[192.0.2.1]"), Some("[192.0.2.1]".into()));
        assert_eq!(client_name(b""), None);
        assert_eq!(client_name("pépé".as_bytes()), Some(String::new()));
        assert_eq!(client_name(&[b'a'; 256]), Some(String::new()));
    }
}
