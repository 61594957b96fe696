//! `curl` as the client: web requests with a cookie jar, and whatever else it speaks.

use std::{path::PathBuf, process::Command, sync::atomic::AtomicU32};

use crate::world::World;

/// A configured `curl`: whom it trusts, which names it resolves, its cookie jar.
#[derive(Clone, Debug)]
pub struct Curl {
    common: Vec<String>,
}

/// What a request brought.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status; 0 when there was no HTTP answer.
    pub status: u16,
    /// Where it came from, after redirects.
    pub url: String,
    /// Version, such as `2`.
    pub version: String,
    /// Names in lower case, of the last response.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// curl's own exit code.
    pub exit: i32,
    /// What curl complained of.
    pub complaint: String,
}

impl Answer {
    /// First header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All headers of that (lower-case) name.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// Where it leads: by `Location`, or by a page that leads on (`Refresh`).
    pub fn location(&self) -> &str {
        let onward = || self.header("refresh").and_then(|value| value.strip_prefix("0; url="));
        self.header("location").or_else(onward).unwrap_or_else(|| panic!("leads nowhere: {self:?}"))
    }

    /// Value of the form field `name`.
    pub fn field(&self, name: &str) -> Option<String> {
        let marker = format!("name=\"{name}\"");
        let at = self.body.find(&marker)?;
        let start = self.body.get(..at)?.rfind('<')?;
        let tag = self.body.get(start..)?;
        let tag = tag.get(..tag.find('>')?)?;
        let value = tag.split_once("value=\"")?.1.split_once('"')?.0;
        Some(unescape(value))
    }

    /// `action` of the first form.
    pub fn form_action(&self) -> Option<String> {
        let form = self.body.split_once("<form")?.1.split_once('>')?.0;
        Some(unescape(form.split_once("action=\"")?.1.split_once('"')?.0))
    }
}

fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&#x27;", "'")
        .replace("&#039;", "'")
        .replace("&#39;", "'")
        .replace("&#x2F;", "/")
        .replace("&#x2f;", "/")
        .replace("&#47;", "/")
        .replace("&#38;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

impl Curl {
    /// Trusts nobody, keeps no cookies.
    pub fn plain() -> Self {
        Self { common: ["-sS", "--max-time", "50", "--noproxy", "*"].map(str::to_owned).to_vec() }
    }

    /// A browser's stand-in: trusts the world's authority, finds `host` on loopback, keeps cookies in a jar of its own.
    pub fn browser(world: &World, host: &str) -> Self {
        static JARS: AtomicU32 = AtomicU32::new(0);
        let number = JARS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let jar: PathBuf = world.folder("jars").join(format!("{number}.txt"));
        let mut curl = Self::trusting(world, host);
        curl.common.extend(["-b".to_owned(), jar.display().to_string(), "-c".to_owned(), jar.display().to_string()]);
        curl
    }

    /// The same browser as it is now, with a jar of its own from here on: what a thief of its cookies has.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut copy = self.clone();
        let own = tempfile::Builder::new().suffix(".jar").tempfile().expect("jar").into_temp_path();
        let jar =
            self.common.iter().zip(self.common.iter().skip(1)).find(|(flag, _)| *flag == "-c").map(|(_, jar)| jar);
        let jar = jar.expect("a browser has a jar");
        std::fs::copy(jar, &own).expect("jar");
        let own = own.keep().expect("jar").display().to_string();
        for word in copy.common.iter_mut().filter(|word| *word == jar) {
            word.clone_from(&own);
        }
        copy
    }

    /// Trusts the world's authority and finds `host` on loopback; no cookies.
    pub fn trusting(world: &World, host: &str) -> Self {
        let mut curl = Self::plain();
        curl.common.extend(["--cacert".to_owned(), world.pki().ca().display().to_string()]);
        curl.common.extend(["--connect-to".to_owned(), format!("{host}::127.0.0.1:")]);
        curl
    }

    /// The same with more options.
    #[must_use]
    pub fn with(&self, options: &[&str]) -> Self {
        let mut curl = self.clone();
        curl.common.extend(options.iter().map(|&o| o.to_owned()));
        curl
    }

    /// The command, for protocols without an [`Answer`].
    pub fn command(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(&self.common);
        command
    }

    /// GET.
    pub fn get(&self, url: &str) -> Answer {
        self.ask(url, &[])
    }

    /// GET; `None` without an HTTP answer.
    pub fn try_get(&self, url: &str) -> Option<Answer> {
        Some(self.ask(url, &[])).filter(|a| a.status != 0)
    }

    /// GET, following redirects.
    pub fn get_following(&self, url: &str) -> Answer {
        self.ask(url, &["-L", "--max-redirs", "10"])
    }

    /// POST of a form.
    pub fn post(&self, url: &str, form: &[(&str, &str)]) -> Answer {
        self.post_with(url, form, &[])
    }

    /// POST of a form, following redirects (as GET, like browsers).
    pub fn post_following(&self, url: &str, form: &[(&str, &str)]) -> Answer {
        self.post_with(url, form, &["-L", "--max-redirs", "10"])
    }

    fn post_with(&self, url: &str, form: &[(&str, &str)], options: &[&str]) -> Answer {
        // Through a file: an encrypted Response is longer than one argument should be.
        let fields: Vec<tempfile::NamedTempFile> = form
            .iter()
            .map(|(_, value)| {
                let file = tempfile::NamedTempFile::new().expect("form field");
                std::fs::write(file.path(), value).expect("form field");
                file
            })
            .collect();
        let mut options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
        for ((name, _), file) in form.iter().zip(&fields) {
            options.extend(["--data-urlencode".to_owned(), format!("{name}@{}", file.path().display())]);
        }
        self.ask(url, &options.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// One request with any options.
    pub fn ask(&self, url: &str, options: &[&str]) -> Answer {
        let headers = tempfile::NamedTempFile::new().expect("header file");
        let body = tempfile::NamedTempFile::new().expect("body file");
        let mut command = self.command();
        command.args(options).arg("-D").arg(headers.path()).arg("-o").arg(body.path());
        command.args(["-w", "%{http_code} %{http_version} %{url_effective}", "--url", url]);
        let output = command.output().expect("curl runs");
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = line.splitn(3, ' ');
        let status = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
        let version = words.next().unwrap_or_default().to_owned();
        let url = words.next().unwrap_or_default().to_owned();
        Answer {
            status,
            url,
            version,
            headers: last_headers(&String::from_utf8_lossy(&std::fs::read(headers.path()).unwrap_or_default())),
            body: String::from_utf8_lossy(&std::fs::read(body.path()).unwrap_or_default()).into_owned(),
            exit: output.status.code().unwrap_or(-1),
            complaint: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The header lines after the last status line.
fn last_headers(dump: &str) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for line in dump.lines() {
        if line.starts_with("HTTP/") {
            headers.clear();
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    headers
}
