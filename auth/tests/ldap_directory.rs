//! The LDAP directory against a real OpenLDAP: each answer falls into its class, and outages pass.
//!
//! Needs `/usr/sbin/slapd` (Debian package `slapd`), started here on a loopback port with a configuration of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use guichet_auth::directory::{Account, Directory, Identified, Ldap, Lookup, Question, Verdict};
use guichet_config::{Address, Category, Domain, Secret};

const READER: &str = "cn=reader,dc=guichet,dc=test";

/// A running `slapd` and its folder.
struct Slapd {
    dir: tempfile::TempDir,
    port: u16,
    tls_port: u16,
    child: Option<Child>,
}

impl Slapd {
    fn start() -> Self {
        // A failing test shows what the directory logged.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        certificates(dir.path());
        let path = dir.path().display();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "slapd.conf",
            format!(
                "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
                 include /etc/ldap/schema/inetorgperson.schema\n\
                 modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload ppolicy\npidfile {path}/slapd.pid\n\
                 TLSCACertificateFile {path}/ca.pem\nTLSCertificateFile {path}/server.pem\n\
                 TLSCertificateKeyFile {path}/server.key\n\
                 database mdb\nsuffix dc=guichet,dc=test\nrootdn cn=root,dc=guichet,dc=test\nrootpw root\n\
                 directory {path}/data\nmaxsize 16777216\nindex objectClass,mail eq\n\
                 overlay ppolicy\nppolicy_default cn=policy,dc=guichet,dc=test\nppolicy_use_lockout\n\
                 access to attrs=userPassword by anonymous auth by * none\n\
                 access to * by dn.exact={READER} read by anonymous auth by * none\n"
            ),
        );
        write("users.ldif", USERS.to_owned());
        let added = Command::new("/usr/sbin/slapadd")
            .arg("-f")
            .arg(dir.path().join("slapd.conf"))
            .arg("-l")
            .arg(dir.path().join("users.ldif"))
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let mut slapd = Self { dir, port: free_port(), tls_port: free_port(), child: None };
        slapd.run();
        slapd
    }

    fn run(&mut self) {
        let mut child = Command::new("/usr/sbin/slapd")
            .arg("-f")
            .arg(self.dir.path().join("slapd.conf"))
            .args(["-d", "stats", "-h"])
            .arg(format!("ldap://127.0.0.1:{} ldaps://127.0.0.1:{}", self.port, self.tls_port))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(log.by_ref().any(|line| line.unwrap().contains("slapd starting")), "slapd does not start");
        std::thread::spawn(move || log.for_each(drop));
        self.child = Some(child);
        // It says so a moment before it listens.
        let start = std::time::Instant::now();
        while [self.port, self.tls_port].iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
            assert!(start.elapsed() < Duration::from_secs(30), "slapd does not listen");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// `STOP` or `CONT`.
    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> guichet_config::Ldap {
        guichet_config::Ldap {
            urls: vec![format!("ldap://localhost:{}", self.port)],
            base: "ou=people,dc=guichet,dc=test".into(),
            bind_dn: READER.into(),
            password: Secret::new("reader".into()),
            start_tls: true,
            tls_ca: Some(self.file("ca.pem")),
            address_attributes: vec!["mail".into(), "registeredAddress".into()],
            cell_attribute: Some("departmentNumber".into()),
            category_attribute: Some("employeeType".into()),
            category_staff: vec!["staff".into()],
            status_attribute: Some("businessCategory".into()),
            status_active: vec!["active".into()],
            timeout_connect: Duration::from_secs(2),
            timeout_request: Duration::from_secs(2),
            connections_max: 4,
        }
    }

    fn directory(&self, change: impl FnOnce(&mut guichet_config::Ldap)) -> Ldap {
        let mut config = self.config();
        change(&mut config);
        Ldap::new(&config).unwrap()
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn certificates(dir: &Path) {
    for (ca, names) in [("ca.pem", &["localhost"][..]), ("other-ca.pem", &[])] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer_certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(ca), issuer_certificate.pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        for name in names {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![(*name).to_owned(), "127.0.0.1".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.join("server.pem"), certificate.pem()).unwrap();
            std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
        }
    }
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

async fn ask(directory: &Ldap, user: &str, password: &str) -> Verdict {
    directory.verify(&address(user), &Secret::new(password.to_owned())).await
}

fn alice() -> Account {
    Account {
        address: address("alice@univ-a.example"),
        category: Some(Category::Staff),
        cell: Some("beta".parse().unwrap()),
        active: true,
    }
}

#[tokio::test]
async fn every_answer_falls_into_its_class() {
    let slapd = Slapd::start();
    let directory = slapd.directory(|_| {});
    assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));
    assert_eq!(ask(&directory, "alice.alias@univ-a.example", "right é").await, Verdict::Valid(alice()));
    let Verdict::Valid(bob) = ask(&directory, "bob@univ-a.example", "right").await else { panic!() };
    assert_eq!((bob.category, bob.cell), (Some(Category::Student), None));
    for (user, password) in [
        ("alice@univ-a.example", "wrong"),
        ("alice@univ-a.example", ""),
        ("nobody@univ-a.example", "right"),
        ("*@univ-a.example", "right"),
        ("a*e@univ-a.example", "right é"),
        ("locked.not@univ-a.example", "right"),
        ("off@univ-a.example", "wrong"),
        ("passwordless@univ-a.example", "right"),
    ] {
        assert_eq!(ask(&directory, user, password).await, Verdict::BadCredential, "{user} {password}");
    }
    assert_eq!(ask(&directory, "off@univ-a.example", "right").await, Verdict::AccountRefused);
    assert_eq!(ask(&directory, "locked@univ-a.example", "right").await, Verdict::AccountRefused);
    assert_eq!(ask(&directory, "twin@univ-a.example", "right").await, Verdict::Unavailable);

    assert_eq!(directory.lookup(&address("alice.alias@univ-a.example")).await, Lookup::Found(alice()));
    let off = directory.lookup(&address("off@univ-a.example")).await;
    assert!(matches!(off, Lookup::Found(account) if !account.active));
    let locked = directory.lookup(&address("locked@univ-a.example")).await;
    assert!(matches!(locked, Lookup::Found(account) if !account.active), "no bind was needed to know");
    assert_eq!(directory.lookup(&address("nobody@univ-a.example")).await, Lookup::Unknown);
    assert_eq!(directory.lookup(&address("twin@univ-a.example")).await, Lookup::Unavailable);
}

