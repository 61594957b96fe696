//! Half of an institution moves to another cell while its users read their mail.

#![allow(clippy::indexing_slicing, reason = "a story that stops says where")]

use guichet_tests::{Dialogue, Dovecot, Gateway, Settings, Slapd, World, wait, welcome};

const PEOPLE: [(&str, &str); 4] = [
    ("anne@univ-w.test", "first-Pw1"),
    ("basile@univ-w.test", "second-Pw2"),
    ("chloe@univ-w.test", "third-Pw3"),
    ("denis@univ-w.test", "fourth-Pw4"),
];

/// Those who move.
const MOVING: [usize; 2] = [1, 3];

/// One institution, whose mailboxes are in both cells (as after a first copy).
struct Institution {
    world: World,
    gateway: Gateway,
    _cells: [Dovecot; 2],
    _slapd: Slapd,
}

impl Institution {
    fn open(name: &str) -> Self {
        let world = World::new(name);
        let slapd = Slapd::start(&world);
        for (address, password) in PEOPLE {
            slapd.add_user(address, password, &[]);
        }
        let cells = ["alpha", "beta"].map(|name| Dovecot::start(&world, name, &PEOPLE));
        let [alpha, beta] = &cells;
        let tenant =
            "[tenant.univ-w]\nname = { fr = \"Université W\" }\ndomains = [\"univ-w.test\"]\ncell = \"alpha\"\n";
        let settings = Settings::new(&world, "gateway")
            .with(&slapd.config(slapd.port()))
            .with(&alpha.config_master(alpha.imaps()))
            .with(&beta.config_password(beta.imaps()))
            .with(tenant);
        let gateway = settings.start(&world);
        Self { world, gateway, _cells: cells, _slapd: slapd }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.world.dir().join(name);
        std::fs::write(&path, text).expect("a file of users");
        path.display().to_string()
    }

    /// Logs in and asserts in which cell that ends.
    fn log_in(&self, person: usize, cell: &str) -> Dialogue {
        let (address, password) = PEOPLE[person];
        let mut imap = self.gateway.imap_dialogue();
        let answer = imap.answer("a", &format!("LOGIN {address} {password}"));
        assert!(answer.starts_with("a OK"), "{address}: {answer}");
        imap.answer("b", "SELECT INBOX");
        let mail = imap.ask("c", "FETCH 1 BODY[TEXT]").join("\n");
        assert!(mail.contains(&welcome(address, cell)), "{address} in {cell}: {mail}");
        imap
    }

    /// Waits until so many mail sessions are open: those of clients that just left are gone.
    fn wait_open(&self, count: usize) {
        wait::until("only these are open", || {
            (self.gateway.metric("guichet_mail_sessions_open", &[]) == count as f64).then_some(())
        });
    }

    fn cell_of(person: usize, moved: bool) -> &'static str {
        if moved && MOVING.contains(&person) { "beta" } else { "alpha" }
    }
}

