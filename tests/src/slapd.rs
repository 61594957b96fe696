//! OpenLDAP: the internal directory of a story, with password policy and StartTLS.

use std::{path::PathBuf, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    daemon::{Daemon, Signal},
    world::{World, free_port, listens, run, run_with_input, write_secret},
};

/// Suffix of everything in it.
pub const BASE: &str = "dc=guichet,dc=test";
/// Who may search.
const READER: &str = "cn=reader,dc=guichet,dc=test";
const READER_PASSWORD: &str = "reader-secret-7Kq";
const ROOT: &str = "cn=root,dc=guichet,dc=test";
const ROOT_PASSWORD: &str = "root-secret-9Xw";

/// A running `slapd`. Refuses binds without TLS.
#[derive(Debug)]
pub struct Slapd {
    daemon: Daemon,
    port: u16,
    ca: PathBuf,
    password_file: PathBuf,
    command: Command,
    dir: PathBuf,
}

impl Slapd {
    /// Starts one with an empty `ou=people`.
    pub fn start(world: &World) -> Self {
        let dir = world.folder("slapd");
        std::fs::create_dir_all(dir.join("data")).expect("data folder");
        let files = world.pki().server("slapd", &["localhost", "127.0.0.1"]);
        let port = free_port();
        let conf = dir.join("slapd.conf");
        std::fs::write(dir.join("guichet.schema"), SCHEMA).expect("schema");
        std::fs::write(
            &conf,
            format!(
                "include /etc/ldap/schema/core.schema\n\
                 include /etc/ldap/schema/cosine.schema\n\
                 include /etc/ldap/schema/inetorgperson.schema\n\
                 include {dir}/guichet.schema\n\
                 modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload ppolicy\n\
                 pidfile {dir}/slapd.pid\nargsfile {dir}/slapd.args\n\
                 TLSCACertificateFile {ca}\nTLSCertificateFile {crt}\nTLSCertificateKeyFile {key}\nTLSVerifyClient never\n\
                 security simple_bind=128\n\
                 database mdb\nsuffix {BASE}\nrootdn {ROOT}\nrootpw {ROOT_PASSWORD}\ndirectory {dir}/data\nmaxsize 16777216\n\
                 index objectClass,mail eq\n\
                 overlay ppolicy\nppolicy_default cn=policy,{BASE}\nppolicy_hash_cleartext\nppolicy_use_lockout\n\
                 access to attrs=userPassword by anonymous auth by * none\n\
                 access to * by dn.exact={READER} read by self read by anonymous auth by * none\n",
                dir = dir.display(),
                ca = world.pki().ca().display(),
                crt = files.certificate.display(),
                key = files.key.display(),
            ),
        )
        .expect("slapd.conf");
        let password_file = dir.join("reader.password");
        write_secret(&password_file, READER_PASSWORD);

        let mut command = Command::new("/usr/sbin/slapd");
        command.arg("-f").arg(&conf).args(["-d", "stats", "-h"]).arg(format!("ldap://127.0.0.1:{port}"));
        let daemon = Daemon::start("slapd", &command, &dir, None);
        let mut slapd = Self { daemon, port, ca: world.pki().ca(), password_file, command, dir };
        slapd.daemon.wait_ready(|slapd| slapd.log().contains("slapd starting").then(|| listens(port)).flatten());
        slapd.modify(&format!(
            "dn: {BASE}\nchangetype: add\nobjectClass: dcObject\nobjectClass: organization\no: Guichet\ndc: guichet\n\n\
             dn: {READER}\nchangetype: add\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
             cn: reader\nuserPassword: {READER_PASSWORD}\n\n\
             dn: cn=policy,{BASE}\nchangetype: add\nobjectClass: pwdPolicy\nobjectClass: device\ncn: policy\n\
             pwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 100\n\n\
             dn: ou=people,{BASE}\nchangetype: add\nobjectClass: organizationalUnit\nou: people\n"
        ));
        slapd
    }

