//! The IdP dies, the directory stands in; the directory dies, nobody is told "wrong password".

use guichet_tests::{ALICE, BOB, Curl, Gateway, HOST, House, Person, Relay, wait};

fn imap_login(gateway: &Gateway, person: &Person, password: &str) -> String {
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} {password}", person.address))
}

fn basic(house: &House, gateway: &Gateway, person: &Person) -> guichet_tests::Answer {
    let user = format!("{}:{}", person.address, person.password);
    house.program().ask(&gateway.url("/dav/"), &["-X", "PROPFIND", "--user", &user])
}

#[test]
fn the_directory_stands_in_for_a_dead_idp_until_it_is_back() {
    let mut house = House::with_idp("fallback-idp");
    let gateway = house.gateway("gateway");
    gateway.wait_idp("univ-a", "up");
    let browser = house.browser();
    assert_eq!(house.log_in(&gateway, &browser, &ALICE).status, 303);

    // While it is up the password page does not exist for this tenant, whoever asks for it.
    let sneaky = house.browser();
    let answer = house.log_in_by_password(&gateway, &sneaky, &ALICE);
    assert!(
        answer.status == 200 && answer.location().starts_with(&house.idp().entity_id().replace("metadata.php", "")),
        "{answer:?}"
    );

    house.idp_mut().kill();
    gateway.wait_idp("univ-a", "down");
    assert!(gateway.metric("guichet_idp_state", &["state=\"down\"", "tenant=\"univ-a\""]) >= 1.0);
    assert_eq!(browser.get(&gateway.url("/")).status, 200, "who is in stays in");

    let fallen = house.browser();
    let page = fallen.post(&gateway.url("/login/start"), &[("address", ALICE.address), ("next", "/")]);
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.body.contains("has not been answering") && page.body.contains("name=\"password\""), "{}", page.body);
    assert!(page.body.contains("Try your institution"), "the institution's page is still offered");

    let wrong = fallen
        .post(&gateway.url("/login/password"), &[("address", ALICE.address), ("password", "wrong-Pw"), ("next", "/")]);
    assert_eq!(wrong.status, 403);
    assert!(
        wrong.body.contains("The address or the password is wrong") && !wrong.body.contains("wrong-Pw"),
        "{}",
        wrong.body
    );
    let entered = house.log_in_by_password(&gateway, &fallen, &ALICE);
    assert_eq!(entered.status, 303, "{entered:?}");
    assert!(fallen.get(&gateway.url("/")).body.contains("Mailbox of alice@univ-a.test"));
    assert_eq!(gateway.metric("guichet_session_opened_total", &["method=\"fallback\""]), 1.0);

    // Staff of this tenant fall back only on an operator's word, however right the password is.
    let staff = house.log_in_by_password(&gateway, &house.browser(), &BOB);
    assert_eq!(staff.status, 403, "{staff:?}");
    assert!(staff.body.contains("does not allow signing in with the mail password"), "{}", staff.body);

    // Back again: one user who goes through the institution's page, and the probes.
    house.idp_mut().restart();
    let trial = house.browser();
    let start = trial.get(&gateway.url("/login/start?tenant=univ-a&force=idp&next=/"));
    assert_eq!(start.status, 302, "{start:?}");
    let response = house.idp().log_in(&trial, start.location(), ALICE.idp_login, ALICE.idp_password);
    assert_eq!(house.to_acs(&trial, &response).status, 303);
    gateway.wait_idp("univ-a", "up");
    assert!(house.to_idp(&gateway, &house.browser(), ALICE.address).contains("SAMLRequest="));
}

#[test]
fn an_idp_that_hangs_is_as_down_as_one_that_is_gone() {
    let house = House::with_idp("fallback-hang");
    let gateway = house.gateway("gateway");
    gateway.wait_idp("univ-a", "up");
    house.idp().freeze();
    gateway.wait_idp("univ-a", "down");
    house.idp().thaw();
    gateway.wait_idp("univ-a", "up");
}