#[tokio::test]
async fn what_an_idp_calls_a_user_is_one_account_of_the_tenant_or_nobodys() {
    let slapd = Slapd::start();
    let directory = slapd.directory(|_| {});
    let (ours, others) = (["univ-a.example".parse().unwrap()], ["univ-b.example".parse().unwrap()]);
    let tenant = "univ-a".parse().unwrap();
    let ask = async |domains: &[Domain], attribute: &str, value: &str| {
        directory.identify(Question { tenant: &tenant, domains, attribute: Some(attribute), value }).await
    };
    assert_eq!(ask(&ours, "uid", "alice").await, Identified::One(alice()));
    assert_eq!(ask(&others, "uid", "alice").await, Identified::Unknown, "an account of another tenant");
    for value in ["nobody", "*", "al*", "alice)(uid=bob", "\\2a", "alice\0"] {
        assert_eq!(ask(&ours, "uid", value).await, Identified::Unknown, "{value}");
    }
    assert_eq!(ask(&ours, "businessCategory", "active").await, Identified::Several);
    slapd.signal("STOP");
    assert_eq!(ask(&ours, "uid", "alice").await, Identified::Unavailable);
    slapd.signal("CONT");
}

#[tokio::test]
async fn a_bind_lends_no_identity_to_a_search() {
    let slapd = Slapd::start();
    let directory = slapd.directory(|config| config.connections_max = 1);
    // Users may read nothing: a search on a connection bound as one would find nobody.
    for _ in 0..20 {
        assert_eq!(ask(&directory, "bob@univ-a.example", "wrong").await, Verdict::BadCredential);
        assert!(matches!(ask(&directory, "bob@univ-a.example", "right").await, Verdict::Valid(_)));
        assert_eq!(directory.lookup(&address("alice@univ-a.example")).await, Lookup::Found(alice()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_logins_at_once_share_few_connections() {
    let slapd = Slapd::start();
    let directory = std::sync::Arc::new(slapd.directory(|_| {}));
    let logins: Vec<_> = (0..100)
        .map(|number| {
            let directory = std::sync::Arc::clone(&directory);
            tokio::spawn(async move {
                let password = if number % 2 == 0 { "right" } else { "wrong" };
                (number, ask(&directory, "bob@univ-a.example", password).await)
            })
        })
        .collect();
    for login in logins {
        let (number, verdict) = login.await.unwrap();
        assert_eq!(matches!(verdict, Verdict::Valid(_)), number % 2 == 0, "{number}: {verdict:?}");
        assert_eq!(verdict == Verdict::BadCredential, number % 2 == 1);
    }
}

#[tokio::test]
async fn tls_is_proven_by_our_roots() {
    let slapd = Slapd::start();
    let ldaps = format!("ldaps://localhost:{}", slapd.tls_port);
    let over_tls = slapd.directory(|config| (config.urls, config.start_tls) = (vec![ldaps.clone()], false));
    assert_eq!(ask(&over_tls, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));
    let plain = slapd.directory(|config| (config.tls_ca, config.start_tls) = (None, false));
    assert_eq!(ask(&plain, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));

    let foreign = slapd.directory(|config| config.tls_ca = Some(slapd.file("other-ca.pem")));
    assert_eq!(ask(&foreign, "alice@univ-a.example", "right é").await, Verdict::Unavailable);
    let foreign = slapd.directory(|config| {
        (config.urls, config.start_tls, config.tls_ca) = (vec![ldaps], false, Some(slapd.file("other-ca.pem")));
    });
    assert_eq!(ask(&foreign, "alice@univ-a.example", "right é").await, Verdict::Unavailable);
    let mut config = slapd.config();
    for unusable in ["missing.pem", "slapd.conf", "server.key"] {
        config.tls_ca = Some(slapd.file(unusable));
        assert!(Ldap::new(&config).is_err(), "{unusable}");
    }
}

#[tokio::test]
async fn a_wrong_setup_is_an_outage_and_never_a_wrong_password() {
    let slapd = Slapd::start();
    let no_base = slapd.directory(|config| config.base = "ou=missing,dc=guichet,dc=test".into());
    let no_reader = slapd.directory(|config| config.password = Secret::new("wrong".into()));
    let nobody_there = slapd.directory(|config| config.urls = vec![format!("ldap://localhost:{}", free_port())]);
    for directory in [no_base, no_reader, nobody_there] {
        assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Unavailable);
        assert_eq!(directory.lookup(&address("alice@univ-a.example")).await, Lookup::Unavailable);
    }
}

#[tokio::test]
async fn the_second_server_answers_for_the_first() {
    let slapd = Slapd::start();
    let dead = format!("ldap://localhost:{}", free_port());
    let directory = slapd.directory(|config| config.urls.insert(0, dead));
    for _ in 0..12 {
        assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));
    }
}

#[tokio::test]
async fn a_server_that_died_or_froze_is_an_outage_and_its_return_is_noticed() {
    let mut slapd = Slapd::start();
    let directory = slapd.directory(|config| config.timeout_request = Duration::from_millis(500));
    assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));
    slapd.stop();
    assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Unavailable);
    slapd.run();
    assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));
    // Restarted between two logins: the idle connections are dead, and nobody is told.
    slapd.stop();
    slapd.run();
    assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));

    slapd.signal("STOP");
    assert_eq!(ask(&directory, "alice@univ-a.example", "wrong").await, Verdict::Unavailable);
    slapd.signal("CONT");
    assert_eq!(ask(&directory, "alice@univ-a.example", "right é").await, Verdict::Valid(alice()));
    assert_eq!(ask(&directory, "alice@univ-a.example", "wrong").await, Verdict::BadCredential);
}

