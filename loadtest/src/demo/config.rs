//! The gateway's files in the demo's folder, written once: what the operator of the demo changes stays changed.

use super::{Folder, MASTER, MASTER_CELL, Ports, entity_id, ports::CellMailPorts};
use crate::world::{Institution, people::CELLS};

/// Writes `guichet.toml` and `tenants.d/` where they are missing; what an older demo's file lacks is put behind it.
pub(super) fn write_missing(folder: &Folder, ports: &Ports, people: &[Institution]) -> anyhow::Result<()> {
    for institution in people {
        let name = format!("tenants.d/{}.toml", institution.id);
        if !folder.has(&name) {
            folder.write(&name, &tenant(institution))?;
        }
    }
    let text = if folder.has("guichet.toml") { folder.read("guichet.toml")? } else { main(ports) };
    // A file that has no word of ManageSieve, not even in a comment, is from before the cells spoke it.
    let whole = if text.contains("sieve") { text } else { format!("{text}{}", more_mail(ports)) };
    if !folder.has("guichet.toml") || folder.read("guichet.toml")? != whole {
        folder.write("guichet.toml", &whole)?;
    }
    Ok(())
}

/// POP3, submission and ManageSieve.
fn more_mail(ports: &Ports) -> String {
    let Ports { pop3, pop3s, submission, submissions, sieve, .. } = ports;
    let mut text = format!(
        r#"
[listener.pop3.pop3]
bind = ["127.0.0.1:{pop3}"]
tls = "starttls"

[listener.pop3.pop3s]
bind = ["127.0.0.1:{pop3s}"]

[listener.submission.submission]
bind = ["127.0.0.1:{submission}"]
tls = "starttls"

[listener.submission.submissions]
bind = ["127.0.0.1:{submissions}"]

[listener.sieve.sieve]
bind = ["127.0.0.1:{sieve}"]
tls = "starttls"
"#
    );
    for cell in CELLS {
        let CellMailPorts { pop3, submission, sieve } = ports.cells_mail.get(cell).copied().unwrap_or_default();
        for (protocol, port) in [("pop3", pop3), ("submission", submission), ("sieve", sieve)] {
            text.push_str(&format!("\n[cell.{cell}.{protocol}]\nendpoints = [\"127.0.0.1:{port}\"]\n"));
            if protocol == "submission" {
                text.push_str("client_address = \"xclient\"\n");
            }
            text.push_str(&login(cell));
        }
    }
    text
}

/// How the gateway logs in at a cell for mail: by the user's password, unless this says otherwise.
fn login(cell: &str) -> String {
    if cell == MASTER_CELL {
        format!("login.master = {{ username = \"{MASTER}\", password_file = \"secrets/master.password\" }}\n")
    } else {
        String::new()
    }
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
messages_per_user = 100000
messages_per_tenant = 1000000
recipients_per_user = 100000
recipients_per_tenant = 1000000
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
        text.push_str(&login(cell));
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
    ) + match *id {
        "univ-a" => STEP_UP,
        "ecole-c" => ONE_PASSWORD,
        _ => "",
    }
}

const STEP_UP: &str = r#"
# These pages want a second factor that is fresh.
[tenant.univ-a.step_up]
paths = ["/settings"]
authn_context = ["https://refeds.org/profile/mfa"]
"#;

const ONE_PASSWORD: &str = r#"
# Its identity provider judges the passwords of mail programs, too.
[tenant.ecole-c.idp.saml.ecp]
username = "local_part"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::institutions;

    #[test]
    fn an_older_file_gets_what_it_lacks_once_and_keeps_what_was_changed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let (ports, people) = (Ports { sieve: 4190, ..Ports::default() }, institutions(0));
        folder.write("guichet.toml", "# changed by hand\n").unwrap();
        write_missing(&folder, &ports, &people).unwrap();
        let grown = folder.read("guichet.toml").unwrap();
        assert!(grown.starts_with("# changed by hand\n") && grown.contains("bind = [\"127.0.0.1:4190\"]"), "{grown}");
        assert!(grown.contains("[cell.beta.pop3]"), "{grown}");
        write_missing(&folder, &ports, &people).unwrap();
        assert_eq!(folder.read("guichet.toml").unwrap(), grown);
        let without = grown.replace("[listener.sieve.sieve]", "# no sieve").replace("[cell.beta.pop3]", "");
        folder.write("guichet.toml", &without).unwrap();
        write_missing(&folder, &ports, &people).unwrap();
        assert_eq!(folder.read("guichet.toml").unwrap(), without);
    }
}
