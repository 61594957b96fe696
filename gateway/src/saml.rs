//! `guichet saml`: what an operator asks about SAML without a running node.
//!
//! Exit codes: 0 every check holds · 1 a check fails · 64 bad arguments · 78 the configuration cannot be used.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use guichet_auth::{
    WallTime,
    saml::{self, Inspection, Outcome},
};
use guichet_config::Report;
use serde_json::{Value, json};

use crate::check;

/// What to ask.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say check by check what holds and what fails in a Response. No value of an attribute and no key is printed.
    #[command(after_help = "Example:\n  guichet saml inspect response.txt -c /etc/guichet/guichet.toml \
                            --at 2026-11-29T08:15:00Z\n\n\
                            RESPONSE_FILE holds the form field SAMLResponse as the browser sent it, or the XML; - reads\n\
                            standard input. Responses end after minutes: --at says when it came.\n\
                            Exits with 0 when every check holds, with 1 when one fails.")]
    Inspect {
        /// The Response.
        #[arg(value_name = "RESPONSE_FILE")]
        response: PathBuf,
        /// The configuration file: keys, metadata and tenants.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// The tenant whose rules count; by default the first one with the identity provider of the Response.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// The time for which to check, as 2026-11-29T08:15:00Z; by default now.
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<WallTime>,
        /// Print the checks as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print our own metadata, as a node with this configuration serves it at /saml/metadata: for a federation's registry.
    #[command(after_help = "Example:\n  guichet saml metadata -c /etc/guichet/guichet.toml > sp.xml\n\n\
                            Exits with 78 after a list of all problems when the configuration cannot be used.")]
    Metadata {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Why nothing could be told.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(Report),
    /// The arguments do not fit the configuration or the disk.
    #[error("{0}")]
    Usage(String),
}

/// Inspects the Response in `response`.
///
/// # Errors
/// The file, the tenant or the configuration cannot be used.
pub fn inspect(
    response: &Path,
    config: &Path,
    tenant: Option<&str>,
    at: Option<WallTime>,
    now: WallTime,
) -> Result<Inspection, InspectError> {
    let file = read(response).map_err(|error| InspectError::Usage(format!("{}: {error}", response.display())))?;
    let loaded = check::load(config, now).map_err(InspectError::Config)?;
    let Some(sp) = loaded.sp.as_deref() else {
        return Err(InspectError::Usage("the configuration has no [saml]".to_owned()));
    };
    let all = loaded.config.tenants.values().map(|tenant| &**tenant);
    let wanted: Vec<&guichet_config::Tenant> = match tenant {
        Some(name) => all.filter(|tenant| tenant.id.as_str() == name).collect(),
        None => all.filter(|tenant| tenant.idp.is_some()).collect(),
    };
    if wanted.is_empty() {
        let message = match tenant {
            Some(name) => format!("no tenant is called {name:?}"),
            None => "no tenant has an identity provider".to_owned(),
        };
        return Err(InspectError::Usage(message));
    }
    let clock_skew = loaded.config.saml.as_ref().map_or(Duration::ZERO, |saml| saml.clock_skew);
    let metadata = |entity_id: &str| loaded.idps.idp(entity_id);
    Ok(saml::inspect(&file, sp, &wanted, &metadata, clock_skew, at.unwrap_or(now)))
}

/// Our own metadata for the configuration at `config`.
///
/// # Errors
/// The configuration cannot be used, or has no `[saml]`.
pub fn metadata(config: &Path, now: WallTime) -> Result<String, InspectError> {
    let loaded = check::load(config, now).map_err(InspectError::Config)?;
    match loaded.sp {
        Some(sp) => Ok(sp.metadata_xml().to_owned()),
        None => Err(InspectError::Usage("the configuration has no [saml]".to_owned())),
    }
}

/// For people.
pub fn text(seen: &Inspection) -> String {
    let idp = seen.idp.as_deref().unwrap_or("unknown");
    let tenant = seen.tenant.as_ref().map_or("unknown", |id| id.as_str());
    let mut out = format!("identity provider  {idp}\ntenant             {tenant}\n\n");
    for (check, outcome) in &seen.checks {
        let check = check.as_str();
        out += &match outcome {
            Outcome::Passed => format!("passed       {check}\n"),
            Outcome::Failed(refusal) => format!("FAILED       {check}: {refusal} ({})\n", refusal.kind()),
            Outcome::NotReached => format!("not reached  {check}\n"),
        };
    }
    if !seen.attributes.is_empty() {
        out += "\nattributes (values are not shown)\n";
    }
    for (name, values) in &seen.attributes {
        out += &format!("{values:>11}  {}\n", printable(name));
    }
    out + if seen.is_good() {
        "\nEvery check holds. Not checked here: the pending request of the browser, and whether it was used before.\n"
    } else {
        "\nThe Response is refused.\n"
    }
}

/// For programs.
pub fn as_json(seen: &Inspection) -> Value {
    let checks: Vec<Value> = seen
        .checks
        .iter()
        .map(|(check, outcome)| match outcome {
            Outcome::Passed => json!({ "check": check.as_str(), "result": "passed" }),
            Outcome::Failed(refusal) => json!({
                "check": check.as_str(),
                "result": "failed",
                "kind": refusal.kind(),
                "message": refusal.to_string(),
            }),
            Outcome::NotReached => json!({ "check": check.as_str(), "result": "not_reached" }),
        })
        .collect();
    let attributes: Vec<Value> =
        seen.attributes.iter().map(|(name, values)| json!({ "name": printable(name), "values": values })).collect();
    json!({
        "good": seen.is_good(),
        "identity_provider": seen.idp,
        "tenant": seen.tenant.as_ref().map(|id| id.as_str()),
        "checks": checks,
        "attributes": attributes,
    })
}

/// A name that an IdP chose, fit for a terminal.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn time(text: &str) -> Result<WallTime, String> {
    let instant: jiff::Timestamp =
        text.parse().map_err(|_| "expected a time such as 2026-11-29T08:15:00Z".to_owned())?;
    u64::try_from(instant.as_millisecond()).map(WallTime).map_err(|_| "expected a time after 1970".to_owned())
}

/// More than the consumer takes, so that its own limit speaks.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const NAME_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use guichet_auth::saml::{Check, Refusal};

    use super::*;

    #[test]
    fn what_is_told_names_the_reason_and_no_terminal_is_played_with() {
        let seen = Inspection {
            idp: Some("https://idp.example".to_owned()),
            tenant: None,
            checks: vec![
                (Check::Encoding, Outcome::Passed),
                (Check::Document, Outcome::Failed(Refusal::Doctype)),
                (Check::Layout, Outcome::NotReached),
            ],
            attributes: vec![("urn:x\u{1b}[2J".to_owned(), 2)],
        };
        let told = text(&seen);
        assert!(told.contains("passed       encoding\n"), "{told}");
        assert!(
            told.contains("FAILED       document: the response has a document type declaration (doctype)\n"),
            "{told}"
        );
        assert!(told.contains("not reached  layout\n"), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
        let value = as_json(&seen);
        assert_eq!(value["good"], false);
        assert_eq!(value["checks"][1]["kind"], "doctype");
        assert_eq!(value["attributes"][0]["values"], 2);
    }

    #[test]
    fn times_are_those_of_logs() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(WallTime(1000)));
        assert!(time("yesterday").is_err());
        assert!(time("1960-01-01T00:00:00Z").is_err());
    }
}
