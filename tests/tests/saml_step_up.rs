//! What is asked of SimpleSAMLphp (a form, a fresh login, a second factor), and pages that want more than the session has.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use guichet_tests::{ALICE, Answer, BOB, Curl, Gateway, House, Person};

const MFA: &str = "https://refeds.org/profile/mfa";

static HOUSE: LazyLock<House> = LazyLock::new(|| House::with_idp("saml-step-up"));

/// Lets users in by a password; `/admin/` wants a second factor.
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let step_up = format!("[tenant.univ-a.step_up]\npaths = [\"/admin/\"]\nauthn_context = [\"{MFA}\"]\n");
    HOUSE.start(HOUSE.settings("gateway").with(&step_up))
});

/// Asks for a fresh login each time, in a form.
static FORCING: LazyLock<Gateway> = LazyLock::new(|| {
    let fallback = "[tenant.univ-a.fallback]";
    let asks = format!("binding = \"post\"\nforce_authn = true\n{fallback}");
    HOUSE.start(HOUSE.settings("forcing").instead(fallback, &asks))
});

/// Lets nobody in without a second factor.
static STRICT: LazyLock<Gateway> = LazyLock::new(|| {
    let fallback = "[tenant.univ-a.fallback]";
    let asks = format!("authn_context = [\"{MFA}\"]\n{fallback}");
    HOUSE.start(HOUSE.settings("strict").instead(fallback, &asks))
});

/// One test at a time decides what the IdP says of a login.
fn idp_says(context: Option<&str>) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    HOUSE.idp().says_context(context);
    turn
}

/// Fills in the login form that the browser stands before.
fn fill(browser: &Curl, page: &Answer, person: &Person) -> Answer {
    let state = page.field("AuthState").unwrap_or_else(|| panic!("no login form at the IdP:\n{page:?}"));
    let action = page.url.split('?').next().expect("a URL").to_owned();
    let form = [("username", person.idp_login), ("password", person.idp_password), ("AuthState", state.as_str())];
    browser.post_following(&action, &form)
}

/// Goes to a guarded page as far as the IdP's login form, which must be shown whatever session it has.
fn to_form(browser: &Curl, path: &str) -> Answer {
    let away = browser.get(&GATEWAY.url(path));
    assert_eq!(away.status, 302, "{away:?}");
    assert!(away.location().starts_with("/login/step-up?next="), "{away:?}");
    let idp = browser.get(&GATEWAY.url(away.location()));
    assert_eq!(idp.status, 302, "{idp:?}");
    let form = browser.get_following(idp.location());
    assert!(form.body.contains("AuthState"), "the IdP did not ask again:\n{form:?}");
    form
}

fn identity(browser: &Curl, path: &str) -> serde_json::Value {
    let answer = browser.get(&GATEWAY.url(path));
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str::<serde_json::Value>(&answer.body).expect("JSON")["identity"].clone()
}

fn step_ups(result: &str) -> f64 {
    GATEWAY.metric("guichet_step_up_total", &["tenant=\"univ-a\"", &format!("result=\"{result}\"")])
}

fn refusals(gateway: &Gateway, kind: &str) -> f64 {
    gateway.metric("guichet_saml_refusals_total", &[&format!("kind=\"{kind}\"")])
}

#[test]
fn a_page_that_wants_a_second_factor_asks_again_and_the_new_session_takes_the_place_of_the_old() {
    let _turn = idp_says(None);
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(&GATEWAY, &browser, &ALICE).status, 303);
    let before = identity(&browser, "/mail");
    assert_eq!(before["acr"], "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "{before}");
    let old = browser.copy();

    // The IdP asks again, but has no second factor: no answer, and nothing changed.
    let (done, refused) = (step_ups("done"), refusals(&GATEWAY, "authn_context"));
    let weak = HOUSE.to_acs(&browser, &fill(&browser, &to_form(&browser, "/admin/users?page=2"), &ALICE));
    assert_eq!(weak.status, 403, "{weak:?}");
    assert!(
        weak.body.contains("such as a second factor") && weak.body.contains("Reference for the help desk"),
        "{weak:?}"
    );
    assert_eq!(refusals(&GATEWAY, "authn_context"), refused + 1.0);
    assert_eq!(identity(&browser, "/mail")["sub"], ALICE.address);
    assert_eq!(browser.get(&GATEWAY.url("/admin/users")).status, 302);

    HOUSE.idp().says_context(Some(MFA));
    let strong = HOUSE.to_acs(&browser, &fill(&browser, &to_form(&browser, "/admin/users?page=2"), &ALICE));
    assert_eq!((strong.status, strong.location()), (303, "/admin/users?page=2"), "{strong:?}\n{}", GATEWAY.log());
    let after = identity(&browser, "/admin/users?page=2");
    assert_eq!((&after["acr"], &after["sub"]), (&MFA.into(), &ALICE.address.into()), "{after}");
    assert!(after["auth_time"].as_u64() >= before["auth_time"].as_u64(), "{before} {after}");
    assert_eq!(step_ups("done"), done + 1.0);
    assert_eq!(old.get(&GATEWAY.url("/mail")).status, 302, "the session before has ended");
}

