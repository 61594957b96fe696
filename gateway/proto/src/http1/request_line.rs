//! The request line (RFC 9112 §3): method, target, version, one space between them.

use super::gate::Refusal;

/// Longest target, bytes.
pub(super) const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Longest method, bytes; the longest registered has 17.
const METHOD_BYTES_MAX: usize = 32;
/// Longest request line: method, target, version, spaces and line end.
pub(super) const BYTES_MAX: usize = TARGET_BYTES_MAX + METHOD_BYTES_MAX + 12;

/// A request line that passed.
#[derive(Debug)]
pub(super) struct RequestLine<'a> {
    /// HTTP/1.1, not 1.0.
    pub(super) is_1_1: bool,
    /// The authority of a target in absolute form.
    pub(super) authority: Option<&'a [u8]>,
}

pub(super) fn read(line: &[u8]) -> Result<RequestLine<'_>, Refusal> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::bad("request_line"));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Refusal::bad("method"));
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(Refusal::new(501, "method_too_long"));
    }
    let is_1_1 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refusal::new(505, "version"));
        }
        _ => return Err(Refusal::bad("version")),
    };
    // CONNECT would make a tunnel of us, TRACE shows a script the cookies it may not read.
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(Refusal::new(405, "method_refused"));
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::new(414, "target_too_long"));
    }
    Ok(RequestLine { is_1_1, authority: authority(method, target)? })
}

/// Checks the target's form (RFC 9112 §3.2) and gives the authority, when it has one.
fn authority<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
    // Only what a URI may hold, and what browsers leave bare. A fragment never leaves a client.
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Refusal::bad("target"));
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let scheme_end = target.iter().position(|byte| *byte == b':').unwrap_or(0);
    let (scheme, rest) = target.split_at_checked(scheme_end).unwrap_or_default();
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let Some(rest) = rest.strip_prefix(b"://").filter(|_| is_http) else {
        return Err(Refusal::bad("target_form"));
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Ok(rest.get(..end))
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).is_some_and(|known| *known)
}

const TOKEN: [bool; 256] = {
    let marks = b"!#$%&'*+-.^_`|~";
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};
