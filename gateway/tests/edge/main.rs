//! The gateway's edge over loopback: ports, PROXY headers, TLS, limits, IMAP, relay, reload, drain.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod imap;
mod listeners;
mod placement;
mod reload;
mod world;
