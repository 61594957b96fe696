use super::*;

const T0: WallTime = WallTime(1_800_000_000_000);

fn thresholds() -> Thresholds {
    Thresholds {
        probe_interval: Duration::from_secs(15),
        probe_interval_suspect: Duration::from_secs(5),
        probe_timeout: Duration::from_secs(5),
        failures_to_suspect: 2,
        failures_to_down: 6,
        down_after: Duration::from_secs(120),
        veto: Duration::from_secs(60),
        successes_to_up: 5,
        up_after: Duration::from_secs(120),
        dwell: Duration::from_secs(300),
    }
}

fn board(tenants: usize) -> (Board, Vec<TenantId>) {
    let ids: Vec<TenantId> = (0..tenants).map(|number| format!("t{number}").parse().unwrap()).collect();
    let board = Board::new();
    let told: Vec<_> = ids.iter().map(|id| (id.clone(), format!("https://{id}.test/idp"), None)).collect();
    board.configure(&thresholds(), &told, T0);
    (board, ids)
}

/// One IdP and a clock; each step waits, then acts.
struct Story {
    board: Board,
    tenant: TenantId,
    now: WallTime,
}

impl Story {
    fn new() -> Self {
        let (board, ids) = board(1);
        Self { board, tenant: ids[0].clone(), now: T0 }
    }

    fn state(&self) -> IdpState {
        self.board.state(&self.tenant, self.now)
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self
    }

    fn probes(&mut self, probe: Probe, count: usize, every: u64) -> &mut Self {
        for _ in 0..count {
            self.wait(every);
            self.board.on_probe(&self.tenant, probe, self.now);
        }
        self
    }

    fn login(&mut self) -> &mut Self {
        self.board.on_signed_success(&self.tenant, self.now);
        self
    }

    fn down(&mut self) -> &mut Self {
        self.wait(61).probes(Probe::Failed, 14, 10);
        assert_eq!(self.state(), IdpState::Down);
        self
    }
}

/// A sentence, what happens, the state after it.
type Told<'a> = (&'a str, fn(&mut Story), IdpState);

#[test]
fn table_of_transitions() {
    use IdpState::{Down, Suspect, Up};
    use Probe::{Failed, Good};
    let told: &[Told<'_>] = &[
        ("unknown is up", |_| {}, Up),
        (
            "one failure is nothing",
            |s| {
                s.probes(Failed, 1, 5);
            },
            Up,
        ),
        (
            "two in a row raise suspicion",
            |s| {
                s.probes(Failed, 2, 5);
            },
            Suspect,
        ),
        (
            "a good one between breaks the row",
            |s| {
                s.probes(Failed, 1, 5).probes(Good, 1, 5).probes(Failed, 1, 5);
            },
            Up,
        ),
        (
            "many failures in a short time prove nothing",
            |s| {
                s.probes(Failed, 23, 5);
            },
            Suspect,
        ),
        (
            "few failures over a long time prove nothing",
            |s| {
                s.probes(Failed, 5, 60);
            },
            Suspect,
        ),
        (
            "six over two minutes prove an outage",
            |s| {
                s.probes(Failed, 7, 20);
            },
            Down,
        ),
        (
            "a signed success vetoes",
            |s| {
                s.probes(Failed, 12, 10).login().probes(Failed, 5, 10);
            },
            Suspect,
        ),
        (
            "a veto ends",
            |s| {
                s.probes(Failed, 12, 10).login().probes(Failed, 7, 10);
            },
            Down,
        ),
        (
            "a good probe alone clears no suspicion",
            |s| {
                s.probes(Failed, 3, 5).probes(Good, 2, 5);
            },
            Suspect,
        ),
        (
            "a login and two good probes do",
            |s| {
                s.probes(Failed, 3, 5).login().probes(Good, 2, 5);
            },
            Up,
        ),
        (
            "two good probes and a login do",
            |s| {
                s.probes(Failed, 3, 5).probes(Good, 2, 5).login();
            },
            Up,
        ),
        (
            "a login before the trouble does not",
            |s| {
                s.login().probes(Failed, 3, 5).probes(Good, 2, 5);
            },
            Suspect,
        ),
        (
            "five good probes over two minutes do",
            |s| {
                s.probes(Failed, 3, 5).probes(Good, 5, 30);
            },
            Up,
        ),
        (
            "five good probes in a short time do not",
            |s| {
                s.probes(Failed, 3, 5).probes(Good, 5, 5);
            },
            Suspect,
        ),
        (
            "down dwells",
            |s| {
                s.down().login().probes(Good, 5, 30);
            },
            Down,
        ),
        (
            "and returns after",
            |s| {
                s.down().login().probes(Good, 11, 30);
            },
            Up,
        ),
        (
            "a login after the dwell needs two good probes",
            |s| {
                s.down().wait(300).login();
            },
            Down,
        ),
        (
            "and has them",
            |s| {
                s.down().wait(300).login().probes(Good, 2, 5);
            },
            Up,
        ),
    ];
    for (sentence, act, expected) in told {
        let mut story = Story::new();
        act(&mut story);
        assert_eq!(story.state(), *expected, "{sentence}");
    }
}

