//! The demo's ports: chosen once, kept for the next start.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};

use super::Folder;
use crate::world::{CellSockets, Institution, Sockets, people::CELLS};

/// Port numbers on 127.0.0.1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// HTTPS.
    pub web: u16,
    /// HTTP that redirects.
    pub redirect: u16,
    /// IMAP with STARTTLS.
    pub imap: u16,
    /// IMAP over TLS.
    pub imaps: u16,
    /// POP3 with STLS. Zero here and below: `ports.json` was written by an older demo.
    #[serde(default)]
    pub pop3: u16,
    /// POP3 over TLS.
    #[serde(default)]
    pub pop3s: u16,
    /// Submission with STARTTLS.
    #[serde(default)]
    pub submission: u16,
    /// Submission over TLS.
    #[serde(default)]
    pub submissions: u16,
    /// ManageSieve with STARTTLS.
    #[serde(default)]
    pub sieve: u16,
    /// Management.
    pub management: u16,
    /// Identity provider.
    pub idp: u16,
    /// IMAP and HTTP of each cell.
    pub cells: BTreeMap<String, (u16, u16)>,
    /// The other mail protocols of each cell.
    #[serde(default)]
    pub cells_mail: BTreeMap<String, CellMailPorts>,
}

/// Port numbers of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellMailPorts {
    /// POP3.
    pub pop3: u16,
    /// Submission.
    pub submission: u16,
    /// ManageSieve.
    pub sieve: u16,
}

impl Ports {
    /// What browsers see.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.web)
    }

    /// URL of the IdP's process.
    pub fn idp_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.idp)
    }

    /// URL prefix of one institution's IdP.
    pub fn idp_prefix(&self, institution: &Institution) -> String {
        format!("{}/{}", self.idp_url(), institution.id)
    }
}

/// Every port of a demo, bound.
#[derive(Debug)]
pub(super) struct Bound {
    /// The world's.
    pub(super) world: Sockets,
    /// The gateway's: held until it binds them itself.
    pub(super) gateway: Vec<TcpListener>,
}

/// Binds the kept ports; those that are not kept yet are chosen, and kept.
pub(super) async fn open(folder: &Folder) -> anyhow::Result<(Ports, Bound)> {
    let kept: Ports = match folder.has("ports.json") {
        true => serde_json::from_str(&folder.read("ports.json")?).context("ports.json")?,
        false => Ports::default(),
    };
    let mut ports = kept.clone();
    // Held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    let mut choose = |port: &mut u16| -> anyhow::Result<()> {
        if *port == 0 {
            let (free, socket) = free_port()?;
            held.push(socket);
            *port = free;
        }
        Ok(())
    };
    let Ports { web, redirect, imap, imaps, pop3, pop3s, submission, submissions, sieve, management, idp, .. } =
        &mut ports;
    for port in [web, redirect, imap, imaps, pop3, pop3s, submission, submissions, sieve, management, idp] {
        choose(port)?;
    }
    for cell in CELLS {
        let (imap, web) = ports.cells.entry(cell.to_owned()).or_default();
        let CellMailPorts { pop3, submission, sieve } = ports.cells_mail.entry(cell.to_owned()).or_default();
        for port in [imap, web, pop3, submission, sieve] {
            choose(port)?;
        }
    }
    drop(held);
    let bound = bind(&ports, folder)?;
    if ports != kept {
        folder.write("ports.json", &serde_json::to_string_pretty(&ports)?)?;
    }
    Ok((ports, bound))
}

fn bind(ports: &Ports, folder: &Folder) -> anyhow::Result<Bound> {
    let bind = |what: &str, port: u16| match listen(port) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {port} ({what}) is taken. Stop what uses it, or start in another folder: \
             the ports of {} are kept, because its configuration and its users' bookmarks hold them.",
            folder.path("").display()
        ),
        other => other.with_context(|| format!("port {port} ({what})")),
    };
    let gateway = vec![
        bind("web", ports.web)?,
        bind("redirect", ports.redirect)?,
        bind("imap", ports.imap)?,
        bind("imaps", ports.imaps)?,
        bind("pop3", ports.pop3)?,
        bind("pop3s", ports.pop3s)?,
        bind("submission", ports.submission)?,
        bind("submissions", ports.submissions)?,
        bind("sieve", ports.sieve)?,
        bind("management", ports.management)?,
    ];
    let mut cells = Vec::new();
    for cell in CELLS {
        let &(imap, web) = ports.cells.get(cell).with_context(|| format!("ports.json has no cell {cell}"))?;
        let mail = ports.cells_mail.get(cell).copied().unwrap_or_default();
        cells.push(CellSockets {
            web: bind("a cell's web", web)?,
            imap: bind("a cell's imap", imap)?,
            pop3: bind("a cell's pop3", mail.pop3)?,
            submission: bind("a cell's submission", mail.submission)?,
            sieve: bind("a cell's sieve", mail.sieve)?,
        });
    }
    Ok(Bound { world: Sockets { idp: bind("idp", ports.idp)?, cells }, gateway })
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the last run that linger must not keep us from starting again.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(1024)
}

/// A free port below those that the system gives to outgoing connections, so that it is still free next time.
pub(crate) fn free_port() -> anyhow::Result<(u16, TcpListener)> {
    for _ in 0..ATTEMPTS {
        let mut bytes = [0; 2];
        aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
        let port = FIRST_PORT + u16::from_be_bytes(bytes) % PORTS;
        if let Ok(socket) = listen(port) {
            return Ok((port, socket));
        }
    }
    bail!("no free port found on 127.0.0.1")
}

const FIRST_PORT: u16 = 18_000;
const PORTS: u16 = 14_000;
const ATTEMPTS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_ports_of_an_older_demo_stay_and_the_missing_ones_are_added_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let (fresh, bound) = open(&folder).await.unwrap();
        drop(bound);
        let mut older = serde_json::to_value(&fresh).unwrap();
        for key in ["pop3", "pop3s", "submission", "submissions", "sieve", "cells_mail"] {
            older.as_object_mut().unwrap().remove(key).unwrap();
        }
        folder.write("ports.json", &older.to_string()).unwrap();
        let (added, bound) = open(&folder).await.unwrap();
        drop(bound);
        assert_eq!((added.web, added.imaps, &added.cells), (fresh.web, fresh.imaps, &fresh.cells));
        assert!(added.sieve != 0 && added.cells_mail.values().all(|cell| cell.submission != 0));
        assert_eq!(open(&folder).await.unwrap().0, added);
    }
}
