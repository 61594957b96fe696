//! The world itself, met by plain clients.

use std::{net::SocketAddr, sync::Arc};

use super::*;
use crate::world::{
    idp::IdpOf,
    saml::{self, ServiceProvider, der_of_pem},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const ACS: &str = "https://localhost:8443/saml/acs";
const ECP: &str = "https://localhost:8443/saml/ecp";
const SP: &str = "https://localhost:8443/saml/metadata";

struct Started {
    world: World,
    idp: String,
    cells: Vec<Addresses>,
    encryption: pki::Pair,
    signing: pki::Pair,
}

struct Addresses {
    web: SocketAddr,
    imap: SocketAddr,
    pop3: SocketAddr,
    submission: SocketAddr,
    sieve: SocketAddr,
}

async fn cell_sockets() -> CellSockets {
    let bind = || TcpListener::bind("127.0.0.1:0");
    CellSockets {
        web: bind().await.unwrap(),
        imap: bind().await.unwrap(),
        pop3: bind().await.unwrap(),
        submission: bind().await.unwrap(),
        sieve: bind().await.unwrap(),
    }
}

async fn started() -> Started {
    let institutions = Arc::new(institutions(2));
    let (encryption, signing) = (pki::saml("sp").unwrap(), pki::saml("idp").unwrap());
    let sp = ServiceProvider {
        entity_id: SP.into(),
        acs: ACS.into(),
        ecp: ECP.into(),
        slo: "https://localhost:8443/saml/slo".into(),
        encryption_certificate: der_of_pem(&encryption.certificate).unwrap(),
    };
    let idps = ["univ-a", "ecole-c"].map(|tenant| IdpOf {
        tenant: tenant.into(),
        entity_id: format!("https://idp.{tenant}.example"),
        signing: signing.clone(),
    });
    let idp = Idp::new(Arc::clone(&institutions), idps.into(), sp);
    let sockets = Sockets {
        idp: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        cells: vec![cell_sockets().await, cell_sockets().await],
    };
    let mail = Arc::new(Mailboxes::default());
    let master = CellLogin::Master { username: "gateway".into(), password: "master-secret".into() };
    let cell = |name: &str, login| Cell {
        name: name.into(),
        institutions: Arc::clone(&institutions),
        mail: Arc::clone(&mail),
        login,
        identity_key: b"0123456789abcdef0123456789abcdef".to_vec(),
    };
    let cells = vec![cell("alpha", CellLogin::Password), cell("beta", master)];
    let idp_url = format!("http://{}", sockets.idp.local_addr().unwrap());
    let address = |socket: &TcpListener| socket.local_addr().unwrap();
    let addresses = sockets.cells.iter().map(|cell| Addresses {
        web: address(&cell.web),
        imap: address(&cell.imap),
        pop3: address(&cell.pop3),
        submission: address(&cell.submission),
        sieve: address(&cell.sieve),
    });
    let addresses = addresses.collect();
    let world = World::start(cells, idp, sockets).unwrap();
    Started { world, idp: idp_url, cells: addresses, encryption, signing }
}

/// Sends `C:` lines, and reads to the line that starts with `until`.
async fn say(stream: &mut BufReader<TcpStream>, line: &str, until: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut heard = String::new();
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "closed after {heard}");
        heard.push_str(&line);
        if line.starts_with(until) {
            return heard;
        }
    }
}

