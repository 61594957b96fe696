//! A whole table is written in steps that others come between, and counts at once or not at all.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::{
    placement::{Known, Rule},
    store::IdpOverride,
};

const NOW: WallTime = WallTime(1_800_000_000_000);
/// Some twelve megabytes of lines: several steps.
const USERS: usize = 300_000;

fn open(dir: &Path) -> Store {
    Store::open(dir, NOW).unwrap()
}

fn listing(users: usize, cell: &str) -> Listing {
    let lines: String = (0..users).map(|i| format!("user.number.{i:07}@univ.example,{cell}\n")).collect();
    let known = Known { domain: &|_| true, cell: &|_| true };
    Listing::read(lines.as_bytes(), Rule::CellRequired, &known).unwrap()
}

fn cell_of(store: &Store, number: usize) -> Option<String> {
    let user = format!("user.number.{number:07}@univ.example").parse().unwrap();
    match store.route(&user, NOW) {
        Route::Cell(cell) => Some(cell.to_string()),
        _ => None,
    }
}

fn word() -> IdpOverride {
    let (reason, actor) = ("test".to_owned(), "ops".to_owned());
    IdpOverride { forced: "down".to_owned(), until: NOW.0 + 60_000, reason, actor, since: NOW.0 }
}

#[test]
fn other_writers_come_between_the_steps_of_an_import_and_readers_see_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.import_placements(listing(10, "alpha"), false, |_, _| {}).unwrap();
    let (all, tenant) = (listing(USERS, "beta"), "univ".parse().unwrap());
    let spare = store.spare().unwrap();
    let done = AtomicBool::new(false);
    let mut seen = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            store.import_placements(all, false, |_, _| {}).unwrap();
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            // A writer of something else.
            store.force_idp(&tenant, Some(&word())).unwrap();
            seen.insert(store.pieces_of(spare).unwrap().len());
            let first = cell_of(&store, 0).unwrap();
            let last = cell_of(&store, USERS - 1);
            // The first look may see the old table and the second the new one, never the other way about.
            assert!(first == "alpha" || last.as_deref() == Some("beta"), "{first} {last:?}");
        }
    });
    let whole = store.pieces_of(spare).unwrap().len();
    assert!(whole > 2 * PIECES_AT_ONCE, "{whole} pieces are too few for this test");
    assert!(seen.iter().any(|pieces| (1..whole).contains(pieces)), "nobody came between: {seen:?} of {whole}");
    assert!(store.pieces_of(store.spare().unwrap()).unwrap().is_empty(), "the old table is forgotten");
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.placements_len(), cell_of(&store, 7)), (USERS, Some("beta".to_owned())));
}

#[test]
fn an_import_that_was_cut_off_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.import_placements(listing(10, "alpha"), false, |_, _| {}).unwrap();
    let half = listing(20, "beta");
    let spare = store.write_beside(&half.table, |slot| half.table.cell_of(slot)).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.pieces_of(spare).unwrap().len(), 1);
    assert_eq!((store.placements_len(), cell_of(&store, 0)), (10, Some("alpha".to_owned())));
    // What it left is in nobody's way.
    for (users, cell) in [(5, "gamma"), (6, "delta")] {
        store.import_placements(listing(users, cell), false, |_, _| {}).unwrap();
    }
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.placements_len(), cell_of(&store, 0)), (6, Some("delta".to_owned())));
    assert!(store.pieces_of(store.spare().unwrap()).unwrap().is_empty());
}
