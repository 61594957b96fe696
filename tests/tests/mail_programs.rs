//! Programs that fetch, sort and read mail: fetchmail by every door, imapfilter, mutt at a terminal, and Thunderbird.

use std::{path::PathBuf, sync::LazyLock};

use guichet_tests::{
    ALICE, BOB, CAROL, Gateway, House, Message, Thunderbird, client, free_port, maildir, python, run, wait, welcome,
};

struct Ports {
    pop3s: u16,
    pop3: u16,
}

static PORTS: LazyLock<Ports> = LazyLock::new(|| Ports { pop3s: free_port(), pop3: free_port() });
static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("mail-programs"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let listeners = format!(
        "[listener.pop3.pop3s]\nbind = [\"127.0.0.1:{}\"]\n\
         [listener.pop3.pop3]\nbind = [\"127.0.0.1:{}\"]\ntls = \"starttls\"\n",
        PORTS.pop3s, PORTS.pop3
    );
    let cells = HOUSE.alpha.config_more_master() + &HOUSE.beta.config_more();
    let gateway = HOUSE.start(HOUSE.settings("gateway").with(&cells).with(&listeners));
    // What the cells tell is shown once each was asked.
    wait::until("every cell is checked", || gateway.endpoints_down().is_empty().then_some(()));
    gateway
});

fn ca() -> String {
    HOUSE.world.pki().ca().display().to_string()
}

/// A home with a file of settings that only its owner may read.
fn home(name: &str, file: &str, settings: &str) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let home = HOUSE.world.folder(name);
    let path = home.join(file);
    std::fs::write(&path, settings).expect("settings");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
    (home, path)
}

fn message(subject: &str) -> Message {
    let bytes =
        format!("From: zoe@univ-a.test\nSubject: {subject}\nMessage-ID: <{subject}@univ-a.test>\n\nfrom Zoé\n.\nend\n");
    Message { bytes: bytes.into_bytes(), flags: String::new() }
}

#[test]
fn fetchmail_brings_every_message_by_pop3_and_imap_with_and_without_starttls() {
    let gateway = &*GATEWAY;
    for number in 0..5 {
        let name = format!("fetched-{number}");
        HOUSE.beta.store(CAROL.address, "", &format!("2{number}.{name}"), &message(&name));
    }
    let doors = [
        ("pop3", PORTS.pop3s, "ssl"),
        ("pop3", PORTS.pop3, ""),
        ("imap", gateway.imaps(), "ssl"),
        ("imap", gateway.imap(), ""),
    ];
    for (protocol, port, tls) in doors {
        let name = format!("fetchmail-{protocol}-{}", if tls.is_empty() { "starttls" } else { "implicit" });
        // A version of TLS without `ssl` makes STARTTLS a duty.
        let settings = format!(
            "set no bouncemail\nset no syslog\n\
             poll localhost service {port} protocol {protocol} auth password\n\
             username \"{}\" password \"{}\" {tls} sslproto \"TLS1.2+\" sslcertck sslcertfile \"{}\"\n\
             keep fetchall no rewrite mda \"cat >> {}/fetched\"\n",
            CAROL.address,
            CAROL.password,
            ca(),
            HOUSE.world.dir().join(&name).display(),
        );
        let (home, settings) = home(&name, "fetchmailrc", &settings);
        run(client("fetchmail").env("HOME", &home).env("FETCHMAILHOME", &home).arg("-v").arg("-f").arg(settings));
        let fetched = std::fs::read_to_string(home.join("fetched")).expect("what was fetched");
        assert!(fetched.contains(&welcome(CAROL.address, "beta")), "{name}: {fetched}");
        for number in 0..5 {
            let whole = format!("Message-ID: <fetched-{number}@univ-a.test>\n\nfrom Zoé\n.\nend\n");
            assert!(fetched.contains(&whole), "{name}: {fetched}");
        }
    }
}

