//! Step-up: which pages want a fresher or stronger login, and whether a session has it.
//!
//! A cell reads a path in its own way: it may decode escapes once more, join slashes, drop what follows a `;`, or not tell
//! cases apart. So a path is held against the guarded ones in *every* such reading, and one of them is enough. A path that
//! no browser sends (`..`, `\`, control characters, escapes within escapes within escapes) counts as guarded: the price of
//! a false alarm is a login.

use guichet_config::{GuardedPath, StepUp};

use crate::{Method, WallTime, assurance::Context, session::Session};

/// The guarded path that a request's path may lead to, if any. `path` as it was sent; a query is cut off.
pub fn guard<'r>(rule: &'r StepUp, path: &str) -> Option<&'r GuardedPath> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    rule.paths.iter().find(|guarded| may_lead(path.as_bytes(), guarded, 0))
}

/// Whether a session has what a rule wants now.
pub fn is_met(rule: &StepUp, session: &Session, now: WallTime) -> bool {
    session.assurance.is_some_and(|assurance| {
        now < assurance.at.plus(rule.max_age) && Context::is_one_of(assurance.context, &rule.authn_context)
    })
}

/// Whether a session's user can be asked again: an IdP knows them, not a password of the directory.
pub fn is_possible(session: &Session) -> bool {
    session.method == Method::Saml
}

/// Whether some reading of `path` is at or below `guarded`. `depth` counts the decodings so far.
fn may_lead(path: &[u8], guarded: &GuardedPath, depth: usize) -> bool {
    if path.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\') {
        return true;
    }
    let decoded = decode(path);
    let settled = decoded == path;
    if is_under(path, guarded, settled) {
        return true;
    }
    if settled {
        return false;
    }
    if depth == DECODINGS_MAX {
        return true;
    }
    if may_lead(&decoded, guarded, depth + 1) {
        return true;
    }
    // Parameters may go before escapes are decoded, with an escaped slash in them, or after.
    let bare = without_parameters(path);
    bare != path && may_lead(&decode(&bare), guarded, depth + 1)
}

/// Whether the segments of `path` begin with those of `guarded`, or cannot be told. `settled`: no escape is left, so a
/// `%` is a broken one.
fn is_under(path: &[u8], guarded: &GuardedPath, settled: bool) -> bool {
    let mut wanted = guarded.segments().iter();
    let mut next = wanted.next();
    let mut under = false;
    for segment in path.split(|byte| *byte == b'/') {
        let name = segment.split(|byte| matches!(byte, b';' | b'?' | b'#')).next().unwrap_or_default();
        let name = name.trim_ascii();
        if name.len() > 1 && name.iter().all(|byte| *byte == b'.') {
            return true;
        }
        let Some(wanted_now) = next.filter(|_| !under) else { continue };
        // Some systems pass over dots and spaces at the end of a name.
        let end = name.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |at| at + 1);
        let name = name.get(..end).unwrap_or_default();
        if name.is_empty() {
            continue;
        }
        // What is no ASCII, or no escape, is another letter or a slash to somebody.
        let unclear = name.iter().any(|byte| !byte.is_ascii() || (settled && *byte == b'%'));
        if unclear {
            return true;
        }
        if !name.eq_ignore_ascii_case(wanted_now.as_bytes()) {
            // Only dots further on could still lead there.
            next = None;
            continue;
        }
        next = wanted.next();
        under = next.is_none();
    }
    under
}

/// Each `%XX` once.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| others.split_first_chunk::<2>()).flatten();
        let byte = escaped.and_then(|([high, low], after)| Some((hex(*high)? << 4 | hex(*low)?, after)));
        let (byte, after) = byte.unwrap_or((*first, others));
        decoded.push(byte);
        rest = after;
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Each segment up to its `;`.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let bare: Vec<&[u8]> =
        segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default()).collect();
    bare.join(&b'/')
}

/// An honest path is decoded once; a second time by careless cells.
const DECODINGS_MAX: usize = 3;

#[cfg(test)]
mod tests;
