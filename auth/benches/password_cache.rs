//! How many passwords a second one core checks from the cache: name an entry, name the password, look, compare.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark; criterion's macros make undocumented items")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use guichet_auth::{
    Protocol,
    directory::{Account, Verdict},
    password::{Cached, PasswordCache},
};
use guichet_config::{Address, Secret, TenantId};

fn cached_check(criterion: &mut Criterion) {
    let cache = PasswordCache::new(200_000, Duration::from_secs(5 * 60));
    let tenant: TenantId = "univ-a".parse().unwrap();
    let now = Instant::now();
    let users: Vec<(Address, Secret<String>)> = (0..50_000)
        .map(|number| {
            let address: Address = format!("user{number}@univ-a.example").parse().unwrap();
            (address, Secret::new(format!("correct horse battery {number}")))
        })
        .collect();
    for (address, password) in &users {
        let key = cache.key(Some(&tenant), address, Protocol::Imap);
        let account = Account { address: address.clone(), category: None, cell: None, active: true };
        cache.learn(key, cache.verifier(&key, password), &Verdict::Valid(account), now);
    }
    let mut group = criterion.benchmark_group("password_cache");
    group.throughput(Throughput::Elements(1));
    let mut round = users.iter().cycle();
    group.bench_function("cached_check", |bencher| {
        bencher.iter(|| {
            let (address, password) = round.next().unwrap();
            let key = cache.key(Some(&tenant), address, Protocol::Imap);
            let verifier = cache.verifier(&key, password);
            let known = cache.check(&key, &verifier, now);
            assert!(matches!(black_box(known), Cached::Good(_)));
        });
    });
    group.finish();
}

criterion_group!(benches, cached_check);
criterion_main!(benches);
