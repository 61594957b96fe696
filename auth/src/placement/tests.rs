use std::collections::BTreeMap;

use guichet_config::{Address, CellId, Domain};
use proptest::prelude::*;

use super::*;

fn cell(name: &str) -> CellId {
    name.parse().unwrap()
}

fn read(text: &str, rule: Rule<'_>) -> Result<Listing, Problems> {
    let ours = |domain: &Domain| domain.as_str().ends_with("univ.example");
    let cells = |cell: &CellId| matches!(cell.as_str(), "alpha" | "beta" | "gamma");
    Listing::read(text.as_bytes(), rule, &Known { domain: &ours, cell: &cells })
}

fn written(table: &Table) -> String {
    String::from_utf8(chunks(table, |slot| table.cell_of(slot)).flatten().collect()).unwrap()
}

#[test]
fn a_file_is_read_as_it_was_meant() {
    let file = "\u{feff}# who, where\r\n\r\nAlice@Univ.Example , alpha\r\n bob@b.univ.example,beta\r\n\u{e9}ric@univ.example,alpha";
    let listing = read(file, Rule::CellRequired).unwrap();
    assert_eq!(
        written(&listing.into_table()),
        "alice@univ.example,alpha\nbob@b.univ.example,beta\n\u{e9}ric@univ.example,alpha\n"
    );
    let to = cell("gamma");
    let listing = read("alice@univ.example\nbob@univ.example,beta\n", Rule::CellDefault(&to)).unwrap();
    assert_eq!(written(&listing.into_table()), "alice@univ.example,gamma\nbob@univ.example,beta\n");
}

#[test]
fn every_bad_line_is_told_and_nothing_comes_of_the_file() {
    let file = b"alice@univ.example,alpha\n\
                 alice\n\
                 not an address,alpha\n\
                 eve@elsewhere.example,alpha\n\
                 # a remark\n\
                 ALICE@univ.example,beta\n\
                 bob@univ.example,omega\n\
                 bob@univ.example\n\
                 \xff@univ.example,alpha\n";
    let ours = |domain: &Domain| domain.as_str() == "univ.example";
    let cells = |cell: &CellId| cell.as_str() != "omega";
    let problems = Listing::read(file, Rule::CellRequired, &Known { domain: &ours, cell: &cells }).unwrap_err();
    let told: Vec<_> = problems.first.iter().map(|one| (one.line, one.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "a cell is missing: write `address,cell`"),
            (3, "`not an address`: an address with an `@` is expected"),
            (4, "no tenant has the domain `elsewhere.example`"),
            (6, "alice@univ.example stands on line 1 already"),
            (7, "the configuration has no cell `omega`"),
            (8, "a cell is missing: write `address,cell`"),
            (9, "this is not UTF-8"),
        ]
    );
    assert_eq!(problems.total, 7);
}

#[test]
fn what_a_file_says_is_harmless_to_a_terminal_and_told_a_bounded_number_of_times() {
    let problems = read(&"\u{1b}[31m@x,\u{7}\n".repeat(500), Rule::CellRequired).unwrap_err();
    assert_eq!((problems.first.len(), problems.total), (PROBLEMS_MAX, 500));
    assert!(problems.first.iter().all(|one| !one.message.chars().any(char::is_control)));
}

#[test]
fn an_entry_is_sixteen_bytes_and_its_text() {
    let lines: String = (0..20_000).map(|n| format!("prenom.nom-{n}@univ.example,alpha\n")).collect();
    let table = read(&lines, Rule::CellRequired).unwrap().into_table();
    // 16 of the entry, 16 of text, and between four thirds and eight thirds of four for the index.
    assert!(table.bytes() <= 20_000 * 44, "{} bytes", table.bytes());
}

