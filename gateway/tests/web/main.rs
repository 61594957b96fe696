//! The web way end to end on loopback: our accept side, the engine, a cell that records what it got.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that stops says where")]

mod console;
mod discovery;
mod exchange;
mod forward;
mod gate;
mod login;
mod moves;
mod setup;
mod step_up;
mod tunnels;
mod world;
mod zimbra;
