//! Clients that are odd but within their rights, byte for byte: they read their mail at a real cell. Beside them those that
//! only look alike and must not.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{ALICE, BOB, CAROL, Dialogue, Gateway, HOST, House, free_port, wait, welcome};

/// Users of `univ-a` in cell `beta`, which wants the very password that was typed.
const STAR: (&str, &str) = ("star@univ-a.test", "st*r-p%rcent-Pw1");
const BRACKETS: (&str, &str) = ("brackets@univ-a.test", "(br)ck{t}s-Pw2");
const SPACES: (&str, &str) = ("spaces@univ-a.test", "two  words Pw3 ");
const QUOTES: (&str, &str) = ("quotes@univ-a.test", r#"q"uo\te"-Pw4"#);

struct Ports {
    pop3s: u16,
    sieve: u16,
}

static PORTS: LazyLock<Ports> = LazyLock::new(|| Ports { pop3s: free_port(), sieve: free_port() });
static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let house = House::new("odd-clients");
    for (address, password) in [STAR, BRACKETS, SPACES, QUOTES] {
        house.slapd.add_user(address, password, &["guichetCell: beta"]);
        house.beta.add_mailbox(address, password);
    }
    house
});
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let listeners = format!(
        "[listener.pop3.pop3s]\nbind = [\"127.0.0.1:{}\"]\n[listener.sieve.sieve]\nbind = [\"127.0.0.1:{}\"]\n",
        PORTS.pop3s, PORTS.sieve
    );
    let cells = HOUSE.alpha.config_more_master() + &HOUSE.beta.config_more();
    let settings = HOUSE.settings("gateway").with(&cells).with(&listeners);
    let gateway = HOUSE.start(settings.limits("login_failures_per_user = 1000\nlogin_failures_per_source = 1000"));
    // What the cells tell is shown once each was asked.
    wait::until("every cell is checked", || gateway.endpoints_down().is_empty().then_some(()));
    gateway
});

/// How a login command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Logged in; the mailbox is read behind it.
    In,
    /// Refused with this answer; the connection goes on.
    Refused(&'static str),
    /// The connection ends, with these words or none.
    Closed(&'static str),
}
use End::{Closed, In, Refused};

fn plain(authzid: &str, authcid: &str, password: &str) -> String {
    STANDARD.encode(format!("{authzid}\0{authcid}\0{password}"))
}

fn latin_1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect()
}

/// A literal of each kind.
fn literal(bytes: &[u8], kind: &str) -> Vec<u8> {
    [format!("{{{}{kind}}}\r\n", bytes.len()).as_bytes(), bytes].concat()
}

/// Sends a login of tag `a` as it is and looks what comes of it. `chunk`: so many bytes at a time, each a TLS record.
fn imap_login(what: &str, bytes: &[u8], address: &str, cell: &str, end: End, chunk: usize) {
    let mut imap = GATEWAY.imap_dialogue();
    for part in bytes.chunks(chunk) {
        imap.send(part);
    }
    match end {
        Closed(words) => {
            let rest = imap.rest().join("\n");
            assert!(rest.starts_with(words) && !rest.contains("a OK"), "{what}: {rest}");
            assert!(!words.is_empty() || rest.is_empty(), "{what}: {rest}");
        }
        Refused(words) => {
            let said = imap.expect("a ");
            assert!(said.starts_with(words), "{what}: {said}");
            assert!(imap.answer("z", "NOOP").starts_with("z OK"), "{what}: the connection goes on");
        }
        In => {
            let said = imap.expect("a ");
            assert!(said.starts_with("a OK"), "{what}: {said}\n{}", HOUSE.beta.log());
            assert!(imap.answer("b", "SELECT INBOX").starts_with("b OK"), "{what}");
            let mail = imap.ask("c", "FETCH 1 BODY.PEEK[TEXT]").join("\n");
            assert!(mail.contains(&welcome(address, cell)), "{what}: {mail}");
        }
    }
}

