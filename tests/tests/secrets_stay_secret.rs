//! Logins through every door at trace level: no password, assertion, cookie or key in the log or the metrics.

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{
    ALICE, BOB, CAROL, Curl, Dialogue, ERIN, Fault, Files, Gateway, HOST, House, Issuer, LOU, MASTER, Moment, Person,
    Pki, Postfix, Scripted, Signal, WebCell, free_port, wait,
};

/// Everything that must never be written down, with what it is.
fn journey(house: &mut House, gateway: &Gateway) -> Vec<(&'static str, String)> {
    let mut secrets: Vec<(&'static str, String)> = [ALICE, BOB, CAROL, LOU, ERIN]
        .iter()
        .flat_map(|p| [("password", p.password.to_owned()), ("IdP password", p.idp_password.to_owned())])
        .filter(|(_, secret)| !secret.is_empty())
        .collect();
    secrets.push(("master password", MASTER.1.to_owned()));
    secrets.push(("directory password", "reader-secret-7Kq".to_owned()));
    secrets.push(("management token", "story-management-token".to_owned()));
    secrets.push(("identity key", "identity-key-of-cell-".to_owned()));
    secrets.push(("private key", "PRIVATE KEY".to_owned()));
    let encoded = |text: String| STANDARD.encode(text);

    // Mail: LOGIN, PLAIN, wrong, locked, half a command, a password in the place of a name.
    for person in [ALICE, BOB, LOU, ERIN] {
        let plain = encoded(format!("\0{}\0{}", person.address, person.password));
        gateway.imap_dialogue().answer("a", &format!("LOGIN {} {}", person.address, person.password));
        gateway.imap_dialogue().answer("a", &format!("AUTHENTICATE PLAIN {plain}"));
        secrets.push(("SASL message", plain));
    }
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} wrong-Secret1", ALICE.address));
    gateway.imap_dialogue().answer("a", &format!("LOGIN typed-into-the-name-Secret2 {}", ALICE.address));
    gateway.imap_dialogue().answer("a", "LOGIN broken-Secret3 \"half");
    gateway.imap_dialogue().send(format!("a LOGIN {} cut-off-Secret4", ALICE.address));
    let mut clear = Dialogue::plain(gateway.imap());
    clear.expect("* OK");
    clear.answer("a", &format!("LOGIN {} in-the-clear-Secret5", ALICE.address));
    secrets.extend((1..=12).map(|n| ("typed secret", format!("-Secret{n}"))));

    // Web: Basic, the password page, the IdP, a forged cookie and a forged Response.
    let basic = encoded(format!("{}:{}", ALICE.address, ALICE.password));
    house.program().ask(&gateway.url("/dav/"), &["-H", &format!("Authorization: Basic {basic}")]);
    secrets.push(("Basic credentials", basic));
    house.program().ask(&gateway.url("/dav/"), &["--user", "alice@univ-a.test:wrong-Secret6"]);
    let browser = house.browser();
    browser.post(&gateway.url("/login/password"), &[("address", CAROL.address), ("password", "wrong-Secret7")]);
    browser.post(&gateway.url("/login/password"), &[("address", "swapped-Secret8"), ("password", CAROL.address)]);
    let entered = house.log_in_by_password(gateway, &browser, &CAROL);
    assert_eq!(entered.status, 303);
    secrets.extend(cookies(&entered));
    browser.get(&gateway.url("/echo"));

    let saml = house.browser();
    let start = saml.post(&gateway.url("/login/start"), &[("address", ALICE.address), ("next", "/")]);
    secrets.extend(cookies(&start));
    let page = house.idp().log_in(&saml, start.location(), ALICE.idp_login, ALICE.idp_password);
    let response = page.field("SAMLResponse").expect("a Response");
    for piece in response.as_bytes().chunks(60).skip(20).step_by(10) {
        secrets.push(("Response", String::from_utf8_lossy(piece).into_owned()));
    }
    let relay = page.field("RelayState").expect("a relay state");
    let forged = [("SAMLResponse", "Zm9yZ2VkLVNlY3JldDk="), ("RelayState", relay.as_str())];
    saml.copy().post(&gateway.url("/saml/acs"), &forged);
    secrets.push(("forged Response", "Zm9yZ2VkLVNlY3JldDk".to_owned()));
    let entered = house.to_acs(&saml, &page);
    assert_eq!(entered.status, 303, "{entered:?}");
    secrets.extend(cookies(&entered));
    let told: serde_json::Value = serde_json::from_str(&saml.get(&gateway.url("/echo")).body).expect("JSON");
    let token = told["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|h| h.get(0).is_some_and(|n| n == "guichet-identity"))
        .expect("token");
    secrets
        .push(("identity token", token[1].as_str().expect("text").rsplit('.').next().expect("signature").to_owned()));
    saml.ask(&gateway.url("/mail?password=in-the-query-Secret10"), &[]);
    saml.ask(&gateway.url("/"), &["-H", "Cookie: __Host-guichet=forged-cookie-Secret11"]);
    let out = saml.post_following(&gateway.url("/logout"), &[("x", "y")]);
    let answer = out.url.split_once("SAMLResponse=").expect("the IdP's answer to a logout").1;
    secrets.push(("logout answer", answer.get(..60).expect("a message").to_owned()));

    // Troubles log most: a dead directory, a dead cell, a bad reload, a refused header.
    house.slapd.kill();
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} while-down-Secret12", BOB.address));
    house.beta.stop();
    gateway.imap_dialogue().answer("a", &format!("LOGIN {} {}", BOB.address, BOB.password));
    gateway.ctl_ok(&["idp", "force", "univ-a", "down", "--for", "1m", "--reason", "story"]);
    let good = std::fs::read_to_string(gateway.config()).expect("config");
    std::fs::write(gateway.config(), good.replace("cell = \"alpha\"\ncategory", "cell = \"omega\"\ncategory"))
        .expect("config");
    gateway.signal(Signal::HUP);
    gateway.wait_log("omega");
    std::fs::write(gateway.config(), good).expect("config");
    secrets
}

