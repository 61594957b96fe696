//! Where users are: a compact table of placements, the files it is read from and written to, and the waves that move users.
//!
//! ```text
//!   file of lines ──read──▶ Listing ──import──▶ Table ◀── wave: {users, to, stage, hold}
//!                                                │
//!                              Route: one look for one user, now
//! ```
//!
//! A wave does not touch its users one by one. Each of them names the wave, and the wave says whether they are held, gone or
//! still there: one small record is what changes when thousands of users move, so that they move at once or not at all.
//! What is here is memory and text; `store` keeps it on disk.

mod lines;
mod table;
mod wave;

use guichet_config::CellId;

use crate::WallTime;

pub use self::{
    lines::{Known, LineProblem, Listing, PROBLEMS_MAX, Problems, Rule},
    table::{Full, Table, Wanted},
    wave::{Stage, Step, Wave, WaveName, WaveRefused},
};
pub(crate) use self::{
    lines::{chunks, read_stored},
    table::Slot,
};

/// What the table says of one user, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nothing: the directory or the tenant decides.
    Default,
    /// Served there.
    Cell(CellId),
    /// Being moved: no login until it is over, at the latest then.
    Held {
        /// The hold ends by itself.
        until: WallTime,
    },
}

#[cfg(test)]
mod tests;
