//! A federation's server: signed metadata by HTTPS, under Python's own web server.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    daemon::Daemon,
    pki::Files,
    simplesaml::SimpleSaml,
    world::{World, free_port, listens, python_program, script_path},
};

/// A running server; see `tests/python/federation.py` for its modes.
#[derive(Debug)]
pub struct Federation {
    daemon: Daemon,
    command: Command,
    dir: PathBuf,
    port: u16,
}

impl Federation {
    /// Starts one that serves, at `path`, what is published later.
    pub fn start(world: &World, name: &str, path: &str) -> Self {
        let dir = world.folder(name);
        let tls = world.pki().server_in(&dir, "server", &["127.0.0.1"]);
        let port = free_port();
        write(&dir, "path", path);
        write(&dir, "mode", "good");
        write(&dir, "metadata.xml", "");
        let mut command = Command::new(python_program());
        command.arg(script_path("federation.py")).arg(port.to_string()).arg(&tls.certificate).arg(&tls.key).arg(&dir);
        let daemon = Daemon::start("federation", &command, &dir, None);
        let mut federation = Self { daemon, command, dir, port };
        federation.wait_ready();
        federation
    }

    /// `https://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// Signs the IdP's metadata with `key`, good for `days`, and serves that.
    pub fn publish(&self, idp: &SimpleSaml, key: &Files, days: u32) {
        idp.sign_metadata(key, Some(days), &self.document());
    }

    /// The same without an end.
    pub fn publish_without_end(&self, idp: &SimpleSaml, key: &Files) {
        idp.sign_metadata(key, None, &self.document());
    }

    /// What is served.
    pub fn document(&self) -> PathBuf {
        self.dir.join("metadata.xml")
    }

    /// How it is served from now on.
    pub fn serve(&self, mode: &str) {
        write(&self.dir, "mode", mode);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again on its port.
    pub fn restart(&mut self) {
        self.daemon = Daemon::start("federation", &self.command, &self.dir, None);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let port = self.port;
        self.daemon.wait_ready(|_| listens(port));
    }
}

/// Whole or not at all: the server reads it at any moment.
fn write(dir: &Path, name: &str, text: &str) {
    let new = dir.join(format!("{name}.new"));
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, dir.join(name))).expect(name);
}
