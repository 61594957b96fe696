//! The node itself: names, management, logs, sessions, limits, SAML and federations.

use std::{net::SocketAddr, time::Duration};

use super::{Check, all, network::parse_host, values::seconds};
use crate::{
    Availability, CertificateFiles, Federation, Limits, Log, LogFormat, Management, MetadataSource, Node, Public,
    ServiceProvider, Session, TlsProfile,
    file::{self, Lapse},
    shape,
};

impl Check {
    pub(super) fn node(&mut self, file: &file::Node, hostname: &str) -> Option<Node> {
        let name = self.text("node.name", file.name.as_deref().unwrap_or(hostname));
        let state_dir = self.path("node.state_dir", &file.state_dir);
        if state_dir.exists() && !state_dir.is_dir() {
            self.problem("node.state_dir", format!("{} is not a folder", state_dir.display()), None);
            return None;
        }
        Some(Node { name: name?, state_dir, workers: file.workers })
    }

    pub(super) fn public(&mut self, file: &file::Public) -> Option<Public> {
        let hostname: Option<crate::Domain> = self.parse("public.hostname", &file.hostname);
        let origin = match (&hostname, &file.origin) {
            (Some(hostname), None) => Some(format!("https://{hostname}")),
            (Some(hostname), Some(origin)) => self.origin(origin, hostname.as_str()),
            (None, _) => None,
        };
        let certificates = self.certificates("public.certificates", &file.certificates);
        let tls_profile = match file.tls_profile {
            file::TlsProfile::Anssi => TlsProfile::Anssi,
            file::TlsProfile::Strict => TlsProfile::Strict,
        };
        Some(Public {
            hostname: hostname?.as_str().to_owned(),
            origin: origin?,
            certificates: certificates?,
            tls_profile,
        })
    }

