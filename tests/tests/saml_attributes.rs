//! From what a real IdP releases to who somebody is here: identifiers that OpenLDAP knows, requirements, pages that say
//! what is missing, and the test login of an operator.

use std::{path::PathBuf, sync::LazyLock};

use guichet_tests::{
    ALICE, Answer, BOB, Browser, Curl, Gateway, HOST, House, Settings,
    federation::{config, sign_aggregate},
};

static HOUSE: LazyLock<House> = LazyLock::new(house);
static FEDERATION: LazyLock<String> = LazyLock::new(federation);
/// Named by address; has to be of the right establishment.
static GATEWAY: LazyLock<Gateway> =
    LazyLock::new(|| HOUSE.start(settings("by-address", "require = { supannEtablissement = [\"{UAI}0350936C\"] }")));
/// Named by pairwise-id.
static BY_IDENTIFIER: LazyLock<Gateway> = LazyLock::new(|| {
    let keys = "identifier = { attribute = \"pairwise-id\", directory_attribute = \"employeeNumber\" }\n\
                affiliation_attributes = [\"eduPersonPrimaryAffiliation\", \"eduPersonScopedAffiliation\"]";
    HOUSE.start(settings("by-identifier", keys))
});

const MAIL: &str = "urn:oid:0.9.2342.19200300.100.1.3";
const ESTABLISHMENT: &str = "urn:oid:1.3.6.1.4.1.7135.1.2.1.14";
const PAIRWISE: &str = "urn:oasis:names:tc:SAML:attribute:pairwise-id";
const PRIMARY: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.5";
const ASSURANCE: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.11";
const OURS: (&str, &str) = (ESTABLISHMENT, "{UAI}0350936C");

/// Who logs in at the IdP, and what it says of them; every password is `Pw`.
const PEOPLE: [(&str, &[(&str, &str)]); 8] = [
    ("alice", &[(MAIL, ALICE.address), OURS, (ASSURANCE, "https://refeds.org/assurance/IAP/medium")]),
    ("nobody", &[OURS, ("urn:oid:2.16.840.1.113730.3.1.241", "Personne")]),
    ("neighbour", &[(MAIL, ALICE.address), (ESTABLISHMENT, "{UAI}0350936D")]),
    ("unsaid", &[(MAIL, ALICE.address)]),
    ("paired", &[(PAIRWISE, "HA7X=@univ-a.test"), (PRIMARY, "faculty")]),
    ("unknown", &[(PAIRWISE, "unknown@univ-a.test")]),
    ("twins", &[(PAIRWISE, "twins@univ-a.test")]),
    ("foreign", &[(PAIRWISE, "ha7x=@labo-b.test")]),
];

fn house() -> House {
    let house = House::with_idp("saml-attributes");
    let mut php =
        "<?php\n$config = [\n'admin' => ['core:AdminPassword'],\n'testusers' => ['exampleauth:UserPass',\n".to_owned();
    for (login, attributes) in PEOPLE {
        let attributes: String = attributes.iter().map(|(name, value)| format!("'{name}' => ['{value}'], ")).collect();
        php.push_str(&format!("'{login}:Pw' => [{attributes}],\n"));
    }
    std::fs::write(idp_folder(&house).join("config/authsources.php"), php + "]];\n").expect("accounts");
    // Only the directory knows whom the IdP's word means.
    house.slapd.add_user(
        "paired@univ-a.test",
        "unused-Pw1",
        &["employeeNumber: ha7x=@univ-a.test", "guichetCell: beta"],
    );
    house.slapd.add_user("castor@univ-a.test", "unused-Pw2", &["employeeNumber: twins@univ-a.test"]);
    house.slapd.add_user("pollux@univ-a.test", "unused-Pw3", &["employeeNumber: twins@univ-a.test"]);
    house
}

fn idp_folder(house: &House) -> PathBuf {
    house.idp().federation_file().parent().expect("a folder").to_owned()
}

