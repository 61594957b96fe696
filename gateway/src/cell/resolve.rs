//! Names of endpoints to addresses: literal addresses and `localhost` at once, others by DNS for as long as their TTL
//! says. When DNS does not answer, the last good addresses stay in use.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use guichet_config::Endpoint;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

/// Resolves and remembers. The names are those of the configuration: their number is bounded by it.
pub(super) struct Names {
    servers: Vec<SocketAddr>,
    resolver: Option<TokioResolver>,
    known: Mutex<HashMap<String, Known>>,
    turn: AtomicUsize,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("servers", &self.servers).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl Names {
    /// With these name servers; with the system's when there are none.
    pub(super) fn new(servers: &[SocketAddr]) -> anyhow::Result<Self> {
        let resolver = if servers.is_empty() {
            // A machine without resolver configuration can still reach literal addresses.
            TokioResolver::builder_tokio().and_then(|builder| builder.build()).ok()
        } else {
            let name_servers = servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut one| {
                    one.port = server.port();
                    one
                });
                NameServerConfig::new(server.ip(), true, connections.to_vec())
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), name_servers.collect());
            Some(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()?)
        };
        Ok(Self { servers: servers.to_vec(), resolver, known: Mutex::default(), turn: AtomicUsize::new(0) })
    }

    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// An address of the endpoint, in turn when its name has several.
    pub(super) async fn address(&self, endpoint: &Endpoint) -> Result<SocketAddr, String> {
        if let Ok(ip) = endpoint.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, endpoint.port));
        }
        if endpoint.host == "localhost" {
            return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), endpoint.port));
        }
        let addresses = self.lookup(&endpoint.host).await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let ip = addresses.get(turn % addresses.len().max(1)).ok_or("the name has no address")?;
        Ok(SocketAddr::new(*ip, endpoint.port))
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned();
        let now = Instant::now();
        if let Some(known) = &known
            && known.until > now
        {
            return Ok(known.addresses.clone());
        }
        let resolver = self.resolver.as_ref().ok_or("no name server is configured")?;
        let fresh = match resolver.lookup_ip(host).await {
            Ok(answer) => {
                let addresses: Vec<IpAddr> = answer.iter().collect();
                Known { addresses, until: answer.valid_until().max(now + TTL_MIN) }
            }
            Err(error) => {
                let stale = known.ok_or_else(|| format!("the name cannot be resolved: {error}"))?;
                Known { until: now + RETRY_AFTER, ..stale }
            }
        };
        let addresses = fresh.addresses.clone();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), fresh);
        Ok(addresses)
    }
}

/// A TTL of zero must not mean a question for each login.
const TTL_MIN: Duration = Duration::from_secs(1);
/// DNS does not answer: how long the last good addresses are used before asking again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
