//! The records by which mail programs find the service, to be published in the zone of each mail domain: RFC 6186 (IMAP,
//! POP3, submission), RFC 8314 (submission with implicit TLS), RFC 5804 (ManageSieve), RFC 6764 (calendars, contacts),
//! and the names that Mozilla's and Microsoft's programs ask.

use std::fmt::Write;

use guichet_config::{Config, Domain, MailProtocol, MailTls, TenantId};

use super::Offer;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Owner, with its final dot.
    pub name: String,
    /// `SRV`, `TXT` or `CNAME`.
    pub kind: &'static str,
    /// As a zone file has it.
    pub value: String,
}

/// The records of one mail domain.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Domain.
    pub domain: Domain,
    /// Whose it is.
    pub tenant: TenantId,
    /// What to publish.
    pub records: Vec<Record>,
}

/// The records of every mail domain, by tenant and in the order in which it lists its domains.
pub fn zones(config: &Config) -> Vec<Zone> {
    let offer = Offer::of(config);
    let of = |domain: &Domain, tenant: &TenantId| Zone {
        domain: domain.clone(),
        tenant: tenant.clone(),
        records: records(domain, &offer, config.setup.enabled),
    };
    config
        .tenants
        .values()
        .flat_map(|tenant| tenant.domains.iter().map(|domain| of(domain, &tenant.id)).collect::<Vec<_>>())
        .collect()
}

fn records(domain: &Domain, offer: &Offer<'_>, answers: bool) -> Vec<Record> {
    let mut records = Vec::new();
    for (label, protocol, tls, priority) in MAIL {
        let service = offer.all(protocol).find(|service| service.tls == tls);
        records.push(srv(domain, label, priority, service.map(|service| service.port), offer.hostname));
    }
    for label in ["_caldavs", "_carddavs"] {
        let port = offer.web_port.filter(|_| offer.dav_path.is_some());
        records.push(srv(domain, label, 0, port, offer.hostname));
        if let Some(path) = offer.dav_path {
            let value = format!("\"path={path}\"");
            records.push(Record { name: format!("{label}._tcp.{domain}."), kind: "TXT", value });
        }
    }
    let web = offer.web_port.filter(|_| answers);
    records.push(srv(domain, "_autodiscover", 0, web, offer.hostname));
    for label in ["autoconfig", "autodiscover"] {
        let name = format!("{label}.{domain}");
        if web.is_some() && name != offer.hostname {
            records.push(Record { name: format!("{name}."), kind: "CNAME", value: format!("{}.", offer.hostname) });
        }
    }
    records
}

/// A service, or the word that there is none (RFC 6186 §3.4).
fn srv(domain: &Domain, label: &str, priority: u16, port: Option<u16>, host: &str) -> Record {
    let value = match port {
        Some(port) => format!("{priority} 1 {port} {host}."),
        None => "0 0 0 .".to_owned(),
    };
    Record { name: format!("{label}._tcp.{domain}."), kind: "SRV", value }
}

/// A fragment for each domain's zone file.
pub fn zone_file(zones: &[Zone]) -> String {
    let mut text = String::new();
    if zones.iter().any(|zone| zone.records.iter().any(|record| record.kind == "CNAME")) {
        text.push_str(CERTIFICATE);
    }
    for zone in zones {
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing to memory cannot fail.
        let _ = writeln!(text, "{gap}; {} (tenant {})", zone.domain, zone.tenant);
        for Record { name, kind, value } in &zone.records {
            let _ = writeln!(text, "{name} {TTL} IN {kind} {value}");
        }
    }
    text
}

/// The same as JSON.
pub fn json(zones: &[Zone]) -> serde_json::Value {
    let record = |one: &Record| serde_json::json!({"name": one.name, "ttl": TTL, "type": one.kind, "value": one.value});
    let zone = |zone: &Zone| {
        let records: Vec<_> = zone.records.iter().map(record).collect();
        serde_json::json!({"domain": zone.domain.as_str(), "tenant": zone.tenant.as_str(), "records": records})
    };
    serde_json::json!({"domains": zones.iter().map(zone).collect::<Vec<_>>()})
}

