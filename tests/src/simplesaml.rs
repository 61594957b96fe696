//! SimpleSAMLphp: a real third-party identity provider, as Debian packages it, under PHP's own web server.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    curl::{Answer, Curl},
    daemon::{Daemon, Signal},
    pki::Files,
    wait,
    world::{World, free_port, run},
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

/// A running IdP whose Responses look like Shibboleth's: Response signed, assertion encrypted.
#[derive(Debug)]
pub struct SimpleSaml {
    name: String,
    daemon: Daemon,
    command: Command,
    dir: PathBuf,
    port: u16,
    federation: Files,
}

impl SimpleSaml {
    /// Starts an IdP that may speak for `scopes`.
    pub fn start(world: &World, name: &str, scopes: &[&str], logins: &[Login<'_>]) -> Self {
        let dir = world.folder(name);
        for folder in ["config", "metadata", "cert", "log", "data", "tmp", "sessions", "sp"] {
            std::fs::create_dir_all(dir.join(folder)).expect("folder");
        }
        let own = world.pki().saml(name);
        std::fs::copy(&own.certificate, dir.join("cert/idp.crt")).expect("certificate");
        std::fs::copy(&own.key, dir.join("cert/idp.key")).expect("key");
        let federation = world.pki().saml(&format!("{name}-federation"));
        let port = free_port();
        let base = format!("http://127.0.0.1:{port}/");
        write(&dir, "config/config.php", &config_php(&dir, &base));
        write(&dir, "config/authsources.php", &authsources_php(logins));
        write(&dir, "config/acl.php", "<?php $config = [];\n");
        write(&dir, "metadata/saml20-idp-hosted.php", &hosted_php(scopes));

        let mut command = Command::new("php");
        command.env("SIMPLESAMLPHP_CONFIG_DIR", dir.join("config")).current_dir(&dir);
        // PHP 8 prints deprecations of this version into the pages otherwise.
        command.args(["-d", "error_reporting=0", "-d", "display_errors=0", "-S"]);
        command.arg(format!("127.0.0.1:{port}")).args(["-t", "/usr/share/simplesamlphp/www"]);
        let daemon = Daemon::start("simplesaml", &command, &dir, None);
        let mut idp = Self { name: name.to_owned(), daemon, command, dir, port, federation };
        idp.wait_ready();
        idp.sign_metadata(&idp.federation, Some(7), &idp.federation_file());
        idp
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
        format!(
            "\n[federation.{}]\nfile = \"{}\"\nsigning_keys = [\"{}\"]\n",
            self.name,
            self.federation_file().display(),
            self.federation.certificate.display()
        )
    }

    /// The IdP registers a service provider from the metadata it publishes.
    pub fn register(&self, metadata: &str) {
        let name = format!("sp/{:x}.xml", name_of(metadata));
        write(&self.dir, &name, metadata);
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

    /// Its own log (logins, refused requests) so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log/simplesamlphp.log")).unwrap_or_default()
    }

    /// Fills in the login form at `url` as a browser would and returns the page whose form posts the Response.
    pub fn log_in(&self, curl: &Curl, url: &str, login: &str, password: &str) -> Answer {
        let page = curl.get_following(url);
        assert!(page.body.contains("name=\"AuthState\""), "no login form at the IdP:\n{page:?}");
        let state = page.field("AuthState").expect("AuthState");
        let action = page.url.split('?').next().expect("a URL").to_owned();
        curl.post_following(&action, &[("username", login), ("password", password), ("AuthState", &state)])
    }

    fn wait_ready(&mut self) {
        let url = self.entity_id();
        self.daemon.wait_ready(|_| Curl::plain().try_get(&url).filter(|a| a.status == 200));
    }

    /// What a federation does: takes the IdP's metadata, gives it an end in `days`, signs it with its own key, by
    /// `xmlsec1`; `file` is replaced at once.
    pub fn sign_metadata(&self, key: &Files, days: Option<u32>, file: &Path) {
        let entity =
            wait::until("IdP metadata", || Curl::plain().try_get(&self.entity_id()).filter(|a| a.status == 200)).body;
        let entity = entity.split_once("?>").map_or(entity.as_str(), |(_, rest)| rest).trim();
        let until = days.map(|days| {
            let end = format!("+{days} days");
            run(Command::new("date").args(["-u", "-d", &end, "+validUntil=\"%Y-%m-%dT%H:%M:%SZ\""]))
        });
        let template = format!(
            r##"<?xml version="1.0" encoding="UTF-8"?>
<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" ID="_federation" Name="{name}" {until}><ds:Signature><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><ds:Reference URI="#_federation"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/></ds:Reference></ds:SignedInfo><ds:SignatureValue/></ds:Signature>
{entity}
</md:EntitiesDescriptor>
"##,
            name = self.name,
            until = until.as_deref().unwrap_or_default().trim(),
        );
        let unsigned = file.with_extension("unsigned");
        let signed = file.with_extension("signed");
        std::fs::write(&unsigned, template).expect("template");
        run(Command::new("xmlsec1")
            .args(["--sign", "--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:metadata:EntitiesDescriptor"])
            .arg("--privkey-pem")
            .arg(&key.key)
            .arg("--output")
            .arg(&signed)
            .arg(&unsigned));
        std::fs::rename(signed, file).expect("signed metadata");
    }
}

/// A number that names a text within a run.
fn name_of(text: &str) -> u64 {
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

fn hosted_php(scopes: &[&str]) -> String {
    let scopes = scopes.iter().map(|s| format!("'{s}'")).collect::<Vec<_>>().join(", ");
    format!(
        r"<?php
$metadata['__DYNAMIC:1__'] = [
    'host' => '__DEFAULT__', 'privatekey' => 'idp.key', 'certificate' => 'idp.crt', 'auth' => 'testusers',
    'scope' => [{scopes}],
    'attributes.NameFormat' => 'urn:oasis:names:tc:SAML:2.0:attrname-format:uri',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient',
    'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
    'saml20.sign.response' => true, 'saml20.sign.assertion' => false, 'assertion.encryption' => true,
    'redirect.validate' => true, 'validate.authnrequest' => true,
];
"
    )
}
