//! An institution with a hostname of its own: login there, what the cell and the institution's IdP are told of it, and our
//! own keys replaced under way without a failed login.

use std::{process::Command, sync::LazyLock};

use guichet_tests::{ALICE, Answer, CAROL, Curl, Files, Gateway, HOST, House, Settings, guichet, run};

const OWN: &str = "mail.univ-a.test";

static HOUSE: LazyLock<House> = LazyLock::new(|| House::with_idp("tenant-hosts"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| HOUSE.start(settings("gateway")));

/// The usual house, and a hostname of `univ-a` with its certificate.
fn settings(name: &str) -> Settings {
    let domains = "domains = [\"univ-a.test\"]";
    let settings = HOUSE.settings(name).instead(domains, &format!("{domains}\nhostnames = [\"{OWN}\"]"));
    HOUSE.world.pki().server_in(&settings.dir().join("tls"), "own", &[OWN]);
    settings
}

/// A browser that finds the own hostname, too.
fn browser() -> Curl {
    HOUSE.browser().with(&["--connect-to", &format!("{OWN}::127.0.0.1:")])
}

/// The redirect to the IdP of somebody who comes by the own hostname.
fn to_idp(gateway: &Gateway, browser: &Curl, path: &str) -> Answer {
    let first = browser.get(&gateway.url_at(OWN, path));
    assert_eq!(first.status, 302, "{first:?}");
    assert!(first.location().starts_with("/login?next="), "{first:?}");
    let second = browser.get(&gateway.url_at(OWN, first.location()));
    assert_eq!(second.status, 302, "nobody is asked for the institution: {second:?}");
    second
}

fn at_idp(gateway: &Gateway, browser: &Curl) -> Answer {
    let to_idp = to_idp(gateway, browser, "/");
    HOUSE.idp().log_in(browser, to_idp.location(), ALICE.idp_login, ALICE.idp_password)
}

/// A login on each of the two hostnames, from start to page.
#[track_caller]
fn assert_logins(gateway: &Gateway, when: &str) {
    let own = browser();
    let entered = HOUSE.to_acs(&own, &at_idp(gateway, &own));
    assert_eq!(entered.status, 303, "{when}: {entered:?}\n{}", gateway.log());
    assert!(own.get(&gateway.url_at(OWN, "/")).body.contains("Mailbox of alice@univ-a.test"), "{when}");
    let public = HOUSE.browser();
    assert_eq!(HOUSE.log_in(gateway, &public, &ALICE).status, 303, "{when}: {}", gateway.log());
    assert!(public.get(&gateway.url("/")).body.contains("Mailbox of alice@univ-a.test"), "{when}");
}

#[test]
fn on_its_own_hostname_an_institution_logs_in_from_start_to_page() {
    let browser = browser();
    let url = |path: &str| GATEWAY.url_at(OWN, path);
    let to_idp = to_idp(&GATEWAY, &browser, "/mail?folder=inbox");
    let page = HOUSE.idp().log_in(&browser, to_idp.location(), ALICE.idp_login, ALICE.idp_password);
    assert_eq!(page.form_action().as_deref(), Some(url("/saml/acs").as_str()), "the IdP answers to this host");
    let entered = HOUSE.to_acs(&browser, &page);
    assert_eq!((entered.status, entered.location()), (303, "/mail?folder=inbox"), "{entered:?}\n{}", GATEWAY.log());
    let told = browser.get(&url("/mail?folder=inbox"));
    let told: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
    assert_eq!(told["identity"]["sub"], ALICE.address);
    let authority = format!("{OWN}:{}", GATEWAY.https());
    for name in ["host", "x-forwarded-host"] {
        let header = serde_json::json!([name, authority]);
        assert!(told["headers"].as_array().expect("headers").contains(&header), "{name}: {told}");
    }
    assert_eq!(browser.get(&GATEWAY.url("/")).status, 302, "the cookie is that of this host");
    assert!(browser.get(&GATEWAY.url("/login")).body.contains("Your email address"), "which asks, as before");
    let out = browser.get(&url("/logout"));
    assert!(out.location().contains("/saml2/idp/SingleLogoutService.php?"), "on to the IdP: {out:?}");
    let back = browser.get_following(out.location());
    assert!(back.url.starts_with(&url("/saml/slo?SAMLResponse=")), "and back to this host: {back:?}");
    assert!(back.body.contains("The session at your institution has ended, too"), "{back:?}\n{}", GATEWAY.log());
    assert_eq!(browser.get(&url("/")).status, 302);
}

#[test]
fn somebody_of_another_institution_is_served_there_too() {
    let browser = browser();
    let form = [("address", CAROL.address), ("password", CAROL.password), ("next", "/")];
    assert_eq!(browser.post(&GATEWAY.url_at(OWN, "/login/password"), &form).status, 303);
    let page = browser.get(&GATEWAY.url_at(OWN, "/")).body;
    assert!(page.contains("Mailbox of carol@labo-b.test"), "{page}");
}

/// The Service Provider Request Initiation Protocol, which our metadata announces: a portal of the institution names the
/// IdP and the page.
#[test]
fn a_portal_begins_a_login_that_leads_to_its_page() {
    for (target, page) in [(GATEWAY.url_at(OWN, "/mail?id=7"), "/mail?id=7"), ("https://evil.test/".to_owned(), "/")] {
        let browser = browser();
        let (idp, target) = (format!("entityID={}", HOUSE.idp().entity_id()), format!("target={target}"));
        let words = ["-G", "--data-urlencode", &idp, "--data-urlencode", &target];
        let to_idp = browser.ask(&GATEWAY.url_at(OWN, "/login"), &words);
        assert_eq!(to_idp.status, 302, "{to_idp:?}");
        let at_idp = HOUSE.idp().log_in(&browser, to_idp.location(), ALICE.idp_login, ALICE.idp_password);
        assert_eq!(HOUSE.to_acs(&browser, &at_idp).location(), page, "{target}");
    }
}

#[test]
fn a_response_posted_to_another_host_is_refused() {
    let browser = browser();
    let to_idp = to_idp(&GATEWAY, &browser, "/");
    let pending =
        to_idp.header_all("set-cookie").into_iter().find(|cookie| cookie.starts_with("__Host-guichet-login-"));
    let pending = pending.and_then(|cookie| cookie.split(';').next()).expect("a pending login");
    let page = HOUSE.idp().log_in(&browser, to_idp.location(), ALICE.idp_login, ALICE.idp_password);
    let (response, relay) = (page.field("SAMLResponse").expect("Response"), page.field("RelayState").expect("state"));
    let form = [("SAMLResponse", response.as_str()), ("RelayState", relay.as_str())];
    // A browser would not bring the cookie there.
    assert_eq!(HOUSE.browser().post(&GATEWAY.url("/saml/acs"), &form).status, 403);
    let thief = HOUSE.browser().with(&["-H", &format!("Cookie: {pending}")]);
    let refused = thief.post(&GATEWAY.url("/saml/acs"), &form);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body.contains("Reference for the help desk"));
    assert_eq!(GATEWAY.metric("guichet_saml_refusals_total", &["kind=\"destination\""]), 1.0);
    assert_eq!(HOUSE.to_acs(&browser, &page).status, 303, "and where it belongs it is still good");
}

