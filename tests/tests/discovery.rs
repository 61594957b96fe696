//! Which institution? People find theirs among four hundred, with a keyboard alone and without JavaScript; the federation's
//! discovery service is asked, and a gateway is one for another. What they see is kept in `target/screenshots`.

use std::fmt::Write as _;

use guichet_tests::{ALICE, Browser, DiscoveryService, ENTER, Gateway, HOST, House, Settings};

const SERVICE: &str = "wayf.federation.test";

/// Four hundred institutions beside those of the house.
fn crowd() -> String {
    const KINDS: [(&str, &str, &str); 10] = [
        ("universite", "Université de", "University of"),
        ("centrale", "École centrale de", "Central school of"),
        ("beaux-arts", "École supérieure des beaux-arts de", "School of fine arts of"),
        ("archi", "École nationale supérieure d’architecture de", "National school of architecture of"),
        ("crous", "Crous de", "Student services of"),
        ("iut", "Institut universitaire de technologie de", "Institute of technology of"),
        ("sciences-po", "Institut d’études politiques de", "Institute of political studies of"),
        ("rectorat", "Rectorat de", "Education authority of"),
        ("observatoire", "Observatoire des sciences de l’Univers de", "Observatory of"),
        ("conservatoire", "Conservatoire national supérieur de musique et de danse de", "Conservatoire of"),
    ];
    const TOWNS: [&str; 40] = [
        "Angers",
        "Avignon",
        "Belfort",
        "Besançon",
        "Blois",
        "Bordeaux",
        "Bourges",
        "Brest",
        "Caen",
        "Chambéry",
        "Châlons",
        "Cherbourg",
        "Clermont",
        "Compiègne",
        "Corte",
        "Dijon",
        "Évry",
        "Grenoble",
        "Laon",
        "Lille",
        "Limoges",
        "Lyon",
        "Mâcon",
        "Marseille",
        "Metz",
        "Montpellier",
        "Mulhouse",
        "Nancy",
        "Nantes",
        "Nîmes",
        "Orléans",
        "Pau",
        "Poitiers",
        "Reims",
        "Rennes",
        "Rouen",
        "Saint-Étienne",
        "Strasbourg",
        "Toulouse",
        "Tours",
    ];
    let mut tables = String::new();
    for (n, town) in TOWNS.iter().enumerate() {
        for (id, fr, en) in KINDS {
            let _ = write!(
                tables,
                "[tenant.{id}-{n}]\nname = {{ fr = \"{fr} {town}\", en = \"{en} {town}\" }}\n\
                 domains = [\"{id}-{n}.test\"]\ncell = \"alpha\"\n"
            );
        }
    }
    tables
}

fn crowded(house: &House, name: &str) -> Settings {
    house.settings(name).with(&crowd())
}

fn asks(settings: Settings, service: &str) -> Settings {
    settings.instead("[saml]\n", &format!("[saml]\ndiscovery = \"{service}\"\n"))
}

/// Whether pages may run scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scripts {
    On,
    Off,
}

/// Logs in at the IdP's page and arrives at the mail.
fn at_the_idp(house: &House, gateway: &Gateway, browser: &Browser, scripts: Scripts) {
    let path = "/mail/inbox.html";
    browser.wait_url(&format!("http://127.0.0.1:{}/", house.idp().port()));
    browser.fill("input[name=username]", ALICE.idp_login);
    browser.fill("input[name=password]", ALICE.idp_password);
    browser.click("button[type=submit], input[type=submit]");
    if scripts == Scripts::Off {
        // The IdP's page posts its answer by a script, or by a button that only a browser without them shows.
        browser.wait_for("input[name=SAMLResponse]");
        browser.script("document.forms[0].submit()");
    }
    browser.wait_url(&gateway.url(path));
    browser.wait_text(ALICE.address);
}

