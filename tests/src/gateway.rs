//! The built gateway, run as an operator runs it: a file, a process, signals, `guichet ctl`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    curl::{Answer, Curl},
    daemon::{Daemon, Signal},
    imap::Dialogue,
    simplesaml::SimpleSaml,
    wait,
    world::{World, free_port, target_dir, write_secret},
};

/// The hostname of every gateway here; clients find it on loopback.
pub const HOST: &str = "mail.guichet.test";

/// What a gateway's file will say, collected by the story.
#[derive(Debug)]
pub struct Settings {
    dir: PathBuf,
    ports: Ports,
    /// Tables that a story may replace before the start.
    head: String,
    imap_listeners: String,
    limits: String,
    availability: String,
    log: String,
    parts: String,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    https: u16,
    http: u16,
    imaps: u16,
    imap: u16,
    management: u16,
}

impl Settings {
    /// A node with every listener on loopback, quick thresholds, no directory, cell or tenant yet.
    pub fn new(world: &World, name: &str) -> Self {
        let dir = world.folder(name);
        let ports = Ports {
            https: free_port(),
            http: free_port(),
            imaps: free_port(),
            imap: free_port(),
            management: free_port(),
        };
        let tls = dir.join("tls");
        std::fs::create_dir_all(&tls).expect("tls folder");
        world.pki().server_in(&tls, "main", &[HOST, "localhost", "127.0.0.1"]);
        write_secret(&dir.join("management.token"), "story-management-token-0123456789abcdef");
        let head = format!(
            r#"
[node]
name = "story"
state_dir = "state"
[public]
hostname = "{HOST}"
origin = "https://{HOST}:{https}"
certificates = "tls"
[management]
bind = "127.0.0.1:{management}"
token_file = "management.token"
[listener.web.https]
bind = ["127.0.0.1:{https}"]
[listener.redirect.http]
bind = ["127.0.0.1:{http}"]
"#,
            https = ports.https,
            http = ports.http,
            management = ports.management,
        );
        let imap_listeners = format!(
            "[listener.imap.imaps]\nbind = [\"127.0.0.1:{imaps}\"]\ntls = \"implicit\"\npublic_port = {imaps}\n\
             [listener.imap.imap]\nbind = [\"127.0.0.1:{imap}\"]\ntls = \"starttls\"\npublic_port = {imap}\n",
            imaps = ports.imaps,
            imap = ports.imap
        );
        Self {
            dir,
            ports,
            head,
            imap_listeners,
            limits: "[limits]\n".to_owned(),
            availability: "[availability]\nprobe_interval = \"1s\"\nprobe_interval_suspect = \"500ms\"\n\
                           probe_timeout = \"1s\"\nfailures_to_suspect = 1\nfailures_to_down = 2\ndown_after = \"1s\"\n\
                           veto = \"1s\"\nsuccesses_to_up = 3\nup_after = \"1s\"\ndwell = \"1s\"\n"
                .to_owned(),
            log: "[log]\nformat = \"json\"\nlevel = \"debug\"\n".to_owned(),
            parts: String::new(),
        }
    }

    /// Adds tables.
    #[must_use]
    pub fn with(mut self, tables: &str) -> Self {
        self.parts.push_str(tables);
        self.parts.push('\n');
        self
    }

    /// Adds keys to `[limits]`.
    #[must_use]
    pub fn limits(mut self, keys: &str) -> Self {
        self.limits.push_str(keys);
        self.limits.push('\n');
        self
    }

    /// Replaces `[availability]`'s keys.
    #[must_use]
    pub fn availability(mut self, keys: &str) -> Self {
        self.availability = format!("[availability]\n{keys}\n");
        self
    }

    /// Replaces the log level.
    #[must_use]
    pub fn log(mut self, format: &str, level: &str) -> Self {
        self.log = format!("[log]\nformat = \"{format}\"\nlevel = \"{level}\"\n");
        self
    }

    /// Every listener wants a PROXY header from these networks.
    #[must_use]
    pub fn proxy_from(mut self, networks: &str) -> Self {
        let keyed = |text: &str| {
            text.lines()
                .map(|l| {
                    if l.starts_with("bind = [") {
                        format!("{l}\nproxy_protocol.from = [{networks}]\n")
                    } else {
                        format!("{l}\n")
                    }
                })
                .collect::<String>()
        };
        self.head = keyed(&self.head);
        self.imap_listeners = keyed(&self.imap_listeners);
        self
    }

