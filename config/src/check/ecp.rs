//! Identity providers that are asked about passwords.

use std::{collections::BTreeMap, sync::Arc};

use super::Check;
use crate::{Cell, CellId, Ecp, EcpUsername, Tenant, TenantId, file, shape};

impl Check {
    pub(super) fn ecp(&mut self, key: &str, file: &file::Ecp) -> Option<Ecp> {
        let ca = self.file_or_none(&format!("{key}.ca"), file.ca.as_deref());
        let username = match file.username {
            file::EcpUsername::Address => EcpUsername::Address,
            file::EcpUsername::LocalPart => EcpUsername::LocalPart,
        };
        Some(Ecp { username, ca: ca? })
    }

    /// A cell that opens to the user's password only is shown the one of the institution.
    pub(super) fn ecp_cells(&mut self, cells: &BTreeMap<CellId, Arc<Cell>>, tenants: &BTreeMap<TenantId, Arc<Tenant>>) {
        for tenant in tenants.values().filter(|tenant| tenant.idp.as_ref().is_some_and(|idp| idp.ecp.is_some())) {
            let Some(cell) = cells.get(&tenant.cell) else { continue };
            let closed = cell.mail.iter().filter(|(_, mail)| mail.login.needs_password());
            let closed: Vec<&str> = closed.map(|(protocol, _)| protocol.title()).collect();
            if !closed.is_empty() {
                let key = format!("{}.idp.saml.ecp", shape::join("tenant", tenant.id.as_str()));
                let message = format!(
                    "the cell {} opens to the user's password only ({}): it must know the one of the institution",
                    cell.id,
                    closed.join(", ")
                );
                self.remark(&key, message);
            }
        }
    }
}