/// Rules of RGAA and WCAG 2.2 that a machine can check: names, headings, language, target size, reflow at 320 pixels.
fn is_accessible(browser: &Browser, language: &str, width: u32) {
    let seen = browser.accessible();
    for (role, name) in &seen {
        let needs_name = ["textbox", "searchbox", "button", "link", "heading", "navigation"].contains(&role.as_str());
        assert!(!needs_name || !name.trim().is_empty(), "a {role} without a name: {seen:#?}");
    }
    let count = |wanted: &str| seen.iter().filter(|(role, _)| role == wanted).count();
    assert_eq!(count("main"), 1, "{seen:#?}");
    let broken = browser.script(
        "const rules = [];
         const all = selector => [...document.querySelectorAll(selector)];
         if (all('h1').length !== 1) rules.push('one h1');
         const levels = all('h1,h2,h3').map(h => Number(h.tagName[1]));
         if (levels.some((level, n) => level > (levels[n - 1] ?? 0) + 1)) rules.push('headings skip a level');
         for (const field of all('input:not([type=hidden]),select')) if (!field.labels.length) rules.push('no label: ' + field.name);
         for (const one of all('main button, main input:not([type=hidden]), nav a')) {
           const { width, height } = one.getBoundingClientRect();
           if (width < 24 || height < 24) rules.push('small: ' + one.outerHTML);
         }
         if (all('[tabindex]').some(one => one.tabIndex > 0)) rules.push('tabindex');
         const ids = all('[id]').map(one => one.id);
         if (new Set(ids).size !== ids.length) rules.push('an id twice');
         if (document.documentElement.scrollWidth > document.documentElement.clientWidth) rules.push('scrolls sideways');
         return { rules, language: document.documentElement.lang };",
    );
    assert_eq!(broken, serde_json::json!({"rules": [], "language": language}), "at {width} px: {}", browser.url());
}

/// Looks at a page wide and narrow.
fn look(browser: &Browser, name: &str, language: &str) {
    for width in [320, 360, 1000] {
        browser.width(width);
        is_accessible(browser, language, width);
        if width > 320 {
            browser.screenshot(&format!("{name}-{width}-{language}"));
        }
    }
}

#[test]
fn with_the_keyboard_alone_among_four_hundred() {
    let house = House::with_idp("discovery-keyboard");
    let gateway = house.start(crowded(&house, "gateway"));
    let browser = Browser::open(&house.world, HOST, "fr");
    browser.goto(&gateway.url("/mail/inbox.html"));
    browser.wait_text("Afficher toute la liste (402)");
    look(&browser, "institutions", "fr");
    browser.tab_to("#q");
    browser.press("ECOLE");
    browser.wait_text("120 établissements trouvés.");
    browser.press(" evry");
    browser.wait_text("3 établissements trouvés.");
    assert!(browser.text().contains("École centrale de Évry"), "{}", browser.text());
    look(&browser, "institutions-found", "fr");
    let told = browser.script("return document.getElementById('hits').getAttribute('role')");
    assert_eq!(told, "status", "the count is read out");
    for _ in 0.."ECOLE evry".len() {
        browser.press("\u{e003}");
    }
    browser.wait_text("Afficher toute la liste (402)");
    browser.press("universite a");
    browser.wait_text("Université A");
    browser.tab_to("button[value=univ-a]");
    let outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus is seen");
    browser.screenshot("institutions-focus-fr");
    browser.press(ENTER);
    at_the_idp(&house, &gateway, &browser, Scripts::On);

    browser.goto(&gateway.url("/logout"));
    browser.goto(&gateway.url("/login?lang=en"));
    browser.wait_text("Continue with University A");
    assert!(!browser.has("#q"));
    look(&browser, "institution-remembered", "en");
    browser.tab_to("form[action='/login/forget'] button");
    browser.press(ENTER);
    browser.wait_text("Show the whole list (402)");
    browser.goto(&gateway.url("/login"));
    browser.wait_text("Show the whole list (402)");
}