    /// `[saml]` with keys of its own; the entityID names this gateway's port, so that gateways may share an IdP.
    #[must_use]
    pub fn saml(self, world: &World, idp: &SimpleSaml) -> Self {
        self.saml_with(world, &idp.config())
    }

    /// The same with these `[federation.NAME]`.
    #[must_use]
    pub fn saml_with(self, world: &World, federations: &str) -> Self {
        let stem = self.dir.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        let signing = world.pki().saml(&format!("{stem}-signing"));
        let encryption = world.pki().saml(&format!("{stem}-encryption"));
        let tables = format!(
            "[saml]\nentity_id = \"https://{HOST}:{}/saml\"\n\
             signing = {{ certificate = \"{}\", key_file = \"{}\" }}\n\
             encryption = [{{ certificate = \"{}\", key_file = \"{}\" }}]\n{federations}",
            self.ports.https,
            signing.certificate.display(),
            signing.key.display(),
            encryption.certificate.display(),
            encryption.key.display(),
        );
        self.with(&tables)
    }

    /// A second node of the same service: a folder, ports and state of its own, everything else as the first, by whose
    /// address browsers and IdPs know the service.
    pub fn twin(&self, world: &World, name: &str) -> Self {
        let mut twin = Self::new(world, name);
        let origin = |ports: Ports| format!("origin = \"https://{HOST}:{}\"", ports.https);
        twin.head = twin.head.replace(&origin(twin.ports), &origin(self.ports));
        twin.limits.clone_from(&self.limits);
        twin.availability.clone_from(&self.availability);
        twin.log.clone_from(&self.log);
        twin.parts.clone_from(&self.parts);
        twin
    }

    /// Puts other tables in the place of some.
    #[must_use]
    pub fn instead(mut self, old: &str, new: &str) -> Self {
        assert!(self.parts.contains(old), "no such tables:\n{old}");
        self.parts = self.parts.replacen(old, new, 1);
        self
    }

    /// The whole file as text.
    pub fn text(&self) -> String {
        [&self.head, &self.imap_listeners, &self.limits, &self.availability, &self.log, &self.parts]
            .map(String::as_str)
            .join("\n")
    }

    /// A URL of the web listener to be.
    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.ports.https)
    }

    /// Folder of the file.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the file without starting anything; returns its path.
    pub fn write(&self) -> PathBuf {
        let path = self.dir.join("guichet.toml");
        std::fs::write(&path, self.text()).expect("config file");
        path
    }

    /// Writes the file, starts the gateway and waits until it is ready.
    pub fn start(self, world: &World) -> Gateway {
        let config = self.write();
        let daemon = run(&config);
        let mut gateway = Gateway { daemon, config, ports: self.ports, settings: self, ca: world.pki().ca() };
        gateway.wait_ready();
        gateway
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    daemon: Daemon,
    config: PathBuf,
    ports: Ports,
    settings: Settings,
    ca: PathBuf,
}

