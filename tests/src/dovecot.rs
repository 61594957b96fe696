//! Dovecot as a cell: IMAP, POP3 and ManageSieve with TLS, a master user, mail in Maildir.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    daemon::{Daemon, Signal},
    maildir::Message,
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
    owner: Owner,
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
        let owner = Owner::of_mail();
        let services = owner.services();

        let mail = scratch.join("mail");
        std::fs::create_dir_all(&mail).expect("mail folder");
        owner.give(&mail);
        std::fs::write(dir.join("users"), "").expect("users");
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
                uid = owner.uid,
                gid = owner.gid,
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
            owner,
            sasl,
            master_password,
        };
        for (address, password) in mailboxes {
            cell.add_mailbox(address, password);
        }
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

    /// Opens a mailbox, which holds one message that says where it is.
    pub fn add_mailbox(&self, address: &str, password: &str) {
        let welcome = format!(
            "From: Guichet <guichet@cell.test>\r\nTo: <{address}>\r\nSubject: Bienvenue\r\n\
             Date: Tue, 24 Nov 2026 08:00:00 +0000\r\nMessage-ID: <welcome-{address}>\r\n\r\n{}\r\n",
            welcome(address, &self.name)
        );
        self.owner.give(&make(&self.mail.join(address)));
        self.store(address, "", "1.welcome", &Message { bytes: welcome.into_bytes(), flags: String::new() });
        let users = std::fs::File::options().append(true).open(self.dir.join("users"));
        users.and_then(|mut users| writeln!(users, "{address}:{{PLAIN}}{password}")).expect("users");
    }

    /// Knows a user no more, in a second at most.
    pub fn forget_user(&self, address: &str) {
        let file = self.dir.join("users");
        let users = std::fs::read_to_string(&file).expect("users");
        let start = format!("{address}:");
        let kept = users.lines().filter(|line| !line.starts_with(&start)).map(|line| format!("{line}\n"));
        std::fs::write(&file, kept.collect::<String>()).expect("users");
    }

    /// Makes a folder of a mailbox (Maildir++: `""` is INBOX, `.` parts the levels, the rest in modified UTF-7).
    pub fn add_folder(&self, address: &str, folder: &str) -> PathBuf {
        let inbox = self.maildir(address);
        let dir = if folder.is_empty() { inbox } else { inbox.join(format!(".{folder}")) };
        for part in ["", "cur", "new", "tmp"] {
            self.owner.give(&make(&dir.join(part)));
        }
        dir
    }

    /// Puts a message into a folder, under a name of its own.
    pub fn store(&self, address: &str, folder: &str, name: &str, message: &Message) {
        let dir = self.add_folder(address, folder);
        let new = dir.join("tmp").join(name);
        std::fs::write(&new, &message.bytes).expect("message");
        self.owner.give(&new);
        std::fs::rename(new, dir.join("cur").join(format!("{name}:2,{}", message.flags))).expect("delivered");
    }

    /// Folder of a mailbox.
    pub fn maildir(&self, address: &str) -> PathBuf {
        self.mail.join(address).join("Maildir")
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

/// Whose the mail is. As root, `nobody`'s (Dovecot opens no mail as root); otherwise everything runs as the one user there is.
#[derive(Debug)]
struct Owner {
    root: bool,
    uid: u32,
    gid: u32,
}

impl Owner {
    fn of_mail() -> Self {
        let root = rustix::process::geteuid().is_root();
        let id = |flag: &str| {
            let mut command = Command::new("id");
            command.arg(flag).args(root.then_some("nobody"));
            run(&mut command).trim().parse().expect("a number")
        };
        Self { root, uid: id("-u"), gid: id("-g") }
    }

    fn give(&self, path: &Path) {
        if self.root {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).expect("chown");
        }
    }

    /// Dovecot's own users, where there is no root to change to them.
    fn services(&self) -> String {
        if self.root {
            return String::new();
        }
        let me = run(Command::new("id").arg("-un")).trim().to_owned();
        let group = run(Command::new("id").arg("-gn")).trim().to_owned();
        format!(
            "default_internal_user = {me}\ndefault_internal_group = {group}\ndefault_login_user = {me}\n\
             service anvil {{\n  chroot =\n}}\nservice stats {{\n  chroot =\n}}\n"
        )
    }
}

fn make(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).expect("mail folder");
    dir.to_owned()
}

/// The message that [`Dovecot::start`] put into a mailbox ends with this line.
pub fn welcome(address: &str, cell: &str) -> String {
    format!("This mailbox of {address} is in cell {cell}.")
}
