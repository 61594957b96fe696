//! Mail programs that ask for their settings, and people who do.

use guichet_auth::xml::{self, NodeId};

use crate::world::World;

/// Every kind of listener, as a load balancer shows it.
const TABLES: &str = r#"
[cell.main.imap]
endpoints = ["127.0.0.1:1"]
[cell.main.pop3]
endpoints = ["127.0.0.1:1"]
[cell.main.submission]
endpoints = ["127.0.0.1:1"]
[listener.imap.imaps]
bind = ["127.0.0.1:0"]
public_port = 993
[listener.imap.imap]
bind = ["127.0.0.1:0"]
tls = "starttls"
public_port = 143
[listener.pop3.hidden]
bind = ["127.0.0.1:0"]
[listener.submission.submission]
bind = ["127.0.0.1:0"]
tls = "starttls"
public_port = 587
[listener.submission.submissions]
bind = ["127.0.0.1:0"]
public_port = 465
[setup]
dav_path = "/dav/"
"#;

async fn world() -> World {
    World::with_tables(TABLES).await
}

/// What a program got: status, `Cache-Control` and body. No answer here sets a cookie.
async fn get(world: &World, url: &str) -> (u16, String, String) {
    let answer = world.client.get(url).header("accept-language", "en").send().await.unwrap();
    assert!(!answer.headers().contains_key("set-cookie"), "{url}");
    let cache = answer.headers()["cache-control"].to_str().unwrap().to_owned();
    (answer.status().as_u16(), cache, answer.text().await.unwrap())
}

/// The texts of every element of that name, in order.
fn texts(document: &str, name: &str) -> Vec<String> {
    let doc = xml::parse(document).unwrap_or_else(|fault| panic!("{fault:?}: {document}"));
    let named = |node: &NodeId| doc.element(*node).is_some_and(|element| element.name.local_name == name);
    let nodes: Vec<NodeId> = doc.descendants(doc.root()).into_iter().filter(named).collect();
    nodes.iter().map(|node| xml::text(&doc, *node).unwrap()).collect()
}

fn pox(schema: &str, address: &str) -> String {
    let kind = if schema.contains("mobilesync") { "mobilesync" } else { "outlook" };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/{kind}/requestschema/2006\">\
         <Request><EMailAddress>{}</EMailAddress><AcceptableResponseSchema>{schema}</AcceptableResponseSchema></Request></Autodiscover>",
        xml::escape(address)
    )
}

const OUTLOOK: &str = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";
const MOBILE_SYNC: &str = "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006";

async fn ask(world: &World, body: impl Into<reqwest::Body>) -> (u16, String) {
    let request = world.request("POST", "/autodiscover/autodiscover.xml").header("content-type", "text/xml");
    let answer = request.body(body).send().await.unwrap();
    assert!(!answer.headers().contains_key("set-cookie") && !answer.headers().contains_key("www-authenticate"));
    assert_eq!(answer.headers()["content-type"], "text/xml; charset=utf-8");
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn mozilla_programs_get_one_document_for_every_address_of_a_domain() {
    let world = world().await;
    let by_host = world.url_of("autoconfig.univ.example", "/mail/config-v1.1.xml");
    let (status, cache, document) = get(&world, &by_host).await;
    assert_eq!((status, cache.as_str()), (200, "public, max-age=3600"));
    for url in [
        format!("{by_host}?emailaddress=alice%40univ.example"),
        format!("{by_host}?emailaddress=nobody%40univ.example"),
        world.url("/mail/config-v1.1.xml?emailaddress=locked%40UNIV.example"),
        world.url("/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=a%40univ.example"),
        world.url("/mail/config-v1.1.xml?emailaddress=%22%3E%3Cscript%3E%40univ.example"),
    ] {
        assert_eq!(get(&world, &url).await, (200, cache.clone(), document.clone()), "{url}");
    }
    assert_eq!(texts(&document, "domain"), ["univ.example"]);
    assert_eq!(texts(&document, "displayName"), ["University <b>"]);
    // Incoming, then outgoing; nothing of the POP3 that users cannot reach.
    assert_eq!(texts(&document, "port"), ["993", "143", "465", "587"]);
    assert_eq!(texts(&document, "socketType"), ["SSL", "STARTTLS", "SSL", "STARTTLS"]);
    assert!(texts(&document, "hostname").iter().all(|host| host == "localhost"));
    assert!(texts(&document, "authentication").iter().take(4).all(|how| how == "password-cleartext"));
    assert!(texts(&document, "username").iter().all(|name| name == "%EMAILADDRESS%"));
    assert_eq!(texts(&document, "serverURL"), ["https://localhost/dav/", "https://localhost/dav/"]);
    let french = world.client.get(&by_host).header("accept-language", "fr").send().await.unwrap();
    assert_eq!(french.headers()["vary"], "accept-language");
    assert_eq!(texts(&french.text().await.unwrap(), "displayName"), ["Université <b>"]);
    assert_eq!(world.cell.count(), 0);
}

#[tokio::test]
async fn what_is_no_domain_of_ours_is_not_found_and_other_methods_are_refused() {
    let world = world().await;
    for query in ["?emailaddress=a%40other.example", "?emailaddress=univ.example", "?emailaddress=a%40", ""] {
        let url = world.url(&format!("/mail/config-v1.1.xml{query}"));
        let (status, cache, _) = get(&world, &url).await;
        assert_eq!((status, cache.as_str()), (404, "no-store"), "{query}");
    }
    assert_eq!(get(&world, &world.url("/mail/setup.mobileconfig?emailaddress=a%40other.example")).await.0, 404);
    for path in ["/mail/config-v1.1.xml", "/mail/setup.mobileconfig", "/autodiscover/autodiscover.json", "/setup"] {
        let answer = world.request("POST", path).body("a").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
    }
    let answer = world.request("GET", "/autodiscover/autodiscover.xml").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"POST".parse().unwrap()));
}

