//! The IdP's LogoutResponse to a LogoutRequest of ours: did its session end?

use std::{sync::Arc, time::Duration};

use uppsala::{Document, NodeId as Node};

use super::{
    super::{
        IdpMetadata, ServiceProvider,
        envelope::status_code,
        xml::{self, SAMLP},
    },
    Kind, LogoutRefusal, Received, received,
};
use crate::WallTime;

/// What the LogoutResponse must answer. Everything is known before it is read.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedLogout<'a> {
    /// The IdP that was asked.
    pub idp: &'a Arc<IdpMetadata>,
    /// ID of our LogoutRequest.
    pub request_id: &'a str,
    /// Clock difference allowed.
    pub clock_skew: Duration,
    /// Now.
    pub now: WallTime,
}

/// What the IdP says, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutOutcome {
    /// Its session, and those of all services it knows, have ended.
    Ended,
    /// Its session has ended; some service may go on.
    Partly,
    /// It did not end its session: the most precise status code that the specification knows, or `other`.
    Refused(&'static str),
}

/// Verifies a LogoutResponse.
///
/// # Errors
/// The first check that failed.
pub fn accept_response(
    received: &Received,
    sp: &ServiceProvider,
    expected: &ExpectedLogout<'_>,
) -> Result<LogoutOutcome, LogoutRefusal> {
    if received.kind() != Kind::Response {
        return Err(LogoutRefusal::NotALogout);
    }
    let doc = received.parse()?;
    let asked = |entity_id: &str| (entity_id == expected.idp.entity_id).then(|| Arc::clone(expected.idp));
    let authentic = received::authenticate(received, &doc, &asked)?;
    authentic.check_address_and_time(received, sp, expected.clock_skew, expected.now)?;
    if xml::attribute(&doc, authentic.message, "InResponseTo") != Some(expected.request_id) {
        return Err(LogoutRefusal::InResponseTo);
    }
    outcome(&doc, authentic.message)
}

/// Success with PartialLogout inside says that a service could not be reached (core §3.7.3.2).
fn outcome(doc: &Document<'_>, message: Node) -> Result<LogoutOutcome, LogoutRefusal> {
    let single = |node, local| xml::single(doc, node, SAMLP, local).ok().flatten();
    let top = single(message, "Status").and_then(|status| single(status, "StatusCode")).ok_or(LogoutRefusal::Status)?;
    let inner = single(top, "StatusCode").and_then(|inner| status_code(doc, inner));
    let success = xml::attribute(doc, top, "Value") == Some(SUCCESS);
    Ok(match (success, inner) {
        (_, Some("PartialLogout")) => LogoutOutcome::Partly,
        (true, _) => LogoutOutcome::Ended,
        (false, inner) => LogoutOutcome::Refused(inner.or_else(|| status_code(doc, top)).unwrap_or("other")),
    })
}

const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