#[test]
fn imap_logins_of_every_odd_kind() {
    let login = |address: &str, password: &str| format!("a LOGIN {address} {password}\r\n").into_bytes();
    let (alice, carol) = (ALICE.address, CAROL.address);
    let shouted = alice.to_uppercase();
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let accented = CAROL.password;
    let of_carol = |password: &[u8]| [format!("a LOGIN {carol} ").as_bytes(), password, b"\r\n"].concat();
    let message = plain("", alice, ALICE.password);
    let unpadded = plain("", SPACES.0, SPACES.1).trim_end_matches('=').to_owned();
    assert_ne!(unpadded.len() % 4, 0, "the message is one that has padding");

    let cases: Vec<(&str, Vec<u8>, &str, End)> = vec![
        ("an atom with * and %", login(STAR.0, STAR.1), STAR.0, In),
        ("an atom with brackets", login(BRACKETS.0, BRACKETS.1), BRACKETS.0, In),
        ("spaces in quotes", login(SPACES.0, &quoted(SPACES.1)), SPACES.0, In),
        ("quotes and backslashes in quotes", login(QUOTES.0, &quoted(QUOTES.1)), QUOTES.0, In),
        (
            "a literal and a quoted name",
            [format!("a LOGIN {} ", quoted(SPACES.0)).as_bytes(), &literal(SPACES.1.as_bytes(), "+"), b"\r\n"].concat(),
            SPACES.0,
            In,
        ),
        (
            "literals byte for byte",
            [b"a LOGIN ", &literal(QUOTES.0.as_bytes(), "+")[..], b" ", &literal(QUOTES.1.as_bytes(), "+"), b"\r\n"]
                .concat(),
            QUOTES.0,
            In,
        ),
        ("UTF-8 in quotes", of_carol(quoted(accented).as_bytes()), carol, In),
        ("UTF-8 in an atom", of_carol(accented.as_bytes()), carol, In),
        ("UTF-8 in a literal", of_carol(&literal(accented.as_bytes(), "+")), carol, In),
        ("Latin-1 in quotes", of_carol(&latin_1(&quoted(accented))), carol, In),
        ("Latin-1 in a literal", of_carol(&literal(&latin_1(accented), "+")), carol, In),
        (
            "Latin-1 in PLAIN",
            {
                let message = [b"\0".as_slice(), carol.as_bytes(), b"\0", &latin_1(accented)].concat();
                format!("a AUTHENTICATE PLAIN {}\r\n", STANDARD.encode(message)).into_bytes()
            },
            carol,
            In,
        ),
        ("two spaces", format!("a LOGIN  {alice}  {}\r\n", ALICE.password).into_bytes(), alice, In),
        ("a space at the end", format!("a LOGIN {alice} {} \r\n", ALICE.password).into_bytes(), alice, In),
        ("a bare LF", format!("a LOGIN {alice} {}\n", ALICE.password).into_bytes(), alice, In),
        ("a name in capitals", login(&shouted, ALICE.password), alice, In),
        ("a dot behind the domain", login(&format!("{alice}."), ALICE.password), alice, In),
        ("a command in small letters", format!("a login {alice} {}\r\n", ALICE.password).into_bytes(), alice, In),
        (
            "PLAIN for oneself",
            format!("a authenticate plain {}\r\n", plain(alice, alice, ALICE.password)).into_bytes(),
            alice,
            In,
        ),
        ("PLAIN in two steps, pipelined", format!("a AUTHENTICATE PLAIN\r\n{message}\r\n").into_bytes(), alice, In),
        ("PLAIN without padding", format!("a AUTHENTICATE PLAIN {unpadded}\r\n").into_bytes(), alice, Refused("a BAD")),
        (
            "PLAIN with three NULs",
            format!("a AUTHENTICATE PLAIN {}\r\n", plain("", alice, &format!("{}\0x", ALICE.password))).into_bytes(),
            alice,
            Refused("a BAD"),
        ),
        (
            "PLAIN for somebody else",
            format!("a AUTHENTICATE PLAIN {}\r\n", plain(carol, alice, ALICE.password)).into_bytes(),
            alice,
            Refused("a NO [AUTHENTICATIONFAILED]"),
        ),
        (
            "an initial response of 8 KiB",
            format!("a AUTHENTICATE PLAIN {}\r\n", STANDARD.encode([b'x'; 6 * 1024])).into_bytes(),
            alice,
            Refused("a BAD"),
        ),
        ("a password of 8 KiB", login(alice, &"x".repeat(8 * 1024)), alice, Closed("* BYE")),
        ("a literal before its time", b"a LOGIN {4294967295}\r\n".to_vec(), alice, Refused("a NO [TOOBIG]")),
        ("a literal beyond 64 bits", b"a LOGIN {18446744073709551617}\r\n".to_vec(), alice, Refused("a NO [TOOBIG]")),
        (
            "a password cut by NUL",
            [
                format!("a LOGIN {alice} ").as_bytes(),
                &literal(format!("{}\0rest", ALICE.password).as_bytes(), "+"),
                b"\r\n",
            ]
            .concat(),
            alice,
            Refused("a BAD"),
        ),
        (
            "a command within the password",
            [
                format!("a LOGIN {alice} ").as_bytes(),
                &literal(format!("{}\r\nG9 DELETE INBOX", ALICE.password).as_bytes(), "+"),
                b"\r\n",
            ]
            .concat(),
            alice,
            Refused("a BAD"),
        ),
        ("lists within lists", format!("a ID {}\r\n", "(".repeat(5000)).into_bytes(), alice, Closed("a BAD")),
        ("a request of the web", b"GET / HTTP/1.1\r\nHost: mail.guichet.test\r\n\r\n".to_vec(), alice, Closed("")),
    ];
    for (what, bytes, address, end) in &cases {
        let cell = if *address == alice { "alpha" } else { "beta" };
        imap_login(what, bytes, address, cell, *end, bytes.len());
    }
    // Cut anywhere, they are the same. A request of the web is not: it is known by its first words.
    for (what, bytes, address, end) in cases.iter().filter(|(_, bytes, ..)| bytes.len() < 200) {
        let cell = if *address == alice { "alpha" } else { "beta" };
        imap_login(&format!("{what}, byte by byte"), bytes, address, cell, *end, 1);
    }
    assert!(!HOUSE.beta.log().contains("G9 DELETE") && !HOUSE.alpha.log().contains("G9 DELETE"));
}

