//! A mailbox synchronised through the gateway equals the one synchronised directly, message by message, and what is done to
//! it at home arrives at the cell.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use guichet_tests::{
    ALICE, ALICE_AT_CELL, BOB, Dovecot, Gateway, House, Message, Person, client, maildir, maildir::Folders, run,
};

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("synchronised-mailbox"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| HOUSE.gateway("gateway"));

/// Where a synchroniser goes, and as whom.
struct Way<'a> {
    port: u16,
    starttls: bool,
    address: &'a str,
    password: &'a str,
}

/// What a synchroniser can do: brings a mailbox into `home/mail` and what changed there back, by whichever way.
type Synchroniser = fn(home: &Path, way: &Way<'_>);

fn mbsync(home: &Path, way: &Way<'_>) {
    let mail = home.join("mail");
    std::fs::create_dir_all(&mail).expect("home");
    let settings = format!(
        "IMAPAccount far\nHost localhost\nPort {port}\nUser {user}\nPass \"{password}\"\nTimeout 60\n\
         SSLType {tls}\nSystemCertificates no\nCertificateFile {ca}\n\n\
         IMAPStore far\nAccount far\n\n\
         MaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nSyncState *\n",
        port = way.port,
        user = way.address,
        password = way.password,
        tls = if way.starttls { "STARTTLS" } else { "IMAPS" },
        ca = HOUSE.world.pki().ca().display(),
        mail = mail.display(),
    );
    std::fs::write(home.join("mbsyncrc"), settings).expect("settings");
    run(client("mbsync").env("HOME", home).arg("-c").arg(home.join("mbsyncrc")).arg("all"));
}

fn offlineimap(home: &Path, way: &Way<'_>) {
    std::fs::create_dir_all(home).expect("home");
    let settings = format!(
        "[general]\naccounts = all\nmetadata = {home}/state\nui = quiet\n\
         [Account all]\nlocalrepository = near\nremoterepository = far\n\
         [Repository near]\ntype = Maildir\nlocalfolders = {home}/mail\n\
         [Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = {port}\nremoteuser = {user}\n\
         remotepass = {password}\nssl = yes\nsslcacertfile = {ca}\nmaxconnections = 2\n",
        home = home.display(),
        port = way.port,
        user = way.address,
        password = way.password,
        ca = HOUSE.world.pki().ca().display(),
    );
    std::fs::write(home.join("offlineimaprc"), settings).expect("settings");
    run(client("offlineimap").env("HOME", home).arg("-o").arg("-c").arg(home.join("offlineimaprc")));
}

/// Fills a mailbox with what servers and clients have stumbled over. Returns how many messages it holds in all.
fn fill(cell: &Dovecot, person: &Person) -> usize {
    let bodies: [&[u8]; 8] = [
        b"Bonjour,\n\ndeux lignes.\n",
        "Le cœur a ses raisons que la raison ne connaît point. 日本語 🦭\n".as_bytes(),
        b"Latin-1: \xe9t\xe9, \xe0 No\xebl; and a byte that is nothing: \xff\xfe\n",
        b"* OK [CAPABILITY IMAP4rev1] not a greeting\na001 OK LOGIN completed\n+ go ahead\n* 1 FETCH (BODY[] {4096}\n)\n* BYE\n",
        b".\n..\n.\n\n.hidden\nFrom the beginning\n>From\n",
        b"\n\n\n",
        b"",
        b"\x01\x02\x07\x08\x1b[31mcontrol\x7f\ttab   trailing  \n",
    ];
    let flags = ["", "S", "RS", "FS", "DS", "FRS"];
    let folders =
        [("", 110), ("Archives", 3), ("Archives.2026", 70), ("Envoy&AOk-s", 40), ("&ZeVnLIqe-", 15), ("Vide", 0)];
    let mut count = 1;
    for (folder, messages) in folders {
        cell.add_folder(person.address, folder);
        let kinds = bodies.iter().cycle().zip(flags.iter().cycle());
        for (number, (body, flags)) in (0..messages).zip(kinds) {
            count += 1;
            let mut bytes = format!(
                "From: =?utf-8?q?Zo=C3=A9?= <zoe@univ-a.test>\nTo: {to}\nSubject: {subject}\n\
                 Date: Tue, 24 Nov 2026 09:{minute:02}:00 +0000\nMessage-ID: <{count}.story@univ-a.test>\n\n",
                to = person.address,
                subject = if number % 9 == 0 { "Été, sans codage" } else { "story" },
                minute = number % 60,
            )
            .into_bytes();
            bytes.extend_from_slice(body);
            match number {
                // One line that no buffer holds whole.
                11 => bytes.extend(std::iter::repeat_n(b'x', 100_000)),
                // Every length around the size of a TLS record.
                12..32 => bytes.extend(b"0123456789abcde\n".iter().cycle().take(16_374 + number - bytes.len())),
                _ => {}
            }
            let name = format!("{}.{count}", 1_795_000_000 + count);
            cell.store(person.address, folder, &name, &Message { bytes, flags: (*flags).to_owned() });
        }
    }
    let mut bytes = b"Subject: large\nMessage-ID: <large.story@univ-a.test>\n\n".to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while bytes.len() < LARGE_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(format!("{state:016x}{:016x}\n", state.rotate_left(29)).as_bytes());
    }
    cell.store(person.address, "Archives.2026", "1795100000.large", &Message { bytes, flags: "S".to_owned() });
    count + 1
}

