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
use crate::world::{Institution, Sockets, people::CELLS};

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
    /// Management.
    pub management: u16,
    /// Identity provider.
    pub idp: u16,
    /// IMAP and HTTP of each cell.
    pub cells: BTreeMap<String, (u16, u16)>,
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

/// Binds the kept ports, or chooses free ones and keeps them.
pub(super) async fn open(folder: &Folder) -> anyhow::Result<(Ports, Bound)> {
    if folder.has("ports.json") {
        let ports: Ports = serde_json::from_str(&folder.read("ports.json")?).context("ports.json")?;
        let bound = bind(&ports, folder)?;
        return Ok((ports, bound));
    }
    let mut taken = Vec::new();
    let mut next = || -> anyhow::Result<u16> {
        let (port, socket) = free_port()?;
        taken.push(socket);
        Ok(port)
    };
    let mut ports = Ports {
        web: next()?,
        redirect: next()?,
        imap: next()?,
        imaps: next()?,
        management: next()?,
        idp: next()?,
        ..Ports::default()
    };
    for cell in CELLS {
        ports.cells.insert(cell.to_owned(), (next()?, next()?));
    }
    drop(taken);
    let bound = bind(&ports, folder)?;
    folder.write("ports.json", &serde_json::to_string_pretty(&ports)?)?;
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
        bind("management", ports.management)?,
    ];
    let mut cells = Vec::new();
    for cell in CELLS {
        let &(imap, web) = ports.cells.get(cell).with_context(|| format!("ports.json has no cell {cell}"))?;
        cells.push((bind("a cell's imap", imap)?, bind("a cell's web", web)?));
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
fn free_port() -> anyhow::Result<(u16, TcpListener)> {
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
