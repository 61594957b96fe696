//! A federation's server: signed metadata by HTTPS, under Python's own web server.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    daemon::Daemon,
    pki::Files,
    simplesaml::SimpleSaml,
    world::{World, free_port, listens, python_program, run, script_path},
};

/// A running server; see `tests/python/federation.py` for its modes.
#[derive(Debug)]
pub struct Federation {
    daemon: Daemon,
    command: Command,
    dir: PathBuf,
    port: u16,
}

impl Federation {
    /// Starts one that serves, at `path`, what is published later.
    pub fn start(world: &World, name: &str, path: &str) -> Self {
        let dir = world.folder(name);
        let tls = world.pki().server_in(&dir, "server", &["127.0.0.1"]);
        let port = free_port();
        write(&dir, "path", path);
        write(&dir, "mode", "good");
        write(&dir, "metadata.xml", "");
        let mut command = Command::new(python_program());
        command.arg(script_path("federation.py")).arg(port.to_string()).arg(&tls.certificate).arg(&tls.key).arg(&dir);
        let daemon = Daemon::start("federation", &command, &dir, None);
        let mut federation = Self { daemon, command, dir, port };
        federation.wait_ready();
        federation
    }

    /// `https://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// Signs the IdP's metadata with `key`, good for `days`, and serves that.
    pub fn publish(&self, idp: &SimpleSaml, key: &Files, days: u32) {
        idp.sign_metadata(key, Some(days), &self.document());
    }

    /// The same without an end.
    pub fn publish_without_end(&self, idp: &SimpleSaml, key: &Files) {
        idp.sign_metadata(key, None, &self.document());
    }

    /// What is served.
    pub fn document(&self) -> PathBuf {
        self.dir.join("metadata.xml")
    }

    /// The one path it is served at from now on.
    pub fn move_to(&self, path: &str) {
        write(&self.dir, "path", path);
    }

    /// How it is served from now on.
    pub fn serve(&self, mode: &str) {
        write(&self.dir, "mode", mode);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again on its port.
    pub fn restart(&mut self) {
        self.daemon = Daemon::start("federation", &self.command, &self.dir, None);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let port = self.port;
        self.daemon.wait_ready(|_| listens(port));
    }
}

/// A gateway's `[federation.NAME]` for a signed file.
pub fn config(name: &str, file: &Path, key: &Files) -> String {
    let (file, key) = (file.display(), key.certificate.display());
    format!("\n[federation.{name}]\nfile = \"{file}\"\nsigning_keys = [\"{key}\"]\n")
}

/// What a federation does: takes the metadata of its members, gives it an end in `days`, signs it with its own key, by
/// `xmlsec1`; `file` is replaced at once.
pub fn sign_aggregate(name: &str, members: &[String], key: &Files, days: Option<u32>, file: &Path) {
    let bare = |xml: &String| xml.split_once("?>").map_or(xml.as_str(), |(_, rest)| rest).trim().to_owned();
    let entities = members.iter().map(bare).collect::<Vec<_>>().join("\n");
    let until = days.map(|days| {
        let end = format!("+{days} days");
        run(Command::new("date").args(["-u", "-d", &end, "+validUntil=\"%Y-%m-%dT%H:%M:%SZ\""]))
    });
    let template = format!(
        r##"<?xml version="1.0" encoding="UTF-8"?>
<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" ID="_federation" Name="{name}" {until}><ds:Signature><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><ds:Reference URI="#_federation"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/></ds:Reference></ds:SignedInfo><ds:SignatureValue/></ds:Signature>
{entities}
</md:EntitiesDescriptor>
"##,
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

/// Metadata with the scopes that the federation registered for the entity, where its software publishes none.
pub fn with_scopes(metadata: &str, scopes: &[&str]) -> String {
    let at = metadata.find("EntityDescriptor").expect("an entity");
    let end = at + metadata.get(at..).and_then(|rest| rest.find('>')).expect("the end of the tag") + 1;
    let (head, rest) = metadata.split_at(end);
    let scopes: String =
        scopes.iter().map(|scope| format!("<shibmd:Scope regexp=\"false\">{scope}</shibmd:Scope>")).collect();
    format!(
        "{head}<md:Extensions xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" \
         xmlns:shibmd=\"urn:mace:shibboleth:metadata:1.0\">{scopes}</md:Extensions>{rest}"
    )
}

/// Whole or not at all: the server reads it at any moment.
fn write(dir: &Path, name: &str, text: &str) {
    let new = dir.join(format!("{name}.new"));
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, dir.join(name))).expect(name);
}
