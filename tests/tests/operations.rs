//! An operator at work, and the mail programs that wait in IDLE meanwhile.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use guichet_tests::{ALICE, BOB, Gateway, House, Person, python_command, wait, welcome};
use serde_json::Value;

/// `tests/python/idle.py`: imapclient in IDLE.
struct Program {
    child: Child,
    rounds: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(house: &House, gateway: &Gateway, person: &Person) -> Self {
        let ca = house.world.pki().ca().display().to_string();
        let port = gateway.imaps().to_string();
        let mut child = python_command("idle.py", &["localhost", &port, &ca, person.address, person.password])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let rounds = child.stdin.take().expect("piped");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, rounds, said }
    }

    /// Lets it connect; what it says of its login.
    fn connect(&mut self) -> String {
        self.rounds.write_all(b"again\n").expect("the program listens");
        self.line()
    }

    fn line(&mut self) -> String {
        self.said.next().expect("the program says something, in time").expect("text")
    }

    /// Connects, and waits in IDLE at this cell.
    fn idle(&mut self, person: &Person, cell: &str) {
        assert_eq!(self.connect(), format!("reads {}", welcome(person.address, cell)));
        assert_eq!(self.line(), "idles");
    }

    fn ends_cleanly(&mut self) {
        assert_eq!(self.line(), "end clean");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(gateway: &Gateway, args: &[&str]) -> Value {
    serde_json::from_str(&gateway.ctl_ok(&[args, &["--json"]].concat())).expect("JSON")
}

/// Live relays of a user or a cell.
fn relays(gateway: &Gateway, whose: &[&str]) -> Vec<Value> {
    let told = json(gateway, &[&["relay", "list"][..], whose].concat());
    told.get("relays").and_then(Value::as_array).expect("a list").clone()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn an_operator_lists_kicks_drains_and_moves_users_whose_programs_idle() {
    let house = House::new("operations");
    // As after a first copy.
    house.beta.add_mailbox(ALICE.address, ALICE.password);
    let gateway = house.gateway("gateway");
    wait::until("every cell is checked", || gateway.endpoints_down().is_empty().then_some(()));
    let program = |person: &Person| Program::start(&house, &gateway, person);
    let (mut alice, mut bob) = (program(&ALICE), program(&BOB));
    alice.idle(&ALICE, "alpha");
    bob.idle(&BOB, "beta");

    let list = relays(&gateway, &["--user", ALICE.address]);
    let [one] = list.as_slice() else { panic!("one relay: {list:?}") };
    for (name, value) in [
        ("user", ALICE.address),
        ("tenant", "univ-a"),
        ("cell", "alpha"),
        ("protocol", "imap"),
        ("listener", "imaps"),
        ("endpoint", &format!("127.0.0.1:{}", house.alpha.imaps())),
    ] {
        assert_eq!(text(one, name), value, "{one}");
    }

    // A kick ends what it names, and nothing else.
    let kicked = gateway.ctl_ok(&["relay", "kick", "--user", ALICE.address, "--reason", "stolen phone"]);
    assert_eq!(kicked, "1 relays end\n");
    alice.ends_cleanly();
    let gone = || relays(&gateway, &["--user", ALICE.address]).is_empty().then_some(());
    wait::until("nobody is listed", gone);
    alice.idle(&ALICE, "alpha");

    // A drain over five seconds: one after the other, and nobody new gets in meanwhile.
    let mut others: Vec<_> = (0..5).map(|_| program(&ALICE)).collect();
    for other in &mut others {
        other.idle(&ALICE, "alpha");
    }
    let mut late = program(&ALICE);
    let start = Instant::now();
    let drain = ["cell", "drain", "alpha", "--over", "5s", "--for", "1h", "--reason", "new disks"];
    assert!(gateway.ctl_ok(&drain).contains("6 relays end"));
    let refused = late.connect();
    assert!(refused.starts_with("refused") && refused.contains("UNAVAILABLE"), "never a wrong password: {refused}");
    let mut left = relays(&gateway, &["--cell", "alpha"]).len();
    assert!(left > 0, "not all at once");
    wait::until("the cell is empty", || {
        let now = relays(&gateway, &["--cell", "alpha"]).len();
        assert!(now <= left, "nobody new: {now} after {left}");
        left = now;
        (now == 0).then_some(())
    });
    let took = start.elapsed();
    assert!(took > Duration::from_secs(1), "all of them in {took:?}");
    for other in others.iter_mut().chain([&mut alice]) {
        other.ends_cleanly();
    }
    let drains = json(&gateway, &["drains"]);
    let [drain] = drains.as_array().expect("a list").as_slice() else { panic!("one drain: {drains}") };
    assert_eq!((text(drain, "kind"), text(drain, "name"), text(drain, "reason")), ("cell", "alpha", "new disks"));
    gateway.ctl_ok(&["cell", "resume", "alpha"]);
    assert_eq!(json(&gateway, &["drains"]), Value::Array(Vec::new()));
    alice.idle(&ALICE, "alpha");

    // A wave moves a user who is there.
    let users = house.world.dir().join("wave.txt");
    std::fs::write(&users, format!("{}\n", ALICE.address)).expect("a file of users");
    gateway.ctl_ok(&["wave", "plan", "spring-1", "--to", "beta", "--users", &users.display().to_string()]);
    let state = || text(&json(&gateway, &["wave", "show", "spring-1"]), "state").to_owned();
    assert_eq!(state(), "planned");
    assert_eq!(relays(&gateway, &["--cell", "alpha"]).len(), 1, "nobody moves yet");
    let told = gateway.ctl_ok(&["wave", "commit", "spring-1"]);
    assert!(told.contains("1 users; 1 mail sessions end"), "{told}");
    assert_eq!(state(), "committed");
    alice.ends_cleanly();
    alice.idle(&ALICE, "beta");
    assert_eq!(text(&json(&gateway, &["placement", "show", ALICE.address]), "cell"), "beta");
    let moved = |list: Vec<Value>| list.len() == 1 && list.iter().all(|one| text(one, "cell") == "beta");
    wait::until("one relay, to the new cell", || moved(relays(&gateway, &["--user", ALICE.address])).then_some(()));

    // Bob has idled all the while.
    assert_eq!(relays(&gateway, &["--user", BOB.address]).len(), 1);
    gateway.ctl_ok(&["relay", "kick", "--user", BOB.address, "--reason", "the end"]);
    bob.ends_cleanly();
}
