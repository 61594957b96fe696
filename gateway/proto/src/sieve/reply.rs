//! What we say to a client before login. Nothing of what it sent comes back, but the tag of NOOP, which is checked.

use crate::{Answer, line::host_text};

use super::SieveProfile;

/// Longest value of a capability, bytes (RFC 5804 §4: a quoted string holds 1,024 characters).
const VALUE_BYTES_MAX: usize = 1024;
/// Most capabilities that are not our own.
const CAPABILITIES_MAX: usize = 16;

/// Replies that pile up while one input is worked off. Bounded by the number of commands before login.
#[derive(Debug, Default)]
pub(crate) struct Replies(Vec<u8>);

impl Replies {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn line(&mut self, words: &[&str]) {
        for word in words {
            self.0.extend_from_slice(word.as_bytes());
        }
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn ok(&mut self, text: &str) {
        self.line(&["OK ", &quoted(text)]);
    }

    pub(crate) fn no(&mut self, refusal: Refusal) {
        self.line(&["NO ", refusal.code, &quoted(refusal.text)]);
    }

    pub(crate) fn bye(&mut self, text: &str) {
        self.line(&["BYE ", &quoted(text)]);
    }

    /// RFC 5804 §2.13.
    pub(crate) fn noop(&mut self, tag: Option<&str>) {
        match tag {
            Some(tag) => self.line(&["OK (TAG ", &quoted(tag), ") \"Done\""]),
            None => self.ok("Done"),
        }
    }

    /// RFC 5804 §2.1: a challenge is a string of base64.
    pub(crate) fn challenge(&mut self, challenge: &str) {
        self.line(&[&quoted(challenge)]);
    }

    /// The list ends with OK, in the greeting, behind STARTTLS and when it is asked for.
    pub(crate) fn capabilities(&mut self, profile: &SieveProfile, text: &str) {
        let names: Vec<_> = profile.mechanisms.sasl_names().filter(|_| profile.tls).collect();
        self.line(&["\"IMPLEMENTATION\" \"Guichet\""]);
        self.line(&["\"SIEVE\" ", &quoted(&extensions(profile))]);
        self.line(&["\"SASL\" ", &quoted(&names.join(" "))]);
        if !profile.tls {
            self.line(&["\"STARTTLS\""]);
        }
        let extra = profile.extra_capabilities.iter().filter(|(name, value)| is_extra(name, value));
        for (name, value) in extra.take(CAPABILITIES_MAX) {
            self.line(&[&quoted(name), " ", &quoted(value)]);
        }
        self.line(&["\"VERSION\" \"1.0\""]);
        self.ok(text);
    }

    pub(crate) fn greeting(&mut self, profile: &SieveProfile) {
        let text = host_text(&profile.hostname) + " ready";
        self.capabilities(profile, &text);
    }
}

/// A code with the space behind it, or none, and a text.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    code: &'static str,
    text: &'static str,
}

impl Refusal {
    pub(crate) const INVALID_CREDENTIALS: Self = Self::plain("Invalid credentials");
    pub(crate) const UNAVAILABLE: Self =
        Self { code: "(TRYLATER) ", text: "Login is not possible now, try again later" };
    pub(crate) const LIMITED: Self = Self { code: "(TRYLATER) ", text: "Too many attempts, try again later" };
    pub(crate) const HELD: Self =
        Self { code: "(TRYLATER) ", text: "The mailbox is being moved, try again in a minute" };
    pub(crate) const CROWDED: Self = Self { code: "(TRYLATER) ", text: "Too many sessions of this account are open" };
    pub(crate) const PASSWORD_NEEDED: Self = Self::plain("This mailbox opens to its password only, log in with it");
    pub(crate) const ENCRYPT_NEEDED: Self = Self { code: "(ENCRYPT-NEEDED) ", text: "Start TLS first" };
    pub(crate) const AUTH_TOO_WEAK: Self = Self { code: "(AUTH-TOO-WEAK) ", text: "The mechanism is not offered" };

    /// Without a code.
    pub(crate) const fn plain(text: &'static str) -> Self {
        Self { code: "", text }
    }

    /// For each answer but `Opened`: outside, a wrong password and a locked account are alike.
    pub(crate) fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Denied | Answer::Refused => Self::INVALID_CREDENTIALS,
            Answer::Limited => Self::LIMITED,
            Answer::Held => Self::HELD,
            Answer::Crowded => Self::CROWDED,
            Answer::PasswordNeeded => Self::PASSWORD_NEEDED,
            Answer::Unavailable | Answer::Opened { .. } => Self::UNAVAILABLE,
        }
    }
}

/// A string that holds nothing but visible ASCII and spaces.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ') {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

fn extensions(profile: &SieveProfile) -> String {
    let mut list = String::new();
    let names = profile.sieve_extensions.iter().filter(|name| !name.is_empty());
    for name in names.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic())) {
        if list.len() + 1 + name.len() > VALUE_BYTES_MAX {
            break;
        }
        if !list.is_empty() {
            list.push(' ');
        }
        list.push_str(name);
    }
    list
}

/// A capability that may stand in the list, and is none of ours and none of a login that is behind us.
fn is_extra(name: &str, value: &str) -> bool {
    const NOT_EXTRA: [&str; 8] =
        ["IMPLEMENTATION", "SIEVE", "SASL", "STARTTLS", "VERSION", "OWNER", "XCLIENT", "UNAUTHENTICATE"];
    let ours = NOT_EXTRA.iter().any(|known| name.eq_ignore_ascii_case(known));
    !ours && !name.is_empty() && name.len() <= 64 && value.len() <= VALUE_BYTES_MAX
}
