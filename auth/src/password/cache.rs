//! Passwords that the directory or an institution has judged lately, in memory, as keyed hashes.
//!
//! Key and verifier are HMACs under a key of this process that is never written: a copy of the memory without it tells
//! nothing that a guess could be tried on quickly. A success is believed for a while; another password than the one
//! believed always goes to the directory; the same wrong password again is refused from here. What nobody could judge
//! is never kept.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use guichet_config::{Address, Secret, Tenant, TenantId};
use moka::sync::Cache;
use subtle::ConstantTimeEq;

use crate::{
    Protocol,
    directory::{Account, Verdict},
    session::random,
};

/// Which entry: tenant, canonical user and protocol class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

/// Which password of an entry. Distinct entries have distinct verifiers of one password.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verifier([u8; 32]);

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Verifier {
    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// For counting distinct wrong passwords.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What the cache knows of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Right, a short while ago.
    Good(Account),
    /// Wrong, a shorter while ago.
    Bad,
    /// Ask the directory.
    Unknown,
}

/// The cache; see the module.
pub struct PasswordCache {
    boot: hmac::Key,
    entries: Cache<CacheKey, std::sync::Arc<Entry>>,
    ttl: Duration,
}

impl std::fmt::Debug for PasswordCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordCache").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default)]
struct Entry {
    good: Option<(Verifier, Account, Instant)>,
    /// Newest last, at most [`BAD_MAX`].
    bad: Vec<(Verifier, Instant)>,
}

impl PasswordCache {
    /// An empty cache of at most `entries`, with a key of its own.
    pub fn new(entries: u64, ttl: Duration) -> Self {
        let key: [u8; 32] = random();
        Self {
            boot: hmac::Key::new(hmac::HMAC_SHA256, &key),
            entries: Cache::builder().max_capacity(entries).time_to_live(ttl.max(BAD_TTL)).build(),
            ttl,
        }
    }

    /// Names an entry of what the directory said.
    pub fn key(&self, tenant: Option<&TenantId>, user: &Address, protocol: Protocol) -> CacheKey {
        CacheKey(self.hmac(&[
            b"user",
            tenant.map_or("", TenantId::as_str).as_bytes(),
            user.as_str().as_bytes(),
            protocol.as_str().as_bytes(),
        ]))
    }

    /// Names an entry of what the tenant's IdP said.
    pub fn institution_key(&self, tenant: &Tenant, user: &Address, protocol: Protocol) -> CacheKey {
        CacheKey(self.hmac(&[
            b"institution",
            tenant.id.as_str().as_bytes(),
            tenant.idp.as_ref().map_or("", |idp| idp.entity_id.as_str()).as_bytes(),
            user.as_str().as_bytes(),
            protocol.as_str().as_bytes(),
        ]))
    }

    /// Names a password of an entry.
    pub fn verifier(&self, key: &CacheKey, password: &Secret<String>) -> Verifier {
        Verifier(self.hmac(&[b"password", &key.0, password.expose().as_bytes()]))
    }

    /// What is known.
    pub fn check(&self, key: &CacheKey, verifier: &Verifier, now: Instant) -> Cached {
        let Some(entry) = self.entries.get(key) else { return Cached::Unknown };
        if let Some((good, account, at)) = &entry.good
            && good.is(verifier)
            && now.saturating_duration_since(*at) < self.ttl
        {
            return Cached::Good(account.clone());
        }
        if entry.bad.iter().any(|(bad, at)| bad.is(verifier) && now.saturating_duration_since(*at) < BAD_TTL) {
            return Cached::Bad;
        }
        Cached::Unknown
    }

    /// Keeps what the directory said, if it said something.
    pub fn learn(&self, key: CacheKey, verifier: Verifier, verdict: &Verdict, now: Instant) {
        if matches!(verdict, Verdict::Unavailable) {
            return;
        }
        // Under the entry's lock: two answers for one user do not overwrite each other.
        self.entries.entry(key).and_upsert_with(|before| {
            let mut entry = before.map(|before| (*before.into_value()).clone()).unwrap_or_default();
            let same = entry.good.as_ref().is_some_and(|(good, ..)| good.is(&verifier));
            entry.bad.retain(|(bad, at)| !bad.is(&verifier) && now.saturating_duration_since(*at) < BAD_TTL);
            match verdict {
                Verdict::Valid(account) => entry.good = Some((verifier, account.clone(), now)),
                Verdict::BadCredential => {
                    if same {
                        entry.good = None;
                    }
                    if entry.bad.len() >= BAD_MAX {
                        entry.bad.remove(0);
                    }
                    entry.bad.push((verifier, now));
                }
                // Whatever was believed of this account is over.
                Verdict::AccountRefused => entry.good = None,
                Verdict::Unavailable => {}
            }
            std::sync::Arc::new(entry)
        });
    }

    /// Believes nothing of this entry any more.
    pub fn forget(&self, key: &CacheKey) {
        self.entries.invalidate(key);
    }

    /// HMAC over length-prefixed parts: no two lists of parts are one text.
    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.boot);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