#[tokio::test]
async fn a_raw_client_logs_in_at_a_cell_reads_idles_and_leaves() {
    let started = started().await;
    let mut stream = BufReader::new(TcpStream::connect(started.cells[0].imap).await.unwrap());
    assert!(say(&mut stream, "", "* OK").await.contains("IMAP4rev1"));
    assert!(
        say(&mut stream, "a LOGIN alice@univ-a.example wrong\r\n", "a ").await.contains("NO [AUTHENTICATIONFAILED]")
    );
    assert!(say(&mut stream, "a SELECT INBOX\r\n", "a ").await.contains("BAD"));
    assert!(say(&mut stream, "b LOGIN {20}\r\n", "+ ").await.starts_with('+'));
    assert!(say(&mut stream, "alice@univ-a.example \"mail-alice-1\"\r\n", "b ").await.contains("OK [CAPABILITY"));
    assert!(say(&mut stream, "c LIST \"\" *\r\n", "c ").await.contains("INBOX"));
    assert!(say(&mut stream, "d SELECT INBOX\r\n", "d ").await.contains("* 4 EXISTS"));
    let fetched = say(&mut stream, "e UID FETCH 1:2 (FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])\r\n", "e ").await;
    assert!(fetched.contains("Subject: Welcome") && fetched.contains("UID 2"), "{fetched}");
    assert!(say(&mut stream, "f FETCH 4 (RFC822.SIZE BODY[]<0.10>)\r\n", "f ").await.contains("RFC822.SIZE 20971520"));
    assert!(say(&mut stream, "g IDLE\r\n", "+ ").await.contains("idling"));
    assert!(say(&mut stream, "DONE\r\n", "g ").await.contains("g OK"));
    assert!(say(&mut stream, "h LOGOUT\r\n", "h ").await.contains("* BYE"));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn the_master_opens_any_mailbox_and_no_one_else_does() {
    let started = started().await;
    let mut stream = BufReader::new(TcpStream::connect(started.cells[1].imap).await.unwrap());
    say(&mut stream, "", "* OK").await;
    let wrong = STANDARD.encode("bob@univ-b.example\0gateway\0guess");
    assert!(say(&mut stream, &format!("a AUTHENTICATE PLAIN {wrong}\r\n"), "a ").await.contains("NO"));
    let own = STANDARD.encode("\0bob@univ-b.example\0mail-bob-1");
    assert!(say(&mut stream, &format!("b AUTHENTICATE PLAIN {own}\r\n"), "b ").await.contains("NO"));
    let right = STANDARD.encode("bob@univ-b.example\0gateway\0master-secret");
    say(&mut stream, "c AUTHENTICATE PLAIN\r\n", "+ ").await;
    assert!(say(&mut stream, &format!("{right}\r\n"), "c ").await.contains("logged in as bob@univ-b.example"));
}

async fn meet(address: SocketAddr, until: &str) -> (BufReader<TcpStream>, String) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let greeting = say(&mut stream, "", until).await;
    (stream, greeting)
}