/// Both ways for one person, each into a home of its own, and what is done at the one behind the gateway.
fn story(
    name: &str,
    (synchronise, back_by_starttls): (Synchroniser, bool),
    cell: &Dovecot,
    person: &Person,
    password_at_cell: &str,
) {
    let count = fill(cell, person);
    let home = |way: &str| HOUSE.world.folder(name).join(way);
    let (direct, through) = (home("direct"), home("through"));
    let mail = |home: &PathBuf| maildir::read(&home.join("mail"));
    let (address, password) = (person.address, person.password);
    let straight = Way { port: cell.imaps(), starttls: false, address, password: password_at_cell };

    let forth = Way { port: GATEWAY.imaps(), starttls: false, address, password };
    let back = match back_by_starttls {
        true => Way { port: GATEWAY.imap(), starttls: true, address, password },
        false => Way { ..forth },
    };

    synchronise(&direct, &straight);
    synchronise(&through, &forth);
    let (one, other) = (mail(&direct), mail(&through));
    assert_eq!(maildir::difference(&one, &other), None);
    assert_eq!(other.values().map(Vec::len).sum::<usize>(), count, "{:?}", sizes(&other));
    let all = || other.values().flatten();
    assert!(all().any(|message| message.bytes.len() >= LARGE_BYTES) && other.len() == 6, "{:?}", sizes(&other));
    assert!(all().filter(|message| message.flags.contains('F')).count() > 50);

    // At home: one message is answered and flagged, one is written.
    let inbox = through.join("mail/INBOX");
    let file = maildir::find(&inbox, "<2.story@univ-a.test>").expect("a message in INBOX");
    maildir::set_flags(&file, "FRS");
    let note = "Subject: note\nMessage-ID: <note.story@univ-a.test>\n\nécrit à la maison\n.\n";
    std::fs::write(inbox.join("new/1795200000.note.home"), note).expect("a new message");
    synchronise(&through, &back);
    let at_cell = |id: &str| maildir::find(&cell.maildir(address), id).unwrap_or_else(|| panic!("{id} at the cell"));
    assert_eq!(maildir::flags(&at_cell("<2.story@univ-a.test>")), "FRS");
    let stored = String::from_utf8(std::fs::read(at_cell("<note.story@univ-a.test>")).expect("file")).expect("UTF-8");
    assert!(stored.replace('\r', "").ends_with("écrit à la maison\n.\n"), "{stored}");

    synchronise(&direct, &straight);
    let (one, other) = (mail(&direct), mail(&through));
    assert_eq!(maildir::difference(&one, &other), None);
    assert_eq!(other.values().map(Vec::len).sum::<usize>(), count + 1);
}

fn sizes(folders: &Folders) -> Vec<(&str, usize)> {
    folders.iter().map(|(name, messages)| (name.as_str(), messages.len())).collect()
}

#[test]
fn mbsync_finds_the_same_mailbox_behind_the_gateway_and_brings_changes_back() {
    story("mbsync", (mbsync, true), &HOUSE.alpha, &ALICE, ALICE_AT_CELL);
}

#[test]
fn offlineimap_finds_the_same_mailbox_behind_the_gateway_and_brings_changes_back() {
    // Its STARTTLS hangs, without a gateway too.
    story("offlineimap", (offlineimap, false), &HOUSE.beta, &BOB, BOB.password);
}

const LARGE_BYTES: usize = 20 << 20;
