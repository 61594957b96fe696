//! Cells that talk garbage, hang, hang up, refuse, or are not who they should be: the client hears "try later" in its own
//! protocol and never "wrong password", the operator reads why, and nothing stays open.

use std::{collections::BTreeMap, sync::LazyLock, thread};

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{
    Dialogue,
    Fault::{self, Close, Garbage, Refusal, Silence, UnknownAuthority, WrongName},
    Gateway, HOST,
    Moment::{Connect, Greeting, Login, Session},
    Scripted, Settings, Slapd, World, free_port, wait,
};

const PASSWORD: &str = "allowed-by-the-directory-Pw1";
const PROTOCOLS: [&str; 4] = ["imap", "pop3", "sieve", "submission"];

/// Name of the cell and of its user, what is wrong there, and the reason that the operator is told. TLS comes first in IMAP
/// and POP3, and by STARTTLS in the others, whose second reason this is.
const CELLS: [(&str, Fault, [&str; 2]); 11] = [
    ("garbage-connect", Garbage(Connect), ["connect", "protocol"]),
    ("garbage-greeting", Garbage(Greeting), ["protocol", "protocol"]),
    ("garbage-login", Garbage(Login), ["protocol", "protocol"]),
    ("silence-connect", Silence(Connect), ["deadline", "deadline"]),
    ("silence-greeting", Silence(Greeting), ["deadline", "deadline"]),
    ("silence-login", Silence(Login), ["deadline", "deadline"]),
    ("close-connect", Close(Connect), ["connect", "connect"]),
    ("close-login", Close(Login), ["connect", "connect"]),
    ("refusal", Refusal, ["refused", "refused"]),
    ("wrong-name", WrongName, ["connect", "connect"]),
    ("unknown-authority", UnknownAuthority, ["connect", "connect"]),
];

/// Directory, cells and the gateway in front of them.
struct Site {
    world: World,
    cells: Vec<Scripted>,
    ports: BTreeMap<&'static str, u16>,
    gateway: Gateway,
    _slapd: Slapd,
}

static SITE: LazyLock<Site> = LazyLock::new(Site::start);

impl Site {
    fn start() -> Self {
        let world = World::new("cells-that-misbehave");
        let slapd = Slapd::start(&world);
        let mut cells = Vec::new();
        let mut tables = String::new();
        let others = [("session", Close(Session)), ("half", Close(Login)), ("silence-left", Silence(Login))];
        for (name, fault) in CELLS.map(|(name, fault, _)| (name, fault)).into_iter().chain(others) {
            slapd.add_user(&address(name), PASSWORD, &[&format!("guichetCell: {name}")]);
            for protocol in PROTOCOLS {
                let cell = Scripted::start(&world, name, protocol, fault);
                if name == "half" {
                    let good = Scripted::start(&world, name, protocol, fault);
                    tables.push_str(&cell.config_with(&[good.port()]));
                } else {
                    tables.push_str(&cell.config());
                }
                cells.push(cell);
            }
        }
        tables.push_str(
            "[tenant.univ-a]\nname = { fr = \"Université A\", en = \"University A\" }\ndomains = [\"univ-a.test\"]\n\
             cell = \"session\"\ncategory = \"student\"\ncontact = \"assistance@univ-a.test\"\n",
        );
        let ports: BTreeMap<_, _> = PROTOCOLS.into_iter().map(|protocol| (protocol, free_port())).collect();
        for (protocol, port) in &ports {
            tables.push_str(&format!("[listener.{protocol}.{protocol}-tls]\nbind = [\"127.0.0.1:{port}\"]\n"));
        }
        let settings = Settings::new(&world, "gateway").with(&slapd.config(slapd.port())).with(&tables);
        let gateway = settings.start(&world);
        wait::until("every cell was checked once", || cells.iter().all(|cell| cell.taken() > 0).then_some(()));
        wait::until("no check is under way", || cells.iter().all(|cell| cell.open() == 0).then_some(()));
        assert_eq!(gateway.endpoints_down(), Vec::<String>::new());
        assert_eq!(gateway.metric("guichet_listener_connections_open", &[]), 0.0);
        for cell in &cells {
            cell.misbehave();
        }
        Self { world, cells, ports, gateway, _slapd: slapd }
    }