#[tokio::test]
async fn mail_that_is_submitted_is_told_in_idle_fetched_and_deleted_by_pop3() {
    let started = started().await;
    let (mut idle, _) = meet(started.cells[1].imap, "* OK").await;
    let bob = STANDARD.encode("bob@univ-b.example\0gateway\0master-secret");
    say(&mut idle, &format!("a AUTHENTICATE PLAIN {bob}\r\n"), "a OK").await;
    say(&mut idle, "b SELECT INBOX\r\n", "b OK").await;
    say(&mut idle, "c IDLE\r\n", "+ ").await;

    let (mut smtp, _) = meet(started.cells[0].submission, "220 ").await;
    assert!(say(&mut smtp, "EHLO laptop\r\n", "250 ").await.contains("AUTH PLAIN"));
    say(&mut smtp, "MAIL FROM:<alice@univ-a.example>\r\n", "530 ").await;
    say(&mut smtp, "XCLIENT ADDR=192.0.2.7 PORT=1\r\n", "220 ").await;
    say(&mut smtp, "EHLO laptop\r\n", "250 ").await;
    say(&mut smtp, &format!("AUTH PLAIN {}\r\n", STANDARD.encode("\0alice@univ-a.example\0guess")), "535 ").await;
    say(&mut smtp, &format!("AUTH PLAIN {}\r\n", STANDARD.encode("\0alice@univ-a.example\0mail-alice-1")), "235 ")
        .await;
    say(&mut smtp, "MAIL FROM:<bob@univ-b.example>\r\n", "553 ").await;
    say(&mut smtp, "MAIL FROM:<alice@univ-a.example> SIZE=100\r\n", "250 ").await;
    say(&mut smtp, "RCPT TO:<someone@elsewhere.example>\r\n", "550 ").await;
    say(&mut smtp, "RCPT TO:<bob@univ-b.example>\r\n", "250 ").await;
    say(&mut smtp, "DATA\r\n", "354 ").await;
    say(&mut smtp, "From: <alice@univ-a.example>\r\nSubject: Lunch\r\n\r\n..dots\r\n..\r\n.\r\n", "250 ").await;
    say(&mut smtp, "QUIT\r\n", "221 ").await;

    say(&mut idle, "", "* 5 EXISTS").await;
    say(&mut idle, "DONE\r\n", "c OK").await;
    let fetched = say(&mut idle, "d UID FETCH 5:* (ENVELOPE BODY[])\r\n", "d OK").await;
    assert!(fetched.contains("* 5 FETCH (UID 5 ") && fetched.contains("\"Lunch\""), "{fetched}");
    assert!(
        fetched.contains("Received: from laptop ([192.0.2.7])") && fetched.contains("\r\n\r\n.dots\r\n.\r\n"),
        "{fetched}"
    );

    let (mut pop3, _) = meet(started.cells[1].pop3, "+OK").await;
    assert!(say(&mut pop3, "CAPA\r\n", ".\r\n").await.contains("SASL PLAIN\r\n.\r\n"));
    say(&mut pop3, "USER bob@univ-b.example\r\n", "+OK").await;
    say(&mut pop3, "PASS mail-bob-1\r\n", "-ERR [AUTH]").await;
    say(&mut pop3, &format!("AUTH PLAIN {bob}\r\n"), "+OK").await;
    assert!(say(&mut pop3, "UIDL\r\n", ".\r\n").await.contains("5 m5\r\n.\r\n"));
    assert!(say(&mut pop3, "RETR 5\r\n", ".\r\n").await.contains("\r\n\r\n..dots\r\n..\r\n.\r\n"));
    let top = say(&mut pop3, "TOP 5 1\r\n", ".\r\n").await;
    assert!(top.ends_with("\r\n\r\n..dots\r\n.\r\n"), "{top}");
    say(&mut pop3, "DELE 1\r\n", "-ERR [SYS/PERM]").await;
    say(&mut pop3, "DELE 5\r\n", "+OK").await;
    assert!(say(&mut pop3, "STAT\r\n", "+OK").await.starts_with("+OK 4 "));
    say(&mut pop3, "QUIT\r\n", "+OK").await;
    assert!(say(&mut idle, "e NOOP\r\n", "e OK").await.contains("* 5 EXPUNGE"));
}

#[tokio::test]
async fn scripts_are_kept_and_one_is_active() {
    let started = started().await;
    let (mut sieve, greeting) = meet(started.cells[0].sieve, "OK ").await;
    assert!(greeting.contains("\"SASL\" \"PLAIN\""));
    say(&mut sieve, "LISTSCRIPTS\r\n", "NO ").await;
    let alice = STANDARD.encode("\0alice@univ-a.example\0mail-alice-1");
    say(&mut sieve, &format!("AUTHENTICATE \"PLAIN\" \"{alice}\"\r\n"), "OK").await;
    say(&mut sieve, "PUTSCRIPT \"a \\\"b\\\"\" {14+}\r\nkeep;\r\nkeep;\r\n\r\n", "OK").await;
    say(&mut sieve, "SETACTIVE \"a \\\"b\\\"\"\r\n", "OK").await;
    assert!(say(&mut sieve, "LISTSCRIPTS\r\n", "OK").await.contains("\"a \\\"b\\\"\" ACTIVE\r\n"));
    assert!(say(&mut sieve, "GETSCRIPT \"a \\\"b\\\"\"\r\n", "OK").await.starts_with("{14}\r\nkeep;\r\nkeep;\r\n\r\n"));
    say(&mut sieve, "DELETESCRIPT \"a \\\"b\\\"\"\r\n", "NO (ACTIVE)").await;
    say(&mut sieve, "SETACTIVE \"\"\r\n", "OK").await;
    say(&mut sieve, "DELETESCRIPT \"a \\\"b\\\"\"\r\n", "OK").await;
    say(&mut sieve, "GETSCRIPT \"a\"\r\n", "NO (NONEXISTENT)").await;
    say(&mut sieve, "LOGOUT\r\n", "OK").await;
}

