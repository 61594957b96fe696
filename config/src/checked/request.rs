//! What is asked of an IdP, as used: for every login, and for pages that want more.

use std::{str::FromStr, time::Duration};

/// What a login request asks of the IdP (`[tenant.NAME.idp.saml]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginRequest {
    /// How it gets there; absent: by redirect where the IdP has an endpoint for that.
    pub binding: Option<RequestBinding>,
    /// The user logs in afresh, whatever session the IdP holds (ForceAuthn).
    pub force_authn: bool,
    /// AuthnContextClassRef, of which the login must have one, the preferred first; empty: any. At most four.
    pub authn_context: Vec<String>,
}

/// How a request reaches an IdP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBinding {
    /// HTTP-Redirect.
    Redirect,
    /// HTTP-POST.
    Post,
}

/// `[tenant.NAME.step_up]`: pages that want a fresher or stronger login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    /// The pages; not empty.
    pub paths: Vec<GuardedPath>,
    /// AuthnContextClassRef, of which the login must have one, the preferred first; empty: any. At most four.
    pub authn_context: Vec<String>,
    /// How long ago the user may have logged in.
    pub max_age: Duration,
}

/// A path that is guarded with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedPath {
    written: String,
    segments: Vec<String>,
}

/// Why a text guards no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardedPathError {
    /// Longer than 256 bytes.
    #[error("it is longer than 256 bytes")]
    TooLong,
    /// No `/` in front.
    #[error("a path begins with `/`")]
    NoSlash,
    /// `/` alone.
    #[error("it would guard everything; `authn_context` of the identity provider asks more of every login")]
    Everything,
    /// `//`, `.` or `..`, or a segment that ends with a dot.
    #[error("a segment is empty or ends with a dot")]
    Segment,
    /// A character that has another spelling, or a meaning, in a URL.
    #[error("only letters, digits and `-._~@+,=!$` are expected between the slashes")]
    Character,
}

impl GuardedPath {
    /// As the configuration has it: the page to go to.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Its segments in small letters; at least one.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

impl FromStr for GuardedPath {
    type Err = GuardedPathError;

    /// Only plain spellings are taken: what a request spells otherwise is brought into this form, never the reverse.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > PATH_BYTES_MAX {
            return Err(GuardedPathError::TooLong);
        }
        let below = text.strip_prefix('/').ok_or(GuardedPathError::NoSlash)?;
        let below = below.strip_suffix('/').unwrap_or(below);
        if below.is_empty() {
            return Err(GuardedPathError::Everything);
        }
        let mut segments = Vec::new();
        for segment in below.split('/') {
            if segment.is_empty() || segment.ends_with('.') {
                return Err(GuardedPathError::Segment);
            }
            if !segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || PLAIN.contains(&byte)) {
                return Err(GuardedPathError::Character);
            }
            segments.push(segment.to_ascii_lowercase());
        }
        Ok(Self { written: text.to_owned(), segments })
    }
}

/// Paths of pages are far shorter.
const PATH_BYTES_MAX: usize = 256;

/// Beside letters and digits: what nobody needs to escape.
const PLAIN: &[u8] = b"-._~@+,=!$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_path_has_one_plain_spelling() {
        let path: GuardedPath = "/zimbraAdmin/".parse().unwrap();
        assert_eq!((path.as_str(), path.segments()), ("/zimbraAdmin/", &["zimbraadmin".to_owned()][..]));
        let path: GuardedPath = "/h/Prefs.jsp".parse().unwrap();
        assert_eq!(path.segments(), ["h", "prefs.jsp"]);
        for (text, error) in [
            ("", GuardedPathError::NoSlash),
            ("h/prefs", GuardedPathError::NoSlash),
            ("/", GuardedPathError::Everything),
            ("//", GuardedPathError::Everything),
            ("/h//prefs", GuardedPathError::Segment),
            ("/h/../prefs", GuardedPathError::Segment),
            ("/h/.", GuardedPathError::Segment),
            ("/h/%70refs", GuardedPathError::Character),
            ("/h/prefs?a", GuardedPathError::Character),
            ("/h/prefs;a", GuardedPathError::Character),
            ("/h/pr\u{e9}fs", GuardedPathError::Character),
            ("/h/a b", GuardedPathError::Character),
            ("/h\\prefs", GuardedPathError::Character),
        ] {
            assert_eq!(text.parse::<GuardedPath>(), Err(error), "{text}");
        }
        assert_eq!(format!("/{}", "a".repeat(256)).parse::<GuardedPath>(), Err(GuardedPathError::TooLong));
    }
}
