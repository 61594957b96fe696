//! Placements and waves over the state file: what an operator said survives, moves are whole, nobody lands where he was.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use guichet_auth::{
    WallTime,
    placement::{Known, Listing, Route, Rule, Stage, Step, WaveName},
    store::{Imported, PlacementError, PlacementOverride, Store},
};
use guichet_config::{Address, CellId};
use proptest::prelude::*;

const NOW: WallTime = WallTime(1_700_000_000_000);

fn later(seconds: u64) -> WallTime {
    NOW.plus(Duration::from_secs(seconds))
}

fn cell(name: &str) -> CellId {
    name.parse().unwrap()
}

fn user(number: usize) -> Address {
    format!("user{number}@univ.example").parse().unwrap()
}

fn wave() -> WaveName {
    "spring".parse().unwrap()
}

fn listing(text: &str, rule: Rule<'_>) -> Listing {
    Listing::read(text.as_bytes(), rule, &Known { domain: &|_| true, cell: &|_| true }).unwrap()
}

/// `count` users, all in one cell.
fn all_in(count: usize, cell: &str) -> Listing {
    let file: String = (0..count).map(|n| format!("{},{cell}\n", user(n))).collect();
    listing(&file, Rule::CellRequired)
}

fn some(numbers: impl IntoIterator<Item = usize>, to: &str) -> Listing {
    let file: String = numbers.into_iter().map(|n| format!("{}\n", user(n))).collect();
    listing(&file, Rule::CellDefault(&cell(to)))
}

fn import(store: &Store, listing: Listing) -> Imported {
    store.import_placements(listing, false, |_, _| {}).unwrap()
}

fn exported(store: &Store) -> String {
    String::from_utf8(store.export_placements().concat()).unwrap()
}

fn step(store: &Store, step: Step) -> bool {
    store.step_wave(&wave(), step, "ops", NOW).unwrap().1
}

#[test]
fn an_import_replaces_all_and_tells_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    assert_eq!(store.route(&user(0), NOW), Route::Default);
    assert_eq!(import(&store, all_in(3, "alpha")), Imported { users: 3, added: 3, moved: 0, removed: 0 });
    let file = "user1@univ.example,alpha\nuser2@univ.example,beta\nuser9@univ.example,beta\n";
    let change = Imported { users: 3, added: 1, moved: 1, removed: 1 };
    let dry = store.import_placements(listing(file, Rule::CellRequired), true, |_, _| panic!("a dry run moves nobody"));
    assert_eq!(dry.unwrap(), change);
    assert_eq!(store.route(&user(2), NOW), Route::Cell(cell("alpha")));
    let mut moved = Vec::new();
    let done = store.import_placements(listing(file, Rule::CellRequired), false, |user, cell| {
        moved.push(format!("{user} {cell}"));
    });
    assert_eq!(done.unwrap(), change);
    assert_eq!(moved, ["user2@univ.example beta", "user9@univ.example beta"]);
    assert_eq!(exported(&store), file);
    drop(store);
    let store = Store::open(dir.path(), later(1)).unwrap();
    assert_eq!(exported(&store), file);
    assert_eq!((store.route(&user(0), NOW), store.placements_len()), (Route::Default, 3));
}

#[test]
fn single_users_are_set_and_cleared_for_good_however_many() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    import(&store, all_in(10, "alpha"));
    store.set_placement(&user(3), Some(&cell("beta"))).unwrap();
    store.set_placement(&user(4), None).unwrap();
    store.set_placement(&user(77), Some(&cell("gamma"))).unwrap();
    store.set_placement(&user(78), None).unwrap();
    let before = exported(&store);
    assert!(before.contains("user3@univ.example,beta\n") && !before.contains("user4@"), "{before}");
    drop(store);
    let store = Store::open(dir.path(), later(1)).unwrap();
    assert_eq!(exported(&store), before);
    assert_eq!(store.route(&user(77), NOW), Route::Cell(cell("gamma")));
    // An import forgets what was said of single users.
    import(&store, all_in(10, "alpha"));
    assert_eq!(store.route(&user(3), NOW), Route::Cell(cell("alpha")));
}