    /// `https://HOSTNAME` or `https://HOSTNAME:PORT`, in the form browsers send it.
    fn origin(&mut self, text: &str, hostname: &str) -> Option<String> {
        let hint = format!("write \"https://{hostname}\" or \"https://{hostname}:PORT\"");
        let Some(rest) = text.strip_prefix("https://") else {
            self.problem("public.origin", format!("{text:?} does not begin with https://"), hint);
            return None;
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => {
                (host, port.parse::<u16>().ok().filter(|number| *number != 0 && number.to_string() == port))
            }
            None => (rest, Some(443)),
        };
        match (parse_host(host), port) {
            (Some(host), Some(port)) if host == hostname => {
                Some(if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") })
            }
            (Some(host), Some(_)) => {
                self.problem("public.origin", format!("{host} is not `public.hostname` ({hostname})"), hint);
                None
            }
            _ => {
                self.problem(
                    "public.origin",
                    format!("{text:?} is not an origin: a host and perhaps a port, nothing behind"),
                    hint,
                );
                None
            }
        }
    }

    pub(super) fn management(&mut self, file: &file::Management) -> Option<Management> {
        let bind = self.address("management.bind", &file.bind, None);
        let token = self.secret("management.token_file", &file.token_file).filter(|token| {
            let token = token.expose();
            let good = token.len() >= TOKEN_BYTES_MIN && token.bytes().all(|b| b.is_ascii_graphic());
            if !good {
                let message = "the token must be at least 32 characters, printable ASCII without spaces";
                self.problem("management.token_file", message, "openssl rand -hex 32 > FILE".to_owned());
            }
            good
        });
        let tls = file.tls.as_ref().map_or(Some(None), |pair| self.pair("management.tls", pair).map(Some));
        if let Some(bind) = bind
            && !bind.ip().is_loopback()
            && file.tls.is_none()
        {
            let hint =
                "add management.tls = { certificate = …, key_file = … }, or bind to 127.0.0.1 or [::1]".to_owned();
            self.problem("management.bind", format!("{} is not loopback and there is no certificate", bind.ip()), hint);
        }
        Some(Management { bind: bind?, token: token?, tls: tls? })
    }

    pub(super) fn log(&mut self, file: &file::Log) -> Option<Log> {
        let format = match file.format {
            file::LogFormat::Text => LogFormat::Text,
            file::LogFormat::Json => LogFormat::Json,
        };
        let level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        let target =
            |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let good = |part: &str| {
            part.split_once('=').map_or_else(|| level(part), |(module, word)| target(module) && level(word))
        };
        if !file.level.split(',').all(|part| good(part.trim())) {
            let hint = format!("a level ({}), or levels by module: \"info,guichet::mail=debug\"", LEVELS.join(", "));
            self.problem("log.level", format!("{:?} is not a log filter", file.level), hint);
            return None;
        }
        Some(Log { format, level: file.level.clone() })
    }

    pub(super) fn dns(&mut self, file: &file::Dns) -> Option<Vec<SocketAddr>> {
        self.addresses("dns.servers", &file.servers, Some(53))
    }

    /// Our side of SAML, when there is one: the outer `None` is a problem.
    pub(super) fn saml(&mut self, file: Option<&file::Saml>, origin: Option<&str>) -> Option<Option<ServiceProvider>> {
        let Some(file) = file else { return Some(None) };
        let entity_id = match &file.entity_id {
            Some(text) => self.entity_id("saml.entity_id", text),
            None => origin.map(|origin| format!("{origin}/saml/metadata")),
        };
        let signing = self.pair("saml.signing", &file.signing);
        let signing_next = file.signing_next.as_ref();
        let signing_next = signing_next.map_or(Some(None), |pair| self.pair("saml.signing_next", pair).map(Some));
        let encryption = self.pairs("saml.encryption", &file.encryption);
        let decryption_only = self.pairs("saml.decryption_only", &file.decryption_only);
        let publication = self.publication(file);
        let clock_skew = self.lapse("saml.clock_skew", &file.clock_skew, Duration::ZERO..=seconds(600));
        let signing = signing?;
        let encryption = encryption.map(|pairs| if pairs.is_empty() { vec![signing.clone()] } else { pairs });
        Some(Some(ServiceProvider {
            entity_id: entity_id?,
            signing,
            signing_next: signing_next?,
            encryption: encryption?,
            decryption_only: decryption_only?,
            clock_skew: clock_skew?,
            publication: publication?,
        }))
    }

    fn pairs(&mut self, key: &str, pairs: &[file::Pair]) -> Option<Vec<CertificateFiles>> {
        all(pairs.iter().enumerate().map(|(index, pair)| self.pair(&format!("{key}[{index}]"), pair)).collect())
    }

    /// A SAML entityID: a URI of at most 1024 characters (saml-core §8.3.6).
    pub(super) fn entity_id(&mut self, key: &str, text: &str) -> Option<String> {
        let good =
            text.contains(':') && text.len() <= 1024 && text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if !good {
            self.problem(
                key,
                format!("{text:?} is not an entityID"),
                "it is a URI, such as \"https://idp.example/idp/shibboleth\"".to_owned(),
            );
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn federations(
        &mut self,
        files: &std::collections::BTreeMap<String, file::Federation>,
    ) -> Option<Vec<Federation>> {
        let mut federations = Vec::new();
        for (name, file) in files {
            let key = shape::join("federation", name);
            // The same rule for every name an operator gives.
            let name = self.parse::<crate::ListenerId>(&key, name).map(|id| id.as_str().to_owned());
            let source = self.metadata_source(&key, file);
            let one = |(index, text): (usize, &String)| self.file(&format!("{key}.signing_keys[{index}]"), text);
            let signing_keys = all(file.signing_keys.iter().enumerate().map(one).collect());
            let refresh = self.lapse(&format!("{key}.refresh"), &file.refresh, seconds(1)..=seconds(7 * 86400));
            let validity = format!("{key}.validity_max");
            let validity_max = self.lapse(&validity, &file.validity_max, seconds(3600)..=seconds(90 * 86400));
            let keep_all = matches!(file.keep, file::Keep::All);
            let dropped_percent_max = file.dropped_percent_max;
            if dropped_percent_max > 100 {
                let hint = "it is a share of a hundred; 100 refuses nothing".to_owned();
                self.problem(
                    &format!("{key}.dropped_percent_max"),
                    format!("{dropped_percent_max} is out of range: 0 to 100 are expected"),
                    hint,
                );
            }
            federations.push(match (name, source, signing_keys, refresh, validity_max) {
                (Some(name), Some(source), Some(signing_keys), Some(refresh), Some(validity_max)) => Some(Federation {
                    name,
                    source,
                    signing_keys,
                    refresh,
                    validity_max,
                    dropped_percent_max,
                    keep_all,
                }),
                _ => None,
            });
        }
        all(federations)
    }

    fn metadata_source(&mut self, key: &str, file: &file::Federation) -> Option<MetadataSource> {
        let none = file::MetadataSource { file: None, url: None, mdq: None, ca: None };
        let source = file.source.as_ref().unwrap_or(&none);
        let ca = self.file_or_none(&format!("{key}.source.ca"), source.ca.as_deref());
        match (&file.file, &source.file, &source.url, &source.mdq) {
            (Some(text), None, None, None) => {
                return self.file(&format!("{key}.file"), text).map(MetadataSource::File);
            }
            (None, Some(text), None, None) => {
                return self.file(&format!("{key}.source.file"), text).map(MetadataSource::File);
            }
            (None, None, Some(url), None) => {
                let url = self.https(&format!("{key}.source.url"), url)?;
                return Some(MetadataSource::Url { url, ca: ca? });
            }
            (None, None, None, Some(base)) => {
                let base = self.https(&format!("{key}.source.mdq"), base)?;
                return Some(MetadataSource::Mdq { base, ca: ca? });
            }
            _ => {}
        }
        let hint = "source = { file = \"PATH\" }, { url = \"https://…\" } or { mdq = \"https://…\" }".to_owned();
        self.problem(key, "a federation has one source of metadata", hint);
        None
    }

    /// An address that begins with `https://` and has a host.
    pub(super) fn https(&mut self, key: &str, text: &str) -> Option<String> {
        let host = text.strip_prefix("https://").and_then(|rest| rest.split(['/', ':', '?']).next());
        let plain = text.len() <= 2048 && text.chars().all(|c| c.is_ascii_graphic() && c != '#' && c != '@');
        if plain && host.is_some_and(|host| !host.is_empty()) {
            return Some(text.to_owned());
        }
        self.problem(key, format!("{text:?} is not an https:// address"), None);
        None
    }

    pub(super) fn availability(&mut self, file: &file::Availability) -> Option<Availability> {
        let mut lapse = |key: &str, lapse: &Lapse, min: Duration, max: u64| {
            self.lapse(&format!("availability.{key}"), lapse, min..=seconds(max))
        };
        let probe_interval = lapse("probe_interval", &file.probe_interval, TICK, 3600);
        let probe_interval_suspect = lapse("probe_interval_suspect", &file.probe_interval_suspect, TICK, 3600);
        let probe_timeout = lapse("probe_timeout", &file.probe_timeout, TICK, 60);
        let down_after = lapse("down_after", &file.down_after, Duration::ZERO, 86400);
        let veto = lapse("veto", &file.veto, Duration::ZERO, 86400);
        let up_after = lapse("up_after", &file.up_after, Duration::ZERO, 86400);
        let dwell = lapse("dwell", &file.dwell, Duration::ZERO, 3600);
        self.at_most(
            "availability.failures_to_suspect",
            Some(file.failures_to_suspect),
            Some(file.failures_to_down),
            "availability.failures_to_down",
        );
        self.at_most(
            "availability.probe_interval_suspect",
            probe_interval_suspect,
            probe_interval,
            "availability.probe_interval",
        );
        Some(Availability {
            probe_interval: probe_interval?,
            probe_interval_suspect: probe_interval_suspect?,
            probe_timeout: probe_timeout?,
            failures_to_suspect: file.failures_to_suspect,
            failures_to_down: file.failures_to_down,
            down_after: down_after?,
            veto: veto?,
            successes_to_up: file.successes_to_up,
            up_after: up_after?,
            dwell: dwell?,
        })
    }

    pub(super) fn session(&mut self, file: &file::Session) -> Option<Session> {
        // The keys that seal sessions are kept for eight days after their last use.
        let range = seconds(1)..=seconds(7 * 86400);
        let lifetime = self.lapse("session.lifetime", &file.lifetime, range.clone());
        let lifetime_idle = self.lapse("session.lifetime_idle", &file.lifetime_idle, range.clone());
        let lifetime_fallback = self.lapse("session.lifetime_fallback", &file.lifetime_fallback, range);
        self.at_most("session.lifetime_idle", lifetime_idle, lifetime, "session.lifetime");
        self.at_most("session.lifetime_fallback", lifetime_fallback, lifetime, "session.lifetime");
        Some(Session { lifetime: lifetime?, lifetime_idle: lifetime_idle?, lifetime_fallback: lifetime_fallback? })
    }

    pub(super) fn limits(&mut self, file: &file::Limits) -> Option<Limits> {
        let login_window = self.lapse("limits.login_window", &file.login_window, seconds(1)..=seconds(86400));
        let exempt = self.networks("limits.exempt", &file.exempt);
        let login_deadline = self.lapse("limits.login_deadline", &file.login_deadline, seconds(1)..=seconds(600));
        let password_cache_ttl =
            self.lapse("limits.password_cache_ttl", &file.password_cache_ttl, Duration::ZERO..=seconds(900));
        let messages_window = self.lapse("limits.messages_window", &file.messages_window, seconds(1)..=seconds(86400));
        for (kind, user, tenant) in [
            ("messages", file.messages_per_user, file.messages_per_tenant),
            ("recipients", file.recipients_per_user, file.recipients_per_tenant),
        ] {
            let key = |whose: &str| format!("limits.{kind}_per_{whose}");
            self.at_most(&key("user"), Some(user), Some(tenant), &key("tenant"));
        }
        self.at_most(
            "limits.connections_per_source",
            Some(file.connections_per_source),
            Some(file.connections_max),
            "limits.connections_max",
        );
        self.at_most(
            "limits.held_logins_per_tenant",
            Some(file.held_logins_per_tenant),
            Some(file.held_logins),
            "limits.held_logins",
        );
        self.at_most(
            "limits.sessions_per_user_source",
            Some(file.sessions_per_user_source),
            Some(file.sessions_per_user),
            "limits.sessions_per_user",
        );
        Some(Limits {
            connections_max: file.connections_max,
            connections_per_source: file.connections_per_source,
            connections_per_source_rate: file.connections_per_source_rate,
            login_failures_per_source: file.login_failures_per_source,
            login_failures_per_user: file.login_failures_per_user,
            login_window: login_window?,
            exempt: exempt?,
            login_deadline: login_deadline?,
            password_cache_entries: file.password_cache_entries,
            password_cache_ttl: password_cache_ttl?,
            held_logins: file.held_logins,
            held_logins_per_tenant: file.held_logins_per_tenant,
            sessions_per_user: file.sessions_per_user,
            sessions_per_user_source: file.sessions_per_user_source,
            messages_per_user: file.messages_per_user,
            recipients_per_user: file.recipients_per_user,
            messages_per_tenant: file.messages_per_tenant,
            recipients_per_tenant: file.recipients_per_tenant,
            messages_window: messages_window?,
            body_bytes_max: file.body_bytes_max,
        })
    }
}

/// A token that is guessed by nobody.
const TOKEN_BYTES_MIN: usize = 32;

/// Nothing is asked more often.
const TICK: Duration = Duration::from_millis(10);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