/// The federation also registered a page of help.
fn federation() -> String {
    let (idp, key) = (HOUSE.idp(), HOUSE.world.pki().saml("attributes-federation"));
    let help =
        format!("http://127.0.0.1:{}/help?code=ERRORURL_CODE&amp;tid=ERRORURL_TID&amp;ctx=ERRORURL_CTX", idp.port());
    let role = format!("<md:IDPSSODescriptor errorURL=\"{help}\" ");
    let metadata = idp.metadata().replacen("<md:IDPSSODescriptor ", &role, 1);
    assert!(metadata.contains("ERRORURL_CTX"), "{metadata}");
    let file = idp_folder(&HOUSE).join("with-help.xml");
    sign_aggregate("idp-a", &[metadata], &key, Some(7), &file);
    config("idp-a", &file, &key)
}

/// A gateway whose `univ-a` has these keys for its IdP.
fn settings(name: &str, keys: &str) -> Settings {
    let entity = format!("entity_id = \"{}\"\n", HOUSE.idp().entity_id());
    HOUSE.settings(name).instead(&HOUSE.idp().config(), &FEDERATION).instead(&entity, &format!("{entity}{keys}\n"))
}

fn log_in(gateway: &Gateway, browser: &Curl, login: &str) -> Answer {
    let url = HOUSE.to_idp(gateway, browser, ALICE.address);
    let page = HOUSE.idp().log_in(browser, &url, login, "Pw");
    HOUSE.to_acs(browser, &page)
}

fn refusals(gateway: &Gateway, kind: &str) -> f64 {
    gateway.metric("guichet_saml_refusals_total", &[&format!("kind=\"{kind}\"")])
}

fn has_session(answer: &Answer) -> bool {
    answer
        .header_all("set-cookie")
        .iter()
        .any(|cookie| cookie.starts_with("__Host-guichet=") && !cookie.contains("Max-Age=0"))
}

fn reference(answer: &Answer) -> String {
    let (_, rest) = answer.body.split_once("<strong class=\"reference\">").expect("a reference");
    rest.split('<').next().expect("text").to_owned()
}

