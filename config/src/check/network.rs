//! Addresses: what is listened on, what is connected to.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Check, all};
use crate::{Domain, Endpoint, Listener, ListenerKind, MailTls, Management, file, shape};

impl Check {
    pub(super) fn listeners(&mut self, file: &file::Listeners) -> Option<Vec<Listener>> {
        let mut found = Vec::new();
        for (name, listener) in &file.web {
            found.push(("web", name, ListenerKind::Web, &listener.bind, listener.proxy_protocol.as_ref()));
        }
        for (name, listener) in &file.redirect {
            found.push(("redirect", name, ListenerKind::Redirect, &listener.bind, listener.proxy_protocol.as_ref()));
        }
        for (name, listener) in &file.imap {
            let tls = match listener.tls {
                file::MailTls::Implicit => MailTls::Implicit,
                file::MailTls::StartTls => MailTls::StartTls,
            };
            found.push(("imap", name, ListenerKind::Imap { tls }, &listener.bind, listener.proxy_protocol.as_ref()));
        }
        if found.is_empty() {
            self.problem("listener", "no port is open", "add a [listener.web.NAME] or [listener.imap.NAME]".to_owned());
        }
        found.sort_by_key(|(kind, name, ..)| self.place(&shape::join(&format!("listener.{kind}"), name)));
        let mut listeners = Vec::new();
        let mut seen: Vec<(&str, String)> = Vec::new();
        for (kind, name, what, bind, proxy) in found {
            let key = shape::join(&format!("listener.{kind}"), name);
            if let Some((_, first)) = seen.iter().find(|(known, _)| known == name) {
                let first = first.clone();
                let line = self.place(&first).line;
                self.problem(
                    &key,
                    format!("`{first}` (line {line}) has this name already"),
                    "logs and metrics know a listener by its name alone".to_owned(),
                );
            }
            seen.push((name, key.clone()));
            let id = self.parse(&key, name);
            let bind = self.addresses(&format!("{key}.bind"), bind, None);
            let proxy_from = proxy
                .map_or(Some(Vec::new()), |proxy| self.networks(&format!("{key}.proxy_protocol.from"), &proxy.from));
            listeners.push(match (id, bind, proxy_from) {
                (Some(id), Some(bind), Some(proxy_from)) => Some(Listener { id, kind: what, bind, proxy_from }),
                _ => None,
            });
        }
        let mut listeners = all(listeners)?;
        listeners.sort_by(|a, b| a.id.cmp(&b.id));
        Some(listeners)
    }

    /// No two sockets may want the same port of the same address.
    pub(super) fn ports(&mut self, listeners: &[Listener], management: &Management) {
        let mut binds = vec![(management.bind, "management.bind".to_owned())];
        for listener in listeners {
            let kind = match listener.kind {
                ListenerKind::Web => "web",
                ListenerKind::Redirect => "redirect",
                ListenerKind::Imap { .. } => "imap",
            };
            let key = |index: usize| format!("listener.{kind}.{}.bind[{index}]", listener.id);
            binds.extend(listener.bind.iter().enumerate().map(|(index, bind)| (*bind, key(index))));
        }
        binds.sort_by_key(|(_, key)| self.place(key));
        for (index, (bind, key)) in binds.iter().enumerate() {
            if let Some((other, first)) = binds.iter().take(index).find(|(other, _)| clash(*other, *bind)) {
                let message = format!("{bind} is taken: `{first}` (line {}) has {other}", self.place(first).line);
                self.problem(key, message, None);
            }
        }
    }

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

/// Two sockets that cannot both be opened. `[::]` takes IPv4 too; port 0 is another one each time.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| match wide {
        IpAddr::V6(ip) => ip.is_unspecified(),
        IpAddr::V4(ip) => ip.is_unspecified() && other.is_ipv4(),
    };
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
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

    #[test]
    fn sockets_clash_with_their_wildcard() {
        for (a, b, expected) in [
            ("127.0.0.1:443", "127.0.0.1:443", true),
            ("127.0.0.1:443", "127.0.0.2:443", false),
            ("127.0.0.1:443", "127.0.0.1:444", false),
            ("0.0.0.0:443", "127.0.0.1:443", true),
            ("0.0.0.0:443", "[::1]:443", false),
            ("[::]:443", "127.0.0.1:443", true),
            ("[::]:443", "[::1]:443", true),
            ("0.0.0.0:443", "[::]:443", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (left, right) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((clash(left, right), clash(right, left)), (expected, expected), "{a} {b}");
        }
    }
}
