//! Each peer of the stories stands up alone: when one of these fails, no other story means anything.

use std::process::Command;

use guichet_tests::{
    Browser, Curl, Dialogue, Dovecot, Login, MASTER, Postfix, Relay, SimpleSaml, Slapd, WebCell, World, python, run,
    run_with_input,
};

#[test]
fn slapd_checks_passwords_over_starttls_and_refuses_a_locked_account() {
    let world = World::new("peer-slapd");
    let slapd = Slapd::start(&world);
    slapd.add_user("alice@univ-a.test", "wonderland", &["guichetCell: alpha"]);
    slapd.add_user("lou@univ-a.test", "locked-out", &[]);
    slapd.lock("lou@univ-a.test");
    assert!(slapd.whoami("alice@univ-a.test", "wonderland").expect("good password").contains("alice@univ-a.test"));
    assert!(slapd.whoami("alice@univ-a.test", "wrong").is_err());
    assert!(slapd.whoami("lou@univ-a.test", "locked-out").is_err());
    let found = slapd.search("(mail=alice@univ-a.test)");
    assert!(found.contains("guichetCell: alpha") && !found.contains("userPassword"), "{found}");
    let plain = Command::new("ldapwhoami")
        .args([
            "-x",
            "-H",
            &slapd.url(),
            "-D",
            "mail=alice@univ-a.test,ou=people,dc=guichet,dc=test",
            "-w",
            "wonderland",
        ])
        .output()
        .expect("ldapwhoami");
    assert!(!plain.status.success(), "a password crossed without TLS");
}

