//! A federation that publishes its metadata by HTTPS: it goes away, comes back with another key, and serves nonsense;
//! users of its IdPs log in throughout.

use std::{path::Path, sync::LazyLock};

use guichet_tests::{ALICE, Federation, Files, Gateway, House, federation::sign_aggregate, run, wait};

static HOUSE: LazyLock<House> = LazyLock::new(|| House::with_idp("federation-metadata"));

/// A gateway that reads its metadata from `source` and pins `keys`.
fn gateway(name: &str, source: &str, keys: &[&Files]) -> Gateway {
    let pins: Vec<String> = keys.iter().map(|key| format!("\"{}\"", key.certificate.display())).collect();
    let ca = HOUSE.world.pki().ca();
    let table = format!(
        "\n[federation.national]\nsource = {{ {source}, ca = \"{}\" }}\nsigning_keys = [{}]\nrefresh = \"1s\"\n",
        ca.display(),
        pins.join(", ")
    );
    HOUSE.start(HOUSE.settings(name).instead(&HOUSE.idp().config(), &table))
}

fn refreshes(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("guichet_saml_metadata_refreshes_total", &["federation=\"national\"", &format!("\"{result}\"")])
}

/// Waits for one more refresh that ends so, from now on.
fn wait_refresh(gateway: &Gateway, result: &str) {
    let before = refreshes(gateway, result);
    wait::until(result, || (refreshes(gateway, result) > before).then_some(()));
}

fn wait_idps(gateway: &Gateway, number: f64) {
    wait::until("IdPs of the metadata", || (gateway.metric("guichet_saml_metadata_idps", &[]) == number).then_some(()));
}