#[test]
fn each_relapse_within_an_hour_doubles_the_dwell_up_to_an_hour() {
    let mut story = Story::new();
    for minutes in [5, 10, 20, 40, 60, 60] {
        story.down();
        let since = story.now;
        while story.state() == IdpState::Down {
            story.login().probes(Probe::Good, 1, 10);
            assert!(story.now.since(since) <= Duration::from_secs(minutes * 60) + Duration::from_secs(20));
        }
        // `down` probes once more after the state is reached.
        assert!(story.now.since(since) + Duration::from_secs(10) >= Duration::from_secs(minutes * 60), "{minutes} min");
    }
    story.wait(3700).down();
    let since = story.now;
    while story.state() == IdpState::Down {
        story.login().probes(Probe::Good, 1, 10);
    }
    assert!(story.now.since(since) < Duration::from_secs(6 * 60), "an hour of peace forgives");
}

#[test]
fn changes_are_told_once() {
    let (board, ids) = board(1);
    assert_eq!(board.on_probe(&ids[0], Probe::Failed, T0), None);
    assert_eq!(board.on_probe(&ids[0], Probe::Failed, T0), Some(IdpState::Suspect));
    assert_eq!(board.on_probe(&ids[0], Probe::Failed, T0), None);
    assert_eq!(board.probe_after(&ids[0], T0), Duration::from_secs(5));
}

#[test]
fn an_operators_word_stands_above_the_configurations_and_ends_by_itself() {
    let (board, ids) = board(1);
    let tenant = &ids[0];
    let until = T0.plus(Duration::from_secs(600));
    let idp = "https://t0.test/idp".to_owned();
    board.configure(&thresholds(), &[(tenant.clone(), idp.clone(), Some(Forced::Up))], T0);
    assert_eq!(board.state(tenant, T0), IdpState::ForcedUp);
    board.force(tenant, Some((Forced::Down, Some(until), "drill".into())), T0);
    assert_eq!(board.state(tenant, T0), IdpState::ForcedDown);
    assert!(board.state(tenant, T0).offers_fallback());
    assert_eq!(board.list(T0)[0].forced, Some((Forced::Down, Some(until), "drill".into())));
    assert_eq!(board.state(tenant, until), IdpState::ForcedUp);
    board.configure(&thresholds(), &[(tenant.clone(), idp, None)], until);
    assert_eq!(board.state(tenant, until), IdpState::Up);
    board.force(tenant, Some((Forced::Down, None, String::new())), until);
    board.force(tenant, None, until);
    assert_eq!(board.state(tenant, until), IdpState::Up);
}

#[test]
fn evidence_is_gathered_under_a_word() {
    let mut story = Story::new();
    story.board.force(&story.tenant, Some((Forced::Up, None, String::new())), story.now);
    story.probes(Probe::Failed, 14, 10);
    assert_eq!(story.state(), IdpState::ForcedUp);
    story.board.force(&story.tenant, None, story.now);
    assert_eq!(story.state(), IdpState::Down);
}

#[test]
fn tenants_without_an_idp_are_up_and_hold_nothing() {
    let (board, ids) = board(1);
    let stranger: TenantId = "stranger".parse().unwrap();
    for _ in 0..50 {
        assert_eq!(board.on_probe(&stranger, Probe::Failed, T0), None);
    }
    assert_eq!(board.state(&stranger, T0), IdpState::Up);
    board.configure(&thresholds(), &[], T0);
    assert!(board.list(T0).is_empty());
    assert_eq!(board.state(&ids[0], T0), IdpState::Up);
}

#[test]
fn a_node_that_sees_everything_fail_suspects_itself() {
    let (board, ids) = board(10);
    let mut now = T0;
    for _ in 0..40 {
        now = now.plus(Duration::from_secs(10));
        for id in &ids {
            board.on_probe(id, Probe::Failed, now);
        }
    }
    assert!(board.guarded());
    assert!(ids.iter().all(|id| board.state(id, now) == IdpState::Suspect));
    // An operator still may.
    board.force(&ids[0], Some((Forced::Down, None, String::new())), now);
    assert_eq!(board.state(&ids[0], now), IdpState::ForcedDown);
    // The way out is mended: two IdPs are really dead, and need a proof of their own.
    let mended = now;
    while board.state(&ids[9], now) == IdpState::Suspect {
        now = now.plus(Duration::from_secs(10));
        for (number, id) in ids.iter().enumerate() {
            board.on_probe(id, if number < 8 { Probe::Good } else { Probe::Failed }, now);
        }
    }
    assert!(!board.guarded());
    assert_eq!(board.state(&ids[9], now), IdpState::Down);
    assert!(now.since(mended) >= Duration::from_secs(120));
}