/// Life of "wrong".
const BAD_TTL: Duration = Duration::from_secs(60);

/// Wrong passwords remembered of one user: a few forgotten phones.
const BAD_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account() -> Account {
        Account { address: "alice@univ-a.example".parse().unwrap(), category: None, cell: None, active: true }
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    struct World {
        cache: PasswordCache,
        key: CacheKey,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let cache = PasswordCache::new(100, Duration::from_secs(300));
            let tenant = "univ-a".parse().unwrap();
            let key = cache.key(Some(&tenant), &account().address, Protocol::Imap);
            Self { cache, key, now: Instant::now() }
        }

        fn learn(&self, password: &str, verdict: &Verdict, at: u64) {
            let verifier = self.cache.verifier(&self.key, &secret(password));
            self.cache.learn(self.key, verifier, verdict, self.now + Duration::from_secs(at));
        }

        fn check(&self, password: &str, at: u64) -> Cached {
            let verifier = self.cache.verifier(&self.key, &secret(password));
            self.cache.check(&self.key, &verifier, self.now + Duration::from_secs(at))
        }
    }

    #[test]
    fn a_success_is_believed_until_its_end_and_for_its_password_only() {
        let world = World::new();
        assert_eq!(world.check("right", 0), Cached::Unknown);
        world.learn("right", &Verdict::Valid(account()), 0);
        assert_eq!(world.check("right", 299), Cached::Good(account()));
        assert_eq!(world.check("right", 300), Cached::Unknown);
        assert_eq!(world.check("other", 0), Cached::Unknown, "another password always goes to the directory");
    }

    #[test]
    fn the_same_wrong_password_is_refused_for_a_minute_beside_the_right_one() {
        let world = World::new();
        world.learn("right", &Verdict::Valid(account()), 0);
        world.learn("wrong", &Verdict::BadCredential, 0);
        assert_eq!(world.check("wrong", 59), Cached::Bad);
        assert_eq!(world.check("wrong", 60), Cached::Unknown);
        assert_eq!(world.check("right", 59), Cached::Good(account()));
        for number in 0..20 {
            world.learn(&format!("wrong {number}"), &Verdict::BadCredential, 1);
        }
        assert_eq!(world.check("wrong 19", 2), Cached::Bad);
        assert_eq!(world.check("wrong", 2), Cached::Unknown, "memory of one user is bounded");
    }

    #[test]
    fn a_changed_password_replaces_the_old_one() {
        let world = World::new();
        world.learn("new", &Verdict::BadCredential, 0);
        world.learn("old", &Verdict::Valid(account()), 0);
        world.learn("new", &Verdict::Valid(account()), 70);
        assert_eq!(world.check("new", 71), Cached::Good(account()));
        assert_eq!(world.check("old", 71), Cached::Unknown);
    }

    #[test]
    fn a_refused_account_is_not_believed_any_more_and_an_outage_teaches_nothing() {
        let world = World::new();
        world.learn("right", &Verdict::Valid(account()), 0);
        world.learn("right", &Verdict::Unavailable, 1);
        assert_eq!(world.check("right", 1), Cached::Good(account()));
        world.learn("other", &Verdict::Unavailable, 1);
        assert_eq!(world.check("other", 1), Cached::Unknown);
        world.learn("right", &Verdict::AccountRefused, 2);
        assert_eq!(world.check("right", 2), Cached::Unknown);
    }

    #[test]
    fn what_is_forgotten_goes_to_the_directory_again() {
        let world = World::new();
        world.learn("right", &Verdict::Valid(account()), 0);
        world.learn("wrong", &Verdict::BadCredential, 0);
        world.cache.forget(&world.key);
        assert_eq!((world.check("right", 1), world.check("wrong", 1)), (Cached::Unknown, Cached::Unknown));
    }

    #[test]
    fn nothing_of_a_password_shows() {
        let world = World::new();
        let shown = format!("{:?} {:?}", world.cache, world.cache.verifier(&world.key, &secret("right")));
        assert!(!shown.contains("right") && shown.contains("***"), "{shown}");
    }

    proptest! {
        #[test]
        fn who_differs_has_another_entry(
            a in ("[a-z0-9-]{1,6}", "[a-z]{1,4}", "[a-z]{1,4}", any::<bool>()),
            b in ("[a-z0-9-]{1,6}", "[a-z]{1,4}", "[a-z]{1,4}", any::<bool>()),
        ) {
            let world = World::new();
            let parts = |(tenant, local, domain, web): &(String, String, String, bool)| {
                let tenant: TenantId = tenant.parse().unwrap();
                let user: Address = format!("{local}@{domain}.example").parse().unwrap();
                let protocol = if *web { Protocol::Web } else { Protocol::Imap };
                world.cache.key(Some(&tenant), &user, protocol)
            };
            let (one, other) = (parts(&a), parts(&b));
            prop_assert_eq!(one == other, a == b);
            let password = secret("same");
            prop_assert_eq!(world.cache.verifier(&one, &password) == world.cache.verifier(&other, &password), a == b);
        }
    }
}
