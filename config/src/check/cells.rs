//! Back end groups.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::{Check, all, network::is_loopback, values::seconds};
use crate::{
    Cell, CellId, CellMail, CellMailTls, CellRelay, CellTls, CellWeb, ClientAddress, Domain, Endpoint, Health,
    MailLogin, MailProtocol, WebEntry, file, shape,
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
            if file.services().is_empty() {
                self.problem(&key, "the cell speaks nothing", format!("add [{key}.web] or [{key}.imap]"));
            }
            let web = file.web.as_ref().map_or(Some(None), |web| self.cell_web(&format!("{key}.web"), web).map(Some));
            if file.zimbra.is_none() && file.web.as_ref().is_some_and(|web| web.entry.zimbra_preauth.is_some()) {
                self.no_tokens(&format!("{key}.web.entry.zimbra_preauth"), &key);
            }
            let mail = self.cell_mails(&key, file);
            let relay = file
                .relay
                .as_ref()
                .map_or(Some(None), |relay| self.cell_relay(&format!("{key}.relay"), relay).map(Some));
            let sources_key = format!("{key}.source_addresses");
            let source_addresses = self.source_addresses(&sources_key, &file.source_addresses);
            let zimbra = file
                .zimbra
                .as_ref()
                .map_or(Some(None), |zimbra| self.cell_zimbra(&format!("{key}.zimbra"), zimbra).map(Some));
            match (cells.as_mut(), id, source_addresses, web, mail, relay, zimbra) {
                (Some(cells), Some(id), Some(source_addresses), Some(web), Some(mail), Some(relay), Some(zimbra)) => {
                    let cell = Cell { id: id.clone(), source_addresses, web, mail, relay, zimbra };
                    self.source_families(&sources_key, &cell);
                    cells.insert(id, Arc::new(cell));
                }
                _ => cells = None,
            }
        }
        cells
    }

    fn source_addresses(&mut self, key: &str, texts: &[String]) -> Option<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let key = format!("{key}[{index}]");
            let trouble = match text.parse::<IpAddr>() {
                Err(_) => "is not an address",
                Ok(ip) if ip.is_unspecified() || ip.is_multicast() => "is no address of one machine",
                Ok(ip) if ip.to_canonical() != ip => "is an IPv4 address in IPv6 clothes",
                Ok(ip) if addresses.contains(&Some(ip)) => "stands here twice",
                Ok(ip) => {
                    addresses.push(Some(ip));
                    continue;
                }
            };
            self.problem(&key, format!("{text:?} {trouble}"), "write \"10.0.0.1\" or \"2001:db8::1\"".to_owned());
            addresses.push(None);
        }
        all(addresses)
    }

    /// Each address can be used, and each endpoint can be reached from one, as far as names do not leave it open.
    fn source_families(&mut self, key: &str, cell: &Cell) {
        let sources = &cell.source_addresses;
        if sources.is_empty() {
            return;
        }
        let family = |ip: &IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let endpoints = cell.web.iter().flat_map(|web| &web.endpoints);
        let endpoints = endpoints.chain(cell.mail.values().flat_map(|mail| &mail.endpoints));
        let endpoints = endpoints.chain(cell.relay.iter().flat_map(|relay| &relay.endpoints));
        let endpoints: Vec<&Endpoint> =
            endpoints.chain(cell.zimbra.iter().flat_map(|zimbra| &zimbra.endpoints)).collect();
        let literals: Vec<Option<IpAddr>> = endpoints.iter().map(|endpoint| endpoint.host.parse().ok()).collect();
        for (endpoint, ip) in endpoints.iter().zip(&literals) {
            if let Some(ip) = ip
                && !sources.iter().any(|source| family(source) == family(ip))
            {
                self.problem(key, format!("none is {}, as the endpoint {endpoint} is", family(ip)), None);
                return;
            }
        }
        for (index, source) in sources.iter().enumerate() {
            if literals.iter().all(|ip| ip.is_some_and(|ip| family(&ip) != family(source))) {
                self.problem(
                    &format!("{key}[{index}]"),
                    format!("no endpoint of the cell is {}", family(source)),
                    None,
                );
            }
        }
    }

    fn cell_mails(&mut self, key: &str, file: &file::Cell) -> Option<BTreeMap<MailProtocol, CellMail>> {
        let mut mails = Some(BTreeMap::new());
        for protocol in MailProtocol::ALL {
            let mail = match protocol {
                MailProtocol::Imap => &file.imap,
                MailProtocol::Pop3 => &file.pop3,
                MailProtocol::Submission => &file.submission,
                MailProtocol::Sieve => &file.sieve,
            };
            let Some(mail) = mail else { continue };
            let mail_key = format!("{key}.{}", protocol.as_str());
            if mail.login.zimbra_token.is_some() {
                self.zimbra_token(&format!("{mail_key}.login.zimbra_token"), protocol, key, file);
            }
            let mail = self.cell_mail(&mail_key, protocol, mail);
            match (mails.as_mut(), mail) {
                (Some(mails), Some(mail)) => drop(mails.insert(protocol, mail)),
                _ => mails = None,
            }
        }
        mails
    }

    fn cell_web(&mut self, key: &str, file: &file::CellWeb) -> Option<CellWeb> {
        let endpoints = self.endpoints(&format!("{key}.endpoints"), &file.endpoints);
        let tls = file.tls.as_ref().map_or(Some(None), |tls| self.cell_tls(&format!("{key}.tls"), tls).map(Some));
        if file.tls.is_none() {
            self.plaintext(key, endpoints.as_deref(), file.dangerous_plaintext, &format!("[{key}.tls]"));
        }
        let entry = match (&file.entry.identity_headers, &file.entry.zimbra_preauth) {
            (Some(headers), None) => {
                self.identity_key(&format!("{key}.entry.identity_headers.key_file"), &headers.key_file)
            }
            (None, Some(_)) => Some(WebEntry::ZimbraPreauth),
            (None, None) => {
                let hint = format!("add [{key}.entry.identity_headers]");
                self.problem(&format!("{key}.entry"), "no way for a logged-in user to enter the cell", hint);
                None
            }
            (Some(_), Some(_)) => {
                let hint = "keep one of `identity_headers` and `zimbra_preauth`".to_owned();
                self.problem(&format!("{key}.entry"), "two ways to enter the cell", hint);
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

    fn cell_mail(&mut self, key: &str, protocol: MailProtocol, file: &file::CellMail) -> Option<CellMail> {
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
        let login = match (&file.login.password, &file.login.master, &file.login.zimbra_token) {
            (_, None, None) => Some(MailLogin::Password),
            (None, Some(master), None) => self.master(&format!("{key}.login.master"), master),
            (None, None, Some(_)) => Some(MailLogin::ZimbraToken),
            _ => {
                self.problem(
                    &format!("{key}.login"),
                    "two ways to log in",
                    "keep one of `password`, `master` and `zimbra_token`".to_owned(),
                );
                None
            }
        };
        let client_address = self.client_address(&format!("{key}.client_address"), protocol, file.client_address);
        let health = self.health(&format!("{key}.health"), &file.health);
        Some(CellMail {
            endpoints: endpoints?,
            tls: tls?,
            login: login?,
            client_address: client_address?,
            health: health?,
        })
    }

    /// A way that the protocol has.
    fn client_address(
        &mut self,
        key: &str,
        protocol: MailProtocol,
        file: Option<file::ClientAddress>,
    ) -> Option<ClientAddress> {
        use file::ClientAddress as File;
        let ways: &[(File, ClientAddress, &str)] = match protocol {
            MailProtocol::Imap => &[(File::Id, ClientAddress::Id, "id")],
            MailProtocol::Pop3 => {
                &[(File::Xclient, ClientAddress::Xclient, "xclient"), (File::Xoip, ClientAddress::Xoip, "xoip")]
            }
            MailProtocol::Submission | MailProtocol::Sieve => &[(File::Xclient, ClientAddress::Xclient, "xclient")],
        };
        match file {
            None if protocol == MailProtocol::Imap => Some(ClientAddress::Id),
            None | Some(File::None) => Some(ClientAddress::None),
            Some(File::ProxyV2) => Some(ClientAddress::ProxyV2),
            Some(file) => {
                let known = ways.iter().find(|(known, ..)| *known == file).map(|(_, way, _)| *way);
                if known.is_none() {
                    let names: Vec<&str> = ways.iter().map(|(.., name)| *name).chain(["proxy_v2", "none"]).collect();
                    let hint = format!("it has {}", shape::list(&names, '"'));
                    self.problem(key, format!("{} has no such way to tell an address", protocol.title()), hint);
                }
                known
            }
        }
    }

    fn cell_relay(&mut self, key: &str, file: &file::CellRelay) -> Option<CellRelay> {
        let endpoints = self.endpoints(&format!("{key}.endpoints"), &file.endpoints);
        let tls = file.tls.as_ref().map_or(Some(None), |tls| self.cell_tls(&format!("{key}.tls"), tls).map(Some));
        if file.tls.is_none() {
            self.plaintext(key, endpoints.as_deref(), file.dangerous_plaintext, &format!("[{key}.tls]"));
        }
        let health = self.health(&format!("{key}.health"), &file.health);
        let proxy_v2 = matches!(file.client_address, file::RelayAddress::ProxyV2);
        Some(CellRelay { endpoints: endpoints?, tls: tls?, proxy_v2, health: health? })
    }

    fn master(&mut self, key: &str, file: &file::MasterLogin) -> Option<MailLogin> {
        let username = self.text(&format!("{key}.username"), &file.username);
        let password = self.secret(&format!("{key}.password_file"), &file.password_file);
        Some(MailLogin::Master { username: username?, password: password? })
    }

    pub(super) fn cell_tls(&mut self, key: &str, file: &file::CellTls) -> Option<CellTls> {
        let ca = self.file_or_none(&format!("{key}.ca"), file.ca.as_deref());
        let name = file.name.as_deref().map_or(Some(None), |name| {
            let name: Option<Domain> = self.parse(&format!("{key}.name"), name);
            name.map(|name| Some(name.as_str().to_owned()))
        });
        Some(CellTls { ca: ca?, name: name? })
    }

    /// Without TLS, only on this machine or with the operator's signature under it.
    pub(super) fn plaintext(&mut self, key: &str, endpoints: Option<&[Endpoint]>, accepted: bool, tls: &str) {
        let Some(far) = endpoints.and_then(|endpoints| endpoints.iter().position(|endpoint| !is_loopback(endpoint)))
        else {
            return;
        };
        if !accepted {
            let hint = format!("add {tls}, or accept it with `dangerous_plaintext = true`");
            self.problem(&format!("{key}.endpoints[{far}]"), "mail and identities would travel in the clear", hint);
        }
    }

    pub(super) fn health(&mut self, key: &str, file: &file::Health) -> Option<Health> {
        let range = Duration::from_millis(10)..=seconds(3600);
        let interval = self.lapse(&format!("{key}.interval"), &file.interval, range.clone());
        let timeout = self.lapse(&format!("{key}.timeout"), &file.timeout, range);
        Some(Health { interval: interval?, timeout: timeout?, failures: file.failures, successes: file.successes })
    }
}

/// HS256 wants a key as long as its hash (RFC 7518 §3.2).
const IDENTITY_KEY_BYTES_MIN: usize = 32;
