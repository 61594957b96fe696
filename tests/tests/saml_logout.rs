//! Single logout with SimpleSAMLphp, begun at either side: what ends, what goes on, and what must not count.

use std::{path::PathBuf, process::Command, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{ALICE, Answer, BOB, Curl, Gateway, House, Person, run, wait};

static HOUSE: LazyLock<House> = LazyLock::new(|| House::with_idp("saml-logout"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let settings = HOUSE.settings("gateway");
    HOUSE.start(settings.instead("[tenant.univ-a.fallback]", "logout_ends_mail = true\n[tenant.univ-a.fallback]"))
});

fn logged_in(person: &Person) -> Curl {
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(&GATEWAY, &browser, person).status, 303);
    assert!(is_in(&browser));
    browser
}

fn is_in(browser: &Curl) -> bool {
    browser.get(&GATEWAY.url("/")).status == 200
}

/// Whether the IdP asks for the password at the next login.
fn idp_asks(browser: &Curl) -> bool {
    let page = browser.get_following(&HOUSE.to_idp(&GATEWAY, browser, ALICE.address));
    let asks = page.body.contains("name=\"AuthState\"");
    assert!(asks || page.field("SAMLResponse").is_some(), "{page:?}");
    asks
}

fn refusals(kind: &str) -> f64 {
    GATEWAY.metric("guichet_saml_logout_refusals_total", &[&format!("kind=\"{kind}\"")])
}

/// Where the IdP sends a browser that logs out there: its page for that, up to our own.
fn sent_by_idp(browser: &Curl) -> String {
    let page = HOUSE.idp().entity_id();
    let mut url = format!("{}?RelayState={page}", page.replace("metadata.php", "initSLO.php"));
    for _ in 0..10 {
        let answer = browser.get(&url);
        assert_eq!(answer.status / 100, 3, "{answer:?}\n{}", HOUSE.idp().log());
        url = answer.location().to_owned();
        if url.starts_with(&GATEWAY.url("/saml/slo?")) {
            return url;
        }
    }
    panic!("the IdP never sends the browser to us: {url}");
}

/// What the IdP reads in our answer.
fn status_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 302, "{answer:?}\n{}", GATEWAY.log());
    let url = answer.location();
    assert!(url.starts_with(&HOUSE.idp().entity_id().replace("metadata.php", "SingleLogoutService.php?SAMLResponse=")));
    let message = url.split_once("SAMLResponse=").expect("a message").1.split('&').next().expect("a value");
    let inflate = "import sys,zlib,base64,urllib.parse as u\n\
                   print(zlib.decompress(base64.b64decode(u.unquote(sys.argv[1])), -15).decode())";
    let xml = run(Command::new("python3").args(["-c", inflate, message]));
    let codes = xml.split("urn:oasis:names:tc:SAML:2.0:status:").skip(1);
    codes.map(|rest| rest.split('"').next().expect("a quote")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_logout_here_ends_the_session_there() {
    let browser = logged_in(&ALICE);
    assert!(!idp_asks(&browser), "the IdP still knows the browser");
    let out = browser.post_following(&GATEWAY.url("/logout"), &[("bye", "1")]);
    assert!(out.url.starts_with(&GATEWAY.url("/saml/slo?SAMLResponse=")), "{out:?}\n{}", HOUSE.idp().log());
    assert!(out.body.contains("The session at your institution has ended, too"), "{}\n{}", out.body, GATEWAY.log());
    assert!(!is_in(&browser));
    assert!(idp_asks(&browser), "the next login asks for the password");
    assert!(GATEWAY.metric("guichet_saml_logout_answers_total", &["result=\"ended\""]) >= 1.0);
    // The page loaded once more knows nothing, and says so.
    let again = browser.get(&out.url);
    assert!(again.body.contains("may live on"), "{}", again.body);
    assert!(refusals("no_pending") >= 1.0);
}

#[test]
fn the_session_here_ends_although_the_idp_is_never_heard_of() {
    let browser = logged_in(&ALICE);
    let asked = browser.post(&GATEWAY.url("/logout"), &[("bye", "1")]);
    assert_eq!(asked.status, 303, "{asked:?}");
    assert!(asked.location().starts_with(&HOUSE.idp().entity_id().replace("metadata.php", "SingleLogoutService.php?")));
    let cookies = asked.header_all("set-cookie").join("\n");
    assert!(cookies.contains("__Host-guichet=;") && cookies.contains("__Host-guichet-logout=;"), "{cookies}");
    assert!(!is_in(&browser));
}

#[test]
fn a_tenant_may_keep_logouts_to_itself() {
    let settings = HOUSE.settings("local");
    let gateway = settings.instead("[tenant.univ-a.fallback]", "logout = \"local\"\n[tenant.univ-a.fallback]");
    let gateway = HOUSE.start(gateway);
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(&gateway, &browser, &ALICE).status, 303);
    let out = browser.post(&gateway.url("/logout"), &[("bye", "1")]);
    assert_eq!(out.status, 200);
    assert!(out.body.contains("may live on"), "{}", out.body);
    assert_eq!(browser.get(&gateway.url("/")).status, 302);
}