#[test]
fn an_idp_that_names_nobody_is_told_which_attribute_is_missing() {
    let browser = HOUSE.browser();
    let answer = log_in(&GATEWAY, &browser, "nobody");
    assert_eq!((answer.status, has_session(&answer)), (403, false), "{answer:?}");
    let reference = reference(&answer);
    for words in [
        "One of these attributes is needed:",
        "<code translate=\"no\">mail</code>",
        "<code translate=\"no\">eduPersonPrincipalName</code>",
        "assistance@univ-a.test",
        "Send this page to the help desk of your institution",
    ] {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    let help = format!("help?code=IDENTIFICATION_FAILURE&#38;tid={reference}&#38;ctx=mail%20eduPersonPrincipalName");
    assert!(answer.body.contains(&help), "{help}: {}", answer.body);
    assert!(!answer.body.contains("Personne") && !answer.body.contains("address_missing"), "{}", answer.body);
    let line = GATEWAY.wait_log(&reference);
    assert!(line.contains("address_missing"), "the reason is in the log: {line}");
    assert!(refusals(&GATEWAY, "address_missing") >= 1.0);
}

#[test]
fn the_same_page_speaks_french() {
    let browser = HOUSE.browser();
    let url = HOUSE.to_idp(&GATEWAY, &browser, ALICE.address);
    let page = HOUSE.idp().log_in(&browser, &url, "nobody", "Pw");
    let fields = [("SAMLResponse", page.field("SAMLResponse")), ("RelayState", page.field("RelayState"))];
    let fields = fields.map(|(name, value)| (name, value.expect("a field")));
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = browser.post(&GATEWAY.url("/saml/acs?lang=fr"), &fields);
    assert_eq!(answer.status, 403);
    for words in
        ["<html lang=\"fr\">", "Il faut l’un de ces attributs", "<code translate=\"no\">mail</code>", "Assistance :"]
    {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
}

#[test]
fn people_of_another_house_with_the_same_idp_stay_outside() {
    assert!(has_session(&log_in(&GATEWAY, &HOUSE.browser(), "alice")));
    for login in ["neighbour", "unsaid"] {
        let answer = log_in(&GATEWAY, &HOUSE.browser(), login);
        assert_eq!((answer.status, has_session(&answer)), (403, false), "{login}");
        assert!(
            answer.body.contains("supannEtablissement") && answer.body.contains("AUTHORIZATION_FAILURE"),
            "{}",
            answer.body
        );
        assert!(answer.body.contains("Choose another institution"), "{}", answer.body);
        assert!(!answer.body.contains("0350936"), "neither what was sent nor what is wanted: {}", answer.body);
    }
    assert!(refusals(&GATEWAY, "requirement") >= 2.0);
}

#[test]
fn the_directory_knows_whose_an_identifier_is() {
    let browser = HOUSE.browser();
    let answer = log_in(&BY_IDENTIFIER, &browser, "paired");
    assert_eq!((answer.status, has_session(&answer)), (303, true), "{answer:?}\n{}", BY_IDENTIFIER.log());
    let told: serde_json::Value = serde_json::from_str(&browser.get(&BY_IDENTIFIER.url("/mail")).body).expect("JSON");
    assert_eq!(told["identity"]["sub"], "paired@univ-a.test");
    assert_eq!(told["identity"]["category"], "staff", "by eduPersonPrimaryAffiliation");
    assert_eq!(told["cell"], "beta", "the directory's word");
}

#[test]
fn an_identifier_of_nobody_of_several_or_of_another_scope_opens_nothing() {
    for (login, kind) in [
        ("unknown", "identifier_unknown"),
        ("twins", "identifier_ambiguous"),
        ("foreign", "scope"),
        ("alice", "identifier_missing"),
    ] {
        let before = refusals(&BY_IDENTIFIER, kind);
        let answer = log_in(&BY_IDENTIFIER, &HOUSE.browser(), login);
        assert_eq!((answer.status, has_session(&answer)), (403, false), "{login}: {answer:?}");
        assert_eq!(refusals(&BY_IDENTIFIER, kind), before + 1.0, "{login}: {}", BY_IDENTIFIER.log());
    }
}

#[test]
fn a_directory_that_is_silent_calls_nobody_unknown() {
    let house = House::new("saml-attributes-silent");
    let slapd = house.slapd.config(house.slapd.port());
    let mine = HOUSE.slapd.config(HOUSE.slapd.port());
    let keys = "identifier = { attribute = \"pairwise-id\", directory_attribute = \"employeeNumber\" }";
    let gateway = HOUSE.start(settings("silent", keys).instead(&mine, &slapd));
    assert_eq!(log_in(&gateway, &HOUSE.browser(), "paired").status, 403, "this directory has no such user");
    house.slapd.freeze();
    let answer = log_in(&gateway, &HOUSE.browser(), "paired");
    assert_eq!((answer.status, has_session(&answer)), (503, false), "{answer:?}");
    assert!(answer.body.contains("Please try again later"), "{}", answer.body);
    assert_eq!(refusals(&gateway, "identifier_unknown"), 1.0, "{}", gateway.log());
}

#[test]
fn an_operators_test_login_shows_everything_and_opens_nothing() {
    let gateway = HOUSE.start(settings("tested", "require = { supannEtablissement = [\"{UAI}0350936C\"] }"));
    let told = gateway.ctl_ok(&["saml", "test", "univ-a"]);
    let link = told.lines().next().expect("a link").to_owned();
    assert!(link.starts_with(&gateway.url("/login/test?ticket=")), "{told}");
    gateway.wait_log("An operator made a link for a test login.");

    let browser = HOUSE.browser();
    let page = HOUSE.idp().log_in(&browser, &link, "alice", "Pw");
    let answer = HOUSE.to_acs(&browser, &page);
    assert_eq!((answer.status, has_session(&answer)), (200, false), "{answer:?}");
    for words in [
        "All is well: this login would open a session.",
        "no session was opened",
        ALICE.address,
        "https://refeds.org/assurance/IAP/medium",
        "urn:oasis:names:tc:SAML:2.0:ac:classes:",
        "<code>urn:oid:0.9.2342.19200300.100.1.3</code>",
        "requirements",
    ] {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    assert!(!answer.body.contains("FAILED"), "{}", answer.body);
    assert_eq!(browser.get(&gateway.url("/")).status, 302, "no session");

    let browser = HOUSE.browser();
    let page = HOUSE.idp().log_in(&browser, &link, "neighbour", "Pw");
    let before = browser.copy();
    let answer = HOUSE.to_acs(&browser, &page);
    assert_eq!((answer.status, has_session(&answer)), (200, false));
    assert!(answer.body.contains("This login would be refused."), "{}", answer.body);
    assert!(answer.body.contains("supannEtablissement has none of the values required"), "{}", answer.body);
    assert_eq!(HOUSE.to_acs(&before, &page).status, 200, "and again, for it opens nothing");
    assert_eq!(gateway.metric("guichet_saml_logins_total", &["result=\"tested\""]), 3.0, "{}", gateway.metrics());
    assert_eq!(gateway.metric("guichet_saml_refusals_total", &[]), 0.0, "no refusal: {}", gateway.metrics());
}

#[test]
fn a_test_needs_a_link_that_we_made() {
    let told = BY_IDENTIFIER.ctl_ok(&["saml", "test", "univ-a"]);
    let link = told.lines().next().expect("a link");
    let (browser, changed) =
        (HOUSE.browser(), format!("{}x", link.strip_suffix(char::is_alphanumeric).unwrap_or(link)));
    for wrong in [BY_IDENTIFIER.url("/login/test"), BY_IDENTIFIER.url("/login/test?ticket=1.a.b"), changed] {
        let answer = browser.get(&wrong);
        assert_eq!((answer.status, answer.header("location")), (403, None), "{wrong}: {answer:?}");
        assert!(answer.body.contains("Ask the operator for a new link."), "{}", answer.body);
    }
    let output = BY_IDENTIFIER.ctl(&["saml", "test", "labo-b"]);
    assert_eq!(output.status.code(), Some(1), "it has no IdP");
    assert_eq!(browser.get(link).status, 302, "and this one leads to the IdP");
}

#[test]
fn an_idp_that_counts_as_down_can_be_tested() {
    let gateway = HOUSE.start(settings("forced-down", ""));
    gateway.ctl_ok(&["idp", "force", "univ-a", "down", "--for", "10m", "--reason", "story"]);
    let browser = HOUSE.browser();
    let typed = browser.post(&gateway.url("/login/start"), &[("address", BOB.address), ("next", "/")]);
    assert_eq!(typed.status, 200, "others are offered the directory's password: {typed:?}");
    let told = gateway.ctl_ok(&["saml", "test", "univ-a"]);
    let page = HOUSE.idp().log_in(&browser, told.lines().next().expect("a link"), "alice", "Pw");
    let answer = HOUSE.to_acs(&browser, &page);
    assert!(answer.status == 200 && answer.body.contains("All is well"), "{answer:?}");
}

#[test]
fn the_pages_as_people_see_them() {
    let link = GATEWAY.ctl_ok(&["saml", "test", "univ-a"]);
    let link = link.lines().next().expect("a link").to_owned();
    for language in ["fr", "en"] {
        let browser = Browser::open(&HOUSE.world, HOST, language);
        let at_idp = |login: &str| {
            browser.wait_url(&format!("http://127.0.0.1:{}/", HOUSE.idp().port()));
            browser.fill("input[name=username]", login);
            browser.fill("input[name=password]", "Pw");
            browser.click("button[type=submit], input[type=submit]");
            browser.wait_url(&GATEWAY.url("/saml/acs"));
        };
        browser.goto(&GATEWAY.url("/login/start?tenant=univ-a"));
        at_idp("nobody");
        browser.wait_text("eduPersonPrincipalName");
        browser.screenshot(&format!("refused-attribute-{language}"));
        assert!(browser.has("main code") && browser.has("main ul"));
    }
    for (language, login) in [("fr", "neighbour"), ("en", "alice")] {
        let browser = Browser::open(&HOUSE.world, HOST, language);
        browser.goto(&link);
        browser.wait_url(&format!("http://127.0.0.1:{}/", HOUSE.idp().port()));
        browser.fill("input[name=username]", login);
        browser.fill("input[name=password]", "Pw");
        browser.click("button[type=submit], input[type=submit]");
        browser.wait_url(&GATEWAY.url("/saml/acs"));
        browser.wait_text("supannEtablissement");
        browser.screenshot(&format!("test-login-{language}"));
    }
}
