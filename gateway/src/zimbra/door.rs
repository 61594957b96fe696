//! Whether a cell may be asked for a token now. Zimbra counts a bad PreAuth as a failed login of the user: with a wrong key or
//! a wrong clock, asking on would lock out one user after the other.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use guichet_config::Address;
use moka::sync::Cache;
use tokio::{sync::Semaphore, time::Instant};

/// One cell's.
#[derive(Debug)]
pub(super) struct Door {
    /// Questions under way.
    pub(super) seats: Semaphore,
    /// Users the cell gave no token for.
    refused: Cache<Address, Refused>,
    doubt: Mutex<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    count: u32,
    until: Instant,
}

/// What the answers for all users say of our key and clock.
#[derive(Debug, Default)]
struct Doubt {
    refusals_in_row: u32,
    given_at: Option<Instant>,
    next: Option<Instant>,
}

impl Door {
    pub(super) fn new() -> Self {
        Self {
            seats: Semaphore::new(SEATS),
            refused: Cache::builder().max_capacity(REFUSED_MAX).time_to_live(REFUSED_TTL).build(),
            doubt: Mutex::default(),
        }
    }

    /// Whether this user may be asked for. While the key is in doubt, one question every few seconds finds out.
    pub(super) fn admits(&self, user: &Address, now: Instant) -> bool {
        if self.refused.get(user).is_some_and(|refused| now < refused.until) {
            return false;
        }
        let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        if !doubt.is_strong(now) {
            return true;
        }
        let admits = doubt.next.is_none_or(|next| next <= now);
        if admits {
            doubt.next = Some(now + DOUBT_EVERY);
        }
        admits
    }

    pub(super) fn on_given(&self, user: &Address, now: Instant) {
        self.refused.invalidate(user);
        let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        *doubt = Doubt { given_at: Some(now), ..Doubt::default() };
    }

    /// The PreAuth failed. Whether this is the one that makes the key doubtful.
    pub(super) fn on_refused(&self, user: &Address, now: Instant) -> bool {
        let count = self.refused.get(user).map_or(0, |refused| refused.count).saturating_add(1);
        let hold = HOLD.saturating_mul(1 << (count - 1).min(4)).min(HOLD_MAX);
        self.refused.insert(user.clone(), Refused { count, until: now + hold });
        let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        let before = doubt.is_strong(now);
        doubt.refusals_in_row = doubt.refusals_in_row.saturating_add(1);
        doubt.is_strong(now) && !before
    }
}

impl Doubt {
    fn is_strong(&self, now: Instant) -> bool {
        self.refusals_in_row >= REFUSALS_MAX && self.given_at.is_none_or(|given| now - given >= TRUST)
    }
}

/// Zimbra has 250 threads for SOAP by default, and every node asks.
const SEATS: usize = 64;
/// After a refusal, doubled by each one more: six in the first hour, below the ten that lock an account by default.
const HOLD: Duration = Duration::from_secs(60);
const HOLD_MAX: Duration = Duration::from_secs(900);
const REFUSED_TTL: Duration = Duration::from_secs(3600);
const REFUSED_MAX: u64 = 65_536;
/// Of any users, in a row.
const REFUSALS_MAX: u32 = 10;
/// A token given not longer ago says that the key is good, and the users were bad.
const TRUST: Duration = Duration::from_secs(600);
const DOUBT_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u32) -> Address {
        format!("user{number}@univ.example").parse().unwrap()
    }

    #[test]
    fn a_refused_user_is_asked_for_ever_more_seldom() {
        let (door, alice, start) = (Door::new(), user(0), Instant::now());
        let mut at = start;
        let mut asked = 0;
        while at < start + Duration::from_secs(3600) {
            if door.admits(&alice, at) {
                asked += 1;
                door.on_refused(&alice, at);
            }
            assert!(door.admits(&user(1), at), "others are asked for");
            at += Duration::from_secs(10);
        }
        assert_eq!(asked, 7);
        door.on_given(&alice, at);
        assert!(door.admits(&alice, at));
    }

    #[test]
    fn a_cell_that_refuses_everybody_is_asked_once_in_a_while_and_trusted_again_by_one_token() {
        let (door, now) = (Door::new(), Instant::now());
        let told: Vec<u32> = (0..30).filter(|number| door.on_refused(&user(*number), now)).collect();
        assert_eq!(told, [9], "told once");
        assert!(door.admits(&user(100), now));
        assert!(!door.admits(&user(101), now));
        let later = now + DOUBT_EVERY;
        assert!(door.admits(&user(101), later));
        door.on_given(&user(101), later);
        assert!((200..260).all(|number| door.admits(&user(number), later)));
        // Accounts that the cell does not have say nothing against a key that opened it a minute ago.
        assert!(!(300..330).any(|number| door.on_refused(&user(number), later + Duration::from_secs(60))));
    }
}
