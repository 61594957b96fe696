//! An answer is held against what was asked: the context of the login, and its age.

use super::{
    Asked, Refusal,
    minter::{NOW, Recipe, at, consume_asked, world},
};
use crate::{
    WallTime,
    assurance::{Assurance, Context, Level},
};

const MFA: &str = "https://refeds.org/profile/mfa";
const PASSWORD: &str = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport";
const ASSURANCE: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.11";

fn class(uri: &str) -> String {
    format!("<saml:AuthnContext><saml:AuthnContextClassRef>{uri}</saml:AuthnContextClassRef></saml:AuthnContext>")
}

fn statement(seconds: i64, context: &str) -> String {
    format!("<saml:AuthnStatement AuthnInstant=\"{}\">{context}</saml:AuthnStatement>", at(seconds))
}

fn recipe(authn_statement: String) -> Recipe {
    Recipe { authn_statement, ..Recipe::default() }
}

fn answer(authn_statement: String, asked: Asked<'_>) -> Result<Assurance, Refusal> {
    consume_asked(&recipe(authn_statement).xml(), asked).map(|login| login.assurance())
}

fn before(seconds: u64) -> WallTime {
    WallTime(NOW.0 - seconds * 1000)
}

#[test]
fn a_login_without_the_context_that_was_asked_for_is_refused() {
    let wanted = [MFA.to_owned(), "urn:x:badge".to_owned()];
    let asked = || Asked { authn_context: &wanted, forced: None };
    for context in [class(MFA), class("urn:x:badge"), class(&format!("\n  {MFA}\n"))] {
        assert!(answer(statement(-30, &context), asked()).is_ok(), "{context}");
    }
    for weaker in [
        class(PASSWORD),
        class("https://refeds.org/profile/sfa"),
        class("https://refeds.org/profile/mfa/"),
        class("https://REFEDS.org/profile/mfa"),
        class(""),
        String::new(),
        "<saml:AuthnContext/>".to_owned(),
        // A reference to a declaration is none to a class.
        format!("<saml:AuthnContext><saml:AuthnContextDeclRef>{MFA}</saml:AuthnContextDeclRef></saml:AuthnContext>"),
        format!("<AuthnContext><AuthnContextClassRef>{MFA}</AuthnContextClassRef></AuthnContext>"),
        format!(
            "<saml:AuthnContext>{c}{c}</saml:AuthnContext>",
            c = format!("<saml:AuthnContextClassRef>{MFA}</saml:AuthnContextClassRef>")
        ),
        format!("{}{}", class(MFA), class(PASSWORD)),
    ] {
        assert_eq!(answer(statement(-30, &weaker), asked()), Err(Refusal::AuthnContext), "{weaker}");
    }
    let commented = class("https://refeds.org/profile/mfa<!-- -->x");
    assert_eq!(answer(statement(-30, &commented), asked()), Err(Refusal::ValueNotPlain));
}

#[test]
fn a_strong_statement_beside_a_weak_one_is_no_answer() {
    let wanted = [MFA.to_owned()];
    let both = [statement(-30, &class(MFA)), statement(-30, &class(PASSWORD))];
    for pair in [both.concat(), both.iter().rev().cloned().collect::<String>()] {
        let refused = answer(pair.clone(), Asked { authn_context: &wanted, forced: None });
        assert_eq!(refused, Err(Refusal::AuthnContext));
        // Where nothing was asked, they vouch for nothing together.
        assert_eq!(answer(pair, Asked::default()).unwrap().context, None);
    }
    let old = [statement(-30, &class(MFA)), statement(-3600, &class(MFA))].concat();
    assert_eq!(
        answer(old.clone(), Asked { authn_context: &wanted, forced: Some(before(60)) }),
        Err(Refusal::AuthnInstant)
    );
    assert_eq!(answer(old, Asked::default()).unwrap().at, before(3600));
}

#[test]
fn a_login_older_than_the_request_for_a_fresh_one_is_refused() {
    let asked = Asked { authn_context: &[], forced: Some(before(60)) };
    // Asked a minute ago, with three minutes between the clocks.
    for (seconds, expected) in [
        (-30, Ok(before(30))),
        (-60, Ok(before(60))),
        // By our clock it was not before we asked.
        (-239, Ok(before(60))),
        (-240, Err(Refusal::AuthnInstant)),
        (-3600, Err(Refusal::AuthnInstant)),
        // Nor after it was told.
        (100, Ok(NOW)),
        (181, Err(Refusal::NotYetValid)),
    ] {
        let found = answer(statement(seconds, ""), asked).map(|assurance| assurance.at);
        assert_eq!(found, expected, "{seconds}");
    }
    assert_eq!(answer(statement(-36_000, ""), Asked::default()).unwrap().at, before(36_000), "an old session will do");
}

#[test]
fn what_the_idp_says_of_the_login_is_kept() {
    let values = |values: &[&str]| {
        let mut recipe = recipe(statement(-30, &class(MFA)));
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        recipe.attributes.push((ASSURANCE.to_owned(), values));
        consume_asked(&recipe.xml(), Asked::default()).unwrap().assurance()
    };
    let iap = |level: &str| format!("https://refeds.org/assurance/IAP/{level}");
    let found = values(&["https://refeds.org/assurance", &iap("low"), &iap("medium"), &iap("local-enterprise")]);
    assert_eq!(found, Assurance { context: Some(Context::of(MFA)), at: before(30), level: Some(Level::Medium) });
    assert_eq!(values(&[&iap("high<!-- -->")]).level, None);
    assert_eq!(values(&["high", "IAP/high"]).level, None);
    let own = answer(statement(-30, &class("https://idp.example/own")), Asked::default()).unwrap();
    assert_eq!(own.context.map(|context| context.as_str()), Some("other"));
}

#[test]
fn an_idp_that_cannot_reach_the_context_is_told_apart() {
    let status = "<samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Responder\"><samlp:StatusCode \
                  Value=\"urn:oasis:names:tc:SAML:2.0:status:NoAuthnContext\"/></samlp:StatusCode></samlp:Status>";
    let recipe = Recipe { status: status.to_owned(), ..Recipe::default() };
    let refused = consume_asked(&recipe.around(""), Asked::default()).unwrap_err();
    assert_eq!(refused.kind(), "no_authn_context");
    assert_eq!(refused, Refusal::Status { code: "NoAuthnContext", signed: true });
}

/// The consumer knows what was asked from the pending login alone.
#[test]
fn what_the_tenant_asks_by_now_does_not_count() {
    let mut tenant = world().tenant.clone();
    tenant.idp.as_mut().unwrap().request.authn_context = vec![MFA.to_owned()];
    let xml = recipe(statement(-30, &class(PASSWORD))).xml();
    assert!(super::minter::consume_as(&xml, &tenant, NOW).is_ok());
}
