//! Who sends a request: a session cookie, Basic credentials, or nobody known.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use guichet_auth::{
    Attempt, AuthMethod, Decision, Identity, Outcome, Protocol, Source, UnavailableReason, WallTime,
    session::{SealError, Session},
};
use guichet_config::{Address, Secret};
use http::{HeaderMap, header};

use super::{cookie, event};
use crate::{
    app::{App, Snapshot},
    telemetry::{METRICS, event::LoginDecided},
};

/// What a request says of its sender.
#[derive(Debug)]
pub(crate) enum Sender {
    /// Known.
    Known {
        /// Who.
        identity: Identity,
        /// The session they have; absent: credentials came with the request.
        session: Option<Arc<Session>>,
        /// The session sealed again, when it was due.
        renewed: Option<String>,
    },
    /// No session and no credentials, or a session that has ended.
    Unknown,
    /// Credentials that are wrong, or cannot be read.
    Denied,
    /// Nobody can tell now.
    Unavailable(UnavailableReason),
}

/// Finds out who sends a request.
pub(crate) async fn sender(headers: &HeaderMap, client: SocketAddr, app: &App, snapshot: &Snapshot) -> Sender {
    let now = app.clock.now();
    if let Some(session) = session(headers, app, snapshot, now) {
        let renewed = session.renewed(&snapshot.config.session, now).map(|renewed| {
            app.tagged.see(&renewed);
            let value = snapshot.sealer.seal_session(&renewed);
            cookie::set(cookie::SESSION, &value, cookie::SameSite::Lax, None)
        });
        return Sender::Known { identity: session.identity(), session: Some(session), renewed };
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Sender::Unknown };
    if !super::header::is_basic(headers) {
        return Sender::Unknown;
    }
    let Some((username, password)) = basic(value.as_bytes()) else { return Sender::Denied };
    let outcome = decide(&username, &password, AuthMethod::Password, client, snapshot).await;
    match outcome.decision {
        Decision::Allow(identity) => Sender::Known { identity, session: None, renewed: None },
        Decision::Deny(_) => Sender::Denied,
        Decision::Unavailable(reason) => Sender::Unavailable(reason),
    }
}

/// The session of a request, when it has one that is sealed by us, has not ended and is not revoked.
pub(crate) fn session(headers: &HeaderMap, app: &App, snapshot: &Snapshot, now: WallTime) -> Option<Arc<Session>> {
    let fields = headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes());
    let (_, value) = cookie::pairs(fields).find(|(name, _)| *name == cookie::SESSION)?;
    match snapshot.sealer.open_session(value, now) {
        Ok(session) if app.store.revoked(&session) => {
            event::session_refused("revoked");
            None
        }
        // A lifetime that was made shorter since holds for sessions that are open, too: what is remembered to end them is kept
        // no longer.
        Ok(session) if now >= session.issued.plus(snapshot.config.session.lifetime) => {
            event::session_refused("ended");
            None
        }
        Ok(session) => Some(session),
        Err(SealError::Ended) => {
            event::session_refused("ended");
            None
        }
        Err(_) => {
            event::session_refused("foreign");
            None
        }
    }
}

/// Decides one password and tells the log.
pub(crate) async fn decide(
    username: &str,
    password: &Secret<String>,
    method: AuthMethod,
    client: SocketAddr,
    snapshot: &Snapshot,
) -> Outcome {
    let start = Instant::now();
    let attempt = Attempt { username, password, protocol: Protocol::Web, method, source: client.ip() };
    let outcome = snapshot.authenticator.decide(&attempt).await;
    if outcome.source == Source::Cache && matches!(outcome.decision, Decision::Allow(_)) {
        // A calendar program sends its password with each request: counted, but no line each.
        METRICS.auth_decisions.with_label_values(&[method.method().as_str(), "web", "allow", "cache"]).inc();
        METRICS.auth_decision_seconds.with_label_values(&["cache"]).observe(start.elapsed().as_secs_f64());
        return outcome;
    }
    // A name that is no address may be a password typed into the wrong field: never logged.
    let address = username.parse::<Address>().ok();
    LoginDecided {
        method,
        protocol: Protocol::Web,
        session: "",
        client,
        address: address.as_ref(),
        outcome: &outcome,
        took: start.elapsed(),
    }
    .emit();
    outcome
}

/// The user name and password of a Basic `Authorization` value (RFC 7617).
fn basic(value: &[u8]) -> Option<(String, Secret<String>)> {
    let encoded = value.get(6..)?.trim_ascii();
    if encoded.len() > BASIC_BYTES_MAX {
        return None;
    }
    let decoded = zeroize::Zeroizing::new(BASE64_STANDARD.decode(encoded).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    let legal = |text: &str| !text.chars().any(char::is_control);
    (legal(username) && legal(password)).then(|| (username.to_owned(), Secret::new(password.to_owned())))
}

const BASIC_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(value: &str) -> Option<(String, String)> {
        basic(value.as_bytes()).map(|(username, password)| (username, password.expose().clone()))
    }

    #[test]
    fn basic_credentials_are_split_at_the_first_colon() {
        assert_eq!(decoded("Basic YTpi"), Some(("a".into(), "b".into())));
        assert_eq!(decoded("basic   YTpiOmM="), Some(("a".into(), "b:c".into())));
    }

    #[test]
    fn broken_credentials_are_none() {
        for value in ["Basic", "Basic ", "Basic !!!", "Basic YQ==", "Basic YToA", "Basic /zph"] {
            assert_eq!(decoded(value), None, "{value}");
        }
        assert_eq!(decoded(&format!("Basic {}", "YWFh".repeat(1000))), None);
    }
}
