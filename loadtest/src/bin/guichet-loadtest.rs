//! `guichet-loadtest`: rehearsals and measurements against a running demo.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Parser, Subcommand};
use guichet_loadtest::{
    client::{Browser, Target, TargetError},
    demo,
    measure::{https_rate, idle_imap},
    peers,
    record::Recorder,
    report::Report,
    scenario::{self, Scenario, Verdict},
};
use indicatif::{ProgressBar, ProgressStyle};

/// Rehearses days that a mail service has, against a running demo.
///
/// Exit status: 0 passed, 1 thresholds missed or a measurement failed, 2 wrong usage, 3 target unreachable, 4 generator overloaded (figures invalid).
#[derive(Parser)]
#[command(version, after_help = "Example: guichet-loadtest run monday-morning --dir target/demo --report monday.html")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the scenarios.
    #[command(after_help = "Example: guichet-loadtest list")]
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Runs a scenario.
    #[command(after_help = "Example: guichet-loadtest run idp-outage --dir target/demo")]
    Run(Run),
    /// Measures the gateway beside HAProxy and nginx, as far as they are installed, in one run.
    ///
    /// Starts each of them by turns, with one worker on one core, in front of the same simulated cell, which shares another core with
    /// the client: processor time and latency of a login, rate of a large FETCH, delay added to a NOOP, memory of connections
    /// in IDLE. HAProxy passes bytes on and authenticates nobody; nginx asks a small auth_http server of ours. Needs root to read the
    /// memory of the gateway, and a build with optimisation to say anything.
    #[command(
        after_help = "Example: guichet-loadtest peers --dir target/peers --report peers.html --results peers.json\n(Debian: apt-get install haproxy nginx libnginx-mod-mail)"
    )]
    Peers(Peers),
    /// Measures one thing, for docs/performance.md.
    Measure {
        #[command(subcommand)]
        what: Measure,
    },
}

#[derive(Args)]
struct Where {
    /// Folder of a running demo.
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
    /// Its demo.json, when it is not in the folder.
    #[arg(long, conflicts_with = "dir")]
    demo_json: Option<PathBuf>,
}

#[derive(Args)]
struct Run {
    /// Name, as `list` shows it.
    #[arg(value_parser = |name: &str| Scenario::named(name).ok_or("no such scenario: see `guichet-loadtest list`"))]
    scenario: Scenario,
    #[command(flatten)]
    place: Where,
    /// Visits a second.
    #[arg(long, value_parser = |text: &str| text.parse::<f64>().ok().filter(|rate| (0.01..=100_000.0).contains(rate)).ok_or("from 0.01 to 100000"))]
    rate: Option<f64>,
    /// Seconds in which visits begin.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: Option<u64>,
    /// People taking part, or connections held.
    #[arg(long)]
    users: Option<usize>,
    /// Decides arrivals and choices.
    #[arg(long)]
    seed: Option<u64>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Write one HTML file.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Args)]
struct Peers {
    /// Folder for keys, configurations and logs; made when missing.
    #[arg(long, default_value = "target/peers")]
    dir: PathBuf,
    /// The gateway's binary; by default the one beside this one, or on the path.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Core of the proxies.
    #[arg(long, default_value_t = 0)]
    core_proxy: usize,
    /// Core of client and cell.
    #[arg(long, default_value_t = 1)]
    core_load: usize,
    /// Turns of each.
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    rounds: usize,
    /// Logins in a turn.
    #[arg(long, default_value_t = 3000, value_parser = at_least_one)]
    logins: usize,
    /// Of these, at once.
    #[arg(long, default_value_t = 24, value_parser = at_least_one)]
    at_once: usize,
    /// Times that each of four connections fetches 20 MiB in a turn.
    #[arg(long, default_value_t = 15, value_parser = at_least_one)]
    fetches: usize,
    /// NOOPs in a turn.
    #[arg(long, default_value_t = 5000, value_parser = at_least_one)]
    noops: usize,
    /// Connections in IDLE.
    #[arg(long, default_value_t = 4000, value_parser = at_least_one)]
    connections: usize,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Write one HTML file.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Write a JSON file.
    #[arg(long)]
    results: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "a number from 1 on".to_owned())
}

