//! The gateway's edge over loopback: ports, PROXY headers, TLS, limits, mail, relay, reload, drain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod elsewhere;
mod imap;
mod listeners;
mod mail;
mod maintenance;
mod moves;
mod placement;
mod proofs;
mod reload;
mod sources;
mod submission;
mod world;
mod zimbra;