#[tokio::test]
async fn the_web_side_refuses_a_missing_and_a_bad_identity() {
    let started = started().await;
    let client = reqwest_client();
    let url = format!("http://{}/", started.cells[0].web);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 403);
    assert_eq!(client.get(&url).header("guichet-identity", "a.b.c").send().await.unwrap().status(), 403);
    assert_eq!(client.get(format!("{url}healthz")).send().await.unwrap().status(), 200);
}

fn reqwest_client() -> reqwest::Client {
    // Another test may have been first: the provider is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn request_xml(acs: &str) -> String {
    format!(
        "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" \
         ID=\"_req1\" Version=\"2.0\" AssertionConsumerServiceURL=\"{acs}\"><saml:Issuer>{SP}</saml:Issuer></samlp:AuthnRequest>"
    )
}

#[tokio::test]
async fn the_idp_signs_and_encrypts_for_the_right_login_and_can_be_taken_down() {
    let started = started().await;
    let client = reqwest_client();
    let sso = format!("{}/univ-a/sso", started.idp);
    let form = [("SAMLRequest", STANDARD.encode(request_xml(ACS))), ("RelayState", "r1".to_owned())];
    let page = client.post(&sso).form(&form).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("name=\"idp_login\"") && page.contains("value=\"_req1\""), "{page}");
    let foreign = [("SAMLRequest", STANDARD.encode(request_xml("https://evil.example/acs")))];
    assert_eq!(client.post(&sso).form(&foreign).send().await.unwrap().status(), 400);

    let login = |password: &'static str| {
        let fields =
            [("request_id", "_req1"), ("RelayState", "r1"), ("idp_login", "alice"), ("idp_password", password)];
        client.post(format!("{}/univ-a/login", started.idp)).form(&fields).send()
    };
    assert!(login("wrong").await.unwrap().text().await.unwrap().contains("Wrong login or password"));
    let page = login("idp-alice-1").await.unwrap().text().await.unwrap();
    let field = page.split("name=\"SAMLResponse\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let xml = String::from_utf8(STANDARD.decode(field).unwrap()).unwrap();
    assert!(!xml.contains("alice"), "the assertion is not encrypted");

    let mut keys = bergshamra_keys::KeysManager::new();
    keys.add_key(
        bergshamra_keys::loader::load_x509_cert_der(&der_of_pem(&started.signing.certificate).unwrap()).unwrap(),
    );
    let verified = bergshamra_dsig::verify::verify(&bergshamra_dsig::DsigContext::new(keys), &xml).unwrap();
    assert!(verified.is_valid());
    let mut keys = bergshamra_keys::KeysManager::new();
    keys.add_key(bergshamra_keys::loader::load_pem_auto(started.encryption.key.as_bytes(), None).unwrap());
    let plain = bergshamra_enc::decrypt::decrypt(&bergshamra_enc::EncContext::new(keys), &xml).unwrap();
    assert!(plain.contains("alice@univ-a.example") && plain.contains(ACS));

    started.world.switch().set("univ-a", true);
    assert_eq!(client.post(&sso).form(&form).send().await.unwrap().status(), 503);
    let state = client.post(format!("{}/control/up", started.idp)).send().await.unwrap().text().await.unwrap();
    assert_eq!(state, "{\"down\":[]}");
    assert_eq!(client.post(&sso).form(&form).send().await.unwrap().status(), 200);
}

