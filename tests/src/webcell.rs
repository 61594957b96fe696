//! A web cell: aiohttp, which says who it was told the user is and exactly what reached it.

use std::{path::PathBuf, process::Command};

use crate::{
    daemon::Daemon,
    world::{World, free_port, listens, python_program, script_path, write_secret},
};

/// A running web cell (plain HTTP on loopback); see `tests/python/cell.py` for its paths.
#[derive(Debug)]
pub struct WebCell {
    name: String,
    daemon: Daemon,
    command: Command,
    dir: PathBuf,
    port: u16,
    key: PathBuf,
}

impl WebCell {
    /// Starts one.
    pub fn start(world: &World, name: &str) -> Self {
        let dir = world.folder(&format!("{name}-web"));
        let port = free_port();
        let key = dir.join("identity.key");
        write_secret(&key, &format!("identity-key-of-cell-{name}-0123456789"));
        let mut command = Command::new(python_program());
        command.arg(script_path("cell.py")).args([&port.to_string(), name]).arg(&key);
        let daemon = Daemon::start("aiohttp", &command, &dir, None);
        let mut cell = Self { name: name.to_owned(), daemon, command, dir, port, key };
        cell.daemon.wait_ready(|_| listens(port));
        cell
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `[cell.NAME.web]`, the endpoint at `port`.
    pub fn config(&self, port: u16) -> String {
        format!(
            r#"
[cell.{name}.web]
endpoints = ["127.0.0.1:{port}"]
[cell.{name}.web.entry.identity_headers]
key_file = "{key}"
[cell.{name}.web.health]
interval = "1s"
timeout = "1s"
failures = 2
successes = 1
"#,
            name = self.name,
            key = self.key.display(),
        )
    }

    /// `[cell.NAME.zimbra]` with a PreAuth key, and `[cell.NAME.web]`, entered by a token of it.
    pub fn config_zimbra(&self, preauth_key: &str) -> String {
        let key = self.dir.join("preauth.key");
        write_secret(&key, preauth_key);
        format!(
            "[cell.{name}.zimbra]\nendpoints = [\"127.0.0.1:{port}\"]\nkey_file = \"{key}\"\n\
             [cell.{name}.web]\nendpoints = [\"127.0.0.1:{port}\"]\n[cell.{name}.web.entry.zimbra_preauth]\n",
            name = self.name,
            port = self.port,
            key = key.display(),
        )
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again on its port.
    pub fn restart(&mut self) {
        self.daemon = Daemon::start("aiohttp", &self.command, &self.dir, None);
        let port = self.port;
        self.daemon.wait_ready(|_| listens(port));
    }
}
