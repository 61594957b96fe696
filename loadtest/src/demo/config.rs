//! The gateway's files in the demo's folder, written once: what the operator of the demo changes stays changed.

use super::{Folder, MASTER, MASTER_CELL, Ports, entity_id};
use crate::world::{Institution, people::CELLS};

/// Writes `guichet.toml` and `tenants.d/` where they are missing.
pub(super) fn write_missing(folder: &Folder, ports: &Ports, people: &[Institution]) -> anyhow::Result<()> {
    for institution in people {
        let name = format!("tenants.d/{}.toml", institution.id);
        if !folder.has(&name) {
            folder.write(&name, &tenant(institution))?;
        }
    }
    if !folder.has("guichet.toml") {
        folder.write("guichet.toml", &main(ports))?;
    }
    Ok(())
}

fn main(ports: &Ports) -> String {
    let Ports { web, redirect, imap, imaps, management, .. } = ports;
    let mut text = format!(
        r#"# The demo's gateway. Change what you like and run `guichet ctl --config THIS-FILE reload`.

[node]
name = "demo"
state_dir = "state"

[public]
hostname = "localhost"
origin = "{origin}"
certificates = "tls"

[management]
bind = "127.0.0.1:{management}"
token_file = "secrets/management.token"

[log]
level = "info"

[listener.web.https]
bind = ["127.0.0.1:{web}"]

[listener.redirect.http]
bind = ["127.0.0.1:{redirect}"]

[listener.imap.imap]
bind = ["127.0.0.1:{imap}"]
tls = "starttls"

[listener.imap.imaps]
bind = ["127.0.0.1:{imaps}"]

[directory.embedded]
file = "users.toml"

[saml]
signing = {{ certificate = "saml/signing.crt", key_file = "saml/signing.key" }}
encryption = [{{ certificate = "saml/encryption.crt", key_file = "saml/encryption.key" }}]

[federation.demo]
file = "metadata/federation.xml"
signing_keys = ["metadata/federation.crt"]

# Impatient, so that an outage can be watched: it is proven after about 12 seconds. The defaults take two minutes.
[availability]
probe_interval = "2s"
probe_interval_suspect = "1s"
probe_timeout = "1s"
failures_to_suspect = 2
failures_to_down = 5
down_after = "8s"
veto = "5s"
successes_to_up = 3
up_after = "4s"
dwell = "5s"

# Everyone comes from one address here: what would stop a flood must let the load tests through.
[limits]
connections_per_source = 50000
connections_per_source_rate = 5000
"#,
        origin = ports.origin(),
    );
    for cell in CELLS {
        let (imap, web) = ports.cells.get(cell).copied().unwrap_or_default();
        text.push_str(&format!(
            r#"
[cell.{cell}.web]
endpoints = ["127.0.0.1:{web}"]
entry.identity_headers.key_file = "secrets/{cell}.key"
health_path = "/healthz"

[cell.{cell}.imap]
endpoints = ["127.0.0.1:{imap}"]
"#
        ));
        if cell == MASTER_CELL {
            text.push_str(&format!(
                "login.master = {{ username = \"{MASTER}\", password_file = \"secrets/master.password\" }}\n"
            ));
        }
    }
    text
}

fn tenant(institution: &Institution) -> String {
    let Institution { id, domain, name_fr, name_en, cell, .. } = institution;
    format!(
        r#"[tenant.{id}]
name = {{ fr = "{name_fr}", en = "{name_en}" }}
domains = ["{domain}"]
cell = "{cell}"
category = "student"
contact = "help@{domain}"

[tenant.{id}.idp.saml]
entity_id = "{entity_id}"

[tenant.{id}.fallback]
staff = "auto"
students = "auto"
"#,
        entity_id = entity_id(institution),
    )
}