#[test]
fn without_javascript_among_four_hundred() {
    let house = House::with_idp("discovery-plain");
    let gateway = house.start(crowded(&house, "gateway"));
    let browser = Browser::open(&house.world, HOST, "en");
    browser.without_scripts();
    browser.goto(&gateway.url("/login?next=/mail/inbox.html"));
    browser.tab_to("#q");
    browser.press("saint etienne");
    browser.press(ENTER);
    browser.wait_text("10 institutions found.");
    assert!(browser.url().ends_with("#find"), "{}", browser.url());
    look(&browser, "institutions-plain", "en");
    browser.goto(&gateway.url("/login?next=/mail/inbox.html"));
    browser.click("#found a");
    browser.wait_text("Page 1 of 9");
    look(&browser, "institutions-list", "en");
    browser.click("a[rel=next]");
    browser.wait_text("Page 2 of 9");
    browser.fill("#q", "alice@univ-a.test");
    browser.press(ENTER);
    browser.wait_text("1 institution found.");
    browser.click("button[value=univ-a]");
    at_the_idp(&house, &gateway, &browser, Scripts::Off);
}

#[test]
fn the_federations_service_sends_people_to_their_institution() {
    let house = House::with_idp("discovery-service");
    let service = DiscoveryService::start(&house.world, SERVICE);
    let gateway = house.start(asks(crowded(&house, "gateway"), &service.url()));
    let browser = Browser::open(&house.world, "*.test", "en");
    let leave = |words: &str| {
        browser.goto(&gateway.url("/login?next=/mail/inbox.html&choose=1"));
        browser.click("a[href^='/login/discovery/start']");
        browser.wait_text(words);
    };
    leave("No institution was chosen.");
    service.choose("https://idp.nowhere.test/idp");
    leave("The institution you chose has no mailboxes on this service.");
    look(&browser, "institution-unknown", "en");

    service.choose(&house.idp().entity_id());
    browser.goto(&gateway.url("/login?next=/mail/inbox.html"));
    browser.click("a[href^='/login/discovery/start']");
    at_the_idp(&house, &gateway, &browser, Scripts::On);
    assert!((gateway.metric("guichet_discovery_returns_total", &["result=\"chosen\""]) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn one_gateway_is_the_discovery_service_of_another() {
    let house = House::with_idp("discovery-both-ways");
    let mut schools = String::new();
    for n in 0..12 {
        let _ = write!(
            schools,
            "[tenant.ecole-{n}]\nname.fr = \"École n° {n}\"\ndomains = [\"ecole-{n}.test\"]\ncell = \"alpha\"\n\
             idp.saml.entity_id = \"{}\"\n",
            house.idp().entity_id()
        );
    }
    // One probe of each is enough for the IdP, which they share.
    let hub = crowded(&house, "hub").with(&schools).availability("probe_interval = \"10m\"");
    let edge = asks(house.settings("edge"), &hub.url("/discovery"));
    let hub = hub.with(&format!(
        "[saml.discovery_for.edge]\nentity_id = \"{}\"\nreturn_to = [\"{}\"]\n",
        edge.url("/saml"),
        edge.url("/login/discovery")
    ));
    let (hub, edge) = (hub.start(&house.world), house.start(edge));
    let browser = Browser::open(&house.world, HOST, "fr");
    browser.goto(&edge.url("/mail/inbox.html"));
    browser.click("a[href^='/login/discovery/start']");
    browser.wait_url(&hub.url("/discovery?"));
    browser.wait_text("demande par quel établissement vous vous connectez");
    look(&browser, "discovery-for-others", "fr");
    browser.fill("#q", "universite a");
    browser.wait_text("Université A");
    browser.click("button[value=univ-a]");
    at_the_idp(&house, &edge, &browser, Scripts::On);
    for (gateway, name, result) in [
        (&hub, "guichet_discovery_requests_total", "chosen"),
        (&edge, "guichet_discovery_returns_total", "chosen"),
        (&edge, "guichet_login_institutions_total", "discovery"),
    ] {
        assert!(gateway.metric(name, &[result]) >= 1.0, "{name}: {}", gateway.metrics());
    }

    let stranger = hub.url("/discovery?entityID=https%3A%2F%2Fevil.test&return=https%3A%2F%2Fevil.test%2F");
    browser.goto(&stranger);
    browser.wait_text("Référence à donner à l’assistance");
    look(&browser, "discovery-refused", "fr");
    assert!(hub.log().contains("A question to the discovery service was refused."), "{}", hub.log());
}
