//! Mail programs submit at Postfix cells through the gateway: once, under their own name, and nobody else's.

use std::{
    process::{Command, Output},
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{
    ALICE, BOB, CAROL, Curl, Dialogue, Gateway, HOST, House, Person, Postfix, Settings, free_port, python,
    run_with_input, wait,
};

/// A house whose cells take mail: `alpha` by STARTTLS as master user, `beta` in TLS with the user's password.
struct Office {
    house: House,
    alpha: Postfix,
    beta: Postfix,
}

/// Its gateway with the two ports.
struct Counter {
    gateway: Gateway,
    starttls: u16,
    implicit: u16,
}

static OFFICE: LazyLock<Office> = LazyLock::new(|| Office::new("submission"));
static COUNTER: LazyLock<Counter> = LazyLock::new(|| OFFICE.open("gateway", |settings| settings));

impl Office {
    fn new(name: &str) -> Self {
        let house = House::new(name);
        let alpha = Postfix::start(&house.world, &house.alpha);
        let beta = Postfix::start(&house.world, &house.beta);
        Self { house, alpha, beta }
    }

    fn open(&self, name: &str, more: impl FnOnce(Settings) -> Settings) -> Counter {
        let (starttls, implicit) = (free_port(), free_port());
        let listeners = format!(
            "[listener.submission.submission]\nbind = [\"127.0.0.1:{starttls}\"]\ntls = \"starttls\"\n\
             [listener.submission.submissions]\nbind = [\"127.0.0.1:{implicit}\"]\ntls = \"implicit\"\n"
        );
        let cells = self.alpha.config_master(&self.house.alpha) + &self.beta.config_password();
        let gateway = self.house.start(more(self.house.settings(name).with(&cells).with(&listeners)));
        // What the cells tell is shown once each was asked.
        wait::until("every cell is checked", || gateway.endpoints_down().is_empty().then_some(()));
        Counter { gateway, starttls, implicit }
    }

    fn cell(&self, person: &Person) -> &Postfix {
        if person.address == ALICE.address { &self.alpha } else { &self.beta }
    }

    fn ca(&self) -> String {
        self.house.world.pki().ca().display().to_string()
    }

    /// A raw dialogue in TLS, greeted.
    fn dialogue(&self, counter: &Counter) -> Dialogue {
        let mut smtp = Dialogue::tls(counter.implicit, HOST, &self.house.world.pki().ca());
        smtp.expect("220 ");
        smtp.send("EHLO story.test\r\n");
        smtp.expect("250 ");
        smtp
    }

    fn session(&self, counter: &Counter, person: &Person) -> Dialogue {
        let mut smtp = self.dialogue(counter);
        let reply = say(&mut smtp, &plain(person.address, person.password));
        assert!(reply.starts_with("235 "), "{reply}\n{}", counter.gateway.log());
        smtp
    }
}

fn plain(address: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{address}\0{password}")))
}

/// Sends a line and returns the one that answers.
fn say(smtp: &mut Dialogue, line: &str) -> String {
    smtp.send(format!("{line}\r\n"));
    smtp.line().unwrap_or_default()
}

fn message(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nBonjour\r\n").into_bytes()
}

fn swaks(counter: &Counter, person: &Person, password: &str, tls: &str, mechanism: &str, subject: &str) -> Output {
    let port = if tls == "--tls" { counter.starttls } else { counter.implicit };
    let mut command = Command::new("swaks");
    command
        .args(["--server", "127.0.0.1", "--port", &port.to_string(), "--helo", "story.test", tls])
        // An address that is not the gateway's own, so that the cell's log tells them apart.
        .args(["--local-interface", "127.0.0.2", "--tls-verify", "--tls-ca-path", &OFFICE.ca()])
        .args(["--auth", mechanism, "--auth-user", person.address, "--auth-password", password])
        .args(["--from", person.address, "--to", CAROL.address])
        .args(["--header", &format!("Subject: {subject}"), "--body", "Bonjour"]);
    command.output().expect("swaks runs")
}

fn assert_sent(output: &Output, what: &str) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}\n{}", COUNTER.gateway.log());
}

/// The message is there once, and the cell knows whose it is.
fn assert_once(person: &Person, subject: &str) {
    let (cell, words) = (OFFICE.cell(person), format!("Subject: {subject}\n"));
    wait::until(&format!("{subject} is delivered"), || (!cell.delivered(&words).is_empty()).then_some(()));
    cell.wait_settled();
    assert_eq!(cell.delivered(&words).len(), 1, "{subject}\n{}", cell.log());
    cell.wait_log(&["client=", "sasl_method=", &format!("sasl_username={}", person.address)]);
}