/// The value of a query's field, inflated.
fn message(url: &str, field: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    let (_, value) = url.query_pairs().find(|(name, _)| name == field).unwrap();
    saml::inflate(&value).unwrap()
}

#[tokio::test]
async fn a_session_of_the_idp_needs_no_password_until_it_is_ended_there_or_by_us() {
    let started = started().await;
    let client = reqwest_client();
    let at = |path: &str| format!("{}/univ-a/{path}", started.idp);
    let sso = [("SAMLRequest", STANDARD.encode(request_xml(ACS)))];
    let fields = [("request_id", "_req1"), ("idp_login", "alice"), ("idp_password", "idp-alice-1")];
    let log_in = || async {
        let page = client.post(at("login")).form(&fields).send().await.unwrap();
        page.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
    };
    let asks = |cookie: String, form: Vec<(&'static str, String)>| {
        let sent = client.post(at("sso")).header("cookie", cookie).form(&form).send();
        async move { sent.await.unwrap().text().await.unwrap().contains("idp_password") }
    };
    let cookie = log_in().await;
    assert!(!asks(cookie.clone(), sso.to_vec()).await, "the session is enough");
    let forced = request_xml(ACS).replace("Version=", "ForceAuthn=\"true\" Version=");
    assert!(asks(cookie.clone(), vec![("SAMLRequest", STANDARD.encode(forced))]).await, "unless it is not");

    let out = client.post(at("logout")).header("cookie", &cookie).send().await.unwrap();
    let to = out.headers()["location"].to_str().unwrap();
    assert!(to.starts_with("https://localhost:8443/saml/slo?SAMLRequest=") && to.contains("&Signature="), "{to}");
    assert!(message(to, "SAMLRequest").contains("<samlp:SessionIndex>_"));
    assert!(asks(cookie, sso.to_vec()).await, "ended here");

    let cookie = log_in().await;
    let page = client.get(at("")).header("cookie", &cookie).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Signed in as alice"), "{page}");
    let out = client.post(at("logout")).header("cookie", log_in().await).send().await.unwrap();
    let other = message(out.headers()["location"].to_str().unwrap(), "SAMLRequest");
    assert!(!asks(cookie.clone(), sso.to_vec()).await, "another browser's logout is another's: {other}");
    let client = reqwest_client();
    let name = {
        let page = client.post(at("logout")).header("cookie", &cookie).send().await.unwrap();
        message(page.headers()["location"].to_str().unwrap(), "SAMLRequest")
    };
    let ours = name.replace("https://idp.univ-a.example", SP);
    let url = saml::signed_url(&at("slo"), saml::Field::Request, &ours, "state", &started.signing).unwrap();
    let answer = client.get(url).send().await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap();
    assert!(to.contains("RelayState=state") && message(to, "SAMLResponse").contains("status:Success"), "{to}");
}

#[tokio::test]
async fn a_school_with_one_password_answers_a_program_in_an_envelope() {
    let started = started().await;
    let client = reqwest_client();
    let ask = |tenant: &str, password: &str| {
        let body = format!(
            "<S:Envelope xmlns:S=\"http://schemas.xmlsoap.org/soap/envelope/\"><S:Body>{}</S:Body></S:Envelope>",
            request_xml(ECP)
        );
        client.post(format!("{}/{tenant}/ecp", started.idp)).basic_auth("carole", Some(password)).body(body).send()
    };
    assert_eq!(ask("ecole-c", "wrong").await.unwrap().status(), 401);
    assert_eq!(ask("univ-a", "idp-alice-1").await.unwrap().status(), 404, "only where it is so");
    let answer = ask("ecole-c", "idp-carole-1").await.unwrap();
    assert_eq!(answer.status(), 200);
    let envelope = answer.text().await.unwrap();
    assert!(envelope.contains(&format!("AssertionConsumerServiceURL=\"{ECP}\"")), "{envelope}");
    assert!(envelope.contains("EncryptedAssertion") && !envelope.contains("carole"), "{envelope}");
}
