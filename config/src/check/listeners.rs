//! Open ports: what each speaks, and that no two want the same.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{Check, all, values::seconds};
use crate::{DataLines, Domain, Listener, ListenerKind, MailMechanism, MailProtocol, MailTls, Management, file, shape};

/// What every kind of listener has.
struct Common<'a> {
    name: &'a String,
    bind: &'a [String],
    proxy: Option<&'a file::ProxyProtocol>,
    public_port: Option<u16>,
    kind: Option<ListenerKind>,
}

impl Check {
    pub(super) fn listeners(&mut self, file: &file::Listeners) -> Option<Vec<Listener>> {
        let mut found: Vec<(&str, Common<'_>)> = Vec::new();
        for (name, one) in &file.web {
            found.push(("web", plain(name, one, ListenerKind::Web)));
        }
        for (name, one) in &file.redirect {
            found.push(("redirect", plain(name, one, ListenerKind::Redirect)));
        }
        let mail =
            [(MailProtocol::Imap, &file.imap), (MailProtocol::Pop3, &file.pop3), (MailProtocol::Sieve, &file.sieve)];
        for (protocol, listeners) in mail {
            for (name, one) in listeners {
                let ways = (one.mechanisms.as_deref(), one.client_ca.as_ref());
                let kind = self.mail(protocol, name, one.tls, ways, DataLines::Reject);
                let (proxy, public_port) = (one.proxy_protocol.as_ref(), one.public_port);
                found.push((protocol.as_str(), Common { name, bind: &one.bind, proxy, public_port, kind }));
            }
        }
        for (name, one) in &file.submission {
            let protocol = MailProtocol::Submission;
            let data_lines = match one.data_lines {
                file::DataLines::Reject => DataLines::Reject,
                file::DataLines::Normalise => DataLines::Normalise,
                file::DataLines::Off => DataLines::Off,
            };
            let ways = (one.mechanisms.as_deref(), one.client_ca.as_ref());
            let kind = self.mail(protocol, name, one.tls, ways, data_lines);
            let (proxy, public_port) = (one.proxy_protocol.as_ref(), one.public_port);
            found.push((protocol.as_str(), Common { name, bind: &one.bind, proxy, public_port, kind }));
        }
        for (name, one) in &file.relay {
            let kind = self.relay(&shape::join("listener.relay", name), one);
            let proxy = one.proxy_protocol.as_ref();
            found.push(("relay", Common { name, bind: &one.bind, proxy, public_port: None, kind }));
        }
        if found.is_empty() {
            self.problem("listener", "no port is open", "add a [listener.web.NAME] or [listener.imap.NAME]".to_owned());
        }
        found.sort_by_key(|(kind, one)| self.place(&shape::join(&format!("listener.{kind}"), one.name)));
        let mut seen: Vec<(&str, String)> = Vec::new();
        let mut listeners = Vec::new();
        for (kind, common) in found {
            let key = shape::join(&format!("listener.{kind}"), common.name);
            self.name_once(&mut seen, common.name, &key);
            listeners.push(self.listener(&key, common));
        }
        let mut listeners = all(listeners)?;
        listeners.sort_by(|a, b| a.id.cmp(&b.id));
        Some(listeners)
    }

    fn name_once<'a>(&mut self, seen: &mut Vec<(&'a str, String)>, name: &'a str, key: &str) {
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == name) {
            let line = self.place(first).line;
            self.problem(
                key,
                format!("`{first}` (line {line}) has this name already"),
                "logs and metrics know a listener by its name alone".to_owned(),
            );
        }
        seen.push((name, key.to_owned()));
    }

    fn listener(&mut self, key: &str, common: Common<'_>) -> Option<Listener> {
        let Common { name, bind, proxy, public_port, kind } = common;
        let id = self.parse(key, name);
        let bind = self.addresses(&format!("{key}.bind"), bind, None);
        let proxy_from =
            proxy.map_or(Some(Vec::new()), |proxy| self.networks(&format!("{key}.proxy_protocol.from"), &proxy.from));
        Some(Listener { id: id?, kind: kind?, bind: bind?, proxy_from: proxy_from?, public_port })
    }

    fn mail(
        &mut self,
        protocol: MailProtocol,
        name: &str,
        tls: file::MailTls,
        (mechanisms, client_ca): (Option<&[file::Mechanism]>, Option<&file::ClientCa>),
        data_lines: DataLines,
    ) -> Option<ListenerKind> {
        let key = shape::join(&format!("listener.{}", protocol.as_str()), name);
        let tls = match tls {
            file::MailTls::Implicit => MailTls::Implicit,
            file::MailTls::StartTls => MailTls::StartTls,
        };
        let ca_key = format!("{key}.client_ca");
        let client_ca = client_ca.map_or(Some(None), |ca| self.client_ca(&ca_key, ca).map(Some))?;
        let mechanisms = match mechanisms {
            None => all_mechanisms(protocol, client_ca.is_some(), self.bearers),
            Some(files) => self.mechanisms(&format!("{key}.mechanisms"), protocol, files, client_ca.is_some())?,
        };
        if client_ca.as_ref().is_some_and(|ca| !ca.required) && !mechanisms.contains(&MailMechanism::External) {
            let hint = "add \"external\" to `mechanisms`, or `required = true` to `client_ca`".to_owned();
            self.problem(&ca_key, "certificates are asked for and of no use", hint);
        }
        if !self.speaks(protocol.as_str()) {
            let hint = format!("add [cell.NAME.{}]", protocol.as_str());
            self.problem(&key, format!("no cell speaks {}", protocol.title()), hint);
            return None;
        }
        Some(ListenerKind::Mail { protocol, tls, mechanisms, data_lines, client_ca })
    }

    fn mechanisms(
        &mut self,
        key: &str,
        protocol: MailProtocol,
        files: &[file::Mechanism],
        client_ca: bool,
    ) -> Option<Vec<MailMechanism>> {
        let mut mechanisms = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let mechanism = match file {
                file::Mechanism::Command => MailMechanism::Command,
                file::Mechanism::Plain => MailMechanism::Plain,
                file::Mechanism::Login => MailMechanism::Login,
                file::Mechanism::XOAuth2 => MailMechanism::XOAuth2,
                file::Mechanism::OAuthBearer => MailMechanism::OAuthBearer,
                file::Mechanism::External => MailMechanism::External,
            };
            let key = format!("{key}[{index}]");
            let repeated = mechanisms.contains(&Some(mechanism));
            if repeated {
                self.problem(&key, "this mechanism stands here twice", None);
            }
            let missing = mechanism == MailMechanism::Command && !protocol.has_login_command();
            if missing {
                let message = format!("{} has no login command of its own", protocol.title());
                self.problem(&key, message, "keep \"plain\" or \"login\"".to_owned());
            }
            let provable = self.provable(&key, mechanism, client_ca).is_some();
            mechanisms.push((!repeated && !missing && provable).then_some(mechanism));
        }
        all(mechanisms)
    }

    fn relay(&mut self, key: &str, file: &file::RelayListener) -> Option<ListenerKind> {
        let mut routes = Some(BTreeMap::new());
        for (name, cell) in &file.routes {
            let key = shape::join(&format!("{key}.routes"), name);
            let sni: Option<Domain> = self.parse(&key, name);
            let cell = self.relay_cell(&key, cell);
            match (routes.as_mut(), sni, cell) {
                (Some(routes), Some(sni), Some(cell)) => {
                    if routes.insert(sni, cell).is_some() {
                        self.problem(&key, "this name stands here twice", None);
                    }
                }
                _ => routes = None,
            }
        }
        let cell_default = file
            .cell_default
            .as_ref()
            .map_or(Some(None), |cell| self.relay_cell(&format!("{key}.cell_default"), cell).map(Some));
        if file.routes.is_empty() && file.cell_default.is_none() {
            let hint = "add `routes = { \"mx.example\" = \"CELL\" }` or `cell_default = \"CELL\"`".to_owned();
            self.problem(key, "every client would be turned away", hint);
        }
        let timeout_idle =
            self.lapse(&format!("{key}.timeout_idle"), &file.timeout_idle, seconds(1)..=seconds(86400))?;
        Some(ListenerKind::Relay { routes: routes?, cell_default: cell_default?, timeout_idle })
    }

    fn relay_cell(&mut self, key: &str, name: &str) -> Option<crate::CellId> {
        let cell = self.cell(key, name)?;
        if !self.services.iter().any(|(known, service)| known == name && *service == "relay") {
            self.problem(key, format!("the cell {name} relays nothing"), format!("add [cell.{name}.relay]"));
            return None;
        }
        Some(cell)
    }

    fn speaks(&self, service: &str) -> bool {
        self.services.iter().any(|(_, known)| *known == service)
    }

    /// No two sockets may want the same port of the same address.
    pub(super) fn ports(&mut self, listeners: &[Listener], management: &Management) {
        let mut binds = vec![(management.bind, "management.bind".to_owned())];
        for listener in listeners {
            let key = |index: usize| format!("listener.{}.{}.bind[{index}]", listener.kind.as_str(), listener.id);
            binds.extend(listener.bind.iter().enumerate().map(|(index, bind)| (*bind, key(index))));
        }
        binds.sort_by_key(|(_, key)| self.place(key));
        for (index, (bind, key)) in binds.iter().enumerate() {
            if let Some((other, first)) = binds.iter().take(index).find(|(other, _)| clash(*other, *bind)) {
                let message = format!("{bind} is taken: `{first}` (line {}) has {other}", self.place(first).line);
                self.problem(key, message, None);
            }
        }
    }
}

