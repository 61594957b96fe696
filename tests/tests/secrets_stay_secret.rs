//! Logins through every door at trace level: no password, assertion, cookie or key in the log or the metrics.

use guichet_tests::{ALICE, BOB, CAROL, Curl, Dialogue, ERIN, Gateway, House, LOU, MASTER, Signal};

/// Everything that must never be written down, with what it is.
fn journey(house: &mut House, gateway: &Gateway) -> Vec<(&'static str, String)> {
    let mut secrets: Vec<(&'static str, String)> = [ALICE, BOB, CAROL, LOU, ERIN]
        .iter()
        .flat_map(|p| [("password", p.password.to_owned()), ("IdP password", p.idp_password.to_owned())])
        .filter(|(_, secret)| !secret.is_empty())
        .collect();
    secrets.push(("master password", MASTER.1.to_owned()));
    secrets.push(("directory password", "reader-secret-7Kq".to_owned()));
    secrets.push(("management token", "story-management-token".to_owned()));
    secrets.push(("identity key", "identity-key-of-cell-".to_owned()));
    secrets.push(("private key", "PRIVATE KEY".to_owned()));
    let encoded = |text: String| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };

    // Mail: LOGIN, PLAIN, wrong, locked, half a command, a password in the place of a name.
    for person in [ALICE, BOB, LOU, ERIN] {
        let plain = encoded(format!("\0{}\0{}", person.address, person.password));
        gateway.imap_dialogue().answer("a", &format!("LOGIN {} {}", person.address, person.password));
        gateway.imap_dialogue().answer("a", &format!("AUTHENTICATE PLAIN {plain}"));
        secrets.push(("SASL message", plain));
    }
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} wrong-Secret1", ALICE.address));
    gateway.imap_dialogue().answer("a", &format!("LOGIN typed-into-the-name-Secret2 {}", ALICE.address));
    gateway.imap_dialogue().answer("a", "LOGIN broken-Secret3 \"half");
    gateway.imap_dialogue().send(format!("a LOGIN {} cut-off-Secret4", ALICE.address));
    let mut clear = Dialogue::plain(gateway.imap());
    clear.expect("* OK");
    clear.answer("a", &format!("LOGIN {} in-the-clear-Secret5", ALICE.address));
    secrets.extend((1..=12).map(|n| ("typed secret", format!("-Secret{n}"))));

    // Web: Basic, the password page, the IdP, a forged cookie and a forged Response.
    let basic = encoded(format!("{}:{}", ALICE.address, ALICE.password));
    house.program().ask(&gateway.url("/dav/"), &["-H", &format!("Authorization: Basic {basic}")]);
    secrets.push(("Basic credentials", basic));
    house.program().ask(&gateway.url("/dav/"), &["--user", "alice@univ-a.test:wrong-Secret6"]);
    let browser = house.browser();
    browser.post(&gateway.url("/login/password"), &[("address", CAROL.address), ("password", "wrong-Secret7")]);
    browser.post(&gateway.url("/login/password"), &[("address", "swapped-Secret8"), ("password", CAROL.address)]);
    let entered = house.log_in_by_password(gateway, &browser, &CAROL);
    assert_eq!(entered.status, 303);
    secrets.extend(cookies(&entered));
    browser.get(&gateway.url("/echo"));

    let saml = house.browser();
    let start = saml.post(&gateway.url("/login/start"), &[("address", ALICE.address), ("next", "/")]);
    secrets.extend(cookies(&start));
    let page = house.idp().log_in(&saml, start.location(), ALICE.idp_login, ALICE.idp_password);
    let response = page.field("SAMLResponse").expect("a Response");
    for piece in response.as_bytes().chunks(60).skip(20).step_by(10) {
        secrets.push(("Response", String::from_utf8_lossy(piece).into_owned()));
    }
    let relay = page.field("RelayState").expect("a relay state");
    let forged = [("SAMLResponse", "Zm9yZ2VkLVNlY3JldDk="), ("RelayState", relay.as_str())];
    saml.copy().post(&gateway.url("/saml/acs"), &forged);
    secrets.push(("forged Response", "Zm9yZ2VkLVNlY3JldDk".to_owned()));
    let entered = house.to_acs(&saml, &page);
    assert_eq!(entered.status, 303, "{entered:?}");
    secrets.extend(cookies(&entered));
    let told: serde_json::Value = serde_json::from_str(&saml.get(&gateway.url("/echo")).body).expect("JSON");
    let token = told["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|h| h.get(0).is_some_and(|n| n == "guichet-identity"))
        .expect("token");
    secrets
        .push(("identity token", token[1].as_str().expect("text").rsplit('.').next().expect("signature").to_owned()));
    saml.ask(&gateway.url("/mail?password=in-the-query-Secret10"), &[]);
    saml.ask(&gateway.url("/"), &["-H", "Cookie: __Host-guichet=forged-cookie-Secret11"]);
    saml.post(&gateway.url("/logout"), &[("x", "y")]);

    // Troubles log most: a dead directory, a dead cell, a bad reload, a refused header.
    house.slapd.kill();
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} while-down-Secret12", BOB.address));
    house.beta.stop();
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} {}", BOB.address, BOB.password));
    gateway.ctl_ok(&["idp", "force", "univ-a", "down", "--for", "1m", "--reason", "story"]);
    let good = std::fs::read_to_string(gateway.config()).expect("config");
    std::fs::write(gateway.config(), good.replace("cell = \"alpha\"\ncategory", "cell = \"omega\"\ncategory"))
        .expect("config");
    gateway.signal(Signal::HUP);
    gateway.wait_log("omega");
    std::fs::write(gateway.config(), good).expect("config");
    secrets
}

fn cookies(answer: &guichet_tests::Answer) -> Vec<(&'static str, String)> {
    let sealed = answer.header_all("set-cookie").into_iter().filter_map(|cookie| {
        let value = cookie.split(';').next()?.split_once('=')?.1;
        // The last part is the ciphertext; short values (tenant, language) are no secrets.
        Some(("cookie", value.rsplit('.').next()?.to_owned())).filter(|(_, value)| value.len() > 40)
    });
    sealed.collect()
}

fn nothing_leaks(name: &str, format: &str) {
    let mut house = House::with_idp(name);
    let gateway = house.start(house.settings("gateway").log(format, "trace").limits("password_cache_ttl = \"1ms\""));
    let secrets = journey(&mut house, &gateway);
    assert!(secrets.len() > 40, "the journey met its secrets: {}", secrets.len());
    let log = gateway.log();
    assert!(
        log.contains("A password login was decided.") && log.contains("A SAML login was"),
        "the log tells of the journey"
    );
    let metrics = Curl::plain().get(&gateway.management("/metrics")).body;
    for (what, secret) in &secrets {
        for (place, text) in [("log", &log), ("metrics", &metrics)] {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{what} {secret:?} in the {place}: {}", line.unwrap_or_default());
        }
    }
    assert!(!metrics.contains("@univ-a.test"), "no user in a label");
}

#[test]
fn nothing_secret_is_in_a_text_log_at_trace_level() {
    nothing_leaks("secrets-text", "text");
}

#[test]
fn nothing_secret_is_in_a_json_log_at_trace_level() {
    nothing_leaks("secrets-json", "json");
}
