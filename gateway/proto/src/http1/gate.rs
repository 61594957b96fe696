//! Finds the end of a request head, each byte looked at once, then judges it.

use super::{fields, request_line};

/// Progress of reading a request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No blank line yet.
    More,
    /// A clean head of `length` bytes, blank line included (and the empty line that may stand in front of it).
    Pass {
        /// Bytes of the head.
        length: usize,
        /// It announces neither a body nor an upgrade: what follows is the next request.
        bodyless: bool,
    },
    /// To be answered with this status, then closed.
    Refuse {
        /// 400, 405, 414, 417, 431, 501 or 505.
        status: u16,
        /// Short name for the metric, such as `te_and_cl`.
        kind: &'static str,
    },
}

/// Longest head, bytes.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A request that does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    kind: &'static str,
}

impl Refusal {
    pub(super) const fn new(status: u16, kind: &'static str) -> Self {
        Self { status, kind }
    }

    /// Malformed.
    pub(super) const fn bad(kind: &'static str) -> Self {
        Self::new(400, kind)
    }
}

impl From<Refusal> for Gate {
    fn from(Refusal { status, kind }: Refusal) -> Self {
        Self::Refuse { status, kind }
    }
}

/// Looks at the head at the start of `input`; `from` is where the last look ended, to scan each byte once.
///
/// The verdict does not depend on how the input was cut. Nothing is allocated.
pub fn inspect(input: &[u8], from: usize) -> Gate {
    // RFC 9112 §2.2: one empty line in front of the request line is let pass, some old programs send it after a body.
    let start = if input.starts_with(b"\r\n") { 2 } else { 0 };
    // The byte at the old end may be a CR whose LF has come only now.
    let from = from.saturating_sub(1);
    let seen = input.get(..HEAD_BYTES_MAX).unwrap_or(input);
    let line_end = start + request_line::BYTES_MAX;
    let line_is_too_long = || !seen.get(start..=line_end).is_none_or(|line| line.contains(&b'\n'));
    for at in memchr::memchr2_iter(b'\r', b'\n', seen.get(from..).unwrap_or_default()).map(|at| from + at) {
        if at > line_end && line_is_too_long() {
            break;
        }
        match (seen.get(at), at) {
            (Some(b'\n'), _) if at.checked_sub(1).and_then(|before| input.get(before)) != Some(&b'\r') => {
                return Refusal::bad("bare_lf").into();
            }
            (Some(b'\n'), 3) if start == 2 => return Refusal::bad("empty_lines").into(),
            (Some(b'\n'), _) if at >= start + 3 && input.get(at - 3..at) == Some(b"\r\n\r") => {
                let head = input.get(start..at - 1).unwrap_or_default();
                return judge(head, at + 1);
            }
            (Some(b'\r'), _) if input.get(at + 1).is_some_and(|next| *next != b'\n') => {
                return Refusal::bad("bare_cr").into();
            }
            _ => {}
        }
    }
    if line_is_too_long() {
        return Refusal::new(414, "request_line_too_long").into();
    }
    if input.len() >= HEAD_BYTES_MAX {
        return Refusal::new(431, "head_too_long").into();
    }
    Gate::More
}

/// Judges a head whose lines end with CRLF, without its blank line.
fn judge(head: &[u8], length: usize) -> Gate {
    let mut lines = Lines(head);
    let request_line = lines.next().unwrap_or_default();
    let verdict = request_line::read(request_line).and_then(|line| {
        let mut fields = fields::Fields::default();
        for field in lines.filter(|line| !line.is_empty()) {
            fields.read(field)?;
        }
        fields.judge(&line)?;
        Ok(fields.is_bodyless())
    });
    match verdict {
        Ok(bodyless) => Gate::Pass { length, bodyless },
        Err(refusal) => refusal.into(),
    }
}

/// The lines of a head, without their CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\r', self.0)?;
        let (line, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix(b"\r\n").unwrap_or_default();
        Some(line)
    }
}