#[tokio::test]
async fn names_of_mail_domains_serve_nothing_else() {
    let world = world().await;
    for (host, path) in [
        ("autoconfig.univ.example", "/"),
        ("autoconfig.univ.example", "/login"),
        ("autoconfig.univ.example", "/setup"),
        ("autoconfig.univ.example", "/mail/setup.mobileconfig?emailaddress=a%40univ.example"),
        ("autodiscover.univ.example", "/mail/config-v1.1.xml"),
        ("autodiscover.univ.example", "/dav/"),
        ("autoconfig.other.example", "/mail/config-v1.1.xml"),
    ] {
        assert_eq!(get(&world, &world.url_of(host, path)).await.0, 421, "{host}{path}");
    }
    let session = world.session();
    let url = world.url_of("autodiscover.univ.example", "/dav/");
    assert_eq!(world.client.get(url).header("cookie", session).send().await.unwrap().status(), 421);
    assert_eq!(world.cell.count(), 0);
}

#[tokio::test]
async fn outlook_gets_its_settings_without_a_login() {
    let world = world().await;
    let (status, document) = ask(&world, pox(OUTLOOK, "Alice@univ.example")).await;
    assert_eq!(status, 200);
    assert_eq!(texts(&document, "Action"), ["settings"]);
    assert_eq!(texts(&document, "Type"), ["IMAP", "SMTP"]);
    assert_eq!(texts(&document, "Port"), ["993", "465"]);
    assert_eq!(texts(&document, "Encryption"), ["SSL", "SSL"]);
    assert_eq!(texts(&document, "LoginName"), ["alice@univ.example", "alice@univ.example"]);
    // Whether there is such a user is not told.
    let (_, other) = ask(&world, pox(OUTLOOK, "nobody@univ.example")).await;
    assert_eq!(other.replace("nobody@", "alice@"), document);
    let (_, odd) = ask(&world, pox(OUTLOOK, "o'brien&co@univ.example")).await;
    assert_eq!(texts(&odd, "DisplayName"), ["o'brien&co@univ.example"]);
    let url = world.url_of("autodiscover.univ.example", "/AutoDiscover/AUTODISCOVER.xml");
    let answer = world.client.post(url).body(pox(OUTLOOK, "alice@univ.example")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), document);
    assert_eq!(world.cell.count(), 0);
}

#[tokio::test]
async fn what_outlook_cannot_be_told_is_an_error_document() {
    let world = world().await;
    let large = format!("<a>{}</a>", " ".repeat(20_000));
    for (body, expected) in [
        (String::new(), (400, "600")),
        ("<Autodiscover".to_owned(), (400, "600")),
        (pox(OUTLOOK, "a@univ.example").replace("?><", "?><!DOCTYPE a [<!ENTITY b \"c\">]><"), (400, "600")),
        (large, (413, "600")),
        (pox("urn:other", "alice@univ.example"), (400, "601")),
        (pox(OUTLOOK, "alice@other.example"), (404, "500")),
        (pox(OUTLOOK, "\"><script>@univ.example"), (404, "500")),
    ] {
        let (status, document) = ask(&world, body.clone()).await;
        assert_eq!((status, texts(&document, "ErrorCode")), (expected.0, vec![expected.1.to_owned()]), "{body}");
        assert!(!document.contains("script"), "{document}");
    }
    assert_eq!(world.cell.count(), 0);
}