#[test]
fn swaks_submits_on_both_ports_by_every_mechanism_to_both_kinds_of_cells() {
    for (person, who) in [(ALICE, "alice"), (BOB, "bob")] {
        for (tls, mechanism) in
            [("--tls", "PLAIN"), ("--tls", "LOGIN"), ("--tls-on-connect", "PLAIN"), ("--tls-on-connect", "LOGIN")]
        {
            let subject = format!("swaks-{who}{tls}-{mechanism}");
            assert_sent(&swaks(&COUNTER, &person, person.password, tls, mechanism, &subject), &subject);
            assert_once(&person, &subject);
        }
        let cell = OFFICE.cell(&person);
        cell.wait_log(&["client=unknown[127.0.0.2]", &format!("sasl_username={}", person.address)]);
    }
    assert!(!OFFICE.alpha.log().contains(ALICE.password) && !OFFICE.house.alpha.log().contains(ALICE.password));
}

#[test]
fn msmtp_smtplib_and_curl_submit() {
    let (ca, person) = (OFFICE.ca(), ALICE);
    for (starttls, port) in [("on", COUNTER.starttls), ("off", COUNTER.implicit)] {
        let subject = format!("msmtp-{starttls}");
        let mut msmtp = Command::new("msmtp");
        msmtp
            .args(["--host=localhost", &format!("--port={port}"), "--tls=on", &format!("--tls-starttls={starttls}")])
            .args([&format!("--tls-trust-file={ca}"), "--auth=plain", &format!("--user={}", person.address)])
            .args([&format!("--passwordeval=echo {}", person.password), &format!("--from={}", person.address)])
            .arg(CAROL.address);
        assert_sent(&run_with_input(&mut msmtp, &message(&subject)), &subject);
        assert_once(&person, &subject);
    }
    let port = COUNTER.starttls.to_string();
    let said =
        python("smtp.py", &[HOST, &port, &ca, person.address, person.password, CAROL.address, "smtplib-starttls"]);
    assert_eq!(said, "refused 0\n");
    assert_once(&person, "smtplib-starttls");
    let text = OFFICE.alpha.delivered("Subject: smtplib-starttls").concat();
    assert!(text.contains("Bonjour\n.\n..\nfin\n"), "dots stay what they were: {text}");
    let mut curl = Curl::trusting(&OFFICE.house.world, HOST).command();
    curl.args(["--user", &format!("{}:{}", person.address, person.password), "--mail-from", person.address]).args([
        "--mail-rcpt",
        CAROL.address,
        "-T",
        "-",
        "--url",
        &format!("smtps://{HOST}:{}", COUNTER.implicit),
    ]);
    assert_sent(&run_with_input(&mut curl, &message("curl-smtps")), "curl");
    assert_once(&person, "curl-smtps");
}

#[test]
fn aiosmtplib_submits_by_starttls_and_in_tls() {
    let (starttls, implicit) = (COUNTER.starttls.to_string(), COUNTER.implicit.to_string());
    let ca = OFFICE.ca();
    let said = python("aiosmtp.py", &[&starttls, &implicit, &ca, BOB.address, BOB.password, CAROL.address]);
    for subject in ["aiosmtplib-starttls", "aiosmtplib-implicit"] {
        assert!(said.contains(&format!("{subject} 0 2.0.0 Ok: queued")), "{said}");
        assert_once(&BOB, subject);
        let text = OFFICE.beta.delivered(&format!("Subject: {subject}\n")).concat();
        assert!(text.contains("Bonjour, à bientôt\n.\n..\nfin\n"), "8-bit text and dots stay what they were: {text}");
    }
}

#[test]
fn a_wrong_password_is_535_and_nothing_is_taken_before_tls() {
    let output = swaks(&COUNTER, &BOB, "wrong-Pw", "--tls-on-connect", "PLAIN", "never");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("535 5.7.8"), "{said}");
    let mut clear = Dialogue::plain(COUNTER.starttls);
    clear.expect("220 ");
    clear.send("EHLO story.test\r\n");
    clear.expect("250 ");
    assert!(clear.transcript().contains("STARTTLS") && !clear.transcript().contains("AUTH"), "{clear:?}");
    let auth = say(&mut clear, &plain(ALICE.address, ALICE.password));
    assert!(auth.starts_with("538 "), "{auth}");
    let mail = say(&mut clear, "MAIL FROM:<alice@univ-a.test>");
    assert!(mail.starts_with("530 "), "{mail}");
}

