//! The PROXY protocol, versions 1 and 2 (HAProxy proxy-protocol.txt): reading from trusted networks, writing v2 to cells.
//!
//! Strict on purpose: who sends it is configured as trusted, so anything odd is a wrong configuration, and a guess about
//! the client's address would end in limits and logs. Which peers may send a header, and by when, is the listener's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A header that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// A relayed connection. IPv4 addresses mapped into IPv6 are given as IPv4.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
    /// The proxy's own connection (LOCAL, UNKNOWN): health checks.
    Local,
}

/// Progress of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// More bytes are needed.
    More,
    /// A header of `length` bytes.
    Done {
        /// What it says.
        header: Header,
        /// Bytes it took.
        length: usize,
    },
}

/// Not a header, or a broken one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProxyHeaderError(pub &'static str);

/// Longest header read, bytes: v2 addresses and room for TLVs.
pub const LENGTH_MAX: usize = 536;

/// How a v1 header starts (§2.1).
const V1_START: &[u8] = b"PROXY ";
/// Longest v1 header with its line end (§2.1).
const V1_LENGTH_MAX: usize = 107;
/// How a v2 header starts (§2.2).
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Start, version and command, family, length.
const V2_FIXED: usize = 16;
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const V2_UNSPEC: u8 = 0x00;
const V2_TCP4: u8 = 0x11;
const V2_TCP6: u8 = 0x21;

/// Reads a v1 or v2 header from the start of `input`.
///
/// # Errors
/// Not a header, malformed, or over [`LENGTH_MAX`].
pub fn read(input: &[u8]) -> Result<Read, ProxyHeaderError> {
    let starts_like = |start: &[u8]| input.iter().zip(start).all(|(seen, wanted)| seen == wanted);
    if starts_like(V2_START) {
        read_v2(input)
    } else if starts_like(V1_START) {
        read_v1(input)
    } else {
        Err(ProxyHeaderError("no PROXY header"))
    }
}

/// A v2 header, TCP.
pub fn write_v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = Vec::with_capacity(V2_FIXED + 36);
    header.extend_from_slice(V2_START);
    header.push(V2_PROXY);
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend_from_slice(&[V2_TCP4, 0, 12]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
        }
        (from, to) => {
            header.extend_from_slice(&[V2_TCP6, 0, 36]);
            header.extend_from_slice(&as_v6(from).octets());
            header.extend_from_slice(&as_v6(to).octets());
        }
    }
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&destination.port().to_be_bytes());
    header
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn read_v1(input: &[u8]) -> Result<Read, ProxyHeaderError> {
    let within = input.get(..V1_LENGTH_MAX).unwrap_or(input);
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        let over = input.len() >= V1_LENGTH_MAX;
        return if over { Err(ProxyHeaderError("v1 header is too long")) } else { Ok(Read::More) };
    };
    let line = within.get(..end).and_then(|line| line.strip_suffix(b"\r")).and_then(|line| line.strip_prefix(V1_START));
    let line = line.ok_or(ProxyHeaderError("v1 header does not end with CRLF"))?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyHeaderError("v1 header is not ASCII"))?;
    let header = if line == "UNKNOWN" || line.starts_with("UNKNOWN ") { Header::Local } else { v1_addresses(line)? };
    Ok(Read::Done { header, length: end + 1 })
}

fn v1_addresses(line: &str) -> Result<Header, ProxyHeaderError> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(ProxyHeaderError("v1 header lacks a field"));
    let family = word()?;
    let (from, to) = (word()?, word()?);
    let (from_port, to_port) = (v1_port(word()?)?, v1_port(word()?)?);
    if words.next().is_some() {
        return Err(ProxyHeaderError("v1 header has too many fields"));
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let invalid = ProxyHeaderError("v1 header has no such family or address");
    match (address(from), address(to)) {
        (Some(from), Some(to)) => Ok(proxied((from, from_port), (to, to_port))),
        _ => Err(invalid),
    }
}

/// A port as §2.1 writes it: decimal, no sign, no leading zero.
fn v1_port(text: &str) -> Result<u16, ProxyHeaderError> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let port = if canonical { text.parse().ok() } else { None };
    port.ok_or(ProxyHeaderError("v1 header has an invalid port"))
}

fn read_v2(input: &[u8]) -> Result<Read, ProxyHeaderError> {
    let Some(([.., version_command, family, high, low], rest)) = input.split_first_chunk::<V2_FIXED>() else {
        return Ok(Read::More);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if V2_FIXED + length > LENGTH_MAX {
        return Err(ProxyHeaderError("v2 header is too long"));
    }
    if !matches!(*version_command, V2_LOCAL | V2_PROXY) {
        return Err(ProxyHeaderError("v2 header has an unknown version or command"));
    }
    // §2.2: the addresses of LOCAL are to be ignored, whatever their family.
    if *version_command == V2_PROXY && !matches!(*family, V2_UNSPEC | V2_TCP4 | V2_TCP6) {
        return Err(ProxyHeaderError("v2 header is not of a TCP connection"));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Read::More);
    };
    let header = match (*version_command, *family) {
        (V2_PROXY, V2_TCP4) => v2_tcp4(body)?,
        (V2_PROXY, V2_TCP6) => v2_tcp6(body)?,
        _ => Header::Local,
    };
    Ok(Read::Done { header, length: V2_FIXED + length })
}

