//! Chromium, driven through chromedriver's WebDriver protocol (W3C), which `curl` speaks for us.

use std::{path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    wait,
    world::{World, free_port, listens, run, run_with_input, scratch, target_dir},
};

/// A browser window with a fresh profile that trusts the world's authority, and nobody else.
#[derive(Debug)]
pub struct Browser {
    _driver: Daemon,
    /// `http://127.0.0.1:PORT/session/ID`
    session: String,
}

impl Browser {
    /// Opens one that prefers `language` (`fr`, `en`) and finds `host` on loopback.
    pub fn open(world: &World, host: &str, language: &str) -> Self {
        let home = scratch();
        trust(&home.join(".pki/nssdb"), &world.pki().ca());
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", &home).env("TMPDIR", &home).env("LANGUAGE", language);
        let mut driver = Daemon::start("chromedriver", &command, world.dir(), Some(&home));
        driver.wait_ready(|_| listens(port));
        let profile = home.join("profile");
        let args = [
            "--headless=new".to_owned(),
            // Chromium's sandbox refuses to start as root and in most containers; it sees only our own pages.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--window-size=1000,900".to_owned(),
            format!("--accept-lang={language}"),
            format!("--user-data-dir={}", profile.display()),
            format!("--host-resolver-rules=MAP {host} 127.0.0.1"),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {
                "binary": "/usr/bin/chromium", "args": args, "prefs": {"intl.accept_languages": language}
            },
        }}});
        let answer = post(&format!("http://127.0.0.1:{port}/session"), &capabilities);
        let id = answer.get("sessionId").and_then(Value::as_str).unwrap_or_else(|| panic!("no session: {answer}"));
        Self { session: format!("http://127.0.0.1:{port}/session/{id}"), _driver: driver }
    }

    /// Goes to a page and waits until it is loaded.
    pub fn goto(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// Where it is.
    pub fn url(&self) -> String {
        text(self.get("url"))
    }

    /// The page as it stands.
    pub fn source(&self) -> String {
        text(self.get("source"))
    }

    /// What a reader sees.
    pub fn text(&self) -> String {
        text(self.script("return document.body ? document.body.innerText : ''"))
    }

    /// Title of the page.
    pub fn title(&self) -> String {
        text(self.get("title"))
    }

    /// Runs a script in the page.
    pub fn script(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Types into the element of a CSS selector.
    pub fn fill(&self, selector: &str, words: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/clear"), &json!({}));
        self.post(&format!("element/{element}/value"), &json!({"text": words}));
    }

    /// Clicks the element of a CSS selector.
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Presses the keys of a text, wherever the focus is: [`TAB`] and [`ENTER`] are keys, too.
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        self.post("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// Presses [`TAB`] until the focus is on the element of a CSS selector.
    pub fn tab_to(&self, selector: &str) {
        for _ in 0..TABS_MAX {
            self.press(TAB);
            if self.script(&format!("return document.activeElement.matches({})", json!(selector))) == json!(true) {
                return;
            }
        }
        panic!("{TABS_MAX} times Tab lead to no {selector}");
    }

    /// From now on, no page runs scripts of its own.
    pub fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    }

    /// Shows pages as wide as this, in CSS pixels.
    pub fn width(&self, pixels: u32) {
        let metrics = json!({"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Roles and names of what assistive technology sees, in the order of the page.
    pub fn accessible(&self) -> Vec<(String, String)> {
        self.devtools("Accessibility.enable", &json!({}));
        let tree = self.devtools("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
        let word = |node: &Value, name: &str| {
            let value = node.get(name).and_then(|property| property.get("value"));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let seen = |node: &&Value| node.get("ignored") != Some(&json!(true));
        nodes.iter().filter(seen).map(|node| (word(node, "role"), word(node, "name"))).collect()
    }

    /// One command of the DevTools protocol.
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Whether the page has such an element.
    pub fn has(&self, selector: &str) -> bool {
        self.try_find(selector).is_some()
    }

    /// Waits until the page has such an element.
    pub fn wait_for(&self, selector: &str) {
        self.find(selector);
    }

    /// Waits until the text of the page contains `words`.
    pub fn wait_text(&self, words: &str) {
        wait::until(&format!("{words:?} on the page"), || self.text().contains(words).then_some(()));
    }

    /// Waits until the address starts with `prefix`.
    pub fn wait_url(&self, prefix: &str) {
        wait::until(&format!("the browser at {prefix}"), || self.url().starts_with(prefix).then_some(()));
    }

    /// The languages the browser asks for.
    pub fn languages(&self) -> Value {
        self.script("return navigator.languages")
    }

    /// Saves what is seen as `target/screenshots/NAME.png`.
    pub fn screenshot(&self, name: &str) {
        let folder = target_dir().join("screenshots");
        std::fs::create_dir_all(&folder).expect("screenshots folder");
        let picture = STANDARD.decode(text(self.get("screenshot"))).expect("base64");
        std::fs::write(folder.join(format!("{name}.png")), picture).expect("screenshot");
    }

    fn find(&self, selector: &str) -> String {
        wait::until(&format!("element {selector}"), || self.try_find(selector))
    }

    fn try_find(&self, selector: &str) -> Option<String> {
        let body = json!({"using": "css selector", "value": selector});
        let answer = exchange("POST", &format!("{}/element", self.session), Some(&body));
        // W3C WebDriver §12.3: the key that marks an element reference.
        Some(answer.get("element-6066-11e4-a52e-4f735466cecf")?.as_str()?.to_owned())
    }

    fn get(&self, path: &str) -> Value {
        checked(exchange("GET", &format!("{}/{path}", self.session), None))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        post(&format!("{}/{path}", self.session), body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the browser stood at {}:\n{}", self.url(), self.text());
        }
        let _ = exchange("DELETE", &self.session, None);
    }
}

/// W3C WebDriver §17.4.2.
pub const TAB: &str = "\u{e004}";
/// As [`TAB`].
pub const ENTER: &str = "\u{e007}";
/// More stops than a page of ours has before its list.
const TABS_MAX: usize = 30;

/// Puts the authority into a new NSS database, as an administrator would: certificate errors stay real.
pub(crate) fn trust(folder: &Path, ca: &Path) {
    std::fs::create_dir_all(folder).expect("nssdb");
    let db = format!("sql:{}", folder.display());
    run(Command::new("certutil").args(["-N", "--empty-password", "-d", &db]));
    run(Command::new("certutil").args(["-A", "-d", &db, "-t", "C,,", "-n", "guichet-test", "-i"]).arg(ca));
}

fn post(url: &str, body: &Value) -> Value {
    checked(exchange("POST", url, Some(body)))
}

fn exchange(method: &str, url: &str, body: Option<&Value>) -> Value {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--max-time", "120", "-X", method, "-H", "Content-Type: application/json"]);
    if body.is_some() {
        curl.args(["--data-binary", "@-"]);
    }
    let output = run_with_input(curl.arg(url), body.map(Value::to_string).unwrap_or_default().as_bytes());
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{method} {url}: {e}: {}", String::from_utf8_lossy(&output.stderr)));
    answer.get("value").cloned().unwrap_or(Value::Null)
}

fn checked(value: Value) -> Value {
    if let Some(error) = value.get("error") {
        panic!("the browser refused: {error}: {}", value.get("message").unwrap_or(&Value::Null));
    }
    value
}

fn text(value: Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
