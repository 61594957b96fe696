//! SimpleSAMLphp: a real third-party identity provider, as Debian packages it, under PHP's own web server.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    curl::{Answer, Curl},
    daemon::{Daemon, Signal},
    federation::{self, sign_aggregate},
    pki::Files,
    wait,
    world::{World, free_port},
};

/// One account at the IdP.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Typed into its form.
    pub login: &'a str,
    /// Typed into its form.
    pub password: &'a str,
    /// eduPersonPrincipalName and mail.
    pub address: &'a str,
    /// eduPersonScopedAffiliation, such as `student@univ-a.test`.
    pub affiliation: &'a str,
}

/// How its Responses look, and what it publishes.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The Response is signed.
    pub sign_response: bool,
    /// The assertion is signed.
    pub sign_assertion: bool,
    /// The assertion is encrypted (AES-128-CBC, RSA-OAEP).
    pub encrypt: bool,
    /// It takes requests by HTTP-POST only.
    pub post_only: bool,
}

/// As Shibboleth does by default.
impl Default for Manner {
    fn default() -> Self {
        Self { sign_response: true, sign_assertion: false, encrypt: true, post_only: false }
    }
}

/// A running IdP.
#[derive(Debug)]
pub struct SimpleSaml {
    name: String,
    daemon: Daemon,
    command: Command,
    dir: PathBuf,
    port: u16,
    own: Files,
    federation: Files,
    hosted: String,
    manner: Manner,
}

