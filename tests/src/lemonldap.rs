//! LemonLDAP::NG, which many French universities run, as Debian packages it: its portal under `starman`. SAML is done by
//! Lasso, which signs with RSA-SHA256 and encrypts with AES-128-CBC.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};

use crate::{
    curl::{Answer, Curl},
    daemon::Daemon,
    pki::Files,
    world::{World, free_port},
};

/// A running portal with its demonstration users (`dwho`, `rtyler`, `msmith`: the password is the name).
#[derive(Debug)]
pub struct LemonLdap {
    daemon: Daemon,
    command: Command,
    dir: PathBuf,
    port: u16,
    own: Files,
    scope: String,
    registered: Vec<String>,
}

impl LemonLdap {
    /// Starts a portal whose users are `NAME@scope` by eduPersonPrincipalName. Their `mail` is in a domain of nobody.
    pub fn start(world: &World, name: &str, scope: &str) -> Self {
        let dir = world.folder(name);
        for folder in ["conf", "cache", "sessions", "lock"] {
            std::fs::create_dir_all(dir.join(folder)).expect("folder");
        }
        let own = world.pki().saml(name);
        let port = free_port();
        write(&dir, "lemonldap-ng.ini", &ini(&dir));
        write(&dir, "portal.psgi", "use Lemonldap::NG::Portal::Main;\nLemonldap::NG::Portal::Main->run({});\n");
        let mut command = Command::new("starman");
        command.env("LLNG_DEFAULTCONFFILE", dir.join("lemonldap-ng.ini")).current_dir(&dir);
        command.args(["--workers", "2", "--listen", &format!("127.0.0.1:{port}"), "portal.psgi"]);
        write(&dir, CONFIGURATION, &configuration(&dir, port, &own, scope, &[]));
        let daemon = Daemon::start("lemonldap", &command, &dir, None);
        let mut idp = Self { daemon, command, dir, port, own, scope: scope.to_owned(), registered: Vec::new() };
        idp.wait_ready();
        idp
    }

    /// Its entityID.
    pub fn entity_id(&self) -> String {
        format!("http://127.0.0.1:{}/saml/metadata", self.port)
    }

    /// The metadata it publishes. It names no scope: a federation adds what it registered.
    pub fn metadata(&self) -> String {
        Curl::plain().get(&self.metadata_url()).body
    }

    /// The IdP registers a service provider from the metadata it publishes. It is restarted: a portal looks at its
    /// configuration only from time to time.
    pub fn register(&mut self, metadata: &str) {
        self.registered.push(metadata.to_owned());
        let conf = configuration(&self.dir, self.port, &self.own, &self.scope, &self.registered);
        self.daemon.kill();
        write(&self.dir, CONFIGURATION, &conf);
        let cache = self.dir.join("cache");
        std::fs::remove_dir_all(&cache).and_then(|()| std::fs::create_dir(&cache)).expect("an empty cache");
        self.daemon = Daemon::start("lemonldap", &self.command, &self.dir, None);
        self.wait_ready();
    }

    /// Fills in the login form on `page` and returns the page whose form posts the Response.
    pub fn sign_in(&self, curl: &Curl, page: &Answer, login: &str, password: &str) -> Answer {
        let kept = page.field("url").unwrap_or_else(|| panic!("no login form at the portal:\n{page:?}"));
        let action = page.url.split('?').next().expect("a URL").to_owned();
        curl.post_following(&action, &[("url", &kept), ("user", login), ("password", password)])
    }

    fn metadata_url(&self) -> String {
        format!("{}/idp", self.entity_id())
    }

    fn wait_ready(&mut self) {
        let url = self.metadata_url();
        self.daemon.wait_ready(|_| Curl::plain().try_get(&url).filter(|answer| answer.status == 200));
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn ini(dir: &Path) -> String {
    format!(
        "[all]\nlogLevel = notice\nlogger = Lemonldap::NG::Common::Logger::Std\n\
         userLogger = Lemonldap::NG::Common::Logger::Std\n\
         [configuration]\ntype = File\ndirName = {dir}/conf\nlocalStorage = Cache::FileCache\n\
         localStorageOptions = {{ 'namespace' => 'conf', 'cache_root' => '{dir}/cache', 'cache_depth' => 0 }}\n\
         [portal]\ntemplateDir = /usr/share/lemonldap-ng/portal/templates\nstaticPrefix = /static\nlanguages = en\n",
        dir = dir.display()
    )
}

/// The portal's configuration with these service providers.
fn configuration(dir: &Path, port: u16, own: &Files, scope: &str, registered: &[String]) -> String {
    let read = |path: &Path| std::fs::read_to_string(path).expect("a key");
    let folder = |name: &str| dir.join(name).display().to_string();
    let by_name = |value: &dyn Fn(&str) -> Value| -> Value {
        registered.iter().enumerate().map(|(i, xml)| (format!("sp{i}"), value(xml))).collect::<Map<_, _>>().into()
    };
    let options = json!({
        "samlSPMetaDataOptionsEncryptionMode": "assertion",
        "samlSPMetaDataOptionsSignSSOMessage": 1,
        "samlSPMetaDataOptionsCheckSSOMessageSignature": 1,
    });
    let uri = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri";
    let attributes = json!({
        "mail": format!("1;urn:oid:0.9.2342.19200300.100.1.3;{uri};mail"),
        "eppn": format!("1;urn:oid:1.3.6.1.4.1.5923.1.1.1.6;{uri};eduPersonPrincipalName"),
    });
    let files = json!({ "Directory": folder("sessions"), "LockDirectory": folder("lock") });
    json!({
        "cfgNum": 1, "cfgAuthor": "story", "cfgDate": "1", "key": "story-key-of-the-portal",
        "domain": "127.0.0.1", "portal": format!("http://127.0.0.1:{port}/"), "securedCookie": 0, "requireToken": 0,
        "authentication": "Demo", "userDB": "Same", "passwordDB": "Null", "registerDB": "Null",
        "demoExportedVars": { "cn": "cn", "mail": "mail", "uid": "uid" },
        // It protects no application, and ends when it is not told so.
        "locationRules": {}, "exportedHeaders": {}, "groups": {},
        "macros": { "eppn": format!("$uid . '@{scope}'") },
        "globalStorage": "Apache::Session::File", "globalStorageOptions": files,
        "persistentStorage": "Apache::Session::File", "persistentStorageOptions": files,
        "localSessionStorage": "Cache::FileCache",
        "localSessionStorageOptions": { "namespace": "sessions", "cache_root": folder("cache"), "cache_depth": 0 },
        "issuerDBSAMLActivation": 1, "issuerDBSAMLPath": "^/saml/", "issuerDBSAMLRule": 1,
        "samlServicePrivateKeySig": read(&own.key), "samlServicePublicKeySig": read(&own.certificate),
        "samlServiceSignatureMethod": "RSA_SHA256",
        "samlSPMetaDataXML": by_name(&|xml| json!({ "samlSPMetaDataXML": xml })),
        "samlSPMetaDataOptions": by_name(&|_| options.clone()),
        "samlSPMetaDataExportedAttributes": by_name(&|_| attributes.clone()),
    })
    .to_string()
}

const CONFIGURATION: &str = "conf/lmConf-1.json";
