//! Mail programs log in with a client certificate or a bearer token, at a cell that opens to its master user.

use std::{process::Command, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{
    ALICE, BOB, CAROL, Curl, Dialogue, ERIN, Files, GHOST, Gateway, HOST, House, Issuer, LOU, Pki, Postfix, Settings,
    Signal, free_port, guichet, python, run_with_input, wait, welcome,
};

/// Who vouches for users: an authority for certificates, an issuer of tokens.
struct Vouchers {
    authority: Pki,
    issuer: Issuer,
}

/// The ports that ask for certificates.
struct Ports {
    imaps: u16,
    imap: u16,
    pop3s: u16,
    required: u16,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("passwordless"));
static VOUCHERS: LazyLock<Vouchers> = LazyLock::new(|| Vouchers::new(&HOUSE, "vouchers"));
static PORTS: LazyLock<Ports> = LazyLock::new(Ports::new);
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| HOUSE.start(settings(&HOUSE, "gateway", &VOUCHERS, &PORTS)));

impl Vouchers {
    fn new(house: &House, name: &str) -> Self {
        let folder = house.world.folder(name);
        Self { authority: Pki::new(&folder), issuer: Issuer::new(&house.world, &folder, "login") }
    }
}

impl Ports {
    fn new() -> Self {
        Self { imaps: free_port(), imap: free_port(), pop3s: free_port(), required: free_port() }
    }
}

fn settings(house: &House, name: &str, vouchers: &Vouchers, ports: &Ports) -> Settings {
    let ca = vouchers.authority.ca().display().to_string();
    let listener = |kind: &str, name: &str, port: u16, more: &str| {
        format!("[listener.{kind}.{name}]\nbind = [\"127.0.0.1:{port}\"]\n{more}\nclient_ca.file = \"{ca}\"\n")
    };
    let tables = [
        listener("imap", "certified", ports.imaps, ""),
        listener("imap", "certified-starttls", ports.imap, "tls = \"starttls\""),
        listener("pop3", "pop3s", ports.pop3s, ""),
        listener("imap", "required", ports.required, "client_ca.required = true"),
        house.alpha.config_more_master(),
        house.beta.config_more(),
        vouchers.issuer.config("univ-a"),
    ];
    let limits = "login_failures_per_source = 1000\nlogin_failures_per_user = 1000";
    house.settings(name).with(&tables.concat()).limits(limits).log("json", "trace")
}

/// What curl fetches, or its exit code.
fn curl(url: &str, options: &[&str]) -> Result<String, i32> {
    let mut command = Curl::trusting(&HOUSE.world, HOST).command();
    let output = command.args(["-m", "30", "--url", url]).args(options).output().expect("curl runs");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(output.status.code().unwrap_or(-1)),
    }
}

fn paths(files: &Files) -> (String, String) {
    (files.certificate.display().to_string(), files.key.display().to_string())
}

/// A raw dialogue by openssl on the port that asks for certificates.
fn dialogue(certificate: &Files) -> Dialogue {
    LazyLock::force(&GATEWAY);
    let ca = HOUSE.world.pki().ca().display().to_string();
    let (certificate, key) = paths(certificate);
    let address = format!("127.0.0.1:{}", PORTS.imaps);
    let server = ["-connect", &address, "-servername", HOST, "-verify_hostname", HOST, "-CAfile", &ca];
    Dialogue::openssl(&[&server[..], &["-cert", &certificate, "-key", &key]].concat())
}