impl Gateway {
    /// A URL of the web listener.
    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.ports.https)
    }

    /// A URL of the web listener by another hostname.
    pub fn url_at(&self, hostname: &str, path: &str) -> String {
        format!("https://{hostname}:{}{path}", self.ports.https)
    }

    /// A URL of the plain listener.
    pub fn plain_url(&self, path: &str) -> String {
        format!("http://{HOST}:{}{path}", self.ports.http)
    }

    /// A URL of the management listener.
    pub fn management(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.management)
    }

    /// Port of HTTPS.
    pub fn https(&self) -> u16 {
        self.ports.https
    }

    /// Port of plain HTTP.
    pub fn http(&self) -> u16 {
        self.ports.http
    }

    /// Port of IMAP in TLS.
    pub fn imaps(&self) -> u16 {
        self.ports.imaps
    }

    /// Port of IMAP with STARTTLS.
    pub fn imap(&self) -> u16 {
        self.ports.imap
    }

    /// A raw dialogue on the IMAPS listener, its greeting read.
    pub fn imap_dialogue(&self) -> Dialogue {
        let mut dialogue = Dialogue::tls(self.ports.imaps, HOST, &self.ca);
        dialogue.expect("* OK");
        dialogue
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Waits until the log has such a line, and returns it.
    pub fn wait_log(&self, words: &str) -> String {
        wait::until(&format!("{words:?} in the gateway's log"), || {
            self.log().lines().find(|l| l.contains(words)).map(str::to_owned)
        })
    }

    /// Its metrics.
    pub fn metrics(&self) -> String {
        Curl::plain().get(&self.management("/metrics")).body
    }

    /// Sum of the samples of a metric whose labels contain all of `labels` (such as `reason="throttled"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.metrics()
            .lines()
            .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|l| labels.iter().all(|label| l.contains(label)))
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// `guichet ctl …` against it.
    pub fn ctl(&self, args: &[&str]) -> Output {
        Command::new(guichet())
            .arg("ctl")
            .arg("--config")
            .arg(&self.config)
            .args(args)
            .output()
            .expect("guichet ctl runs")
    }

    /// The lines of `ctl cell list` whose endpoint is not healthy.
    pub fn endpoints_down(&self) -> Vec<String> {
        let list = self.ctl_ok(&["cell", "list"]);
        list.lines().filter(|line| line.split_whitespace().nth(3) == Some("false")).map(str::to_owned).collect()
    }

    /// As [`Gateway::ctl`]; must succeed, returns what it printed.
    pub fn ctl_ok(&self, args: &[&str]) -> String {
        let output = self.ctl(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "ctl {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// State of a tenant's IdP as `guichet ctl idp list` says.
    pub fn idp_state(&self, tenant: &str) -> String {
        let list: serde_json::Value = serde_json::from_str(&self.ctl_ok(&["idp", "list", "--json"])).expect("JSON");
        let entry = list.as_array().into_iter().flatten().find(|e| e.get("tenant").is_some_and(|t| t == tenant));
        let state = entry.and_then(|e| e.get("state")).and_then(|s| s.as_str());
        state.unwrap_or_else(|| panic!("no state of {tenant} in {list}")).to_owned()
    }

    /// Waits until a tenant's IdP is in this state.
    pub fn wait_idp(&self, tenant: &str, state: &str) {
        wait::until(&format!("IdP of {tenant} {state}"), || (self.idp_state(tenant) == state).then_some(()));
    }

    /// `kill -9`, then a start with the same file and state.
    pub fn restart(&mut self) {
        self.daemon.kill();
        self.daemon = run(&self.config);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let ready = self.management("/readyz");
        self.daemon.wait_ready(|_| Curl::plain().try_get(&ready).filter(|a| a.status == 200));
    }

    /// Changes its file and has it read again, which must succeed.
    pub fn reload_with(&mut self, old: &str, new: &str) {
        let text = std::fs::read_to_string(&self.config).expect("config file");
        assert!(text.contains(old), "no such text:\n{old}");
        std::fs::write(&self.config, text.replacen(old, new, 1)).expect("config file");
        self.ctl_ok(&["reload"]);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Its file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its folder (`tls/`, `state/`, `tenants.d/`).
    pub fn dir(&self) -> &Path {
        self.settings.dir()
    }

    /// SP metadata it publishes, given to the IdP.
    pub fn register_at(&self, world: &World, idp: &SimpleSaml) -> Answer {
        let answer = self.sp_metadata(world);
        idp.register(&answer.body);
        answer
    }

    /// SP metadata it publishes.
    pub fn sp_metadata(&self, world: &World) -> Answer {
        let answer = Curl::trusting(world, HOST).get(&self.url("/saml/metadata"));
        assert_eq!(answer.status, 200, "SP metadata: {answer:?}");
        answer
    }
}

fn run(config: &Path) -> Daemon {
    let mut command = Command::new(guichet());
    command.arg("run").arg("-c").arg(config);
    Daemon::start("guichet", &command, config.parent().expect("a file in a folder"), None)
}

/// The binary under test, beside the folder of this test binary.
pub fn guichet() -> PathBuf {
    let path = target_dir().join("debug/guichet");
    assert!(path.exists(), "no {}: run `cargo build --bins` first, as tests/run does", path.display());
    path
}
