//! What we say to a client before login. Nothing of what it sent comes back, but its tag, which is checked.

use std::sync::Arc;

use crate::{Answer, Mechanism, line::host_text};

use super::ImapProfile;

/// Longest capability list of a cell that is passed on, bytes.
const CAPABILITY_BYTES_MAX: usize = 4096;

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

    pub(crate) fn greeting(&mut self, profile: &ImapProfile) {
        let (capabilities, host) = (capabilities(profile), host_text(&profile.hostname));
        self.line(&["* OK [CAPABILITY ", &capabilities, "] ", &host, " ready"]);
    }

    pub(crate) fn capabilities(&mut self, profile: &ImapProfile) {
        self.line(&["* CAPABILITY ", &capabilities(profile)]);
    }

    pub(crate) fn id(&mut self, profile: &ImapProfile) {
        self.line(&["* ID (\"name\" \"Guichet\" \"host\" \"", &host_text(&profile.hostname), "\")"]);
    }

    pub(crate) fn ok(&mut self, tag: &str, text: &str) {
        self.line(&[tag, " OK ", text]);
    }

    pub(crate) fn no(&mut self, tag: &str, code_and_text: &str) {
        self.line(&[tag, " NO ", code_and_text]);
    }

    pub(crate) fn bad(&mut self, tag: &str, text: &str) {
        self.line(&[tag, " BAD ", text]);
    }

    pub(crate) fn bye(&mut self, text: &str) {
        self.line(&["* BYE ", text]);
    }

    /// RFC 9051 §7.6: go on with the literal.
    pub(crate) fn literal_wanted(&mut self) {
        self.line(&["+ OK"]);
    }

    /// RFC 9051 §6.2.2: go on with the SASL exchange.
    pub(crate) fn challenge(&mut self, challenge: &str) {
        self.line(&["+ ", challenge]);
    }

    /// Logged in. The list is the cell's: from here on the client talks to it.
    pub(crate) fn logged_in(&mut self, tag: &str, capability: Option<&str>, untagged_too: bool) {
        match capability.and_then(cell_capabilities) {
            Some(list) => {
                if untagged_too {
                    self.line(&["* CAPABILITY ", &list]);
                }
                self.line(&[tag, " OK [CAPABILITY ", &list, "] Logged in"]);
            }
            None => self.line(&[tag, " OK Logged in"]),
        }
    }
}

/// The refusal for each answer but `Opened`: outside, a wrong password and a locked account are alike.
pub(crate) fn refusal(answer: &Answer) -> &'static str {
    match answer {
        Answer::Denied | Answer::Refused => INVALID_CREDENTIALS,
        Answer::Limited => "[LIMIT] Too many attempts, try again later",
        Answer::Held => "[UNAVAILABLE] The mailbox is being moved, try again in a minute",
        Answer::Crowded => "[LIMIT] Too many sessions of this account are open",
        Answer::PasswordNeeded => "[CONTACTADMIN] This mailbox opens to its password only, log in with it",
        Answer::Unavailable | Answer::Opened { .. } => UNAVAILABLE,
    }
}

pub(crate) const INVALID_CREDENTIALS: &str = "[AUTHENTICATIONFAILED] Invalid credentials";
pub(crate) const UNAVAILABLE: &str = "[UNAVAILABLE] Login is not possible now, try again later";
pub(crate) const PRIVACY_REQUIRED: &str = "[PRIVACYREQUIRED] Start TLS first";

fn capabilities(profile: &ImapProfile) -> String {
    let mut own = String::from("IMAP4rev1 SASL-IR LITERAL- ID");
    if profile.tls {
        for name in profile.mechanisms.sasl_names() {
            own.push_str(" AUTH=");
            own.push_str(name);
        }
    } else {
        own.push_str(" STARTTLS");
    }
    if !(profile.tls && profile.mechanisms.contains(Mechanism::Login)) {
        own.push_str(" LOGINDISABLED");
    }
    let extra: &Arc<[String]> = &profile.extra_capabilities;
    extra
        .iter()
        .filter(|name| {
            is_capability(name)
                && !is_of_login(name)
                && !is_not_ours(name)
                && !own.split(' ').any(|known| known.eq_ignore_ascii_case(name))
        })
        .fold(own.clone(), |list, name| list + " " + name)
}

/// The cell's list without what concerns a login or TLS that are behind us, and without anything that is no
/// capability: a cell's words go into our reply.
fn cell_capabilities(list: &str) -> Option<String> {
    let mut kept = String::new();
    for name in list.split(' ').filter(|name| is_capability(name) && !is_of_login(name)) {
        if kept.len() + 1 + name.len() > CAPABILITY_BYTES_MAX {
            break;
        }
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(name);
    }
    (!kept.is_empty()).then_some(kept)
}

fn is_capability(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte))
}

/// What a cell can and we cannot: bigger literals than LITERAL- allows, compression below the login, sending a client
/// elsewhere.
fn is_not_ours(name: &str) -> bool {
    let compress = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("COMPRESS"));
    compress || ["LITERAL+", "LOGIN-REFERRALS", "UNAUTHENTICATE"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn is_of_login(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts("AUTH=") || name.eq_ignore_ascii_case("STARTTLS") || name.eq_ignore_ascii_case("LOGINDISABLED")
}
