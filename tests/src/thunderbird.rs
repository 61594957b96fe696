//! Thunderbird without a window: a profile with one account, its password and whom it trusts, as a user would have set it up.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    browser,
    daemon::Daemon,
    wait,
    world::{World, python},
};

/// A running Thunderbird that keeps its mail for use without a network.
#[derive(Debug)]
pub struct Thunderbird {
    _daemon: Daemon,
    name: String,
    store: PathBuf,
}

impl Thunderbird {
    /// Starts one for an IMAP account on loopback.
    pub fn start(world: &World, name: &str, port: u16, starttls: bool, address: &str, password: &str) -> Self {
        let home = world.folder(name);
        let profile = home.join("profile");
        browser::trust(&profile, &world.pki().ca());
        let folder = profile.display().to_string();
        let sealed = python("seal.py", &[&folder, address, password]);
        let (user, secret) = sealed.trim_end().split_once('\n').expect("two lines");
        let logins = json!({"nextId": 2, "version": 3, "logins": [{
            "id": 1, "guid": "{00000000-0000-4000-8000-000000000001}", "encType": 1,
            "hostname": "imap://localhost", "httpRealm": "imap://localhost", "formSubmitURL": null,
            "usernameField": "", "passwordField": "", "encryptedUsername": user, "encryptedPassword": secret,
            "timeCreated": 1, "timeLastUsed": 1, "timePasswordChanged": 1, "timesUsed": 1,
        }]});
        std::fs::write(profile.join("logins.json"), logins.to_string()).expect("logins");
        // 2: STARTTLS, always; 3: TLS from the first byte.
        let tls = if starttls { 2 } else { 3 };
        let settings = format!(
            r#"
user_pref("mail.server.server1.hostname", "localhost");
user_pref("mail.server.server1.port", {port});
user_pref("mail.server.server1.socketType", {tls});
user_pref("mail.server.server1.userName", "{address}");
user_pref("mail.server.server1.name", "{address}");
user_pref("mail.identity.id1.useremail", "{address}");
{PREFERENCES}"#
        );
        std::fs::write(profile.join("user.js"), settings).expect("settings");
        let mut command = Command::new("thunderbird");
        command.args(["--headless", "--no-remote", "--profile"]).arg(&profile).env("HOME", &home);
        let daemon = Daemon::start("thunderbird", &command, &home, None);
        Self { _daemon: daemon, name: name.to_owned(), store: profile.join("ImapMail") }
    }

    /// Waits until its own files hold all these words.
    pub fn wait_stored(&self, words: &[&[u8]]) {
        wait::until(&format!("{} has stored all messages", self.name), || {
            let stored = everything(&self.store);
            words.iter().all(|word| stored.windows(word.len()).any(|part| part == *word)).then_some(())
        });
    }
}

/// The bytes of all mailboxes; the summaries beside them hold no text.
fn everything(dir: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.fold(Vec::new(), |mut all, path| {
        if path.is_dir() {
            all.extend(everything(&path));
        } else if path.extension().is_none_or(|end| end != "msf") {
            all.extend(std::fs::read(&path).unwrap_or_default());
        }
        all
    })
}

/// The account, and no word to anybody else: whatever is not mail would have to pass a proxy that does not exist.
const PREFERENCES: &str = r#"
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.type", "imap");
user_pref("mail.server.server1.authMethod", 3);
user_pref("mail.server.server1.login_at_startup", true);
user_pref("mail.server.server1.check_new_mail", true);
user_pref("mail.server.server1.offline_download", true);
user_pref("mail.server.server1.autosync_offline_stores", true);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.rights.version", 1);
user_pref("mailnews.start_page.enabled", false);
user_pref("app.update.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", 9);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
"#;
