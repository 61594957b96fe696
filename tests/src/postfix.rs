//! Postfix as the submission cell: STARTTLS and implicit TLS, logins by a Dovecot, XCLIENT, mail for everybody in one Maildir.

use std::{path::PathBuf, process::Command};

use crate::{
    daemon::{Daemon, Signal},
    dovecot::Dovecot,
    wait,
    world::{World, free_port, listens, run, scratch},
};

/// A running Postfix with configuration, queue and data of its own; it has no service that could send mail elsewhere.
#[derive(Debug)]
pub struct Postfix {
    name: String,
    daemon: Daemon,
    /// Holds the scratch folder (queue, mail) over restarts, and ends it with the test process.
    _keeper: Daemon,
    command: Command,
    dir: PathBuf,
    submission: u16,
    submissions: u16,
    ca: PathBuf,
    mail: PathBuf,
}

/// How a gateway comes to the submission of a cell.
#[derive(Clone, Debug)]
pub struct Way {
    /// `implicit` or `starttls`.
    pub tls: &'static str,
    /// Authority that has to vouch for the cell.
    pub ca: PathBuf,
    /// Name that the cell's certificate has to hold.
    pub certified: String,
    /// How the cell learns the client's address.
    pub client_address: &'static str,
}

impl Postfix {
    /// Starts the submission service of the cell whose logins `logins` knows, under the cell's name.
    ///
    /// It takes bare line ends for good (`smtpd_forbid_bare_newline = no`): a cell that defends itself proves nothing
    /// about who stands in front of it.
    pub fn start(world: &World, logins: &Dovecot) -> Self {
        Self::start_as(world, logins, logins.name(), "")
    }

    /// As [`Postfix::start`], as a cell called `name`; `more` lines of `main.cf` win over the usual ones.
    pub fn start_as(world: &World, logins: &Dovecot, name: &str, more: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "Postfix starts as root only");
        let name = name.to_owned();
        let dir = world.folder(&format!("{name}-postfix"));
        let scratch = scratch();
        let mut keep = Command::new("sleep");
        keep.arg("infinity");
        let keeper = Daemon::start("scratch", &keep, &dir, Some(&scratch));
        let host = format!("{name}.cell.test");
        let files = world.pki().server(&format!("{name}-postfix"), &[&host, "localhost", "127.0.0.1"]);
        let (submission, submissions) = (free_port(), free_port());

        let (queue, data, mail) = (scratch.join("queue"), scratch.join("data"), scratch.join("mail"));
        for (folder, owner) in [(&queue, "root:root"), (&data, "postfix:root"), (&mail, "nobody:nogroup")] {
            std::fs::create_dir_all(folder).expect("postfix folder");
            run(Command::new("chown").arg(owner).arg(folder));
        }
        let id = |flag: &str| run(Command::new("id").args([flag, "nobody"])).trim().to_owned();
        std::fs::write(
            dir.join("main.cf"),
            format!(
                r#"
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
maillog_file = {dir}/mail.log
maillog_file_prefixes = {dir}
myhostname = {host}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
# Nothing is looked up, nothing leaves the machine.
disable_dns_lookups = yes
smtpd_peername_lookup = no
default_transport = error:nothing leaves this machine
relay_transport = error:nothing leaves this machine
mynetworks =
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
# Everybody's mail is in one Maildir, told apart by Delivered-To.
virtual_mailbox_domains = static:all
virtual_mailbox_base = {mail}
virtual_mailbox_maps = static:all/
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_chain_files = {key}, {crt}
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {sasl}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_forbid_bare_newline = no
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
{more}
"#,
                queue = queue.display(),
                data = data.display(),
                dir = dir.display(),
                mail = mail.display(),
                uid = id("-u"),
                gid = id("-g"),
                key = files.key.display(),
                crt = files.certificate.display(),
                sasl = logins.sasl().display(),
            ),
        )
        .expect("main.cf");
        std::fs::write(
            dir.join("master.cf"),
            format!(
                "127.0.0.1:{submission} inet n - n - - smtpd\n\
                 127.0.0.1:{submissions} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n{SERVICES}"
            ),
        )
        .expect("master.cf");
        // Makes the folders of the queue, with the rights they need.
        run(Command::new("postfix").arg("-c").arg(&dir).arg("check"));

