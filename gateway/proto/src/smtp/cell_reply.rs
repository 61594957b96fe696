//! Replies of a cell (RFC 5321 §4.2), put together line by line with a bound on everything.

/// Longest line, bytes, with its end. RFC 5321 §4.5.3.1.5 has 512; some cells write more.
const LINE_BYTES_MAX: usize = 2048;
/// Most lines of one reply.
const LINES_MAX: u8 = 64;
/// Longest reply, all lines together, bytes.
pub(crate) const REPLY_BYTES_MAX: usize = 16 * 1024;

/// One reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CellReply {
    /// 200 to 599.
    pub(crate) code: u16,
    /// All its lines with CRLF, fit to be forwarded.
    pub(crate) bytes: Vec<u8>,
}

impl CellReply {
    /// The texts of its lines.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).get(4..).unwrap_or_default())
    }
}

/// Puts replies together.
#[derive(Default)]
pub(crate) struct ReplyReader {
    line: Vec<u8>,
    reply: Vec<u8>,
    code: Option<u16>,
    lines: u8,
}

impl std::fmt::Debug for ReplyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyReader({} lines)", self.lines)
    }
}

impl ReplyReader {
    /// Takes bytes up to the end of the first reply: how many, and the reply when it is whole.
    ///
    /// # Errors
    /// What is wrong with it. Nothing more can be read then.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(usize, Option<CellReply>), &'static str> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let piece = rest.get(..end.map_or(rest.len(), |end| end + 1)).unwrap_or(rest);
            taken += piece.len();
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                return Err("a line is too long");
            }
            self.line.extend_from_slice(piece);
            if end.is_some()
                && let Some(code) = self.end_line()?
            {
                let bytes = std::mem::take(&mut self.reply);
                *self = Self::default();
                return Ok((taken, Some(CellReply { code, bytes })));
            }
        }
        Ok((taken, None))
    }

    /// A line is whole; the code when it is the last one.
    fn end_line(&mut self) -> Result<Option<u16>, &'static str> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, last) = head(line).ok_or("no reply code")?;
        if self.code.is_some_and(|first| first != code) {
            return Err("two codes in one reply");
        }
        self.code = Some(code);
        self.lines += 1;
        if self.lines > LINES_MAX || self.reply.len() + line.len() + 2 > REPLY_BYTES_MAX {
            return Err("a reply is too long");
        }
        // A cell's text reaches the client's terminal; a bare CR would end a line to some.
        self.reply.extend(line.iter().map(|byte| if byte.is_ascii_control() && *byte != b'\t' { b'?' } else { *byte }));
        self.reply.extend_from_slice(b"\r\n");
        self.line.clear();
        Ok(last.then_some(code))
    }
}

/// The code at the start of a line, and whether no line of the same reply follows.
fn head(line: &[u8]) -> Option<(u16, bool)> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let last = match rest.first() {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    (200..600).contains(&code).then_some((code, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(usize, Option<CellReply>), &'static str> {
        ReplyReader::default().read(bytes)
    }

    #[test]
    fn a_reply_is_all_its_lines() {
        let (taken, reply) = read(b"250-one\r\n250-\n250 three\r\n250 other\r\n").unwrap();
        let reply = reply.unwrap();
        assert_eq!((taken, reply.code), (25, 250));
        assert_eq!(reply.bytes, b"250-one\r\n250-\r\n250 three\r\n");
        assert_eq!(reply.texts().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!(read(b"354\r\n").unwrap().1.unwrap().bytes, b"354\r\n");
    }

    #[test]
    fn any_cutting_reads_alike() {
        let bytes = b"220-a\r\n220 b\r\n";
        let mut reader = ReplyReader::default();
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(reader.read(&[*byte]), Ok((1, None)));
        }
        let reply = reader.read(b"\n").unwrap().1.unwrap();
        assert_eq!(reply.bytes, bytes);
    }

    #[test]
    fn what_is_no_reply_is_found_out() {
        for bytes in
            [&b"\r\n"[..], b"ok\r\n", b"25 x\r\n", b"2500 x\r\n", b"199 x\r\n", b"600 x\r\n", b"250x\r\n", b"-50 x\r\n"]
        {
            assert_eq!(read(bytes), Err("no reply code"), "{}", bytes.escape_ascii());
        }
        assert_eq!(read(b"250-a\r\n251 b\r\n"), Err("two codes in one reply"));
        assert_eq!(read(&[b'2'; 2049]), Err("a line is too long"));
        assert_eq!(read("250-x\r\n".repeat(65).as_bytes()), Err("a reply is too long"));
        assert_eq!(read(format!("250-{}\r\n", "x".repeat(2000)).repeat(9).as_bytes()), Err("a reply is too long"));
    }

    #[test]
    fn control_characters_do_not_reach_the_client() {
        assert_eq!(read(b"250 a\rb\0\x1b[c\r\n").unwrap().1.unwrap().bytes, b"250 a?b??[c\r\n");
    }
}