#[test]
fn a_logout_there_ends_the_session_here_in_every_copy() {
    let (browser, other) = (logged_in(&ALICE), logged_in(&BOB));
    let copy = browser.copy();
    let page = HOUSE.idp().entity_id();
    let out = browser.get_following(&format!("{}?RelayState={page}", page.replace("metadata.php", "initSLO.php")));
    assert_eq!((out.url.as_str(), out.status), (page.as_str(), 200), "{out:?}\n{}", HOUSE.idp().log());
    assert!(!is_in(&browser) && !is_in(&copy));
    assert!(is_in(&other), "a session of somebody else goes on");
    assert!(idp_asks(&browser));
    assert_eq!(HOUSE.log_in(&GATEWAY, &browser, &ALICE).status, 303, "and a new one opens");
    assert!(is_in(&browser) && !is_in(&copy));
}

#[test]
fn a_logout_there_needs_no_cookie_of_ours() {
    let browser = logged_in(&ALICE);
    let url = sent_by_idp(&browser);
    // As in a frame of the IdP's page: none of our cookies come along.
    let answer = HOUSE.program().get(&url);
    assert_eq!(status_of(&answer), "Success");
    assert!(answer.header_all("set-cookie").is_empty(), "nothing to clear: {answer:?}");
    assert!(!is_in(&browser));
}

#[test]
fn a_logout_brought_by_somebody_elses_browser_leaves_that_one_alone() {
    let (browser, other) = (logged_in(&ALICE), logged_in(&BOB));
    let answer = other.get(&sent_by_idp(&browser));
    assert_eq!(status_of(&answer), "Success");
    assert!(answer.header_all("set-cookie").is_empty(), "{answer:?}");
    assert!(is_in(&other) && !is_in(&browser));
}

#[test]
fn a_touched_or_repeated_logout_ends_nothing() {
    let browser = logged_in(&ALICE);
    let url = sent_by_idp(&browser);
    let (request, relay) = url.split_once("&RelayState=").expect("RelayState");
    let (relay, signed) = relay.split_once("&SigAlg=").expect("SigAlg");
    let before = refusals("parameters");
    for (what, touched) in [
        ("RelayState removed", format!("{request}&SigAlg={signed}")),
        ("RelayState changed", format!("{request}&RelayState=x&SigAlg={signed}")),
        ("reordered", format!("{request}&SigAlg={signed}&RelayState={relay}")),
        ("twice", format!("{url}&RelayState={relay}")),
        ("unsigned", format!("{request}&RelayState={relay}")),
        ("nothing", GATEWAY.url("/saml/slo")),
    ] {
        let answer = HOUSE.browser().get(&touched);
        assert_eq!(answer.status, 403, "{what}: {answer:?}");
        assert!(answer.body.contains("Reference for the help desk"), "{what}: {}", answer.body);
    }
    assert!(
        refusals("parameters") >= before + 3.0 && refusals("signature_invalid") >= 2.0 && refusals("unsigned") >= 1.0
    );
    assert!(is_in(&browser));
    assert_eq!(HOUSE.browser().with(&["--head"]).get(&url).status, 405, "a look at the head changes nothing");
    assert_eq!(status_of(&HOUSE.program().get(&url)), "Success");
    assert!(!is_in(&browser));
    assert_eq!(status_of(&HOUSE.program().get(&url)), "Requester RequestDenied");
    assert!(refusals("replay") >= 1.0);
}

