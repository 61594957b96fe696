//! What we say to a client before login. Nothing of what it sent comes back.

use crate::{Answer, Mechanism, line::host_text};

use super::Pop3Profile;

/// Longest line of CAPA (RFC 2449 §4: 512 with the line end), bytes.
const CAPABILITY_BYTES_MAX: usize = 510;
/// Most lines of CAPA that are not our own.
const CAPABILITIES_MAX: usize = 32;

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
        self.line(&["+OK ", text]);
    }

    pub(crate) fn err(&mut self, text: &str) {
        self.line(&["-ERR ", text]);
    }

    /// No `<…>` in it: that would offer APOP (RFC 1939 §7).
    pub(crate) fn greeting(&mut self, profile: &Pop3Profile) {
        self.line(&["+OK ", &host_text(&profile.hostname), " ready"]);
    }

    /// RFC 5034 §4: go on with the SASL exchange.
    pub(crate) fn challenge(&mut self, challenge: &str) {
        self.line(&["+ ", challenge]);
    }

    pub(crate) fn capabilities(&mut self, profile: &Pop3Profile) {
        self.ok("Capability list follows");
        let names: Vec<_> = profile.mechanisms.sasl_names().collect();
        if !profile.tls {
            self.line(&["STLS"]);
        }
        if profile.tls && profile.mechanisms.contains(Mechanism::Login) {
            self.line(&["USER"]);
        }
        if profile.tls && !names.is_empty() {
            self.line(&["SASL ", &names.join(" ")]);
        }
        // RFC 2449 §6.4, RFC 3206 §6: what stands in brackets in our refusals.
        self.line(&["RESP-CODES"]);
        self.line(&["AUTH-RESP-CODE"]);
        for capability in profile.extra_capabilities.iter().filter(|line| is_extra(line)).take(CAPABILITIES_MAX) {
            self.line(&[capability]);
        }
        self.line(&["."]);
    }

    pub(crate) fn mechanisms(&mut self, profile: &Pop3Profile) {
        self.ok("Mechanisms follow");
        for name in profile.mechanisms.sasl_names().filter(|_| profile.tls) {
            self.line(&[name]);
        }
        self.line(&["."]);
    }
}

/// The refusal for each answer but `Opened`: outside, a wrong password and a locked account are alike.
pub(crate) fn refusal(answer: &Answer) -> &'static str {
    match answer {
        Answer::Denied | Answer::Refused => INVALID_CREDENTIALS,
        Answer::Limited => "[LOGIN-DELAY] Too many attempts, try again later",
        Answer::Held => "[SYS/TEMP] The mailbox is being moved, try again in a minute",
        // RFC 2449 §8.1.2: the password was right, and somebody else is at the mailbox.
        Answer::Crowded => "[IN-USE] Too many sessions of this account are open",
        // RFC 3206 §4: somebody must do something before this can work.
        Answer::PasswordNeeded => "[SYS/PERM] This mailbox opens to its password only, log in with it",
        Answer::Unavailable | Answer::Opened { .. } => UNAVAILABLE,
    }
}

pub(crate) const INVALID_CREDENTIALS: &str = "[AUTH] Invalid credentials";
pub(crate) const UNAVAILABLE: &str = "[SYS/TEMP] Login is not possible now, try again later";
pub(crate) const PRIVACY_REQUIRED: &str = "Start TLS first";

/// A line that may stand in the list, and is none of ours and none of a login that is behind us.
fn is_extra(line: &str) -> bool {
    const NOT_EXTRA: [&str; 8] =
        ["STLS", "USER", "SASL", "RESP-CODES", "AUTH-RESP-CODE", "APOP", "XOIP", "IMPLEMENTATION"];
    let name = line.split(' ').next().unwrap_or_default();
    let printable = line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let ours = NOT_EXTRA.iter().any(|known| name.eq_ignore_ascii_case(known));
    printable && !name.is_empty() && !name.starts_with('.') && !ours && line.len() <= CAPABILITY_BYTES_MAX
}