const SHORT: ProxyHeaderError = ProxyHeaderError("v2 header is too short for its addresses");

fn v2_tcp4(body: &[u8]) -> Result<Header, ProxyHeaderError> {
    let (from, rest) = body.split_first_chunk::<4>().ok_or(SHORT)?;
    let (to, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    v2_ports(IpAddr::from(*from), IpAddr::from(*to), rest)
}

fn v2_tcp6(body: &[u8]) -> Result<Header, ProxyHeaderError> {
    let (from, rest) = body.split_first_chunk::<16>().ok_or(SHORT)?;
    let (to, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
    v2_ports(IpAddr::from(*from), IpAddr::from(*to), rest)
}

fn v2_ports(from: IpAddr, to: IpAddr, rest: &[u8]) -> Result<Header, ProxyHeaderError> {
    let ([a, b, c, d], mut tlvs) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    // §2.2.1: type, length, value. None is used; that they add up shows that both sides count alike.
    while !tlvs.is_empty() {
        let tlv = tlvs.split_first_chunk::<3>();
        let next = tlv.and_then(|([_, high, low], rest)| rest.get(usize::from(u16::from_be_bytes([*high, *low]))..));
        tlvs = next.ok_or(ProxyHeaderError("v2 header has a broken TLV"))?;
    }
    Ok(proxied((from, u16::from_be_bytes([*a, *b])), (to, u16::from_be_bytes([*c, *d]))))
}

fn proxied(from: (IpAddr, u16), to: (IpAddr, u16)) -> Header {
    let address = |(ip, port): (IpAddr, u16)| SocketAddr::new(ip.to_canonical(), port);
    Header::Proxied { source: address(from), destination: address(to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_START, &[version_command, family], &length, body].concat()
    }

    fn done(source: &str, destination: &str, length: usize) -> Result<Read, ProxyHeaderError> {
        let header = Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
        Ok(Read::Done { header, length })
    }

    #[test]
    fn v1_headers_are_read() {
        assert_eq!(
            read(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET"),
            done("192.0.2.1:56324", "192.0.2.2:443", 42)
        );
        assert_eq!(read(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 0\r\n"), done("[2001:db8::1]:1", "[2001:db8::2]:0", 40));
        assert_eq!(read(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"), done("192.0.2.1:1", "[::1]:2", 37));
        for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"] {
            assert_eq!(read(line), Ok(Read::Done { header: Header::Local, length: line.len() }));
        }
    }

    #[test]
    fn broken_v1_headers_are_refused() {
        for line in [
            &b"PROXY \r\n"[..],
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            b"PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY UNKNOWNX\r\n",
            b"PROXY TCP4 192.0.2.1 \xff 1 2\r\n",
            b"PROXZ",
            b"proxy TCP4",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01",
        ] {
            assert!(read(line).is_err(), "{}", line.escape_ascii());
        }
        assert_eq!(
            read(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat()),
            Err(ProxyHeaderError("v1 header is too long"))
        );
    }

    #[test]
    fn v2_headers_are_read() {
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0x01, 0xbb];
        assert_eq!(read(&v2(0x21, 0x11, &body)), done("192.0.2.1:12345", "192.0.2.2:443", 28));
        let with_tlvs = [&body[..], &[0x04, 0, 2, 0, 0, 0x02, 0, 1, b'x']].concat();
        assert_eq!(read(&v2(0x21, 0x11, &with_tlvs)), done("192.0.2.1:12345", "192.0.2.2:443", 37));
        for header in [v2(0x20, 0x00, &[]), v2(0x20, 0x11, &body), v2(0x20, 0x31, &[0; 216]), v2(0x21, 0x00, &[1, 2])] {
            assert_eq!(read(&header), Ok(Read::Done { header: Header::Local, length: header.len() }));
        }
    }

    #[test]
    fn broken_v2_headers_are_refused() {
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0x01, 0xbb];
        for (header, why) in [
            (v2(0x11, 0x11, &body), "version"),
            (v2(0x22, 0x11, &body), "command"),
            (v2(0x21, 0x12, &body), "UDP"),
            (v2(0x21, 0x31, &[0; 216]), "UNIX"),
            (v2(0x21, 0x41, &body), "family"),
            (v2(0x21, 0x11, &body[..11]), "short"),
            (v2(0x21, 0x21, &body), "short for IPv6"),
            (v2(0x21, 0x11, &[&body[..], &[4]].concat()), "cut TLV"),
            (v2(0x21, 0x11, &[&body[..], &[4, 0, 2, 0]].concat()), "TLV over the end"),
            (v2(0x20, 0x00, &[0; 521]), "too long"),
        ] {
            assert!(matches!(read(&header), Err(ProxyHeaderError(_))), "{why}");
        }
    }

    #[test]
    fn mixed_families_are_written_as_ipv6_and_read_as_they_were() {
        let (source, destination) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
        assert_eq!(
            read(&write_v2(source, destination)),
            Ok(Read::Done { header: Header::Proxied { source, destination }, length: 52 })
        );
    }
}
