//! A mail service to rehearse with: two cells, an identity provider for two institutions, all on loopback.
//!
//! The world simulates what the gateway meets, close enough for real clients: cells speak IMAP4rev1 and HTTP/1.1 with WebSocket,
//! the IdP signs and encrypts as Shibboleth does by default. It holds no mail, and its passwords are known to everyone.

pub mod identity;
pub mod idp;
pub mod imap;
pub mod people;
pub mod pki;
pub mod saml;
pub mod web;
mod websocket;

use std::{io, sync::Arc};

use tokio::{net::TcpListener, task::JoinHandle};

pub use idp::{Idp, IdpSwitch};
pub use people::{Institution, Person, institutions};

/// How a cell lets the gateway in over IMAP.
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
    /// How IMAP logs in.
    pub login: CellLogin,
    /// HMAC key of `Guichet-Identity`.
    pub identity_key: Vec<u8>,
}

/// The listeners of the world, bound by the caller.
#[derive(Debug)]
pub struct Sockets {
    /// Identity provider.
    pub idp: TcpListener,
    /// For each cell: IMAP, HTTP.
    pub cells: Vec<(TcpListener, TcpListener)>,
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
        for (cell, (imap_socket, web_socket)) in cells.into_iter().zip(sockets.cells) {
            let cell = Arc::new(cell);
            tasks.push(tokio::spawn(imap::serve(imap_socket, Arc::clone(&cell))));
            tasks.push(tokio::spawn(serve(web_socket, web::router(cell))));
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
