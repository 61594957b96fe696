//! A mail service to rehearse with: two cells, identity providers of three institutions, all on loopback.
//!
//! The world simulates what the gateway meets, close enough for real clients: cells speak IMAP4rev1, POP3, submission, ManageSieve
//! and HTTP/1.1 with WebSocket, the IdP signs and encrypts as Shibboleth does by default. Mail sent in it stays in it, in memory,
//! and its passwords are known to everyone.

pub mod identity;
pub mod idp;
pub mod imap;
mod login;
mod mailbox;
mod message;
pub mod people;
pub mod pki;
pub mod pop3;
pub mod saml;
pub mod sieve;
pub mod smtp;
pub mod web;
mod websocket;
mod wire;
mod words;

use std::{io, sync::Arc};

use tokio::{net::TcpListener, task::JoinHandle};

pub use idp::{Idp, IdpSwitch};
pub use mailbox::Mailboxes;
pub use message::LARGE_BYTES;
pub use people::{Institution, Person, institutions};

/// How a cell lets the gateway in for mail.
#[derive(Clone, Debug)]
pub enum CellLogin {
    /// With the user's own password.
    Password,
    /// As this master user, for anyone.
    Master {
        /// authcid.
        username: String,
        /// Its password.
        password: String,
    },
}

/// A cell: a name, its users' passwords, the key it shares with the gateway.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Name; the `aud` of the identities it accepts.
    pub name: String,
    /// Who lives in the world.
    pub institutions: Arc<Vec<Institution>>,
    /// The mail of the world.
    pub mail: Arc<Mailboxes>,
    /// How the mail protocols log in.
    pub login: CellLogin,
    /// HMAC key of `Guichet-Identity`.
    pub identity_key: Vec<u8>,
}

/// The listeners of the world, bound by the caller.
#[derive(Debug)]
pub struct Sockets {
    /// Identity provider.
    pub idp: TcpListener,
    /// Those of each cell.
    pub cells: Vec<CellSockets>,
}

/// The listeners of one cell.
#[derive(Debug)]
pub struct CellSockets {
    /// HTTP.
    pub web: TcpListener,
    /// IMAP.
    pub imap: TcpListener,
    /// POP3.
    pub pop3: TcpListener,
    /// Submission.
    pub submission: TcpListener,
    /// ManageSieve.
    pub sieve: TcpListener,
}

/// A running world. Dropping it ends every task and connection.
#[derive(Debug)]
pub struct World {
    tasks: Vec<JoinHandle<()>>,
    switch: IdpSwitch,
}

impl World {
    /// Starts the cells and the IdP on bound listeners.
    ///
    /// # Errors
    /// A listener cannot be used.
    pub fn start(cells: Vec<Cell>, idp: Idp, sockets: Sockets) -> io::Result<Self> {
        let switch = idp.switch();
        let mut tasks = vec![tokio::spawn(serve(sockets.idp, idp.router()))];
        for (cell, CellSockets { web, imap, pop3, submission, sieve }) in cells.into_iter().zip(sockets.cells) {
            let cell = Arc::new(cell);
            tasks.push(tokio::spawn(imap::serve(imap, Arc::clone(&cell))));
            tasks.push(tokio::spawn(pop3::serve(pop3, Arc::clone(&cell))));
            tasks.push(tokio::spawn(smtp::serve(submission, Arc::clone(&cell))));
            tasks.push(tokio::spawn(sieve::serve(sieve, Arc::clone(&cell))));
            tasks.push(tokio::spawn(serve(web, web::router(cell))));
        }
        Ok(Self { tasks, switch })
    }

    /// Takes the IdP down and up.
    pub fn switch(&self) -> &IdpSwitch {
        &self.switch
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, router: axum::Router) {
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "A simulated HTTP server stopped.");
    }
}

#[cfg(test)]
mod tests;
