//! The consumer of a Response: bytes, keys and `now` in; an identity or a named refusal out.
//!
//! [`super::envelope`] verifies; here a verified assertion is held against what was asked (profiles §4.1.4.3).

use std::time::Duration;

use guichet_config::{Address, Category, TenantId};
use uppsala::{Document, NodeId};

pub use super::refusal::Refusal;
use super::{
    Check, IdpMetadata, ServiceProvider, Subject,
    ask::Asked,
    attributes::Attributes,
    authentication::{self, Authentication},
    envelope::{self, Verified},
    name_id::{NameId, Named, SESSION_INDEX_BYTES_MAX},
    signature,
    xml::{self, SAML},
};
use crate::{Identity, Method, WallTime, assurance::Assurance};

/// What the Response must answer. Everything is known before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The IdP of the pending request.
    pub idp: &'a IdpMetadata,
    /// ID of the pending AuthnRequest.
    pub request_id: &'a str,
    /// Assertion consumer service that it named, Destination and Recipient: that of the host on which the login began.
    pub acs_url: &'a str,
    /// The tenant: its domains gate the address.
    pub tenant: &'a guichet_config::Tenant,
    /// What the request asked of the login.
    pub asked: Asked<'a>,
    /// Clock difference allowed.
    pub clock_skew: Duration,
    /// Now.
    pub now: WallTime,
}

/// A verified login. Only [`consume`] makes one.
#[derive(Clone, Debug)]
pub struct Login {
    subject: Subject,
    tenant: TenantId,
    category: Category,
    replay_ids: Vec<String>,
    replay_until: WallTime,
    session_not_after: Option<WallTime>,
    assurance: Assurance,
    named: Option<Named>,
    issued: WallTime,
}

impl Login {
    /// Who, by the IdP's signed word.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The tenant that was asked.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Staff or student, by the IdP's word: the directory's goes before it.
    pub fn category(&self) -> Category {
        self.category
    }

    /// The identity, once the address is known: the subject's own, or the one the directory has for its identifier.
    pub fn identity(&self, address: Address) -> Identity {
        Identity { address, tenant: self.tenant.clone(), category: self.category, cell: None, method: Method::Saml }
    }

    /// IDs (Response, Assertion), each prefixed by the issuer: to be marked once in the store before the login counts.
    pub fn replay_ids(&self) -> &[String] {
        &self.replay_ids
    }

    /// Markers may be forgotten then. At most a day ahead: the pending request, which a replay must still match, lives
    /// for minutes.
    pub fn replay_until(&self) -> WallTime {
        self.replay_until
    }

    /// SessionNotOnOrAfter: caps our session.
    pub fn session_not_after(&self) -> Option<WallTime> {
        self.session_not_after
    }

    /// How and when the user logged in there.
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// Whom the IdP will name when it asks for a logout. `None`: the assertion has no NameID, or one out of bounds; an
    /// EncryptedID in it is refused with the whole Response (more that is encrypted than the assertion).
    pub fn named(&self) -> Option<&Named> {
        self.named.as_ref()
    }

    /// IssueInstant of the assertion, by the clock of the IdP.
    pub fn issued(&self) -> WallTime {
        self.issued
    }
}

/// Consumes the `SAMLResponse` form field.
///
/// # Errors
/// The first check that failed.
pub fn consume(field: &[u8], sp: &ServiceProvider, expected: &Expected<'_>) -> Result<Login, Refusal> {
    let text = envelope::decode(field)?;
    let assertion_signature_only = expected.tenant.idp.as_ref().is_some_and(|idp| idp.assertion_signature_only);
    envelope::verify(&text, &envelope::bare, sp, expected.idp, assertion_signature_only, &mut |_| {}, |verified| {
        judge(verified, expected, Findings::of(verified, sp, expected))
    })
}

/// A login, when everything that was found is good; else the first fault.
pub(super) fn judge(verified: &Verified<'_, '_>, expected: &Expected<'_>, found: Findings) -> Result<Login, Refusal> {
    // The order of the list decides which of several faults is told.
    if let Some(refusal) = found.list().into_iter().find_map(|(_, fault)| fault) {
        return Err(refusal);
    }
    let (response_doc, response) = verified.response();
    let response_id = xml::attribute(response_doc, response, "ID").unwrap_or_default();
    let issuer = &expected.idp.entity_id;
    let Findings { assertion_id, assertion_time, confirmation, authentication, user, category, .. } = found;
    let Authentication { session_not_after, assurance } = authentication?;
    let (doc, assertion) = verified.assertion();
    Ok(Login {
        subject: user?,
        tenant: expected.tenant.id.clone(),
        category: category?,
        replay_ids: vec![format!("{issuer} {response_id}"), format!("{issuer} {}", assertion_id?)],
        replay_until: confirmation?.plus(expected.clock_skew).min(expected.now.plus(REPLAY_MAX)),
        session_not_after,
        assurance,
        named: named(doc, assertion),
        issued: assertion_time?,
    })
}