#[derive(Subcommand)]
enum Measure {
    /// Memory of an idle logged-in IMAPS connection. The gateway must be a process of its own: `guichet-demo --without-gateway`.
    #[command(
        after_help = "Example: guichet-loadtest measure idle-imap --dir target/demo --pid $(pidof guichet) --connections 2000"
    )]
    IdleImap {
        #[command(flatten)]
        place: Where,
        /// The gateway's process.
        #[arg(long)]
        pid: u32,
        /// Connections in IDLE.
        #[arg(long, default_value_t = 2000)]
        connections: usize,
    },
    /// Small HTTPS responses, or full handshakes, a second.
    #[command(
        after_help = "Examples:\n  guichet-loadtest measure https-rate --url https://localhost:8443/small --ca ca.pem\n  guichet-loadtest measure https-rate --login --dir target/demo --path /whoami --handshakes --pid $(pidof guichet)"
    )]
    HttpsRate(HttpsRate),
}

#[derive(Args)]
struct HttpsRate {
    #[command(flatten)]
    place: Where,
    /// Any HTTPS server on this machine, instead of the demo.
    #[arg(long, requires = "ca")]
    url: Option<url::Url>,
    /// PEM roots for `--url`.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Path on the demo.
    #[arg(long, default_value = "/whoami")]
    path: String,
    /// Log in first (SAML) and send the session's cookie.
    #[arg(long, conflicts_with = "url")]
    login: bool,
    /// Connections at once.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Seconds.
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// A new connection with a full handshake for each request.
    #[arg(long)]
    handshakes: bool,
    /// Offer X25519 alone, for peers that know no hybrid key exchange: otherwise the gateway's handshakes hold an
    /// ML-KEM-768 that theirs do not.
    #[arg(long)]
    classical: bool,
    /// Processes of the server: their processor time is counted. May be given several times.
    #[arg(long = "pid")]
    pids: Vec<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before anything makes a TLS configuration. Nobody was first.
    let _ = provider(&arguments.command).install_default();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: files.maximum, maximum: files.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    // Before there are threads: they stay on the core of the first one.
    if let Command::Peers(Peers { core_load, .. }) = &arguments.command
        && let Err(error) = peers::pin(*core_load)
    {
        eprintln!("guichet-loadtest: {error:#}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(command(arguments.command)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("guichet-loadtest: {error:#}");
            match error.downcast_ref::<TargetError>() {
                Some(TargetError::NotLoopback(_)) => ExitCode::from(EXIT_USAGE),
                Some(_) => ExitCode::from(EXIT_UNREACHABLE),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn provider(command: &Command) -> rustls::crypto::CryptoProvider {
    use rustls::crypto::aws_lc_rs;
    let mut provider = aws_lc_rs::default_provider();
    if matches!(command, Command::Peers(_)) {
        // What all of them speak.
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    }
    if matches!(command, Command::Measure { what: Measure::HttpsRate(HttpsRate { classical: true, .. }) }) {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    }
    provider
}

async fn command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { json } => list(json),
        Command::Run(arguments) => run(arguments).await,
        Command::Peers(arguments) => compare(arguments).await,
        Command::Measure { what: Measure::IdleImap { place, pid, connections } } => {
            let seen = idle_imap::run(&place.open().await?, pid, connections).await?;
            println!("{}", serde_json::to_string_pretty(&seen)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Measure { what: Measure::HttpsRate(arguments) } => {
            let seen = https_rate::run(arguments.question().await?).await?;
            println!("{}", serde_json::to_string_pretty(&seen)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Where {
    async fn open(&self) -> Result<Target, TargetError> {
        let file = self.demo_json.clone().unwrap_or_else(|| self.dir.join("demo.json"));
        Target::open(&file).await
    }
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let all: Vec<_> = scenario::ALL
            .iter()
            .map(|one| serde_json::json!({ "name": one.name(), "about": one.about(), "defaults": one.defaults(), "thresholds": one.thresholds() }))
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        for one in scenario::ALL {
            let defaults = one.defaults();
            println!("{:<22} {}", one.name(), one.about());
            println!("{:<22} rate {}/s, {} s, {} users", "", defaults.rate, defaults.duration_s, defaults.users);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(arguments: Run) -> anyhow::Result<ExitCode> {
    let scenario = arguments.scenario;
    let mut settings = scenario.defaults();
    settings.rate = arguments.rate.unwrap_or(settings.rate);
    settings.duration_s = arguments.duration.unwrap_or(settings.duration_s);
    settings.users = arguments.users.unwrap_or(settings.users);
    settings.seed = arguments.seed.unwrap_or(settings.seed);
    let target = arguments.place.open().await?;
    let span = Duration::from_secs(settings.duration_s);
    let (recorder, began, start) = (Arc::new(Recorder::new(span)), jiff::Timestamp::now(), tokio::time::Instant::now());
    let bar = tokio::spawn(progress(scenario.name(), Arc::clone(&recorder)));
    scenario.run(&target, &settings, &recorder).await;
    bar.abort();
    eprint!("\r");
    let report = Report::new(scenario, settings, began, start.elapsed().as_secs_f64(), recorder.summary());
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    if let Some(file) = &arguments.report {
        std::fs::write(file, report.html()?)?;
        eprintln!("report: {}", file.display());
    }
    Ok(match report.verdict {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Missed => ExitCode::FAILURE,
        Verdict::Overloaded => ExitCode::from(EXIT_OVERLOADED),
    })
}

async fn compare(arguments: Peers) -> anyhow::Result<ExitCode> {
    let Peers { dir, gateway, core_proxy, core_load, rounds, logins, at_once, fetches, noops, connections, .. } =
        arguments;
    let gateway = gateway.unwrap_or_else(demo::gateway_program);
    let options =
        peers::Options { dir, gateway, core_proxy, core_load, rounds, logins, at_once, fetches, noops, connections };
    // Ended early, it still ends what it started.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let comparison = tokio::select! {
        comparison = peers::run(options, |what| eprintln!("{what}")) => comparison?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("interrupted"),
    };
    let json = serde_json::to_string_pretty(&comparison)?;
    if arguments.json {
        println!("{json}");
    } else {
        print!("{}", comparison.text());
    }
    if let Some(file) = &arguments.results {
        std::fs::write(file, format!("{json}\n"))?;
        eprintln!("results: {}", file.display());
    }
    if let Some(file) = &arguments.report {
        std::fs::write(file, comparison.html()?)?;
        eprintln!("report: {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// On a terminal only.
async fn progress(name: &'static str, recorder: Arc<Recorder>) {
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.set_prefix(name);
    loop {
        let (ok, failed) = recorder.counts();
        bar.set_message(format!("{ok} steps done, {failed} failed"));
        bar.tick();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

impl HttpsRate {
    async fn question(&self) -> anyhow::Result<https_rate::Question> {
        let (url, tls, cookie) = match (&self.url, &self.ca) {
            (Some(url), Some(ca)) => (url.clone(), guichet_loadtest::client::tls_of(ca)?, None),
            _ => {
                let target = self.place.open().await?;
                let cookie = if self.login { Some(log_in(&target).await?) } else { None };
                let url = url::Url::parse(&target.demo.web)?.join(&self.path)?;
                (url, (*target.mail_tls).clone(), cookie)
            }
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let authority = format!("{host}:{}", url.port_or_known_default().unwrap_or(443));
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Ok(https_rate::Question {
            address: guichet_loadtest::client::loopback(&authority)?,
            host,
            authority,
            path,
            cookie,
            tls,
            connections: self.connections,
            duration: Duration::from_secs(self.duration),
            handshakes: self.handshakes,
            pids: self.pids.clone(),
        })
    }
}

async fn log_in(target: &Target) -> anyhow::Result<String> {
    let first = target.demo.tenants.first().and_then(|tenant| Some((tenant, tenant.users.first()?)));
    let (tenant, user) = first.ok_or_else(|| anyhow::anyhow!("the demo has no users"))?;
    let browser = Browser::new(target)?;
    browser.log_in_by_idp(tenant, user).await?;
    browser.cookies().ok_or_else(|| anyhow::anyhow!("the login left no cookie"))
}

const EXIT_USAGE: u8 = 2;
const EXIT_UNREACHABLE: u8 = 3;
const EXIT_OVERLOADED: u8 = 4;