/// The base64 password of alice is `right é`.
const USERS: &str = "\
dn: dc=guichet,dc=test
objectClass: dcObject
objectClass: organization
o: Guichet
dc: guichet

dn: cn=reader,dc=guichet,dc=test
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reader

dn: cn=policy,dc=guichet,dc=test
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 1000

dn: ou=people,dc=guichet,dc=test
objectClass: organizationalUnit
ou: people

dn: uid=alice,ou=people,dc=guichet,dc=test
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Alice
mail: Alice@univ-a.example
registeredAddress: alice.alias@univ-a.example
departmentNumber: beta
employeeType: Staff
businessCategory: active
userPassword:: cmlnaHQgw6k=

dn: uid=bob,ou=people,dc=guichet,dc=test
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Bob
mail: bob@univ-a.example
employeeType: student
businessCategory: ACTIVE
userPassword: right

dn: uid=off,ou=people,dc=guichet,dc=test
objectClass: inetOrgPerson
uid: off
cn: Off
sn: Off
mail: off@univ-a.example
businessCategory: closed
userPassword: right

dn: uid=locked,ou=people,dc=guichet,dc=test
objectClass: inetOrgPerson
uid: locked
cn: Locked
sn: Locked
mail: locked@univ-a.example
businessCategory: active
userPassword: right
pwdAccountLockedTime: 000001010000Z

dn: uid=passwordless,ou=people,dc=guichet,dc=test
objectClass: inetOrgPerson
uid: passwordless
cn: Passwordless
sn: Passwordless
mail: passwordless@univ-a.example
businessCategory: active

dn: uid=twin1,ou=people,dc=guichet,dc=test
objectClass: inetOrgPerson
uid: twin1
cn: Twin
sn: Twin
mail: twin@univ-a.example
businessCategory: active
userPassword: right

dn: uid=twin2,ou=people,dc=guichet,dc=test
objectClass: inetOrgPerson
uid: twin2
cn: Twin
sn: Twin
mail: twin@univ-a.example
businessCategory: active
userPassword: right
";
