//! Commands of a client, cut into words.

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An atom, with brackets and what they hold: `INBOX`, `1:*`, `BODY.PEEK[HEADER.FIELDS (Subject)]<0.10>`.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// `(`
    Open,
    /// `)`
    Close,
}

impl Word {
    /// The bytes of an atom or a string.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Atom(atom) => Some(atom.as_bytes()),
            Self::Text(text) => Some(text),
            Self::Open | Self::Close => None,
        }
    }

    /// The text of an atom or a string, upper case.
    pub(super) fn upper(&self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).to_ascii_uppercase())
    }
}

/// `{12}` or `{12+}` at the end of a line: the length, and whether the client waits to be asked on.
pub(super) fn literal_at_end(line: &[u8]) -> Option<(usize, bool)> {
    let open = line.iter().rposition(|&byte| byte == b'{')?;
    let inner = line.get(open + 1..)?.strip_suffix(b"}")?;
    let (digits, waits) = match inner.strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (inner, true),
    };
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().map(|length| (length, waits))
}

/// Cuts a command; `None` when it cannot be read.
pub(super) fn words(mut input: &[u8]) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    while let Some((&first, rest)) = input.split_first() {
        match first {
            b' ' => input = rest,
            b'(' => {
                words.push(Word::Open);
                input = rest;
            }
            b')' => {
                words.push(Word::Close);
                input = rest;
            }
            b'"' => {
                let (text, rest) = quoted(rest)?;
                words.push(Word::Text(text));
                input = rest;
            }
            b'{' => {
                let end = input.windows(2).position(|pair| pair == b"\r\n")?;
                let (length, _) = literal_at_end(input.get(..end)?)?;
                let rest = input.get(end + 2..)?;
                words.push(Word::Text(rest.get(..length)?.to_vec()));
                input = rest.get(length..)?;
            }
            _ => {
                let length = atom_length(input);
                words.push(Word::Atom(String::from_utf8_lossy(input.get(..length)?).into_owned()));
                input = input.get(length..)?;
            }
        }
    }
    Some(words)
}

fn atom_length(input: &[u8]) -> usize {
    let mut inside = false;
    for (at, byte) in input.iter().enumerate() {
        match byte {
            b'[' => inside = true,
            b']' => inside = false,
            b' ' | b'(' | b')' if !inside => return at,
            _ => {}
        }
    }
    input.len()
}

fn quoted(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match *input.get(at)? {
            b'"' => return Some((text, input.get(at + 1..)?)),
            b'\\' => {
                text.push(*input.get(at + 1)?);
                at += 2;
            }
            byte => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

/// Whether message `number` (of `count`) is in a sequence set such as `1,3:*`.
pub(super) fn in_set(set: &str, number: usize, count: usize) -> bool {
    let place = |text: &str| if text == "*" { Some(count) } else { text.parse::<usize>().ok() };
    set.split(',').any(|range| match range.split_once(':') {
        Some((from, to)) => {
            let (Some(from), Some(to)) = (place(from), place(to)) else { return false };
            (from.min(to)..=from.max(to)).contains(&number)
        }
        None => place(range) == Some(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoms_strings_literals_and_lists_are_cut() {
        let words = words(b"A1 LOGIN {5}\r\nalice \"pa\\\"ss\" (a BODY[HEADER.FIELDS (To Cc)]<0.5>)").unwrap();
        assert_eq!(
            words,
            [
                Word::Atom("A1".into()),
                Word::Atom("LOGIN".into()),
                Word::Text(b"alice".to_vec()),
                Word::Text(b"pa\"ss".to_vec()),
                Word::Open,
                Word::Atom("a".into()),
                Word::Atom("BODY[HEADER.FIELDS (To Cc)]<0.5>".into()),
                Word::Close,
            ]
        );
    }

    #[test]
    fn broken_strings_and_literals_are_not_read() {
        assert_eq!(words(b"A1 LOGIN \"alice"), None);
        assert_eq!(words(b"A1 LOGIN {9}\r\nalice"), None);
        assert_eq!(literal_at_end(b"A1 LOGIN {9999999999}"), None);
        assert_eq!(literal_at_end(b"A1 LOGIN {5+}"), Some((5, false)));
    }

    #[test]
    fn sequence_sets_know_the_star() {
        assert!(in_set("1,3:*", 4, 4));
        assert!(in_set("*:2", 3, 4));
        assert!(!in_set("1,3:*", 2, 4));
        assert!(!in_set("x", 1, 4));
    }
}