#[test]
fn half_of_an_institution_moves_while_it_reads_its_mail_and_back() {
    let mut house = Institution::open("waves");
    let users: String = MOVING.iter().map(|person| format!("{}\n", PEOPLE[*person].0)).collect();
    let users = house.file("spring-1.txt", &format!("# first half\n{users}"));
    let plan = ["wave", "plan", "spring-1", "--to", "beta", "--users", &users];
    let checked = house.gateway.ctl_ok(&[&plan[..], &["--dry-run"]].concat());
    assert!(checked.contains("2 users (nothing was changed)"), "{checked}");
    assert_eq!(house.gateway.ctl_ok(&["wave", "list", "--json"]).trim(), "[]");
    house.gateway.ctl_ok(&plan);

    let mut moved = false;
    for (step, now_moved) in [("commit", true), ("rollback", false)] {
        let mut open: Vec<_> = (0..PEOPLE.len()).map(|n| house.log_in(n, Institution::cell_of(n, moved))).collect();
        house.wait_open(PEOPLE.len());
        let held = house.gateway.ctl_ok(&["wave", "hold", "spring-1", "--for", "10m"]);
        assert!(held.contains("spring-1: held until") && held.contains("2 mail sessions end"), "{held}");
        for (person, imap) in open.iter_mut().enumerate() {
            if MOVING.contains(&person) {
                assert_eq!(imap.rest(), Vec::<String>::new(), "the session ends, and says nothing");
            } else {
                assert!(imap.answer("d", "NOOP").starts_with("d OK"), "who stays is left alone");
            }
        }
        // Whoever comes now waits for the end of it, and finds himself where he belongs then.
        let mut waiting = house.gateway.imap_dialogue();
        let (address, password) = PEOPLE[MOVING[0]];
        waiting.send(format!("a LOGIN {address} {password}\r\n"));
        wait::until("a login waits", || {
            (house.gateway.metric("guichet_placement_held_logins", &[]) == 1.0).then_some(())
        });
        let told = house.gateway.ctl_ok(&["wave", step, "spring-1"]);
        assert!(told.contains("2 users"), "{told}");
        moved = now_moved;
        assert!(waiting.expect("a ").starts_with("a OK"));
        waiting.answer("b", "SELECT INBOX");
        let mail = waiting.ask("c", "FETCH 1 BODY[TEXT]").join("\n");
        assert!(mail.contains(&welcome(address, Institution::cell_of(MOVING[0], moved))), "{mail}");
        for person in 0..PEOPLE.len() {
            house.log_in(person, Institution::cell_of(person, moved));
        }
    }

    // The same again, for good, over a crash.
    house.gateway.ctl_ok(&["wave", "commit", "spring-1"]);
    house.gateway.restart();
    house.log_in(1, "beta");
    let shown = house.gateway.ctl_ok(&["placement", "show", PEOPLE[1].0]);
    assert!(shown.contains("committed") && shown.contains("beta"), "{shown}");
    house.gateway.ctl_ok(&["wave", "remove", "spring-1"]);
    house.gateway.restart();
    house.log_in(1, "beta");
    house.log_in(0, "alpha");
    let exported = house.gateway.ctl_ok(&["placement", "export"]);
    assert_eq!(exported, format!("{},beta\n{},beta\n", PEOPLE[1].0, PEOPLE[3].0));
    let log = house.gateway.log();
    for action in ["wave_plan", "wave_hold", "wave_commit", "wave_rollback", "wave_remove"] {
        assert!(
            log.lines().any(|l| l.contains("guichet::audit") && l.contains(action)),
            "{action} leaves an audit line"
        );
    }
}

#[test]
fn a_file_is_taken_whole_or_not_at_all_and_every_line_is_told() {
    let house = Institution::open("waves-files");
    let bad = house.file("bad.csv", "anne@univ-w.test,beta\nzoe@elsewhere.test,beta\nanne@univ-w.test,alpha\n");
    let refused = house.gateway.ctl(&["placement", "import", &bad]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{bad}:2: no tenant has the domain `elsewhere.test`")), "{said}");
    assert!(said.contains(&format!("{bad}:3: anne@univ-w.test stands on line 1 already")), "{said}");
    house.log_in(0, "alpha");

    let good = house.file("good.csv", "anne@univ-w.test,beta\ndenis@univ-w.test,alpha\n");
    let told = house.gateway.ctl_ok(&["placement", "import", &good, "--dry-run"]);
    assert!(told.starts_with("2 users: 2 would be added"), "{told}");
    let mut open = house.log_in(0, "alpha");
    house.wait_open(1);
    let told = house.gateway.ctl_ok(&["placement", "import", &good]);
    assert!(told.starts_with("2 users: 2 added, 0 moved, 0 removed; 1 mail sessions end"), "{told}");
    assert_eq!(open.rest(), Vec::<String>::new());
    house.log_in(0, "beta");
    house.gateway.ctl_ok(&["placement", "clear", "anne@univ-w.test"]);
    house.log_in(0, "alpha");
}
