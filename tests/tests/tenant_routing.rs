//! Each user reaches the cell that holds the mailbox, and a dead cell is "try later" for its own users only.

use guichet_tests::{ALICE, Answer, BOB, CAROL, Gateway, House, Person, Relay, wait, welcome};

fn web(house: &House, gateway: &Gateway, person: &Person) -> Answer {
    let user = format!("{}:{}", person.address, person.password);
    house.program().ask(&gateway.url("/"), &["--user", &user])
}

fn imap(gateway: &Gateway, person: &Person) -> String {
    let mut imap = gateway.imap_dialogue();
    imap.send(format!("a LOGIN {} {{{}+}}\r\n{}\r\n", person.address, person.password.len(), person.password));
    let answer = imap.expect("a ");
    if !answer.starts_with("a OK") {
        return answer;
    }
    imap.answer("b", "SELECT INBOX");
    imap.ask("c", "FETCH 1 BODY[TEXT]").join("\n")
}

#[test]
fn tenant_default_and_directory_attribute_place_users_in_every_protocol() {
    let house = House::new("routing");
    let gateway = house.gateway("gateway");
    for (person, cell) in [(ALICE, "alpha"), (BOB, "beta"), (CAROL, "beta")] {
        let page = web(&house, &gateway, &person);
        assert!(page.body.contains(&format!("Mailbox of {}", person.address)), "{page:?}");
        assert!(page.body.contains(&format!("cell {cell}")), "{page:?}");
        let mail = imap(&gateway, &person);
        assert!(mail.contains(&welcome(person.address, cell)), "{mail}");
    }
    // However the name is written, it is the same user.
    let shouting = Person { address: "ALICE@Univ-A.TEST", ..ALICE };
    assert!(imap(&gateway, &shouting).contains(&welcome(ALICE.address, "alpha")));
    assert!(web(&house, &gateway, &shouting).body.contains("Mailbox of alice@univ-a.test"));
}

#[test]
fn a_mailbox_that_moved_behind_our_back_is_found_by_a_second_look() {
    let house = House::new("routing-moved");
    let gateway = house.gateway("gateway");
    let looks =
        |result: &str| gateway.metric("guichet_placement_second_looks_total", &[&format!("result=\"{result}\"")]);
    assert!(imap(&gateway, &BOB).contains(&welcome(BOB.address, "beta")));

    // His cell knows him no more; the directory still says so, and what it said is cached anyway.
    house.alpha.add_mailbox(BOB.address, "only-the-cell-knows-Pw13");
    house.beta.forget_user(BOB.address);
    let refused = || Some(imap(&gateway, &BOB)).filter(|said| !said.contains(&welcome(BOB.address, "beta")));
    let said = wait::until("his cell knows him no more", refused);
    assert!(said.starts_with("a NO [UNAVAILABLE]"), "his password is right: {said}");
    assert_eq!((looks("same"), looks("moved")), (1.0, 0.0));

    // The cache is as old as before, the directory's word is new.
    house.slapd.set_cell(BOB.address, "alpha");
    assert!(imap(&gateway, &BOB).contains(&welcome(BOB.address, "alpha")));
    assert_eq!(looks("moved"), 1.0);
    assert!(imap(&gateway, &BOB).contains(&welcome(BOB.address, "alpha")));
    assert_eq!(looks("moved"), 1.0, "what was learnt is kept");
}