/// What each check on a verified assertion found: what it read, or why it refuses. They do not depend on each other.
pub(super) struct Findings {
    status: Result<(), Refusal>,
    destination: Result<(), Refusal>,
    in_response_to: Result<(), Refusal>,
    response_time: Result<(), Refusal>,
    assertion_id: Result<String, Refusal>,
    assertion_time: Result<WallTime, Refusal>,
    confirmation: Result<WallTime, Refusal>,
    conditions: Result<(), Refusal>,
    authentication: Result<Authentication, Refusal>,
    pub(super) user: Result<Subject, Refusal>,
    pub(super) category: Result<Category, Refusal>,
    requirements: Result<(), Refusal>,
}

impl Findings {
    pub(super) fn of(verified: &Verified<'_, '_>, sp: &ServiceProvider, expected: &Expected<'_>) -> Self {
        let (response_doc, response) = verified.response();
        let signed = verified.response_signed();
        let (doc, assertion) = verified.assertion();
        let Expected { tenant, idp, .. } = expected;
        let wanted = tenant.idp.as_ref().filter(|wanted| wanted.entity_id == idp.entity_id).ok_or(Refusal::Issuer);
        let attributes = wanted.map(|wanted| Attributes { doc, assertion, wanted, tenant, idp });
        Self {
            status: envelope::status(response_doc, response, signed),
            destination: check_destination(xml::attribute(response_doc, response, "Destination"), signed, expected),
            in_response_to: match xml::attribute(response_doc, response, "InResponseTo") {
                Some(id) if id == expected.request_id => Ok(()),
                _ => Err(Refusal::InResponseTo),
            },
            response_time: required_time(response_doc, response, "IssueInstant")
                .and_then(|time| expected.not_in_future(time)),
            assertion_id: assertion_id(doc, assertion),
            assertion_time: required_time(doc, assertion, "IssueInstant")
                .and_then(|time| expected.not_in_future(time).map(|()| time)),
            confirmation: check_subject(doc, assertion, expected),
            conditions: check_conditions(doc, assertion, sp, expected),
            authentication: authentication::read(doc, assertion, expected),
            user: attributes.as_ref().map_err(Clone::clone).and_then(Attributes::subject),
            category: attributes.as_ref().map_err(Clone::clone).and_then(Attributes::category),
            requirements: attributes.as_ref().map_err(Clone::clone).and_then(Attributes::requirements),
        }
    }

    /// Each check with what is wrong, in the order in which faults are told.
    pub(super) fn list(&self) -> [(Check, Option<Refusal>); 12] {
        fn fault<T>(found: &Result<T, Refusal>) -> Option<Refusal> {
            found.as_ref().err().cloned()
        }
        [
            (Check::Status, fault(&self.status)),
            (Check::Destination, fault(&self.destination)),
            (Check::InResponseTo, fault(&self.in_response_to)),
            (Check::ResponseTime, fault(&self.response_time)),
            (Check::AssertionId, fault(&self.assertion_id)),
            (Check::AssertionTime, fault(&self.assertion_time)),
            (Check::Subject, fault(&self.confirmation)),
            (Check::Conditions, fault(&self.conditions)),
            (Check::Authentication, fault(&self.authentication)),
            (Check::User, fault(&self.user)),
            (Check::Category, fault(&self.category)),
            (Check::Requirements, fault(&self.requirements)),
        ]
    }
}

fn assertion_id(doc: &Document<'_>, assertion: NodeId) -> Result<String, Refusal> {
    if xml::attribute(doc, assertion, "Version") != Some("2.0") {
        return Err(Refusal::NotAResponse);
    }
    let id = xml::attribute(doc, assertion, "ID").filter(|id| signature::is_id(id));
    id.map(str::to_owned).ok_or(Refusal::AmbiguousId)
}

fn check_destination(destination: Option<&str>, signed: bool, expected: &Expected<'_>) -> Result<(), Refusal> {
    match destination {
        Some(destination) if destination == expected.acs_url => Ok(()),
        // Bindings §3.5.5.2: required where the message is signed.
        None if !signed => Ok(()),
        _ => Err(Refusal::Destination),
    }
}

impl Expected<'_> {
    /// Still before `end`, clock difference granted.
    pub(super) fn before(&self, end: WallTime) -> Result<(), Refusal> {
        if self.now < end.plus(self.clock_skew) { Ok(()) } else { Err(Refusal::Expired) }
    }

    pub(super) fn not_in_future(&self, start: WallTime) -> Result<(), Refusal> {
        if start <= self.now.plus(self.clock_skew) { Ok(()) } else { Err(Refusal::NotYetValid) }
    }

    /// `NotBefore` and `NotOnOrAfter` of an element, each when present.
    fn within(&self, doc: &Document<'_>, node: NodeId) -> Result<(), Refusal> {
        if let Some(start) = optional_time(doc, node, "NotBefore")? {
            self.not_in_future(start)?;
        }
        match optional_time(doc, node, "NotOnOrAfter")? {
            Some(end) => self.before(end),
            None => Ok(()),
        }
    }
}