#[tokio::test]
async fn a_program_for_activesync_goes_to_its_cell_with_what_it_sent() {
    let world = world().await;
    let body = pox(MOBILE_SYNC, "alice@univ.example");
    let url = world.url_of("autodiscover.univ.example", "/Autodiscover/Autodiscover.xml");
    let post = |url: &str| world.client.post(url).header("content-type", "text/xml").body(body.clone());
    let asked = post(&url).send().await.unwrap();
    assert_eq!(asked.status(), 401);
    assert!(asked.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(world.cell.count(), 0);
    let told = post(&url).basic_auth("alice@univ.example", Some("correct horse")).send().await.unwrap();
    assert_eq!(told.status(), 200);
    assert_eq!(told.text().await.unwrap(), body);
    let seen = world.cell.last();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/Autodiscover/Autodiscover.xml"));
    assert_eq!(seen.headers["remote-user"], "alice@univ.example");
    assert_eq!(seen.headers["x-forwarded-host"], "localhost");

    // HTTP/1.1, and a client that waits to be told to go on.
    let session = world.session();
    let request = format!(
        "POST /Autodiscover/Autodiscover.xml HTTP/1.1\r\nHost: autodiscover.univ.example\r\nCookie: {session}\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = world.exchange(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 100 ") && answer.contains(&body), "{answer}");
    assert_eq!(world.cell.count(), 2);
}

