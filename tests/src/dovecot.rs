//! Dovecot as a cell: IMAP, POP3 and ManageSieve with TLS, a master user, mail in Maildir.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    daemon::{Daemon, Signal},
    world::{World, free_port, listens, run, scratch, write_secret},
};

/// Name and password of the cell's master user.
pub const MASTER: (&str, &str) = ("guichet-master", "master-secret-4Rt");

/// A mailbox of a cell: address and the cell's own password for it.
pub type Mailbox<'a> = (&'a str, &'a str);

/// A running Dovecot.
#[derive(Debug)]
pub struct Dovecot {
    name: String,
    daemon: Daemon,
    /// Holds the scratch folder (sockets, mail) over restarts, and ends it with the test process.
    _keeper: Daemon,
    command: Command,
    dir: PathBuf,
    imap: u16,
    imaps: u16,
    pop3s: u16,
    sieve: u16,
    ca: PathBuf,
    mail: PathBuf,
    sasl: PathBuf,
    master_password: PathBuf,
}

impl Dovecot {
    /// Starts a cell called `name`, each mailbox holding one message that says where it is.
    pub fn start(world: &World, name: &str, mailboxes: &[Mailbox<'_>]) -> Self {
        let dir = world.folder(name);
        let scratch = scratch();
        let mut keep = Command::new("sleep");
        keep.arg("infinity");
        let keeper = Daemon::start("scratch", &keep, &dir, Some(&scratch));
        let files = world.pki().server(name, &[&format!("{name}.cell.test"), "localhost", "127.0.0.1"]);
        let (imap, imaps, pop3s, sieve) = (free_port(), free_port(), free_port(), free_port());
        let (owner, services) = owners();

        let mail = scratch.join("mail");
        std::fs::create_dir_all(&mail).expect("mail folder");
        fill(&mail, name, mailboxes);
        write_users(&dir, mailboxes);
        std::fs::write(dir.join("masters"), format!("{}:{{PLAIN}}{}\n", MASTER.0, MASTER.1)).expect("masters");
        let master_password = dir.join("master.password");
        write_secret(&master_password, MASTER.1);

        let sasl = scratch.join("sasl");
        let conf = dir.join("dovecot.conf");
        std::fs::write(
            &conf,
            format!(
                r#"
base_dir = {scratch}/run
state_dir = {scratch}/state
log_path = /dev/stderr
mail_debug = yes
auth_verbose = yes
protocols = imap pop3 sieve
listen = 127.0.0.1
ssl = required
ssl_cert = <{crt}
ssl_key = <{key}
disable_plaintext_auth = yes
auth_mechanisms = plain login
auth_master_user_separator = *
auth_failure_delay = 0
login_trusted_networks = 127.0.0.0/8
{services}
passdb {{
  driver = passwd-file
  args = username_format=%u {dir}/masters
  master = yes
  result_success = continue
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {dir}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={mail}/%u
}}
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_max_userip_connections = 10000
service imap-login {{
  chroot =
  process_min_avail = 1
  service_count = 0
  client_limit = 10000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 2000
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = 0
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service auth {{
  unix_listener {sasl} {{
    mode = 0666
  }}
}}
service managesieve-login {{
  chroot =
  inet_listener sieve {{
    port = {sieve}
  }}
}}
plugin {{
  sieve = file:~/sieve;active=~/.dovecot.sieve
}}
"#,
                scratch = scratch.display(),
                dir = dir.display(),
                crt = files.certificate.display(),
                key = files.key.display(),
                sasl = sasl.display(),
                mail = mail.display(),
                uid = owner_part(owner.as_deref(), "-u"),
                gid = owner_part(owner.as_deref(), "-g"),
            ),
        )
        .expect("dovecot.conf");

        let mut command = Command::new("/usr/sbin/dovecot");
        command.arg("-F").arg("-c").arg(&conf);
        let daemon = Daemon::start("dovecot", &command, &dir, None);
        let mut cell = Self {
            name: name.to_owned(),
            daemon,
            _keeper: keeper,
            command,
            dir,
            imap,
            imaps,
            pop3s,
            sieve,
            ca: world.pki().ca(),
            mail,
            sasl,
            master_password,
        };
        cell.daemon.wait_ready(|_| listens(imaps));
        cell
    }

    /// Name of the cell.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Socket where other servers of the cell ask for a login.
    pub fn sasl(&self) -> &Path {
        &self.sasl
    }

    /// Port of IMAP with STARTTLS.
    pub fn imap(&self) -> u16 {
        self.imap
    }

    /// Port of IMAP in TLS.
    pub fn imaps(&self) -> u16 {
        self.imaps
    }

    /// Port of POP3 in TLS.
    pub fn pop3s(&self) -> u16 {
        self.pop3s
    }

    /// `[cell.NAME.pop3]` and `[cell.NAME.sieve]`, entered as master, the client's address told by XCLIENT.
    pub fn config_more_master(&self) -> String {
        self.config_more() + &self.login_master("pop3") + &self.login_master("sieve")
    }

    /// `[cell.NAME.PROTOCOL.login.master]`.
    pub fn login_master(&self, protocol: &str) -> String {
        format!(
            "[cell.{}.{protocol}.login.master]\nusername = \"{}\"\npassword_file = \"{}\"\n",
            self.name,
            MASTER.0,
            self.master_password.display()
        )
    }

    /// As [`Dovecot::config_more_master`], but with the password the user gave.
    pub fn config_more(&self) -> String {
        format!(
            r#"
[cell.{name}.pop3]
endpoints = ["127.0.0.1:{pop3s}"]
client_address = "xclient"
health = {{ interval = "1s", timeout = "1s", failures = 2, successes = 1 }}
tls.implicit = {{ ca = "{ca}", name = "{name}.cell.test" }}
[cell.{name}.sieve]
endpoints = ["127.0.0.1:{sieve}"]
client_address = "xclient"
health = {{ interval = "1s", timeout = "1s", failures = 2, successes = 1 }}
tls.starttls = {{ ca = "{ca}", name = "{name}.cell.test" }}
"#,
            name = self.name,
            pop3s = self.pop3s,
            sieve = self.sieve,
            ca = self.ca.display(),
        )
    }

    /// `[cell.NAME.imap]` for implicit TLS, the gateway logging in as master, the endpoint at `port`.
    pub fn config_master(&self, port: u16) -> String {
        self.config(port) + &self.login_master("imap")
    }

    /// As [`Dovecot::config_master`], but with the password the user gave.
    pub fn config_password(&self, port: u16) -> String {
        format!("{}\n[cell.{}.imap.login.password]\n", self.config(port), self.name)
    }

    fn config(&self, port: u16) -> String {
        format!(
            r#"
[cell.{name}.imap]
endpoints = ["127.0.0.1:{port}"]
client_address = "id"
[cell.{name}.imap.health]
interval = "1s"
timeout = "1s"
failures = 2
successes = 1
[cell.{name}.imap.tls.implicit]
ca = "{ca}"
name = "{name}.cell.test"
"#,
            name = self.name,
            ca = self.ca.display(),
        )
    }

    /// Its log so far: who logged in, from which client address.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Folder of a mailbox.
    pub fn maildir(&self, address: &str) -> PathBuf {
        self.mail.join(address).join("Maildir")
    }

    /// Has these mailboxes from now on, and no others.
    pub fn set_mailboxes(&self, mailboxes: &[Mailbox<'_>]) {
        fill(&self.mail, &self.name, mailboxes);
        write_users(&self.dir, mailboxes);
    }

    /// Ends it (open sessions too); the ports stay its own.
    pub fn stop(&mut self) {
        self.daemon.signal(Signal::TERM);
        self.daemon.wait_exit();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.daemon = Daemon::start("dovecot", &self.command, &self.dir, None);
        let imaps = self.imaps;
        self.daemon.wait_ready(|_| listens(imaps));
    }
}

/// Makes each mailbox, with its one message.
fn fill(mail: &Path, name: &str, mailboxes: &[Mailbox<'_>]) {
    for (address, _) in mailboxes {
        for folder in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(mail.join(address).join("Maildir").join(folder)).expect("maildir");
        }
        let message = format!(
            "From: Guichet <guichet@cell.test>\r\nTo: <{address}>\r\nSubject: Bienvenue\r\n\
             Date: Tue, 24 Nov 2026 08:00:00 +0000\r\nMessage-ID: <welcome-{address}>\r\n\r\n\
             This mailbox of {address} is in cell {name}.\r\n"
        );
        std::fs::write(mail.join(address).join("Maildir/cur/1.welcome:2,"), message).expect("message");
    }
    if let (Some(owner), _) = owners() {
        run(Command::new("chown").args(["-R", &owner]).arg(mail));
    }
}

fn write_users(dir: &Path, mailboxes: &[Mailbox<'_>]) {
    let users: String = mailboxes.iter().map(|(address, password)| format!("{address}:{{PLAIN}}{password}\n")).collect();
    // In place of the old one at once: Dovecot reads it again when it is another file.
    let new = dir.join("users.new");
    std::fs::write(&new, users).expect("users");
    std::fs::rename(new, dir.join("users")).expect("users");
}

/// As root, mail belongs to `nobody` (Dovecot opens no mail as root); otherwise everything runs as the one user there is.
fn owners() -> (Option<String>, String) {
    if rustix::process::geteuid().is_root() {
        return (Some("nobody:nogroup".to_owned()), String::new());
    }
    let me = run(Command::new("id").arg("-un")).trim().to_owned();
    let group = run(Command::new("id").arg("-gn")).trim().to_owned();
    let services = format!(
        "default_internal_user = {me}\ndefault_internal_group = {group}\ndefault_login_user = {me}\n\
         service anvil {{\n  chroot =\n}}\nservice stats {{\n  chroot =\n}}\n"
    );
    (None, services)
}

fn owner_part(owner: Option<&str>, flag: &str) -> String {
    let mut command = Command::new("id");
    command.arg(flag);
    if let Some((user, _)) = owner.and_then(|o| o.split_once(':')) {
        command.arg(user);
    }
    run(&mut command).trim().to_owned()
}

/// The message that [`Dovecot::start`] put into a mailbox ends with this line.
pub fn welcome(address: &str, cell: &str) -> String {
    format!("This mailbox of {address} is in cell {cell}.")
}