    /// `ldap://…`, to be upgraded by StartTLS.
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The gateway's `[directory.ldap]` for it, reached at `port` (its own, or a relay's).
    pub fn config(&self, port: u16) -> String {
        format!(
            r#"
[directory.ldap]
urls = ["ldap://127.0.0.1:{port}"]
base = "ou=people,{BASE}"
bind_dn = "{READER}"
password_file = "{password}"
tls_ca = "{ca}"
address_attributes = ["mail"]
cell_attribute = "guichetCell"
category_attribute = "guichetCategory"
category_staff = ["staff"]
status_attribute = "guichetStatus"
status_active = ["active"]
timeout_connect = "1s"
timeout_request = "2s"
"#,
            password = self.password_file.display(),
            ca = self.ca.display(),
        )
    }

    /// Adds a user; `facts` are more LDIF lines such as `guichetCell: beta`.
    pub fn add_user(&self, address: &str, password: &str, facts: &[&str]) {
        let facts = facts.iter().map(|f| format!("{f}\n")).collect::<String>();
        let status = if facts.contains("guichetStatus:") { "" } else { "guichetStatus: active\n" };
        let (uid, _) = address.split_once('@').expect("an address");
        self.modify(&format!(
            "dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: guichetAccount\n\
             uid: {uid}\ncn: {uid}\nsn: {uid}\nmail: {address}\nuserPassword:: {password}\n{status}{facts}",
            password = STANDARD.encode(password),
            dn = Self::dn(address),
        ));
    }

    /// Locks an account, as the policy does after too many failures.
    pub fn lock(&self, address: &str) {
        self.modify(&format!(
            "dn: {}\nchangetype: modify\nreplace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n",
            Self::dn(address)
        ));
    }

    /// Names another cell for a user.
    pub fn set_cell(&self, address: &str, cell: &str) {
        self.modify(&format!(
            "dn: {}\nchangetype: modify\nreplace: guichetCell\nguichetCell: {cell}\n",
            Self::dn(address)
        ));
    }

    /// Gives a user a new password.
    pub fn set_password(&self, address: &str, password: &str) {
        self.modify(&format!(
            "dn: {}\nchangetype: modify\nreplace: userPassword\nuserPassword:: {}\n",
            Self::dn(address),
            STANDARD.encode(password)
        ));
    }

    /// Asks the server itself who a password is, by `ldapwhoami` over StartTLS.
    pub fn whoami(&self, address: &str, password: &str) -> Result<String, String> {
        let output = self.client("ldapwhoami", &Self::dn(address), password).output().expect("ldapwhoami runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Freezes it: connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.daemon.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.daemon.signal(Signal::CONT);
    }

    /// Kills it; data and port stay.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.daemon = Daemon::start("slapd", &self.command, &self.dir, None);
        let port = self.port;
        self.daemon.wait_ready(|_| listens(port));
    }

    /// How many binds it has seen, by its own log.
    pub fn binds(&self, address: &str) -> usize {
        let dn = format!("BIND dn=\"{}\" method", Self::dn(address));
        self.daemon.log().lines().filter(|l| l.contains(&dn)).count()
    }

    fn dn(address: &str) -> String {
        // The whole address names the entry: two tenants may have the same local part.
        format!("mail={address},ou=people,{BASE}")
    }

    fn modify(&self, ldif: &str) {
        let output = run_with_input(&mut self.client("ldapmodify", ROOT, ROOT_PASSWORD), ldif.as_bytes());
        assert!(output.status.success(), "ldapmodify: {}\n{ldif}", String::from_utf8_lossy(&output.stderr));
    }

    fn client(&self, program: &str, dn: &str, password: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LDAPTLS_CACERT", &self.ca).env("LDAPCONF", "/dev/null");
        command.args(["-x", "-ZZ", "-H"]).arg(self.url()).args(["-D", dn, "-w", password]);
        command
    }

    /// Runs a search as the gateway's account, to look at what is stored.
    pub fn search(&self, filter: &str) -> String {
        run(self.client("ldapsearch", READER, READER_PASSWORD).args(["-LLL", "-b", BASE, filter]))
    }
}

/// Where a directory says which cell and category a user has, and whether the account is on. Numbers are from
/// OpenLDAP's arc for experiments.
const SCHEMA: &str = "\
attributetype ( 1.3.6.1.4.1.4203.666.1.990.1 NAME 'guichetCell' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.1.990.2 NAME 'guichetCategory' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.1.990.3 NAME 'guichetStatus' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.3.990.1 NAME 'guichetAccount' SUP top AUXILIARY MAY ( guichetCell $ guichetCategory $ guichetStatus ) )
";