#[test]
fn a_wave_moves_its_users_at_once_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), NOW).unwrap();
    import(&store, all_in(4, "alpha"));
    // User 9 has no placement of his own.
    assert_eq!(store.plan_wave(&wave(), &some([1, 2, 9], "beta"), "ops", NOW, false).unwrap().users, 3);
    let routes = |store: &Store, now| [0, 1, 9].map(|n| store.route(&user(n), now));
    let [alpha, beta] = ["alpha", "beta"].map(|name| Route::Cell(cell(name)));
    let before = [alpha.clone(), alpha.clone(), Route::Default];
    let reopen = |store: Store| {
        drop(store);
        Store::open(dir.path(), NOW).unwrap()
    };
    assert_eq!(routes(&store, NOW), before);
    store = reopen(store);
    assert!(step(&store, Step::Hold { until: later(30) }));
    let held = Route::Held { until: later(30) };
    for _ in 0..2 {
        assert_eq!(routes(&store, NOW), [alpha.clone(), held.clone(), held.clone()]);
        assert_eq!(routes(&store, later(30)), before, "a hold ends by itself");
        store = reopen(store);
    }
    assert!(step(&store, Step::Commit));
    for _ in 0..2 {
        assert_eq!(routes(&store, NOW), [alpha.clone(), beta.clone(), beta.clone()]);
        assert!(!step(&store, Step::Commit), "once is as good as twice");
        store = reopen(store);
    }
    assert!(step(&store, Step::Rollback));
    store = reopen(store);
    assert_eq!(routes(&store, NOW), before);
    assert!(step(&store, Step::Commit));
    store.remove_wave(&wave()).unwrap();
    for _ in 0..2 {
        assert_eq!(routes(&store, NOW), [alpha.clone(), beta.clone(), beta.clone()]);
        assert!(store.waves().is_empty());
        store = reopen(store);
    }
    assert!(exported(&store).contains("user9@univ.example,beta\n"));
}

#[test]
fn a_wave_is_refused_with_the_line_of_whom_it_cannot_have() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    store.plan_wave(&"first".parse().unwrap(), &some([1, 2], "beta"), "ops", NOW, false).unwrap();
    let word = PlacementOverride {
        cell: "alpha".to_owned(),
        until: later(60).0,
        reason: "a complaint".to_owned(),
        actor: "ops".to_owned(),
        since: NOW.0,
    };
    store.place_user(&user(5), Some(&word)).unwrap();
    let refused = store.plan_wave(&wave(), &some([0, 2, 5], "beta"), "ops", NOW, false);
    let Err(PlacementError::Lines(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!(problems.first.iter().map(|one| one.line).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(store.waves().len(), 1);
    assert!(matches!(store.set_placement(&user(1), Some(&cell("beta"))), Err(PlacementError::InWave(_))));
    let import = store.import_placements(all_in(1, "alpha"), false, |_, _| {});
    assert!(matches!(import, Err(PlacementError::WavesLive(_))));
    assert!(matches!(store.step_wave(&wave(), Step::Commit, "ops", NOW), Err(PlacementError::UnknownWave)));
}

#[test]
fn a_plan_can_be_corrected_until_it_does_something() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    store.plan_wave(&wave(), &some([1, 2], "beta"), "ops", NOW, false).unwrap();
    store.plan_wave(&wave(), &some([2, 3], "gamma"), "ops", NOW, true).unwrap();
    assert_eq!(store.wave_users(&wave()).unwrap().len(), 2);
    store.plan_wave(&wave(), &some([2, 3], "gamma"), "ops", NOW, false).unwrap();
    let users = store.wave_users(&wave()).unwrap();
    assert_eq!(users, [(user(2), cell("gamma")), (user(3), cell("gamma"))]);
    step(&store, Step::Commit);
    assert_eq!(store.route(&user(1), NOW), Route::Default);
    let again = store.plan_wave(&wave(), &some([4], "beta"), "ops", NOW, false);
    assert!(matches!(again, Err(PlacementError::WaveExists)));
    drop(store);
    let store = Store::open(dir.path(), NOW).unwrap();
    assert_eq!(store.wave_users(&wave()).unwrap(), users);
    assert_eq!(store.waves()[0].stage, Stage::Committed);
}

#[tokio::test]
async fn whoever_waits_for_a_route_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    store.plan_wave(&wave(), &some([1], "beta"), "ops", NOW, false).unwrap();
    let mut changes = store.route_changes();
    for change in [Step::Hold { until: later(30) }, Step::Commit, Step::Rollback] {
        assert!(!changes.has_changed().unwrap());
        assert!(step(&store, change));
        changes.changed().await.unwrap();
    }
    store.remove_wave(&wave()).unwrap();
    changes.changed().await.unwrap();
}

/// One login, as the gateway does it: look, open the cell, enter the relay, look again, begin.
#[derive(Clone, Debug, PartialEq)]
enum Login {
    Looking,
    /// The cell is open.
    Opened(CellId),
    /// The relay is among the live ones, where a move finds it.
    Entered(CellId),
    Begun(CellId),
}

/// What a mover does, each step once more after a crash.
const MOVE: [&str; 5] = ["hold", "end sessions", "commit", "end sessions", "done"];

/// A node: its state file, and what is open on it.
struct Node<'a> {
    dir: &'a Path,
    store: Option<Store>,
    logins: Vec<Login>,
    moved: usize,
}

