//! Wrong logins per source and per user, counted before the directory is asked.
//!
//! A failure is a wrong (user, password) pair not seen within the window: a phone that repeats its old password counts
//! once. After `n` failures in a window a source, or a user, is refused until the window has room for one more (GCRA):
//! at most `n` at once and `n` a window after. A success takes nothing off a source's count. A user's own sources (a
//! success within a day) are counted each for itself, so that a stranger cannot lock a user out of a known phone.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use guichet_config::{Address, Limits};
use moka::sync::Cache;

use crate::password::Verifier;

/// Counts failures; see the module.
pub(crate) struct LoginThrottle {
    sources: Counter<Prefix>,
    users: Counter<(Address, Option<Prefix>)>,
    /// (user, source) with a success.
    familiar: Cache<(Address, Prefix), ()>,
}

/// IPv4 address or IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix(IpAddr);

impl Prefix {
    fn of(source: IpAddr) -> Self {
        Self(match source.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
            v4 => v4,
        })
    }
}

impl std::fmt::Debug for LoginThrottle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginThrottle").finish_non_exhaustive()
    }
}

impl LoginThrottle {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            sources: Counter::new(limits.login_failures_per_source, limits.login_window),
            users: Counter::new(limits.login_failures_per_user, limits.login_window),
            familiar: Cache::builder().max_capacity(KEYS_MAX).time_to_live(FAMILIAR_FOR).build(),
        }
    }

    pub(crate) fn refuses_source(&self, source: IpAddr, now: Instant) -> bool {
        self.sources.refuses(&Prefix::of(source), now)
    }

    pub(crate) fn refuses_user(&self, user: &Address, source: IpAddr, now: Instant) -> bool {
        self.users.refuses(&self.user_key(user, source), now)
    }

    /// A wrong password, or a user or domain that does not exist.
    pub(crate) fn on_failure(&self, user: &Address, source: IpAddr, password: &Verifier, now: Instant) {
        self.sources.count(Prefix::of(source), password, now);
        self.users.count(self.user_key(user, source), password, now);
    }

    pub(crate) fn on_success(&self, user: &Address, source: IpAddr) {
        let key = (user.clone(), Prefix::of(source));
        if !self.familiar.contains_key(&key) {
            self.familiar.insert(key, ());
        }
    }

    fn user_key(&self, user: &Address, source: IpAddr) -> (Address, Option<Prefix>) {
        let key = (user.clone(), Prefix::of(source));
        let familiar = self.familiar.contains_key(&key);
        (key.0, familiar.then_some(key.1))
    }
}

/// Failures of one kind of key.
struct Counter<K: Clone + Eq + std::hash::Hash> {
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
    /// Refused until.
    refused: Cache<K, Instant>,
    /// Pairs counted within the window.
    seen: Cache<(K, [u8; 32]), ()>,
    interval: Duration,
}

impl<K: Clone + Eq + std::hash::Hash + Send + Sync + 'static> Counter<K> {
    fn new(failures: u32, window: Duration) -> Self {
        let failures = NonZeroU32::new(failures).unwrap_or(NonZeroU32::MIN);
        let window = window.max(Duration::from_secs(1));
        let interval = window / failures.get();
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(failures)).allow_burst(failures);
        Self {
            limiter: RateLimiter::dashmap(quota).with_middleware(),
            clock: DefaultClock::default(),
            refused: Cache::builder().max_capacity(KEYS_MAX).time_to_live(window).build(),
            seen: Cache::builder().max_capacity(KEYS_MAX).time_to_live(window).build(),
            interval,
        }
    }

    fn refuses(&self, key: &K, now: Instant) -> bool {
        self.refused.get(key).is_some_and(|until| now < until)
    }

    fn count(&self, key: K, password: &Verifier, now: Instant) {
        let pair = (key, *password.bytes());
        if self.seen.contains_key(&pair) {
            return;
        }
        let key = pair.0.clone();
        self.seen.insert(pair, ());
        if self.limiter.len() as u64 >= KEYS_MAX {
            // Keys whose count has drained go; when none has, the new key is not counted: the bound comes first.
            self.limiter.retain_recent();
            if self.limiter.len() as u64 >= KEYS_MAX {
                return;
            }
        }
        let wait = match self.limiter.check_key(&key) {
            Ok(left) if left.remaining_burst_capacity() > 0 => return,
            Ok(_) => self.interval,
            Err(until) => until.wait_time_from(self.clock.now()),
        };
        self.refused.insert(key, now + wait);
    }
}