#[test]
fn imap_waits_where_the_client_waits() {
    let mut imap = GATEWAY.imap_dialogue();
    imap.send("a AUTHENTICATE PLAIN\r\n");
    assert!(imap.expect("+").starts_with("+ "), "the space is part of the answer");
    imap.send("*\r\n");
    imap.expect("a BAD");
    imap.send(format!("b LOGIN {{{}}}\r\n", SPACES.0.len()));
    imap.expect("+ ");
    imap.send(format!("{} {{{}}}\r\n", SPACES.0, SPACES.1.len()));
    imap.expect("+ ");
    imap.send(format!("{}\r\nc SELECT INBOX\r\nd FETCH 1 BODY.PEEK[TEXT]\r\ne LOGOUT\r\n", SPACES.1));
    let all = imap.rest().join("\n");
    assert!(all.contains("b OK") && all.contains(&welcome(SPACES.0, "beta")) && all.contains("e OK"), "{all}");
}

fn pop3() -> Dialogue {
    let port = {
        let _ = &*GATEWAY;
        PORTS.pop3s
    };
    let mut pop3 = Dialogue::tls(port, HOST, &HOUSE.world.pki().ca());
    pop3.expect("+OK");
    pop3
}

#[test]
fn pop3_logins_of_every_odd_kind() {
    let accented = [b"USER carol@labo-b.test\r\nPASS ", &latin_1(CAROL.password)[..], b"\r\n"].concat();
    for (what, login, address, cell) in [
        ("all at once", format!("USER {}\r\nPASS {}\r\n", BOB.address, BOB.password).into_bytes(), BOB.address, "beta"),
        (
            "small letters, bare LF",
            format!("user {}\npass {}\n", ALICE.address, ALICE.password).into_bytes(),
            ALICE.address,
            "alpha",
        ),
        ("spaces in a password", format!("USER {}\r\nPASS {}\r\n", SPACES.0, SPACES.1).into_bytes(), SPACES.0, "beta"),
        ("brackets", format!("USER {}\r\nPASS {}\r\n", BRACKETS.0, BRACKETS.1).into_bytes(), BRACKETS.0, "beta"),
        ("quotes are themselves", format!("USER {}\r\nPASS {}\r\n", QUOTES.0, QUOTES.1).into_bytes(), QUOTES.0, "beta"),
        ("Latin-1", accented, CAROL.address, "beta"),
        (
            "capitals and a second try",
            format!("USER nobody\r\nPASS wrong\r\nUSER {}\r\nPASS {}\r\n", STAR.0.to_uppercase(), STAR.1).into_bytes(),
            STAR.0,
            "beta",
        ),
        (
            "PLAIN, cancelled, then again",
            format!("AUTH PLAIN\r\n*\r\nAUTH PLAIN\r\n{}\r\n", plain("", BOB.address, BOB.password)).into_bytes(),
            BOB.address,
            "beta",
        ),
    ] {
        for chunk in [login.len(), 1] {
            let mut pop3 = pop3();
            for part in login.chunks(chunk) {
                pop3.send(part);
            }
            pop3.send("RETR 1\r\nQUIT\r\n");
            let all = pop3.rest().join("\n");
            assert!(all.contains(&welcome(address, cell)), "{what}: {all}\n{}", HOUSE.beta.log());
        }
    }
    let mut pop3 = pop3();
    pop3.send("APOP alice@univ-a.test c4c9334bac560ecc979e58001b3e22fb\r\n");
    assert!(pop3.line().unwrap_or_default().starts_with("-ERR "));
}

