//! Addresses: what is listened on, what is connected to.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Check, all};
use crate::{Domain, Endpoint};

impl Check {
    /// Addresses with their ports; without a default the port must be there.
    pub(super) fn addresses(&mut self, key: &str, texts: &[String], port: Option<u16>) -> Option<Vec<SocketAddr>> {
        let one = |(index, text): (usize, &String)| self.address(&format!("{key}[{index}]"), text, port);
        all(texts.iter().enumerate().map(one).collect())
    }

    pub(super) fn address(&mut self, key: &str, text: &str, port: Option<u16>) -> Option<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        if let (Ok(ip), Some(port)) = (text.parse::<IpAddr>(), port) {
            return Some(SocketAddr::new(ip, port));
        }
        let hint = "write \"127.0.0.1:443\", \"[::1]:443\", or \"[::]:443\" for every address, IPv4 too".to_owned();
        self.problem(key, format!("{text:?} is not an address with a port"), hint);
        None
    }

    /// Networks in CIDR notation; a bare address is a network of one.
    pub(super) fn networks(&mut self, key: &str, texts: &[String]) -> Option<Vec<IpNet>> {
        let mut networks = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let key = format!("{key}[{index}]");
            match network {
                None => self.problem(
                    &key,
                    format!("{text:?} is not a network"),
                    "write \"10.0.0.0/8\" or \"2001:db8::/32\"".to_owned(),
                ),
                Some(net) if net.addr() != net.network() => {
                    self.problem(
                        &key,
                        format!("{text:?} has bits behind its prefix"),
                        format!("write \"{}\"", net.trunc()),
                    );
                }
                Some(_) => {}
            }
            networks.push(network);
        }
        all(networks)
    }

    /// `HOST:PORT` of back ends.
    pub(super) fn endpoints(&mut self, key: &str, texts: &[String]) -> Option<Vec<Endpoint>> {
        let mut endpoints: Vec<Option<Endpoint>> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let endpoint = parse_endpoint(text);
            let key = format!("{key}[{index}]");
            if endpoint.is_none() {
                self.problem(
                    &key,
                    format!("{text:?} is not a host with a port"),
                    "write \"mbx1.example:993\" or \"[2001:db8::1]:993\"".to_owned(),
                );
            } else if endpoints.contains(&endpoint) {
                self.problem(&key, format!("{text:?} stands here twice"), None);
            }
            endpoints.push(endpoint);
        }
        all(endpoints)
    }
}

/// Whether an endpoint can only be on this machine.
pub(super) fn is_loopback(endpoint: &Endpoint) -> bool {
    endpoint.host == "localhost" || endpoint.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A host (name or address, IPv6 in brackets) and a port.
pub(super) fn parse_endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0 && !text.ends_with(['+', '-']))?;
    if !text.rsplit(':').next()?.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Endpoint { host: parse_host(host)?, port })
}

/// A name in its canonical form, an IPv4 address, or an IPv6 address in brackets (given back without).
pub(super) fn parse_host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(|ip| ip.to_string());
    }
    text.parse::<Domain>().ok().map(|name| name.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_names_or_addresses_with_a_port() {
        for (text, shown) in [
            ("MBX1.example:993", "mbx1.example:993"),
            ("192.0.2.1:143", "192.0.2.1:143"),
            ("[2001:db8::1]:993", "[2001:db8::1]:993"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(parse_endpoint(text).map(|e| e.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "mbx1",
            "mbx1:",
            ":993",
            "mbx1:0",
            "mbx1:65536",
            "mbx1:+1",
            "2001:db8::1:993",
            "[::1:993",
            "[::1]993",
            "a b:1",
            "http://a:1",
        ] {
            assert_eq!(parse_endpoint(text), None, "{text}");
        }
    }
}
