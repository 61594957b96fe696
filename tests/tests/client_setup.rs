//! A user types an address into a program, and nothing else: what the program is told leads to the mailbox.

use std::{path::PathBuf, process::Command, sync::LazyLock};

use guichet_tests::{ALICE, Browser, Curl, Gateway, HOST, House, guichet, python};
use serde_json::Value;

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("client-setup"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let settings = HOUSE.settings("gateway").with("[setup]\ndav_path = \"/dav/\"\n");
    let names = ["autoconfig.univ-a.test", "autodiscover.univ-a.test"];
    HOUSE.world.pki().server_in(&settings.dir().join("tls"), "setup", &names);
    HOUSE.start(settings)
});

/// A program that finds the host, and ours where it is led there.
fn program(host: &str) -> Curl {
    Curl::trusting(&HOUSE.world, host).with(&["--connect-to", &format!("{HOST}::127.0.0.1:")])
}

fn url(host: &str, path: &str) -> String {
    format!("https://{host}:{}{path}", GATEWAY.https())
}

fn kept(name: &str, text: &str) -> PathBuf {
    let path = HOUSE.world.folder("documents").join(name);
    std::fs::write(&path, text).expect("document");
    path
}

/// Everything that programs are told for alice, as Python's readers see it.
fn told() -> Value {
    let autoconfig = "autoconfig.univ-a.test";
    let document = program(autoconfig).get(&url(autoconfig, "/mail/config-v1.1.xml?emailaddress=alice%40univ-a.test"));
    let request = kept(
        "request.xml",
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\">\
         <Request><EMailAddress>alice@univ-a.test</EMailAddress><AcceptableResponseSchema>\
         http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>",
    );
    let autodiscover = "autodiscover.univ-a.test";
    let pox = program(autodiscover).ask(
        &url(autodiscover, "/Autodiscover/Autodiscover.xml"),
        &["-H", "content-type: text/xml", "--data-binary", &format!("@{}", request.display())],
    );
    let profile = program(HOST).get(&GATEWAY.url("/mail/setup.mobileconfig?emailaddress=alice%40univ-a.test"));
    for answer in [&document, &pox, &profile] {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let files = [("autoconfig.xml", &document), ("autodiscover.xml", &pox), ("profile.xml", &profile)];
    let files = files.map(|(name, answer)| kept(name, &answer.body).display().to_string());
    serde_json::from_str(&python("setup.py", &files.each_ref().map(String::as_str))).expect("JSON")
}

#[test]
fn what_each_kind_of_program_is_told_leads_to_the_mailbox() {
    let told = told();
    assert_eq!((&told["domain"], &told["name"]), (&"univ-a.test".into(), &"Université A".into()), "{told}");
    let first = &told["incoming"][0];
    let profile = &told["profile"][0];
    // No submission here: a profile has no mail then, but calendars and contacts.
    assert_eq!(
        (profile["PayloadType"].as_str(), told["profile"].as_array().map(Vec::len)),
        (Some("com.apple.caldav.account"), Some(2))
    );
    assert_eq!((&profile["CalDAVHostName"], &profile["CalDAVPort"]), (&HOST.into(), &GATEWAY.https().into()));
    let user = first["username"].as_str().expect("a user name").replace("%EMAILADDRESS%", ALICE.address);
    let pox = &told["pox"][0];
    for (host, port, user) in [
        (&first["hostname"], &first["port"], user.as_str()),
        (&pox["Server"], &pox["Port"], pox["LoginName"].as_str().expect("a login name")),
    ] {
        let (host, port) = (host.as_str().expect("a host"), port.as_str().expect("a port"));
        let output = program(host)
            .command()
            .args([
                "--user",
                &format!("{user}:{}", ALICE.password),
                "--url",
                &format!("imaps://{host}:{port}/INBOX;MAILINDEX=1"),
            ])
            .output()
            .expect("curl runs");
        assert!(output.status.success(), "{told}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let stories: Vec<_> =
        told["incoming"].as_array().into_iter().flatten().map(|one| one["socketType"].as_str()).collect();
    assert_eq!(stories, [Some("SSL"), Some("STARTTLS")]);
    assert!(GATEWAY.metric("guichet_setup_requests_total", &["\"autoconfig\"", "\"told\""]) >= 1.0);
}

#[test]
fn a_program_that_has_no_certificate_to_trust_is_led_by_plain_http() {
    let host = "autoconfig.labo-b.test";
    let path = "/mail/config-v1.1.xml?emailaddress=carol%40labo-b.test";
    let answer = program(host).get_following(&format!("http://{host}:{}{path}", GATEWAY.http()));
    assert_eq!((answer.status, answer.url), (200, GATEWAY.url(path)), "{}", answer.body);
    let host = "autodiscover.labo-b.test";
    let answer = program(host).get(&format!("http://{host}:{}/autodiscover/autodiscover.xml", GATEWAY.http()));
    assert_eq!((answer.status, answer.location()), (302, GATEWAY.url("/autodiscover/autodiscover.xml").as_str()));
}

#[test]
fn a_calendar_program_comes_to_the_cell_by_the_well_known_path() {
    let user = format!("{}:{}", ALICE.address, ALICE.password);
    let answer = program(HOST).ask(
        &GATEWAY.url("/.well-known/caldav"),
        &["-L", "--max-redirs", "2", "-X", "PROPFIND", "--post301", "--user", &user, "--data-binary", "<a/>"],
    );
    assert_eq!((answer.status, answer.url), (207, GATEWAY.url("/dav/")), "{}", answer.body);
    let seen: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((&seen["method"], &seen["bytes"]), (&"PROPFIND".into(), &4.into()));
}

#[test]
fn a_person_reads_the_settings_in_a_browser() {
    let browser = Browser::open(&HOUSE.world, HOST, "fr");
    browser.goto(&GATEWAY.url("/login"));
    browser.click("a[href='/setup']");
    browser.wait_text("Afficher les réglages");
    browser.fill("#address", "nobody@elsewhere.test");
    browser.click("button");
    browser.wait_text("n’appartient à aucun établissement");
    browser.screenshot("setup-error-fr");
    browser.fill("#address", ALICE.address);
    browser.click("button");
    browser.wait_text("Réglages pour alice@univ-a.test");
    browser.screenshot("setup-fr");
    let text = browser.text();
    for words in [&GATEWAY.imaps().to_string(), "SSL/TLS", HOST] {
        assert!(text.contains(words), "no {words:?} in: {text}");
    }
    browser.click("a[hreflang='en']");
    browser.wait_text("Settings for alice@univ-a.test");
    assert_eq!(browser.script("return document.cookie").as_str(), Some(""));
}

#[test]
fn the_records_name_the_ports_that_are_open() {
    let dns = |args: &[&str]| {
        Command::new(guichet()).args(["dns", "-c"]).arg(GATEWAY.config()).args(args).output().expect("guichet dns runs")
    };
    let zone = String::from_utf8(dns(&[]).stdout).expect("text");
    for record in [
        format!("_imaps._tcp.univ-a.test. 3600 IN SRV 0 1 {} {HOST}.", GATEWAY.imaps()),
        format!("_imap._tcp.labo-b.test. 3600 IN SRV 10 1 {} {HOST}.", GATEWAY.imap()),
        "_pop3s._tcp.univ-a.test. 3600 IN SRV 0 0 0 .".to_owned(),
        format!("_caldavs._tcp.univ-a.test. 3600 IN SRV 0 1 {} {HOST}.", GATEWAY.https()),
        format!("autoconfig.univ-a.test. 3600 IN CNAME {HOST}."),
    ] {
        assert!(zone.lines().any(|line| line == record), "no {record:?} in:\n{zone}");
    }
    let json: Value = serde_json::from_slice(&dns(&["--json"]).stdout).expect("JSON");
    let records = json["domains"].as_array().into_iter().flatten().flat_map(|one| one["records"].as_array());
    assert_eq!(records.flatten().count(), zone.lines().filter(|line| line.contains(" IN ")).count());
    let bad = Command::new(guichet()).args(["dns", "-c", "/no/such/file"]).output().expect("guichet dns runs");
    assert_eq!(bad.status.code(), Some(78));
}
