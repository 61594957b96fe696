//! Which cell serves a user now: operator override, then the directory's word, then the tenant's default.

use guichet_auth::Identity;
use guichet_config::{CellId, Config};

use crate::app::App;

impl App {
    /// The cell of an identity under the operators' words of now; see [`place`].
    pub fn place(&self, identity: &Identity, config: &Config) -> Option<CellId> {
        let word = self.store.placed_user(&identity.address, self.clock.now());
        place(identity, word.as_ref(), config)
    }
}

/// The cell of an identity; `None` when its tenant is gone from the configuration. A cell that the operator or the
/// directory names and the configuration does not know is `None` too: sending the user to another cell would show an
/// empty mailbox.
pub fn place(identity: &Identity, operator: Option<&CellId>, config: &Config) -> Option<CellId> {
    let tenant = config.tenants.get(&identity.tenant)?;
    let cell = operator.or(identity.cell.as_ref()).unwrap_or(&tenant.cell);
    config.cells.contains_key(cell).then(|| cell.clone())
}