#[tokio::test]
async fn json_programs_are_led_to_the_xml() {
    let world = world().await;
    let path = "/autodiscover/autodiscover.json";
    let told = serde_json::json!({
        "Protocol": "AutodiscoverV1",
        "Url": "https://localhost/autodiscover/autodiscover.xml"
    });
    for asked in [
        world.url(&format!("{path}?Email=nobody%40univ.example&Protocol=AutodiscoverV1")),
        world.url(&format!("{path}?email=nobody%40univ.example&protocol=autodiscoverv1")),
        world.url("/Autodiscover/Autodiscover.json/v1.0/a+b%40univ.example?Protocol=Autodiscoverv1"),
        world.url_of("autodiscover.univ.example", &format!("{path}?Protocol=AutodiscoverV1")),
    ] {
        let (status, cache, body) = get(&world, &asked).await;
        assert_eq!((status, cache.as_str()), (200, "public, max-age=3600"), "{asked}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), told);
    }
    for (query, status, code) in [
        ("?Email=a%40univ.example", 400, "MandatoryParameterMissing"),
        ("?Email=a%40univ.example&Protocol=\"><script>", 400, "InvalidProtocol"),
        ("?Email=a%40other.example&Protocol=AutodiscoverV1", 404, "UserNotFound"),
        ("?Protocol=AutodiscoverV1", 404, "UserNotFound"),
    ] {
        let (found, _, body) = get(&world, &world.url(&format!("{path}{query}"))).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((found, body["ErrorCode"].as_str()), (status, Some(code)), "{query}");
    }
}

#[tokio::test]
async fn apple_devices_get_the_same_profile_again_and_no_password_in_it() {
    let world = world().await;
    let url = |address: &str| world.url(&format!("/mail/setup.mobileconfig?emailaddress={address}"));
    let answer = world.client.get(url("alice%40univ.example")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/x-apple-aspen-config");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"univ.example.mobileconfig\"");
    assert_eq!(answer.headers()["cache-control"], "private, max-age=3600");
    let profile = answer.text().await.unwrap();
    assert_eq!(world.client.get(url("ALICE%40univ.example")).send().await.unwrap().text().await.unwrap(), profile);
    // The reader takes no document type declaration, and it is the same in every profile.
    let plist = |profile: &str| {
        let (before, rest) = profile.split_once("<!DOCTYPE").unwrap();
        format!("{before}{}", rest.split_once('>').unwrap().1)
    };
    let strings = texts(&plist(&profile), "string");
    for kind in ["com.apple.mail.managed", "com.apple.caldav.account", "com.apple.carddav.account", "EmailTypeIMAP"] {
        assert!(strings.iter().any(|text| text == kind), "{kind}: {profile}");
    }
    assert_eq!(texts(&plist(&profile), "integer"), ["1", "1", "993", "465", "1", "443", "1", "443"]);
    let keys = texts(&plist(&profile), "key");
    assert!(!keys.iter().any(|key| key.ends_with("Password") && key != "OutgoingPasswordSameAsIncomingPassword"));
    let uuids = |profile: &str| -> Vec<String> {
        let is_uuid = |text: &&String| text.len() == 36 && text.as_bytes()[14] == b'8';
        texts(&plist(profile), "string").iter().filter(is_uuid).cloned().collect()
    };
    let (_, _, other) = get(&world, &url("bob%40univ.example")).await;
    assert_eq!(uuids(&profile).len(), 4);
    assert!(uuids(&profile).iter().all(|uuid| !uuids(&other).contains(uuid)));
    let odd = get(&world, &url("o%27brien%26co%40univ.example")).await.2;
    assert!(texts(&plist(&odd), "string").contains(&"o'brien&co@univ.example".to_owned()), "{odd}");
    assert_eq!(get(&world, &url("%22%3E%3Cscript%3E%40univ.example")).await.0, 404);
}

#[tokio::test]
async fn calendar_programs_are_led_to_the_path_or_to_the_cell() {
    let world = world().await;
    for (method, path, status) in [
        ("PROPFIND", "/.well-known/caldav", 301),
        ("GET", "/.well-known/carddav", 301),
        ("POST", "/.well-known/caldav", 308),
    ] {
        let answer = world.request(method, path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{method}");
        assert_eq!(answer.headers()["location"], "https://localhost/dav/");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=3600");
    }
    assert_eq!(world.cell.count(), 0);

    let plain = World::new().await;
    let request = || plain.request("PROPFIND", "/.well-known/caldav");
    assert_eq!(request().send().await.unwrap().status(), 401);
    let answer = request().basic_auth("alice@univ.example", Some("correct horse")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(plain.cell.last().path, "/.well-known/caldav");
}

#[tokio::test]
async fn people_get_the_settings_in_words_and_in_their_language() {
    let world = world().await;
    let page = |path: String, language: &'static str| {
        let request = world.request("GET", &path).header("accept", "text/html").header("accept-language", language);
        async move {
            let answer = request.send().await.unwrap();
            assert!(!answer.headers().contains_key("set-cookie"));
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    let (status, empty) = page("/setup".to_owned(), "fr").await;
    assert_eq!(status, 200);
    assert!(empty.contains("Afficher les réglages") && !empty.contains("993") && !empty.contains("<script"), "{empty}");
    let (status, found) = page("/setup?address=alice%40univ.example".to_owned(), "en").await;
    assert_eq!(status, 200);
    for words in ["University &#60;b&#62;", "<dd>993</dd>", "<dd>465</dd>", "SSL/TLS", "https://localhost"] {
        assert!(found.contains(words), "{words}: {found}");
    }
    assert!(found.contains("href=\"/mail/setup.mobileconfig?emailaddress=alice%40univ.example\""), "{found}");
    assert!(found.contains("<a href=\"/setup?address=alice%40univ.example&amp;lang=fr\""), "{found}");
    let (_, nobody) = page("/setup?address=nobody%40univ.example".to_owned(), "en").await;
    assert_eq!(nobody.replace("nobody", "alice"), found);
    let (status, unknown) = page("/setup?lang=en&address=%22%3E%3Cscript%3E%40other.example".to_owned(), "fr").await;
    assert_eq!(status, 404);
    assert!(unknown.contains("role=\"alert\">This address") && !unknown.contains("<script"), "{unknown}");
}

#[tokio::test]
async fn what_is_turned_off_is_the_cells_again() {
    let world = World::with_tables("[setup]\nenabled = false\n").await;
    for path in ["/setup", "/mail/config-v1.1.xml", "/mail/setup.mobileconfig", "/.well-known/carddav"] {
        let answer = world.request("GET", path).header("cookie", world.session()).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "cell", "{path}");
        assert_eq!(world.cell.last().path, path);
    }
    assert_eq!(get(&world, &world.url_of("autoconfig.univ.example", "/mail/config-v1.1.xml")).await.0, 421);
}