/// Every way in but IMAP and the web with a password: certificates, tokens, a Zimbra cell, the other protocols.
struct Doors {
    authority: Pki,
    certificate: Files,
    issuer: Issuer,
    post: Postfix,
    zimbra: WebCell,
    zimbra_mail: Scripted,
    ports: Ports,
}

struct Ports {
    certified: u16,
    pop3: u16,
    pop3_starttls: u16,
    submission: u16,
    sieve: u16,
}

/// Of a cell that is entered by Zimbra's tokens.
const ZOE: Person = Person { address: "zoe@zim.test", password: "zimbra-Pw13", idp_login: "", idp_password: "" };
const PREAUTH_KEY: &str = "6b7ead4bd425836e8cf0079cd6c1a05acc127acd07c8ee4b61023e19250e929c";

type Secrets = Vec<(&'static str, String)>;

impl Doors {
    fn new(house: &House) -> Self {
        house.slapd.add_user(ZOE.address, ZOE.password, &[]);
        let folder = house.world.folder("vouchers");
        let authority = Pki::new(&folder);
        let free = || free_port();
        Self {
            certificate: authority.client("alice", ALICE.address),
            authority,
            issuer: Issuer::new(&house.world, &folder, "login"),
            post: Postfix::start(&house.world, &house.alpha),
            zimbra: WebCell::start(&house.world, "zimbra"),
            zimbra_mail: Scripted::start(&house.world, "zimbra", "imap", Fault::Garbage(Moment::Session)),
            ports: Ports { certified: free(), pop3: free(), pop3_starttls: free(), submission: free(), sieve: free() },
        }
    }

    fn tables(&self, house: &House) -> String {
        let Ports { certified, pop3, pop3_starttls, submission, sieve } = &self.ports;
        let listener = |kind: &str, name: &str, port: &u16, more: &str| {
            format!("[listener.{kind}.{name}]\nbind = [\"127.0.0.1:{port}\"]\n{more}\n")
        };
        [
            listener("imap", "certified", certified, &format!("client_ca.file = \"{}\"", self.authority.ca().display())),
            listener("pop3", "pop3s", pop3, ""),
            listener("pop3", "pop3", pop3_starttls, "tls = \"starttls\""),
            listener("submission", "submissions", submission, ""),
            listener("sieve", "sieve", sieve, ""),
            house.alpha.config_more_master(),
            house.beta.config_more(),
            self.post.config_master(&house.alpha),
            self.issuer.config("univ-a"),
            self.zimbra.config_zimbra(PREAUTH_KEY),
            self.zimbra_mail.config().replace("login.password", "login.zimbra_token"),
            "[tenant.zim]\nname = { fr = \"Zim\" }\ndomains = [\"zim.test\"]\ncell = \"zimbra\"\ncategory = \"staff\"\n".into(),
        ]
        .concat()
    }

    /// What must never be written down, and everything that was answered.
    fn journey(&self, house: &House, gateway: &Gateway) -> (Secrets, String) {
        let mut secrets = vec![
            ("password", ZOE.password.to_owned()),
            ("PreAuth key", PREAUTH_KEY.to_owned()),
            ("auth token", "auth-token-of-cell-zimbra".to_owned()),
        ];
        let key = std::fs::read_to_string(&self.certificate.key).expect("a key");
        secrets
            .extend(key.lines().filter(|line| !line.contains("-----")).map(|line| ("client's key", line.to_owned())));
        let mut answers = Vec::new();
        self.without_passwords(house, gateway, &mut secrets, &mut answers);
        self.other_protocols(house, &mut secrets, &mut answers);
        self.settings_and_files(house, gateway, &mut secrets, &mut answers);
        (secrets, answers.join("\n"))
    }

    fn token(&self, seconds: i64, secrets: &mut Secrets) -> String {
        let token = self.issuer.token(ALICE.address, seconds);
        let message = STANDARD.encode(format!("user={}\u{1}auth=Bearer {token}\u{1}\u{1}", ALICE.address));
        secrets.push(("token", token.rsplit('.').next().expect("a signature").to_owned()));
        secrets.push(("token", token));
        secrets.push(("token in base64", message.clone()));
        message
    }

    fn without_passwords(&self, house: &House, gateway: &Gateway, secrets: &mut Secrets, answers: &mut Vec<String>) {
        let ca = house.world.pki().ca().display().to_string();
        let (certificate, key) =
            (self.certificate.certificate.display().to_string(), self.certificate.key.display().to_string());
        let address = format!("127.0.0.1:{}", self.ports.certified);
        let server = ["-connect", &address, "-servername", HOST, "-CAfile", &ca];
        let mut imap = Dialogue::openssl(&[&server[..], &["-cert", &certificate, "-key", &key]].concat());
        imap.expect("* OK");
        assert!(imap.answer("a", "AUTHENTICATE EXTERNAL =").starts_with("a OK"), "{imap:?}\n{}", gateway.log());
        answers.push(imap.transcript());

        for (seconds, end) in [(300, "a OK"), (-600, "a NO")] {
            let mut imap = gateway.imap_dialogue();
            imap.send(format!("a AUTHENTICATE XOAUTH2 {}\r\n", self.token(seconds, secrets)));
            if seconds < 0 {
                imap.expect("+ ");
                imap.send("\r\n");
            }
            assert!(imap.expect("a ").starts_with(end), "{imap:?}\n{}", gateway.log());
            answers.push(imap.transcript());
        }

        let mut imap = gateway.imap_dialogue();
        let answer = imap.answer("a", &format!("LOGIN {} {}", ZOE.address, ZOE.password));
        assert!(answer.starts_with("a OK"), "{answer}\n{}", gateway.log());
        answers.push(imap.transcript());
        let browser = house.browser();
        let entered = house.log_in_by_password(gateway, &browser, &ZOE);
        assert_eq!(entered.status, 303, "{entered:?}");
        secrets.extend(cookies(&entered));
        let told = browser.get(&gateway.url("/echo")).body;
        assert!(told.contains("auth-token-of-cell-zimbra"), "the cell, and nobody else, sees the token: {told}");
    }

    /// POP3, submission and ManageSieve: every mechanism, wrong passwords, passwords out of place.
    fn other_protocols(&self, house: &House, secrets: &mut Secrets, answers: &mut Vec<String>) {
        let ca = house.world.pki().ca();
        let [user, password] = [ALICE.address, ALICE.password].map(|text| STANDARD.encode(text));
        let plain = STANDARD.encode(format!("\0{}\0{}", ALICE.address, ALICE.password));
        let wrong = STANDARD.encode(format!("\0{}\0by-sasl-Secret13", ALICE.address));
        let token = self.token(300, secrets);
        secrets.extend([&password, &plain, &wrong].map(|text| ("SASL message", text.clone())));
        secrets.extend((13..=24).map(|n| ("typed secret", format!("-Secret{n}"))));

        let typed = |text: &str| format!("USER {}\r\nPASS {text}", ALICE.address);
        let pop3 = [
            (typed(ALICE.password), true),
            (format!("AUTH PLAIN {plain}"), true),
            (format!("AUTH LOGIN\r\n{user}\r\n{password}"), true),
            (format!("AUTH XOAUTH2 {token}"), true),
            (typed("by-pass-Secret14"), false),
            (format!("AUTH PLAIN {wrong}"), false),
            ("PASS before-user-Secret15".to_owned(), false),
            ("APOP alice digest-Secret16".to_owned(), false),
        ];
        let smtp = [
            (format!("AUTH PLAIN {plain}"), true),
            (format!("AUTH LOGIN\r\n{user}\r\n{password}"), true),
            (format!("AUTH XOAUTH2 {token}"), true),
            (format!("AUTH PLAIN {wrong}"), false),
            ("AUTH PLAIN not-base64-Secret17".to_owned(), false),
            ("MAIL FROM:<in-a-command-Secret18>".to_owned(), false),
        ];
        let sieve = [
            (format!("AUTHENTICATE \"PLAIN\" \"{plain}\""), true),
            (format!("AUTHENTICATE \"LOGIN\"\r\n\"{user}\"\r\n\"{password}\""), true),
            (format!("AUTHENTICATE \"XOAUTH2\" \"{token}\""), true),
            (format!("AUTHENTICATE \"PLAIN\" \"{wrong}\""), false),
            ("AUTHENTICATE \"PLAIN\" \"not-base64-Secret19\"".to_owned(), false),
        ];
        let Ports { pop3: pop3_port, submission, sieve: sieve_port, .. } = self.ports;
        for (port, greeting, hello, good, words) in [
            (pop3_port, "+OK", "", "+OK", &pop3[..]),
            (submission, "220 ", "EHLO story.test\r\n", "235 ", &smtp[..]),
            (sieve_port, "OK", "", "OK", &sieve[..]),
        ] {
            for (lines, opens) in words {
                let mut dialogue = Dialogue::tls(port, HOST, &ca);
                dialogue.expect(greeting);
                if !hello.is_empty() {
                    dialogue.send(hello);
                    dialogue.expect("250 ");
                }
                let mut last = String::new();
                for line in lines.split("\r\n") {
                    dialogue.send(format!("{line}\r\n"));
                    last = dialogue.line().unwrap_or_default();
                }
                assert_eq!(last.starts_with(good), *opens, "{lines}: {dialogue:?}");
                if *opens && port == submission {
                    // Too late, and in the middle of a message's envelope.
                    for late in ["AUTH PLAIN late-Secret20", "MAIL FROM:<alice@univ-a.test> AUTH=late-Secret21"] {
                        dialogue.send(format!("{late}\r\n"));
                        dialogue.line();
                    }
                }
                answers.push(dialogue.transcript());
            }
        }
        let mut clear = Dialogue::plain(self.ports.pop3_starttls);
        clear.expect("+OK");
        for line in [format!("USER {}", ALICE.address), "PASS in-the-clear-Secret22".to_owned()] {
            clear.send(format!("{line}\r\n"));
            assert!(clear.line().is_some_and(|said| said.starts_with("-ERR")), "{clear:?}");
        }
        answers.push(clear.transcript());
    }

    /// Programs that ask for their settings send a password along; files and words of operators hold some by mistake.
    fn settings_and_files(&self, house: &House, gateway: &Gateway, secrets: &mut Secrets, answers: &mut Vec<String>) {
        secrets.extend((25..=31).map(|n| ("typed secret", format!("-Secret{n}"))));
        let program = house.program();
        let basic = STANDARD.encode(format!("{}:posted-Secret25", ALICE.address));
        let authorization = format!("Authorization: Basic {basic}");
        secrets.push(("Basic credentials", basic));
        let request = |inside: &str| {
            format!(
                "<?xml version=\"1.0\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\">\
                 <Request><EMailAddress>{}</EMailAddress>{inside}</Request></Autodiscover>",
                ALICE.address
            )
        };
        let schema = "<AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\
                      </AcceptableResponseSchema>";
        let password = "<Password>posted-Secret26</Password>";
        let autodiscover = gateway.url("/autodiscover/autodiscover.xml");
        for (body, status) in [(request(&format!("{password}{schema}")), 200), (request(password), 400)] {
            let answer = program.ask(&autodiscover, &["-H", &authorization, "--data-binary", &body]);
            assert_eq!(answer.status, status, "{answer:?}");
            answers.push(format!("{answer:?}"));
        }
        for (path, options) in [
            ("/mail/setup.mobileconfig?emailaddress=alice%40univ-a.test&password=asked-Secret27", &[][..]),
            ("/mail/config-v1.1.xml?emailaddress=nobody%40elsewhere.test&password=asked-Secret27", &[][..]),
            ("/autodiscover/autodiscover.json?Protocol=posted-Secret28", &[][..]),
            ("/setup", &["--data", "address=alice%40univ-a.test&password=posted-Secret28"][..]),
            ("/login/password", &["--data", "address=alice%40univ-a.test&password=wrong-Secret29"][..]),
            ("/login/password", &["--data", "password=wrong-Secret29&password=twice-Secret29"][..]),
        ] {
            let answer = program.ask(&gateway.url(path), &[&["-H", &authorization][..], options].concat());
            // Where it was asked is the question.
            answers.push(format!("{} {:?} {}", answer.status, answer.headers, answer.body));
        }

        for (words, text) in [
            (&["placement", "import"][..], "alice@univ-a.test,typed-Secret30\n"),
            (&["placement", "import"][..], "alice@univ-a.test:typed-Secret30\n"),
            (&["wave", "plan", "spring-1", "--to", "beta", "--users"][..], "alice@univ-a.test,beta,typed-Secret30\n"),
        ] {
            let file = house.world.dir().join("users.txt");
            std::fs::write(&file, text).expect("a file of users");
            let refused = gateway.ctl(&[words, &[&file.display().to_string()]].concat());
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        }
        let forged = ["-H", "Authorization: Bearer management-Secret31"];
        let answer = Curl::plain().ask(&gateway.management("/api/v1/waves"), &forged);
        assert!(matches!(answer.status, 401 | 403), "{answer:?}");
        answers.push(format!("{answer:?}"));
    }
}

fn cookies(answer: &guichet_tests::Answer) -> Vec<(&'static str, String)> {
    let sealed = answer.header_all("set-cookie").into_iter().filter_map(|cookie| {
        let value = cookie.split(';').next()?.split_once('=')?.1;
        // The last part is the ciphertext; short values (tenant, language) are no secrets.
        Some(("cookie", value.rsplit('.').next()?.to_owned())).filter(|(_, value)| value.len() > 40)
    });
    sealed.collect()
}

fn nothing_leaks(name: &str, format: &str) {
    let mut house = House::with_idp(name);
    let doors = Doors::new(&house);
    let limits = "password_cache_ttl = \"1ms\"\nlogin_failures_per_source = 1000\nlogin_failures_per_user = 1000";
    let settings = house.settings("gateway").log(format, "trace").limits(limits).with(&doors.tables(&house));
    let gateway = house.start(settings);
    wait::until("every cell is checked", || gateway.endpoints_down().is_empty().then_some(()));
    let (mut secrets, answers) = doors.journey(&house, &gateway);
    secrets.extend(journey(&mut house, &gateway));
    assert!(secrets.len() > 80, "the journey met its secrets: {}", secrets.len());
    let log = gateway.log();
    for happening in [
        "A password login was decided.",
        "A login without a password was decided.",
        "A SAML login was",
        "A cell was asked for an auth token.",
    ] {
        assert!(log.contains(happening), "the log tells of the journey: {happening}");
    }
    let metrics = Curl::plain().get(&gateway.management("/metrics")).body;
    for (what, secret) in &secrets {
        for (place, text) in [("log", &log), ("metrics", &metrics), ("answers", &answers)] {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{what} {secret:?} in the {place}: {}", line.unwrap_or_default());
        }
    }
    assert!(!metrics.contains("@univ-a.test"), "no user in a label");
}

#[test]
fn nothing_secret_is_in_a_text_log_at_trace_level() {
    nothing_leaks("secrets-text", "text");
}

#[test]
fn nothing_secret_is_in_a_json_log_at_trace_level() {
    nothing_leaks("secrets-json", "json");
}
