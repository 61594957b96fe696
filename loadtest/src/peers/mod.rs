//! The gateway beside HAProxy and nginx: mail over TLS, on this machine, in one run.
//!
//! All stand in front of the same simulated cell, over plain TCP on loopback, with one worker pinned to one core; client and cell
//! share another core. The certificate, TLS 1.3, AES-128-GCM and X25519 are the same for all, nobody resumes, nobody logs sessions.
//! Each figure is taken by turns, every turn by a fresh process.
//!
//! They do not do the same work. The gateway checks the password (in its cache), places the user and logs in at the cell; nginx asks
//! `auth_http` at each login and logs in at the cell; HAProxy passes bytes on, and the cell alone checks the password.

mod auth_http;
mod bed;
mod proxy;
mod report;
mod turn;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

pub use report::{Comparison, Figure, Machine, Row};

use bed::Bed;
use proxy::{Found, Kind};
use turn::Seen;

/// How to compare.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// Folder for keys, configurations and logs.
    pub dir: PathBuf,
    /// The `guichet` binary.
    pub gateway: PathBuf,
    /// Core of the proxies.
    pub core_proxy: usize,
    /// Core of client and cell.
    pub core_load: usize,
    /// Turns of each.
    pub rounds: usize,
    /// Logins in a turn.
    pub logins: usize,
    /// Of these, at once.
    pub at_once: usize,
    /// Times that each of four connections fetches the large message in a turn.
    pub fetches: usize,
    /// NOOPs in a turn, at most.
    pub noops: usize,
    /// Connections in IDLE.
    pub connections: usize,
}

/// Keeps this process on one core: threads that start later stay there too, so call it before there are any.
///
/// # Errors
/// The core is not there.
pub fn pin(core: usize) -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let output = std::process::Command::new("taskset").args(["-cp", &core.to_string(), &pid]).output();
    let output = output.context("taskset (package util-linux) is needed to pin processes to cores")?;
    anyhow::ensure!(
        output.status.success(),
        "core {core} cannot be used: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Compares. `say` hears what is being done.
///
/// # Errors
/// The gateway is not there, a proxy that is there does not start or answers wrong, too few descriptors are allowed.
pub async fn run(options: Options, say: impl Fn(&str)) -> anyhow::Result<Comparison> {
    let began = Timestamp::now();
    let load_before = report::load_average();
    let bed = Bed::new(&options).await?;
    let found: Vec<Found> = Kind::ALL.into_iter().map(|kind| kind.look(&options)).collect();
    for one in found.iter().filter(|one| one.version.is_none()) {
        say(&format!("{} is absent and left out: {}", one.kind.name(), one.note));
    }
    let present: Vec<Kind> = found.iter().filter(|one| one.version.is_some()).map(|one| one.kind).collect();
    anyhow::ensure!(present.contains(&Kind::Guichet), "the gateway {} does not run", options.gateway.display());

    let mut rounds: Vec<Vec<(Kind, Seen)>> = Vec::new();
    for round in 0..options.rounds {
        let mut seen = vec![(Kind::Direct, turn::direct(&bed, &options).await.context("the cell itself")?)];
        for kind in turns(&present, round) {
            say(&format!("round {} of {}: {}", round + 1, options.rounds, kind.name()));
            seen.push((kind, turn::moving(&bed, kind, &options).await.with_context(|| kind.name())?));
        }
        rounds.push(seen);
    }
    for (round, seen) in rounds.iter_mut().enumerate() {
        for kind in turns(&present, round) {
            say(&format!(
                "round {} of {}: {}, {} connections in IDLE",
                round + 1,
                options.rounds,
                kind.name(),
                options.connections
            ));
            let kib = turn::idle(&bed, kind, &options).await.with_context(|| kind.name())?;
            for (_, seen) in seen.iter_mut().filter(|(one, _)| *one == kind) {
                seen.idle_kib = Some(kib);
            }
        }
    }
    let machine = Machine::here(load_before);
    Ok(Comparison::new(began, machine, options, &found, &rounds))
}

/// Who goes first changes from round to round.
fn turns(present: &[Kind], round: usize) -> Vec<Kind> {
    let mut order = present.to_vec();
    order.rotate_left(round.checked_rem(present.len()).unwrap_or_default());
    order
}

/// What is still being closed or freed comes to its end.
const SETTLE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    impl Options {
        /// Small.
        pub(super) fn of_tests() -> Self {
            Self {
                dir: PathBuf::from("target/peers"),
                gateway: PathBuf::from("guichet"),
                core_proxy: 0,
                core_load: 1,
                rounds: 3,
                logins: 10,
                at_once: 2,
                fetches: 1,
                noops: 10,
                connections: 10,
            }
        }
    }

    #[test]
    fn everyone_goes_first_in_turn() {
        let all = [Kind::Guichet, Kind::Haproxy, Kind::Nginx];
        assert_eq!(turns(&all, 0), all);
        assert_eq!(turns(&all, 4), [Kind::Haproxy, Kind::Nginx, Kind::Guichet]);
        assert!(turns(&[], 3).is_empty());
    }
}