#[test]
fn dovecot_serves_a_mailbox_to_its_owner_and_to_the_master_user() {
    let world = World::new("peer-dovecot");
    let mut cell = Dovecot::start(&world, "alpha", &[("alice@univ-a.test", "cell-password")]);
    let fetch = |user: &str, options: &[&str]| {
        let output = Curl::trusting(&world, "alpha.cell.test")
            .command()
            .args(["-u", user, "--url", &format!("imaps://alpha.cell.test:{}/INBOX;MAILINDEX=1", cell.imaps())])
            .args(options)
            .output()
            .expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let welcome = "This mailbox of alice@univ-a.test is in cell alpha.";
    assert!(fetch("alice@univ-a.test:cell-password", &[]).contains(welcome), "{}", cell.log());
    let master = fetch("guichet-master:master-secret-4Rt", &["--sasl-authzid", "alice@univ-a.test"]);
    assert!(master.contains(welcome), "{}", cell.log());
    assert!(!fetch("alice@univ-a.test:wrong", &[]).contains(welcome));
    cell.stop();
    cell.restart();
    let relay = Relay::to(cell.imap());
    let mut through = Dialogue::plain(relay.port());
    assert!(through.expect("* OK").contains("STARTTLS"));
    relay.refuse();
    assert!(through.line().is_none());
}

#[test]
fn postfix_takes_mail_from_the_owner_of_a_mailbox_and_from_the_master_user_only() {
    let world = World::new("peer-postfix");
    let logins = Dovecot::start(&world, "alpha", &[("alice@univ-a.test", "cell-password")]);
    let mut cell = Postfix::start(&world, &logins);
    let send = |url: &str, options: &[&str], subject: &str| {
        let mut curl = Curl::trusting(&world, "alpha.cell.test").command();
        curl.args(["--ssl-reqd", "--url", url, "--mail-from", "alice@univ-a.test", "-T", "-"])
            .args(["--mail-rcpt", "bob@univ-a.test", "--mail-rcpt", "carol@labo-b.test"])
            .args(options);
        run_with_input(&mut curl, format!("Subject: {subject}\r\n\r\nBonjour\r\n").as_bytes()).status.code()
    };
    let clear = format!("smtp://alpha.cell.test:{}", cell.submission());
    let tls = format!("smtps://alpha.cell.test:{}", cell.submissions());
    let master = format!("{}:{}", MASTER.0, MASTER.1);
    assert_eq!(send(&clear, &["-u", "alice@univ-a.test:cell-password"], "by-password"), Some(0), "{}", cell.log());
    let entered = ["-u", &master, "--sasl-authzid", "alice@univ-a.test", "--login-options", "AUTH=PLAIN"];
    assert_eq!(send(&tls, &entered, "by-master"), Some(0), "{}", cell.log());
    assert_eq!(send(&tls, &["-u", "alice@univ-a.test:wrong"], "by-nobody"), Some(67));
    assert_ne!(send(&tls, &[], "without-login"), Some(0));
    cell.wait_log(&["client=", "sasl_method=PLAIN", "sasl_username=alice@univ-a.test"]);

    // What a gateway has to prevent works here: an address by XCLIENT, and a second message behind bare line ends.
    let mut through = Dialogue::tls(cell.submissions(), "alpha.cell.test", &world.pki().ca());
    through.expect("220 ");
    through.send("EHLO story.test\r\n");
    through.expect("250-XCLIENT");
    through.expect("250 ");
    through.send("XCLIENT ADDR=203.0.113.7\r\n");
    through.expect("220 ");
    through.send("EHLO story.test\r\n");
    through.expect("250 ");
    through.send("AUTH PLAIN AGFsaWNlQHVuaXYtYS50ZXN0AGNlbGwtcGFzc3dvcmQ=\r\n");
    through.expect("235 ");
    through.send("MAIL FROM:<alice@univ-a.test>\r\nRCPT TO:<bob@univ-a.test>\r\nDATA\r\n");
    through.expect("354 ");
    through.send(
        "Subject: outside\r\n\r\nfirst\n.\r\nMAIL FROM:<alice@univ-a.test>\r\nRCPT TO:<bob@univ-a.test>\r\n\
         DATA\r\nSubject: smuggled\r\n\r\nsecond\r\n.\r\nQUIT\r\n",
    );
    through.expect("221 ");
    cell.wait_log(&["client=unknown[203.0.113.7]", "sasl_username=alice@univ-a.test"]);

    cell.stop();
    cell.restart();
    cell.wait_settled();
    for (subject, copies) in
        [("by-password", 2), ("by-master", 2), ("by-nobody", 0), ("without-login", 0), ("outside", 1), ("smuggled", 1)]
    {
        assert_eq!(cell.delivered(&format!("Subject: {subject}")).len(), copies, "{subject}\n{}", cell.log());
    }
    assert_eq!(cell.delivered("Delivered-To: carol@labo-b.test").len(), 2);
}

#[test]
fn simplesamlphp_shows_its_form_and_signs_its_federation() {
    let world = World::new("peer-idp");
    let logins = [Login {
        login: "alice",
        password: "looking-glass",
        address: "alice@univ-a.test",
        affiliation: "student@univ-a.test",
    }];
    let idp = SimpleSaml::start(&world, "idp-a", &["univ-a.test"], &logins);
    let federation = std::fs::read_to_string(idp.federation_file()).expect("federation file");
    assert!(federation.contains(&format!("entityID=\"{}\"", idp.entity_id())), "{federation}");
    assert!(federation.contains("<shibmd:Scope") && federation.contains("validUntil"), "{federation}");
    run(Command::new("xmlsec1")
        .args([
            "--verify",
            "--id-attr:ID",
            "urn:oasis:names:tc:SAML:2.0:metadata:EntitiesDescriptor",
            "--pubkey-cert-pem",
        ])
        .arg(world.dir().join("pki/idp-a-federation.crt"))
        .arg(idp.federation_file()));
    let base = idp.entity_id().replace("saml2/idp/metadata.php", "module.php/core/authenticate.php?as=testusers");
    let curl = Curl::browser(&world, "localhost");
    let page = idp.log_in(&curl, &base, "alice", "looking-glass");
    assert!(page.body.contains("alice@univ-a.test"), "{}", page.body);
}

#[test]
fn the_web_cell_tells_what_reached_it() {
    let world = World::new("peer-web");
    let cell = WebCell::start(&world, "alpha");
    let url = format!("http://127.0.0.1:{}", cell.port());
    let answer = Curl::plain().ask(&format!("{url}/echo"), &["-X", "PROPFIND", "-H", "Depth: 1", "-d", "body"]);
    assert_eq!(answer.status, 207);
    assert!(answer.body.contains("\"PROPFIND\"") && answer.body.contains("[\"depth\", \"1\"]"), "{}", answer.body);
    let said = python("websocket.py", &[&format!("{url}/ws"), &world.pki().ca().display().to_string(), &url, "a=b"]);
    assert_eq!(said, "hello nobody\nBONJOUR\nsame bytes\nclosed 1000\n");
}

#[test]
fn chromium_trusts_the_world_and_only_the_world() {
    let world = World::new("peer-browser");
    let cell = WebCell::start(&world, "alpha");
    let browser = Browser::open(&world, "alpha.cell.test", "fr");
    browser.goto(&format!("http://alpha.cell.test:{}/", cell.port()));
    browser.wait_text("Mailbox of nobody");
    browser.screenshot("peer-browser");
    assert_eq!(browser.languages().get(0).and_then(|l| l.as_str()), Some("fr"));

    let dovecot = Dovecot::start(&world, "alpha", &[]);
    let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        browser.goto(&format!("https://not-that-name.test:{}/", dovecot.imaps()));
    }));
    assert!(wrong.is_err(), "a name that is not in the certificate was accepted");
}