#[test]
fn an_operator_forces_and_releases_and_the_word_outlives_a_crash() {
    let house = House::with_idp("fallback-force");
    let mut gateway = house.gateway("gateway");
    let said = gateway.ctl_ok(&["idp", "force", "univ-a", "down", "--for", "10m", "--reason", "planned work"]);
    assert!(said.contains("univ-a: forced_down"), "{said}");
    assert_eq!(house.log_in_by_password(&gateway, &house.browser(), &ALICE).status, 303);
    assert_eq!(
        house.log_in_by_password(&gateway, &house.browser(), &BOB).status,
        303,
        "staff too, on an operator's word"
    );
    gateway.restart();
    assert_eq!(gateway.idp_state("univ-a"), "forced_down");
    assert!(gateway.ctl_ok(&["idp", "release", "univ-a"]).contains("univ-a: up"));
    assert!(house.to_idp(&gateway, &house.browser(), ALICE.address).contains("SAMLRequest="));
    for (args, code) in [
        (&["idp", "force", "nobody", "down", "--for", "10m", "--reason", "x"][..], 1),
        (&["idp", "force", "univ-a", "down", "--for", "forever", "--reason", "x"], 64),
        (&["idp", "force", "univ-a", "sideways", "--for", "1m", "--reason", "x"], 64),
    ] {
        assert_eq!(gateway.ctl(args).status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn failed_logins_never_open_the_fallback() {
    let house = House::with_idp("fallback-no-proof");
    let gateway =
        house.start(house.settings("gateway").availability(
            "probe_interval = \"1s\"\nprobe_interval_suspect = \"1s\"\nveto = \"1s\"\ndown_after = \"1s\"",
        ));
    gateway.wait_idp("univ-a", "up");
    for _ in 0..20 {
        // Logins begun and never finished: anybody can do that.
        house.to_idp(&gateway, &house.browser(), ALICE.address);
    }
    assert_eq!(gateway.idp_state("univ-a"), "up");
}

#[test]
fn a_dead_directory_is_try_later_in_every_protocol() {
    let mut house = House::new("fallback-slapd");
    // No cache: each login needs the directory.
    let gateway = house.start(house.settings("gateway").limits("password_cache_ttl = \"1ms\""));
    assert!(imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK"));
    assert_eq!(basic(&house, &gateway, &ALICE).status, 207);

    house.slapd.kill();
    let later = |what: &str| {
        let said = imap_login(&gateway, &ALICE, ALICE.password);
        assert!(said.starts_with("a NO [UNAVAILABLE]"), "{what}: {said}");
        let said = imap_login(&gateway, &ALICE, "wrong-Pw");
        assert!(said.starts_with("a NO [UNAVAILABLE]"), "{what}, nobody can tell that it is wrong: {said}");
        let answer = basic(&house, &gateway, &ALICE);
        assert_eq!(answer.status, 503, "{what}, never 401: {answer:?}");
        let wait: u32 = answer.header("retry-after").and_then(|v| v.parse().ok()).expect("Retry-After");
        assert!((30..=120).contains(&wait));
        let page = house.log_in_by_password(&gateway, &house.browser(), &ALICE);
        assert_eq!(page.status, 503, "{what}: {page:?}");
        assert!(page.body.contains("this is not about your password"), "{}", page.body);
    };
    later("killed");
    assert_eq!(Curl::plain().get(&gateway.management("/healthz")).status, 200);

    house.slapd.restart();
    wait::until("the directory is asked again", || {
        imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK").then_some(())
    });
    house.slapd.freeze();
    let later = |what: &str| {
        let said = imap_login(&gateway, &ALICE, ALICE.password);
        assert!(said.starts_with("a NO [UNAVAILABLE]"), "{what}: {said}");
        assert_eq!(basic(&house, &gateway, &ALICE).status, 503, "{what}");
    };
    later("frozen");
    house.slapd.thaw();
    wait::until("the directory is asked again", || {
        imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK").then_some(())
    });
}

#[test]
fn a_directory_cut_in_the_middle_is_asked_again_by_a_new_connection() {
    let house = House::new("fallback-cut");
    let relay = Relay::to(house.slapd.port());
    let settings = house.settings_with("gateway", &house.slapd.config(relay.port()), &house.cells());
    let gateway = house.start(settings.limits("password_cache_ttl = \"1ms\""));
    assert!(imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK"));
    relay.cut();
    wait::until("a new connection", || imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK").then_some(()));
    relay.silence();
    assert!(imap_login(&gateway, &ALICE, ALICE.password).starts_with("a NO [UNAVAILABLE]"));
    relay.pass();
    relay.cut();
    wait::until("a new connection", || imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK").then_some(()));
    assert!(relay.accepted() >= 3);
}

#[test]
fn who_is_in_the_cache_is_served_while_the_directory_is_away() {
    let mut house = House::new("fallback-cache");
    let gateway = house.gateway("gateway");
    assert!(imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK"));
    house.slapd.kill();
    assert!(imap_login(&gateway, &ALICE, ALICE.password).starts_with("a OK"));
    assert!(
        imap_login(&gateway, &ALICE, "wrong-Pw").starts_with("a NO [UNAVAILABLE]"),
        "a differing password asks the directory"
    );
    assert!(imap_login(&gateway, &BOB, BOB.password).starts_with("a NO [UNAVAILABLE]"));
    let output = Curl::trusting(&house.world, HOST)
        .command()
        .args([
            "--user",
            &format!("{}:{}", BOB.address, BOB.password),
            "--url",
            &format!("imaps://{HOST}:{}/", gateway.imaps()),
        ])
        .output()
        .expect("curl runs");
    assert!(!output.status.success());
}