#[test]
fn one_of_two_dead_idps_needs_no_guard() {
    let (board, ids) = board(2);
    let mut now = T0;
    for _ in 0..14 {
        now = now.plus(Duration::from_secs(10));
        board.on_probe(&ids[0], Probe::Failed, now);
        board.on_probe(&ids[1], Probe::Good, now);
    }
    assert_eq!(board.state(&ids[0], now), IdpState::Down);
    assert!(!board.guarded());
}

#[test]
fn an_idp_that_many_tenants_share_counts_once() {
    let (board, ids) = board(10);
    let shared =
        |number: usize| if number < 5 { "https://shared.test/idp".into() } else { format!("https://{number}.test") };
    let told: Vec<_> = ids.iter().enumerate().map(|(number, id)| (id.clone(), shared(number), None)).collect();
    board.configure(&thresholds(), &told, T0);
    let mut now = T0;
    for _ in 0..14 {
        now = now.plus(Duration::from_secs(10));
        for (number, id) in ids.iter().enumerate() {
            board.on_probe(id, if number < 5 { Probe::Failed } else { Probe::Good }, now);
        }
    }
    assert!(!board.guarded());
    assert!(ids[..5].iter().all(|id| board.state(id, now) == IdpState::Down));
}

#[test]
fn trouble_began_with_the_first_failure_and_is_over_when_the_idp_is_back() {
    let mut story = Story::new();
    story.wait(100);
    let first = story.now.plus(Duration::from_secs(61 + 10));
    story.down();
    let status = |story: &Story| story.board.list(story.now).remove(0);
    assert_eq!(status(&story).trouble_since, Some(first));
    assert!(status(&story).since > first);
    story.wait(300).login().probes(Probe::Good, 2, 5);
    assert_eq!(story.state(), IdpState::Up);
    assert_eq!(status(&story).trouble_since, None);
}

#[test]
fn another_idp_starts_with_a_clean_slate() {
    let mut story = Story::new();
    story.down();
    story.board.configure(&thresholds(), &[(story.tenant.clone(), "https://new.test/idp".into(), None)], story.now);
    assert_eq!(story.state(), IdpState::Up);
}

/// A small generator, so that a failing run can be repeated from its printed seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[test]
fn simulated_weeks_never_declare_a_working_idp_down() {
    let seed = std::env::var("GUICHET_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    println!("seed {seed}: repeat with GUICHET_SEED={seed}");
    let mut chance = Chance(seed);
    let (board, ids) = board(20);
    let mut now = T0;
    let mut next: Vec<WallTime> = vec![now; ids.len()];
    let mut ends: Vec<Option<(WallTime, WallTime)>> = vec![None; ids.len()];
    let stop = T0.plus(Duration::from_secs(24 * 3 * 3600));
    while now < stop {
        now = now.plus(Duration::from_secs(1));
        for (index, id) in ids.iter().enumerate() {
            // IdPs 0 to 4 have outages of 10 to 40 minutes; all lose 2 % of the probes.
            if index < 5
                && ends[index].is_none_or(|(_, end)| now > end.plus(Duration::from_secs(2 * 3600)))
                && chance.next().is_multiple_of(20_000)
            {
                ends[index] = Some((now, now.plus(Duration::from_secs(600 + chance.next() % 1800))));
            }
            let out = ends[index].filter(|(_, end)| now < *end);
            if out.is_none() && chance.next().is_multiple_of(60) {
                board.on_signed_success(id, now);
            }
            if now >= next[index] {
                let probe = if out.is_some() || chance.percent(2) { Probe::Failed } else { Probe::Good };
                board.on_probe(id, probe, now);
                next[index] = now.plus(board.probe_after(id, now));
            }
            let state = board.state(id, now);
            if index >= 5 {
                assert_ne!(state, IdpState::Down, "seed {seed}: IdP {index} works");
            }
            if let Some((began, _)) = out
                && now.since(began) > Duration::from_secs(240)
                && !board.guarded()
            {
                assert_eq!(state, IdpState::Down, "seed {seed}: IdP {index} is out for four minutes");
            }
            if ends[index].is_some_and(|(_, end)| now > end.plus(Duration::from_secs(70 * 60))) {
                assert_ne!(state, IdpState::Down, "seed {seed}: IdP {index} is back for an hour");
            }
        }
    }
}
