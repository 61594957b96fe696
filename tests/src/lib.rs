//! The harness of the stories: a small world of real servers on free loopback ports, and the real gateway in front.
//!
//! A [`World`] is a folder with a certificate authority. Peers live in it, each a [`Daemon`] that ends with the test
//! process, however that ends: [`Slapd`] (OpenLDAP), [`Dovecot`] (an IMAP cell), [`Postfix`] (its submission),
//! [`SimpleSaml`], [`Pysaml2`] and [`LemonLdap`] (identity providers), [`Federation`] (its metadata by HTTPS), [`DiscoveryService`] (its choice of institution), [`WebCell`] (aiohttp) and [`Gateway`] (the built `guichet`); only [`Scripted`]
//! is no real server, as none misbehaves on demand. Clients are as real: [`Curl`], [`openssl`], [`python`](fn@python) with
//! `imapclient`, [`Thunderbird`], and [`Browser`] (Chromium); what they keep in files is read by [`maildir`].
//!
//! Everything here blocks and returns `expect`-style panics: a harness that cannot start a peer has nothing to test.
//! Waiting is always for an event with a bound ([`wait`]), never for a time.

mod browser;
mod curl;
mod daemon;
mod discovery;
mod dovecot;
pub mod federation;
mod gateway;
mod house;
mod imap;
mod issuer;
mod lemonldap;
pub mod maildir;
mod pki;
mod postfix;
mod pysaml2;
mod relay;
pub mod saml;
mod scripted;
mod simplesaml;
mod slapd;
mod thunderbird;
pub mod wait;
mod webcell;
mod world;

pub use browser::{Browser, ENTER, TAB};
pub use curl::{Answer, Curl};
pub use daemon::{Daemon, Signal};
pub use discovery::DiscoveryService;
pub use dovecot::{Dovecot, MASTER, Mailbox, welcome};
pub use federation::Federation;
pub use gateway::{Gateway, HOST, Settings, guichet};
pub use house::{ALICE, ALICE_AT_CELL, BOB, CAROL, ERIN, GHOST, House, LOU, MALLORY, Person};
pub use imap::{Dialogue, openssl};
pub use issuer::Issuer;
pub use lemonldap::LemonLdap;
pub use maildir::Message;
pub use pki::{Files, Pki};
pub use postfix::{Postfix, Way};
pub use pysaml2::Pysaml2;
pub use relay::Relay;
pub use scripted::{Fault, Moment, Scripted};
pub use simplesaml::{Login, Manner, SimpleSaml};
pub use slapd::{BASE, Slapd};
pub use thunderbird::Thunderbird;
pub use webcell::WebCell;
pub use world::{World, client, free_port, python, python_command, run, run_with_input};