    /// A greeted client of a protocol.
    fn client(&self, protocol: &str) -> Dialogue {
        let port = self.ports.get(protocol).expect("one of the four");
        let mut client = Dialogue::tls(*port, HOST, &self.world.pki().ca());
        match protocol {
            "imap" => client.expect("* OK"),
            "pop3" => client.expect("+OK"),
            "sieve" => client.expect("OK"),
            _ => {
                client.expect("220 ");
                client.send("EHLO story.test\r\n");
                client.expect("250 ")
            }
        };
        client
    }

    /// Connections that a cell has with the gateway.
    fn open_at(&self, cell: &str) -> usize {
        self.cells.iter().filter(|one| one.name() == cell).map(Scripted::open).sum()
    }

    /// Waits until no client and no cell has a connection with the gateway, as it was before the first.
    fn wait_all_closed(&self) {
        for (what, gauge) in
            [("clients", "guichet_listener_connections_open"), ("sessions", "guichet_mail_sessions_open")]
        {
            wait::until(&format!("all {what} are gone"), || (self.gateway.metric(gauge, &[]) == 0.0).then_some(()));
        }
        wait::until("all cells are alone", || self.cells.iter().all(|cell| cell.open() == 0).then_some(()));
    }

    fn failures(&self, cell: &str, reason: &str) -> f64 {
        let labels = [format!("cell=\"{cell}\""), format!("reason=\"{reason}\"")];
        self.gateway.metric("guichet_cell_login_failures_total", &labels.each_ref().map(String::as_str))
    }
}

fn address(cell: &str) -> String {
    format!("{cell}@univ-a.test")
}

/// Logs in and returns the answer.
fn log_in(client: &mut Dialogue, protocol: &str, address: &str) -> String {
    let plain = STANDARD.encode(format!("\0{address}\0{PASSWORD}"));
    client.send(match protocol {
        "imap" => format!("a LOGIN {address} {PASSWORD}\r\n"),
        "pop3" => format!("AUTH PLAIN {plain}\r\n"),
        "sieve" => format!("AUTHENTICATE \"PLAIN\" \"{plain}\"\r\n"),
        _ => format!("AUTH PLAIN {plain}\r\n"),
    });
    client.line().unwrap_or_else(|| panic!("closed instead of an answer: {client:?}"))
}

/// How each protocol says that it is neither the user nor the password.
fn try_later(protocol: &str) -> &'static str {
    match protocol {
        "imap" => "a NO [UNAVAILABLE] ",
        "pop3" => "-ERR [SYS/TEMP] ",
        "sieve" => "NO (TRYLATER) ",
        _ => "454 4.7.0 ",
    }
}

fn welcome(protocol: &str) -> &'static str {
    match protocol {
        "imap" => "a OK ",
        "pop3" => "+OK",
        "sieve" => "OK",
        _ => "235 ",
    }
}

#[test]
fn users_hear_try_later_operators_why_and_nothing_stays_open() {
    let site = &*SITE;
    thread::scope(|scope| {
        for (cell, ..) in CELLS {
            for protocol in PROTOCOLS {
                scope.spawn(move || {
                    let mut client = site.client(protocol);
                    let said = log_in(&mut client, protocol, &address(cell));
                    assert!(said.starts_with(try_later(protocol)), "{cell}, {protocol}: {said}");
                    // The dialogue goes on: whoever has another account there may use it.
                    let (noop, fine) = match protocol {
                        "imap" => ("b NOOP\r\n", "b OK"),
                        "pop3" => ("CAPA\r\n", "+OK"),
                        "sieve" => ("NOOP\r\n", "OK"),
                        _ => ("NOOP\r\n", "250 "),
                    };
                    client.send(noop);
                    let said = client.line().unwrap_or_default();
                    assert!(said.starts_with(fine), "{cell}, {protocol}: {said}");
                });
            }
        }
    });

    for (cell, _, [one, other]) in CELLS {
        let reasons = if one == other { vec![(one, 4.0)] } else { vec![(one, 2.0), (other, 2.0)] };
        for (reason, times) in reasons {
            assert_eq!(site.failures(cell, reason), times, "{cell}, {reason}\n{}", site.gateway.metrics());
            let lines = site.gateway.log();
            let lines: Vec<_> = lines
                .lines()
                .filter(|line| line.contains("A cell did not let an allowed user in."))
                .filter(|line| line.contains(&address(cell)) && line.contains(&format!("\"reason\":\"{reason}\"")))
                .collect();
            assert_eq!(lines.len(), times as usize, "{cell}, {reason}: {lines:#?}");
        }
    }
    for (cell, words) in [("wrong-name", "certificate not valid for name"), ("unknown-authority", "BadSignature")] {
        let log = site.gateway.log();
        let told = log.lines().filter(|line| line.contains(&address(cell)) && line.contains(words));
        assert_eq!(told.count(), 4, "{cell}: {words}");
    }
    assert!(!site.gateway.log().contains(PASSWORD));
    assert_eq!(site.gateway.metric("guichet_auth_decisions_total", &["decision=\"deny\""]), 0.0);
    site.wait_all_closed();
}