#[test]
fn nobody_chooses_an_address_or_a_name_by_xclient() {
    let forged = "XCLIENT ADDR=203.0.113.9 LOGIN=forged@univ-a.test";
    let mut before = OFFICE.dialogue(&COUNTER);
    assert!(say(&mut before, forged).starts_with("550 "), "{before:?}");
    let mut smtp = OFFICE.session(&COUNTER, &ALICE);
    assert!(say(&mut smtp, forged).starts_with("550 "), "{smtp:?}");
    for (line, code) in
        [("MAIL FROM:<alice@univ-a.test>", "250 "), ("RCPT TO:<carol@labo-b.test>", "250 "), ("DATA", "354 ")]
    {
        let reply = say(&mut smtp, line);
        assert!(reply.starts_with(code), "{line}: {reply}");
    }
    smtp.send("Subject: after-xclient\r\n\r\nXCLIENT ADDR=203.0.113.9\r\n.\r\n");
    smtp.expect("250 ");
    assert_once(&ALICE, "after-xclient");
    let log = OFFICE.alpha.log();
    assert!(!log.contains("203.0.113.9") && !log.contains("forged"), "{log}");
}

#[test]
fn no_second_message_hides_behind_a_bare_line_end() {
    let ends = ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\n.\r", "\r\n.\r\r\n", "\r\n\0.\r\n"];
    for end in ends {
        for person in [ALICE, BOB] {
            let mut smtp = OFFICE.session(&COUNTER, &person);
            smtp.send(format!("MAIL FROM:<{}>\r\nRCPT TO:<carol@labo-b.test>\r\nDATA\r\n", person.address));
            smtp.expect("354 ");
            smtp.send(format!(
                "Subject: outside\r\n\r\nfirst{end}MAIL FROM:<boss@univ-a.test>\r\nRCPT TO:<carol@labo-b.test>\r\n\
                 DATA\r\nSubject: smuggled\r\n\r\nsecond\r\n.\r\nQUIT\r\n"
            ));
            let reply = smtp.line().unwrap_or_default();
            assert!(reply.starts_with("550 5.5.2"), "{end:?}: {reply}");
            assert!(smtp.rest().is_empty(), "nothing behind it is heard: {smtp:?}");
        }
    }
    for person in [ALICE, BOB] {
        let subject = format!("behind-smugglers-{}", person.idp_login);
        assert_sent(&swaks(&COUNTER, &person, person.password, "--tls", "PLAIN", &subject), &subject);
        assert_once(&person, &subject);
        let cell = OFFICE.cell(&person);
        assert!(cell.delivered("smuggled").is_empty() && cell.delivered("Subject: outside").is_empty());
        assert!(!cell.log().contains("boss@univ-a.test"), "{}", cell.log());
    }
}

#[test]
fn a_user_with_too_many_recipients_is_told_to_come_back() {
    let counter = OFFICE.open("limited", |settings| settings.limits("recipients_per_user = 2"));
    let mut smtp = OFFICE.session(&counter, &ALICE);
    assert!(say(&mut smtp, "MAIL FROM:<alice@univ-a.test>").starts_with("250 "));
    for recipient in ["bob@univ-a.test", "carol@labo-b.test"] {
        assert!(say(&mut smtp, &format!("RCPT TO:<{recipient}>")).starts_with("250 "), "{smtp:?}");
    }
    let third = say(&mut smtp, "RCPT TO:<third@labo-b.test>");
    assert!(third.starts_with("452 4.5.3 You have reached your limit of 2 recipients"), "{third}");
    assert!(say(&mut smtp, "DATA").starts_with("354 "), "the two may have it");
    smtp.send("Subject: two-of-three\r\n\r\nBonjour\r\n.\r\n");
    smtp.expect("250 ");
    wait::until("both copies", || (OFFICE.alpha.delivered("Subject: two-of-three").len() == 2).then_some(()));
    assert!(!OFFICE.alpha.log().contains("third@labo-b.test"));
}

#[test]
fn while_postfix_is_down_clients_are_told_to_try_again_later() {
    let mut office = Office::new("submission-down");
    let counter = office.open("gateway", |settings| settings);
    office.alpha.stop();
    let reply = say(&mut office.dialogue(&counter), &plain(ALICE.address, ALICE.password));
    assert!(reply.starts_with("454 4.") && reply.contains("try again later"), "{reply}");
    office.session(&counter, &BOB);
    office.alpha.restart();
    let mut smtp = wait::until("alpha is back", || {
        let mut smtp = office.dialogue(&counter);
        say(&mut smtp, &plain(ALICE.address, ALICE.password)).starts_with("235 ").then_some(smtp)
    });
    smtp.send("MAIL FROM:<alice@univ-a.test>\r\nRCPT TO:<bob@univ-a.test>\r\nDATA\r\n");
    smtp.expect("354 ");
    // The cell goes away before it has taken the message: nobody is told that it did.
    office.alpha.stop();
    smtp.send("Subject: lost\r\n\r\nBonjour\r\n.\r\n");
    let rest = smtp.rest().join("\n");
    assert!(rest.starts_with("421 ") && rest.contains("try again later"), "{rest}");
    office.alpha.restart();
    office.alpha.wait_settled();
    assert!(office.alpha.delivered("Subject: lost").is_empty());
}
