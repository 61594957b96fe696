//! pysaml2 with `xmlsec1`: an identity provider that gives each Response the shape a login asks for.

use std::path::PathBuf;

use serde_json::json;

use crate::{
    curl::{Answer, Curl},
    daemon::Daemon,
    simplesaml::{Login, name_of},
    world::{World, free_port, python_command},
};

/// A running IdP; see `SHAPES` in `tests/python/pysaml2_idp.py` for what a login may ask for.
#[derive(Debug)]
pub struct Pysaml2 {
    daemon: Daemon,
    dir: PathBuf,
    port: u16,
}

impl Pysaml2 {
    /// Starts an IdP that may speak for `scopes`. It publishes an ECDSA key and two RSA keys.
    pub fn start(world: &World, name: &str, scopes: &[&str], logins: &[Login<'_>]) -> Self {
        let dir = world.folder(name);
        std::fs::create_dir_all(dir.join("sp")).expect("folder");
        for (pair, ecdsa) in [("first", false), ("second", false), ("ecdsa", true), ("stranger", false)] {
            let made = format!("{name}-{pair}");
            let files = if ecdsa { world.pki().saml_ecdsa(&made) } else { world.pki().saml(&made) };
            std::fs::copy(&files.certificate, dir.join(format!("{pair}.crt"))).expect("certificate");
            std::fs::copy(&files.key, dir.join(format!("{pair}.key"))).expect("key");
        }
        let people: serde_json::Map<String, serde_json::Value> = logins
            .iter()
            .map(|login| {
                let Login { password, address, affiliation, .. } = login;
                let said = json!({ "password": password, "address": address, "affiliation": affiliation });
                (login.login.to_owned(), said)
            })
            .collect();
        let said = json!({ "scopes": scopes, "people": people }).to_string();
        std::fs::write(dir.join("idp.json"), said).expect("idp.json");
        let port = free_port();
        let command = python_command("pysaml2_idp.py", &[&port.to_string(), &dir.display().to_string()]);
        let daemon = Daemon::start("pysaml2", &command, &dir, None);
        let mut idp = Self { daemon, dir, port };
        let url = idp.entity_id();
        idp.daemon.wait_ready(|_| Curl::plain().try_get(&url).filter(|answer| answer.status == 200));
        idp
    }

    /// Its entityID, which is where its metadata is.
    pub fn entity_id(&self) -> String {
        format!("http://127.0.0.1:{}/metadata", self.port)
    }

    /// The metadata it publishes.
    pub fn metadata(&self) -> String {
        Curl::plain().get(&self.entity_id()).body
    }

    /// The IdP registers a service provider from the metadata it publishes.
    pub fn register(&self, metadata: &str) {
        std::fs::write(self.dir.join(format!("sp/{:x}.xml", name_of(metadata))), metadata).expect("SP metadata");
    }

    /// Fills in the login form on `page` and returns the page whose form posts a Response of that shape.
    pub fn sign_in(&self, curl: &Curl, page: &Answer, login: &str, password: &str, shape: &str) -> Answer {
        let kept = ["SAMLRequest", "RelayState", "SigAlg", "Signature", "binding"].map(|name| {
            (name, page.field(name).unwrap_or_else(|| panic!("no {name} in the form of the IdP:\n{page:?}")))
        });
        let mut form = vec![("username", login), ("password", password), ("shape", shape)];
        form.extend(kept.iter().map(|(name, value)| (*name, value.as_str())));
        let answer = curl.post(&page.form_action().expect("a form"), &form);
        assert_eq!(answer.status, 200, "{shape}: {answer:?}\n{}", self.daemon.log());
        answer
    }
}
