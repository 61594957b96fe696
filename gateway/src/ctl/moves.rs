//! `guichet ctl placement` and `guichet ctl wave`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Failure, Node, USAGE, check_duration, facts, field, pretty, segment, table};

/// About the table of placements.
#[derive(Clone, Debug, Subcommand)]
pub enum Placement {
    /// Put a file of `address,cell` lines in the place of all placements. With one bad line nothing changes.
    Import {
        /// The file.
        file: PathBuf,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print all placements, as a file to import.
    Export,
    /// Where a user is, and why.
    Show {
        /// Address.
        address: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Place one user for good. Mail sessions at another cell end. Example: `guichet ctl placement set ada@univ.example beta`
    Set {
        /// Address.
        address: String,
        /// Cell.
        cell: String,
    },
    /// Forget the placement of one user: the directory or the tenant decides.
    Clear {
        /// Address.
        address: String,
    },
}

/// About waves: users who move to another cell together.
#[derive(Clone, Debug, Subcommand)]
pub enum Wave {
    /// Every wave.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One wave and its first users.
    Show {
        /// Name.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Name users who will move. Nobody moves yet. Example: `guichet ctl wave plan spring-1 --to beta --users spring-1.txt`
    Plan {
        /// Name.
        name: String,
        /// Cell of the lines that name none.
        #[arg(long, value_name = "CELL")]
        to: String,
        /// File of `address` or `address,cell` lines. With one bad line nothing changes.
        #[arg(long, value_name = "FILE")]
        users: PathBuf,
        /// Only check the file.
        #[arg(long)]
        dry_run: bool,
    },
    /// End the users' mail sessions and let nobody of them in for a while: logins wait up to 30 s, then are told to try later.
    Hold {
        /// Name.
        name: String,
        /// How long at most, such as `30s` or `10m`; at most an hour.
        #[arg(long = "for", value_name = "DURATION")]
        duration: String,
    },
    /// Serve the users from the new cell, from this moment on. What they have open elsewhere ends.
    Commit {
        /// Name.
        name: String,
    },
    /// Serve the users from where they were.
    Rollback {
        /// Name.
        name: String,
    },
    /// End a wave: where its users are now becomes their placement, without a way back.
    Remove {
        /// Name.
        name: String,
    },
}

pub(super) async fn placement(node: &Node, command: Placement) -> Result<String, Failure> {
    match command {
        Placement::Import { file, dry_run } => {
            let told = node.send_file(&format!("/placements/import?dry_run={dry_run}"), &file).await?;
            let [users, added, moved, removed] = ["users", "added", "moved", "removed"].map(|name| field(&told, name));
            let would = if dry_run { "would be " } else { "" };
            let facts = format!("{users} users: {added} {would}added, {moved} {would}moved, {removed} {would}removed");
            Ok(format!("{facts}{}\n", sessions(&told)))
        }
        Placement::Export => node.download("/placements/export").await,
        Placement::Show { address, json } => {
            let told = node.ask(Method::GET, &format!("/placements/{}", segment(&address)), None).await?;
            Ok(if json { pretty(&told) } else { facts(&told) })
        }
        Placement::Set { address, cell } => {
            let path = format!("/placements/{}/set", segment(&address));
            node.ask(Method::POST, &path, Some(json!({"cell": cell}))).await.map(|told| placed(&told))
        }
        Placement::Clear { address } => {
            let path = format!("/placements/{}/clear", segment(&address));
            node.ask(Method::POST, &path, None).await.map(|told| placed(&told))
        }
    }
}

pub(super) async fn wave(node: &Node, command: Wave) -> Result<String, Failure> {
    let step = |name: &str, step: &str| format!("/waves/{}/{step}", segment(name));
    match command {
        Wave::List { json } => {
            let list = node.ask(Method::GET, "/waves", None).await?;
            let columns = ["wave", "state", "held_until", "users", "planned", "changed", "actor"];
            Ok(if json { pretty(&list) } else { table(&list, &columns) })
        }
        Wave::Show { name, json } => {
            let mut told = node.ask(Method::GET, &format!("/waves/{}", segment(&name)), None).await?;
            if json {
                return Ok(pretty(&told));
            }
            let users = told.as_object_mut().and_then(|wave| wave.remove("first_users")).unwrap_or_default();
            Ok(format!("{}\n{}", facts(&told), table(&users, &["user", "to"])))
        }
        Wave::Plan { name, to, users, dry_run } => {
            let to = segment(&to);
            let told = node.send_file(&format!("{}?to={to}&dry_run={dry_run}", step(&name, "plan")), &users).await?;
            let end = if dry_run { " (nothing was changed)" } else { "" };
            Ok(format!("{}: {} users{end}\n", state(&told), field(&told, "users")))
        }
        Wave::Hold { name, duration } => {
            check_duration(&duration)?;
            let told = node.ask(Method::POST, &step(&name, "hold"), Some(json!({"for": duration}))).await?;
            Ok(format!("{} until {}{}\n", state(&told), field(&told, "held_until"), sessions(&told)))
        }
        Wave::Commit { name } => {
            let told = node.ask(Method::POST, &step(&name, "commit"), None).await?;
            Ok(format!("{}: {} users{}\n", state(&told), field(&told, "users"), sessions(&told)))
        }
        Wave::Rollback { name } => {
            let told = node.ask(Method::POST, &step(&name, "rollback"), None).await?;
            Ok(format!("{}: {} users{}\n", state(&told), field(&told, "users"), sessions(&told)))
        }
        Wave::Remove { name } => {
            let told = node.ask(Method::POST, &step(&name, "remove"), None).await?;
            Ok(format!("{}: removed\n", state(&told)))
        }
    }
}

fn state(told: &Value) -> String {
    format!("{}: {}", field(told, "wave"), field(told, "state"))
}

fn placed(told: &Value) -> String {
    format!("{}: {}\n", field(told, "user"), field(told, "cell"))
}

fn sessions(told: &Value) -> String {
    match field(told, "sessions_ended").as_str() {
        "0" | "" => String::new(),
        count => format!("; {count} mail sessions end"),
    }
}

/// Reads a file the operator named.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure { code: USAGE, message: format!("{}: {error}", file.display()) })
}
