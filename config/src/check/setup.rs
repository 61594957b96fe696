//! What mail programs are told.

use super::Check;
use crate::{Setup, file};

impl Check {
    pub(super) fn setup(&mut self, file: &file::Setup) -> Option<Setup> {
        let name = file.name.as_ref().map_or(Some(None), |name| self.name("setup.name", name).map(Some));
        let dav_path = file.dav_path.as_deref().map_or(Some(None), |path| self.dav_path(path).map(Some));
        Some(Setup { enabled: file.enabled, name: name?, dav_path: dav_path? })
    }

    /// A path that can stand in a zone file, in XML and in a redirect as it is.
    fn dav_path(&mut self, path: &str) -> Option<String> {
        let key = "setup.dav_path";
        let good = path.starts_with('/')
            && !path.starts_with("//")
            && path.len() <= PATH_BYTES_MAX
            && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte));
        if !good {
            let hint = "it begins with \"/\" and holds letters, digits, \"-\", \".\", \"_\", \"~\" and \"/\", such as \"/dav/\"";
            self.problem(key, format!("{path:?} is not a path"), hint.to_owned());
            return None;
        }
        if path.starts_with("/.well-known/") {
            let hint = "name the path that it leads to, such as \"/dav/\"".to_owned();
            self.problem(key, "requests for `/.well-known/` would go round in circles", hint);
            return None;
        }
        Some(path.to_owned())
    }
}

/// Of a TXT record that has other words, too (RFC 1035 §3.3.14: 255 bytes a string).
const PATH_BYTES_MAX: usize = 200;
