//! A cell, an endpoint or a listener is taken out while users are connected, and what they see of it.

use std::net::TcpStream;

use guichet_tests::{ALICE, BOB, Dialogue, Gateway, House, Person, wait};
use serde_json::Value;

fn log_in(gateway: &Gateway, person: &Person) -> (Dialogue, String) {
    let mut imap = gateway.imap_dialogue();
    let said = imap.answer("a", &format!("LOGIN {} {}", person.address, person.password));
    (imap, said)
}

/// Logged in, and waiting for mail.
fn idle(gateway: &Gateway, person: &Person) -> Dialogue {
    let (mut imap, said) = log_in(gateway, person);
    assert!(said.starts_with("a OK"), "{said}");
    assert!(imap.answer("b", "SELECT INBOX").starts_with("b OK"));
    imap.send("c IDLE\r\n");
    imap.expect("+");
    imap
}

fn json(gateway: &Gateway, args: &[&str]) -> Value {
    serde_json::from_str(&gateway.ctl_ok(&[args, &["--json"]].concat())).expect("JSON")
}

fn relays(gateway: &Gateway, args: &[&str]) -> Vec<Value> {
    let told = json(gateway, &[&["relay", "list"][..], args].concat());
    told.get("relays").and_then(Value::as_array).expect("a list").clone()
}

fn at(gateway: &Gateway, endpoint: &str) -> usize {
    relays(gateway, &["--cell", "alpha"])
        .iter()
        .filter(|one| one.get("endpoint").is_some_and(|e| e == endpoint))
        .count()
}

fn wait_endpoints(gateway: &Gateway, count: usize) {
    wait::until("healthy endpoints of alpha", || {
        let list = json(gateway, &["cell", "list"]);
        let good = |one: &&Value| {
            one.get("cell").is_some_and(|c| c == "alpha")
                && one.get("service").is_some_and(|s| s == "imap")
                && one.get("healthy").is_some_and(|h| h == true)
        };
        (list.as_array().expect("a list").iter().filter(good).count() == count).then_some(())
    });
}

#[test]
fn an_endpoint_is_emptied_while_its_users_idle_and_they_come_back_by_the_other() {
    let house = House::new("drain-endpoint");
    let port = house.alpha.imaps();
    let (one, other) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let endpoints = format!("endpoints = [\"{one}\"]");
    let cells = house.cells().replacen(&endpoints, &format!("endpoints = [\"{one}\", \"{other}\"]"), 1);
    let directory = house.slapd.config(house.slapd.port());
    let mut gateway = house.start(house.settings_with("gateway", &directory, &cells));
    wait_endpoints(&gateway, 2);

    let drain = |endpoint: &str, more: &[&str]| {
        let args =
            ["cell", "drain", "alpha", "--endpoint", endpoint, "--over", "2s", "--for", "1h", "--reason", "new disks"];
        gateway.ctl_ok(&[&args[..], more].concat())
    };
    drain(&other, &[]);
    let users: Vec<_> = (0..6).map(|_| idle(&gateway, &ALICE)).collect();
    let bob = idle(&gateway, &BOB);
    assert_eq!((at(&gateway, &one), at(&gateway, &other)), (6, 0), "nobody new goes to a drained endpoint");
    gateway.ctl_ok(&["cell", "resume", "alpha", "--endpoint", &other]);

    assert!(drain(&one, &["--dry-run"]).contains(": 6 relays would end"));
    assert_eq!(at(&gateway, &one), 6);
    assert!(drain(&one, &[]).contains(": 6 relays end"));
    let come_back = |mut user: Dialogue| {
        assert_eq!(user.rest(), Vec::<String>::new(), "an end without a word");
        idle(&gateway, &ALICE)
    };
    let users: Vec<_> = users.into_iter().map(come_back).collect();
    assert_eq!((at(&gateway, &one), at(&gateway, &other)), (0, 6));
    assert_eq!(relays(&gateway, &["--user", BOB.address]).len(), 1, "the other cell is not meant");
    assert_eq!(gateway.metric("guichet_mail_session_ends_total", &["reason=\"drained\""]), 6.0);
    assert_eq!(gateway.metric("guichet_mail_sessions_open", &["cell=\"alpha\""]), 6.0);
    assert_eq!(gateway.metric("guichet_drain_active", &["kind=\"endpoint\""]), 1.0);
    gateway.wait_log("\"end\":\"drained\"");
    let audit = gateway.wait_log("\"action\":\"drain\"");
    assert!(audit.contains("new disks") && audit.contains("guichet::audit"), "{audit}");

    // Killed and started again: the word still holds.
    drop((users, bob));
    gateway.restart();
    wait_endpoints(&gateway, 2);
    let _users: Vec<_> = (0..2).map(|_| idle(&gateway, &ALICE)).collect();
    assert_eq!((at(&gateway, &one), at(&gateway, &other)), (0, 2));
    let status = gateway.ctl_ok(&["status"]);
    assert!(status.contains("new disks"), "{status}");
    gateway.ctl_ok(&["cell", "resume", "alpha"]);
    assert_eq!(json(&gateway, &["drains"]), Value::Array(Vec::new()));
}

