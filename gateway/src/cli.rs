//! The command line, and the commands that need no running node.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use guichet::{check, ctl, saml, setup::dns};
use guichet_auth::{Clock, SystemClock};
use guichet_config::{Report, Secret};

/// Bad arguments (`EX_USAGE`).
pub(crate) const EXIT_USAGE: u8 = 64;
/// Bad configuration (`EX_CONFIG`).
pub(crate) const EXIT_CONFIG: u8 = 78;

/// One gateway in front of a mail service: TLS, SAML and directory login, and the way to each user's cell.
#[derive(Debug, Parser)]
#[command(name = "guichet", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node. SIGHUP reloads (all or nothing), SIGTERM and SIGINT drain and stop.
    #[command(after_help = "Example:\n  guichet run -c /etc/guichet/guichet.toml\n\n\
                            Exits with 78 before any port is open when the configuration has a problem.")]
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration and all it names: certificates, keys, metadata. Opens no port.
    #[command(after_help = "Example:\n  guichet check -c /etc/guichet/guichet.toml\n\n\
                            Exits with 0 when it can be used, with 78 after a list of all problems otherwise.")]
    Check {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Print the problems and remarks as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Speak to a running node: state, identity providers, cells, reload.
    #[command(after_help = "Example:\n  guichet ctl -c /etc/guichet/guichet.toml idp list")]
    Ctl {
        /// The node's configuration file: says where it listens, and holds the token.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        #[command(subcommand)]
        command: ctl::Command,
    },
    /// SAML without a running node: why a Response was refused, and our own metadata.
    #[command(after_help = "Example:\n  guichet saml inspect response.txt -c /etc/guichet/guichet.toml")]
    Saml {
        #[command(subcommand)]
        command: saml::Command,
    },
    /// Print the DNS records by which mail programs find the service, for the zone of each mail domain.
    #[command(after_help = "Example:\n  guichet dns -c /etc/guichet/guichet.toml > client-setup.zone\n\n\
                            A service that is not offered gets a record that says so (target \".\").")]
    Dns {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Print the records as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    #[command(after_help = "Example:\n  guichet schema > guichet.schema.json")]
    Schema,
    /// Hash a password for the embedded directory. Reads one line from standard input.
    #[command(after_help = "Example:\n  read -rs PASSWORD && printf %s \"$PASSWORD\" | guichet hash-password")]
    HashPassword,
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  guichet completions bash > /etc/bash_completion.d/guichet")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = "Example:\n  guichet man > guichet.1 && man ./guichet.1")]
    Man,
}

pub(crate) fn check(path: &Path, json: bool) -> ExitCode {
    let result = check::load(path, SystemClock.now());
    let report = result.as_ref().err();
    let remarks = result.as_ref().map(|loaded| loaded.config.remarks.as_slice()).unwrap_or_default();
    if json {
        let problems: Vec<_> = report.iter().flat_map(|report| &report.problems).map(as_json).collect();
        let remarks: Vec<_> = remarks.iter().map(as_json).collect();
        print(&format!("{:#}\n", serde_json::json!({ "problems": problems, "remarks": remarks })));
    } else if report.is_none() {
        remarks.iter().for_each(|remark| print(&format!("remark: {remark}\n")));
        print("The configuration can be used.\n");
    }
    match report {
        None => ExitCode::SUCCESS,
        Some(_) if json => ExitCode::from(EXIT_CONFIG),
        Some(report) => refuse_config(report),
    }
}

fn as_json(problem: &guichet_config::Problem) -> serde_json::Value {
    serde_json::json!({
        "file": problem.place.file.display().to_string(),
        "line": problem.place.line,
        "column": problem.place.column,
        "key": problem.key,
        "message": problem.message,
        "hint": problem.hint,
    })
}

pub(crate) fn refuse_config(report: &Report) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{report}");
    ExitCode::from(EXIT_CONFIG)
}

pub(crate) fn ctl(path: &Path, command: ctl::Command) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ctl::run(path, command)),
        Err(_) => ExitCode::FAILURE,
    }
}

pub(crate) fn dns(path: &Path, json: bool) -> ExitCode {
    let config = match guichet_config::load(path) {
        Ok(config) => config,
        Err(report) => return refuse_config(&report),
    };
    let zones = dns::zones(&config);
    print(&if json { format!("{:#}\n", dns::json(&zones)) } else { dns::zone_file(&zones) });
    ExitCode::SUCCESS
}

pub(crate) fn saml(command: &saml::Command) -> ExitCode {
    let now = SystemClock.now();
    let told = match command {
        saml::Command::Inspect { response, config, tenant, at, json } => {
            saml::inspect(response, config, tenant.as_deref(), *at, now).map(|seen| {
                print(&if *json { format!("{:#}\n", saml::as_json(&seen)) } else { saml::text(&seen) });
                if seen.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            })
        }
        saml::Command::Metadata { config } => saml::metadata(config, now).map(|document| {
            print(&document);
            ExitCode::SUCCESS
        }),
    };
    match told {
        Ok(code) => code,
        Err(saml::InspectError::Config(report)) => refuse_config(&report),
        Err(error) => usage(&error.to_string()),
    }
}

pub(crate) fn schema() -> ExitCode {
    print(&format!("{:#}\n", guichet_config::schema()));
    ExitCode::SUCCESS
}

pub(crate) fn hash_password() -> ExitCode {
    let mut line = zeroize::Zeroizing::new(String::new());
    // A password has at most 1 KiB (as everywhere in the gateway).
    if std::io::stdin().take(1026).read_to_string(&mut line).is_err() {
        return usage("the password is not UTF-8 text");
    }
    let password = Secret::new(line.lines().next().unwrap_or_default().to_owned());
    if password.expose().is_empty() || password.expose().len() > 1024 {
        return usage("a password of 1 to 1024 bytes is expected on standard input");
    }
    match guichet_auth::password::hash_password(&password) {
        Ok(hash) => {
            print(&format!("{hash}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "guichet", &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub(crate) fn man() -> ExitCode {
    let mut page = Vec::new();
    match clap_mangen::Man::new(Cli::command()).render(&mut page) {
        Ok(()) => {
            print(&String::from_utf8_lossy(&page));
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn usage(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::from(EXIT_USAGE)
}

/// To standard output; a reader that is gone (`| head`) is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together_and_each_command_has_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        let below = command.find_subcommand("saml").into_iter().flat_map(|saml| saml.get_subcommands());
        for one in command.get_subcommands().chain(below) {
            let help = one.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:"), "{}", one.get_name());
        }
    }
}
