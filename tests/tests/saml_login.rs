//! Logging in through SimpleSAMLphp, which signs the Response and encrypts the assertion, and everything that must not work.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{ALICE, Answer, BOB, ERIN, GHOST, Gateway, House, MALLORY, saml, wait};

static HOUSE: LazyLock<House> = LazyLock::new(|| House::with_idp("saml-login"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| HOUSE.gateway("gateway"));

/// A refused login: a page that says so, no session, the check that failed in the metrics, no reason on the page.
fn assert_refused(answer: &Answer, kinds: &[&str]) {
    assert_eq!(answer.status, 403, "{answer:?}");
    let cookies = answer.header_all("set-cookie");
    assert!(!cookies.iter().any(|c| c.starts_with("__Host-guichet=") && !c.contains("Max-Age=0")), "{cookies:?}");
    assert!(answer.body.contains("Reference for the help desk"), "{}", answer.body);
    let count = |kind: &&str| GATEWAY.metric("guichet_saml_refusals_total", &[&format!("kind=\"{kind}\"")]);
    assert!(kinds.iter().map(count).sum::<f64>() >= 1.0, "none of {kinds:?}:\n{}", GATEWAY.metrics());
}

fn decoded(page: &Answer) -> String {
    let response = page.field("SAMLResponse").expect("a Response");
    String::from_utf8(STANDARD.decode(response.replace(['\r', '\n'], "")).expect("base64")).expect("UTF-8")
}

fn post(browser: &guichet_tests::Curl, page: &Answer, xml: &str) -> Answer {
    let relay = page.field("RelayState").unwrap_or_default();
    browser.post(&GATEWAY.url("/saml/acs"), &[("SAMLResponse", &STANDARD.encode(xml)), ("RelayState", &relay)])
}

#[test]
fn a_user_logs_in_and_the_cell_is_told_who_it_is() {
    let browser = HOUSE.browser();
    let first = browser.get(&GATEWAY.url("/mail?folder=inbox"));
    assert_eq!((first.status, first.location()), (302, "/login?next=%2Fmail%3Ffolder%3Dinbox"));
    let chooser = browser.get(&GATEWAY.url(first.location()));
    assert!(chooser.body.contains("Your email address") && chooser.body.contains("University A"), "{chooser:?}");

    let start = [("address", ALICE.address), ("next", "/mail?folder=inbox")];
    let start = browser.post(&GATEWAY.url("/login/start"), &start);
    let page = HOUSE.idp().log_in(&browser, start.location(), ALICE.idp_login, ALICE.idp_password);
    let xml = decoded(&page);
    assert!(xml.contains("EncryptedAssertion") && !xml.contains(ALICE.address), "the assertion is encrypted");
    let entered = HOUSE.to_acs(&browser, &page);
    assert_eq!((entered.status, entered.location()), (303, "/mail?folder=inbox"), "{entered:?}\n{}", GATEWAY.log());
    let cookie =
        entered.header_all("set-cookie").into_iter().find(|c| c.starts_with("__Host-guichet=")).expect("session");
    for flag in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    let told = browser.get(&GATEWAY.url("/mail?folder=inbox"));
    assert_eq!(told.status, 200);
    let told: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
    assert_eq!(told["identity"]["sub"], ALICE.address);
    assert_eq!(told["identity"]["tenant"], "univ-a");
    assert_eq!(told["identity"]["category"], "student");
    assert_eq!((&told["identity"]["aud"], &told["cell"]), (&"alpha".into(), &"alpha".into()));
    assert!(!told["headers"].to_string().contains("__Host-guichet"), "our cookies are not the cell's business");
}

#[test]
fn the_directory_places_a_user_known_by_saml() {
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(&GATEWAY, &browser, &BOB).status, 303);
    let page = browser.get(&GATEWAY.url("/")).body;
    assert!(page.contains("Mailbox of bob@univ-a.test") && page.contains("cell beta"), "{page}");
}

#[test]
fn the_idp_reads_our_metadata_and_demands_our_signature() {
    let browser = HOUSE.browser();
    let url = HOUSE.to_idp(&GATEWAY, &browser, ALICE.address);
    assert!(url.starts_with(&HOUSE.idp().entity_id().replace("metadata.php", "SSOService.php?")), "{url}");
    assert!(url.contains("&SigAlg=") && url.contains("&Signature="), "{url}");
    let unsigned = url.split("&SigAlg=").next().expect("a URL");
    assert!(!browser.get_following(unsigned).body.contains("AuthState"), "the IdP took an unsigned request");
    assert!(browser.get_following(&url).body.contains("AuthState"), "and the signed one is good");
}