#[test]
fn curl_reads_mail_with_a_certificate_over_imap_and_pop3() {
    let (certificate, key) = paths(&VOUCHERS.authority.client("alice-curl", ALICE.address));
    LazyLock::force(&GATEWAY);
    let user = format!("{}:", ALICE.address);
    let options = ["--cert", &certificate, "--key", &key, "--user", &user, "--login-options", "AUTH=EXTERNAL"];
    for (url, more) in [
        (format!("imaps://{HOST}:{}/INBOX;MAILINDEX=1", PORTS.imaps), &[][..]),
        (format!("imaps://{HOST}:{}/INBOX;MAILINDEX=1", PORTS.imaps), &["--sasl-ir"][..]),
        (format!("imap://{HOST}:{}/INBOX;MAILINDEX=1", PORTS.imap), &["--ssl-reqd"][..]),
        (format!("imaps://{HOST}:{}/INBOX;MAILINDEX=1", PORTS.required), &[][..]),
        (format!("pop3s://{HOST}:{}/1", PORTS.pop3s), &[][..]),
    ] {
        let message = curl(&url, &[&options[..], more].concat());
        let message = message.unwrap_or_else(|code| panic!("{url}: {code}\n{}", GATEWAY.log()));
        assert!(message.contains(&welcome(ALICE.address, "alpha")), "{url}: {message}");
    }
    let log = HOUSE.alpha.log();
    assert!(log.contains("user=<alice@univ-a.test>") && log.contains("guichet-master"), "{log}");
    assert!(GATEWAY.metric("guichet_auth_decisions_total", &["method=\"certificate\"", "decision=\"allow\""]) >= 5.0);

    // On the same port the password still works without a certificate; where one is required nobody gets so far.
    let with_password = format!("{}:{}", ALICE.address, ALICE.password);
    let imaps = format!("imaps://{HOST}:{}/INBOX;MAILINDEX=1", PORTS.imaps);
    assert!(curl(&imaps, &["--user", &with_password]).is_ok());
    let required = format!("imaps://{HOST}:{}/INBOX;MAILINDEX=1", PORTS.required);
    assert!(curl(&required, &["--user", &with_password]).is_err());
}

#[test]
fn python_reads_mail_with_a_certificate_and_with_a_token() {
    // HOST resolves for Python only as localhost, which the certificate names as well.
    let ca = HOUSE.world.pki().ca().display().to_string();
    let (certificate, key) = paths(&VOUCHERS.authority.client("alice-python", "Alice@UNIV-A.test"));
    LazyLock::force(&GATEWAY);
    let port = PORTS.imaps.to_string();
    let said = python("passwordless.py", &["localhost", &port, &ca, "EXTERNAL", &certificate, &key]);
    assert!(said.contains(&welcome(ALICE.address, "alpha")), "{said}");
    let token = VOUCHERS.issuer.token(ALICE.address, 300);
    let port = GATEWAY.imaps().to_string();
    let said = python("passwordless.py", &["localhost", &port, &ca, "XOAUTH2", ALICE.address, &token]);
    assert!(said.contains(&welcome(ALICE.address, "alpha")), "{said}");
}

#[test]
fn curl_reads_mail_with_a_token_and_nothing_writes_it_down() {
    LazyLock::force(&GATEWAY);
    let token = VOUCHERS.issuer.token(ALICE.address, 300);
    for mechanism in ["AUTH=XOAUTH2", "AUTH=OAUTHBEARER"] {
        for url in [
            format!("imaps://{HOST}:{}/INBOX;MAILINDEX=1", GATEWAY.imaps()),
            format!("pop3s://{HOST}:{}/1", PORTS.pop3s),
        ] {
            let options = ["--user", ALICE.address, "--oauth2-bearer", &token, "--login-options", mechanism];
            let message = curl(&url, &options);
            let message = message.unwrap_or_else(|code| panic!("{url} {mechanism}: {code}\n{}", GATEWAY.log()));
            assert!(message.contains(&welcome(ALICE.address, "alpha")), "{url} {mechanism}: {message}");
        }
    }
    let said = GATEWAY.log() + &GATEWAY.metrics();
    assert!(said.contains("A login without a password was decided."));
    let signature = token.rsplit('.').next().expect("a signature");
    assert!(!said.contains(&token) && !said.contains(signature), "the token is in the log");
}