#[test]
fn users_of_a_drained_cell_are_told_to_try_later_and_others_notice_nothing() {
    let house = House::new("drain-cell");
    let gateway = house.gateway("gateway");
    wait_endpoints(&gateway, 1);
    let (mut alice, mut bob) = (idle(&gateway, &ALICE), idle(&gateway, &BOB));
    gateway.ctl_ok(&["cell", "drain", "alpha", "--over", "1s", "--for", "1h", "--reason", "new disks"]);
    assert_eq!(alice.rest(), Vec::<String>::new());
    let (_, said) = log_in(&gateway, &ALICE);
    assert!(said.starts_with("a NO [UNAVAILABLE]"), "never a wrong password: {said}");
    bob.send("DONE\r\n");
    bob.expect("c OK");
    gateway.ctl_ok(&["cell", "resume", "alpha"]);
    idle(&gateway, &ALICE);
    let refused = gateway.ctl(&["cell", "resume", "alpha"]);
    assert_eq!(refused.status.code(), Some(1), "nothing is drained: {refused:?}");
}

#[test]
fn a_drained_listener_is_closed_and_a_kick_needs_to_know_whom() {
    let house = House::new("drain-listener");
    let gateway = house.gateway("gateway");
    wait_endpoints(&gateway, 1);
    let mut alice = idle(&gateway, &ALICE);
    gateway.ctl_ok(&["listener", "drain", "imaps", "--over", "1s", "--for", "1h", "--reason", "tests"]);
    let closed = || TcpStream::connect(("127.0.0.1", gateway.imaps())).is_err();
    wait::until("the port closed", || closed().then_some(()));
    assert_eq!(alice.rest(), Vec::<String>::new());
    gateway.ctl_ok(&["reload"]);
    assert!(closed(), "a reload is no way out");
    gateway.ctl_ok(&["listener", "resume", "imaps"]);
    let mut alice = idle(&gateway, &ALICE);
    let mut bob = idle(&gateway, &BOB);

    assert_eq!(gateway.ctl(&["relay", "kick", "--reason", "x"]).status.code(), Some(64));
    let kick = ["relay", "kick", "--user", ALICE.address, "--reason", "stolen phone"];
    assert_eq!(gateway.ctl_ok(&[&kick[..], &["--dry-run"]].concat()), "1 relays would end\n");
    assert_eq!(gateway.ctl_ok(&kick), "1 relays end\n");
    assert_eq!(alice.rest(), Vec::<String>::new());
    bob.send("DONE\r\n");
    bob.expect("c OK");
    let audit = gateway.wait_log("\"action\":\"relay_kick\"");
    assert!(audit.contains(ALICE.address) && audit.contains("stolen phone"), "{audit}");
    gateway.wait_log("\"end\":\"kicked\"");
}