#[test]
fn redirects_and_forms_keep_to_the_host_that_the_browser_uses() {
    let browser = browser();
    let plain = browser.get(&format!("http://{OWN}:{}/mail?a=b", GATEWAY.http()));
    assert_eq!((plain.status, plain.location()), (301, GATEWAY.url_at(OWN, "/mail?a=b").as_str()));
    let foreign = browser.get(&format!("http://127.0.0.1:{}/mail", GATEWAY.http()));
    assert_eq!(foreign.location(), GATEWAY.url("/mail"), "an unknown name leads to the public one");
    let form = [("address", ALICE.address)];
    let from = |hostname: &str| {
        let origin = format!("Origin: https://{hostname}:{}", GATEWAY.https());
        browser.with(&["-H", &origin]).post(&GATEWAY.url_at(OWN, "/login/start"), &form).status
    };
    assert_eq!((from(OWN), from(HOST)), (200, 403), "each host is a site of its own");
    let stranger = browser.with(&["-H", "Host: mail.elsewhere.test"]).get(&GATEWAY.url_at(OWN, "/login"));
    assert_eq!(stranger.status, 421);
}

#[test]
fn the_metadata_is_one_document_that_registries_take() {
    let own = browser().get(&GATEWAY.url_at(OWN, "/saml/metadata")).body;
    assert_eq!(own, browser().get(&GATEWAY.url("/saml/metadata")).body);
    let printed = run(Command::new(guichet()).args(["saml", "metadata", "-c"]).arg(GATEWAY.config()));
    assert_eq!(printed, own, "a registry can have it before a node runs");
    for (index, host) in [(0, HOST), (2, OWN)] {
        let endpoint = format!("Location=\"{}\" index=\"{index}\"", GATEWAY.url_at(host, "/saml/acs"));
        assert!(own.contains(&endpoint), "{endpoint}\n{own}");
    }
    assert_valid(&own);
}

