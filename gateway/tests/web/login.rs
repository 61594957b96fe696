//! The login pages of tenants without an IdP. With one: see the stories against real ones.

use crate::world::World;

fn set_cookies(answer: &reqwest::Response) -> Vec<String> {
    answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_chooser_speaks_two_languages_and_needs_no_script() {
    let world = World::new().await;
    let french = world.request("GET", "/login").header("accept-language", "fr").send().await.unwrap();
    assert_eq!(french.status(), 200);
    let csp = french.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(csp.starts_with("default-src 'none'; ") && csp.contains("style-src 'sha256-"), "{csp}");
    let french = french.text().await.unwrap();
    assert!(french.contains("<html lang=\"fr\">") && french.contains("Université &#60;b&#62;"), "{french}");
    assert!(!french.contains("<script"), "{french}");
    let english = world.request("GET", "/login?lang=en").header("accept-language", "fr").send().await.unwrap();
    assert!(set_cookies(&english).iter().any(|cookie| cookie.starts_with("__Host-guichet-lang=en; ")));
    assert!(english.text().await.unwrap().contains("<html lang=\"en\">"));
}

#[tokio::test]
async fn an_address_leads_to_the_password_and_the_password_to_the_page_asked_for() {
    let world = World::new().await;
    let form = [("address", "alice@univ.example"), ("next", "/mail?a=b")];
    let page = world.request("POST", "/login/start").form(&form).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(set_cookies(&page).iter().any(|cookie| cookie.starts_with("__Host-guichet-tenant=univ; ")));
    assert!(page.text().await.unwrap().contains("action=\"/login/password\""));

    let form =
        [("address", "alice@univ.example"), ("password", "correct horse"), ("next", "/mail?a=b"), ("tenant", "univ")];
    let entered = world.request("POST", "/login/password").form(&form).send().await.unwrap();
    assert_eq!(entered.status(), 303);
    assert_eq!(entered.headers()["location"], "/mail?a=b");
    let cookies = set_cookies(&entered);
    let session = cookies.iter().find(|cookie| cookie.starts_with("__Host-guichet=")).unwrap();
    assert!(session.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{session}");

    let cookie = session.split(';').next().unwrap();
    let page = world.request("GET", "/mail").header("cookie", cookie).send().await.unwrap();
    assert_eq!(page.text().await.unwrap(), "cell");
    assert_eq!(world.cell.last().headers["remote-user"], "alice@univ.example");
}

#[tokio::test]
async fn an_unknown_user_a_wrong_password_and_a_locked_account_look_alike() {
    let world = World::new().await;
    let mut pages = Vec::new();
    for (address, password) in [
        ("nobody@univ.example", "correct horse"),
        ("alice@univ.example", "Tr0ub4dor"),
        ("locked@univ.example", "correct horse"),
    ] {
        let form = [("address", address), ("password", password), ("tenant", "univ")];
        let answer =
            world.request("POST", "/login/password").header("accept-language", "en").form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(set_cookies(&answer).is_empty());
        let page = answer.text().await.unwrap();
        assert!(page.contains("role=\"alert\">The address or the password is wrong."), "{page}");
        assert!(!page.contains(password), "the password is never sent back");
        pages.push(page.replace(address, "ADDRESS"));
    }
    assert!(pages.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn too_many_wrong_passwords_are_told_to_wait_never_that_they_are_wrong() {
    let world = World::new().await;
    let mut last = 0;
    for n in 0..8 {
        let form = [("address", "alice@univ.example".to_owned()), ("password", format!("wrong {n}"))];
        let answer = world.request("POST", "/login/password").form(&form).send().await.unwrap();
        last = answer.status().as_u16();
    }
    assert_eq!(last, 429);
    let answer = world.request("GET", "/dav/").basic_auth("alice@univ.example", Some("wrong 9")).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn basic_credentials_reach_the_cell_and_wrong_ones_do_not() {
    let world = World::new().await;
    let good =
        world.request("REPORT", "/dav/").basic_auth("alice@univ.example", Some("correct horse")).send().await.unwrap();
    assert_eq!(good.status(), 200);
    let seen = world.cell.last();
    assert_eq!(seen.headers["remote-user"], "alice@univ.example");
    assert!(!seen.headers.contains_key("authorization"));
    let wrong = world.request("REPORT", "/dav/").basic_auth("alice@univ.example", Some("wrong")).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert_eq!(world.cell.count(), 1);
}

#[tokio::test]
async fn forms_of_other_sites_and_targets_elsewhere_are_refused() {
    let world = World::new().await;
    let form = [("address", "alice@univ.example"), ("password", "correct horse"), ("next", "//evil.example/")];
    let foreign = world
        .request("POST", "/login/password")
        .header("origin", "https://evil.example")
        .header("sec-fetch-site", "cross-site")
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 403);
    let own = world.request("POST", "/login/password").form(&form).send().await.unwrap();
    assert_eq!(own.headers()["location"], "/");
}

#[tokio::test]
async fn a_response_nobody_waits_for_is_refused_with_a_reference() {
    let world = World::new().await;
    for relay_state in ["", "https://evil.example/", "00112233445566778899aabbccddeeff"] {
        let form = [("SAMLResponse", "PHg+"), ("RelayState", relay_state)];
        let answer =
            world.request("POST", "/saml/acs").header("accept-language", "en").form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{relay_state}");
        assert!(answer.text().await.unwrap().contains("class=\"reference\""));
    }
    let large =
        world.request("POST", "/saml/acs").form(&[("SAMLResponse", "x".repeat(1_100_000))]).send().await.unwrap();
    assert_eq!(large.status(), 413);
}

#[tokio::test]
async fn own_paths_answer_only_their_methods() {
    let world = World::new().await;
    let answer = world.request("DELETE", "/login").send().await.unwrap();
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
    assert_eq!(world.request("GET", "/saml/metadata").send().await.unwrap().status(), 404);
}
