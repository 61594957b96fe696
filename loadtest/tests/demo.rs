//! The demo as a program: it starts, lets people in by every way, and goes on where a kill stopped it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use guichet_loadtest::{
    client::{Browser, ImapClient, Pop3Client, SieveClient, SmtpClient, Target},
    record::Recorder,
    scenario::{Scenario, Settings},
};

/// A running demo, killed when dropped.
struct Demo {
    child: Child,
    /// The lines it prints for a shell.
    lines: Vec<String>,
}

impl Demo {
    /// Returns when it has said everything that it says when it is ready.
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_guichet-demo"))
            .arg("--dir")
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.starts_with("The demo is ready")), "the demo ended before it was ready");
        let lines = said
            .by_ref()
            .take_while(|line| !line.starts_with("Take "))
            .filter(|line| ["  curl ", "  printf ", "  (printf "].iter().any(|start| line.starts_with(start)))
            .collect();
        // What is printed later must find a reader.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, lines }
    }

    /// What the printed line that holds `word` says when a shell runs it as it stands.
    fn printed(&self, word: &str) -> String {
        let line = self.lines.iter().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no line for {word}"));
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // SIGKILL: nothing is put in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn provider() {
    // Another test of this process may have been first: the provider is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[tokio::test]
async fn a_killed_demo_goes_on_with_its_ports_users_and_sessions() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let demo_json = dir.path().join("demo.json");

    let demo = Demo::start(dir.path());
    let target = Target::open(&demo_json).await.unwrap();
    let browser = Browser::new(&target).unwrap();
    for tenant in &target.demo.tenants {
        for user in tenant.users.iter().take(2) {
            let mut client = ImapClient::connect(&target).await.unwrap();
            client.login(user).await.unwrap();
            client.read_inbox(user).await.unwrap();
            client.logout().await.unwrap();
            Browser::new(&target).unwrap().log_in_by_idp(tenant, user).await.unwrap();
        }
    }
    let tenant = &target.demo.tenants[0];
    browser.log_in_by_idp(tenant, &tenant.users[0]).await.unwrap();
    drop(demo);

    let _demo = Demo::start(dir.path());
    let again = Target::open(&demo_json).await.unwrap();
    assert_eq!(again.demo, target.demo);
    // The session of before the kill, on the same ports, under the same keys.
    browser.get("/inbox").await.unwrap().names(&tenant.users[0]).unwrap();
    // And nobody else's: a fresh browser is asked to log in.
    let stranger = Browser::new(&again).unwrap().get("/inbox").await.unwrap();
    assert!(stranger.names(&tenant.users[0]).is_err());
}

#[tokio::test]
async fn every_mail_protocol_lets_in_and_a_message_sent_is_read_by_imap() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let target = Target::open(&dir.path().join("demo.json")).await.unwrap();
    let users: Vec<_> = target.demo.tenants.iter().map(|tenant| &tenant.users[0]).collect();
    // From each cell to the other.
    for (from, to) in [(users[0], users[1]), (users[1], users[0])] {
        let mut reader = ImapClient::connect(&target).await.unwrap();
        reader.login(to).await.unwrap();
        assert_eq!(reader.select().await.unwrap(), 4);
        reader.idle().await.unwrap();

        let mut smtp = SmtpClient::connect(&target).await.unwrap();
        smtp.login(from).await.unwrap();
        smtp.submit(from, to, "A word to you").await.unwrap();
        smtp.quit().await.unwrap();

        assert_eq!(reader.news().await.unwrap(), 5);
        reader.done().await.unwrap();
        assert!(reader.has_subject(5, "A word to you").await.unwrap());
        reader.logout().await.unwrap();

        let mut pop3 = Pop3Client::connect(&target).await.unwrap();
        pop3.login(to).await.unwrap();
        pop3.poll(to).await.unwrap();
        pop3.quit().await.unwrap();

        let mut sieve = SieveClient::connect(&target).await.unwrap();
        sieve.login(to).await.unwrap();
        sieve.upload("mine", "require \"fileinto\";\r\nkeep;\r\n").await.unwrap();
        sieve.logout().await.unwrap();
    }

    // The lines that are printed for people do what they seem to do.
    assert!(demo.printed("imaps://").contains("Hello alice@univ-a.example."));
    assert!(demo.printed(" 'imap://").contains("Hello alice@univ-a.example."));
    assert!(demo.printed("pop3s://").contains("Hello alice@univ-a.example."));
    assert!(demo.printed("pop3://").contains("5 "));
    demo.printed("smtps://");
    let read = demo.printed("MAILINDEX=*");
    assert!(read.contains("Subject: Hello") && read.contains("([127.0.0.1])"), "{read}");
    demo.printed("smtp://");
    assert!(demo.printed("-starttls sieve").contains("\"mine\" ACTIVE"));
}

#[tokio::test]
async fn a_folder_of_an_older_demo_gets_the_mail_protocols_it_lacks() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    drop(Demo::start(dir.path()));
    // As an older demo left it.
    let path = |name: &str| dir.path().join(name);
    let text = std::fs::read_to_string(path("guichet.toml")).unwrap();
    let older = text.split("[listener.pop3.pop3]").next().unwrap();
    std::fs::write(path("guichet.toml"), older).unwrap();
    let ports = std::fs::read_to_string(path("ports.json")).unwrap();
    let mut ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    for key in ["pop3", "pop3s", "submission", "submissions", "sieve", "cells_mail"] {
        ports.as_object_mut().unwrap().remove(key);
    }
    std::fs::write(path("ports.json"), ports.to_string()).unwrap();

    let _demo = Demo::start(dir.path());
    let target = Target::open(&path("demo.json")).await.unwrap();
    let user = &target.demo.tenants[1].users[0];
    let mut pop3 = Pop3Client::connect(&target).await.unwrap();
    pop3.login(user).await.unwrap();
    pop3.poll(user).await.unwrap();
    pop3.quit().await.unwrap();
}

#[tokio::test]
async fn a_mail_day_passes_without_a_failure() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let _demo = Demo::start(dir.path());
    let target = Target::open(&dir.path().join("demo.json")).await.unwrap();
    let recorder = Arc::new(Recorder::new(Duration::from_secs(2)));
    let settings = Settings { rate: 30.0, duration_s: 2, users: 8, seed: 1 };
    Scenario::MailDay.run(&target, &settings, &recorder).await;
    let summary = recorder.summary();
    // How fast it is says nothing on a machine that runs tests; that each step happens, and none fails, does.
    for bound in Scenario::MailDay.thresholds() {
        let step = summary.steps.iter().find(|step| step.name == bound.step);
        assert!(step.is_some_and(|step| step.ok > 0), "{} never happened", bound.step);
    }
    for step in &summary.steps {
        assert!(step.failures.is_empty(), "{}: {:?}", step.name, step.failures);
    }
}