#[test]
fn a_session_of_the_idp_needs_no_second_password() {
    let browser = HOUSE.browser();
    HOUSE.log_in(&GATEWAY, &browser, &ALICE);
    assert!(browser.get(&GATEWAY.url("/")).body.contains("Mailbox of alice@univ-a.test"));
    // The browser does not go on to the IdP, which hears of no logout.
    let out = browser.post(&GATEWAY.url("/logout"), &[("bye", "1")]);
    assert!(out.status == 303 && out.location().contains("SingleLogoutService.php?"), "{out:?}");
    assert_eq!(browser.get(&GATEWAY.url("/")).status, 302);
    let again = browser.get_following(&HOUSE.to_idp(&GATEWAY, &browser, ALICE.address));
    assert_eq!(HOUSE.to_acs(&browser, &again).status, 303);
    assert_eq!(browser.get(&GATEWAY.url("/")).status, 200);
}

#[test]
fn a_stolen_session_cookie_ends_with_the_logout() {
    let browser = HOUSE.browser();
    HOUSE.log_in(&GATEWAY, &browser, &ALICE);
    let thief = browser.copy();
    assert_eq!(thief.get(&GATEWAY.url("/")).status, 200);
    browser.post(&GATEWAY.url("/logout"), &[("bye", "1")]);
    assert_eq!(thief.get(&GATEWAY.url("/")).status, 302);
}

#[test]
fn a_replayed_response_is_refused() {
    let browser = HOUSE.browser();
    let page = HOUSE.at_idp(&GATEWAY, &browser, &ALICE);
    let before = browser.copy();
    assert_eq!(HOUSE.to_acs(&browser, &page).status, 303);
    assert_refused(&HOUSE.to_acs(&before, &page), &["replay"]);
}

#[test]
fn a_tampered_response_is_refused() {
    let browser = HOUSE.browser();
    let page = HOUSE.at_idp(&GATEWAY, &browser, &ALICE);
    let xml = decoded(&page);
    // One character of the ciphertext, the destination, the signature itself, and the signature gone.
    let cipher = xml.rfind("CipherValue>").expect("ciphertext") - 40;
    let mut flipped = xml.clone();
    let other = if flipped.as_bytes().get(cipher) == Some(&b'A') { "B" } else { "A" };
    flipped.replace_range(cipher..=cipher, other);
    let unsigned = {
        let start = xml.find("<ds:Signature ").or_else(|| xml.find("<ds:Signature>")).expect("signature");
        let end = xml.find("</ds:Signature>").expect("end of signature") + "</ds:Signature>".len();
        format!("{}{}", xml.get(..start).expect("before"), xml.get(end..).expect("behind"))
    };
    let moved = xml.replacen("IssueInstant=\"2", "IssueInstant=\"3", 1);
    for (what, forged) in [("ciphertext", flipped), ("unsigned", unsigned), ("instant", moved)] {
        let answer = post(&browser.copy(), &page, &forged);
        assert_eq!(answer.status, 403, "{what}: {answer:?}");
    }
    assert_refused(
        &post(&browser.copy(), &page, &xml.replace("samlp:Response", "samlp:Respons")),
        &["signature", "xml", "not_a_response", "shape", "structure"],
    );
    assert_eq!(HOUSE.to_acs(&browser, &page).status, 303, "and the genuine one is still good");
}

#[test]
fn xml_that_is_none_is_refused() {
    let browser = HOUSE.browser();
    let page = HOUSE.at_idp(&GATEWAY, &browser, &ALICE);
    let bomb = "<!DOCTYPE a [<!ENTITY b \"b\"><!ENTITY c \"&b;&b;&b;\">]><samlp:Response>&c;</samlp:Response>";
    let deep = format!("{}{}", "<a>".repeat(500), "</a>".repeat(500));
    for xml in ["", "no xml", bomb, &deep, "<a", "\u{feff}<a/>"] {
        assert_eq!(post(&browser.copy(), &page, xml).status, 403, "{xml:.40}");
    }
    let not_base64 = [("SAMLResponse", "%%%"), ("RelayState", &page.field("RelayState").expect("relay state"))];
    assert_eq!(browser.copy().post(&GATEWAY.url("/saml/acs"), &not_base64).status, 403);
}

#[test]
fn an_unsolicited_response_is_refused() {
    let browser = HOUSE.browser();
    HOUSE.log_in(&GATEWAY, &browser, &ALICE);
    let sp = GATEWAY.url("/saml");
    let url = HOUSE.idp().entity_id().replace("metadata.php", "SSOService.php");
    let relay = "https://evil.test/";
    let page = browser.get_following(&format!("{url}?spentityid={sp}&RelayState={relay}"));
    assert!(page.field("SAMLResponse").is_some(), "the IdP speaks unasked: {}", page.body);
    let answer = HOUSE.to_acs(&HOUSE.browser(), &page);
    assert_refused(&answer, &["relay_state"]);
    assert!(!answer.body.contains("evil.test"));
}

#[test]
fn a_response_in_another_browser_is_refused() {
    let page = HOUSE.at_idp(&GATEWAY, &HOUSE.browser(), &ALICE);
    assert_refused(&HOUSE.to_acs(&HOUSE.browser(), &page), &["no_pending"]);
}