fn plain<'a>(name: &'a String, one: &'a file::PlainListener, kind: ListenerKind) -> Common<'a> {
    Common { name, bind: &one.bind, proxy: one.proxy_protocol.as_ref(), public_port: None, kind: Some(kind) }
}

fn all_mechanisms(protocol: MailProtocol, client_ca: bool, bearers: bool) -> Vec<MailMechanism> {
    use MailMechanism::{Command, External, Login, OAuthBearer, Plain, XOAuth2};
    let all = [
        (Command, protocol.has_login_command()),
        (Plain, true),
        (Login, true),
        (XOAuth2, bearers),
        (OAuthBearer, bearers),
        (External, client_ca),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(mechanism, _)| mechanism).collect()
}

/// Two sockets that cannot both be opened. `[::]` takes IPv4 too; port 0 is another one each time.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| match wide {
        IpAddr::V6(ip) => ip.is_unspecified(),
        IpAddr::V4(ip) => ip.is_unspecified() && other.is_ipv4(),
    };
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_clash_with_their_wildcard() {
        for (a, b, expected) in [
            ("127.0.0.1:443", "127.0.0.1:443", true),
            ("127.0.0.1:443", "127.0.0.2:443", false),
            ("127.0.0.1:443", "127.0.0.1:444", false),
            ("0.0.0.0:443", "127.0.0.1:443", true),
            ("0.0.0.0:443", "[::1]:443", false),
            ("[::]:443", "127.0.0.1:443", true),
            ("[::]:443", "[::1]:443", true),
            ("0.0.0.0:443", "[::]:443", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (left, right) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((clash(left, right), clash(right, left)), (expected, expected), "{a} {b}");
        }
    }
}