/// Sources, users and pairs remembered at most, of each.
const KEYS_MAX: u64 = 100_000;

/// How long a success makes a source familiar to a user.
const FAMILIAR_FOR: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Protocol, password::PasswordCache};

    const SOURCE: &str = "192.0.2.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn user(number: usize) -> Address {
        format!("user{number}@univ-a.example").parse().unwrap()
    }

    fn throttle(per_source: u32, per_user: u32) -> LoginThrottle {
        let window = Duration::from_secs(10 * 3600);
        LoginThrottle {
            sources: Counter::new(per_source, window),
            users: Counter::new(per_user, window),
            familiar: Cache::new(100),
        }
    }

    struct Passwords(PasswordCache);

    impl Passwords {
        fn of(&self, user: &Address, text: &str) -> Verifier {
            let key = self.0.key(None, user, Protocol::Imap);
            self.0.verifier(&key, &guichet_config::Secret::new(text.to_owned()))
        }
    }

    fn passwords() -> Passwords {
        Passwords(PasswordCache::new(10, Duration::from_secs(10)))
    }

    #[test]
    fn distinct_failures_close_a_source_and_a_success_opens_nothing() {
        let (throttle, passwords, now) = (throttle(5, 100), passwords(), Instant::now());
        for number in 0..5 {
            assert!(!throttle.refuses_source(ip(SOURCE), now), "{number}");
            throttle.on_failure(&user(number), ip(SOURCE), &passwords.of(&user(number), "x"), now);
            throttle.on_success(&user(99), ip(SOURCE));
        }
        assert!(throttle.refuses_source(ip(SOURCE), now));
        assert!(!throttle.refuses_source(ip("192.0.2.2"), now));
        assert!(!throttle.refuses_source(ip(SOURCE), now + Duration::from_secs(3 * 3600)), "room for one more");
    }

    #[test]
    fn one_stale_password_counts_once() {
        let (throttle, passwords, now) = (throttle(3, 3), passwords(), Instant::now());
        for _ in 0..50 {
            throttle.on_failure(&user(1), ip(SOURCE), &passwords.of(&user(1), "old"), now);
        }
        assert!(!throttle.refuses_source(ip(SOURCE), now));
        assert!(!throttle.refuses_user(&user(1), ip(SOURCE), now));
    }

    #[test]
    fn a_stranger_does_not_lock_a_user_out_of_a_known_source() {
        let (throttle, passwords, now) = (throttle(1000, 3), passwords(), Instant::now());
        throttle.on_success(&user(1), ip(SOURCE));
        for number in 0..10 {
            let source = ip(&format!("198.51.100.{number}"));
            throttle.on_failure(&user(1), source, &passwords.of(&user(1), &format!("guess {number}")), now);
        }
        assert!(throttle.refuses_user(&user(1), ip("203.0.113.7"), now), "counted over all strange sources");
        assert!(!throttle.refuses_user(&user(1), ip(SOURCE), now));
        assert!(!throttle.refuses_user(&user(2), ip("203.0.113.7"), now));
        for number in 0..3 {
            throttle.on_failure(&user(1), ip(SOURCE), &passwords.of(&user(1), &format!("mine {number}")), now);
        }
        assert!(throttle.refuses_user(&user(1), ip(SOURCE), now), "a known source has a limit of its own");
    }

    #[test]
    fn a_v6_source_is_its_64_prefix_and_a_mapped_one_its_v4_address() {
        assert_eq!(Prefix::of(ip("2001:db8:1:2::1")), Prefix::of(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(Prefix::of(ip("2001:db8:1:2::1")), Prefix::of(ip("2001:db8:1:3::1")));
        assert_eq!(Prefix::of(ip("::ffff:192.0.2.1")), Prefix::of(ip(SOURCE)));
    }
}
