//! Postfix cells of many manners behind one gateway: how they are reached, what they learn of the client, which line ends
//! they take, and what of theirs a client is offered.

use std::{collections::BTreeMap, io::Write, net::TcpStream, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{Dialogue, Dovecot, Gateway, HOST, Pki, Postfix, Settings, Slapd, Way, World, free_port, wait};

const PASSWORD: &str = "sorting-office-Pw1";
const RECIPIENT: &str = "carol@labo-b.test";

/// Every cell of this house, and its one user.
const CELLS: [&str; 18] = [
    "good-implicit",
    "good-starttls",
    "other-name-implicit",
    "other-name-starttls",
    "other-authority-implicit",
    "other-authority-starttls",
    "stripped",
    "xclient-implicit",
    "xclient-starttls",
    "proxied-implicit",
    "proxied-starttls",
    "lax",
    "whole",
    "strict",
    "large",
    "roomy",
    "bare",
    "home",
];

/// Who knows the users. The cells belong to the stories.
struct Site {
    world: World,
    slapd: Slapd,
    logins: Dovecot,
}

static SITE: LazyLock<Site> = LazyLock::new(Site::start);

impl Site {
    fn start() -> Self {
        let world = World::new("submission-cells");
        let slapd = Slapd::start(&world);
        let addresses = CELLS.map(address);
        for (cell, address) in CELLS.iter().zip(&addresses) {
            slapd.add_user(address, PASSWORD, &[&format!("guichetCell: {cell}")]);
        }
        let mailboxes: Vec<_> = addresses.iter().map(|address| (address.as_str(), PASSWORD)).collect();
        let logins = Dovecot::start(&world, "home", &mailboxes);
        Self { world, slapd, logins }
    }

    fn cell(&self, name: &str, more: &str) -> Postfix {
        Postfix::start_as(&self.world, &self.logins, name, more)
    }

    /// A gateway in front of these cells, its submission listeners (in TLS) with a line of settings each.
    fn open(&self, name: &str, cells: &str, listeners: &[(&'static str, &str)]) -> Counter {
        let mut tables = format!(
            "{cells}{}[tenant.univ-a]\nname = {{ fr = \"Université A\", en = \"University A\" }}\n\
             domains = [\"univ-a.test\"]\ncell = \"home\"\ncategory = \"student\"\n",
            self.logins.config_password(self.logins.imaps()),
        );
        let mut ports = BTreeMap::new();
        for (listener, setting) in listeners {
            let port = free_port();
            tables.push_str(&format!(
                "[listener.submission.{listener}]\nbind = [\"127.0.0.1:{port}\"]\ntls = \"implicit\"\n{setting}\n"
            ));
            ports.insert(*listener, port);
        }
        let settings = Settings::new(&self.world, name).with(&self.slapd.config(self.slapd.port())).with(&tables);
        Counter { gateway: settings.start(&self.world), ports }
    }
}

/// A gateway and where it takes mail.
struct Counter {
    gateway: Gateway,
    ports: BTreeMap<&'static str, u16>,
}

impl Counter {
    fn port(&self, listener: &str) -> u16 {
        *self.ports.get(listener).expect("a listener of the story")
    }

    fn dialogue(&self, listener: &str) -> Dialogue {
        greeted(Dialogue::tls(self.port(listener), HOST, &SITE.world.pki().ca()))
    }

    /// As the user of a cell.
    fn session(&self, listener: &str, cell: &str) -> Dialogue {
        log_in(self.dialogue(listener), cell)
    }

    /// What EHLO lists once every cell has told its own list.
    fn offer(&self, listener: &str) -> Vec<String> {
        wait::until("the cells were asked", || {
            let lines = listed(&self.dialogue(listener));
            let told = lines.iter().any(|line| line.starts_with("SIZE"));
            (told && self.gateway.endpoints_down().is_empty()).then_some(lines)
        })
    }
}

fn address(cell: &str) -> String {
    format!("{cell}@univ-a.test")
}

fn plain(cell: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{}\0{PASSWORD}", address(cell))))
}

/// Behind the first words of a server.
fn greeted(mut smtp: Dialogue) -> Dialogue {
    smtp.expect("220 ");
    smtp.send("EHLO story.test\r\n");
    smtp.expect("250 ");
    smtp
}

fn log_in(mut smtp: Dialogue, cell: &str) -> Dialogue {
    let reply = say(&mut smtp, &plain(cell));
    assert!(reply.starts_with("235 "), "{cell}: {reply}");
    smtp
}

/// Sends a line and returns the one that answers.
fn say(smtp: &mut Dialogue, line: &str) -> String {
    smtp.send(format!("{line}\r\n"));
    smtp.line().unwrap_or_default()
}

/// The keywords of an EHLO reply.
fn listed(smtp: &Dialogue) -> Vec<String> {
    let all = smtp.transcript();
    let lines = all.lines().filter(|line| line.starts_with("250")).skip(1);
    lines.filter_map(|line| line.get(4..)).map(str::to_owned).collect()
}

/// Up to the go-ahead for the text, all in one piece.
fn begin(smtp: &mut Dialogue, cell: &str) {
    smtp.send(format!("MAIL FROM:<{}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n", address(cell)));
    smtp.expect("354 ");
}

/// Submits a message, which must be taken.
fn submit(smtp: &mut Dialogue, cell: &str, text: &str) {
    begin(smtp, cell);
    smtp.send(text);
    smtp.send("\r\n.\r\n");
    let reply = smtp.line().unwrap_or_default();
    assert!(reply.starts_with("250 "), "{cell}: {reply}");
}

/// The one message with these words.
fn only(cell: &Postfix, words: &str) -> String {
    wait::until(&format!("{words:?} is delivered"), || (!cell.delivered(words).is_empty()).then_some(()));
    cell.wait_settled();
    let mut messages = cell.delivered(words);
    assert_eq!(messages.len(), 1, "{words:?}: {messages:#?}\n{}", cell.log());
    messages.remove(0)
}

#[test]
fn a_cell_is_verified_in_tls_and_by_starttls_and_a_stranger_gets_neither_password_nor_message() {
    let cell = SITE.cell("verified", "");
    // It would take logins in the clear: what an attacker on the way makes of a cell.
    let stripped = SITE.cell("stripped", "smtpd_tls_security_level = none\nsmtpd_tls_auth_only = no\n");
    let stranger = Pki::new(&SITE.world.folder("stranger")).ca();
    let mut tables = stripped.config_by("stripped", &stripped.way("starttls"));
    for tls in ["implicit", "starttls"] {
        let good = cell.way(tls);
        let other_name = Way { certified: "elsewhere.cell.test".to_owned(), ..good.clone() };
        let other_authority = Way { ca: stranger.clone(), ..good.clone() };
        for (name, way) in [("good", &good), ("other-name", &other_name), ("other-authority", &other_authority)] {
            tables.push_str(&cell.config_by(&format!("{name}-{tls}"), way));
        }
    }
    let counter = SITE.open("verified-gateway", &tables, &[("post", "")]);
    for tls in ["implicit", "starttls"] {
        let name = format!("good-{tls}");
        submit(&mut counter.session("post", &name), &name, &format!("Subject: {name}\r\n\r\nBonjour"));
        assert!(only(&cell, &format!("Subject: {name}\n")).ends_with("\nBonjour\n"));
        cell.wait_log(&["client=", &format!("sasl_username={}", address(&name))]);
    }
    let refused = [
        ("other-name-implicit", "certificate not valid for name"),
        ("other-name-starttls", "certificate not valid for name"),
        ("other-authority-implicit", "invalid peer certificate"),
        ("other-authority-starttls", "invalid peer certificate"),
        ("stripped", "STARTTLS is not offered"),
    ];
    for (name, why) in refused {
        let mut smtp = counter.dialogue("post");
        let reply = say(&mut smtp, &plain(name));
        assert!(reply.starts_with("454 4.7.0 ") && reply.contains("try again later"), "{name}: {reply}");
        let mail = say(&mut smtp, &format!("MAIL FROM:<{}>", address(name)));
        assert!(mail.starts_with("530 "), "{name}: {mail}");
        // In TLS its check may have found out before the login does.
        let log = counter.gateway.log();
        let told = |line: &str| line.contains(&format!("\"cell\":\"{name}\"")) && line.contains(why);
        assert!(log.lines().any(told), "{name}: {log}");
    }
    for (cell, names) in [(&cell, "other-"), (&stripped, "stripped@")] {
        cell.wait_settled();
        assert!(!cell.log().contains(names), "{names}: {}", cell.log());
    }
    assert!(stripped.delivered("Subject").is_empty());
    assert_eq!(cell.delivered("Subject").len(), 2, "those of the good ones: {}", cell.log());
}

#[test]
fn a_cell_learns_the_clients_address_by_xclient_and_by_proxy_v2() {
    // Logs ports, and names address and user in a header of every message.
    let telling = "inet_protocols = all\nsmtpd_client_port_logging = yes\nsmtpd_sasl_authenticated_header = yes\n";
    let xclient = SITE.cell("xclient", telling);
    let proxied = SITE.cell(
        "proxied",
        &format!("{telling}smtpd_upstream_proxy_protocol = haproxy\nsmtpd_authorized_xclient_hosts =\n"),
    );
    let mut tables = String::new();
    for tls in ["implicit", "starttls"] {
        tables.push_str(&xclient.config_by(&format!("xclient-{tls}"), &xclient.way(tls)));
        let way = Way { client_address: "proxy_v2", ..proxied.way(tls) };
        tables.push_str(&proxied.config_by(&format!("proxied-{tls}"), &way));
    }
    let counter =
        SITE.open("address-gateway", &tables, &[("balanced", "proxy_protocol.from = [\"127.0.0.0/8\"]"), ("open", "")]);

    wait::until("every cell answers", || counter.gateway.endpoints_down().is_empty().then_some(()));
    // Addresses of nobody: only the header of the balancer can have said so.
    let clients = [
        ("four", "TCP4 192.0.2.77 192.0.2.1 40077 465", "[192.0.2.77]", "[192.0.2.77]:40077"),
        ("six", "TCP6 2001:db8::7 2001:db8::1 40078 465", "[IPv6:2001:db8::7]", "[2001:db8::7]:40078"),
    ];
    for (cell, way) in [(&xclient, "xclient"), (&proxied, "proxied")] {
        for tls in ["implicit", "starttls"] {
            let name = format!("{way}-{tls}");
            for (family, header, written, logged) in clients {
                let mut stream = TcpStream::connect(("127.0.0.1", counter.port("balanced"))).expect("connects");
                stream.write_all(format!("PROXY {header}\r\n").as_bytes()).expect("written");
                let smtp = Dialogue::tls_after(stream, HOST, &SITE.world.pki().ca());
                let subject = format!("Subject: {name}-{family}");
                submit(&mut log_in(greeted(smtp), &name), &name, &format!("{subject}\r\n\r\nBonjour"));
                let text = only(cell, &format!("{subject}\n"));
                assert!(text.contains(&format!(" (unknown {written})\n")), "{name}: {text}");
                assert!(text.contains(&format!("(Authenticated sender: {})", address(&name))), "{text}");
                cell.wait_log(&[&format!("client=unknown{logged}"), &format!("sasl_username={}", address(&name))]);
            }
            let subject = format!("Subject: {name}-itself");
            submit(&mut counter.session("open", &name), &name, &format!("{subject}\r\n\r\nBonjour"));
            let text = only(cell, &format!("{subject}\n"));
            assert!(text.contains(" (unknown [127.0.0.1])\n"), "{text}");
        }
    }
    assert_eq!(counter.gateway.endpoints_down(), Vec::<String>::new(), "checks of health say who they are, too");
}

/// Cells that take bare line ends for good, make them whole, and refuse them.
struct Manners {
    cells: [(&'static str, Postfix); 3],
    counter: Counter,
}

static MANNERS: LazyLock<Manners> = LazyLock::new(|| {
    let cells = [("lax", "no"), ("whole", "normalize"), ("strict", "reject")]
        .map(|(name, ends)| (name, SITE.cell(name, &format!("smtpd_forbid_bare_newline = {ends}\n"))));
    let tables: String = cells.iter().map(|(_, cell)| cell.config_password()).collect();
    let listeners = [("reject", ""), ("normalise", "data_lines = \"normalise\""), ("off", "data_lines = \"off\"")];
    Manners { counter: SITE.open("ends-gateway", &tables, &listeners), cells }
});

#[test]
fn bare_line_ends_are_refused_unless_the_listener_makes_them_whole() {
    let Manners { cells, counter } = &*MANNERS;
    for (name, cell) in cells {
        for (listener, taken) in [("reject", false), ("normalise", true), ("off", *name != "strict")] {
            let subject = format!("Subject: bare-{name}-{listener}");
            let mut smtp = counter.session(listener, name);
            begin(&mut smtp, name);
            smtp.send(format!("{subject}\nX-Written-By: a program of its own\n\nBonjour,\n\nà bientôt\n"));
            smtp.send("dernière\r\n.\r\n");
            let reply = smtp.line().unwrap_or_default();
            if taken {
                assert!(reply.starts_with("250 "), "{subject}: {reply}");
                let text = only(cell, &format!("{subject}\n"));
                let whole = format!("\n{subject}\nX-Written-By: a program of its own\n");
                assert!(text.contains(&whole), "the header is whole: {text}");
                assert!(text.ends_with("\n\nBonjour,\n\nà bientôt\ndernière\n"), "and so is the text: {text}");
                assert!(say(&mut smtp, "NOOP").starts_with("250 "), "the session goes on: {smtp:?}");
            } else {
                assert!(reply.starts_with('5') && reply.contains(" 5.5.2 "), "{subject}: {reply}");
                smtp.send("QUIT\r\n");
                let rest = smtp.rest();
                assert!(rest.is_empty() || listener == "off" && rest.len() == 1, "{subject}: {smtp:?}");
                cell.wait_settled();
                assert!(cell.delivered(&subject).is_empty(), "{subject}");
            }
        }
    }
}

/// A message with another one hidden in it, to the last word of both.
fn hiding(token: &str, end: &str) -> String {
    format!(
        "Subject: outer-{token}\r\n\r\nfirst{end}MAIL FROM:<boss@univ-a.test>\r\nRCPT TO:<{RECIPIENT}>\r\n\
         DATA\r\nSubject: inner-{token}\r\n\r\nsecond\r\n.\r\nQUIT\r\n"
    )
}

#[test]
fn what_hides_a_second_message_is_one_message_wherever_it_is_taken() {
    let Manners { cells, counter } = &*MANNERS;
    let mut sent = Vec::new();
    for (name, cell) in cells {
        // `off` is for cells that defend themselves.
        let listeners = if *name == "lax" { &["reject", "normalise"][..] } else { &["reject", "normalise", "off"] };
        for listener in listeners {
            for (index, end) in ENDS.iter().enumerate() {
                let token = format!("{name}-{listener}-{index}-");
                let mut smtp = counter.session(listener, name);
                begin(&mut smtp, name);
                smtp.send(hiding(&token, end));
                let reply = smtp.line().unwrap_or_default();
                let rest = smtp.rest();
                let taken = reply.starts_with("250 ");
                let gone = matches!(rest.as_slice(), [bye] if bye.starts_with("221 "));
                assert!(gone || !taken && rest.is_empty(), "{token} {end:?}: what is hidden was heard: {rest:?}");
                match *listener {
                    "reject" => assert!(reply.starts_with("550 5.5.2"), "{token} {end:?}: {reply}"),
                    "normalise" => assert_eq!(taken, !end.contains('\0'), "{token} {end:?}: {reply}"),
                    _ => assert!(taken || *name == "strict" && reply.starts_with('5'), "{token} {end:?}: {reply}"),
                }
                sent.push((cell, token, taken));
            }
        }
    }
    for (_, cell) in cells {
        cell.wait_settled();
        assert!(!cell.log().contains("boss@univ-a.test"), "{}", cell.log());
    }
    for (cell, token, taken) in sent {
        let messages = cell.delivered(&token);
        assert_eq!(messages.len(), usize::from(taken), "{token}: {messages:#?}");
        for text in messages {
            let all =
                ["first", "MAIL FROM:<boss@univ-a.test>", "DATA\n", &format!("Subject: inner-{token}"), "\nsecond\n"];
            assert!(all.iter().all(|words| text.contains(words)), "{token} came whole: {text}");
        }
    }
}

#[test]
fn the_same_hidden_message_is_a_second_one_where_nobody_stands_in_front() {
    let (name, cell) = MANNERS.cells.first().expect("three");
    for (index, end) in ENDS.iter().enumerate().take(3) {
        let token = format!("direct-{index}-");
        let tls = Dialogue::tls(cell.submissions(), &format!("{name}.cell.test"), &SITE.world.pki().ca());
        let mut smtp = log_in(greeted(tls), name);
        begin(&mut smtp, name);
        // Under its own name here: the other story looks for the boss.
        smtp.send(hiding(&token, end).replace("boss@", "direct@"));
        smtp.rest();
        wait::until("both", || (cell.delivered(&token).len() == 2).then_some(()));
    }
}

#[test]
fn a_message_of_25_megabytes_arrives_as_it_was_sent() {
    let cell = SITE.cell("large", ROOMY);
    let counter = SITE.open("large-gateway", &cell.config_password(), &[("post", "")]);
    let offer = counter.offer("post");
    assert!(offer.contains(&"SIZE 31457280".to_owned()), "{offer:?}");

    let line = |number: usize| match number % 1000 {
        0 => format!("..{number:011}\r\n"),
        _ => format!("{number:011} {}\r\n", "0123456789abcdef".repeat(4)),
    };
    let text: String = (1..=325_000).map(line).collect();
    assert!(text.len() >= 25_000_000, "{}", text.len());
    let mut smtp = counter.session("post", "large");
    let mail = say(&mut smtp, &format!("MAIL FROM:<{}> SIZE={} BODY=8BITMIME", address("large"), text.len() + 40));
    assert!(mail.starts_with("250 "), "{mail}");
    smtp.send(format!("RCPT TO:<{RECIPIENT}>\r\nDATA\r\n"));
    smtp.expect("354 ");
    smtp.send("Subject: twenty-five\r\n\r\n");
    smtp.send(&text);
    smtp.send(".\r\n");
    let reply = smtp.line().unwrap_or_default();
    assert!(reply.starts_with("250 "), "{reply}");
    let delivered = only(&cell, "Subject: twenty-five\n");
    let (_, body) = delivered.split_once("\n\n").expect("a header");
    let expected = text.replace("\r\n", "\n").replace("\n..", "\n.");
    assert!(body == expected, "{} bytes came of {}", body.len(), expected.len());
    let line = counter.gateway.wait_log(&format!("\"bytes\":{}", text.len() + "Subject: twenty-five\r\n\r\n".len()));
    assert!(line.contains(&address("large")), "{line}");

    let mail = say(&mut smtp, &format!("MAIL FROM:<{}> SIZE=31457281", address("large")));
    assert!(mail.starts_with("552 5.3.4"), "{mail}");
}

#[test]
fn clients_are_offered_what_every_cell_has_and_nothing_that_would_hide_a_command() {
    let roomy = SITE.cell("roomy", ROOMY);
    let bare = SITE.cell(
        "bare",
        "message_size_limit = 100000\n\
         smtpd_discard_ehlo_keywords = pipelining, 8bitmime, smtputf8, dsn, chunking, enhancedstatuscodes\n",
    );
    let ca = SITE.world.pki().ca();
    let own = |cell: &Postfix, name: &str| {
        listed(&greeted(Dialogue::tls(cell.submissions(), &format!("{name}.cell.test"), &ca)))
    };
    let has = |list: &[String], keyword: &str| list.iter().any(|line| line.split(' ').next() == Some(keyword));
    let (of_roomy, of_bare) = (own(&roomy, "roomy"), own(&bare, "bare"));
    for keyword in ["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "CHUNKING", "XCLIENT", "VRFY"] {
        assert!(has(&of_roomy, keyword), "{keyword}: {of_roomy:?}");
        let optional = !matches!(keyword, "XCLIENT" | "VRFY");
        assert_eq!(has(&of_bare, keyword), !optional, "{keyword}: {of_bare:?}");
    }

    let all = SITE.open("all-gateway", &roomy.config_password(), &[("post", "")]);
    let common = SITE.open("common-gateway", &(roomy.config_password() + &bare.config_password()), &[("post", "")]);
    let (offer, less) = (all.offer("post"), common.offer("post"));
    for keyword in ["8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"] {
        assert!(has(&offer, keyword) && !has(&less, keyword), "{keyword}: {offer:?} {less:?}");
    }
    assert!(offer.contains(&"SIZE 31457280".to_owned()) && less.contains(&"SIZE 100000".to_owned()), "{less:?}");
    for list in [&offer, &less] {
        // The gateway's own: a cell without it gets one command at a time.
        assert!(has(list, "PIPELINING") && has(list, "AUTH"), "{list:?}");
        for keyword in ["CHUNKING", "BINARYMIME", "XCLIENT", "XFORWARD", "VRFY", "ETRN", "STARTTLS"] {
            assert!(!has(list, keyword), "{keyword}: {list:?}");
        }
    }

    // What is offered works …
    let mut smtp = all.session("post", "roomy");
    let sender = address("roomy");
    smtp.send(format!(
        "MAIL FROM:<{sender}> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<josé@labo-b.test> NOTIFY=NEVER\r\nDATA\r\n"
    ));
    smtp.expect("354 ");
    smtp.send("Subject: été\r\n\r\nà bientôt\r\n.\r\n");
    smtp.expect("250 ");
    assert!(only(&roomy, "Subject: été\n").contains("Delivered-To: josé@labo-b.test\n"));
    // … and what is not, does not, at the cell that has it neither.
    let mut smtp = common.session("post", "roomy");
    for parameters in ["BODY=8BITMIME", "SMTPUTF8", "RET=HDRS"] {
        let reply = say(&mut smtp, &format!("MAIL FROM:<{sender}> {parameters}"));
        assert!(reply.starts_with("555 5.5.4"), "{parameters}: {reply}");
    }
    let reply = say(&mut smtp, "MAIL FROM:<josé@univ-a.test>");
    assert!(reply.starts_with("553 5.6.7"), "{reply}");
    assert!(say(&mut smtp, "BDAT 11 LAST").starts_with("502 5.5.1"), "{smtp:?}");
    assert!(smtp.rest().is_empty(), "no chunk is ever read for commands: {smtp:?}");

    // A program that pipelines, at a cell that does not: it waits for each word of the cell.
    let mut smtp = common.session("post", "bare");
    let sender = address("bare");
    smtp.send(format!(
        "MAIL FROM:<{sender}>\r\nRCPT TO:<{RECIPIENT}>\r\nRSET\r\nMAIL FROM:<{sender}> SIZE=100\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n"
    ));
    smtp.expect("354 ");
    smtp.send("Subject: one-at-a-time\r\n\r\nBonjour\r\n.\r\nNOOP\r\n");
    assert!(smtp.line().is_some_and(|line| line.starts_with("250 ")) && smtp.line().is_some(), "{smtp:?}");
    only(&bare, "Subject: one-at-a-time\n");
    assert!(!bare.log().contains("improper command pipelining"), "{}", bare.log());

    // The bound is told in time to who says the size, and at the end to who does not.
    let reply = say(&mut smtp, &format!("MAIL FROM:<{sender}> SIZE=100001"));
    assert!(reply.starts_with("552 "), "{reply}");
    // Postfix remembers the size of a refused MAIL until then.
    assert!(say(&mut smtp, "RSET").starts_with("250 "), "{smtp:?}");
    begin(&mut smtp, "bare");
    smtp.send(format!("Subject: too-big\r\n\r\n{}.\r\n", "0123456789abcdef\r\n".repeat(9_000)));
    let reply = smtp.line().unwrap_or_default();
    assert!(reply.starts_with("552 "), "{reply}");
    submit(&mut smtp, "bare", "Subject: after-too-big\r\n\r\nBonjour");
    only(&bare, "Subject: after-too-big\n");
    assert!(bare.delivered("Subject: too-big").is_empty());
}

const ROOMY: &str = "message_size_limit = 31457280\n";

/// What somebody may take for the end of a message, and nobody should.
const ENDS: [&str; 11] = [
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\n\n.\r\n",
    "\r\r\n.\r\r\n",
    "\r.\r",
    "\r.\r\n",
    "\r\n.\r",
    "\n.\r",
    "\r\n.\r\r\n",
    "\r\n\0.\r\n",
];