/// Everything that can be said in it, held against the schemas of Shibboleth's own library.
#[test]
fn metadata_with_everything_in_it_is_valid() {
    let said = "[saml]\n\
        display_name = { fr = \"Messagerie <de> l'université\", en = \"Mail & calendar\" }\n\
        description = { fr = \"Courrier, agendas et contacts\", en = \"Mail, calendars and contacts\" }\n\
        information_url = { fr = \"https://www.univ-a.test/?a=1&b=2\", en = \"https://www.univ-a.test/en\" }\n\
        privacy_url = { fr = \"https://www.univ-a.test/vie-privee\" }\n\
        logo = { url = \"https://www.univ-a.test/logo.png\", width = 80, height = 60 }\n\
        organization = { name = { fr = \"Université A\" }, url = { fr = \"https://www.univ-a.test/\" } }\n\
        contact.technical = { name = \"Exploitation\", address = \"ops@univ-a.test\" }\n\
        contact.support = { name = \"Assistance\", address = \"help@univ-a.test\" }\n\
        contact.security = { name = \"CERT\", address = \"cert@univ-a.test\" }\n\
        entity_categories = [\"https://refeds.org/category/code-of-conduct/v2\"]\n\
        assurance_certifications = [\"https://refeds.org/sirtfi\"]\n";
    let config = settings("everything").instead("[saml]\n", said).write();
    let printed = run(Command::new(guichet()).args(["saml", "metadata", "-c"]).arg(config));
    for words in ["UIInfo", "Sirtfi", "contactType/security", "EntityAttributes", "Mail &amp; calendar"] {
        assert!(printed.to_lowercase().contains(&words.to_lowercase()), "{words}: {printed}");
    }
    assert_valid(&printed);
}

/// Against the schemas that Debian packages with Shibboleth's library; `xmllint` fetches nothing.
#[track_caller]
fn assert_valid(document: &str) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    let folder = HOUSE.world.folder("schema");
    let schemas: String = SCHEMAS
        .iter()
        .map(|(namespace, file)| {
            format!("<import namespace=\"{namespace}\" schemaLocation=\"/usr/share/xml/{file}\"/>\n")
        })
        .collect();
    let schema = folder.join(format!("{:x}.xsd", hasher.finish()));
    let whole = format!("<schema xmlns=\"http://www.w3.org/2001/XMLSchema\">\n{schemas}</schema>\n");
    std::fs::write(&schema, whole).expect("schema");
    let rewritten: String = REWRITTEN
        .iter()
        .map(|(address, file)| format!("<uri name=\"{address}\" uri=\"file:///usr/share/xml/xmltooling/{file}\"/>\n"))
        .chain(REWRITTEN.iter().map(|(address, file)| {
            format!("<system systemId=\"{address}\" uri=\"file:///usr/share/xml/xmltooling/{file}\"/>\n")
        }))
        .collect();
    let catalog = schema.with_extension("catalog.xml");
    let names = "urn:oasis:names:tc:entity:xmlns:xml:catalog";
    std::fs::write(&catalog, format!("<catalog xmlns=\"{names}\">\n{rewritten}</catalog>\n")).expect("catalog");
    let file = schema.with_extension("xml");
    std::fs::write(&file, document).expect("document");
    run(Command::new("xmllint")
        .env("XML_CATALOG_FILES", catalog)
        .args(["--nonet", "--noout", "--schema"])
        .arg(schema)
        .arg(file));
}

const SCHEMAS: [(&str, &str); 7] = [
    ("urn:oasis:names:tc:SAML:2.0:metadata", "opensaml/saml-schema-metadata-2.0.xsd"),
    ("urn:oasis:names:tc:SAML:metadata:ui", "opensaml/sstc-saml-metadata-ui-v1.0.xsd"),
    ("urn:oasis:names:tc:SAML:metadata:algsupport", "opensaml/sstc-saml-metadata-algsupport-v1.0.xsd"),
    ("urn:oasis:names:tc:SAML:metadata:attribute", "opensaml/sstc-metadata-attr.xsd"),
    ("urn:oasis:names:tc:SAML:profiles:SSO:idp-discovery-protocol", "opensaml/sstc-saml-idp-discovery.xsd"),
    ("urn:oasis:names:tc:SAML:profiles:SSO:request-init", "opensaml/sstc-request-initiation.xsd"),
    ("http://www.w3.org/2009/xmlenc11#", "xmltooling/xenc11-schema.xsd"),
];

