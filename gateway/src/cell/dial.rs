//! Connections to a cell, from its source addresses in turn.
//!
//! A TCP connection is told apart by its four numbers, so one source address has about 28,000 connections to one endpoint
//! in it (`net.ipv4.ip_local_port_range`). A cell with several source addresses has that many from each: the port is
//! chosen when the connection is made (`IP_BIND_ADDRESS_NO_PORT`), not when the address is, and an address that has none
//! left gives way to the next.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use pingora::{ErrorType, connectors::l4::BindTo, protocols::l4::ext};
use tokio::net::TcpStream;

use crate::telemetry::event;

/// The source addresses of a cell, shared by all that connect there.
#[derive(Debug)]
pub(super) struct Sources {
    cell: Arc<str>,
    addresses: Vec<IpAddr>,
    turn: AtomicUsize,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialError {
    /// Nothing is known of the endpoint: no source address has a port left for it, or none is an address of this machine.
    #[error("no source address has a port left")]
    NoSource,
    /// It does not take it.
    #[error("{0}")]
    Refused(String),
}

impl Sources {
    pub(super) fn new(cell: &str, addresses: &[IpAddr]) -> Arc<Self> {
        Arc::new(Self { cell: cell.into(), addresses: addresses.to_vec(), turn: AtomicUsize::new(0) })
    }

    /// The ways to go to an address, the one whose turn it is first. None has its family: the kernel's choice.
    pub(super) fn ways(&self, to: SocketAddr) -> Vec<Option<IpAddr>> {
        let mut ways: Vec<_> =
            self.addresses.iter().filter(|ip| ip.is_ipv4() == to.is_ipv4()).copied().map(Some).collect();
        if ways.is_empty() {
            return vec![None];
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % ways.len();
        ways.rotate_left(turn);
        ways
    }

    /// An address was of no use.
    pub(super) fn exhausted(&self, from: Option<IpAddr>) {
        event::SourceExhausted { cell: &self.cell, from }.emit();
    }

    /// Connects.
    pub(super) async fn dial(&self, to: SocketAddr) -> Result<TcpStream, DialError> {
        for way in self.ways(to) {
            let connected = match way {
                None => TcpStream::connect(to).await.map_err(|error| match error.kind() {
                    io::ErrorKind::AddrNotAvailable => DialError::NoSource,
                    _ => DialError::Refused(error.to_string()),
                }),
                Some(ip) => ext::connect(&to, Some(&bind_to(ip))).await.map_err(|error| match error.etype() {
                    ErrorType::BindError => DialError::NoSource,
                    _ => DialError::Refused(error.to_string()),
                }),
            };
            match connected {
                Err(DialError::NoSource) => self.exhausted(way),
                done => return done,
            }
        }
        Err(DialError::NoSource)
    }
}

pub(super) fn bind_to(ip: IpAddr) -> BindTo {
    let mut bind_to = BindTo::default();
    bind_to.addr = Some(SocketAddr::new(ip, 0));
    bind_to
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn connections_are_spread_over_the_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let sources = Sources::new("spread", &[ip("127.0.0.2"), ip("::1"), ip("127.0.0.3")]);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let stream = sources.dial(to).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, stream.local_addr().unwrap());
            seen.push(peer.ip());
        }
        let two = [ip("127.0.0.2"), ip("127.0.0.3")];
        assert_eq!(seen, [two, two].concat());
    }

    /// An address that is not of this machine fails as one without a port does (EADDRNOTAVAIL).
    #[tokio::test]
    async fn an_address_of_no_use_gives_way_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let sources = Sources::new("next", &[ip("203.0.113.1"), ip("127.0.0.2"), ip("203.0.113.2")]);
        for _ in 0..6 {
            assert_eq!(sources.dial(to).await.unwrap().local_addr().unwrap().ip(), ip("127.0.0.2"));
        }
        let none = Sources::new("none", &[ip("203.0.113.1"), ip("203.0.113.2")]);
        assert_eq!(none.dial(to).await.unwrap_err(), DialError::NoSource);
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let sources = Sources::new("refused", &[ip("127.0.0.2")]);
        assert!(matches!(sources.dial(refused).await, Err(DialError::Refused(_))), "no word on the address");
    }

    /// In a network of its own that has few ports: this binary once more, with this test alone.
    #[test]
    fn every_port_of_every_address_is_used_before_there_is_none() {
        if std::env::var_os(FEW_PORTS).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            return runtime.block_on(every_port_of_every_address());
        }
        let inside =
            "ip link set lo up && echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$0\" \"$@\"";
        let module = module_path!().split_once("::").unwrap().1;
        let output = std::process::Command::new("unshare")
            .args(["--map-root-user", "--net", "sh", "-c", inside])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::every_port_of_every_address_is_used_before_there_is_none")])
            .env(FEW_PORTS, "yes")
            .output()
            .expect("unshare (util-linux) runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(
            output.status.success() && said.contains("1 passed"),
            "needs a network of its own (user namespaces allowed, `unshare`, `ip`), and what the test says there: {said}"
        );
    }

    const FEW_PORTS: &str = "GUICHET_TEST_IN_FEW_PORTS";

    async fn every_port_of_every_address() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let range: Vec<usize> = range.split_whitespace().map(|port| port.parse().unwrap()).collect();
        let ports = range[1] - range[0] + 1;
        assert!(ports <= 64, "{range:?}");
        let (one, two) = ("127.0.0.1:7001", "127.0.0.1:7002");
        let listeners = [TcpListener::bind(one).await.unwrap(), TcpListener::bind(two).await.unwrap()];
        let sources = Sources::new("ports", &[ip("127.0.0.2"), ip("127.0.0.3")]);
        let mut open = Vec::new();
        // Each endpoint has all ports of each address: choosing the address alone takes none away.
        for to in [one, two] {
            for _ in 0..2 * ports {
                open.push(sources.dial(to.parse().unwrap()).await.unwrap());
            }
            assert_eq!(sources.dial(to.parse().unwrap()).await.unwrap_err(), DialError::NoSource);
        }
        drop(listeners);
    }

    #[tokio::test]
    async fn without_an_address_of_the_family_the_kernel_chooses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for addresses in [&[][..], &[ip("::1")]] {
            let sources = Sources::new("kernel", addresses);
            let to = listener.local_addr().unwrap();
            assert_eq!(sources.dial(to).await.unwrap().local_addr().unwrap().ip(), ip("127.0.0.1"));
        }
    }
}
