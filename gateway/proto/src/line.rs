//! Lines and literals, split with a bound on both before anything is parsed: a bad message can be dropped whole without
//! guessing where it ends. Nothing is copied; the bytes stay in the [`crate::InputBuf`] and each is looked at once.

use std::ops::Range;

/// Most literals of one command (LOGIN needs two).
pub(crate) const LITERALS_MAX: usize = 2;
/// Longest literal, bytes (RFC 7888 §5: LITERAL- promises 4,096).
pub(crate) const LITERAL_BYTES_MAX: usize = 4096;

/// Looks for line ends and remembers how far it looked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineScan {
    scanned: usize,
}

/// A line without its end (CRLF, or a bare LF as some programs send), and what it takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Bytes of text.
    pub(crate) text: usize,
    /// Bytes with the line end.
    pub(crate) length: usize,
}

impl LineScan {
    /// The first line of `bytes`, when its end has come. `bytes` starts where it started at the last call.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<Line> {
        let fresh = bytes.get(self.scanned..).unwrap_or_default();
        let Some(at) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.scanned = bytes.len();
            return None;
        };
        let end = self.scanned + at;
        let text = if bytes.get(..end).is_some_and(|line| line.ends_with(b"\r")) { end - 1 } else { end };
        Some(Line { text, length: end + 1 })
    }
}

/// Longest line or command of a client before login, bytes. Only a SASL message may be longer.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;

/// A host name as it may stand in a quoted string or a text. No `<`: in a POP3 greeting it would start a timestamp.
pub(crate) fn host_text(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && !r#""\[]<>(){}"#.contains(*c)).collect()
}

/// An HTTP request line: a browser was led here to make us speak to it (cross-protocol attacks).
pub(crate) fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] =
        [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ", b"PATCH ", b"PRI "];
    METHODS.iter().any(|method| line.starts_with(method))
}

/// A piece of an IMAP command, as a range of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text of a line, without line end and without the `{n}` that announced a literal.
    Text(Range<usize>),
    /// Bytes of a literal.
    Literal(Range<usize>),
}

/// Splits one IMAP command (RFC 9051 §2.2.1) into lines and literals.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    pieces: Vec<Piece>,
    line_start: usize,
    scan: LineScan,
    line_bytes: usize,
    literal: Option<Range<usize>>,
}

/// How far a command is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// More bytes are needed.
    More,
    /// The command is whole and takes that many bytes.
    Whole(usize),
    /// A literal is announced: `accept_literal` or drop the command, `taken` bytes so far.
    Announced {
        /// Its length, saturated.
        length: usize,
        /// Whether the client waits for our go-ahead.
        synchronising: bool,
        /// Bytes of the command up to here.
        taken: usize,
    },
    /// Its lines are over the bound.
    TooLong,
}

impl Splitter {
    /// Goes on over `bytes`, which start with the command. `line_bytes_max` bounds the text of all its lines together.
    pub(crate) fn advance(&mut self, bytes: &[u8], line_bytes_max: usize) -> Split {
        if let Some(literal) = self.literal.clone() {
            if bytes.len() < literal.end {
                return Split::More;
            }
            self.line_start = literal.end;
            self.scan = LineScan::default();
            self.pieces.push(Piece::Literal(literal));
            self.literal = None;
        }
        let rest = bytes.get(self.line_start..).unwrap_or_default();
        let Some(line) = self.scan.find(rest) else {
            let over = self.line_bytes + rest.len() > line_bytes_max;
            return if over { Split::TooLong } else { Split::More };
        };
        self.line_bytes += line.length;
        if self.line_bytes > line_bytes_max {
            return Split::TooLong;
        }
        let text = rest.get(..line.text).unwrap_or_default();
        let end = self.line_start + line.length;
        match announcement(text) {
            Some(announced) => {
                self.pieces.push(Piece::Text(self.line_start..self.line_start + announced.text));
                self.line_start = end;
                Split::Announced { length: announced.length, synchronising: announced.synchronising, taken: end }
            }
            None => {
                self.pieces.push(Piece::Text(self.line_start..self.line_start + line.text));
                Split::Whole(end)
            }
        }
    }

