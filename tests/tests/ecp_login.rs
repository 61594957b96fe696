//! Mail programs and Basic clients log in with the password of their institution: SimpleSAMLphp judges it by ECP, and the
//! directory stands in only when its outage is proven.

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{ALICE, BOB, ERIN, GHOST, Gateway, House, MALLORY, Manner, Person, wait};

/// SimpleSAMLphp 1.19 rewrites prefixes when it puts an encrypted assertion into the envelope, after it has signed: its
/// signature does not hold then, and `xmlsec1` says so, too.
fn house(name: &str) -> House {
    House::with_idp_of(name, Manner { encrypt: false, ..Manner::default() })
}

/// `univ-a` has its IdP asked, which knows its users by what stands before the `@`.
fn start(house: &House, limits: &str) -> Gateway {
    let tables = "[tenant.univ-a.idp.saml.ecp]\nusername = \"local_part\"\n";
    let settings = house.settings("gateway").with(tables).limits(limits);
    let gateway = house.start(settings.log("json", "trace"));
    gateway.wait_idp("univ-a", "up");
    gateway
}

fn imap(gateway: &Gateway, person: &Person, password: &str) -> String {
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} {password}", person.address))
}

/// A calendar program with Basic credentials.
fn basic(house: &House, gateway: &Gateway, address: &str, password: &str) -> u16 {
    let user = format!("{address}:{password}");
    house.program().ask(&gateway.url("/dav/"), &["-X", "PROPFIND", "--user", &user]).status
}

/// How many Responses with an assertion the IdP gave.
fn answers_of_the_idp(house: &House) -> usize {
    house.idp().log().lines().filter(|line| line.contains("Sending SAML 2.0 Response to")).count()
}

fn answers(gateway: &Gateway, result: &str) -> f64 {
    let result = format!("result=\"{result}\"");
    gateway.metric("guichet_auth_ecp_answers_total", &["tenant=\"univ-a\"", &result])
}

#[test]
fn the_institution_judges_the_passwords_of_mail_and_calendar_programs() {
    let house = house("ecp");
    let gateway = start(&house, "login_failures_per_source = 1000\nlogin_failures_per_user = 1000");

    // The metadata that the IdP registered names our consumer of the PAOS binding.
    let metadata = house.program().get(&gateway.url("/saml/metadata")).body;
    assert!(metadata.contains("urn:oasis:names:tc:SAML:2.0:bindings:PAOS"), "{metadata}");
    assert_eq!(house.program().post(&gateway.url("/saml/ecp"), &[("SAMLResponse", "x")]).status, 404);

    // IMAP, into a real cell that never sees that password.
    let mut dialogue = gateway.imap_dialogue();
    let login = format!("LOGIN {} {}", ALICE.address, ALICE.idp_password);
    assert!(dialogue.answer("a", &login).starts_with("a OK"), "{}\n{}", dialogue.transcript(), gateway.log());
    assert!(dialogue.answer("b", "SELECT INBOX").starts_with("b OK"));
    assert_eq!((answers(&gateway, "known"), answers_of_the_idp(&house)), (1.0, 1));
    // A signed word of the IdP speaks for it.
    let board: serde_json::Value = serde_json::from_str(&gateway.ctl_ok(&["idp", "list", "--json"])).expect("JSON");
    assert!(board[0]["last_success"].is_string(), "{board}");

    // Again within the life of the cache: the IdP is not asked.
    assert!(imap(&gateway, &ALICE, ALICE.idp_password).starts_with("a OK"));
    assert_eq!((answers(&gateway, "known"), answers_of_the_idp(&house)), (1.0, 1));

    // Basic, and its many requests.
    for _ in 0..3 {
        assert_eq!(basic(&house, &gateway, ALICE.address, ALICE.idp_password), 207);
    }
    assert_eq!((answers(&gateway, "known"), answers_of_the_idp(&house)), (2.0, 2));

    // Somebody the directory does not know has the tenant's cell, as after a login by the page.
    assert_eq!(basic(&house, &gateway, GHOST.address, GHOST.idp_password), 207);

    // Wrong is wrong, and final: neither the directory's password nor anybody else's counts.
    for (person, password) in [(ALICE, ALICE.password), (ALICE, "wrong-Pw"), (BOB, ALICE.idp_password)] {
        let said = imap(&gateway, &person, password);
        assert!(said.starts_with("a NO [AUTHENTICATIONFAILED]"), "{} {password}: {said}", person.address);
        assert_eq!(basic(&house, &gateway, person.address, password), 401, "{} {password}", person.address);
    }
    // Right at the institution, and still nobody who may come in: a closed account, an address of another tenant.
    for login in
        [format!("{} {}", ERIN.address, ERIN.idp_password), format!("mallory@univ-a.test {}", MALLORY.idp_password)]
    {
        let said = gateway.imap_dialogue().answer("a", &format!("LOGIN {login}"));
        assert!(said.starts_with("a NO "), "{login}: {said}");
        assert!(!said.contains("UNAVAILABLE"), "{login}: {said}");
    }
    gateway.wait_log("An IdP knows a password, and its user may not come in.");
    assert_eq!(answers(&gateway, "not_admitted"), 1.0);
    let by_directory = gateway.metric("guichet_auth_decisions_total", &["source=\"directory\""]);
    assert_eq!(by_directory, 0.0, "no password of univ-a went to the directory");
    assert_eq!(gateway.metric("guichet_auth_ecp_refusals_total", &[]), 0.0, "{}", gateway.metrics());

    // At trace level, with everything that the libraries say.
    let log = gateway.log();
    let credentials = STANDARD.encode(format!("alice:{}", ALICE.idp_password));
    let typed = [ALICE.idp_password, ALICE.password, "wrong-Pw", MALLORY.idp_password];
    for secret in typed.into_iter().chain([credentials.as_str(), "AttributeStatement", "SignatureValue"]) {
        assert!(!log.contains(secret), "{secret} in the log");
    }
}