#[test]
fn a_dead_cell_is_try_later_for_its_users_and_nobody_else() {
    let mut house = House::new("routing-dead");
    let gateway = house.gateway("gateway");
    assert!(imap(&gateway, &BOB).contains("cell beta"));
    let mut open = gateway.imap_dialogue();
    assert!(open.answer("a", &format!("LOGIN {} {}", BOB.address, BOB.password)).starts_with("a OK"));

    house.beta.stop();
    house.beta_web.kill();
    assert!(open.rest().iter().all(|line| line.starts_with("* ")), "the relay ends with the cell, nothing is invented");
    let said = imap(&gateway, &BOB);
    assert!(said.starts_with("a NO [UNAVAILABLE]"), "{said}");
    let answer = web(&house, &gateway, &BOB);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(imap(&gateway, &ALICE).contains("cell alpha"));
    assert_eq!(web(&house, &gateway, &ALICE).status, 200);
    let down = |service: &str| {
        gateway.metric("guichet_cell_endpoint_up", &["cell=\"beta\"", &format!("service=\"{service}\"")]) == 0.0
    };
    wait::until("both endpoints out of rotation", || (down("imap") && down("web")).then_some(()));
    let down = gateway.endpoints_down();
    assert_eq!(down.iter().filter(|line| line.starts_with("beta")).count(), 2, "{down:?}");
    assert!(imap(&gateway, &BOB).starts_with("a NO [UNAVAILABLE]"), "also when the health check has seen it");

    house.beta.restart();
    house.beta_web.restart();
    wait::until("the cell back in rotation", || imap(&gateway, &BOB).contains("cell beta").then_some(()));
    wait::until("the cell back in rotation", || (web(&house, &gateway, &BOB).status == 200).then_some(()));
}

#[test]
fn a_dead_endpoint_is_left_out_while_its_neighbour_serves() {
    let house = House::new("routing-endpoints");
    let relay = Relay::to(house.alpha_web.port());
    let imap_relay = Relay::to(house.alpha.imaps());
    let two = |table: String, first: u16, second: u16| {
        table.replace(&format!("[\"127.0.0.1:{first}\"]"), &format!("[\"127.0.0.1:{first}\", \"127.0.0.1:{second}\"]"))
    };
    let cells = two(two(house.cells(), house.alpha_web.port(), relay.port()), house.alpha.imaps(), imap_relay.port());
    let gateway = house.start(house.settings_with("gateway", &house.slapd.config(house.slapd.port()), &cells));
    wait::until("both endpoints are used", || {
        assert_eq!(web(&house, &gateway, &ALICE).status, 200);
        assert!(imap(&gateway, &ALICE).contains("cell alpha"));
        (relay.accepted() > 0 && imap_relay.accepted() > 0).then_some(())
    });
    relay.refuse();
    imap_relay.refuse();
    for _ in 0..6 {
        let answer = web(&house, &gateway, &ALICE);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    wait::until("the dead endpoints leave the rotation", || {
        (gateway.metric("guichet_cell_endpoint_up", &["cell=\"alpha\""]) == 2.0).then_some(())
    });
    for _ in 0..4 {
        assert!(imap(&gateway, &ALICE).contains("cell alpha"));
    }
}

#[test]
fn a_cell_whose_certificate_names_another_is_not_entered() {
    let house = House::new("routing-certificate");
    let cells = house.cells().replace("name = \"beta.cell.test\"", "name = \"gamma.cell.test\"");
    let gateway = house.start(house.settings_with("gateway", &house.slapd.config(house.slapd.port()), &cells));
    let said = imap(&gateway, &BOB);
    assert!(said.starts_with("a NO [UNAVAILABLE]"), "{said}");
    assert!(!house.beta.log().contains(BOB.address), "no credential went there");
}

#[test]
fn a_cell_by_starttls_works_and_a_cell_that_says_no_is_our_problem() {
    let house = House::new("routing-starttls");
    let cells = house
        .cells()
        .replace(
            &format!("[\"127.0.0.1:{}\"]", house.alpha.imaps()),
            &format!("[\"127.0.0.1:{}\"]", house.alpha.imap()),
        )
        .replace("[cell.alpha.imap.tls.implicit]", "[cell.alpha.imap.tls.starttls]");
    let gateway = house.start(house.settings_with("gateway", &house.slapd.config(house.slapd.port()), &cells));
    assert!(imap(&gateway, &ALICE).contains(&welcome(ALICE.address, "alpha")));
    // The directory and the cell disagree about Bob's password: not his fault.
    house.slapd.set_password(BOB.address, "changed-Pw20");
    let said = imap(&gateway, &Person { password: "changed-Pw20", ..BOB });
    assert!(said.starts_with("a NO [UNAVAILABLE]"), "{said}");
}