/// Label, service, and priority: programs that know several take the lowest number (RFC 6186 §3.3), so IMAP comes before
/// POP3 and implicit TLS before STARTTLS.
const MAIL: [(&str, MailProtocol, MailTls, u16); 7] = [
    ("_imaps", MailProtocol::Imap, MailTls::Implicit, 0),
    ("_imap", MailProtocol::Imap, MailTls::StartTls, 10),
    ("_pop3s", MailProtocol::Pop3, MailTls::Implicit, 20),
    ("_pop3", MailProtocol::Pop3, MailTls::StartTls, 30),
    ("_submissions", MailProtocol::Submission, MailTls::Implicit, 0),
    ("_submission", MailProtocol::Submission, MailTls::StartTls, 10),
    ("_sieve", MailProtocol::Sieve, MailTls::StartTls, 0),
];

const CERTIFICATE: &str =
    "; Publish autodiscover.DOMAIN only with a certificate for that name: Outlook warns of any other.\n";

/// Short enough for a move, long enough for a cache.
const TTL: u32 = 3600;

#[cfg(test)]
mod tests {
    use super::{super::tests::config, *};

    const LISTENERS: &str = r#"
        [listener.web.https]
        bind = ["[::]:443"]
        [listener.imap.imaps]
        bind = ["[::]:993"]
        [listener.submission.submissions]
        bind = ["[::]:465"]
        [listener.submission.submission]
        bind = ["[::]:8587"]
        tls = "starttls"
        public_port = 587
        [listener.sieve.sieve]
        bind = ["[::]:4190"]
        tls = "starttls"
    "#;

    #[test]
    fn every_service_has_a_record_and_what_is_not_offered_says_so() {
        let (_dir, config) = config("https://mail.example:8443", LISTENERS, "dav_path = \"/dav/\"");
        let text = zone_file(&zones(&config));
        assert!(text.starts_with(CERTIFICATE));
        let labo = text.split("\n\n").nth(1).unwrap();
        assert_eq!(
            labo,
            "; labo.example (tenant labo)
_imaps._tcp.labo.example. 3600 IN SRV 0 1 993 mail.example.
_imap._tcp.labo.example. 3600 IN SRV 0 0 0 .
_pop3s._tcp.labo.example. 3600 IN SRV 0 0 0 .
_pop3._tcp.labo.example. 3600 IN SRV 0 0 0 .
_submissions._tcp.labo.example. 3600 IN SRV 0 1 465 mail.example.
_submission._tcp.labo.example. 3600 IN SRV 10 1 587 mail.example.
_sieve._tcp.labo.example. 3600 IN SRV 0 1 4190 mail.example.
_caldavs._tcp.labo.example. 3600 IN SRV 0 1 8443 mail.example.
_caldavs._tcp.labo.example. 3600 IN TXT \"path=/dav/\"
_carddavs._tcp.labo.example. 3600 IN SRV 0 1 8443 mail.example.
_carddavs._tcp.labo.example. 3600 IN TXT \"path=/dav/\"
_autodiscover._tcp.labo.example. 3600 IN SRV 0 1 8443 mail.example.
autoconfig.labo.example. 3600 IN CNAME mail.example.
autodiscover.labo.example. 3600 IN CNAME mail.example."
        );
        let headers: Vec<&str> = text.lines().skip(1).filter(|line| line.starts_with(';')).collect();
        assert_eq!(
            headers,
            ["; labo.example (tenant labo)", "; univ.example (tenant univ)", "; etu.univ.example (tenant univ)"]
        );
    }

    #[test]
    fn nobody_is_sent_to_a_node_that_does_not_answer() {
        let (_dir, config) = config("https://mail.example", LISTENERS, "enabled = false");
        let text = zone_file(&zones(&config));
        assert!(!text.contains("CNAME") && !text.contains("TXT") && text.starts_with("; labo.example"), "{text}");
        for label in ["_autodiscover", "_caldavs", "_carddavs"] {
            assert!(text.contains(&format!("\n{label}._tcp.univ.example. 3600 IN SRV 0 0 0 .\n")), "{text}");
        }
        assert!(text.contains("\n_imaps._tcp.univ.example. 3600 IN SRV 0 1 993 mail.example.\n"), "{text}");
    }

    #[test]
    fn the_json_says_the_same() {
        let (_dir, config) = config("https://mail.example", LISTENERS, "dav_path = \"/dav/\"");
        let zones = zones(&config);
        let json = json(&zones);
        let records = json["domains"][0]["records"].as_array().unwrap();
        assert_eq!(records.len(), zones[0].records.len());
        assert_eq!(json["domains"][1]["tenant"], "univ");
        assert_eq!(
            records[8],
            serde_json::json!({
                "name": "_caldavs._tcp.labo.example.", "ttl": 3600, "type": "TXT", "value": "\"path=/dav/\""
            })
        );
    }
}