#[test]
fn another_user_cannot_step_up_for_the_one_of_the_session() {
    let _turn = idp_says(Some("urn:oasis:names:tc:SAML:2.0:ac:classes:Password"));
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(&GATEWAY, &browser, &ALICE).status, 303);
    HOUSE.idp().says_context(Some(MFA));
    let refused = refusals(&GATEWAY, "step_up_user");
    let answer = HOUSE.to_acs(&browser, &fill(&browser, &to_form(&browser, "/admin/"), &BOB));
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(!answer.header_all("set-cookie").iter().any(|c| c.starts_with("__Host-guichet=")), "{answer:?}");
    assert_eq!(refusals(&GATEWAY, "step_up_user"), refused + 1.0);
    assert_eq!(identity(&browser, "/mail")["sub"], ALICE.address, "her session is as it was");
    assert_eq!(browser.get(&GATEWAY.url("/admin/")).status, 302);
}

#[test]
fn who_begins_at_a_guarded_page_logs_in_once() {
    let _turn = idp_says(Some(MFA));
    let browser = HOUSE.browser();
    let start = [("address", ALICE.address), ("next", "/admin/users")];
    let start = browser.post(&GATEWAY.url("/login/start"), &start);
    let page = HOUSE.idp().log_in(&browser, start.location(), ALICE.idp_login, ALICE.idp_password);
    assert_eq!(HOUSE.to_acs(&browser, &page).location(), "/admin/users");
    assert_eq!(identity(&browser, "/admin/users")["acr"], MFA);
}

#[test]
fn scripts_and_programs_are_told_and_not_sent_away() {
    let _turn = idp_says(None);
    let browser = HOUSE.browser();
    HOUSE.log_in(&GATEWAY, &browser, &ALICE);
    let script = browser.with(&["-H", "X-Requested-With: XMLHttpRequest"]).get(&GATEWAY.url("/admin/users"));
    assert_eq!((script.status, script.header("guichet-step-up")), (403, Some("required")), "{script:?}");
    let user = format!("{}:{}", ALICE.address, ALICE.password);
    let program = HOUSE.program().ask(&GATEWAY.url("/%61dmin/users"), &["--path-as-is", "--user", &user]);
    assert_eq!((program.status, program.header("guichet-step-up")), (403, Some("impossible")), "{program:?}");
}

#[test]
fn a_request_travels_in_a_form_and_asks_again_whatever_session_the_idp_has() {
    let _turn = idp_says(None);
    let browser = HOUSE.browser();
    for _ in 0..2 {
        let start = browser.post(&FORCING.url("/login/start"), &[("address", ALICE.address), ("next", "/mail")]);
        assert_eq!(start.status, 200, "{start:?}");
        // By its one line of script, or by its button.
        assert!(start.body.contains("<script>document.forms[0].submit()</script>"), "{}", start.body);
        assert!(start.body.contains("<button>Continue to your institution</button>"), "{}", start.body);
        let (request, relay) = (start.field("SAMLRequest").expect("a request"), start.field("RelayState"));
        let form = [("SAMLRequest", request.as_str()), ("RelayState", relay.as_deref().unwrap_or_default())];
        let asked = browser.post_following(&start.form_action().expect("a form"), &form);
        // The second time as well: the IdP knows this browser by then.
        let entered = HOUSE.to_acs(&browser, &fill(&browser, &asked, &ALICE));
        assert_eq!((entered.status, entered.location()), (303, "/mail"), "{entered:?}\n{}", FORCING.log());
        browser.post(&FORCING.url("/logout"), &[("bye", "1")]);
    }
}

#[test]
fn a_tenant_that_wants_a_second_factor_takes_no_login_without() {
    let _turn = idp_says(None);
    let browser = HOUSE.browser();
    let refused = refusals(&STRICT, "authn_context");
    assert_eq!(HOUSE.log_in(&STRICT, &browser, &ALICE).status, 403);
    assert_eq!(refusals(&STRICT, "authn_context"), refused + 1.0);
    HOUSE.idp().says_context(Some(MFA));
    assert_eq!(HOUSE.log_in(&STRICT, &HOUSE.browser(), &ALICE).status, 303, "{}", STRICT.log());
}
