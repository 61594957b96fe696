//! `guichet ctl`: the command line's side of the management API.
//!
//! Exit codes: 0 done · 1 refused by the node (bad request, unknown tenant, configuration with problems) · 64 bad
//! arguments · 69 the node cannot be reached · 77 the token is not accepted · 78 the configuration file cannot be used.

mod moves;

use std::{path::Path, process::ExitCode, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use guichet_config::Config;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

pub use self::moves::{Placement, Wave};

/// What to ask of a running node.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// How the node is.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The metrics, in the Prometheus text format.
    Metrics,
    /// Identity providers.
    #[command(subcommand)]
    Idp(Idp),
    /// SAML logins.
    #[command(subcommand)]
    Saml(Saml),
    /// Cells.
    #[command(subcommand)]
    Cell(Cell),
    /// Listeners.
    #[command(subcommand)]
    Listener(Listener),
    /// Live mail connections.
    #[command(subcommand)]
    Relay(Relay),
    /// What is drained: cells, endpoints and listeners.
    Drains {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Placements of single users.
    #[command(subcommand)]
    User(User),
    /// Placements of all users.
    #[command(subcommand)]
    Placement(Placement),
    /// Waves: users who move to another cell together.
    #[command(subcommand)]
    Wave(Wave),
    /// Read the configuration again; on any problem nothing changes.
    Reload,
}

/// About identity providers.
#[derive(Clone, Debug, Subcommand)]
pub enum Idp {
    /// State of each.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Treat one as down or up, for a while. Example: `guichet ctl idp force univ-a down --for 10m --reason "maintenance"`
    Force {
        /// Tenant.
        tenant: String,
        /// As what.
        state: Word,
        /// How long, such as `10m` or `2h`; at most a day.
        #[arg(long = "for", value_name = "DURATION")]
        duration: String,
        /// Why; kept for the audit.
        #[arg(long)]
        reason: String,
    },
    /// Take the word back.
    Release {
        /// Tenant.
        tenant: String,
    },
}

/// About SAML logins.
#[derive(Clone, Debug, Subcommand)]
pub enum Saml {
    /// Print a link for a test login: good for an hour, opens no session, shows what the identity provider sent and what
    /// would come of it. Also while the identity provider counts as down. Example: `guichet ctl saml test univ-a`
    Test {
        /// Tenant.
        tenant: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// About cells.
#[derive(Clone, Debug, Subcommand)]
pub enum Cell {
    /// Health of each endpoint.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Empty a cell, or one endpoint of it: no new login goes there, live connections end over a time. Example: `guichet
    /// ctl cell drain alpha --over 10m --for 2h --reason "new disks"`
    Drain {
        /// Cell.
        cell: String,
        /// Only this one of its endpoints.
        #[arg(long, value_name = "HOST:PORT")]
        endpoint: Option<String>,
        /// How.
        #[command(flatten)]
        drain: DrainTerms,
    },
    /// Take drains back: of the cell and all of its endpoints, or of one endpoint.
    Resume {
        /// Cell.
        cell: String,
        /// Only this one of its endpoints.
        #[arg(long, value_name = "HOST:PORT")]
        endpoint: Option<String>,
    },
}

/// How to drain.
#[derive(Clone, Debug, Args)]
pub struct DrainTerms {
    /// Live connections end one after the other within this time, such as `10m`; at most a day.
    #[arg(long, value_name = "DURATION")]
    over: String,
    /// How long, such as `2h`; at most 31 days.
    #[arg(long = "for", value_name = "DURATION")]
    duration: String,
    /// Why; kept for the audit.
    #[arg(long)]
    reason: String,
    /// Only say how many connections would end.
    #[arg(long)]
    dry_run: bool,
}

/// About listeners.
#[derive(Clone, Debug, Subcommand)]
pub enum Listener {
    /// Ports and live mail connections of each.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Empty a listener: its ports close, live mail connections end over a time. Example: `guichet ctl listener drain imaps
    /// --over 10m --for 2h --reason "kernel update"`
    Drain {
        /// Listener.
        listener: String,
        /// How.
        #[command(flatten)]
        drain: DrainTerms,
    },
    /// Take the drain back: its ports open again.
    Resume {
        /// Listener.
        listener: String,
    },
}

/// About live connections: of mail programs, and WebSockets. What is given must all match.
#[derive(Clone, Debug, Args)]
pub struct Whose {
    /// Of users of this institution.
    #[arg(long)]
    tenant: Option<String>,
    /// Of this user.
    #[arg(long, value_name = "ADDRESS")]
    user: Option<String>,
    /// To this cell.
    #[arg(long)]
    cell: Option<String>,
    /// Of this protocol: `imap`, `pop3`, `submission`, `sieve`, `relay` (of a relay listener) or `web` (WebSockets).
    #[arg(long)]
    protocol: Option<String>,
    /// That came in here.
    #[arg(long)]
    listener: Option<String>,
}

impl Whose {
    fn parts(&self) -> Vec<(&'static str, &str)> {
        let Self { tenant, user, cell, protocol, listener } = self;
        let parts =
            [("tenant", tenant), ("user", user), ("cell", cell), ("protocol", protocol), ("listener", listener)];
        parts.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

/// About live connections: of mail programs, and WebSockets.
#[derive(Clone, Debug, Subcommand)]
pub enum Relay {
    /// Who is logged in now. Example: `guichet ctl relay list --cell alpha --protocol imap --limit 20`
    List {
        /// Whose.
        #[command(flatten)]
        whose: Whose,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// End live connections; mail programs log in again by themselves. Example: `guichet ctl relay kick --user
    /// ada@univ.example --reason "stolen phone"`
    Kick {
        /// Whose.
        #[command(flatten)]
        whose: Whose,
        /// One after the other within this time, such as `30s`; at once when not given.
        #[arg(long, value_name = "DURATION")]
        over: Option<String>,
        /// Why; kept for the audit.
        #[arg(long)]
        reason: String,
        /// Only say how many.
        #[arg(long)]
        dry_run: bool,
    },
}

/// About users that an operator placed.
#[derive(Clone, Debug, Subcommand)]
pub enum User {
    /// Users an operator placed.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Serve a user from a cell, for a while. Example: `guichet ctl user place ada@univ.example beta --for 2h --reason "wave 3"`
    Place {
        /// Address.
        address: String,
        /// Cell.
        cell: String,
        /// How long, such as `10m` or `2h`; at most 31 days.
        #[arg(long = "for", value_name = "DURATION")]
        duration: String,
        /// Why; kept for the audit.
        #[arg(long)]
        reason: String,
    },
    /// Take the word back.
    Release {
        /// Address.
        address: String,
    },
}

/// An operator's word.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Word {
    /// Treat as down.
    Down,
    /// Treat as up.
    Up,
}

/// Reads address and token from the configuration file and asks the node.
pub async fn run(config_path: &Path, command: Command) -> ExitCode {
    let config = match guichet_config::load(config_path) {
        Ok(config) => config,
        Err(report) => {
            eprintln!("{report}");
            return ExitCode::from(CONFIG);
        }
    };
    match talk(&config, command).await {
        Ok(text) => {
            // A reader that went away (`| head`) is no failure.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("guichet ctl: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

struct Failure {
    code: u8,
    message: String,
}

async fn talk(config: &Config, command: Command) -> Result<String, Failure> {
    let node = Node::new(config)?;
    match command {
        Command::Metrics => node.text("/metrics").await,
        Command::Status { json } => {
            let status = node.ask(Method::GET, "/status", None).await?;
            Ok(if json { pretty(&status) } else { facts(&status) })
        }
        Command::Idp(Idp::List { json }) => {
            let list = node.ask(Method::GET, "/idps", None).await?;
            Ok(if json {
                pretty(&list)
            } else {
                table(&list, &["tenant", "state", "since", "failures", "last_success"])
            })
        }
        Command::Idp(Idp::Force { tenant, state, duration, reason }) => {
            check_duration(&duration)?;
            let state = match state {
                Word::Down => "down",
                Word::Up => "up",
            };
            let body = json!({"state": state, "for": duration, "reason": reason});
            let told = node.ask(Method::POST, &format!("/idps/{}/force", segment(&tenant)), Some(body)).await?;
            let until = told.pointer("/forced/until").map(cell).unwrap_or_default();
            Ok(format!("{}: {} until {until}\n", field(&told, "tenant"), field(&told, "state")))
        }
        Command::Idp(Idp::Release { tenant }) => {
            let told = node.ask(Method::POST, &format!("/idps/{}/release", segment(&tenant)), None).await?;
            Ok(format!("{}: {}\n", field(&told, "tenant"), field(&told, "state")))
        }
        Command::Saml(Saml::Test { tenant, json }) => {
            let told = node.ask(Method::POST, &format!("/idps/{}/test", segment(&tenant)), None).await?;
            Ok(if json {
                pretty(&told)
            } else {
                format!("{}\ngood until {}\n", field(&told, "link"), field(&told, "until"))
            })
        }
        Command::Cell(Cell::List { json }) => {
            let list = node.ask(Method::GET, "/cells", None).await?;
            Ok(if json {
                pretty(&list)
            } else {
                table(&list, &["cell", "service", "endpoint", "healthy", "drained", "last_error"])
            })
        }
        Command::Cell(Cell::Drain { cell, endpoint, drain }) => {
            node.drain(&format!("/cells/{}/drain", segment(&cell)), endpoint, drain).await
        }
        Command::Cell(Cell::Resume { cell, endpoint }) => {
            let body = endpoint.map(|endpoint| json!({"endpoint": endpoint}));
            resumed(&node.ask(Method::POST, &format!("/cells/{}/resume", segment(&cell)), body).await?)
        }
        Command::Listener(Listener::List { json }) => {
            let list = node.ask(Method::GET, "/listeners", None).await?;
            Ok(if json { pretty(&list) } else { table(&list, &["listener", "open", "drained", "relays"]) })
        }
        Command::Listener(Listener::Drain { listener, drain }) => {
            node.drain(&format!("/listeners/{}/drain", segment(&listener)), None, drain).await
        }
        Command::Listener(Listener::Resume { listener }) => {
            resumed(&node.ask(Method::POST, &format!("/listeners/{}/resume", segment(&listener)), None).await?)
        }
        Command::Drains { json } => {
            let list = node.ask(Method::GET, "/drains", None).await?;
            Ok(if json {
                pretty(&list)
            } else {
                table(&list, &["kind", "name", "relays", "done", "until", "actor", "reason"])
            })
        }
        Command::Relay(Relay::List { whose, limit, json }) => {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(whose.parts())
                .append_pair("limit", &limit.to_string())
                .finish();
            let told = node.ask(Method::GET, &format!("/relays?{query}"), None).await?;
            let list = told.get("relays").unwrap_or(&Value::Null);
            Ok(match json {
                true => pretty(&told),
                false => {
                    let columns = ["session", "protocol", "user", "cell", "endpoint", "client", "seconds", "ending"];
                    let shown = list.as_array().map_or(0, Vec::len);
                    format!("{}{shown} of {}\n", table(list, &columns), field(&told, "total"))
                }
            })
        }
        Command::Relay(Relay::Kick { whose, over, reason, dry_run }) => {
            if whose.parts().is_empty() {
                let message = "say whose: --tenant, --user, --cell, --protocol or --listener".to_owned();
                return Err(Failure { code: USAGE, message });
            }
            if let Some(over) = &over {
                check_duration(over)?;
            }
            let mut body = json!({"over": over, "reason": reason, "dry_run": dry_run});
            for (name, value) in whose.parts() {
                body[name] = json!(value);
            }
            let told = node.ask(Method::POST, "/relays/kick", Some(body)).await?;
            let verb = if dry_run { "would end" } else { "end" };
            Ok(format!("{} relays {verb}\n", field(&told, "relays")))
        }
        Command::User(User::List { json }) => {
            let list = node.ask(Method::GET, "/users", None).await?;
            Ok(if json { pretty(&list) } else { table(&list, &["user", "cell", "until", "actor", "reason"]) })
        }
        Command::User(User::Place { address, cell, duration, reason }) => {
            check_duration(&duration)?;
            let body = json!({"cell": cell, "for": duration, "reason": reason});
            let told = node.ask(Method::POST, &format!("/users/{}/place", segment(&address)), Some(body)).await?;
            Ok(format!("{}: {} until {}\n", field(&told, "user"), field(&told, "cell"), field(&told, "until")))
        }
        Command::User(User::Release { address }) => {
            let told = node.ask(Method::POST, &format!("/users/{}/release", segment(&address)), None).await?;
            Ok(format!("{}: released\n", field(&told, "user")))
        }
        Command::Placement(command) => moves::placement(&node, command).await,
        Command::Wave(command) => moves::wave(&node, command).await,
        Command::Reload => {
            let told = node.ask(Method::POST, "/reload", None).await?;
            Ok(format!("generation {}\n", field(&told, "generation")))
        }
    }
}

/// What was taken back, one a line.
fn resumed(told: &Value) -> Result<String, Failure> {
    let line = |one: &Value| format!("{} {}: resumed\n", field(one, "kind"), field(one, "name"));
    Ok(told.as_array().into_iter().flatten().map(line).collect())
}

fn check_duration(text: &str) -> Result<(), Failure> {
    if super::console::parse_duration(text).is_some() {
        return Ok(());
    }
    Err(Failure { code: USAGE, message: format!("`{text}` is no duration; write `10m` or `2h`") })
}

/// A node's management listener.
struct Node {
    client: reqwest::Client,
    origin: String,
    token: String,
}

impl Node {
    fn new(config: &Config) -> Result<Self, Failure> {
        let management = &config.management;
        let mut address = management.bind;
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        let unusable = |message: String| Failure { code: CONFIG, message };
        let mut builder = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).connect_timeout(CONNECT);
        let origin = match &management.tls {
            None => format!("http://{address}"),
            Some(files) => {
                // The node's own certificate file is what we trust, and its first name what we call it.
                let pem = std::fs::read(&files.certificate)
                    .map_err(|error| unusable(format!("{}: {error}", files.certificate.display())))?;
                let chain = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
                builder = builder.tls_certs_merge(chain);
                match dns_name(&pem) {
                    Some(name) => {
                        builder = builder.resolve(&name, address);
                        format!("https://{name}:{}", address.port())
                    }
                    None => format!("https://{address}"),
                }
            }
        };
        let client = builder.build().map_err(|error| unusable(crate::telemetry::chain(&error)))?;
        Ok(Self { client, origin, token: management.token.expose().clone() })
    }

    async fn text(&self, path: &str) -> Result<String, Failure> {
        let answer = self.client.get(format!("{}{path}", self.origin)).send().await;
        let answer = answer.map_err(|error| self.unreachable(error))?;
        answer.text().await.map_err(|error| self.unreachable(error))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.answer(request, None).await
    }

    /// Sends a file; the problems that the node finds in it are told with its name.
    async fn send_file(&self, path: &str, file: &Path) -> Result<Value, Failure> {
        let request = self.request(Method::POST, path).header("content-type", "text/csv").body(moves::read(file)?);
        self.answer(request, Some(file)).await
    }

    /// The text of an answer that is no JSON when it is good.
    async fn download(&self, path: &str) -> Result<String, Failure> {
        let answer = self.request(Method::GET, path).send().await.map_err(|error| self.unreachable(error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer, None).await);
        }
        answer.text().await.map_err(|error| self.unreachable(error))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/api/v1{path}", self.origin)).bearer_auth(&self.token);
        match std::env::var("USER") {
            Ok(user) => request.header("guichet-actor", user),
            Err(_) => request,
        }
    }

    async fn answer(&self, request: RequestBuilder, file: Option<&Path>) -> Result<Value, Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer, file).await);
        }
        answer.json().await.map_err(|error| self.unreachable(error))
    }

    async fn refusal(&self, answer: Response, file: Option<&Path>) -> Failure {
        let code = if answer.status() == StatusCode::UNAUTHORIZED { NO_PERMISSION } else { REFUSED };
        let body: Value = match answer.json().await {
            Ok(body) => body,
            Err(error) => return self.unreachable(error),
        };
        let mut message = body.pointer("/error/message").map_or("the node refused".to_owned(), cell);
        let problems = body.pointer("/error/problems").and_then(Value::as_array);
        for problem in problems.into_iter().flatten() {
            let file = file.map(|file| format!("{}:", file.display())).unwrap_or_default();
            message.push_str(&format!("\n{file}{}: {}", field(problem, "line"), field(problem, "message")));
        }
        Failure { code, message }
    }

    async fn drain(&self, path: &str, endpoint: Option<String>, drain: DrainTerms) -> Result<String, Failure> {
        let DrainTerms { over, duration, reason, dry_run } = drain;
        check_duration(&over)?;
        check_duration(&duration)?;
        let body = json!({"endpoint": endpoint, "over": over, "for": duration, "reason": reason, "dry_run": dry_run});
        let told = self.ask(Method::POST, path, Some(body)).await?;
        let verb = if dry_run { "would end" } else { "end" };
        Ok(format!(
            "{} {}: {} relays {verb} until {}, nobody new until {}\n",
            field(&told, "kind"),
            field(&told, "name"),
            field(&told, "relays"),
            field(&told, "done"),
            field(&told, "until")
        ))
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        let message = format!("{}: {}", self.origin, crate::telemetry::chain(&error.without_url()));
        Failure { code: UNAVAILABLE, message }
    }
}

/// The first DNS name of a PEM certificate.
fn dns_name(pem: &[u8]) -> Option<String> {
    use x509_parser::prelude::{GeneralName, Pem};
    let pem = Pem::iter_from_buffer(pem).next()?.ok()?;
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) if !name.starts_with('*') => Some((*name).to_owned()),
        _ => None,
    })
}

fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

fn pretty(value: &Value) -> String {
    // A value that was parsed can be written.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// `key  value` lines.
fn facts(value: &Value) -> String {
    let Some(object) = value.as_object() else { return pretty(value) };
    let width = object.keys().map(String::len).max().unwrap_or(0);
    object.iter().map(|(key, value)| format!("{key:width$}  {}\n", cell(value))).collect()
}

/// A table of a list of objects.
fn table(list: &Value, columns: &[&str]) -> String {
    let mut rows = vec![columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
    for one in list.as_array().into_iter().flatten() {
        rows.push(columns.iter().map(|name| field(one, name)).collect());
    }
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn field(value: &Value, name: &str) -> String {
    value.get(name).map(cell).unwrap_or_default()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // What came over the wire never steers the terminal.
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        other => other.to_string(),
    }
}

const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(3);
const REFUSED: u8 = 1;
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const NO_PERMISSION: u8 = 77;
const CONFIG: u8 = 78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up() {
        let list = json!([{"tenant": "univ-a", "state": "up"}, {"tenant": "b", "state": null}]);
        assert_eq!(table(&list, &["tenant", "state"]), "tenant  state\nuniv-a  up\nb       -\n");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(cell(&json!("a\u{1b}[31mb")), "a[31mb");
    }

    #[test]
    fn a_path_segment_stays_one() {
        assert_eq!(segment("../reload"), "..%2Freload");
    }
}
