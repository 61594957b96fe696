//! How much a user, and all users of an institution together, may submit.
//!
//! Each key has a bucket that holds one window's worth and fills evenly over the window: who was silent may send it all
//! at once, and then as fast as the bucket fills. The counts are this node's own.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use guichet_config::{Address, Limits, TenantId};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MAIL.
    Message,
    /// RCPT.
    Recipient,
}

/// A limit is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// `messages_user`, `messages_tenant`, `recipients_user` or `recipients_tenant`.
    pub scope: &'static str,
    /// For the person who sends.
    pub text: String,
}

/// What was submitted lately.
#[derive(Default)]
pub struct Submissions {
    messages_user: Buckets<Address>,
    messages_tenant: Buckets<TenantId>,
    recipients_user: Buckets<Address>,
    recipients_tenant: Buckets<TenantId>,
}

impl std::fmt::Debug for Submissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submissions").finish_non_exhaustive()
    }
}

impl Submissions {
    /// Counts one more, if it may be.
    ///
    /// # Errors
    /// A limit is reached. The user's own is looked at first, so that one user does not use up what all share.
    pub fn admit(&self, kind: Kind, user: &Address, tenant: &TenantId, limits: &Limits) -> Result<(), Reached> {
        let window = limits.messages_window;
        let (users, tenants, what) = match kind {
            Kind::Message => (&self.messages_user, &self.messages_tenant, "messages"),
            Kind::Recipient => (&self.recipients_user, &self.recipients_tenant, "recipients"),
        };
        let (per_user, per_tenant) = match kind {
            Kind::Message => (limits.messages_per_user, limits.messages_per_tenant),
            Kind::Recipient => (limits.recipients_per_user, limits.recipients_per_tenant),
        };
        let span = span(window);
        if !users.admit(user, per_user, window) {
            let scope = if kind == Kind::Message { "messages_user" } else { "recipients_user" };
            let text = format!("You have reached your limit of {per_user} {what} {span}, try again later");
            return Err(Reached { scope, text });
        }
        if !tenants.admit(tenant, per_tenant, window) {
            let scope = if kind == Kind::Message { "messages_tenant" } else { "recipients_tenant" };
            let text = format!("Your institution has reached its limit of {per_tenant} {what} {span}, try again later");
            return Err(Reached { scope, text });
        }
        Ok(())
    }
}

/// One limit: a bucket for each key.
struct Buckets<K: Clone + Eq + std::hash::Hash> {
    rate: ArcSwap<Rate<K>>,
    checks: AtomicU32,
}

struct Rate<K: Clone + Eq + std::hash::Hash> {
    count: u32,
    window: Duration,
    limiter: DefaultKeyedRateLimiter<K>,
}

impl<K: Clone + Eq + std::hash::Hash> Default for Buckets<K> {
    fn default() -> Self {
        Self { rate: ArcSwap::from_pointee(Rate::new(1, Duration::from_secs(1))), checks: AtomicU32::new(0) }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Buckets<K> {
    fn admit(&self, key: &K, count: u32, window: Duration) -> bool {
        let mut rate = self.rate.load_full();
        let look = self.checks.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNE_EVERY);
        if look {
            rate.limiter.retain_recent();
        }
        // Changed by a reload, or more keys at once than we care to remember: begin anew.
        if (rate.count, rate.window) != (count, window) || (look && rate.limiter.len() > KEYS_MAX) {
            rate = Arc::new(Rate::new(count, window));
            self.rate.store(rate.clone());
        }
        rate.limiter.check_key(key).is_ok()
    }
}

impl<K: Clone + Eq + std::hash::Hash> Rate<K> {
    fn new(count: u32, window: Duration) -> Self {
        let burst = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        // No period: more than one in a nanosecond, which is no limit.
        let quota = Quota::with_period(window / burst.get()).unwrap_or(Quota::per_second(NonZeroU32::MAX));
        Self { count, window, limiter: RateLimiter::keyed(quota.allow_burst(burst)) }
    }
}

fn span(window: Duration) -> String {
    match window.as_secs() {
        3600 => "an hour".to_owned(),
        86_400 => "a day".to_owned(),
        60 => "a minute".to_owned(),
        seconds if seconds.is_multiple_of(3600) => format!("in {} hours", seconds / 3600),
        seconds if seconds.is_multiple_of(60) => format!("in {} minutes", seconds / 60),
        seconds => format!("in {seconds} seconds"),
    }
}

/// Forget keys at rest after so many checks.
const PRUNE_EVERY: u32 = 4096;
/// Only who has logged in has a key: four times the users of a large node.
const KEYS_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::tests::limits;

    fn ask(all: &Submissions, kind: Kind, user: &str, limits: &Limits) -> Result<(), Reached> {
        all.admit(kind, &user.parse().unwrap(), &"univ".parse().unwrap(), limits)
    }

    fn hour(mut limits: Limits) -> Limits {
        limits.messages_window = Duration::from_secs(3600);
        (limits.messages_per_user, limits.messages_per_tenant) = (2, 3);
        (limits.recipients_per_user, limits.recipients_per_tenant) = (4, 5);
        limits
    }

    #[test]
    fn a_user_stops_at_its_own_limit_and_all_stop_at_that_of_the_institution() {
        let (all, limits) = (Submissions::default(), hour(limits(1, 1, 1)));
        for _ in 0..2 {
            ask(&all, Kind::Message, "a@univ.example", &limits).unwrap();
        }
        let reached = ask(&all, Kind::Message, "a@univ.example", &limits).unwrap_err();
        assert_eq!(reached.scope, "messages_user");
        assert_eq!(reached.text, "You have reached your limit of 2 messages an hour, try again later");
        ask(&all, Kind::Message, "b@univ.example", &limits).unwrap();
        let reached = ask(&all, Kind::Message, "b@univ.example", &limits).unwrap_err();
        assert_eq!(reached.scope, "messages_tenant");
        assert_eq!(reached.text, "Your institution has reached its limit of 3 messages an hour, try again later");
        // Recipients have buckets of their own.
        for _ in 0..4 {
            ask(&all, Kind::Recipient, "a@univ.example", &limits).unwrap();
        }
        assert_eq!(ask(&all, Kind::Recipient, "a@univ.example", &limits).unwrap_err().scope, "recipients_user");
        ask(&all, Kind::Recipient, "b@univ.example", &limits).unwrap();
        assert_eq!(ask(&all, Kind::Recipient, "b@univ.example", &limits).unwrap_err().scope, "recipients_tenant");
    }

    #[test]
    fn a_changed_limit_counts_at_once() {
        let (all, mut limits) = (Submissions::default(), hour(limits(1, 1, 1)));
        while ask(&all, Kind::Message, "a@univ.example", &limits).is_ok() {}
        (limits.messages_per_user, limits.messages_per_tenant) = (9, 9);
        assert_eq!(ask(&all, Kind::Message, "a@univ.example", &limits), Ok(()));
    }

    #[test]
    fn windows_are_told_in_words() {
        for (seconds, text) in [(3600, "an hour"), (86_400, "a day"), (7200, "in 2 hours"), (90, "in 90 seconds")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
