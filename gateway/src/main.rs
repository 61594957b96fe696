//! The gateway's binary: arguments, configuration, the node, a signal, the end.

mod cli;

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Parser;
use guichet::{
    app::{App, BuildError},
    console, drain, telemetry,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before anything makes a TLS configuration: two providers are linked, this one is used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(cli::EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Run { config } => run(&config),
        Command::Check { config, json } => cli::check(&config, json),
        Command::Ctl { config, command } => cli::ctl(&config, command),
        Command::Saml { command } => cli::saml(&command),
        Command::Dns { config, json } => cli::dns(&config, json),
        Command::Schema => cli::schema(),
        Command::HashPassword => cli::hash_password(),
        Command::Completions { shell } => cli::completions(shell),
        Command::Man => cli::man(),
    }
}

fn run(path: &Path) -> ExitCode {
    keep_memory_private();
    // Read twice: its shape decides the log and the workers, before there is a runtime to check the rest on.
    let shape = match guichet_config::load(path) {
        Ok(config) => config,
        Err(report) => return cli::refuse_config(&report),
    };
    telemetry::log::init(&shape.log);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = shape.node.workers {
        runtime.worker_threads(workers);
    }
    match runtime.enable_all().thread_name("guichet").build() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(path));
            // Blocking work (a metadata file being read) has no say in when we leave.
            runtime.shutdown_timeout(Duration::from_secs(1));
            code
        }
        Err(error) => fail(&error.into()),
    }
}

async fn serve(path: &Path) -> ExitCode {
    let app = match App::build(path).await {
        Ok(app) => app,
        Err(BuildError::Config(report)) => return cli::refuse_config(&report),
        Err(error) => return fail(&error.into()),
    };
    match live(&app).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// From open ports to the last connection.
async fn live(app: &Arc<App>) -> anyhow::Result<()> {
    let mut reload = signal(SignalKind::hangup())?;
    let mut stop = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let bind = app.snapshot.load().config.management.bind;
    let port = TcpListener::bind(bind).await.with_context(|| format!("management.bind: {bind}"))?;
    app.start()?;
    let mut management = tokio::spawn(console::serve_on(port, app.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "The node is ready.");
    loop {
        tokio::select! {
            // Its outcome is in the log.
            _ = reload.recv() => drop(app.reload().await),
            () = any(&mut stop) => break,
            ended = &mut management => {
                ended?;
                anyhow::bail!("the management listener ended");
            }
        }
    }
    tokio::select! {
        _ = drain::drain(app, DRAIN) => {}
        // Asked again: now.
        () = any(&mut stop) => {}
    }
    Ok(())
}

async fn any(signals: &mut [Signal; 2]) {
    let [one, other] = signals;
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!(error = format!("{error:#}"), "The node cannot run.");
    ExitCode::FAILURE
}

/// Passwords and keys are in memory: no core dump, and no other process of this user may look.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // As many connections as the system allows; `limits.connections_max` says how many we want.
    let files = rustix::process::getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
}

/// How long open connections may take to end by themselves.
const DRAIN: Duration = Duration::from_secs(30);