    /// Takes the literal that `Announced` told of.
    pub(crate) fn accept_literal(&mut self, length: usize) {
        self.literal = Some(self.line_start..self.line_start.saturating_add(length));
    }

    /// Literals so far.
    pub(crate) fn literals(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Literal(_))).count()
    }

    /// The pieces so far, text first.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

struct Announcement {
    text: usize,
    length: usize,
    synchronising: bool,
}

/// `{n}` or `{n+}` at the end of a line, as a word of its own: `pass{3}` is a password in braces, not a literal.
fn announcement(text: &[u8]) -> Option<Announcement> {
    let inner = text.strip_suffix(b"}")?;
    let (inner, synchronising) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let digits = inner.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = inner.split_at_checked(inner.len() - digits)?;
    let before = before.strip_suffix(b"{")?;
    if digits == 0 || !matches!(before.last(), None | Some(b' ' | b'(' | b'~')) {
        return None;
    }
    let length = number
        .iter()
        .fold(0_usize, |sum, digit| sum.saturating_mul(10).saturating_add(usize::from(digit.wrapping_sub(b'0'))));
    Some(Announcement { text: before.len(), length, synchronising })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_crlf_or_a_bare_lf() {
        assert_eq!(LineScan::default().find(b"a NOOP\r\nb"), Some(Line { text: 6, length: 8 }));
        assert_eq!(LineScan::default().find(b"a NOOP\nb"), Some(Line { text: 6, length: 7 }));
        let mut scan = LineScan::default();
        assert_eq!(scan.find(b"a NOOP\r"), None);
        assert_eq!(scan.find(b"a NOOP\r\n"), Some(Line { text: 6, length: 8 }));
    }

    #[test]
    fn a_literal_is_a_word_of_its_own() {
        let length = |text: &[u8]| announcement(text).map(|a| (a.length, a.synchronising));
        assert_eq!(length(b"a LOGIN {3}"), Some((3, true)));
        assert_eq!(length(b"a LOGIN {3+}"), Some((3, false)));
        assert_eq!(length(b"{0}"), Some((0, true)));
        assert_eq!(length(b"a {99999999999999999999999}"), Some((usize::MAX, true)));
        for text in [
            &b"a LOGIN bob pass{3}"[..],
            b"a LOGIN \"x{3}\"",
            b"a {}",
            b"a {+}",
            b"a {-3}",
            b"a {3 }",
            b"3}",
            b"}",
            b"",
        ] {
            assert_eq!(length(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_command_with_two_literals_is_split() {
        let bytes = b"a LOGIN {3}\r\nbob {2+}\r\nhi\r\nb NOOP\r\n";
        let mut splitter = Splitter::default();
        assert_eq!(splitter.advance(bytes, 8192), Split::Announced { length: 3, synchronising: true, taken: 13 });
        splitter.accept_literal(3);
        assert_eq!(splitter.advance(&bytes[..14], 8192), Split::More);
        assert_eq!(splitter.advance(bytes, 8192), Split::Announced { length: 2, synchronising: false, taken: 23 });
        splitter.accept_literal(2);
        assert_eq!(splitter.advance(bytes, 8192), Split::Whole(27));
        assert_eq!(splitter.literals(), 2);
    }

    #[test]
    fn lines_are_bounded_together() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.advance(&[b'a'; 17], 16), Split::TooLong);
        let mut splitter = Splitter::default();
        assert_eq!(
            splitter.advance(b"0123456789 {1}\r\n", 16),
            Split::Announced { length: 1, synchronising: true, taken: 16 }
        );
        splitter.accept_literal(1);
        assert_eq!(splitter.advance(b"0123456789 {1}\r\nx\r\n", 16), Split::TooLong);
    }
}
