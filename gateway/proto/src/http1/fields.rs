//! The fields of a head (RFC 9112 §5), and those that decide where a message ends and whom it is for.

use super::{
    gate::Refusal,
    request_line::{RequestLine, is_token_byte},
};

/// Most fields.
const FIELDS_MAX: u8 = 100;
/// Longest Content-Length, digits: fits 64 bits with room.
const LENGTH_DIGITS_MAX: usize = 18;
/// Longest host name (RFC 1035) with a port.
const HOST_BYTES_MAX: usize = 255 + 6;

/// What matters of the fields read so far.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    count: u8,
    host: Option<&'a [u8]>,
    has_length: bool,
    has_coding: bool,
    has_upgrade: bool,
}

impl<'a> Fields<'a> {
    /// Reads one field line.
    pub(super) fn read(&mut self, line: &'a [u8]) -> Result<(), Refusal> {
        self.count = self.count.saturating_add(1);
        if self.count > FIELDS_MAX {
            return Err(Refusal::new(431, "too_many_fields"));
        }
        // RFC 9112 §5.2: a line that goes on from the one before.
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Refusal::bad("obs_fold"));
        }
        let colon = memchr::memchr(b':', line).ok_or(Refusal::bad("field_without_colon"))?;
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default();
        if matches!(name.last(), Some(b' ' | b'\t')) {
            return Err(Refusal::bad("space_before_colon"));
        }
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Refusal::bad("field_name"));
        }
        // Every byte is looked at, so that the compiler can take many at once.
        if value.iter().fold(false, |found, byte| found | (byte.is_ascii_control() & (*byte != b'\t'))) {
            return Err(Refusal::bad("field_value"));
        }
        self.note(name, trim(value))
    }

    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.replace(value).is_some() {
                    return Err(Refusal::bad("two_hosts"));
                }
                if is_authority(value) { Ok(()) } else { Err(Refusal::bad("host")) }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if std::mem::replace(&mut self.has_length, true) {
                    return Err(Refusal::bad("two_content_lengths"));
                }
                let number =
                    !value.is_empty() && value.len() <= LENGTH_DIGITS_MAX && value.iter().all(u8::is_ascii_digit);
                if number { Ok(()) } else { Err(Refusal::bad("content_length")) }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if std::mem::replace(&mut self.has_coding, true) {
                    return Err(Refusal::bad("two_transfer_encodings"));
                }
                coding(value)
            }
            10 if name.eq_ignore_ascii_case(b"connection") => connection(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.has_upgrade = true;
                Ok(())
            }
            6 if name.eq_ignore_ascii_case(b"expect") && !value.eq_ignore_ascii_case(b"100-continue") => {
                Err(Refusal::new(417, "expect"))
            }
            _ => Ok(()),
        }
    }

    /// Neither a body nor an upgrade is announced.
    pub(super) fn is_bodyless(&self) -> bool {
        !(self.has_length || self.has_coding || self.has_upgrade)
    }

    /// Judges what only all fields and the request line show together.
    pub(super) fn judge(&self, line: &RequestLine<'_>) -> Result<(), Refusal> {
        // RFC 9112 §6.1: the two lengths of a smuggled request.
        if self.has_coding && self.has_length {
            return Err(Refusal::bad("te_and_cl"));
        }
        if self.has_coding && !line.is_1_1 {
            return Err(Refusal::bad("te_in_http_1_0"));
        }
        if line.is_1_1 && self.host.is_none() {
            return Err(Refusal::bad("no_host"));
        }
        match (line.authority, self.host) {
            (Some(authority), _) if !is_authority(authority) => Err(Refusal::bad("target_authority")),
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                Err(Refusal::bad("host_not_target"))
            }
            _ => Ok(()),
        }
    }
}

/// RFC 9112 §6.1: exactly one `chunked`. Another coding in front of it we could not take off (501); any other order or
/// repetition is how requests are smuggled.
fn coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |coding: &[u8]| trim(coding).eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|byte| *byte == b',').rev();
    let last = codings.next().unwrap_or_default();
    let known =
        |coding: &[u8]| !coding.is_empty() && coding.iter().all(|byte| is_token_byte(*byte)) && !is_chunked(coding);
    if is_chunked(last) && codings.all(|coding| known(trim(coding))) {
        return Err(Refusal::new(501, "transfer_coding"));
    }
    Err(Refusal::bad("transfer_encoding"))
}

/// RFC 9110 §7.6.1: a field named here is taken away by the next hop; these decide who the user is, where the request
/// goes and where it ends, and must not vanish between us and the cell.
fn connection(value: &[u8]) -> Result<(), Refusal> {
    const KEPT: [&[u8]; 8] = [
        b"host",
        b"authorization",
        b"cookie",
        b"content-length",
        b"content-type",
        b"transfer-encoding",
        b"forwarded",
        b"x-real-ip",
    ];
    const FORWARDED: &[u8] = b"x-forwarded-";
    for option in value.split(|byte| *byte == b',').map(trim).filter(|option| !option.is_empty()) {
        if !option.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Refusal::bad("connection"));
        }
        let forwarded = option.get(..FORWARDED.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORWARDED));
        if forwarded || KEPT.iter().any(|name| option.eq_ignore_ascii_case(name)) {
            return Err(Refusal::bad("connection_names_field"));
        }
    }
    Ok(())
}

/// `uri-host [":" port]` (RFC 9110 §7.2) as the host names of web sites are: letters, digits, `-`, `_`, `.`, or an
/// IPv6 address in brackets. No user, no list, no escapes: what two parsers could take for two hosts.
fn is_authority(value: &[u8]) -> bool {
    if value.is_empty() || value.len() > HOST_BYTES_MAX {
        return false;
    }
    let (host_is_valid, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b']').unwrap_or(rest.len());
            let (address, rest) = rest.split_at_checked(end).unwrap_or_default();
            let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<std::net::Ipv6Addr>().ok());
            (address.is_some() && rest.starts_with(b"]"), rest.get(1..).unwrap_or_default())
        }
        None => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            let (host, rest) = value.split_at_checked(end).unwrap_or_default();
            let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            (!host.is_empty() && host.iter().all(legal), rest)
        }
    };
    let port_is_valid = match port.strip_prefix(b":") {
        Some(digits) => (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        None => port.is_empty(),
    };
    host_is_valid && port_is_valid
}

/// Without the optional white space around it (RFC 9110 §5.6.3).
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}