#[test]
fn a_certificate_opens_no_account_that_is_closed_locked_or_unknown() {
    for (name, address) in [("lou", LOU.address), ("erin", ERIN.address), ("ghost", GHOST.address)] {
        let mut imap = dialogue(&VOUCHERS.authority.client(name, address));
        assert!(imap.expect("* OK").contains("AUTH=EXTERNAL"));
        let refused = imap.answer("a", "AUTHENTICATE EXTERNAL =");
        assert!(refused.starts_with("a NO [AUTHENTICATIONFAILED]"), "{address}: {refused}");
    }
    // As somebody else: no.
    let mut imap = dialogue(&VOUCHERS.authority.client("alice-as-bob", ALICE.address));
    imap.expect("* OK");
    let refused = imap.answer("a", &format!("AUTHENTICATE EXTERNAL {}", STANDARD.encode(BOB.address)));
    assert!(refused.starts_with("a NO [AUTHENTICATIONFAILED]"), "{refused}");
}

#[test]
fn an_authority_of_somebody_else_ends_the_handshake() {
    let stranger = Pki::new(&HOUSE.world.folder("stranger"));
    let mut imap = dialogue(&stranger.client("alice", ALICE.address));
    assert_eq!(imap.line(), None);
    wait::until("the metric", || {
        let failed = ["listener=\"certified\"", "result=\"failed\""];
        (GATEWAY.metric("guichet_tls_handshakes_total", &failed) >= 1.0).then_some(())
    });
}