        // Not `postfix start-fg`: its master leaves the process group, and would outlive the test.
        let daemons = run(Command::new("postconf").arg("-c").arg(&dir).args(["-h", "daemon_directory"]));
        let mut command = Command::new(PathBuf::from(daemons.trim()).join("master"));
        command.arg("-d").arg("-c").arg(&dir);
        let daemon = Daemon::start("postfix", &command, &dir, None);
        let ca = world.pki().ca();
        let mut cell = Self { name, daemon, _keeper: keeper, command, dir, submission, submissions, ca, mail };
        cell.daemon.wait_ready(|_| listens(submissions));
        cell
    }

    /// Port of submission with STARTTLS.
    pub fn submission(&self) -> u16 {
        self.submission
    }

    /// Port of submission in TLS.
    pub fn submissions(&self) -> u16 {
        self.submissions
    }

    /// `[cell.NAME.submission]` by STARTTLS, entered as master user, the client told by XCLIENT.
    pub fn config_master(&self, logins: &Dovecot) -> String {
        self.config(&self.name, &self.way("starttls")) + &logins.login_master("submission")
    }

    /// As [`Postfix::config_master`], but in TLS and with the password the user gave.
    pub fn config_password(&self) -> String {
        self.config_by(&self.name, &self.way("implicit"))
    }

    /// The usual way to it, `implicit` or `starttls`.
    pub fn way(&self, tls: &'static str) -> Way {
        let (ca, certified) = (self.ca.clone(), format!("{}.cell.test", self.name));
        Way { tls, ca, certified, client_address: "xclient" }
    }

    /// `[cell.CELL.submission]` by a way of the story's own, entered with the password the user gave.
    pub fn config_by(&self, cell: &str, way: &Way) -> String {
        self.config(cell, way) + &format!("[cell.{cell}.submission.login.password]\n")
    }

    fn config(&self, cell: &str, way: &Way) -> String {
        let Way { tls, ca, certified, client_address } = way;
        format!(
            r#"
[cell.{cell}.submission]
endpoints = ["127.0.0.1:{port}"]
client_address = "{client_address}"
health = {{ interval = "1s", timeout = "1s", failures = 2, successes = 1 }}
tls.{tls} = {{ ca = "{ca}", name = "{certified}" }}
"#,
            port = if *tls == "implicit" { self.submissions } else { self.submission },
            ca = ca.display(),
        )
    }

    /// Its log so far: who submitted, from which client address.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.join("mail.log")).unwrap_or_default()).into_owned()
    }

    /// Waits until the log has a line with all these words, and returns it.
    pub fn wait_log(&self, words: &[&str]) -> String {
        wait::until(&format!("{words:?} in the log of Postfix"), || {
            self.log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    }

    /// Every message delivered so far that holds `words`, each recipient's copy for itself.
    pub fn delivered(&self, words: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.mail.join("all/new")).into_iter().flatten();
        let files = entries.filter_map(|entry| std::fs::read(entry.ok()?.path()).ok());
        files.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).filter(|text| text.contains(words)).collect()
    }

    /// Waits until the queue is empty, so that what is not delivered now never will be.
    pub fn wait_settled(&self) {
        wait::until("the queue of Postfix is empty", || {
            let queue = run(Command::new("postqueue").arg("-c").arg(&self.dir).arg("-j"));
            queue.trim().is_empty().then_some(())
        });
    }

    /// Ends it (open sessions too); the ports stay its own.
    pub fn stop(&mut self) {
        self.daemon.signal(Signal::TERM);
        self.daemon.wait_exit();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.daemon = Daemon::start("postfix", &self.command, &self.dir, None);
        let submissions = self.submissions;
        self.daemon.wait_ready(|_| listens(submissions));
    }
}

/// Beside the two ports: what takes mail into the queue and from there into the Maildir.
const SERVICES: &str = "\
cleanup    unix       n - n -    0 cleanup
qmgr       unix       n - n 300  1 qmgr
tlsmgr     unix       - - n 1000 1 tlsmgr
rewrite    unix       - - n -    - trivial-rewrite
bounce     unix       - - n -    0 bounce
defer      unix       - - n -    0 bounce
trace      unix       - - n -    0 bounce
proxymap   unix       - - n -    - proxymap
showq      unix       n - n -    - showq
error      unix       - - n -    - error
retry      unix       - - n -    - error
virtual    unix       - n n -    - virtual
anvil      unix       - - n -    1 anvil
postlog    unix-dgram n - n -    1 postlogd
";
