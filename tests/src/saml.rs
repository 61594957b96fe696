//! A login through an identity provider, step by step, and how each step must end.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    curl::{Answer, Curl},
    gateway::Gateway,
    simplesaml::Login,
};

/// Tables of a tenant called as the first label of its one domain, `NAME.test`; `more` are keys of its IdP.
pub fn tenant(name: &str, idp: &str, more: &str) -> String {
    format!(
        "[tenant.{name}]\nname = {{ fr = \"{name}\" }}\ndomains = [\"{name}.test\"]\ncell = \"alpha\"\n\
         category = \"staff\"\n[tenant.{name}.idp.saml]\nentity_id = \"{idp}\"\n{more}\n"
    )
}

/// The tenant of an address, called so.
pub fn tenant_of<'a>(who: &Login<'a>) -> &'a str {
    let domain = who.address.split_once('@').expect("an address").1;
    domain.split_once('.').expect("a domain").0
}

/// Chooses the institution that an address belongs to and follows to the login form of its IdP, whichever binding the
/// gateway takes.
pub fn to_login_form(gateway: &Gateway, browser: &Curl, address: &str) -> Answer {
    let start = browser.post(&gateway.url("/login/start"), &[("address", address), ("next", "/")]);
    match start.status {
        200 if start.header("refresh").is_some() => browser.get_following(start.location()),
        200 => {
            let field = |name: &str| start.field(name).unwrap_or_else(|| panic!("no {name}: {start:?}"));
            let (request, relay_state) = (field("SAMLRequest"), field("RelayState"));
            let form = [("SAMLRequest", request.as_str()), ("RelayState", relay_state.as_str())];
            browser.post_following(&start.form_action().expect("a form"), &form)
        }
        _ => panic!("{start:?}\n{}", gateway.log()),
    }
}

/// Posts the form of an IdP's page to where it leads.
pub fn post(browser: &Curl, page: &Answer) -> Answer {
    let (response, relay_state) = (page.field("SAMLResponse"), page.field("RelayState").unwrap_or_default());
    let response = response.unwrap_or_else(|| panic!("no SAMLResponse: {}", page.body));
    browser.post(&page.form_action().expect("a form"), &[("SAMLResponse", &response), ("RelayState", &relay_state)])
}

/// The XML that an IdP's page posts.
pub fn decoded(page: &Answer) -> String {
    let response = page.field("SAMLResponse").expect("a Response").replace(['\r', '\n'], "");
    String::from_utf8(BASE64_STANDARD.decode(response).expect("base64")).expect("UTF-8")
}

/// The IdP's page leads to the mailbox of `address`.
#[track_caller]
pub fn assert_enters(gateway: &Gateway, browser: &Curl, page: &Answer, address: &str) {
    let entered = post(browser, page);
    assert_eq!((entered.status, entered.header("location")), (303, Some("/")), "{entered:?}\n{}", gateway.log());
    let mailbox = browser.get(&gateway.url("/")).body;
    assert!(mailbox.contains(&format!("Mailbox of {address}")), "{mailbox}");
}

/// The user's page says no and gives a reference; the log has the reason under that reference, the metrics count it.
#[track_caller]
pub fn assert_refused(gateway: &Gateway, answer: &Answer, kind: &str) {
    assert_eq!(answer.status, 403, "{answer:?}");
    let session = |cookie: &&str| cookie.starts_with("__Host-guichet=") && !cookie.contains("Max-Age=0");
    assert!(!answer.header_all("set-cookie").iter().any(session), "{answer:?}");
    let reference = answer.body.split_once("class=\"reference\">").and_then(|(_, rest)| rest.split_once('<'));
    let (reference, _) = reference.unwrap_or_else(|| panic!("no reference: {}", answer.body));
    let line = gateway.wait_log(reference);
    assert!(line.contains(&format!("\"kind\":\"{kind}\"")), "not for {kind}: {line}");
    let counted = gateway.metric("guichet_saml_refusals_total", &[&format!("kind=\"{kind}\"")]);
    assert!(counted >= 1.0, "{kind} is not counted:\n{}", gateway.metrics());
}