#[test]
fn a_cell_that_wants_the_password_says_so_to_the_user_and_to_whoever_checks() {
    let mut imap = dialogue(&VOUCHERS.authority.client("bob", BOB.address));
    imap.expect("* OK");
    let refused = imap.answer("a", "AUTHENTICATE EXTERNAL =");
    assert!(refused.starts_with("a NO [CONTACTADMIN]") && refused.contains("password"), "{refused}");
    assert!(imap.answer("b", &format!("LOGIN {} {}", BOB.address, BOB.password)).starts_with("b OK"));
    assert!(GATEWAY.metric("guichet_cell_login_failures_total", &["reason=\"password_needed\""]) >= 1.0);

    let output = Command::new(guichet()).arg("check").arg("-c").arg(GATEWAY.config()).output().expect("guichet runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("cell.beta.imap: `listener.imap.certified` offers"), "{said}");
    assert!(!said.contains("cell.alpha"), "{said}");
}

#[test]
fn a_token_that_is_old_or_for_a_foreign_domain_is_told_so_and_refused() {
    let before = |reason: &str| GATEWAY.metric("guichet_auth_proof_refusals_total", &[&format!("reason=\"{reason}\"")]);
    let (expired, foreign) = (before("expired"), before("foreign_domain"));
    for (user, token) in [
        (ALICE.address, VOUCHERS.issuer.token(ALICE.address, -120)),
        // The issuer is univ-a's: it says nothing of labo-b.
        (CAROL.address, VOUCHERS.issuer.token(CAROL.address, 300)),
    ] {
        let mut imap = GATEWAY.imap_dialogue();
        let message = STANDARD.encode(format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}"));
        imap.send(format!("a AUTHENTICATE XOAUTH2 {message}\r\n"));
        let challenge = imap.expect("+ ");
        let told = STANDARD.decode(challenge.trim_start_matches("+ ")).expect("base64");
        let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
        assert_eq!(told["status"], "401");
        imap.send("\r\n");
        assert!(imap.expect("a ").starts_with("a NO [AUTHENTICATIONFAILED]"));
        let password = if user == ALICE.address { ALICE.password } else { CAROL.password };
        let login = format!("LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n{password}", user.len(), password.len());
        assert!(imap.answer("b", &login).starts_with("b OK"), "a bad token is no wrong password");
    }
    assert_eq!((before("expired"), before("foreign_domain")), (expired + 1.0, foreign + 1.0));
}

#[test]
fn a_hangup_reads_the_issuers_new_keys() {
    let vouchers = Vouchers::new(&HOUSE, "rotating");
    let gateway = HOUSE.start(settings(&HOUSE, "rotating-gateway", &vouchers, &Ports::new()));
    let try_it = |issuer: &Issuer| {
        let message = format!("user={}\u{1}auth=Bearer {}\u{1}\u{1}", ALICE.address, issuer.token(ALICE.address, 300));
        let mut imap = gateway.imap_dialogue();
        imap.send(format!("a AUTHENTICATE XOAUTH2 {}\r\n", STANDARD.encode(message)));
        imap.line().expect("an answer").starts_with("a OK")
    };
    let next = Issuer::new(&HOUSE.world, &HOUSE.world.folder("rotating"), "next");
    assert!(try_it(&vouchers.issuer) && !try_it(&next));
    next.publish(vouchers.issuer.keys());
    gateway.signal(Signal::HUP);
    wait::until("the new key", || try_it(&next).then_some(()));
    assert!(!try_it(&vouchers.issuer));
}

#[test]
fn a_directory_that_is_away_means_try_later() {
    let mut house = House::new("passwordless-outage");
    let vouchers = Vouchers::new(&house, "vouchers");
    let ports = Ports::new();
    let gateway = house.start(settings(&house, "gateway", &vouchers, &ports));
    house.slapd.kill();
    let ca = house.world.pki().ca().display().to_string();
    let (certificate, key) = paths(&vouchers.authority.client("alice", ALICE.address));
    let address = format!("127.0.0.1:{}", ports.imaps);
    let mut imap = Dialogue::openssl(&[
        "-connect",
        &address,
        "-servername",
        HOST,
        "-CAfile",
        &ca,
        "-cert",
        &certificate,
        "-key",
        &key,
    ]);
    imap.expect("* OK");
    assert!(imap.answer("a", "AUTHENTICATE EXTERNAL =").starts_with("a NO [UNAVAILABLE]"), "{}", gateway.log());
    let message = format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", vouchers.issuer.token(ALICE.address, 300));
    let refused = imap.answer("b", &format!("AUTHENTICATE OAUTHBEARER {}", STANDARD.encode(message)));
    assert!(refused.starts_with("b NO [UNAVAILABLE]"), "a good token is not to be dropped: {refused}");
}

#[test]
fn messages_and_filters_go_in_by_certificate_too() {
    let house = &HOUSE;
    let post = Postfix::start(&house.world, &house.alpha);
    let (submissions, sieve) = (free_port(), free_port());
    let listener = |kind: &str, port: u16| {
        let ca = VOUCHERS.authority.ca().display().to_string();
        format!("[listener.{kind}.{kind}]\nbind = [\"127.0.0.1:{port}\"]\nclient_ca.file = \"{ca}\"\n")
    };
    let tables = [listener("submission", submissions), listener("sieve", sieve), post.config_master(&house.alpha)];
    let settings = settings(house, "post-gateway", &VOUCHERS, &Ports::new()).with(&tables.concat());
    let gateway = house.start(settings);
    wait::until("every cell is checked", || gateway.endpoints_down().is_empty().then_some(()));

    let files = VOUCHERS.authority.client("alice-post", ALICE.address);
    let (certificate, key) = paths(&files);
    let mut curl = Curl::trusting(&house.world, HOST).command();
    curl.args(["-m", "30", "--cert", &certificate, "--key", &key, "--login-options", "AUTH=EXTERNAL"])
        .args(["--user", &format!("{}:", ALICE.address), "--mail-from", ALICE.address, "--mail-rcpt", CAROL.address])
        .args(["-T", "-", "--url", &format!("smtps://{HOST}:{submissions}")]);
    let sent = run_with_input(&mut curl, b"Subject: by-certificate\r\n\r\nBonjour\r\n");
    assert!(sent.status.success(), "{}\n{}", String::from_utf8_lossy(&sent.stderr), gateway.log());
    wait::until("delivery", || (post.delivered("Subject: by-certificate\n").len() == 1).then_some(()));
    post.wait_log(&["sasl_method=", &format!("sasl_username={}", ALICE.address)]);

    let ca = house.world.pki().ca().display().to_string();
    let address = format!("127.0.0.1:{sieve}");
    let mut filters = Dialogue::openssl(&[
        "-connect",
        &address,
        "-servername",
        HOST,
        "-CAfile",
        &ca,
        "-cert",
        &certificate,
        "-key",
        &key,
    ]);
    assert!(filters.expect("\"SASL\"").contains("EXTERNAL"));
    filters.expect("OK");
    filters.send("AUTHENTICATE \"EXTERNAL\" \"\"\r\n");
    filters.expect("OK");
    filters.send("HAVESPACE \"short\" 10\r\n");
    filters.expect("OK");
}