#[test]
fn sieve_logins_of_every_odd_kind() {
    let _ = &*GATEWAY;
    let message = plain("", BRACKETS.0, BRACKETS.1);
    let length = message.len();
    for (what, login) in [
        ("quoted", format!("AUTHENTICATE \"PLAIN\" \"{message}\"\r\n")),
        ("small letters", format!("authenticate \"plain\" \"{message}\"\r\n")),
        ("a literal", format!("AUTHENTICATE \"PLAIN\" {{{length}+}}\r\n{message}\r\n")),
        ("in two steps", format!("AUTHENTICATE \"PLAIN\"\r\n\"{message}\"\r\n")),
        ("in two steps by a literal", format!("AUTHENTICATE \"PLAIN\"\r\n{{{length}+}}\r\n{message}\r\n")),
        ("cancelled first", format!("AUTHENTICATE \"PLAIN\"\r\n\"*\"\r\nAUTHENTICATE \"PLAIN\" \"{message}\"\r\n")),
    ] {
        for chunk in [login.len(), 1] {
            let mut sieve = Dialogue::tls(PORTS.sieve, HOST, &HOUSE.world.pki().ca());
            sieve.expect("OK");
            for part in login.as_bytes().chunks(chunk) {
                sieve.send(part);
            }
            sieve.send("PUTSCRIPT \"odd\" {8+}\r\nkeep ;\r\n\r\nLISTSCRIPTS\r\nLOGOUT\r\n");
            let all = sieve.rest().join("\n");
            assert!(all.contains("\"odd\""), "{what}: {all}\n{}", HOUSE.beta.log());
        }
    }
}
