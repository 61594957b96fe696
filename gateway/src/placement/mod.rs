//! Which cell serves a user now: operator override, then the table of placements and its waves, then the directory's word,
//! then the tenant's default. And whether now is a time to be served at all: a user being moved is held.

mod hold;
mod moved;

use guichet_auth::{Identity, WallTime, placement::Route, store::Store};
use guichet_config::{CellId, Config};

use crate::{app::App, telemetry::event::PlacementsWithoutCell};

pub use self::hold::{Holds, Unsettled};
pub(crate) use self::moved::{Whose, end_sessions};

/// Where a user belongs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// There.
    Cell(CellId),
    /// Nowhere for the moment: being moved, at the latest until then.
    Held(WallTime),
    /// In a cell, or of a tenant, that the configuration does not have.
    Nowhere,
}

impl App {
    /// Where an identity belongs under the words of now. Asked again before a session begins: what it says then counts.
    pub fn place(&self, identity: &Identity, config: &Config) -> Placed {
        let now = self.clock.now();
        let route = match self.store.route(&identity.address, now) {
            Route::Held { until } => return Placed::Held(until),
            Route::Cell(cell) => Some(cell),
            Route::Default => None,
        };
        let word = self.store.placed_user(&identity.address, now);
        place(identity, word.or(route).as_ref(), config).map_or(Placed::Nowhere, Placed::Cell)
    }
}

/// Says which cells have placements and no configuration.
pub(crate) fn warn_of_unknown_cells(store: &Store, config: &Config) {
    for cell in store.placement_cells().iter().filter(|cell| !config.cells.contains_key(*cell)) {
        PlacementsWithoutCell { cell }.emit();
    }
}

/// The cell of an identity; `None` when its tenant is gone from the configuration. A cell that an operator or the
/// directory names and the configuration does not know is `None` too: sending the user to another cell would show an
/// empty mailbox.
pub fn place(identity: &Identity, operator: Option<&CellId>, config: &Config) -> Option<CellId> {
    let tenant = config.tenants.get(&identity.tenant)?;
    let cell = operator.or(identity.cell.as_ref()).unwrap_or(&tenant.cell);
    config.cells.contains_key(cell).then(|| cell.clone())
}
