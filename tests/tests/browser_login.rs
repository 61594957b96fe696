//! People log in with Chromium: through their institution's page, and by the fallback when it is down, in both languages.
//! What they see is kept in `target/screenshots`.

use guichet_tests::{ALICE, Browser, CAROL, HOST, House};

#[test]
fn through_the_institutions_page_in_french() {
    let house = House::with_idp("browser-fr");
    let gateway = house.gateway("gateway");
    let browser = Browser::open(&house.world, HOST, "fr");
    browser.goto(&gateway.url("/mail/inbox.html"));
    browser.wait_text("Votre adresse électronique");
    assert!(browser.text().contains("Ou choisissez votre établissement"));
    browser.screenshot("chooser-fr");

    browser.fill("#address", "alice@nulle-part.test");
    browser.click("form[novalidate] button");
    browser.wait_text("n’appartient à aucun établissement");
    browser.screenshot("chooser-error-fr");

    browser.fill("#address", ALICE.address);
    browser.click("form[novalidate] button");
    browser.wait_url(&format!("http://127.0.0.1:{}/", house.idp().port()));
    browser.screenshot("idp-form");
    browser.fill("input[name=username]", ALICE.idp_login);
    browser.fill("input[name=password]", ALICE.idp_password);
    browser.click("button[type=submit], input[type=submit]");
    browser.wait_url(&gateway.url("/mail/inbox.html"));
    browser.wait_text(ALICE.address);

    browser.goto(&gateway.url("/"));
    browser.wait_text("Mailbox of alice@univ-a.test");
    browser.screenshot("mailbox-by-saml");

    browser.goto(&gateway.url("/logout"));
    browser.wait_text("Votre session de messagerie est terminée");
    browser.wait_text("La session ouverte chez votre établissement est terminée aussi");
    browser.screenshot("logout-fr");
    browser.goto(&gateway.url("/"));
    browser.wait_text("Continuer avec Université A");
    browser.screenshot("chooser-remembered-fr");
}

#[test]
fn by_the_fallback_when_the_institution_is_down_in_both_languages() {
    let mut house = House::with_idp("browser-fallback");
    let gateway = house.gateway("gateway");
    gateway.wait_idp("univ-a", "up");
    house.idp_mut().kill();
    gateway.wait_idp("univ-a", "down");

    for (language, outage, wrong) in [
        ("fr", "ne répond pas", "Adresse ou mot de passe incorrect"),
        ("en", "has not been answering", "The address or the password is wrong"),
    ] {
        let browser = Browser::open(&house.world, HOST, language);
        browser.goto(&gateway.url("/"));
        browser.fill("#address", ALICE.address);
        browser.click("form[novalidate] button");
        browser.wait_text(outage);
        assert!(browser.text().contains(if language == "fr" { "Essayer quand même" } else { "Try your institution" }));
        browser.screenshot(&format!("fallback-{language}"));
        browser.fill("#password", "not-my-password");
        browser.click("form button");
        browser.wait_text(wrong);
        browser.screenshot(&format!("fallback-wrong-{language}"));
        browser.fill("#address", ALICE.address);
        browser.fill("#password", ALICE.password);
        browser.click("form button");
        browser.wait_text("Mailbox of alice@univ-a.test");
        browser.screenshot(&format!("mailbox-by-fallback-{language}"));
    }
}

#[test]
fn by_the_directory_where_there_is_no_institution_page_in_english() {
    let mut house = House::with_idp("browser-en");
    let gateway = house.gateway("gateway");
    let browser = Browser::open(&house.world, HOST, "en");
    browser.goto(&gateway.url("/"));
    browser.wait_text("Your email address");
    browser.screenshot("chooser-en");
    browser.click("button[value=labo-b]");
    browser.wait_text("Your mail password");
    assert!(!browser.text().contains("has not been answering"));
    browser.screenshot("password-en");
    browser.fill("#address", CAROL.address);
    browser.fill("#password", CAROL.password);
    browser.click("form button");
    browser.wait_text("Mailbox of carol@labo-b.test");

    house.beta_web.kill();
    browser.goto(&gateway.url("/"));
    browser.wait_text("Your mailbox is unavailable for the moment");
    browser.screenshot("cell-down-en");
}