/// What the schemas import from the web.
const REWRITTEN: [(&str, &str); 3] = [
    ("http://www.w3.org/TR/2002/REC-xmldsig-core-20020212/xmldsig-core-schema.xsd", "xmldsig-core-schema.xsd"),
    ("http://www.w3.org/TR/2002/REC-xmlenc-core-20021210/xenc-schema.xsd", "xenc-schema.xsd"),
    ("http://www.w3.org/2001/xml.xsd", "xml.xsd"),
];

fn pair(files: &Files) -> String {
    format!("{{ certificate = \"{}\", key_file = \"{}\" }}", files.certificate.display(), files.key.display())
}

#[test]
fn our_keys_are_replaced_without_a_failed_login() {
    let (world, idp) = (&HOUSE.world, HOUSE.idp());
    let mut gateway = HOUSE.start(settings("rollover"));
    let [new_signing, new_encryption] =
        ["signing", "encryption"].map(|name| pair(&world.pki().saml(&format!("{name}-2"))));
    let text = std::fs::read_to_string(gateway.config()).expect("config");
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).expect("a key pair").to_owned();
    let (signing, encryption) = (line("signing = "), line("encryption = "));
    let old_encryption = encryption.trim_start_matches("encryption = ").to_owned();
    let published =
        |gateway: &Gateway| browser().get(&gateway.url("/saml/metadata")).body.matches("<md:KeyDescriptor").count();
    assert_logins(&gateway, "before");

    // The key that signs: published, then used.
    let both = format!("{signing}\nsigning_next = {new_signing}");
    gateway.reload_with(&signing, &both);
    assert_eq!(published(&gateway), 3);
    assert_logins(&gateway, "the next signing key is published, the IdP does not know it yet");
    gateway.register_at(world, idp);
    assert_logins(&gateway, "the IdP knows both signing keys");
    gateway.reload_with(&both, &format!("signing = {new_signing}"));
    assert_eq!(published(&gateway), 2);
    assert_logins(&gateway, "the new key signs, the IdP still knows both");
    gateway.register_at(world, idp);
    assert_logins(&gateway, "the IdP knows the new signing key alone");

    // The key that decrypts: usable, then published, then alone.
    let usable = format!("{encryption}\ndecryption_only = [{new_encryption}]");
    gateway.reload_with(&encryption, &usable);
    assert_logins(&gateway, "the new decryption key is there");
    let swapped = format!("encryption = [{new_encryption}]\ndecryption_only = {old_encryption}");
    gateway.reload_with(&usable, &swapped);
    assert_eq!(published(&gateway), 2);
    assert_logins(&gateway, "the new key is published, the IdP still encrypts for the old one");
    gateway.register_at(world, idp);
    assert_logins(&gateway, "the IdP encrypts for the new key");
    gateway.reload_with(&swapped, &format!("encryption = [{new_encryption}]"));
    assert_logins(&gateway, "the old key is gone");
    for owner in ["signing", "encryption"] {
        let end =
            gateway.metric("guichet_saml_metadata_certificate_not_after_seconds", &[&format!("owner=\"{owner}\"")]);
        assert!(end > 1_700_000_000.0, "{owner}: {end}");
    }
    let refused = gateway.metric("guichet_saml_refusals_total", &[]);
    assert_eq!(refused, 0.0, "{}", gateway.metrics());
}

#[test]
fn a_hostname_without_certificate_and_a_certificate_that_ends_are_remarked() {
    let domains = "domains = [\"univ-a.test\"]";
    let settings = HOUSE.settings("remarks").instead(domains, &format!("{domains}\nhostnames = [\"{OWN}\"]"));
    let config = settings.write();
    let check = || run(Command::new(guichet()).args(["check", "-c"]).arg(&config));
    let said = check();
    assert!(said.contains(&format!("tenant.univ-a.hostnames: no certificate holds {OWN}")), "{said}");
    assert!(!said.contains("saml.signing"), "{said}");

    HOUSE.world.pki().server_in(&settings.dir().join("tls"), "own", &[OWN]);
    let signing = HOUSE.world.pki().saml_for("remarks-signing", 10);
    assert!(settings.text().contains(&signing.certificate.display().to_string()), "the pair that signs");
    let said = check();
    assert!(!said.contains("no certificate holds"), "{said}");
    assert!(said.contains("saml.signing.certificate: this certificate ends soon (in 9 days)"), "{said}");
    assert!(said.contains("The configuration can be used."), "{said}");
}
