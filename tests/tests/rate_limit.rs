//! Limits, and what those who meet them are told.

use guichet_tests::{ALICE, BOB, CAROL, Dialogue, Gateway, HOST, House, Person, wait};

fn login(gateway: &Gateway, person: &Person, password: &str) -> String {
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} {{{}+}}\r\n{password}", person.address, password.len()))
}

#[test]
fn a_user_under_attack_is_limited_and_others_are_not() {
    let house = House::new("limit-user");
    let gateway =
        house.start(house.settings("gateway").limits("login_failures_per_user = 5\nlogin_failures_per_source = 1000"));
    for n in 0..5 {
        let said = login(&gateway, &ALICE, &format!("guess-{n}"));
        assert!(said.starts_with("a NO [AUTHENTICATIONFAILED]"), "guess {n}: {said}");
    }
    let binds = house.slapd.binds(ALICE.address);
    let said = login(&gateway, &ALICE, "guess-6");
    assert!(said.starts_with("a NO [LIMIT]"), "try later, not wrong password: {said}");
    assert_eq!(house.slapd.binds(ALICE.address), binds, "the directory is not asked");
    assert!(login(&gateway, &BOB, BOB.password).starts_with("a OK"));

    let page =
        house.browser().post(&gateway.url("/login/password"), &[("address", ALICE.address), ("password", "guess-7")]);
    assert_eq!(page.status, 429, "{page:?}");
    assert!(page.header("retry-after").is_some() && page.body.contains("Too many attempts"), "{page:?}");
    let basic = house.program().ask(&gateway.url("/dav/"), &["--user", &format!("{}:guess-8", ALICE.address)]);
    assert_eq!(basic.status, 429, "{basic:?}");
    assert!(
        gateway.metric("guichet_auth_decisions_total", &["decision=\"throttled\""]) >= 3.0,
        "{}",
        gateway.metrics()
    );
}

#[test]
fn a_source_that_guesses_is_limited_and_an_exempt_one_is_not() {
    let house = House::new("limit-source");
    let limits = "login_failures_per_source = 5\nlogin_failures_per_user = 1000";
    let gateway = house.start(house.settings("gateway").limits(limits));
    for n in 0..5 {
        login(
            &gateway,
            &Person { address: ["u1@univ-a.test", "u2@univ-a.test", "u3@labo-b.test"][n % 3], ..ALICE },
            &format!("guess-{n}"),
        );
    }
    let said = login(&gateway, &CAROL, "guess-9");
    assert!(said.starts_with("a NO [LIMIT]"), "{said}");
    let exempt = house.start(house.settings("exempt").limits(limits).limits("exempt = [\"127.0.0.0/8\"]"));
    for n in 0..8 {
        assert!(login(&exempt, &ALICE, &format!("guess-{n}")).starts_with("a NO [AUTHENTICATIONFAILED]"), "guess {n}");
    }
}

#[test]
fn the_same_wrong_password_again_and_again_counts_once() {
    let house = House::new("limit-same");
    let gateway = house.start(house.settings("gateway").limits("login_failures_per_user = 3"));
    for _ in 0..10 {
        let said = login(&gateway, &ALICE, "the-old-one");
        assert!(said.starts_with("a NO [AUTHENTICATIONFAILED]"), "a phone with an old password: {said}");
    }
    assert!(login(&gateway, &ALICE, ALICE.password).starts_with("a OK"), "and the owner still gets in");
}

#[test]
fn connections_over_the_cap_are_told_so_where_the_protocol_can() {
    let house = House::new("limit-connections");
    let gateway = house.start(house.settings("gateway").limits("connections_per_source = 4"));
    let held: Vec<Dialogue> = (0..4)
        .map(|_| {
            let mut imap = Dialogue::plain(gateway.imap());
            imap.expect("* OK");
            imap
        })
        .collect();
    let mut refused = Dialogue::plain(gateway.imap());
    let said = refused.rest().concat();
    assert!(said.starts_with("* BYE [LIMIT]"), "{said}");
    // Where TLS comes first there is nothing to say.
    let curl = house.program().ask(&gateway.url("/"), &[]);
    assert_eq!(curl.status, 0, "{curl:?}");
    wait::until("the metric", || {
        (gateway.metric("guichet_limit_rejections_total", &["scope=\"source\""]) >= 2.0).then_some(())
    });
    drop(held);
    wait::until("room again", || {
        let mut imap = Dialogue::plain(gateway.imap());
        imap.line().filter(|line| line.starts_with("* OK"))
    });
}

#[test]
fn a_login_that_trickles_in_meets_its_deadline() {
    let house = House::new("limit-deadline");
    let gateway = house.start(house.settings("gateway").limits("login_deadline = \"1s\""));
    let mut imap = Dialogue::tls(gateway.imaps(), HOST, &house.world.pki().ca());
    imap.expect("* OK");
    imap.send("a LOGIN ali");
    let rest = imap.rest().concat();
    assert!(rest.contains("* BYE"), "{rest}");
    wait::until("the metric", || {
        (gateway.metric("guichet_mail_dialogue_ends_total", &["reason=\"deadline\""]) >= 1.0).then_some(())
    });
    // Who is logged in is not concerned.
    let mut imap = gateway.imap_dialogue();
    assert!(imap.answer("a", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("a OK"));
    wait::until("longer than the deadline", || {
        (gateway.metric("guichet_mail_dialogue_ends_total", &["reason=\"deadline\""]) >= 2.0).then_some(()).or_else(
            || {
                let mut other = Dialogue::plain(gateway.imap());
                other.rest();
                None
            },
        )
    });
    assert!(imap.answer("b", "NOOP").starts_with("b OK"));
}