impl Node<'_> {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn log_in(&mut self, number: usize) {
        let now = match self.store().route(&user(1), NOW) {
            Route::Cell(cell) => Some(cell),
            Route::Default => Some(cell("alpha")),
            Route::Held { .. } => None,
        };
        let login = &mut self.logins[number];
        *login = match (login.clone(), now) {
            (Login::Looking, Some(cell)) => Login::Opened(cell),
            (Login::Looking, None) => Login::Looking,
            (Login::Opened(cell), _) => Login::Entered(cell),
            (Login::Entered(cell), now) if now.as_ref() == Some(&cell) => Login::Begun(cell),
            (Login::Entered(_), _) => Login::Looking,
            (Login::Begun(cell), _) => Login::Begun(cell),
        };
    }

    fn go_on_moving(&mut self) {
        match MOVE[self.moved] {
            "hold" => drop(step(self.store(), Step::Hold { until: later(30) })),
            "commit" => drop(step(self.store(), Step::Commit)),
            "end sessions" => {
                let old = cell("alpha");
                for login in &mut self.logins {
                    if matches!(login, Login::Entered(cell) | Login::Begun(cell) if *cell == old) {
                        // Its client comes again.
                        *login = Login::Looking;
                    }
                }
            }
            _ => return,
        }
        self.moved += 1;
    }

    /// `kill -9` and a start: connections are gone, and the mover does not know how far it came.
    fn crash(&mut self) {
        self.store = None;
        self.store = Some(Store::open(self.dir, NOW).unwrap());
        self.logins.fill(Login::Looking);
        self.moved = 0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn no_login_is_at_the_old_cell_once_the_move_is_done(turns in prop::collection::vec(0..9_u8, 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), NOW).unwrap();
        store.plan_wave(&wave(), &some([1], "beta"), "ops", NOW, false).unwrap();
        let mut node = Node { dir: dir.path(), store: Some(store), logins: vec![Login::Looking; 3], moved: 0 };
        let check = |node: &Node<'_>| {
            let old = Login::Begun(cell("alpha"));
            MOVE[node.moved] != "done" || node.logins.iter().all(|login| *login != old)
        };
        for turn in turns {
            match turn {
                0..6 => node.log_in(usize::from(turn) % 3),
                6 | 7 => node.go_on_moving(),
                _ => node.crash(),
            }
            prop_assert!(check(&node), "{:?}", node.logins);
        }
        while MOVE[node.moved] != "done" {
            node.go_on_moving();
        }
        prop_assert!(check(&node), "{:?}", node.logins);
        for number in 0..3 {
            for _ in 0..6 {
                node.log_in(number);
            }
            prop_assert_eq!(&node.logins[number], &Login::Begun(cell("beta")));
        }
    }
}

/// What the child process of the next test says when something is done.
const SAID: &str = "said ";

#[test]
fn a_killed_process_loses_nothing_it_has_said() {
    if let Ok(dir) = std::env::var("GUICHET_TEST_TO_BE_KILLED") {
        change_until_killed(Path::new(&dir));
    }
    for kill_after in [1, 4, 9, 14] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_process_loses_nothing_it_has_said", "--nocapture"])
            .env("GUICHET_TEST_TO_BE_KILLED", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = |line: String| line.rsplit_once(SAID).and_then(|(_, round)| round.parse::<usize>().ok());
        let mut last: usize = lines.by_ref().filter_map(said).nth(kill_after).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died counts too.
        last = lines.filter_map(said).last().unwrap_or(last);

        let store = Store::open(dir.path(), NOW).unwrap();
        let cells: Vec<_> = (0..USERS).map(|n| store.route(&user(n), NOW)).collect();
        assert!(cells.iter().all(|cell| *cell == cells[0]), "a change is whole");
        let expected = |round: usize| Route::Cell(cell(&cell_of(round)));
        assert!([last, last + 1].map(expected).contains(&cells[0]), "round {last} was said, {:?} is there", cells[0]);
    }
}

const USERS: usize = 3000;

/// Even rounds are imports, odd ones waves; each leads to a cell of its own.
fn cell_of(round: usize) -> String {
    format!("cell-{round}")
}

fn change_until_killed(dir: &Path) -> ! {
    let store = Store::open(dir, NOW).unwrap();
    for round in 0.. {
        if round % 2 == 0 {
            import(&store, all_in(USERS, &cell_of(round)));
        } else {
            store.plan_wave(&wave(), &some(0..USERS, &cell_of(round)), "ops", NOW, false).unwrap();
            step(&store, Step::Commit);
        }
        println!("{SAID}{round}");
        std::io::stdout().flush().unwrap();
        if round % 2 == 1 {
            store.remove_wave(&wave()).unwrap();
        }
    }
    unreachable!("rounds do not end")
}