/// One bearer confirmation that holds is enough; otherwise the last one's fault is told.
fn check_subject(doc: &Document<'_>, assertion: NodeId, expected: &Expected<'_>) -> Result<WallTime, Refusal> {
    let subject = xml::single(doc, assertion, SAML, "Subject").ok().flatten().ok_or(Refusal::SubjectConfirmation)?;
    // The NameID decides no identity; one that readers could read differently is a sign of tampering all the same.
    if xml::children(doc, subject, SAML, "NameID").any(|name| xml::text(doc, name).is_none()) {
        return Err(Refusal::ValueNotPlain);
    }
    let mut refusal = Refusal::SubjectConfirmation;
    for confirmation in xml::children(doc, subject, SAML, "SubjectConfirmation") {
        if xml::attribute(doc, confirmation, "Method") != Some(BEARER) {
            continue;
        }
        match check_bearer(doc, confirmation, expected) {
            Ok(until) => return Ok(until),
            Err(fault) => refusal = fault,
        }
    }
    Err(refusal)
}

/// The name and the session that a LogoutRequest will name. Of several AuthnStatements the first with a SessionIndex counts.
fn named(doc: &Document<'_>, assertion: NodeId) -> Option<Named> {
    let subject = xml::single(doc, assertion, SAML, "Subject").ok().flatten()?;
    let name = NameId::read(doc, xml::single(doc, subject, SAML, "NameID").ok().flatten()?)?;
    let indexes = xml::children(doc, assertion, SAML, "AuthnStatement")
        .find_map(|statement| xml::attribute(doc, statement, "SessionIndex").filter(|index| !index.is_empty()));
    match indexes {
        // The IdP would name it, and we would not find the session: no logout rather than half of one.
        Some(index) if index.len() > SESSION_INDEX_BYTES_MAX => None,
        index => Some(Named { name, session_index: index.map(str::to_owned) }),
    }
}

fn check_bearer(doc: &Document<'_>, confirmation: NodeId, expected: &Expected<'_>) -> Result<WallTime, Refusal> {
    let data = xml::single(doc, confirmation, SAML, "SubjectConfirmationData").ok().flatten();
    let data = data.ok_or(Refusal::SubjectConfirmation)?;
    if xml::attribute(doc, data, "Recipient") != Some(expected.acs_url) {
        return Err(Refusal::Recipient);
    }
    if xml::attribute(doc, data, "InResponseTo") != Some(expected.request_id) {
        return Err(Refusal::InResponseTo);
    }
    let until = optional_time(doc, data, "NotOnOrAfter")?.ok_or(Refusal::Endless)?;
    expected.within(doc, data)?;
    Ok(until)
}

fn check_conditions(
    doc: &Document<'_>,
    assertion: NodeId,
    sp: &ServiceProvider,
    expected: &Expected<'_>,
) -> Result<(), Refusal> {
    let conditions = xml::single(doc, assertion, SAML, "Conditions").ok().flatten().ok_or(Refusal::Conditions)?;
    expected.within(doc, conditions)?;
    let mut restricted = false;
    for condition in xml::elements(doc, conditions) {
        if xml::is(doc, condition, SAML, "AudienceRestriction") {
            restricted = true;
            let mut ours = false;
            for audience in xml::children(doc, condition, SAML, "Audience") {
                ours |= xml::text(doc, audience).ok_or(Refusal::ValueNotPlain)? == sp.entity_id();
            }
            if !ours {
                return Err(Refusal::Audience);
            }
        } else if !xml::is(doc, condition, SAML, "OneTimeUse") && !xml::is(doc, condition, SAML, "ProxyRestriction") {
            // Each assertion is used once anyway, and none is passed on: those two ask nothing more.
            return Err(Refusal::ConditionUnknown);
        }
    }
    if restricted { Ok(()) } else { Err(Refusal::Audience) }
}

pub(super) fn required_time(doc: &Document<'_>, node: NodeId, name: &str) -> Result<WallTime, Refusal> {
    optional_time(doc, node, name)?.ok_or(Refusal::Time)
}

pub(super) fn optional_time(doc: &Document<'_>, node: NodeId, name: &str) -> Result<Option<WallTime>, Refusal> {
    xml::attribute(doc, node, name).map(|text| xml::time(text).ok_or(Refusal::Time)).transpose()
}

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const REPLAY_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
#[path = "tests/response.rs"]
mod tests;
