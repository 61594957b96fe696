//! The proxies as processes: found, configured, started on their core, ended.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{Bed, Options};
use crate::client::ImapClient;

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The cell itself, without TLS and without anyone between.
    Direct,
    Guichet,
    Haproxy,
    Nginx,
}

/// What is known of one before it runs.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) kind: Kind,
    /// `None`: absent.
    pub(super) version: Option<String>,
    /// What it does at a login, or why it is absent.
    pub(super) note: String,
}

impl Kind {
    /// Those that are processes.
    pub(super) const ALL: [Self; 3] = [Self::Guichet, Self::Haproxy, Self::Nginx];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Guichet => "guichet",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it is installed.
    pub(super) fn look(self, options: &Options) -> Found {
        let (command, flag) = match self {
            Self::Direct | Self::Guichet => (options.gateway.as_path(), "--version"),
            Self::Haproxy => (Path::new("haproxy"), "-v"),
            Self::Nginx => (Path::new("nginx"), "-V"),
        };
        let absent = |note: String| Found { kind: self, version: None, note };
        let Ok(output) = plain(command).arg(flag).output() else {
            return absent(format!("{} is not installed", command.display()));
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if self == Self::Nginx && mail_module(&said).is_none() {
            return absent("its mail module is not installed (Debian: libnginx-mod-mail)".to_owned());
        }
        let version = said.lines().next().unwrap_or_default().trim().to_owned();
        Found { kind: self, version: Some(version), note: self.note().to_owned() }
    }

    fn note(self) -> &'static str {
        match self {
            Self::Direct => "no TLS, nobody between",
            Self::Guichet => {
                "checks the password in its cache, places the user, tells the cell the client's address, logs in at the cell"
            }
            Self::Haproxy => "ends TLS and passes bytes on: it authenticates nobody and routes by nothing",
            Self::Nginx => "asks auth_http at each login (a small server in the client's process), logs in at the cell",
        }
    }
}

/// A running proxy. Dropping it ends its processes.
#[derive(Debug)]
pub(super) struct Proxy {
    child: Child,
}

impl Proxy {
    /// Starts one and waits until it greets.
    pub(super) async fn start(bed: &Bed, kind: Kind, options: &Options) -> anyhow::Result<Self> {
        let file = |name: &str| bed.folder.path(name).display().to_string();
        let mut command = Command::new("taskset");
        command.arg("-c").arg(options.core_proxy.to_string());
        match kind {
            Kind::Direct => bail!("the cell runs already"),
            Kind::Guichet => {
                bed.folder.write("guichet.toml", &guichet(bed))?;
                command.arg(&options.gateway).args(["run", "-c", &file("guichet.toml")]);
            }
            Kind::Haproxy => {
                bed.folder.write("haproxy.cfg", &haproxy(bed))?;
                command.args(["haproxy", "-db", "-f", &file("haproxy.cfg")]);
            }
            Kind::Nginx => {
                bed.folder.write("nginx.conf", &nginx(bed)?)?;
                command.args([
                    "nginx",
                    "-e",
                    "stderr",
                    "-p",
                    &file(""),
                    "-c",
                    &file("nginx.conf"),
                    "-g",
                    "daemon off;",
                ]);
            }
        }
        command.env("PATH", search_path());
        let log = bed.folder.path(&format!("{}.log", kind.name()));
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut proxy = Self { child: command.spawn().context("taskset does not start")? };
        let deadline = Instant::now() + START_MAX;
        loop {
            let greeted = ImapClient::connect_to(bed.front, &bed.tls).await;
            match greeted {
                Ok(client) => {
                    client.logout().await?;
                    return Ok(proxy);
                }
                Err(_) if Instant::now() < deadline && proxy.child.try_wait()?.is_none() => sleep(AGAIN).await,
                Err(error) => {
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    bail!("it does not greet ({error}). Its log, {}:\n{}", log.display(), said.trim());
                }
            }
        }
    }

