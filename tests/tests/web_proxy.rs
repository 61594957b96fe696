//! Requests reach the cell as they were sent, less what a client may not say; answers come back as they are made.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Stdio,
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use guichet_tests::{ALICE, BOB, CAROL, Curl, Dialogue, Gateway, HOST, House, python, wait};
use serde_json::Value;

static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("web-proxy"));
static GATEWAY: LazyLock<Gateway> =
    LazyLock::new(|| HOUSE.start(HOUSE.settings("gateway").limits("body_bytes_max = 67108864")));

fn alice() -> Curl {
    HOUSE.program().with(&["--user", &format!("{}:{}", ALICE.address, ALICE.password)])
}

fn told(curl: &Curl, options: &[&str]) -> Value {
    let answer = curl.ask(&GATEWAY.url("/echo?a=b%20c&d=%2F"), options);
    serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

fn headers(told: &Value, name: &str) -> Vec<String> {
    let all = told["headers"].as_array().expect("headers");
    all.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn both_versions_of_http_serve_any_method_with_its_body() {
    for (version, flag) in [("1.1", "--http1.1"), ("2", "--http2")] {
        for method in [
            "GET",
            "POST",
            "PUT",
            "DELETE",
            "OPTIONS",
            "PATCH",
            "PROPFIND",
            "PROPPATCH",
            "REPORT",
            "MKCALENDAR",
            "MKCOL",
            "MOVE",
            "COPY",
            "LOCK",
            "UNLOCK",
            "SEARCH",
        ] {
            let body: &[&str] = if matches!(method, "GET" | "DELETE" | "OPTIONS" | "UNLOCK") {
                &[]
            } else {
                &["--data-binary", "<a/>"]
            };
            let answer = alice().with(&[flag, "-X", method]).ask(&GATEWAY.url("/dav/calendars/?x=1"), body);
            let wanted = if method == "PROPFIND" { 207 } else { 200 };
            assert_eq!((answer.status, answer.version.as_str()), (wanted, version), "{method}: {answer:?}");
            let said: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(said["method"], method);
            assert_eq!(said["bytes"], if body.is_empty() { 0 } else { 4 }, "{method}");
            assert_eq!(said["target"], "/dav/calendars/?x=1");
        }
        let head = alice().with(&[flag, "-I"]).get(&GATEWAY.url("/"));
        assert_eq!((head.status, head.header("content-length")), (200, Some("91")), "{head:?}");
        for method in ["TRACE", "CONNECT"] {
            let status = alice().with(&[flag, "-X", method]).get(&GATEWAY.url("/echo")).status;
            assert!(status == 0 || status >= 400, "{flag} {method}: {status}");
        }
    }
}

#[test]
fn a_client_cannot_say_who_it_is_or_where_it_comes_from() {
    let lies = [
        "Remote-User: root@univ-a.test",
        "Remote_User: root@univ-a.test",
        "Guichet-Identity: x.y.z",
        "X-Forwarded-For: 192.0.2.66",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Proto: http",
        "Forwarded: for=192.0.2.66",
        "X-Real-IP: 192.0.2.66",
        "X-Remote-User: root",
        "X-Forwarded-User: root",
        "Via: 1.1 evil",
        "X-Original-URL: /admin",
        "Proxy-Authorization: Basic eDp5",
        "Connection: X-Secret-Hop",
        "X-Secret-Hop: 1",
        "Keep-Alive: 5",
        "TE: gzip",
        "Cookie: mine=1; __Host-guichet=forged; theirs=2",
    ];
    for flag in ["--http1.1", "--http2"] {
        let mut options = vec![flag];
        for lie in &lies {
            options.extend(["-H", lie]);
        }
        let said = told(&alice(), &options);
        let all = said["headers"].to_string();
        // Over HTTP/2 curl does not send Connection, so nothing makes that field hop-by-hop.
        assert!(flag == "--http2" || !all.contains("x-secret-hop"), "{all}");
        for trace in ["root", "192.0.2.66", "evil", "x.y.z", "/admin", "eDp5", "forged", "keep-alive", "authorization"]
        {
            assert!(!all.contains(trace), "{flag}: {trace} reached the cell: {all}");
        }
        assert_eq!(headers(&said, "remote-user"), [ALICE.address]);
        assert_eq!(headers(&said, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(headers(&said, "x-forwarded-proto"), ["https"]);
        assert_eq!(headers(&said, "cookie"), ["mine=1; theirs=2"]);
        assert_eq!(said["identity"]["sub"], ALICE.address, "and the signed word is good");
        assert_eq!(said["target"], "/echo?a=b%20c&d=%2F", "the target is as it was sent");
    }
}

#[test]
fn a_cell_cannot_show_its_insides_to_users() {
    let answer = alice().get(&GATEWAY.url("/impolite"));
    assert_eq!((answer.status, answer.header("x-kept")), (200, Some("1")), "{answer:?}");
    for name in ["guichet-identity", "proxy-authenticate", "x-hop", "server"] {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
}

#[test]
fn large_bodies_pass_both_ways_byte_for_byte() {
    let file = HOUSE.world.dir().join("upload.bin");
    let bytes: Vec<u8> = (0..52_428_800_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&file, &bytes).expect("file");
    let upload = format!("@{}", file.display());
    let sum = guichet_tests::run(std::process::Command::new("sha256sum").arg(&file));
    let sum = sum.split(' ').next().expect("a sum");
    for flag in ["--http1.1", "--http2"] {
        for chunked in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
            if flag == "--http2" && !chunked.is_empty() {
                continue;
            }
            let answer = alice()
                .with(&[flag, "-X", "PUT", "--data-binary", &upload, "-H", "Expect:"])
                .ask(&GATEWAY.url("/upload"), chunked);
            assert_eq!(answer.status, 200, "{flag}: {answer:?}");
            let said: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!((&said["bytes"], &said["sha256"]), (&52_428_800.into(), &sum.into()), "{flag}");
        }
        for query in ["bytes=52428801", "bytes=52428801&chunked=1"] {
            let direct =
                Curl::plain().get(&format!("http://127.0.0.1:{}/digest?bytes=52428801", HOUSE.alpha_web.port())).body;
            let got = HOUSE.world.dir().join("download.bin");
            let got_name = got.display().to_string();
            let output = alice()
                .with(&[flag, "-o", &got_name])
                .command()
                .args(["--url", &GATEWAY.url(&format!("/download?{query}"))])
                .output()
                .expect("curl");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let sum = guichet_tests::run(std::process::Command::new("sha256sum").arg(&got));
            assert!(sum.starts_with(&direct), "{flag} {query}");
        }
    }
}

#[test]
fn a_body_over_the_limit_is_refused_announced_or_not() {
    let file = HOUSE.world.dir().join("too-large.bin");
    std::fs::write(&file, vec![7; 70_000_000]).expect("file");
    let upload = format!("@{}", file.display());
    for options in [&["--http1.1"][..], &["--http1.1", "-H", "Transfer-Encoding: chunked"], &["--http2"]] {
        let answer = alice()
            .with(&["-X", "PUT", "--data-binary", &upload, "-H", "Expect:"])
            .ask(&GATEWAY.url("/upload"), options);
        // curl 7.88 forgets the answer when it comes before the end of an HTTP/2 upload (exit code 92).
        assert!(answer.status == 413 || answer.exit == 92 && options.len() == 1, "{options:?}: {answer:?}");
    }
    wait::until("the refusals counted", || {
        (GATEWAY.metric("guichet_http_requests_total", &["status=\"4xx\"", "version=\"2\""]) >= 1.0).then_some(())
    });
    assert_eq!(alice().get(&GATEWAY.url("/")).status, 200, "and the gateway lives on");
}

#[test]
fn an_answer_is_streamed_as_it_is_made() {
    for flag in ["--http1.1", "--http2"] {
        let mut child = alice()
            .with(&[flag, "-N", "--url", &GATEWAY.url("/trickle")])
            .command()
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "first", "{flag}");
        assert_eq!(alice().get(&GATEWAY.url("/release")).body, "released");
        assert_eq!(lines.next().expect("a line").expect("text"), "second", "{flag}");
        assert!(child.wait().expect("curl ends").success());
    }
}

#[test]
fn a_websocket_passes_for_a_browser_with_a_session() {
    let browser = HOUSE.browser();
    let entered = HOUSE.log_in_by_password(&GATEWAY, &browser, &CAROL);
    assert_eq!(entered.status, 303, "{entered:?}");
    let cookie =
        entered.header_all("set-cookie").into_iter().find(|c| c.starts_with("__Host-guichet=")).expect("session");
    let cookie = cookie.split(';').next().expect("a pair");
    let url = GATEWAY.url("/ws").replace("https://", "wss://");
    let said = python("websocket.py", &[&url, &HOUSE.world.pki().ca().display().to_string(), &GATEWAY.url(""), cookie]);
    assert_eq!(said, "hello carol@labo-b.test\nBONJOUR\nsame bytes\nclosed 1000\n");
}

#[test]
fn a_browser_is_led_to_the_login_and_a_program_is_asked_for_credentials() {
    let browser = HOUSE.browser();
    let answer = browser.get(&GATEWAY.url("/mail?x=1"));
    assert_eq!((answer.status, answer.location()), (302, "/login?next=%2Fmail%3Fx%3D1"), "{answer:?}");
    let program = HOUSE.program().get(&GATEWAY.url("/dav/"));
    assert_eq!(program.status, 401);
    assert!(program.header("www-authenticate").is_some_and(|v| v.starts_with("Basic ")), "{program:?}");
    let wrong = HOUSE.program().with(&["--user", "alice@univ-a.test:wrong-Pw"]).get(&GATEWAY.url("/dav/"));
    assert_eq!(wrong.status, 401);
}

#[test]
fn the_plain_port_only_leads_to_https() {
    let answer = HOUSE.program().get(&GATEWAY.plain_url("/mail?x=1"));
    assert_eq!((answer.status, answer.location()), (301, GATEWAY.url("/mail?x=1").as_str()), "{answer:?}");
    let other = Curl::plain().with(&["-H", "Host: evil.test"]).get(&format!("http://127.0.0.1:{}/", GATEWAY.http()));
    assert_eq!(other.location(), GATEWAY.url("/"), "{other:?}");
}

#[test]
fn the_pages_speak_french_and_english_and_carry_their_headers() {
    let french = HOUSE
        .program()
        .with(&["-H", "Accept: text/html", "-H", "Accept-Language: fr-FR,fr;q=0.9,en;q=0.5"])
        .get(&GATEWAY.url("/login"));
    assert!(french.body.contains("Votre adresse électronique") && french.body.contains("Université A"), "{french:?}");
    assert_eq!(french.header("content-language"), Some("fr"));
    let english = HOUSE.program().with(&["-H", "Accept-Language: en"]).get(&GATEWAY.url("/login"));
    assert!(english.body.contains("Your email address") && english.body.contains("University A"), "{english:?}");
    let switched = HOUSE.program().with(&["-H", "Accept-Language: en"]).get(&GATEWAY.url("/login?lang=fr"));
    assert!(switched.body.contains("Votre adresse électronique"), "{switched:?}");
    let csp = english.header("content-security-policy").expect("a policy");
    assert!(csp.contains("default-src 'none'") && csp.contains("frame-ancestors 'none'"), "{csp}");
    assert_eq!(english.header("cache-control"), Some("no-store"));
    let other = HOUSE.program().with(&["-H", "Host: evil.test"]).get(&GATEWAY.url("/login"));
    assert_eq!(other.status, 421, "{other:?}");
}

#[test]
fn the_metadata_is_absent_where_no_tenant_has_an_idp() {
    assert_eq!(HOUSE.program().get(&GATEWAY.url("/saml/metadata")).status, 404);
}

#[test]
fn a_dead_cell_is_told_in_the_readers_language_and_comes_back() {
    let mut house = House::new("web-proxy-dead-cell");
    let gateway = house.gateway("gateway");
    let carol = house.program().with(&["--user", &format!("{}:{}", CAROL.address, CAROL.password)]);
    let page = |language: &str| {
        carol.with(&["-H", "Accept: text/html", "-H", &format!("Accept-Language: {language}")]).get(&gateway.url("/"))
    };
    assert_eq!(page("fr").status, 200);
    house.beta_web.kill();
    for (language, words) in [
        ("fr", "Votre messagerie est momentanément indisponible"),
        ("en", "Your mailbox is unavailable for the moment"),
    ] {
        let answer = page(language);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains(words), "{answer:?}");
        assert_eq!(answer.header("content-language"), Some(language));
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let alice = house.program().with(&["--user", &format!("{}:{}", ALICE.address, ALICE.password)]);
    assert_eq!(alice.get(&gateway.url("/")).status, 200, "the other cell is not concerned");
    house.beta_web.restart();
    wait::until("the cell is back", || (page("fr").status == 200).then_some(()));
}

#[test]
fn a_directory_that_is_away_is_never_a_wrong_password() {
    let mut house = House::new("web-proxy-directory-away");
    let gateway = house.gateway("gateway");
    let wrong = house.program().with(&["--user", "bob@univ-a.test:not-his"]).get(&gateway.url("/dav/"));
    assert_eq!(wrong.status, 401, "{wrong:?}");
    house.slapd.kill();
    for user in [format!("{}:{}", BOB.address, BOB.password), "carol@labo-b.test:guess".to_owned()] {
        let answer = house.program().with(&["--user", &user]).get(&gateway.url("/dav/"));
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none(), "{answer:?}");
    }
    house.slapd.restart();
    wait::until("the directory is back", || {
        let answer =
            house.program().with(&["--user", &format!("{}:{}", BOB.address, BOB.password)]).get(&gateway.url("/dav/"));
        assert_ne!(answer.status, 401, "{answer:?}");
        (answer.status == 200).then_some(())
    });
}

#[test]
fn what_a_cell_says_in_one_breath_with_its_101_is_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.extend_from_slice(&byte);
            }
            let hello =
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x06hello\n";
            if stream.write_all(hello).is_ok() {
                // Then whatever comes goes back.
                while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
            }
        }
    });
    let own = HOUSE.alpha_web.port();
    let cells = HOUSE.cells().replace(&format!("[\"127.0.0.1:{own}\"]"), &format!("[\"127.0.0.1:{port}\"]"));
    let directory = HOUSE.slapd.config(HOUSE.slapd.port());
    let gateway = HOUSE.start(HOUSE.settings_with("one-breath", &directory, &cells));
    let basic = STANDARD.encode(format!("{}:{}", ALICE.address, ALICE.password));
    for _ in 0..20 {
        let mut web = Dialogue::tls(gateway.https(), HOST, &HOUSE.world.pki().ca());
        web.send(format!(
            "GET /ws HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Basic {basic}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        assert!(web.expect("HTTP/1.1 ").contains(" 101 "));
        while web.line().is_some_and(|line| !line.is_empty()) {}
        assert_eq!(web.line().as_deref(), Some("\u{fffd}\u{6}hello"), "the cell's first frame");
        web.send("back\n");
        assert_eq!(web.line().as_deref(), Some("back"));
    }
}