#[test]
fn who_is_in_when_the_cell_goes_hears_the_end_as_an_end() {
    let site = &*SITE;
    for protocol in PROTOCOLS {
        let mut client = site.client(protocol);
        let said = log_in(&mut client, protocol, &address("session"));
        assert!(said.starts_with(welcome(protocol)), "{protocol}: {said}");
        let rest = client.rest();
        let (last, said) = (rest.last().map(String::as_str).unwrap_or_default(), rest.len());
        match protocol {
            "imap" => assert_eq!(last, "* BYE going down"),
            "pop3" => assert_eq!(last, "-ERR going down"),
            "sieve" => assert_eq!(last, "BYE \"going down\""),
            // Submission is never opaque: the gateway may speak there.
            _ => assert!(last.starts_with("421 4."), "{rest:?}"),
        }
        assert_eq!(said, 1, "{protocol}: nothing is put into the cell's mouth: {rest:?}");
        drop(client);
        let protocol = format!("protocol=\"{protocol}\"");
        wait::until("the end is counted", || {
            (site.gateway.metric("guichet_mail_session_ends_total", &[&protocol, "reason=\"cell_closed\""]) >= 1.0)
                .then_some(())
        });
    }
    let log = site.gateway.log();
    let ends = log.lines().filter(|line| is_end(line, "session") && line.contains("\"end\":\"cell_closed\""));
    assert_eq!(ends.count(), 4, "{log}");
}

#[test]
fn beside_a_cell_endpoint_that_hangs_up_the_other_one_serves() {
    let site = &*SITE;
    for protocol in PROTOCOLS {
        for _ in 0..3 {
            let mut client = site.client(protocol);
            let said = log_in(&mut client, protocol, &address("half"));
            assert!(said.starts_with(welcome(protocol)), "{protocol}: {said}");
        }
        let service = format!("service=\"{protocol}\"");
        let labels = |result: &'static str| ["cell=\"half\"", &service, result].map(str::to_owned);
        let connects = |result: &'static str| {
            site.gateway.metric("guichet_cell_connects_total", &labels(result).each_ref().map(String::as_str))
        };
        assert_eq!(connects("result=\"ok\""), 3.0, "{}", site.gateway.metrics());
        assert!(connects("result=\"failed\"") >= 1.0, "{}", site.gateway.metrics());
    }
    // Each of these clients hung up, and its cell after it.
    let ends = || site.gateway.log().lines().filter(|line| is_end(line, "half")).map(str::to_owned).collect::<Vec<_>>();
    let ends = wait::until("all are gone", || Some(ends()).filter(|ends| ends.len() == 12));
    let opaque: Vec<_> = ends.iter().filter(|line| !line.contains("\"protocol\":\"submission\"")).collect();
    assert!(opaque.iter().all(|line| line.contains("\"end\":\"client_closed\"")), "{opaque:#?}");
}

fn is_end(line: &str, cell: &str) -> bool {
    line.contains("A mail session ended.") && line.contains(&address(cell))
}

#[test]
fn a_client_that_hangs_up_on_a_silent_cell_leaves_nothing_open() {
    let site = &*SITE;
    for protocol in PROTOCOLS {
        let mut client = site.client(protocol);
        let plain = STANDARD.encode(format!("\0{}\0{PASSWORD}", address("silence-left")));
        let open = site.open_at("silence-left");
        client.send(match protocol {
            "imap" => format!("a AUTHENTICATE PLAIN {plain}\r\n"),
            "sieve" => format!("AUTHENTICATE \"PLAIN\" \"{plain}\"\r\n"),
            _ => format!("AUTH PLAIN {plain}\r\n"),
        });
        wait::until("the cell is asked", || (site.open_at("silence-left") > open).then_some(()));
    }
    site.wait_all_closed();
}
