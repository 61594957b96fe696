//! SimpleSAMLphp in its manners, and an identity provider that changes its key: logins work before, between and after, and
//! no key counts that the federation does not publish.

use std::sync::LazyLock;

use guichet_tests::{
    Answer, Curl, Gateway, House, Login, Manner, SimpleSaml,
    saml::{assert_enters, assert_refused, decoded, post, tenant, tenant_of, to_login_form},
    wait,
};

const SIMON: Login<'_> =
    Login { login: "simon", password: "garfunkel-Pw1", address: "simon@univ-s.test", affiliation: "staff@univ-s.test" };

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("saml-idp-changes"));

/// An IdP of such manners and a gateway that knows it; `more` are keys of the tenant's IdP.
fn pair(name: &str, manner: Manner, more: &str) -> (SimpleSaml, Gateway) {
    let idp = SimpleSaml::start_with(&HOUSE.world, name, &["univ-s.test"], &[SIMON], manner);
    let federation = format!("{}refresh = \"1s\"\n", idp.config());
    let settings = HOUSE.settings(&format!("{name}-gateway")).saml_with(&HOUSE.world, &federation);
    let gateway = settings.with(&tenant(tenant_of(&SIMON), &idp.entity_id(), more)).start(&HOUSE.world);
    gateway.register_at(&HOUSE.world, &idp);
    (idp, gateway)
}

/// The page that posts the Response.
fn answer_of_idp(idp: &SimpleSaml, gateway: &Gateway, browser: &Curl) -> Answer {
    let form = to_login_form(gateway, browser, SIMON.address);
    idp.sign_in(browser, &form, SIMON.login, SIMON.password)
}

#[track_caller]
fn assert_login(idp: &SimpleSaml, gateway: &Gateway) {
    let browser = HOUSE.browser();
    assert_enters(gateway, &browser, &answer_of_idp(idp, gateway, &browser), SIMON.address);
}

#[track_caller]
fn assert_no_login(idp: &SimpleSaml, gateway: &Gateway, kind: &str) {
    let browser = HOUSE.browser();
    assert_refused(gateway, &post(&browser, &answer_of_idp(idp, gateway, &browser)), kind);
}

#[test]
fn an_idp_that_signs_both_and_encrypts_nothing_is_understood() {
    let manner = Manner { sign_assertion: true, encrypt: false, ..Manner::default() };
    let (idp, gateway) = pair("both", manner, "");
    let browser = HOUSE.browser();
    let page = answer_of_idp(&idp, &gateway, &browser);
    assert_eq!(decoded(&page).matches("<ds:SignatureValue>").count(), 2, "{}", decoded(&page));
    assert_enters(&gateway, &browser, &page, SIMON.address);
}

#[test]
fn an_idp_that_signs_the_assertion_only_needs_the_tenants_word() {
    let manner = Manner { sign_response: false, sign_assertion: true, encrypt: false, ..Manner::default() };
    let (idp, gateway) = pair("assertion", manner, "assertion_signature_only = true");
    assert_login(&idp, &gateway);
    let (idp, gateway) = pair("assertion-strict", manner, "");
    assert_no_login(&idp, &gateway, "response_unsigned");
}

#[test]
fn an_idp_that_signs_nothing_is_refused_whatever_the_tenant_says() {
    let manner = Manner { sign_response: false, encrypt: false, ..Manner::default() };
    let (idp, gateway) = pair("unsigned", manner, "assertion_signature_only = true");
    assert_no_login(&idp, &gateway, "unsigned");
}

#[test]
fn an_idp_without_a_redirect_endpoint_gets_a_signed_form() {
    let (idp, gateway) = pair("post-only", Manner { post_only: true, ..Manner::default() }, "");
    assert!(
        !idp.metadata().contains("<md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Red")
    );
    let browser = HOUSE.browser();
    let start = browser.post(&gateway.url("/login/start"), &[("address", SIMON.address), ("next", "/")]);
    assert_eq!(start.status, 200, "{start:?}");
    assert_eq!(start.form_action(), Some(idp.entity_id().replace("metadata.php", "SSOService.php")));
    let unsigned = {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let request = start.field("SAMLRequest").expect("a request");
        let xml = String::from_utf8(BASE64_STANDARD.decode(request).expect("base64")).expect("UTF-8");
        let (head, rest) = xml.split_once("<ds:Signature").expect("a signature");
        let (_, tail) = rest.split_once("</ds:Signature>").expect("its end");
        BASE64_STANDARD.encode(format!("{head}{tail}"))
    };
    let relay_state = start.field("RelayState").expect("a RelayState");
    let form = [("SAMLRequest", unsigned.as_str()), ("RelayState", relay_state.as_str())];
    let refused = browser.post_following(&start.form_action().expect("a form"), &form);
    assert!(!refused.body.contains("AuthState"), "the IdP took an unsigned request: {refused:?}");
    assert_login(&idp, &gateway);
}

#[test]
fn an_idp_changes_its_key_and_nobody_is_locked_out() {
    let (idp, gateway) = pair("rollover", Manner::default(), "");
    let [next, stranger] = ["rollover-next", "rollover-stranger"].map(|name| HOUSE.world.pki().saml(name));
    let first = idp.first_key();
    assert_login(&idp, &gateway);

    idp.use_keys(first, Some(&next));
    publish(&idp, &gateway, 8);
    assert_login(&idp, &gateway);
    idp.use_keys(&next, None);
    assert_login(&idp, &gateway);
    // A server of the institution that has not followed yet.
    idp.use_keys(first, None);
    assert_login(&idp, &gateway);

    idp.use_keys(&next, None);
    publish(&idp, &gateway, 9);
    assert_login(&idp, &gateway);
    for gone in [first, &stranger] {
        idp.use_keys(gone, None);
        assert_no_login(&idp, &gateway, "signature_invalid");
    }
    publish(&idp, &gateway, 10);
    assert_login(&idp, &gateway);
}

/// The federation publishes what the IdP publishes now, good for `days`, and the gateway has read it.
fn publish(idp: &SimpleSaml, gateway: &Gateway, days: u32) {
    let end = || gateway.metric("guichet_saml_metadata_not_after_seconds", &["\"rollover\""]);
    let before = end();
    idp.publish(days);
    wait::until("the gateway has the new document", || (end() > before).then_some(()));
}
