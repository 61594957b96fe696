//! The demo as a program: it starts, lets people in by every way, and goes on where a kill stopped it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use guichet_loadtest::client::{Browser, ImapClient, Target};

/// A running demo, killed when dropped.
struct Demo(Child);

impl Demo {
    /// Returns when it says that it is ready.
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_guichet-demo"))
            .arg("--dir")
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("The demo is ready")), "the demo ended before it was ready");
        // What is printed later must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // SIGKILL: nothing is put in order.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_killed_demo_goes_on_with_its_ports_users_and_sessions() {
    // Another test of this process may have been first: the provider is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
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