#[test]
fn the_directory_stands_in_for_a_dead_idp_and_only_for_that() {
    let mut house = house("ecp-fallback");
    // Each login asks somebody.
    let gateway = start(&house, "password_cache_ttl = \"1ms\"");
    assert!(imap(&gateway, &ALICE, ALICE.idp_password).starts_with("a OK"), "{}", gateway.log());

    house.idp_mut().kill();
    gateway.wait_idp("univ-a", "down");
    assert!(imap(&gateway, &ALICE, ALICE.password).starts_with("a OK"), "{}", gateway.log());
    assert_eq!(basic(&house, &gateway, ALICE.address, ALICE.password), 207);
    let by_fallback = gateway.metric("guichet_auth_decisions_total", &["method=\"fallback\"", "decision=\"allow\""]);
    assert_eq!(by_fallback, 2.0, "{}", gateway.metrics());
    assert!(imap(&gateway, &ALICE, ALICE.idp_password).starts_with("a NO [AUTHENTICATIONFAILED]"));
    // Staff only on an operator's word; and nobody calls their password wrong meanwhile.
    for password in [BOB.password, BOB.idp_password] {
        assert!(imap(&gateway, &BOB, password).starts_with("a NO [UNAVAILABLE]"), "{password}");
    }
    assert_eq!(basic(&house, &gateway, BOB.address, BOB.password), 503);
    gateway.ctl_ok(&["idp", "force", "univ-a", "down", "--for", "10m", "--reason", "planned work"]);
    assert!(imap(&gateway, &BOB, BOB.password).starts_with("a OK"), "{}", gateway.log());
    gateway.ctl_ok(&["idp", "release", "univ-a"]);

    house.idp_mut().restart();
    gateway.wait_idp("univ-a", "up");
    wait::until("the institution's word", || {
        imap(&gateway, &ALICE, ALICE.idp_password).starts_with("a OK").then_some(())
    });
    assert!(imap(&gateway, &ALICE, ALICE.password).starts_with("a NO [AUTHENTICATIONFAILED]"));
}

#[test]
fn an_idp_that_hangs_is_try_later_until_its_outage_is_proven() {
    let house = house("ecp-hang");
    let settings = house.settings("gateway").with("[tenant.univ-a.idp.saml.ecp]\nusername = \"local_part\"\n");
    // No outage is ever proven here.
    let gateway = house.start(settings.availability("failures_to_down = 1000\ndown_after = \"1d\""));
    gateway.wait_idp("univ-a", "up");
    house.idp().freeze();
    for password in [ALICE.idp_password, ALICE.password, "wrong-Pw"] {
        let said = imap(&gateway, &ALICE, password);
        assert!(said.starts_with("a NO [UNAVAILABLE]"), "{password}: {said}");
    }
    assert_eq!(basic(&house, &gateway, ALICE.address, ALICE.idp_password), 503);
    house.idp().thaw();
    assert_eq!(answers(&gateway, "unavailable"), 4.0);
    wait::until("it answers again", || imap(&gateway, &ALICE, ALICE.idp_password).starts_with("a OK").then_some(()));
}

/// The one answer that a real IdP gives wrong, by its own fault: right password, and a signature that does not hold.
#[test]
fn a_right_password_with_a_signature_that_does_not_hold_opens_nothing() {
    let house = House::with_idp("ecp-unverified");
    let gateway = start(&house, "");
    let said = imap(&gateway, &ALICE, ALICE.idp_password);
    assert!(said.starts_with("a NO [UNAVAILABLE]"), "{said}");
    assert_eq!(answers_of_the_idp(&house), 1, "the IdP knows the password");
    assert_eq!((answers(&gateway, "refused"), answers(&gateway, "known")), (1.0, 0.0));
    assert_eq!(gateway.metric("guichet_auth_ecp_refusals_total", &["kind=\"signature_invalid\""]), 1.0);
    // A wrong one is told all the same: that answer has nothing encrypted in it.
    assert!(imap(&gateway, &ALICE, "wrong-Pw").starts_with("a NO [AUTHENTICATIONFAILED]"));
}

#[test]
fn an_idp_without_the_endpoint_is_a_problem_of_the_configuration() {
    let house = house("ecp-check");
    let tables = "[tenant.univ-a.idp.saml.ecp]\n";
    let good = house.settings("good").with(tables).write();
    let check = |file: &std::path::Path| {
        let output = std::process::Command::new(guichet_tests::guichet()).args(["check", "-c"]).arg(file).output();
        let output = output.expect("guichet check");
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), told)
    };
    assert_eq!(check(&good).0, Some(0), "{}", check(&good).1);
    house.idp().offer_ecp(false);
    let (code, told) = check(&good);
    assert_eq!(code, Some(78), "{told}");
    assert!(
        told.contains("tenant.univ-a.idp.saml.ecp: the IdP's metadata has no SingleSignOnService for SOAP"),
        "{told}"
    );
}
