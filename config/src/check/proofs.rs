//! Logins without a password: what a mail listener asks for, and which cells can be entered so.

use std::{collections::BTreeMap, sync::Arc};

use super::Check;
use crate::{Cell, CellId, ClientCa, Listener, ListenerKind, MailMechanism, MailProtocol, file, shape};

impl Check {
    pub(super) fn client_ca(&mut self, key: &str, file: &file::ClientCa) -> Option<ClientCa> {
        let path = self.file(&format!("{key}.file"), &file.file);
        let subject_attribute = file.subject_attribute.as_ref().map_or(Some(None), |oid| {
            if !is_oid(oid) {
                let hint = "write it in dots, such as \"1.2.840.113549.1.9.1\" (emailAddress)".to_owned();
                self.problem(&format!("{key}.subject_attribute"), format!("{oid:?} is not an OID"), hint);
                return None;
            }
            Some(Some(oid.clone()))
        });
        let tenants = match &file.tenants {
            Some(names) => self.tenant_names(&format!("{key}.tenants"), names),
            // A bad name was reported where the tenant stands.
            None => Some(self.tenants.iter().filter_map(|name| name.parse().ok()).collect()),
        };
        Some(ClientCa {
            file: path?,
            required: file.required,
            subject_attribute: subject_attribute?,
            tenants: tenants?,
        })
    }

    /// What is there to be proven when a mechanism is asked for by name; `None`: a problem was told.
    pub(super) fn provable(&mut self, key: &str, mechanism: MailMechanism, client_ca: bool) -> Option<()> {
        match mechanism {
            MailMechanism::External if !client_ca => {
                let hint = "add `client_ca.file = \"…\"` to the listener".to_owned();
                self.problem(key, "the listener asks for no client certificate", hint);
            }
            MailMechanism::XOAuth2 | MailMechanism::OAuthBearer if !self.bearers => {
                self.problem(key, "there is no issuer of tokens", "add a [bearer.NAME]".to_owned());
            }
            _ => return Some(()),
        }
        None
    }

    /// Who comes without a password must find a cell that opens without it.
    pub(super) fn proofs(&mut self, listeners: &mut [Listener], cells: &BTreeMap<CellId, Arc<Cell>>) {
        for listener in listeners {
            let ListenerKind::Mail { protocol, mechanisms, client_ca, .. } = &mut listener.kind else { continue };
            let protocol = *protocol;
            let key = shape::join(&format!("listener.{}", protocol.as_str()), listener.id.as_str());
            let wanted: Vec<&str> =
                mechanisms.iter().filter(|one| !one.has_password()).map(|one| one.sasl_name()).collect();
            if wanted.is_empty() {
                continue;
            }
            let (closed, open) = by_need(cells, protocol);
            if open.is_empty() {
                let message = format!("no cell can be entered by {} without the user's password", protocol.title());
                if client_ca.is_some() || self.places.contains_key(&format!("{key}.mechanisms")) {
                    let hint =
                        format!("add `login.master` or `login.zimbra_token` to a [cell.NAME.{}]", protocol.as_str());
                    self.problem(&key, message, hint);
                } else {
                    self.remark(&key, format!("{} are not offered: {message}", wanted.join(" and ")));
                }
                mechanisms.retain(|one| one.has_password());
                continue;
            }
            for cell in closed {
                let cell_key = format!("{}.{}", shape::join("cell", cell), protocol.as_str());
                let message = format!(
                    "`{key}` offers {}, which users of this cell cannot use: it opens to their password only",
                    wanted.join(", ")
                );
                self.remark(&cell_key, message);
            }
        }
    }
}

/// Cells of a protocol that open to the user's password only, and the others.
fn by_need(cells: &BTreeMap<CellId, Arc<Cell>>, protocol: MailProtocol) -> (Vec<&str>, Vec<&str>) {
    let speaking = cells.iter().filter_map(|(id, cell)| Some((id.as_str(), cell.mail.get(&protocol)?)));
    let (closed, open): (Vec<_>, Vec<_>) = speaking.partition(|(_, mail)| mail.login.needs_password());
    (closed.into_iter().map(|(id, _)| id).collect(), open.into_iter().map(|(id, _)| id).collect())
}

/// Numbers in dots, two at least, none with a leading zero.
fn is_oid(text: &str) -> bool {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
        digits && (part == "0" || !part.starts_with('0'))
    };
    text.len() <= 128 && text.contains('.') && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_are_numbers_in_dots() {
        for text in ["2.5.4.3", "1.2.840.113549.1.9.1", "0.9.2342.19200300.100.1.3"] {
            assert!(is_oid(text), "{text}");
        }
        for text in ["", "1", "1.", ".1", "1..2", "1.02", "1.x", "urn:oid:2.5.4.3", "emailAddress", "1.2.3 "] {
            assert!(!is_oid(text), "{text}");
        }
    }
}