    /// Its processes: the one that was started and its workers.
    pub(super) fn pids(&self) -> Vec<u32> {
        let first = self.child.id();
        std::iter::once(first).chain(children(first)).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let workers = children(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in workers.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|candidate| {
            let stat = std::fs::read_to_string(format!("/proc/{candidate}/stat")).unwrap_or_default();
            // The name in brackets may hold spaces; the parent is the second field after it (proc(5)).
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
            parent == Some(pid)
        })
        .collect()
}

fn plain(command: &Path) -> Command {
    let mut plain = Command::new(command);
    plain.env("PATH", search_path()).stdin(Stdio::null());
    plain
}

/// Servers live where the path of a plain user does not lead.
fn search_path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn guichet(bed: &Bed) -> String {
    let Bed { front, management, cell, institution, .. } = bed;
    format!(
        r#"[node]
name = "peers"
state_dir = "state"
workers = 1

[public]
hostname = "localhost"
certificates = "tls"

[management]
bind = "{management}"
token_file = "secrets/management.token"

[log]
level = "warn"

[listener.imap.imaps]
bind = ["{front}"]

[directory.embedded]
file = "users.toml"

[limits]
connections_max = 1000000
connections_per_source = 1000000
connections_per_source_rate = 1000000
sessions_per_user = 1000000
sessions_per_user_source = 1000000

[cell.{name}.imap]
endpoints = ["{cell}"]

[tenant.{id}]
name.fr = "{name_fr}"
domains = ["{domain}"]
cell = "{name}"
"#,
        id = institution.id,
        name = institution.cell,
        name_fr = institution.name_fr,
        domain = institution.domain,
    )
}

fn haproxy(bed: &Bed) -> String {
    // Without maxconn it is computed from the limit of open files, which may be absurd.
    format!(
        "global\n  nbthread 1\n  maxconn {}\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend imaps\n  bind {} ssl crt {}\n  default_backend cell\n\
         backend cell\n  server cell {}\n",
        bed.connections_max,
        bed.front,
        bed.folder.path("haproxy.pem").display(),
        bed.cell,
    )
}

fn nginx(bed: &Bed) -> anyhow::Result<String> {
    let output = plain(Path::new("nginx")).arg("-V").output().context("nginx -V")?;
    let module = mail_module(&String::from_utf8_lossy(&output.stderr)).context("nginx has no mail module")?;
    let load = module.map(|path| format!("load_module {};\n", path.display())).unwrap_or_default();
    let file = |name: &str| bed.folder.path(name).display().to_string();
    Ok(format!(
        "{load}worker_processes 1;\nworker_rlimit_nofile {files};\npid {pid};\nerror_log stderr error;\n\
         events {{\n  worker_connections {files};\n}}\n\
         mail {{\n  server_name localhost;\n  auth_http {auth_http}/;\n  imap_auth plain login;\n  timeout 1h;\n  proxy_timeout 1h;\n\
         \x20 server {{\n    listen {front} ssl;\n    protocol imap;\n    ssl_certificate {certificate};\n    ssl_certificate_key {key};\n\
         \x20   ssl_protocols TLSv1.3;\n  }}\n}}\n",
        files = bed.connections_max * 2,
        pid = file("nginx.pid"),
        auth_http = bed.auth_http,
        front = bed.front,
        certificate = file("tls/localhost.crt"),
        key = file("tls/localhost.key"),
    ))
}

/// From what `nginx -V` says: no mail module, one that is built in, or one to load.
fn mail_module(said: &str) -> Option<Option<PathBuf>> {
    let options: Vec<&str> = said.split_whitespace().collect();
    if options.contains(&"--with-mail") {
        return Some(None);
    }
    let folder = options.iter().find_map(|option| option.strip_prefix("--modules-path="))?;
    let module = Path::new(folder).join("ngx_mail_module.so");
    (options.contains(&"--with-mail=dynamic") && module.exists()).then_some(Some(module))
}

const START_MAX: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mail_module_is_built_in_loaded_or_missing() {
        assert_eq!(mail_module("configure arguments: --with-mail --with-x"), Some(None));
        assert_eq!(mail_module("--modules-path=/nowhere --with-mail=dynamic"), None);
        assert_eq!(mail_module("--with-http_ssl_module"), None);
    }

    #[tokio::test]
    async fn the_gateway_takes_its_configuration() {
        // Another test may have been first: the provider is the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dir: dir.path().to_owned(), ..Options::of_tests() };
        let bed = Bed::new(&options).await.unwrap();
        bed.folder.write("guichet.toml", &guichet(&bed)).unwrap();
        let checked = guichet_config::load(&bed.folder.path("guichet.toml"));
        assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }

    #[test]
    fn a_child_is_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