#[test]
fn a_response_to_one_request_does_not_answer_another() {
    let browser = HOUSE.browser();
    let first = HOUSE.at_idp(&GATEWAY, &browser, &ALICE);
    let second = browser.get_following(&HOUSE.to_idp(&GATEWAY, &browser, ALICE.address));
    let mixed = [
        ("SAMLResponse", first.field("SAMLResponse").expect("first")),
        ("RelayState", second.field("RelayState").expect("second")),
    ];
    let mixed: Vec<(&str, &str)> = mixed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_refused(&browser.copy().post(&GATEWAY.url("/saml/acs"), &mixed), &["in_response_to"]);
    assert_eq!(HOUSE.to_acs(&browser, &first).status, 303, "two tabs: the first is not lost");
}

#[test]
fn an_idp_speaks_only_for_its_own_scope() {
    let answer = HOUSE.log_in(&GATEWAY, &HOUSE.browser(), &MALLORY);
    assert_refused(&answer, &["scope", "address", "no_address", "domain"]);
    assert!(!answer.body.contains(MALLORY.address));
}

#[test]
fn someone_whose_account_is_closed_gets_no_session() {
    let answer = HOUSE.log_in(&GATEWAY, &HOUSE.browser(), &ERIN);
    assert_refused(&answer, &["account"]);
    assert!(answer.body.contains("no active mailbox"), "{}", answer.body);
}

#[test]
fn someone_the_directory_does_not_know_goes_to_the_tenants_cell() {
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(&GATEWAY, &browser, &GHOST).status, 303);
    let page = browser.get(&GATEWAY.url("/")).body;
    assert!(page.contains("Mailbox of ghost@univ-a.test") && page.contains("cell alpha"), "{page}");
}

#[test]
fn a_login_leads_nowhere_but_to_our_own_host() {
    for next in ["https://evil.test/", "//evil.test/", "/\\evil.test", "/login"] {
        let browser = HOUSE.browser();
        let start = browser.post(&GATEWAY.url("/login/start"), &[("address", ALICE.address), ("next", next)]);
        let page = HOUSE.idp().log_in(&browser, start.location(), ALICE.idp_login, ALICE.idp_password);
        assert_eq!(HOUSE.to_acs(&browser, &page).location(), "/", "{next}");
    }
}

#[test]
fn a_restart_forgets_neither_sessions_nor_used_responses() {
    let mut gateway = HOUSE.gateway("restarted");
    let (browser, other) = (HOUSE.browser(), HOUSE.browser());
    assert_eq!(HOUSE.log_in(&gateway, &browser, &ALICE).status, 303);
    let page = HOUSE.at_idp(&gateway, &other, &ALICE);
    let before = other.copy();
    assert_eq!(HOUSE.to_acs(&other, &page).status, 303);
    gateway.restart();
    assert_eq!(browser.get(&gateway.url("/")).status, 200, "the session is in the cookie");
    assert_eq!(HOUSE.to_acs(&before, &page).status, 403, "the marker is on disk");
    wait::until("the refusal counted", || {
        (gateway.metric("guichet_saml_refusals_total", &["kind=\"replay\""]) >= 1.0).then_some(())
    });
}

#[test]
fn two_nodes_that_share_keys_but_no_store_each_take_a_response_once_and_only_from_the_browser_that_asked() {
    let settings = HOUSE.settings("first-node");
    let [second, stranger] = ["second-node", "stranger-node"].map(|name| settings.twin(&HOUSE.world, name));
    let mut first = HOUSE.start(settings);
    // The keys of the cookies are in the state: a node set up from a copy of it can open what the first one sealed.
    first.daemon().kill();
    std::fs::create_dir(second.dir().join("state")).expect("state folder");
    std::fs::copy(first.dir().join("state/guichet.redb"), second.dir().join("state/guichet.redb")).expect("the state");
    first.restart();
    let (second, stranger) = (second.start(&HOUSE.world), stranger.start(&HOUSE.world));

    let browser = HOUSE.browser();
    let page = HOUSE.at_idp(&first, &browser, &ALICE);
    let before = browser.copy();
    assert_eq!(HOUSE.to_acs(&browser, &page).status, 303);
    saml::assert_refused(&first, &HOUSE.to_acs(&before, &page), "replay");
    let response = page.field("SAMLResponse").expect("a Response");
    let relay_state = page.field("RelayState").expect("a RelayState");
    let form = [("SAMLResponse", response.as_str()), ("RelayState", relay_state.as_str())];
    let post_to = |node: &Gateway, browser: &guichet_tests::Curl| browser.post(&node.url("/saml/acs"), &form);
    saml::assert_refused(&second, &post_to(&second, &HOUSE.browser()), "no_pending");
    saml::assert_refused(&stranger, &post_to(&stranger, &before.copy()), "pending_ended");
    // What docs/threat-model.md says: the markers of used Responses are each node's own.
    assert_eq!(post_to(&second, &before.copy()).status, 303);
    saml::assert_refused(&second, &post_to(&second, &before.copy()), "replay");
}
