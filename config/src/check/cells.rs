//! Back end groups.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Check, network::is_loopback, values::seconds};
use crate::{
    Cell, CellId, CellImap, CellMailTls, CellTls, CellWeb, ClientAddress, Endpoint, Health, MailLogin, WebEntry, file,
    shape,
};

impl Check {
    pub(super) fn cells(&mut self, files: &BTreeMap<String, file::Cell>) -> Option<BTreeMap<CellId, Arc<Cell>>> {
        if files.is_empty() {
            self.problem("cell", "no cell is configured", "add a [cell.NAME.web] or [cell.NAME.imap]".to_owned());
        }
        let mut cells = Some(BTreeMap::new());
        for (name, file) in files {
            let key = shape::join("cell", name);
            let id: Option<CellId> = self.parse(&key, name);
            if file.web.is_none() && file.imap.is_none() {
                self.problem(&key, "the cell speaks nothing", format!("add [{key}.web] or [{key}.imap]"));
            }
            let web = file.web.as_ref().map_or(Some(None), |web| self.cell_web(&format!("{key}.web"), web).map(Some));
            let imap =
                file.imap.as_ref().map_or(Some(None), |imap| self.cell_imap(&format!("{key}.imap"), imap).map(Some));
            match (cells.as_mut(), id, web, imap) {
                (Some(cells), Some(id), Some(web), Some(imap)) => {
                    cells.insert(id.clone(), Arc::new(Cell { id, web, imap }));
                }
                _ => cells = None,
            }
        }
        cells
    }

    fn cell_web(&mut self, key: &str, file: &file::CellWeb) -> Option<CellWeb> {
        let endpoints = self.endpoints(&format!("{key}.endpoints"), &file.endpoints);
        let tls = file.tls.as_ref().map_or(Some(None), |tls| self.cell_tls(&format!("{key}.tls"), tls).map(Some));
        if file.tls.is_none() {
            self.plaintext(key, endpoints.as_deref(), file.dangerous_plaintext, &format!("[{key}.tls]"));
        }
        let entry = match &file.entry.identity_headers {
            Some(headers) => self.identity_key(&format!("{key}.entry.identity_headers.key_file"), &headers.key_file),
            None => {
                let hint = format!("add [{key}.entry.identity_headers]");
                self.problem(&format!("{key}.entry"), "no way for a logged-in user to enter the cell", hint);
                None
            }
        };
        let health = self.health(&format!("{key}.health"), &file.health);
        let health_path = file.health_path.as_deref().map_or(Some(None), |path| {
            let good =
                path.starts_with('/') && path.len() <= 1024 && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
            if !good {
                self.problem(
                    &format!("{key}.health_path"),
                    format!("{path:?} is not a path"),
                    "it begins with \"/\"".to_owned(),
                );
            }
            good.then(|| Some(path.to_owned()))
        });
        Some(CellWeb { endpoints: endpoints?, tls: tls?, entry: entry?, health: health?, health_path: health_path? })
    }

    fn identity_key(&mut self, key: &str, text: &str) -> Option<WebEntry> {
        let secret = self.secret_bytes(key, text)?;
        if secret.expose().len() < IDENTITY_KEY_BYTES_MIN {
            self.problem(key, "the key is shorter than 32 bytes", "openssl rand -hex 32 > FILE".to_owned());
            return None;
        }
        Some(WebEntry::IdentityHeaders { key: secret })
    }

    fn cell_imap(&mut self, key: &str, file: &file::CellImap) -> Option<CellImap> {
        let endpoints = self.endpoints(&format!("{key}.endpoints"), &file.endpoints);
        let tls_key = format!("{key}.tls");
        let tls = match (&file.tls.implicit, &file.tls.starttls) {
            (Some(tls), None) => self.cell_tls(&format!("{tls_key}.implicit"), tls).map(CellMailTls::Implicit),
            (None, Some(tls)) => self.cell_tls(&format!("{tls_key}.starttls"), tls).map(CellMailTls::StartTls),
            (None, None) => {
                self.plaintext(
                    key,
                    endpoints.as_deref(),
                    file.dangerous_plaintext,
                    &format!("[{tls_key}.implicit] or [{tls_key}.starttls]"),
                );
                Some(CellMailTls::Plain)
            }
            (Some(_), Some(_)) => {
                self.problem(&tls_key, "two kinds of TLS", "keep one of `implicit` and `starttls`".to_owned());
                None
            }
        };
        let login = match (&file.login.password, &file.login.master) {
            (_, None) => Some(MailLogin::Password),
            (None, Some(master)) => self.master(&format!("{key}.login.master"), master),
            (Some(_), Some(_)) => {
                self.problem(
                    &format!("{key}.login"),
                    "two ways to log in",
                    "keep one of `password` and `master`".to_owned(),
                );
                None
            }
        };
        let client_address = match file.client_address {
            file::ClientAddress::None => ClientAddress::None,
            file::ClientAddress::Id => ClientAddress::Id,
            file::ClientAddress::ProxyV2 => ClientAddress::ProxyV2,
        };
        let health = self.health(&format!("{key}.health"), &file.health);
        Some(CellImap { endpoints: endpoints?, tls: tls?, login: login?, client_address, health: health? })
    }

    fn master(&mut self, key: &str, file: &file::MasterLogin) -> Option<MailLogin> {
        let username = self.text(&format!("{key}.username"), &file.username);
        let password = self.secret(&format!("{key}.password_file"), &file.password_file);
        Some(MailLogin::Master { username: username?, password: password? })
    }

    fn cell_tls(&mut self, key: &str, file: &file::CellTls) -> Option<CellTls> {
        let ca = self.file_or_none(&format!("{key}.ca"), file.ca.as_deref());
        let name = file.name.as_deref().map_or(Some(None), |name| {
            let name: Option<crate::Domain> = self.parse(&format!("{key}.name"), name);
            name.map(|name| Some(name.as_str().to_owned()))
        });
        Some(CellTls { ca: ca?, name: name? })
    }

    /// Without TLS, only on this machine or with the operator's signature under it.
    fn plaintext(&mut self, key: &str, endpoints: Option<&[Endpoint]>, accepted: bool, tls: &str) {
        let Some(far) = endpoints.and_then(|endpoints| endpoints.iter().position(|endpoint| !is_loopback(endpoint)))
        else {
            return;
        };
        if !accepted {
            let hint = format!("add {tls}, or accept it with `dangerous_plaintext = true`");
            self.problem(&format!("{key}.endpoints[{far}]"), "mail and identities would travel in the clear", hint);
        }
    }

    fn health(&mut self, key: &str, file: &file::Health) -> Option<Health> {
        let range = Duration::from_millis(10)..=seconds(3600);
        let interval = self.lapse(&format!("{key}.interval"), &file.interval, range.clone());
        let timeout = self.lapse(&format!("{key}.timeout"), &file.timeout, range);
        Some(Health { interval: interval?, timeout: timeout?, failures: file.failures, successes: file.successes })
    }
}

/// HS256 wants a key as long as its hash (RFC 7518 §3.2).
const IDENTITY_KEY_BYTES_MIN: usize = 32;
