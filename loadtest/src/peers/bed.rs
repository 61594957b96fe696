//! What all of them stand on: one cell, its users, a certificate, ports.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, ensure};
use rustls::{ClientConfig, client::Resumption};
use tokio::task::JoinHandle;

use super::{Options, auth_http};
use crate::{
    client::tls_of,
    demo::{DemoUser, Folder, free_port},
    world::{Cell, CellLogin, Institution, Mailboxes, imap, institutions},
};

/// The bed. Dropping it ends the cell.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) folder: Folder,
    pub(super) institution: Institution,
    pub(super) users: Arc<Vec<DemoUser>>,
    /// The cell's IMAP port.
    pub(super) cell: SocketAddr,
    /// Where nginx asks.
    pub(super) auth_http: SocketAddr,
    /// Where a proxy listens when it is its turn.
    pub(super) front: SocketAddr,
    /// The gateway's management.
    pub(super) management: SocketAddr,
    /// The client's TLS.
    pub(super) tls: Arc<ClientConfig>,
    /// Connections that a proxy can carry with the descriptors it is allowed.
    pub(super) connections_max: usize,
    tasks: [JoinHandle<()>; 2],
}

impl Bed {
    pub(super) async fn new(options: &Options) -> anyhow::Result<Self> {
        // A proxy needs two for each; this process as well, as client and as cell.
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
        let connections_max = usize::try_from(files.saturating_sub(FILES_SPARE) / 2)?.min(CONNECTIONS_MAX);
        ensure!(
            options.connections <= connections_max,
            "{files} open files are allowed, enough for {connections_max} connections: raise the limit (ulimit -n)"
        );
        // Its configuration and its users would be lost.
        ensure!(
            !options.dir.join("ports.json").exists(),
            "a demo lives in {}: take another folder",
            options.dir.display()
        );
        let folder = Folder::open(&options.dir)?;
        let mut people = institutions(CROWD);
        people.truncate(1);
        folder.prepare(&people)?;
        let pem = format!("{}{}", folder.read("tls/localhost.crt")?, folder.read("tls/localhost.key")?);
        folder.write("haproxy.pem", &pem)?;
        let institutions = Arc::new(people);
        let institution = institutions.first().context("there is an institution")?.clone();

        let (_, cell_socket) = free_port()?;
        let (_, auth_socket) = free_port()?;
        let (cell, auth_http) = (cell_socket.local_addr()?, auth_socket.local_addr()?);
        // Free now, and not one that the system gives away: still free when it is needed.
        let (front, management) = (free_port()?.1.local_addr()?, free_port()?.1.local_addr()?);
        let serves = Cell {
            name: institution.cell.to_owned(),
            institutions: Arc::clone(&institutions),
            mail: Arc::new(Mailboxes::default()),
            login: CellLogin::Password,
            identity_key: Vec::new(),
        };
        let tasks = [
            tokio::spawn(imap::serve(cell_socket, Arc::new(serves))),
            tokio::spawn(auth_http::serve(auth_socket, institutions, cell.port())),
        ];
        let mut tls = tls_of(&folder.path("ca.pem"))?;
        tls.resumption = Resumption::disabled();
        let users = Arc::new(institution.people.iter().map(DemoUser::from).collect());
        let tls = Arc::new(tls);
        Ok(Self { folder, institution, users, cell, auth_http, front, management, tls, connections_max, tasks })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

const CROWD: usize = 20;
const FILES_SPARE: u64 = 500;
const CONNECTIONS_MAX: usize = 50_000;
