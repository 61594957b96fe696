//! Which institution? The chooser, links that name it, and the discovery protocol both ways. The IdPs themselves, and
//! browsers, are in the stories.

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::world::World;

const WIKI: &str = "https://wiki.example/shibboleth";
const LOGIN: &str = "https://wiki.example/Shibboleth.sso/Login";

/// `univ` and `labo`, and `many` institutions with IdPs, two of which share one.
async fn world(many: usize) -> World {
    let mut tables = String::from(
        r#"
[saml]
signing = { certificate = "saml.crt", key_file = "saml.key" }
discovery = "https://ds.federation.example/wayf?style=mail"
[saml.discovery_for.wiki]
entity_id = "https://wiki.example/shibboleth"
return_to = ["https://wiki.example/Shibboleth.sso/Login", "https://wiki.example/Shibboleth.sso/DS"]
[federation.national]
source = { url = "https://127.0.0.1:1/never-asked.xml" }
signing_keys = ["saml.crt"]
"#,
    );
    for n in 0..many {
        let idp = if n < 2 { "shared".to_owned() } else { n.to_string() };
        let _ = write!(
            tables,
            "[tenant.ecole-{n}]\nname = {{ fr = \"École n° {n} d’Étampes\", en = \"School {n} of Étampes\" }}\n\
             domains = [\"ecole-{n}.example\"]\ncell = \"main\"\n\
             idp.saml.entity_id = \"https://idp-{idp}.example/idp?a=b&c\"\n"
        );
    }
    World::with_tables(&tables).await
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn question(more: &str) -> String {
    format!("/discovery?entityID={}{more}", encoded(WIKI))
}

async fn get(world: &World, path: &str) -> reqwest::Response {
    world.request("GET", path).header("accept-language", "en").send().await.unwrap()
}

fn location(answer: &reqwest::Response) -> String {
    let fields = answer.headers();
    let onward = || fields.get("refresh").and_then(|value| value.to_str().unwrap().strip_prefix("0; url="));
    fields.get("location").map(|value| value.to_str().unwrap()).or_else(onward).unwrap_or_default().to_owned()
}

fn set_cookie(answer: &reqwest::Response, prefix: &str) -> Option<String> {
    let all = answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let found = all.map(str::to_owned).find(|cookie| cookie.starts_with(prefix))?;
    found.split(';').next().map(str::to_owned)
}

/// Ids of the buttons of a page.
fn offered(page: &str) -> Vec<String> {
    let buttons = page.split("<button name=\"tenant\" value=\"").skip(1);
    buttons.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn few_institutions_are_listed_and_many_are_searched_or_listed_page_by_page() {
    let few = World::new().await;
    let page = get(&few, "/login").await;
    let csp = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(csp.ends_with("; form-action 'self'") && !csp.contains("script-src"), "{csp}");
    let page = page.text().await.unwrap();
    assert_eq!(offered(&page), ["labo", "univ"]);
    assert!(!page.contains("id=\"q\""), "two need no search");

    let many = world(400).await;
    let page = get(&many, "/login").await;
    let csp = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(csp.contains("form-action 'self'; script-src 'sha256-") && csp.ends_with("; connect-src 'self'"), "{csp}");
    let page = page.text().await.unwrap();
    assert!(offered(&page).is_empty(), "hundreds are not shown unasked");
    assert!(page.contains("Show the whole list") && page.contains("(402)"), "{page}");
    let mut seen = Vec::new();
    for number in 1..=9 {
        let page = get(&many, &format!("/login?choose=1&list={number}")).await.text().await.unwrap();
        assert!(page.len() < 32 * 1024, "{} bytes", page.len());
        seen.extend(offered(&page));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 402);
}

#[tokio::test]
async fn a_search_finds_by_name_domain_and_id_without_accents() {
    let world = world(400).await;
    for (q, expected) in [
        ("ecole 17 etampes", &["ecole-17"][..]),
        ("ÉCOLE 399", &["ecole-399"]),
        ("school 23", &["ecole-23"]),
        ("ecole-42.example", &["ecole-42"]),
        ("who@ecole-43.example", &["ecole-43"]),
        ("laboratoire", &["labo"]),
        ("nothing like it", &[]),
        ("<script>", &[]),
    ] {
        let page = get(&world, &format!("/login?choose=1&q={}", encoded(q))).await.text().await.unwrap();
        let found = offered(&page);
        assert!(expected.iter().all(|id| found.first().is_some_and(|hit| hit == id)), "{q}: {found:?}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{q}: {found:?}");
        assert_eq!(page.matches("<script>").count(), 1, "what is typed is escaped: {page}");
        let said = if expected.is_empty() { "No institution found." } else { "found." };
        assert!(page.contains(said), "{q}: {page}");
    }
}

#[tokio::test]
async fn the_institution_chosen_last_comes_first_and_can_be_left_or_forgotten() {
    let world = world(20).await;
    let remembered = |path: &str| {
        world.request("GET", path).header("accept-language", "en").header("cookie", "__Host-guichet-tenant=labo").send()
    };
    let page = remembered("/login?next=/mail").await.unwrap().text().await.unwrap();
    assert!(page.contains("Continue with Laboratoire") && !page.contains("id=\"address\""), "{page}");
    assert!(page.contains("href=\"/login?next=%2Fmail&amp;choose=1\""), "{page}");
    let page = remembered("/login?next=/mail&choose=1").await.unwrap().text().await.unwrap();
    assert!(!page.contains("Continue with Laboratoire") && page.contains("id=\"q\""), "{page}");

    let form = [("next", "/mail")];
    let forgotten = world.request("POST", "/login/forget").header("cookie", "__Host-guichet-tenant=labo").form(&form);
    let forgotten = forgotten.send().await.unwrap();
    assert_eq!((forgotten.status().as_u16(), location(&forgotten).as_str()), (303, "/login?next=%2Fmail&choose=1"));
    assert_eq!(set_cookie(&forgotten, "__Host-guichet-tenant").as_deref(), Some("__Host-guichet-tenant="));
    assert!(forgotten.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn links_name_the_institution_and_never_leave_our_host() {
    let world = World::new().await;
    for link in [
        "/login?tenant=labo",
        "/login?domain=labo.example",
        "/login?domain=LABO.example",
        "/login?login_hint=carol@labo.example",
        "/login?address=carol@labo.example",
        "/login/start?tenant=labo",
        "/login/at/labo",
    ] {
        let joint = if link.contains('?') { '&' } else { '?' };
        let page = get(&world, &format!("{link}{joint}next=/mail")).await;
        assert_eq!(page.status(), 200, "{link}");
        let page = page.text().await.unwrap();
        assert!(page.contains("action=\"/login/password\"") && page.contains("<p>Laboratoire</p>"), "{link}: {page}");
        assert!(page.contains("name=\"next\" value=\"/mail\""), "{link}: {page}");
        let away = get(&world, &format!("{link}{joint}next=//evil.example/")).await.text().await.unwrap();
        assert!(away.contains("name=\"next\" value=\"/\"") && !away.contains("evil"), "{link}: {away}");
    }
    let page = get(&world, "/login?login_hint=carol@labo.example").await.text().await.unwrap();
    assert!(page.contains("value=\"carol@labo.example\""), "the address is typed already: {page}");
    for link in
        ["/login?tenant=nobody", "/login?domain=nowhere.example", "/login/at/nobody", "/login/at/", "/login/at/labo/x"]
    {
        let page = get(&world, link).await.text().await.unwrap();
        assert!(page.contains("id=\"address\"") && !offered(&page).is_empty(), "{link}: {page}");
    }
    let stranger = get(&world, "/login?login_hint=a%3Cb@nowhere.example").await.text().await.unwrap();
    assert!(stranger.contains("belongs to no institution") && stranger.contains("a&#60;b@nowhere"), "{stranger}");
}

#[tokio::test]
async fn institutions_that_share_an_idp_are_told_apart_by_the_user() {
    let world = world(4).await;
    let link = format!("/login?idp={}", encoded("https://idp-shared.example/idp?a=b&c"));
    let page = get(&world, &link).await.text().await.unwrap();
    assert_eq!(offered(&page), ["ecole-0", "ecole-1"]);
    assert!(page.contains("Several institutions"), "{page}");
}

#[tokio::test]
async fn the_federations_service_is_asked_and_answers_only_the_browser_that_asked() {
    let world = world(4).await;
    assert!(get(&world, "/login").await.text().await.unwrap().contains("(ds.federation.example)"));
    let asked = get(&world, "/login/discovery/start?next=/mail").await;
    assert_eq!(asked.status(), 302);
    let url = url::Url::parse(&location(&asked)).unwrap();
    assert_eq!((url.host_str(), url.path()), (Some("ds.federation.example"), "/wayf"));
    let field = |name: &str| url.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned();
    assert_eq!(field("style"), "mail");
    assert_eq!((field("entityID").as_str(), field("isPassive").as_str()), ("https://localhost/saml/metadata", "false"));
    let back = field("return");
    let path = back.strip_prefix("https://localhost").unwrap().to_owned();
    assert!(path.starts_with("/login/discovery?state="), "{back}");
    let cookie = set_cookie(&asked, "__Host-guichet-discovery-").unwrap();
    assert!(!cookie.contains("mail"), "sealed: {cookie}");

    let with = |entity_id: &str| format!("{path}&{}={}", field("returnIDParam"), encoded(entity_id));
    let visit = async |path: &str, cookie: &str| {
        world.request("GET", path).header("accept-language", "en").header("cookie", cookie).send().await.unwrap()
    };
    // Another browser, another state, a state given twice: the chooser.
    let good = with("https://idp-3.example/idp?a=b&c");
    let elsewhere = cookie.replace("discovery-", "discovery-0");
    let twice = good.replace("?state=", "?state=00&state=");
    for (path, cookie) in
        [(&good, ""), (&good, elsewhere.as_str()), (&twice, &cookie), (&good.replace("state=", "x="), &cookie)]
    {
        let answer = visit(path, cookie).await;
        assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/login?choose=1"), "{path} {cookie}");
    }
    // Its own: a tenant's IdP leads on (to one whose metadata nobody has fetched here), and the state is spent.
    let answer = visit(&good, &cookie).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(set_cookie(&answer, "__Host-guichet-tenant=").as_deref(), Some("__Host-guichet-tenant=ecole-3"));
    let name = cookie.split('=').next().unwrap();
    assert_eq!(set_cookie(&answer, name), Some(format!("{name}=")));
    // What is no tenant's leads nowhere.
    for entity_id in ["https://idp.evil.example", "https://idp-3.example/idp", "javascript:alert(1)", "ecole-3"] {
        let page = visit(&with(entity_id), &cookie).await;
        assert_eq!(page.status(), 200);
        let page = page.text().await.unwrap();
        assert!(page.contains("has no mailboxes on this service") && page.contains("value=\"/mail\""), "{page}");
    }
    let several = visit(&with("https://idp-shared.example/idp?a=b&c"), &cookie).await.text().await.unwrap();
    assert_eq!(offered(&several), ["ecole-0", "ecole-1"]);
    let both = format!("{good}&entityID=https%3A%2F%2Fother.example");
    for path in [&path, &both] {
        assert!(visit(path, &cookie).await.text().await.unwrap().contains("No institution was chosen"), "{path}");
    }
    world.clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(location(&visit(&good, &cookie).await), "/login?choose=1", "ten minutes later");
}

#[tokio::test]
async fn another_service_gets_the_institution_that_its_user_chose() {
    let world = world(400).await;
    let page = get(&world, &question("")).await;
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("<strong>wiki.example</strong>") && page.contains("action=\"/discovery#find\""), "{page}");
    assert!(!page.contains("ds.federation.example"), "one question is enough");

    let back = format!("{LOGIN}?SAMLDS=1&target=cookie%3A1");
    let more = format!("&return={}&returnIDParam=idp", encoded(&back));
    let found = get(&world, &format!("{}&choose=1&q=42", question(&more))).await.text().await.unwrap();
    assert_eq!(offered(&found), ["ecole-42"]);
    assert!(found.contains("name=\"returnIDParam\" value=\"idp\""), "{found}");

    let form = [("entityID", WIKI), ("return", &back), ("returnIDParam", "idp"), ("tenant", "ecole-42")];
    let chosen = world.request("POST", "/discovery").form(&form).send().await.unwrap();
    assert_eq!(chosen.status(), 200);
    let answer = format!("{back}&idp={}", encoded("https://idp-42.example/idp?a=b&c"));
    assert_eq!(location(&chosen), answer);
    let cookie = set_cookie(&chosen, "__Host-guichet-tenant=").unwrap();
    assert!(chosen.text().await.unwrap().contains(&format!("href=\"{}\"", answer.replace('&', "&#38;"))));

    // By an address, too; and by nothing that is no institution with an IdP.
    let form = [("entityID", WIKI), ("address", "dean@ecole-7.example")];
    let chosen = world.request("POST", "/discovery").form(&form).send().await.unwrap();
    assert!(location(&chosen).starts_with(&format!("{LOGIN}?entityID=https%3A%2F%2Fidp-7.")), "{chosen:?}");
    for bad in
        [("tenant", "labo"), ("tenant", "nobody"), ("address", "x@nowhere.example"), ("address", "x@labo.example")]
    {
        let answer = world.request("POST", "/discovery").form(&[("entityID", WIKI), bad]).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (422, ""), "{bad:?}");
    }

    // Who may not be asked is answered by memory alone.
    let passive = question(&format!("{more}&isPassive=true"));
    let nothing = get(&world, &passive).await;
    assert_eq!((nothing.status().as_u16(), location(&nothing)), (302, back.clone()));
    let known = world.request("GET", &passive).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(location(&known), answer);
    let without_idp =
        world.request("GET", &passive).header("cookie", "__Host-guichet-tenant=labo").send().await.unwrap();
    assert_eq!(location(&without_idp), back);
    let asked = world.request("GET", &question(&more)).header("cookie", &cookie).send().await.unwrap();
    assert!(asked.text().await.unwrap().contains("École n° 42 d’Étampes</button>"), "offered first");
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_the_configuration_does_not_hold() {
    let world = world(4).await;
    let returns = |url: &str| question(&format!("&return={}", encoded(url)));
    let good = returns(LOGIN);
    let mut questions: Vec<String> = [
        "https://evil.example/",
        "https://wiki.example@evil.example/Shibboleth.sso/Login",
        "https://wiki.example.evil.example/Shibboleth.sso/Login",
        "https://wiki.example/Shibboleth.sso/Login#@evil.example",
        "https://wiki.example/Shibboleth.sso/Login\r\nLocation: https://evil.example",
        "https://wiki.example/Shibboleth.sso/../open?url=https://evil.example",
        "https://wiki.example\\@evil.example/Shibboleth.sso/Login",
        "http://wiki.example/Shibboleth.sso/Login",
        "//evil.example/",
        "/login",
        "javascript:alert(1)",
        "data:text/html,x",
        "",
    ]
    .map(returns)
    .to_vec();
    questions.push("/discovery?".to_owned());
    questions.push(format!("/discovery?entityID={}&return={}", encoded("https://evil.example"), encoded(LOGIN)));
    questions.push(format!("{good}&return={}", encoded("https://evil.example/")));
    questions.push(format!("{good}&entityID={}", encoded("https://evil.example")));
    questions.push(format!("{good}&returnIDParam=a%26return%3D"));
    questions.push(format!("{good}&isPassive=perhaps"));
    questions.push(format!("{good}&policy=urn%3Aother"));
    questions.push(returns(&format!("{LOGIN}?{}", "a".repeat(3000))));
    for question in questions {
        for passive in ["", "&isPassive=true"] {
            let answer = get(&world, &format!("{question}{passive}")).await;
            assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (400, ""), "{question}");
            let page = answer.text().await.unwrap();
            assert!(page.contains("class=\"reference\"") && !page.contains("evil"), "{question}: {page}");
        }
        let form = question.split_once('?').map_or(String::new(), |(_, form)| form.to_owned()) + "&tenant=ecole-3";
        let post = world.request("POST", "/discovery").header("content-type", "application/x-www-form-urlencoded");
        let answer = post.body(form).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (400, ""), "{question}");
    }
    let foreign = world.request("POST", "/discovery").header("origin", "https://evil.example");
    let foreign = foreign.form(&[("entityID", WIKI), ("tenant", "ecole-3")]).send().await.unwrap();
    assert_eq!(foreign.status(), 403, "others do not choose for our users");
}

#[tokio::test]
async fn the_feed_tells_the_institutions_and_both_are_off_when_nobody_may_ask() {
    let world = world(4).await;
    let feed = get(&world, "/discovery/feed.json").await;
    assert_eq!(feed.headers()["content-type"], "application/json");
    assert_eq!(feed.headers()["cache-control"], "public, max-age=3600");
    let feed: serde_json::Value = serde_json::from_str(&feed.text().await.unwrap()).unwrap();
    let ids: Vec<_> = feed.as_array().unwrap().iter().map(|entry| entry["entityID"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3, "a shared one once: {ids:?}");
    assert_eq!(feed[0]["DisplayNames"][0]["value"], "École n° 0 d’Étampes");

    let off = World::new().await;
    for path in [
        "/discovery",
        "/discovery?entityID=x&return=https://evil.example",
        "/discovery/feed.json",
        "/login/discovery/start",
    ] {
        assert_eq!(get(&off, path).await.status(), 404, "{path}");
    }
    assert_eq!(location(&get(&off, "/login/discovery?state=00&entityID=x").await), "/login?choose=1");
}

#[test]
fn no_query_leads_out_of_the_house() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(world(12));
    let piece = "(entityID|return|returnIDParam|isPassive|policy|tenant|idp|domain|login_hint|next|q|list|choose|state|true|=|&|&|=|%[0-9A-F]{2}|https%3A%2F%2Fwiki\\.example%2F(shibboleth|Shibboleth\\.sso%2FLogin)|https://evil\\.example|ecole-3|[a-z0-9:/@\\\\.?;])";
    let queries = proptest::string::string_regex(&format!("{piece}{{0,16}}")).unwrap();
    let config = ProptestConfig { cases: 400, ..ProptestConfig::default() };
    proptest!(config, |(path in "/(login|login/start|login/discovery|login/discovery/start|login/at/x|discovery|discovery/feed\\.json)", query in queries)| {
        let Ok(uri) = format!("{path}?{query}").parse::<http::Uri>() else { return Ok(()) };
        let answer = runtime.block_on(get(&world, &uri.to_string()));
        prop_assert!(answer.status().as_u16() < 500 || query.contains("ecole-3"), "{} {}", uri, answer.status());
        let to = location(&answer);
        let home = to.is_empty()
            || to.starts_with('/') && !to.starts_with("//")
            || to.starts_with("https://ds.federation.example/wayf?style=mail&entityID=")
            || to.starts_with(&format!("{LOGIN}?")) || to == LOGIN;
        prop_assert!(home, "{} leads to {}", uri, to);
    });
}
