//! `guichet-demo`: the gateway in front of a simulated world, without root or network.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use guichet_loadtest::demo::{self, Scope};

/// Starts the gateway in front of a simulated world: three institutions with their identity providers,
/// two cells, a directory.
///
/// Needs neither root nor network. Everything is kept in the folder; the same command goes on where it stopped.
#[derive(Parser)]
#[command(version, after_help = "Example: guichet-demo --dir target/demo")]
struct Arguments {
    /// Folder of keys, users, ports and state; made when missing.
    #[arg(long)]
    dir: PathBuf,
    /// Start the world only and say how to start the gateway: for measuring it as a process of its own.
    #[arg(long)]
    without_gateway: bool,
}

fn main() -> ExitCode {
    // Before anything makes a TLS configuration. Nobody was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::parse();
    // As many connections as the system allows.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: files.maximum, maximum: files.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    let scope = if arguments.without_gateway { Scope::WorldOnly } else { Scope::All };
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(demo::run(&arguments.dir, scope, &demo::gateway_program())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guichet-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
