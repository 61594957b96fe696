//! Two million placements: memory, look-ups, import, restart. Prints what a benchmark cannot: bytes and seconds of one run.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark; criterion's macros make undocumented items")]

use std::{hint::black_box, path::Path, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use guichet_auth::{
    WallTime,
    placement::{Known, Listing, Route, Rule, Step, WaveName},
    store::Store,
};
use guichet_config::{Address, CellId, Domain};

const USERS: usize = 2_000_000;
const NOW: WallTime = WallTime(1_700_000_000_000);

/// As long as addresses are: 30 bytes on average, 300 domains, 20 cells.
fn address(number: usize) -> String {
    const NAMES: [&str; 8] = ["martin", "bernard", "thomas", "petit", "robert", "richard", "durand", "moreau"];
    const FIRST: [&str; 5] = ["camille", "jean", "marie-claire", "lou", "dominique"];
    let (first, name) = (FIRST.get(number % 5).unwrap(), NAMES.get(number / 5 % 8).unwrap());
    format!("{first}.{name}{number}@univ-{}.example", number % 300)
}

fn file() -> Vec<u8> {
    let lines = (0..USERS).map(|number| format!("{},cell-{}\n", address(number), number % 20));
    lines.collect::<String>().into_bytes()
}

fn read(file: &[u8]) -> Listing {
    let ours = |domain: &Domain| domain.as_str().ends_with(".example");
    let cells = |cell: &CellId| cell.as_str().starts_with("cell-");
    Listing::read(file, Rule::CellRequired, &Known { domain: &ours, cell: &cells }).unwrap()
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    println!("{what}: {:.2} s", began.elapsed().as_secs_f64());
    done
}

fn fill(dir: &Path) {
    let file = file();
    println!("file: {} users, {} MB", USERS, file.len() / 1_000_000);
    let store = Store::open(dir, NOW).unwrap();
    timed("import, from the bytes of the file to the disk", || {
        let listing = read(&file);
        store.import_placements(listing, false, |_, _| {}).unwrap()
    });
    let exported = timed("export", || store.export_placements().concat());
    assert!(exported == file, "what went in comes out");
    let wave: WaveName = "spring".parse().unwrap();
    let users: String = (0..50_000).map(|n| format!("{}\n", address(n * 40))).collect();
    let to: CellId = "cell-7".parse().unwrap();
    let ours = |_: &Domain| true;
    let listing = Listing::read(users.as_bytes(), Rule::CellDefault(&to), &Known { domain: &ours, cell: &|_| true });
    let listing = listing.unwrap();
    timed("plan of a wave of 50,000", || store.plan_wave(&wave, &listing, "bench", NOW, false).unwrap());
    timed("commit of it", || store.step_wave(&wave, Step::Commit, "bench", NOW).unwrap());
    timed("removal of it", || store.remove_wave(&wave).unwrap());
}

fn placements(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = resident();
    let store = timed("restart: open the state file and read it", || Store::open(dir.path(), NOW).unwrap());
    assert_eq!(store.placements_len(), USERS);
    let (counted, resident) = (store.placements_bytes(), resident().saturating_sub(before));
    println!("memory: {} bytes a user counted, {} by resident growth", counted / USERS, resident / USERS);

    let users: Vec<Address> = (0..100_000).map(|n| address(n * 20 + 7).parse().unwrap()).collect();
    let strangers: Vec<Address> = (0..100_000).map(|n| format!("x{}", address(n)).parse().unwrap()).collect();
    let mut group = criterion.benchmark_group("placements");
    group.throughput(Throughput::Elements(1));
    for (name, users) in [("look_up", &users), ("look_up_of_nobody", &strangers)] {
        let mut round = users.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let route = store.route(black_box(round.next().unwrap()), NOW);
                assert_eq!(matches!(route, Route::Cell(_)), name == "look_up");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, placements);
criterion_main!(benches);