#[test]
fn imapfilter_flags_and_moves_what_its_rules_say() {
    for (name, port, tls) in [("implicit", GATEWAY.imaps(), "ssl = 'auto',"), ("starttls", GATEWAY.imap(), "")] {
        let subject = format!("facture-{name}");
        HOUSE.alpha.store(ALICE.address, "", &format!("3.{subject}"), &message(&subject));
        let rules = format!(
            "options.timeout = 30\noptions.create = true\noptions.starttls = true\n\
             account = IMAP {{ server = 'localhost', port = {port}, {tls} username = '{}', password = '{}' }}\n\
             bills = account.INBOX:contain_subject('{subject}')\n\
             bills:mark_flagged()\nbills:move_messages(account['Factures-{name}'])\n",
            ALICE.address, ALICE.password,
        );
        let (home, rules) = home(&format!("imapfilter-{name}"), "config.lua", &rules);
        run(client("imapfilter").env("HOME", &home).args(["-t", &ca(), "-c"]).arg(rules));
        let inbox = HOUSE.alpha.maildir(ALICE.address);
        let moved = maildir::find(&inbox.join(format!(".Factures-{name}")), &subject);
        let moved = moved.unwrap_or_else(|| panic!("not moved\n{}", HOUSE.alpha.log()));
        assert_eq!(maildir::flags(&moved), "F");
        assert_eq!(maildir::find(&inbox, &subject), None);
    }
}

#[test]
fn mutt_reads_flags_and_files_at_a_terminal() {
    for (name, url, port) in [("implicit", "imaps", GATEWAY.imaps()), ("starttls", "imap", GATEWAY.imap())] {
        let subject = format!("lettre-{name}");
        HOUSE.beta.store(BOB.address, "", &format!("4.{subject}"), &message(&subject));
        let shown = HOUSE.world.dir().join(format!("mutt-{name}.shown"));
        let settings = format!(
            "set folder=\"{url}://localhost:{port}/\"\nset spoolfile=\"+INBOX\"\n\
             set imap_user=\"{}\"\nset imap_pass=\"{}\"\nset ssl_starttls=yes\nset ssl_force_tls=yes\n\
             set ssl_ca_certificates_file=\"{ca}\"\nset certificate_file=\"{ca}\"\n\
             set wait_key=no\nset quit=yes\nset confirmappend=no\nset confirmcreate=no\nset delete=yes\nset move=no\n\
             set mark_old=no\nset pipe_decode=no\nset sleep_time=0\nset header_cache=\"\"\n\
             push \"<limit>~s {subject}<enter><pipe-message>cat > {shown}<enter><flag-message>\
             <copy-message><kill-line>=Lettres-{name}<enter><sync-mailbox><quit>\"\n",
            BOB.address,
            BOB.password,
            ca = ca(),
            shown = shown.display(),
        );
        let (home, settings) = home(&format!("mutt-{name}"), "muttrc", &settings);
        let (home, settings) = (home.display().to_string(), settings.display().to_string());
        let seen = python("terminal.py", &["env", &format!("HOME={home}"), "mutt", "-n", "-F", &settings]);
        let read = std::fs::read_to_string(&shown).unwrap_or_else(|e| panic!("{e}: {seen}"));
        assert!(read.replace('\r', "").ends_with("\n\nfrom Zoé\n.\nend\n"), "{read}");
        let inbox = HOUSE.beta.maildir(BOB.address);
        let file = maildir::find(&inbox, &subject).expect("the message");
        assert!(maildir::flags(&file).contains('F'), "{file:?}");
        let copy = maildir::find(&inbox.join(format!(".Lettres-{name}")), &subject);
        assert!(copy.is_some(), "not filed\n{seen}\n{}", HOUSE.beta.log());
    }
}

#[test]
fn thunderbird_keeps_the_mailbox_at_home_and_is_told_of_new_mail() {
    let (address, password) = ("tina@univ-a.test", "thunder-Pw15");
    HOUSE.slapd.add_user(address, password, &["guichetCell: beta"]);
    HOUSE.beta.add_mailbox(address, password);
    for number in 0..20 {
        let name = format!("kept-{number:02}");
        HOUSE.beta.store(address, "", &format!("5{number}.{name}"), &message(&name));
    }
    let start = |name, port, starttls| Thunderbird::start(&HOUSE.world, name, port, starttls, address, password);
    let both =
        [start("thunderbird-implicit", GATEWAY.imaps(), false), start("thunderbird-starttls", GATEWAY.imap(), true)];
    let ids: Vec<_> = (0..20).map(|number| format!("Message-ID: <kept-{number:02}@univ-a.test>")).collect();
    let mut words: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    let welcome = welcome(address, "beta");
    words.extend([welcome.as_bytes(), "from Zoé".as_bytes()]);
    for thunderbird in &both {
        thunderbird.wait_stored(&words);
    }
    let relays = GATEWAY.ctl_ok(&["relay", "list", "--user", address]);
    assert!(relays.matches(address).count() >= 2, "{relays}");
    HOUSE.beta.store(address, "", "6.pushed", &message("pushed"));
    for thunderbird in &both {
        thunderbird.wait_stored(&[b"Message-ID: <pushed@univ-a.test>"]);
    }
}