#[test]
fn mail_ends_with_the_session_where_the_tenant_says_so() {
    let browser = logged_in(&ALICE);
    let mut mail = GATEWAY.imap_dialogue();
    assert!(mail.answer("a", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("a OK"));
    let answer = HOUSE.program().get(&sent_by_idp(&browser));
    assert_eq!(status_of(&answer), "Success");
    assert!(mail.rest().is_empty(), "{}", mail.transcript());
    GATEWAY.wait_log("\"end\":\"kicked\"");
}

/// A key that the house made under a name.
fn key(name: &str) -> PathBuf {
    HOUSE.world.pki().ca().parent().expect("a folder").join(format!("{name}.key"))
}

/// Name and session that the IdP put into the assertion of a login, decrypted with our key by `xmlsec1`.
fn subject_of(page: &Answer) -> (String, String) {
    let response = page.field("SAMLResponse").expect("a Response").replace(['\r', '\n'], "");
    let file = HOUSE.world.folder("soap").join("response.xml");
    std::fs::write(&file, STANDARD.decode(response).expect("base64")).expect("response");
    let opened =
        run(Command::new("xmlsec1").arg("--decrypt").arg("--privkey-pem").arg(key("gateway-encryption")).arg(&file));
    let name = opened.split_once("<saml:NameID").expect("a name").1.split_once("</saml:NameID>").expect("its end").0;
    let index = opened.split_once("SessionIndex=\"").expect("an index").1.split_once('"').expect("its end").0;
    (format!("<saml:NameID{name}</saml:NameID>"), index.to_owned())
}

/// An envelope with a LogoutRequest, signed by `xmlsec1`.
fn envelope(name: &str, index: &str, signer: &str) -> PathBuf {
    let folder = HOUSE.world.folder("soap");
    let (template, signed) = (folder.join(format!("{signer}.tmpl")), folder.join(format!("{signer}.xml")));
    let now = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]));
    let id = format!("_{}", run(Command::new("openssl").args(["rand", "-hex", "20"])).trim());
    let message = format!(
        r##"<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{id}" Version="2.0" IssueInstant="{now}" Destination="{to}"><saml:Issuer>{idp}</saml:Issuer><ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><ds:Reference URI="#{id}"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/></ds:Reference></ds:SignedInfo><ds:SignatureValue/></ds:Signature>{name}<samlp:SessionIndex>{index}</samlp:SessionIndex></samlp:LogoutRequest></soap:Body></soap:Envelope>"##,
        now = now.trim(),
        to = GATEWAY.url("/saml/slo/soap"),
        idp = HOUSE.idp().entity_id(),
    );
    std::fs::write(&template, message).expect("template");
    run(Command::new("xmlsec1")
        .args(["--sign", "--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:protocol:LogoutRequest"])
        .arg("--privkey-pem")
        .arg(key(signer))
        .arg("--output")
        .arg(&signed)
        .arg(&template));
    signed
}

fn post_envelope(file: &PathBuf, kind: &str) -> Answer {
    let (data, kind) = (format!("@{}", file.display()), format!("Content-Type: {kind}"));
    HOUSE.program().ask(&GATEWAY.url("/saml/slo/soap"), &["--data-binary", &data, "-H", &kind])
}

#[test]
fn the_idp_ends_a_session_behind_the_browsers_back() {
    let browser = HOUSE.browser();
    let page = HOUSE.at_idp(&GATEWAY, &browser, &ALICE);
    assert_eq!(HOUSE.to_acs(&browser, &page).status, 303);
    let (name, index) = subject_of(&page);

    let other = envelope(&name, "_another-session", "idp-a");
    assert!(post_envelope(&other, "text/xml; charset=utf-8").body.contains("status:Success"));
    assert!(is_in(&browser), "another session of the same user was meant");
    let forged = envelope(&name, &index, "gateway-signing");
    let refused = post_envelope(&forged, "text/xml");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refusals("signature_invalid") >= 1.0);
    let signed = envelope(&name, &index, "idp-a");
    assert_eq!(post_envelope(&signed, "text/plain").status, 415, "what a page of another site could send");
    assert!(is_in(&browser));

    let answer = post_envelope(&signed, "text/xml");
    assert_eq!(answer.status, 200, "{answer:?}\n{}", GATEWAY.log());
    assert!(!is_in(&browser));
    // Another stack reads our answer.
    let file = HOUSE.world.folder("soap").join("answer.xml");
    std::fs::write(&file, &answer.body).expect("answer");
    run(Command::new("xmlsec1")
        .args(["--verify", "--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:protocol:LogoutResponse", "--pubkey-cert-pem"])
        .arg(key("gateway-signing").with_extension("crt"))
        .arg(&file));
    assert!(answer.body.contains("status:Success"), "{}", answer.body);
    let again = post_envelope(&signed, "text/xml");
    assert!(again.body.contains("status:RequestDenied"), "{again:?}");
}

#[test]
fn a_restart_forgets_no_logout() {
    let mut gateway = HOUSE.gateway("restarted");
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(&gateway, &browser, &ALICE).status, 303);
    let copy = browser.copy();
    let page = HOUSE.idp().entity_id();
    browser.get_following(&format!("{}?RelayState={page}", page.replace("metadata.php", "initSLO.php")));
    assert_eq!(copy.get(&gateway.url("/")).status, 302);
    gateway.restart();
    assert_eq!(copy.get(&gateway.url("/")).status, 302, "the tags are on disk");
    wait::until("the refusal counted", || {
        (gateway.metric("guichet_session_refused_total", &["reason=\"revoked\""]) >= 1.0).then_some(())
    });
}
