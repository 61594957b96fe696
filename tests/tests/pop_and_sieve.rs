//! POP3 programs fetch, and filter editors store scripts, at Dovecot cells through the gateway.

use std::{io::Write, process::Command, sync::LazyLock};

use guichet_tests::{
    ALICE, BOB, CAROL, Curl, Gateway, HOST, House, Person, free_port, python, run_with_input, wait, welcome,
};

struct Ports {
    pop3s: u16,
    pop3: u16,
    sieve: u16,
}

static PORTS: LazyLock<Ports> = LazyLock::new(|| Ports { pop3s: free_port(), pop3: free_port(), sieve: free_port() });
static HOUSE: LazyLock<House> = LazyLock::new(|| House::new("pop-and-sieve"));
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let listeners = format!(
        "[listener.pop3.pop3s]\nbind = [\"127.0.0.1:{}\"]\n\
         [listener.pop3.pop3]\nbind = [\"127.0.0.1:{}\"]\ntls = \"starttls\"\n\
         [listener.sieve.sieve]\nbind = [\"127.0.0.1:{}\"]\ntls = \"starttls\"\n",
        PORTS.pop3s, PORTS.pop3, PORTS.sieve
    );
    let cells = HOUSE.alpha.config_more_master() + &HOUSE.beta.config_more();
    let gateway = HOUSE.start(HOUSE.settings("gateway").with(&cells).with(&listeners));
    // What the cells tell is shown once each was asked.
    wait::until("every cell is checked", || gateway.endpoints_down().is_empty().then_some(()));
    gateway
});

fn fetch(person: &Person, password: &str, options: &[&str]) -> Result<String, i32> {
    let output = Curl::trusting(&HOUSE.world, HOST)
        .command()
        .args(["-m", "20", "--user", &format!("{}:{password}", person.address)])
        .args([
            "--url",
            &format!("pop3s://{HOST}:{}/1", {
                LazyLock::force(&GATEWAY);
                PORTS.pop3s
            }),
        ])
        .args(options)
        .output()
        .expect("curl runs");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(output.status.code().unwrap_or(-1)),
    }
}

#[test]
fn curl_fetches_by_user_and_pass_and_by_every_mechanism_from_both_kinds_of_cells() {
    for (person, cell) in [(ALICE, "alpha"), (BOB, "beta"), (CAROL, "beta")] {
        for options in [&[][..], &["--login-options", "AUTH=PLAIN"], &["--login-options", "AUTH=LOGIN"], &["--sasl-ir"]]
        {
            let message = fetch(&person, person.password, options);
            assert!(
                message.as_ref().is_ok_and(|text| text.contains(&welcome(person.address, cell))),
                "{options:?} {message:?}\n{}",
                GATEWAY.log()
            );
        }
    }
    let log = HOUSE.alpha.log();
    assert!(log.contains("pop3-login: Info: Login: user=<alice@univ-a.test>"), "{log}");
    assert!(!log.contains(ALICE.password), "the master user logged in for her");
}

#[test]
fn a_wrong_pop3_password_is_login_denied() {
    assert_eq!(fetch(&ALICE, "wrong-Pw", &[]), Err(67));
}

#[test]
fn poplib_upgrades_and_reads() {
    LazyLock::force(&GATEWAY);
    let ca = HOUSE.world.pki().ca().display().to_string();
    let port = PORTS.pop3.to_string();
    let said = python("pop3.py", &[HOST, &port, &ca, BOB.address, BOB.password]);
    assert!(said.starts_with("1\n") && said.contains(&welcome(BOB.address, "beta")), "{said}");
}

#[test]
fn sieve_connect_stores_and_activates_a_script() {
    LazyLock::force(&GATEWAY);
    let script = HOUSE.world.dir().join("vacation.sieve");
    std::fs::File::create(&script)
        .and_then(|mut file| file.write_all(b"require [\"fileinto\"];\nfileinto \"Archive\";\n"))
        .expect("script");
    for (person, cell) in [(ALICE, &HOUSE.alpha), (BOB, &HOUSE.beta)] {
        let mut command = Command::new("sieve-connect");
        command
            .args(["--server", "localhost", "--port", &PORTS.sieve.to_string(), "--user", person.address])
            .args(["--authmech", "PLAIN", "--passwordfd", "0", "--tlshostname", HOST])
            .arg("--tlscafile")
            .arg(HOUSE.world.pki().ca())
            .args(["--upload", "--localsieve"])
            .arg(&script)
            .args(["--remotesieve", "vacation"]);
        let output = run_with_input(&mut command, format!("{}\n", person.password).as_bytes());
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}\n{}", GATEWAY.log(), cell.log());
        let stored = cell.maildir(person.address).parent().expect("home").join("sieve/vacation.sieve");
        assert!(std::fs::read_to_string(&stored).is_ok_and(|text| text.contains("fileinto")), "{}", stored.display());
    }
}
