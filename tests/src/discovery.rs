//! A federation's discovery service that chooses by itself.

use std::{path::PathBuf, process::Command};

use crate::{
    daemon::Daemon,
    world::{World, free_port, listens, python_program, script_path},
};

/// A running service; see `tests/python/discovery.py`.
#[derive(Debug)]
pub struct DiscoveryService {
    _daemon: Daemon,
    dir: PathBuf,
    host: String,
    port: u16,
}

impl DiscoveryService {
    /// Starts one under a name of its own, which clients find on loopback.
    pub fn start(world: &World, host: &str) -> Self {
        let dir = world.folder("discovery-service");
        let tls = world.pki().server_in(&dir, "server", &[host]);
        let port = free_port();
        std::fs::write(dir.join("choice"), "").expect("choice");
        let mut command = Command::new(python_program());
        command.arg(script_path("discovery.py")).arg(port.to_string());
        command.arg(&tls.certificate).arg(&tls.key).arg(&dir);
        let mut daemon = Daemon::start("discovery", &command, &dir, None);
        daemon.wait_ready(|_| listens(port));
        Self { _daemon: daemon, dir, host: host.to_owned(), port }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://{}:{}/wayf", self.host, self.port)
    }

    /// What it answers from now on; nothing: that nobody chose.
    pub fn choose(&self, entity_id: &str) {
        std::fs::write(self.dir.join("choice"), entity_id).expect("choice");
    }
}
