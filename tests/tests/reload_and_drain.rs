//! A running node takes a new configuration or new certificates without losing a connection, and leaves without cutting one.

use guichet_tests::{ALICE, BOB, Curl, Dialogue, Gateway, HOST, House, Signal, openssl, wait};

fn logged_in(gateway: &Gateway) -> Dialogue {
    let mut imap = gateway.imap_dialogue();
    assert!(imap.answer("a", &format!("LOGIN {} {}", ALICE.address, ALICE.password)).starts_with("a OK"));
    imap
}

fn generation(gateway: &Gateway) -> f64 {
    gateway.metric("guichet_config_generation", &[])
}

fn edit(gateway: &Gateway, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(gateway.config()).expect("config");
    std::fs::write(gateway.config(), change(text)).expect("config");
}

#[test]
fn a_good_reload_takes_effect_and_touches_no_connection() {
    let house = House::new("reload-good");
    let gateway = house.gateway("gateway");
    let mut imap = logged_in(&gateway);
    assert_eq!(generation(&gateway), 1.0);
    // Bob's tenant moves: another default cell for who the directory places nowhere.
    edit(&gateway, |text| {
        text.replace("cell = \"beta\"\ncategory = \"staff\"", "cell = \"alpha\"\ncategory = \"staff\"")
    });
    gateway.signal(Signal::HUP);
    wait::until("generation 2", || (generation(&gateway) == 2.0).then_some(()));
    let user = "carol@labo-b.test:laboratoire-é-Pw5";
    let page = house.program().ask(&gateway.url("/"), &["--user", user]);
    assert!(page.body.contains("cell alpha"), "{page:?}");
    assert!(imap.answer("b", "SELECT INBOX").starts_with("b OK"), "the old connection goes on");
    assert!(gateway.ctl_ok(&["reload"]).contains("generation 3"));
    assert!(imap.answer("c", "NOOP").starts_with("c OK"));
}

#[test]
fn a_bad_reload_changes_nothing_and_says_what_is_wrong() {
    let house = House::new("reload-bad");
    let gateway = house.gateway("gateway");
    let mut imap = logged_in(&gateway);
    let good = std::fs::read_to_string(gateway.config()).expect("config");
    for (from, to, complaint) in [
        ("[log]", "[log]\ncolour = \"red\"", "colour"),
        ("cell = \"alpha\"", "cell = \"omega\"", "omega"),
        ("certificates = \"tls\"", "certificates = \"nowhere\"", "nowhere"),
        ("[node]", "[node", "guichet.toml"),
    ] {
        edit(&gateway, |_| good.replacen(from, to, 1));
        gateway.signal(Signal::HUP);
        let line = gateway.wait_log(complaint);
        assert!(line.contains("guichet.toml:"), "file and line: {line}");
        let refused = gateway.ctl(&["reload"]);
        // ctl reads the same file for its token, so it may be the one who refuses.
        assert!(matches!(refused.status.code(), Some(1 | 78)), "{refused:?}");
        assert_eq!(generation(&gateway), 1.0);
    }
    assert!(gateway.metric("guichet_config_reloads_total", &["result=\"refused\""]) >= 4.0);
    assert!(imap.answer("b", "NOOP").starts_with("b OK"));
    assert!(
        gateway.imap_dialogue().answer("a", &format!("LOGIN {} {}", BOB.address, BOB.password)).starts_with("a OK")
    );
}

#[test]
fn a_listener_comes_and_goes_with_a_reload() {
    let house = House::new("reload-listener");
    let gateway = house.gateway("gateway");
    let port = guichet_tests::free_port();
    let before = std::fs::read_to_string(gateway.config()).expect("config");
    edit(&gateway, |text| format!("{text}\n[listener.imap.second]\nbind = [\"127.0.0.1:{port}\"]\n"));
    gateway.ctl_ok(&["reload"]);
    let mut imap = Dialogue::tls(port, HOST, &house.world.pki().ca());
    imap.expect("* OK");
    edit(&gateway, |_| before);
    gateway.ctl_ok(&["reload"]);
    wait::until("the port closed", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
    assert!(imap.answer("a", "NOOP").starts_with("a OK"), "who came in by it stays");
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_old_ones_stay() {
    let house = House::new("reload-certificate");
    let gateway = house.gateway("gateway");
    let mut imap = logged_in(&gateway);
    let ca = house.world.pki().ca().display().to_string();
    let address = format!("127.0.0.1:{}", gateway.imaps());
    let serial = || {
        let shown = openssl(&["-connect", &address, "-servername", HOST, "-CAfile", &ca, "-showcerts"], b"");
        shown
            .split("-----BEGIN CERTIFICATE-----")
            .nth(1)
            .map(|c| c.chars().take(800).collect::<String>())
            .expect("a certificate")
    };
    let before = serial();
    let tls = gateway.dir().join("tls");
    house.world.pki().server_in(&tls, "main", &[HOST, "localhost", "127.0.0.1"]);
    wait::until("the new certificate", || (serial() != before).then_some(()));
    assert!(imap.answer("b", "SELECT INBOX").starts_with("b OK"), "the open connection was not touched");

    // A certificate without its key: the good pair stays, the trouble is told.
    let now = serial();
    std::fs::remove_file(tls.join("main.key")).expect("removed");
    wait::until("the refusal", || {
        (gateway.metric("guichet_tls_certificate_reloads_total", &["result=\"refused\""]) >= 1.0).then_some(())
    });
    assert_eq!(serial(), now);
}

#[test]
fn a_stopping_node_lets_its_users_finish() {
    let house = House::new("drain");
    let mut gateway = house.gateway("gateway");
    let mut imap = logged_in(&gateway);
    let ready = gateway.management("/readyz");
    gateway.signal(Signal::TERM);
    wait::until("not ready", || Curl::plain().try_get(&ready).filter(|a| a.status == 503).map(drop));
    wait::until("the port closed", || {
        std::net::TcpStream::connect(("127.0.0.1", gateway.imaps())).is_err().then_some(())
    });
    assert!(imap.answer("b", "SELECT INBOX").starts_with("b OK"), "an open session goes on");
    assert!(imap.answer("c", "LOGOUT").starts_with("c OK"));
    assert_eq!(gateway.daemon().wait_exit(), Some(0), "with the last connection the node leaves");
}