impl SimpleSaml {
    /// Starts an IdP that may speak for `scopes`, whose Responses look like Shibboleth's.
    pub fn start(world: &World, name: &str, scopes: &[&str], logins: &[Login<'_>]) -> Self {
        Self::start_with(world, name, scopes, logins, Manner::default())
    }

    /// The same with other manners.
    pub fn start_with(world: &World, name: &str, scopes: &[&str], logins: &[Login<'_>], manner: Manner) -> Self {
        let dir = world.folder(name);
        for folder in ["config", "metadata", "cert", "log", "data", "tmp", "sessions", "sp"] {
            std::fs::create_dir_all(dir.join(folder)).expect("folder");
        }
        let own = world.pki().saml(name);
        let federation = world.pki().saml(&format!("{name}-federation"));
        let port = free_port();
        let base = format!("http://127.0.0.1:{port}/");
        write(&dir, "config/config.php", &config_php(&dir, &base));
        write(&dir, "config/authsources.php", &authsources_php(logins));
        write(&dir, "config/acl.php", "<?php $config = [];\n");
        write(&dir, "context", "");

        let mut command = Command::new("php");
        command.env("SIMPLESAMLPHP_CONFIG_DIR", dir.join("config")).current_dir(&dir);
        // PHP 8 prints deprecations of this version into the pages otherwise.
        command.args(["-d", "error_reporting=0", "-d", "display_errors=0"]);
        // A changed file counts at once, not after the two seconds of its code cache.
        command.args(["-d", "opcache.enable=0", "-S"]);
        command.arg(format!("127.0.0.1:{port}")).args(["-t", "/usr/share/simplesamlphp/www"]);
        let daemon = Daemon::start("simplesaml", &command, &dir, None);
        let hosted = hosted_php(&dir, scopes, manner);
        let mut idp = Self { name: name.to_owned(), daemon, command, dir, port, own, federation, hosted, manner };
        idp.use_keys(&idp.own, None);
        idp.wait_ready();
        idp.publish(7);
        idp
    }

    /// Its federation publishes what it publishes now, good for `days`.
    pub fn publish(&self, days: u32) {
        self.sign_metadata(&self.federation, Some(days), &self.federation_file());
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its entityID, which is where its metadata is.
    pub fn entity_id(&self) -> String {
        format!("http://127.0.0.1:{}/saml2/idp/metadata.php", self.port)
    }

    /// The federation's signed file with this IdP in it.
    pub fn federation_file(&self) -> PathBuf {
        self.dir.join("federation.xml")
    }

    /// The gateway's `[federation.NAME]` for it.
    pub fn config(&self) -> String {
        federation::config(&self.name, &self.federation_file(), &self.federation)
    }

    /// The IdP registers a service provider from the metadata it publishes, in the place of what it knew of it. Replaced
    /// at once: others may log in meanwhile.
    pub fn register(&self, metadata: &str) {
        let (_, rest) = metadata.split_once("entityID=\"").expect("an entityID");
        let name = format!("sp/{:x}", name_of(rest.split('"').next().unwrap_or_default()));
        // What a service provider says goes before the IdP's own `saml20.sign.assertion`.
        let wanted = format!("WantAssertionsSigned=\"{}\"", self.manner.sign_assertion);
        let metadata = metadata.replace("WantAssertionsSigned=\"false\"", &wanted);
        write(&self.dir, &format!("{name}.new"), &metadata);
        std::fs::rename(self.dir.join(format!("{name}.new")), self.dir.join(format!("{name}.xml"))).expect("metadata");
    }

    /// Signs with `current` from now on, and publishes it with the one that comes `next`.
    pub fn use_keys(&self, current: &Files, next: Option<&Files>) {
        let php = with_keys(&self.dir, current, next);
        write(&self.dir, HOSTED, &format!("{}{php}];\n", self.hosted));
    }

    /// The pair it signs with at first.
    pub fn first_key(&self) -> &Files {
        &self.own
    }

    /// From now on it says that users log in by this context (AuthnContextClassRef); `None`: by password, as by itself.
    pub fn says_context(&self, uri: Option<&str>) {
        write(&self.dir, "context", uri.unwrap_or_default());
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again on its port.
    pub fn restart(&mut self) {
        self.daemon = Daemon::start("simplesaml", &self.command, &self.dir, None);
        self.wait_ready();
    }

    /// Freezes it: connections are taken by the kernel, nothing answers.
    pub fn freeze(&self) {
        self.daemon.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.daemon.signal(Signal::CONT);
    }

    /// Whether it answers to passwords by ECP; as started, it does. The federation signs what it says of that now.
    pub fn offer_ecp(&self, offered: bool) {
        let file = self.dir.join(HOSTED);
        let hosted = std::fs::read_to_string(&file).expect("hosted metadata");
        let (from, to) = (format!("'saml20.ecp' => {}", !offered), format!("'saml20.ecp' => {offered}"));
        std::fs::write(&file, hosted.replace(&from, &to)).expect("hosted metadata");
        wait::until("its metadata of now", || {
            let metadata = Curl::plain().try_get(&self.entity_id()).filter(|answer| answer.status == 200)?;
            let endpoint = "SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:SOAP\"";
            (metadata.body.contains(endpoint) == offered).then_some(())
        });
        self.sign_metadata(&self.federation, Some(7), &self.federation_file());
    }

    /// Its own log (logins, refused requests) so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log/simplesamlphp.log")).unwrap_or_default()
    }

    /// Fills in the login form at `url` as a browser would and returns the page whose form posts the Response.
    pub fn log_in(&self, curl: &Curl, url: &str, login: &str, password: &str) -> Answer {
        self.sign_in(curl, &curl.get_following(url), login, password)
    }

    /// The same on its login form.
    pub fn sign_in(&self, curl: &Curl, page: &Answer, login: &str, password: &str) -> Answer {
        assert!(page.body.contains("name=\"AuthState\""), "no login form at the IdP:\n{page:?}");
        let state = page.field("AuthState").expect("AuthState");
        let action = page.url.split('?').next().expect("a URL").to_owned();
        curl.post_following(&action, &[("username", login), ("password", password), ("AuthState", &state)])
    }

    fn wait_ready(&mut self) {
        let url = self.entity_id();
        self.daemon.wait_ready(|_| Curl::plain().try_get(&url).filter(|a| a.status == 200));
    }

    /// What a federation does with this IdP alone: see [`sign_aggregate`].
    pub fn sign_metadata(&self, key: &Files, days: Option<u32>, file: &Path) {
        sign_aggregate(&self.name, &[self.metadata()], key, days, file);
    }

    /// The metadata it publishes.
    pub fn metadata(&self) -> String {
        wait::until("IdP metadata", || Curl::plain().try_get(&self.entity_id()).filter(|a| a.status == 200)).body
    }
}

/// A number that names a text within a run.
pub(crate) fn name_of(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn config_php(dir: &Path, base: &str) -> String {
    let dir = dir.display();
    format!(
        r"<?php
// Every file in sp/ is the published metadata of a registered service provider.
$sources = [['type' => 'flatfile']];
foreach (glob('{dir}/sp/*.xml') as $file) {{
    $sources[] = ['type' => 'xml', 'file' => $file];
}}
$config = [
    'baseurlpath' => '{base}',
    'certdir' => '{dir}/cert/', 'loggingdir' => '{dir}/log/', 'datadir' => '{dir}/data/',
    'tempdir' => '{dir}/tmp', 'metadatadir' => '{dir}/metadata/',
    'attributenamemapdir' => '/etc/simplesamlphp/attributemap/',
    'session.phpsession.savepath' => '{dir}/sessions', 'store.type' => 'phpsession',
    'session.cookie.secure' => false, 'session.cookie.samesite' => null,
    'secretsalt' => 'story-salt-3nWq8', 'auth.adminpassword' => 'story-admin-5Tz',
    'timezone' => 'UTC', 'language.available' => ['en'], 'language.default' => 'en',
    'logging.handler' => 'file', 'logging.level' => 7, 'logging.logfile' => 'simplesamlphp.log', 'showerrors' => true,
    'enable.saml20-idp' => true, 'module.enable' => ['exampleauth' => true, 'core' => true, 'saml' => true],
    'authproc.idp' => [], 'metadata.sources' => $sources, 'proxy' => null, 'theme.use' => 'default',
];
"
    )
}

fn authsources_php(logins: &[Login<'_>]) -> String {
    let mut php =
        "<?php\n$config = [\n'admin' => ['core:AdminPassword'],\n'testusers' => ['exampleauth:UserPass',\n".to_owned();
    for l in logins {
        php.push_str(&format!(
            "'{}:{}' => ['urn:oid:1.3.6.1.4.1.5923.1.1.1.6' => ['{a}'], 'urn:oid:0.9.2342.19200300.100.1.3' => ['{a}'], \
             'urn:oid:1.3.6.1.4.1.5923.1.1.1.9' => ['{}'], 'urn:oid:2.16.840.1.113730.3.1.241' => ['{}']],\n",
            l.login,
            l.password,
            l.affiliation,
            l.login,
            a = l.address
        ));
    }
    php.push_str("]];\n");
    php
}

fn hosted_php(dir: &Path, scopes: &[&str], manner: Manner) -> String {
    let dir = dir.display();
    let scopes = scopes.iter().map(|s| format!("'{s}'")).collect::<Vec<_>>().join(", ");
    let Manner { sign_response, sign_assertion, encrypt, post_only } = manner;
    let redirect = if post_only { "" } else { "'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect', " };
    format!(
        r"<?php
// Read with each request.
$context = trim((string) file_get_contents('{dir}/context'));
$metadata['__DYNAMIC:1__'] = [
    'authproc' => $context === '' ? [] : [50 => ['class' => 'saml:AuthnContextClassRef', 'AuthnContextClassRef' => $context]],
    'host' => '__DEFAULT__', 'auth' => 'testusers',
    'scope' => [{scopes}],
    'attributes.NameFormat' => 'urn:oasis:names:tc:SAML:2.0:attrname-format:uri',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient',
    'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
    'saml20.sign.response' => {sign_response}, 'saml20.sign.assertion' => {sign_assertion},
    'assertion.encryption' => {encrypt},
    'SingleSignOnServiceBinding' => [{redirect}'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST'],
    'redirect.validate' => true, 'validate.authnrequest' => true, 'saml20.ecp' => true,
    'sign.logout' => true, 'validate.logout' => true,
"
    )
}

/// The lines that name its pairs, which are put into its folder.
fn with_keys(dir: &Path, current: &Files, next: Option<&Files>) -> String {
    let named = |prefix: &str, files: &Files| {
        let [certificate, key] = [&files.certificate, &files.key].map(|file| {
            let name = file.file_name().and_then(|name| name.to_str()).expect("a file");
            std::fs::copy(file, dir.join("cert").join(name)).expect("cert folder");
            name
        });
        format!("    '{prefix}privatekey' => '{key}', '{prefix}certificate' => '{certificate}',\n")
    };
    named("", current) + &next.map(|next| named("new_", next)).unwrap_or_default()
}

const HOSTED: &str = "metadata/saml20-idp-hosted.php";
