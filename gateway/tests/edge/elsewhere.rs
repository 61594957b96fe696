//! A cell that turns away a user the directory allowed: the route is looked up once more, and the password is never wrong.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use guichet::telemetry::METRICS;

use crate::{
    mail::{Scripted, until_up},
    world::{PASSWORD, USER, World},
};

fn looks(result: &str) -> u64 {
    METRICS.placement_second_looks.with_label_values(&[result]).get()
}

fn plain() -> String {
    STANDARD.encode(format!("\0{USER}\0{PASSWORD}"))
}

async fn imap_cell(answer: &'static str) -> Scripted {
    let answers: &'static [(&str, &str)] = Box::leak(Box::new([("G1 AUTHENTICATE", answer), ("G0", "* BYE\r\n")]));
    Scripted::start("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] old\r\n", answers).await
}

const IMAP_REFUSALS: [&str; 5] = [
    "G1 NO [UNAVAILABLE] later\r\n",
    "G1 NO [REFERRAL imap://alice@other/] AUTHENTICATE failed\r\n",
    "G1 NO AUTHENTICATE failed (wrong host)\r\n",
    "G1 NO [AUTHENTICATIONFAILED] who is that?\r\n",
    "* BYE maintenance\r\n",
];

#[tokio::test]
async fn a_user_whom_the_old_cell_turns_away_is_let_in_at_the_new_one() {
    for refusal in IMAP_REFUSALS {
        let old = imap_cell(refusal).await;
        let world = World::start(&format!("[cell.old.imap]\nendpoints = [\"{}\"]\n", old.address)).await;
        world.users("cell = \"old\"").await;
        let mut client = world.imaps().await;
        client.line().await;
        // The directory learns of the move when the connection is open and its answers of before are at hand.
        world.users("").await;
        let before = looks("moved");
        client.send(&format!("a LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
        let answer = client.until_tagged("a").await;
        assert!(answer.starts_with("a OK"), "{refusal}: {answer}");
        drop(world.cell.next().await);
        assert_eq!(old.count("G1 AUTHENTICATE"), 1);
        assert!(looks("moved") > before);
    }
}

#[tokio::test]
async fn the_same_route_twice_is_try_later_and_the_cell_is_not_asked_again() {
    for refusal in IMAP_REFUSALS {
        let cell = imap_cell(refusal).await;
        let world = World::start(&format!("[cell.old.imap]\nendpoints = [\"{}\"]\n", cell.address)).await;
        world.users("cell = \"old\"").await;
        let mut client = world.imaps().await;
        client.line().await;
        let before = looks("same");
        for tag in ["a", "b"] {
            client.send(&format!("{tag} LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
            let answer = client.until_tagged(tag).await;
            assert!(answer.starts_with(&format!("{tag} NO [UNAVAILABLE]")), "{refusal}: {answer}");
        }
        assert_eq!(cell.count("G1 AUTHENTICATE"), 2, "{refusal}");
        assert!(looks("same") >= before + 2);
    }
}

#[tokio::test]
async fn a_refusal_of_one_endpoint_is_not_forgotten_over_another_that_is_dead() {
    let old = imap_cell("G1 NO [REFERRAL imap://new/] moved\r\n").await;
    let world = World::start(&format!("[cell.old.imap]\nendpoints = [\"{}\"]\n", old.address)).await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let two = format!(
        "[cell.old.imap]\nendpoints = [\"{}\", \"{}\"]\nhealth.interval = \"1h\"\n",
        old.address,
        dead.local_addr().unwrap()
    );
    world.rewrite(&two);
    world.users("cell = \"old\"").await;
    // Taken in turn: whichever is asked first, the refusal is what counts.
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = world.imaps().await;
        client.line().await;
        clients.push(client);
    }
    drop(dead);
    world.users("").await;
    for mut client in clients {
        client.send(&format!("a LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
        let answer = client.until_tagged("a").await;
        assert!(answer.starts_with("a OK"), "{answer}");
    }
    assert_eq!(old.count("G1 AUTHENTICATE"), 2);
}

#[tokio::test]
async fn two_cells_that_both_turn_a_user_away_are_asked_once_each() {
    let old = imap_cell("G1 NO [REFERRAL imap://new/] moved\r\n").await;
    let new = imap_cell("G1 NO [REFERRAL imap://old/] moved\r\n").await;
    let world = World::start(&format!(
        "[cell.old.imap]\nendpoints = [\"{}\"]\n[cell.new.imap]\nendpoints = [\"{}\"]\n",
        old.address, new.address
    ))
    .await;
    world.users("cell = \"old\"").await;
    let mut client = world.imaps().await;
    client.line().await;
    world.users("cell = \"new\"").await;
    client.send(&format!("a LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    assert!(client.until_tagged("a").await.starts_with("a NO [UNAVAILABLE]"));
    assert_eq!((old.count("G1 AUTHENTICATE"), new.count("G1 AUTHENTICATE")), (1, 1));
}

#[tokio::test]
async fn an_account_that_the_directory_locked_meanwhile_is_refused_on_its_word() {
    let old = imap_cell("G1 NO [ALERT] closed\r\n").await;
    let world = World::start(&format!("[cell.old.imap]\nendpoints = [\"{}\"]\n", old.address)).await;
    world.users("cell = \"old\"").await;
    let mut client = world.imaps().await;
    client.line().await;
    world.users("cell = \"old\"\nstatus = \"locked\"").await;
    client.send(&format!("a LOGIN {USER} \"{PASSWORD}\"\r\n")).await;
    assert!(client.until_tagged("a").await.starts_with("a NO [AUTHENTICATIONFAILED]"));
}

/// One protocol: the cell's greeting and answers, the client's words, what it must hear instead of "wrong password".
struct Case {
    service: &'static str,
    greeting: &'static str,
    answers: &'static [(&'static str, &'static str)],
    says: String,
    hears: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |service, greeting, answers, says: String, hears| Case { service, greeting, answers, says, hears };
    let pop3 = format!("USER {USER}\r\nPASS {PASSWORD}\r\n");
    let sieve = format!("AUTHENTICATE \"PLAIN\" \"{}\"\r\n", plain());
    let smtp = format!("EHLO me\r\nAUTH PLAIN {}\r\n", plain());
    let sieve_greeting = "\"SIEVE\" \"fileinto\"\r\n\"SASL\" \"PLAIN\"\r\nOK\r\n";
    vec![
        case(
            "pop3",
            "+OK cell\r\n",
            &[("CAPA", "+OK\r\nSASL PLAIN\r\n.\r\n"), ("AUTH", "-ERR [SYS/TEMP] later\r\n")],
            pop3.clone(),
            "-ERR [SYS/TEMP]",
        ),
        case(
            "pop3",
            "+OK cell\r\n",
            &[("CAPA", "+OK\r\nSASL PLAIN\r\n.\r\n"), ("AUTH", "-ERR invalid username/password\r\n")],
            pop3,
            "-ERR [SYS/TEMP]",
        ),
        case("sieve", sieve_greeting, &[("AUTH", "NO (TRYLATER) \"later\"\r\n")], sieve.clone(), "NO (TRYLATER)"),
        case("sieve", sieve_greeting, &[("AUTH", "NO (REFERRAL \"sieve://b\") \"moved\"\r\n")], sieve, "NO (TRYLATER)"),
        case(
            "submission",
            "220 cell\r\n",
            &[("EHLO", "250-cell\r\n250 AUTH PLAIN\r\n"), ("AUTH", "454 4.7.0 later\r\n")],
            smtp.clone(),
            "454 4.7.0",
        ),
        case(
            "submission",
            "220 cell\r\n",
            &[("EHLO", "250-cell\r\n250 AUTH PLAIN\r\n"), ("AUTH", "535 5.7.8 who is that?\r\n")],
            smtp,
            "454 4.7.0",
        ),
    ]
}

#[tokio::test]
async fn no_protocol_says_wrong_password_for_a_cell_that_turns_its_user_away() {
    for case in cases() {
        let Case { service, greeting, answers, says, hears } = case;
        let cell = Scripted::start(greeting, answers).await;
        let world = World::start(&format!(
            "[cell.main.{service}]\nendpoints = [\"{}\"]\n[listener.{service}.tls]\nbind = [\"127.0.0.1:0\"]\n",
            cell.address
        ))
        .await;
        until_up(&world, service).await;
        let before = looks("same");
        let mut client = world.connect("tls").await;
        client.send(&says).await;
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|line: &String| line.starts_with(hears)) {
            let line = client.line().await;
            assert!(!line.is_empty(), "{service}: {heard:?}");
            heard.push(line);
        }
        assert_eq!(cell.count("AUTH"), 1, "{service}: {heard:?}");
        assert!(looks("same") > before);
    }
}
