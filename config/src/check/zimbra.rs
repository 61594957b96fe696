//! Auth tokens of Zimbra cells: who gives them, under which keys.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Check, values::seconds};
use crate::{
    Cell, CellId, CellZimbra, Domain, MailLogin, MailProtocol, Secret, Tenant, TenantId, WebEntry, file, shape,
};

impl Check {
    /// A login by token where the cell has tokens and the protocol takes them.
    pub(super) fn zimbra_token(&mut self, key: &str, protocol: MailProtocol, cell_key: &str, cell: &file::Cell) {
        if protocol == MailProtocol::Submission {
            let hint = "use `master` or `password`".to_owned();
            self.problem(key, format!("{} takes no auth token", protocol.title()), hint);
        } else if cell.zimbra.is_none() {
            self.no_tokens(key, cell_key);
        }
    }

    pub(super) fn no_tokens(&mut self, key: &str, cell_key: &str) {
        self.problem(key, "the cell gives no auth tokens", format!("add [{cell_key}.zimbra]"));
    }

    pub(super) fn cell_zimbra(&mut self, key: &str, file: &file::CellZimbra) -> Option<CellZimbra> {
        let endpoints = self.endpoints(&format!("{key}.endpoints"), &file.endpoints);
        let tls = file.tls.as_ref().map_or(Some(None), |tls| self.cell_tls(&format!("{key}.tls"), tls).map(Some));
        if file.tls.is_none() {
            self.plaintext(key, endpoints.as_deref(), file.dangerous_plaintext, &format!("[{key}.tls]"));
        }
        if file.key_file.is_none() && file.key_files.is_empty() {
            let hint = "add `key_file`, with the `zimbraPreAuthKey` of the domains".to_owned();
            self.problem(key, "there is no PreAuth key", hint);
            return None;
        }
        let own = file.key_file.as_deref();
        let own = own.map_or(Some(None), |file| self.preauth_key(&format!("{key}.key_file"), file).map(Some));
        let mut keys = Some(BTreeMap::new());
        for (name, file) in &file.key_files {
            let key = shape::join(&format!("{key}.key_files"), name);
            let domain: Option<Domain> = self.parse(&key, name);
            match (keys.as_mut(), domain, self.preauth_key(&key, file)) {
                (Some(keys), Some(domain), Some(secret)) => drop(keys.insert(domain, secret)),
                _ => keys = None,
            }
        }
        let range = Duration::from_secs(60)..=seconds(86_400);
        let token_life = self.lapse(&format!("{key}.token_life"), &file.token_life, range);
        let health = self.health(&format!("{key}.health"), &file.health);
        let (endpoints, tls, key, keys) = (endpoints?, tls?, own?, keys?);
        Some(CellZimbra { endpoints, tls, key, keys, token_life: token_life?, health: health? })
    }

    /// A wrong key locks users out of their cell: what cannot be one is told here.
    fn preauth_key(&mut self, key: &str, text: &str) -> Option<Secret<String>> {
        let secret = self.secret(key, text)?;
        let digits = secret.expose();
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let hint = "the file must hold the value of `zimbraPreAuthKey` alone".to_owned();
            self.problem(key, "this is not a PreAuth key of 64 hexadecimal digits", hint);
            return None;
        }
        Some(secret)
    }

    /// Tells of domains whose users are in a cell by default and could not be vouched for there.
    pub(super) fn preauth_domains(
        &mut self,
        cells: &BTreeMap<CellId, Arc<Cell>>,
        tenants: &BTreeMap<TenantId, Arc<Tenant>>,
    ) {
        for tenant in tenants.values() {
            let Some(cell) = cells.get(&tenant.cell).filter(|cell| by_token(cell)) else { continue };
            let Some(zimbra) = cell.zimbra.as_ref().filter(|zimbra| zimbra.key.is_none()) else { continue };
            for domain in tenant.domains.iter().filter(|domain| !zimbra.keys.contains_key(*domain)) {
                let message = format!("no PreAuth key for {domain} of `tenant.{}`, whose cell this is", tenant.id);
                self.remark(&format!("{}.zimbra", shape::join("cell", cell.id.as_str())), message);
            }
        }
    }
}

/// Whether users enter the cell by auth token, in whatever way.
fn by_token(cell: &Cell) -> bool {
    cell.web.as_ref().is_some_and(|web| matches!(web.entry, WebEntry::ZimbraPreauth))
        || cell.mail.values().any(|mail| matches!(mail.login, MailLogin::ZimbraToken))
}
