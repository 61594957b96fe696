//! Ends what users have open at a cell that is not theirs any more.

use std::time::Duration;

use guichet_config::{Address, CellId};

use crate::{app::App, mail::Selector, telemetry::METRICS};

/// Which sessions of a user are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// Those at this cell.
    At(&'a CellId),
    /// Those at any other cell.
    NotAt(&'a CellId),
}

/// Ends a user's mail sessions and tunnels of the web, now. Returns how many.
///
/// Called behind the change of the user's route. A login and a request that switches protocols enter their relay first and
/// look at the route then: either they see the change, or their relay is seen here.
pub(crate) fn end_sessions(app: &App, user: &Address, whose: Whose<'_>) -> usize {
    let of_user = Selector { user: Some(user.clone()), ..Selector::default() };
    let mut cells: Vec<String> = app.relays.list(&of_user, SESSIONS_MAX).into_iter().map(|one| one.cell).collect();
    cells.sort_unstable();
    cells.dedup();
    cells.retain(|cell| match whose {
        Whose::At(meant) => cell == meant.as_str(),
        Whose::NotAt(kept) => cell != kept.as_str(),
    });
    let kicked = cells.iter().filter_map(|cell| {
        let at = Selector { cell: Some(cell.parse().ok()?), ..of_user.clone() };
        Some(app.relays.kick(&at, Duration::ZERO))
    });
    let ended: usize = kicked.sum();
    METRICS.placement_sessions_ended.inc_by(ended as u64);
    ended
}

/// More than any limit lets a user have in one cell.
const SESSIONS_MAX: usize = 1_000_000;