#[test]
fn a_wave_says_twice_what_it_says_once() {
    let now = WallTime(1000);
    let held = Step::Hold { until: WallTime(5000) };
    let wave = Wave::plan("w".parse().unwrap(), 3, "ops", now);
    assert_eq!(wave.after(Step::Rollback, "ops", now), Err(WaveRefused::NothingToRollBack));
    for steps in
        [&[held, Step::Commit, Step::Rollback][..], &[Step::Commit, held, Step::Rollback], &[held, Step::Rollback]]
    {
        let mut wave = wave.clone();
        for step in steps {
            let after = wave.after(*step, "ops", now).unwrap().expect("it changes something");
            assert_eq!(after.epoch, wave.epoch + 1);
            assert_eq!(after.after(*step, "ops", now), Ok(None), "{step:?} twice");
            wave = after;
        }
        assert_eq!((wave.stage, wave.held(now)), (Stage::RolledBack, None));
    }
}

#[test]
fn a_hold_ends_by_itself() {
    let wave = Wave::plan("w".parse().unwrap(), 3, "ops", WallTime(0));
    let wave = wave.after(Step::Hold { until: WallTime(50) }, "ops", WallTime(0)).unwrap().unwrap();
    assert_eq!(wave.held(WallTime(49)), Some(WallTime(50)));
    assert_eq!(wave.held(WallTime(50)), None);
}

#[test]
fn names_of_waves_are_plain() {
    for bad in ["", "Wave", "a b", "a/b", "..", "\u{e9}"] {
        assert!(bad.parse::<WaveName>().is_err(), "{bad:?}");
    }
    assert_eq!("spring-1".parse::<WaveName>().unwrap().as_str(), "spring-1");
}

fn users() -> impl Strategy<Value = BTreeMap<String, &'static str>> {
    let address = ("[a-z0-9.\u{e9}\u{4e2d}]{1,20}", prop::sample::select(vec!["univ.example", "b.univ.example"]))
        .prop_map(|(local, domain)| format!("{local}@{domain}"))
        .prop_filter("canonical", |text| text.parse::<Address>().is_ok_and(|address| address.as_str() == text));
    prop::collection::btree_map(address, prop::sample::select(vec!["alpha", "beta", "gamma"]), 1..60)
}

proptest! {
    #[test]
    fn what_is_read_and_written_is_the_same(users in users()) {
        let file: String = users.iter().map(|(user, cell)| format!("{user},{cell}\n")).collect();
        let table = read(&file, Rule::CellRequired).unwrap().into_table();
        prop_assert_eq!(written(&table), file);
        prop_assert_eq!(table.len(), users.len());
    }

    /// The table against a map: set, set again, clear, and look.
    #[test]
    fn the_table_is_a_map(changes in prop::collection::vec((0..40_u32, prop::option::of(0..3_usize)), 1..300)) {
        let cells = ["alpha", "beta", "gamma"];
        let mut table = Table::default();
        let mut model: BTreeMap<u32, &str> = BTreeMap::new();
        let address = |n: u32| format!("user{n}@d{}.univ.example", n % 3).parse::<Address>().unwrap();
        for (user, to) in changes {
            let to = to.map(|n| cells[n]);
            table.place((&address(user)).into(), to).unwrap();
            match to {
                Some(to) => drop(model.insert(user, to)),
                None => drop(model.remove(&user)),
            }
        }
        prop_assert_eq!(table.len(), model.len());
        for user in 0..40 {
            prop_assert_eq!(table.cell((&address(user)).into()).map(CellId::as_str), model.get(&user).copied());
        }
    }

    /// No bytes make the reader panic, and what it takes it gives back.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let all = |_: &Domain| true;
        let cells = |_: &CellId| true;
        if let Ok(listing) = Listing::read(&bytes, Rule::CellRequired, &Known { domain: &all, cell: &cells }) {
            let table = listing.into_table();
            let again = Listing::read(written(&table).as_bytes(), Rule::CellRequired, &Known { domain: &all, cell: &cells });
            prop_assert_eq!(written(&again.unwrap().into_table()), written(&table));
        }
    }
}
