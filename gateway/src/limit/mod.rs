//! What one may take: submitted mail ([`Submissions`]), and connections.
//!
//! Connections: how many are open in all and per source, and how fast one source makes new ones.
//!
//! A source is an IPv4 address or an IPv6 /64. What is counted is given back when the [`Admission`] is dropped, wherever
//! the connection ends. Limits are arguments: they change with the configuration, the counts stay.

mod submission;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use guichet_config::Limits;

pub use self::submission::{Kind, Reached, Submissions};

/// Open connections of this node.
pub struct Connections {
    total: AtomicUsize,
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    hasher: RandomState,
    rate: ArcSwap<Rate>,
    checks: AtomicU32,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("total", &self.total).finish_non_exhaustive()
    }
}

struct Rate {
    per_second: u32,
    limiter: DefaultKeyedRateLimiter<IpAddr>,
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The node is full.
    Connections,
    /// This source has too many open.
    Source,
    /// This source makes them too fast.
    Rate,
}

impl Refused {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Source => "source",
            Self::Rate => "rate",
        }
    }
}

/// A place taken by one connection; given back on drop.
#[derive(Debug)]
pub struct Admission {
    connections: Arc<Connections>,
    source: Option<IpAddr>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            total: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            rate: ArcSwap::from_pointee(Rate::new(1)),
            checks: AtomicU32::new(0),
        }
    }
}

impl Connections {
    /// Takes a place in the total. The source is not known yet: a PROXY header may name another.
    ///
    /// # Errors
    /// The node is full.
    pub fn enter(self: &Arc<Self>, limits: &Limits) -> Result<Admission, Refused> {
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        let admission = Admission { connections: self.clone(), source: None };
        if before >= limits.connections_max { Err(Refused::Connections) } else { Ok(admission) }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn shard(&self, source: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let index = usize::try_from(self.hasher.hash_one(source)).unwrap_or(usize::MAX) % SHARDS;
        self.shards.get(index).expect("a remainder of SHARDS is an index")
    }

    fn too_fast(&self, source: IpAddr, per_second: u32) -> bool {
        let mut rate = self.rate.load_full();
        let look = self.checks.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNE_EVERY);
        if look {
            rate.limiter.retain_recent();
        }
        // Changed by a reload, or more sources at once than we care to remember: begin anew.
        if rate.per_second != per_second || (look && rate.limiter.len() > SOURCES_MAX) {
            rate = Arc::new(Rate::new(per_second));
            self.rate.store(rate.clone());
        }
        rate.limiter.check_key(&source).is_err()
    }
}

impl Admission {
    /// Takes a place for the source, once it is known. Exempt sources are not counted.
    ///
    /// # Errors
    /// The source has too many, or makes them too fast.
    pub fn admit(&mut self, client: IpAddr, limits: &Limits) -> Result<(), Refused> {
        let client = client.to_canonical();
        if limits.exempt.iter().any(|net| net.contains(&client)) {
            return Ok(());
        }
        let source = prefix(client);
        if self.connections.too_fast(source, limits.connections_per_source_rate) {
            return Err(Refused::Rate);
        }
        let mut shard = self.connections.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
        let open = shard.entry(source).or_default();
        if *open >= limits.connections_per_source {
            return Err(Refused::Source);
        }
        *open += 1;
        drop(shard);
        self.source = Some(source);
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = self.source else { return };
        let mut shard = self.connections.shard(source).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = shard.get_mut(&source) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                shard.remove(&source);
            }
        }
    }
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let each = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(per_second.saturating_mul(10)).unwrap_or(each);
        Self { per_second, limiter: RateLimiter::keyed(Quota::per_second(each).allow_burst(burst)) }
    }
}

/// What counts as one source: an IPv4 address, an IPv6 /64.
pub fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// Enough that accept tasks on all cores seldom meet.
const SHARDS: usize = 64;
/// Forget sources at rest after so many checks.
const PRUNE_EVERY: u32 = 4096;
/// About 20 MiB of remembered sources.
const SOURCES_MAX: usize = 200_000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn limits(total: usize, per_source: usize, rate: u32) -> Limits {
        Limits {
            connections_max: total,
            connections_per_source: per_source,
            connections_per_source_rate: rate,
            login_failures_per_source: 1,
            login_failures_per_user: 1,
            login_window: std::time::Duration::from_secs(1),
            exempt: vec!["192.0.2.0/24".parse().unwrap()],
            login_deadline: std::time::Duration::from_secs(1),
            password_cache_entries: 1,
            password_cache_ttl: std::time::Duration::from_secs(1),
            held_logins: 1,
            held_logins_per_tenant: 1,
            sessions_per_user: 1,
            sessions_per_user_source: 1,
            messages_per_user: 1,
            recipients_per_user: 1,
            messages_per_tenant: 1,
            recipients_per_tenant: 1,
            messages_window: std::time::Duration::from_secs(1),
            body_bytes_max: 1,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_total_is_given_back_when_a_connection_ends() {
        let all = Arc::new(Connections::default());
        let limits = limits(1, 9, 100);
        let one = all.enter(&limits).unwrap();
        assert_eq!(all.enter(&limits).unwrap_err(), Refused::Connections);
        drop(one);
        assert!(all.enter(&limits).is_ok());
        assert_eq!(all.open(), 0);
    }

    #[test]
    fn one_source_is_an_ipv6_64_and_a_mapped_address_is_its_ipv4() {
        let all = Arc::new(Connections::default());
        let limits = limits(9, 1, 100);
        let mut one = all.enter(&limits).unwrap();
        one.admit(ip("2001:db8::1"), &limits).unwrap();
        let mut two = all.enter(&limits).unwrap();
        assert_eq!(two.admit(ip("2001:db8::ffff:2"), &limits), Err(Refused::Source));
        assert_eq!(two.admit(ip("2001:db8:0:1::2"), &limits), Ok(()));
        assert_eq!(prefix(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        drop(one);
        let mut three = all.enter(&limits).unwrap();
        assert_eq!(three.admit(ip("2001:db8::3"), &limits), Ok(()));
    }

    #[test]
    fn a_burst_is_ten_seconds_of_the_rate_and_exempt_networks_are_free() {
        let all = Arc::new(Connections::default());
        let limits = limits(99, 99, 1);
        for _ in 0..10 {
            all.enter(&limits).unwrap().admit(ip("10.0.0.1"), &limits).unwrap();
        }
        assert_eq!(all.enter(&limits).unwrap().admit(ip("10.0.0.1"), &limits), Err(Refused::Rate));
        for _ in 0..50 {
            all.enter(&limits).unwrap().admit(ip("192.0.2.1"), &limits).unwrap();
        }
    }
}