#[track_caller]
fn assert_login(gateway: &Gateway) {
    let browser = HOUSE.browser();
    assert_eq!(HOUSE.log_in(gateway, &browser, &ALICE).status, 303, "{}", gateway.log());
    assert!(browser.get(&gateway.url("/")).body.contains("Mailbox of alice@univ-a.test"));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn logins_go_on_while_the_federation_is_away_and_after_it_comes_back_with_another_key() {
    let (world, idp) = (&HOUSE.world, HOUSE.idp());
    let [old, new, stranger] = ["old", "new", "stranger"].map(|name| world.pki().saml(&format!("rolled-{name}")));
    let mut federation = Federation::start(world, "rolled", "/main/idps.xml");
    federation.publish(idp, &old, 7);
    let source = format!("url = \"{}\"", federation.url("/main/idps.xml"));
    let mut gateway = gateway("rolled-gateway", &source, &[&old, &new]);
    wait_idps(&gateway, 1.0);
    assert_login(&gateway);
    wait_refresh(&gateway, "unchanged");
    let copy = gateway.dir().join("state/metadata/national.xml");
    assert_eq!(read(&copy), read(&federation.document()));

    federation.kill();
    wait_refresh(&gateway, "failed");
    assert_login(&gateway);
    gateway.restart();
    wait_refresh(&gateway, "failed");
    assert_eq!(refreshes(&gateway, "new"), 0.0, "there is nobody to ask");
    assert_login(&gateway);

    let first = read(&copy);
    federation.publish(idp, &new, 8);
    federation.restart();
    wait::until("a new copy", || (read(&copy) != first).then_some(()));
    assert_eq!(read(&copy), read(&federation.document()));
    wait_refresh(&gateway, "unchanged");
    assert_login(&gateway);

    federation.publish(idp, &stranger, 9);
    wait_refresh(&gateway, "failed");
    gateway.wait_log("not by one of the configured keys");
    assert_login(&gateway);
    assert_ne!(read(&copy), read(&federation.document()), "what is not vouched for is not kept");
    let end = gateway.metric("guichet_saml_metadata_not_after_seconds", &["national"]);
    let now: f64 = run(std::process::Command::new("date").arg("+%s")).trim().parse().expect("a number");
    assert!((7.5..8.5).contains(&((end - now) / 86400.0)), "the end of the document in use: {end}");
    let since = gateway.metric("guichet_saml_metadata_refreshed_seconds", &["national"]);
    assert!((0.0..=60.0).contains(&(now - since)), "the age of the document in use: {since}");
}

#[test]
fn a_source_that_serves_nonsense_changes_nothing() {
    let (world, idp) = (&HOUSE.world, HOUSE.idp());
    let key = world.pki().saml("nonsense-key");
    let federation = Federation::start(world, "nonsense", "/idps.xml");
    federation.publish(idp, &key, 7);
    let gateway = gateway("nonsense-gateway", &format!("url = \"{}\"", federation.url("/idps.xml")), &[&key]);
    wait_idps(&gateway, 1.0);
    let says = |words: &str| drop(gateway.wait_log(words));
    for (mode, words) in [
        ("huge", "the source has more than 134217728 bytes"),
        ("cut", "not well-formed"),
        ("moved", "the source answered 302"),
        ("doctype", "document type declaration"),
        ("broken", "the source answered 503"),
    ] {
        federation.serve(mode);
        says(words);
    }
    let before = refreshes(&gateway, "failed");
    federation.serve("endless");
    wait::until("an endless body ends", || (refreshes(&gateway, "failed") > before + 1.0).then_some(()));
    federation.serve("good");
    federation.publish(idp, &key, 3);
    says("older than the one in use");
    federation.publish(idp, &key, 40);
    says("further ahead than `validity_max`");
    federation.publish_without_end(idp, &key);
    says("has no end");
    federation.publish(idp, &key, 0);
    says("the document has expired");
    assert_login(&gateway);
    federation.publish(idp, &key, 8);
    wait_refresh(&gateway, "new");
    assert_login(&gateway);
}

#[test]
fn an_idp_is_asked_for_by_the_digest_of_its_entity() {
    let (world, idp) = (&HOUSE.world, HOUSE.idp());
    let [key, stranger] = ["mdq-key", "mdq-stranger"].map(|name| world.pki().saml(name));
    let digest = guichet_tests::python("sha1.py", &[&idp.entity_id()]);
    let path = format!("/mdq/entities/%7Bsha1%7D{}", digest.trim());
    let mut federation = Federation::start(world, "mdq", &path);
    federation.publish(idp, &key, 7);
    let mut gateway = gateway("mdq-gateway", &format!("mdq = \"{}\"", federation.url("/mdq/")), &[&key]);
    wait_idps(&gateway, 1.0);
    assert_login(&gateway);
    wait_refresh(&gateway, "unchanged");

    federation.move_to("/mdq/entities/another");
    gateway.wait_log("the source answered 404");
    assert_login(&gateway);
    federation.move_to(&path);
    wait_refresh(&gateway, "unchanged");

    federation.publish(idp, &stranger, 8);
    gateway.wait_log("not by one of the configured keys");
    assert_login(&gateway);
    let another = idp.metadata().replacen(&idp.entity_id(), "https://idp.another.test/", 1);
    sign_aggregate("mdq", &[another], &key, Some(8), &federation.document());
    gateway.wait_log("does not hold the IdP it was asked for");
    assert_login(&gateway);
    federation.publish(idp, &key, 9);
    wait_refresh(&gateway, "new");

    federation.kill();
    gateway.restart();
    assert_login(&gateway);
}

#[test]
fn a_federation_that_drops_the_idp_of_a_tenant_is_not_believed_at_once() {
    let (world, idp) = (&HOUSE.world, HOUSE.idp());
    let key = world.pki().saml("dropping-key");
    let federation = Federation::start(world, "dropping", "/idps.xml");
    let entity = idp.metadata();
    // Twice in the document: the first counts. By the second nobody could log in.
    let twice = entity.replace("SingleSignOnService ", "SingleLogoutService ");
    let publish =
        |members: &[String], days| sign_aggregate("dropping", members, &key, Some(days), &federation.document());
    publish(&[entity.clone(), twice], 7);
    let gateway = gateway("dropping-gateway", &format!("url = \"{}\"", federation.url("/idps.xml")), &[&key]);
    wait_idps(&gateway, 1.0);
    gateway.wait_log("An entity stands twice in the metadata");
    assert_login(&gateway);

    let another = entity.replacen(&idp.entity_id(), "https://idp.another.test/", 1);
    publish(&[another], 8);
    gateway.wait_log("the document drops 1 of the 1 IdPs of tenants");
    let line = gateway.wait_log("New metadata drops the IdP of a tenant.");
    assert!(line.contains(&idp.entity_id()), "{line}");
    let refused = gateway.metric("guichet_saml_metadata_idps_dropped_total", &["national", "refused"]);
    assert!(refused >= 1.0, "{}", gateway.metrics());
    assert_login(&gateway);

    let ends =
        |owner: &str| gateway.metric("guichet_saml_metadata_certificate_not_after_seconds", &["national", owner]);
    let pinned =
        run(std::process::Command::new("openssl").args(["x509", "-noout", "-enddate", "-in"]).arg(&key.certificate));
    let pinned = pinned.trim().trim_start_matches("notAfter=");
    let pinned = run(std::process::Command::new("date").args(["+%s", "-d", pinned]));
    assert_eq!(ends("\"pinned\""), pinned.trim().parse::<f64>().expect("a number"));
    assert!(ends("\"idp\"") > 0.0);

    federation.publish(idp, &key, 9);
    wait_refresh(&gateway, "new");
    assert_login(&gateway);
}
