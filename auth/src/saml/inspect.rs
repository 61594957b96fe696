//! What an operator asks when a login fails: which checks passed, which failed, which could not be reached.
//!
//! The checks are those of the consumer, run on the same code. Of what a stranger wrote nothing is repeated but the names
//! of attributes of a verified assertion; values and keys never leave.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use guichet_config::{AttributeName, Category, Tenant, TenantId};

use super::{
    Asked, Expected, IdpMetadata, Login, Refusal, ServiceProvider, Subject, attributes,
    envelope::{self, Verified},
    response::{Findings, judge},
};
use crate::WallTime;

/// A check of the consumer, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Size, base64, UTF-8.
    Encoding,
    /// XML within our limits, no document type declaration.
    Document,
    /// One assertion, signatures where they belong.
    Layout,
    /// Issuer of the Response: an IdP of the metadata that a tenant has chosen.
    Issuer,
    /// Form and algorithms of the signatures.
    SignatureShape,
    /// Signature of the Response.
    ResponseSignature,
    /// Decryption of the assertion.
    Decryption,
    /// One assertion in the plaintext.
    Plaintext,
    /// Something signed covers the assertion, and its own signature, when it has one, holds.
    AssertionSignature,
    /// Issuer of the assertion.
    AssertionIssuer,
    /// The IdP says Success.
    Status,
    /// Destination is our assertion consumer service of the host.
    Destination,
    /// The answered request.
    InResponseTo,
    /// The Response is not from the future.
    ResponseTime,
    /// Version and ID of the assertion.
    AssertionId,
    /// The assertion is not from the future.
    AssertionTime,
    /// Bearer confirmation: recipient, request, end.
    Subject,
    /// Conditions: times, audience, nothing unknown.
    Conditions,
    /// Authentication statement.
    Authentication,
    /// Who: an address in the IdP's scopes and the tenant's domains, or an identifier in the IdP's scopes.
    User,
    /// Affiliation.
    Category,
    /// What the tenant requires besides.
    Requirements,
}

impl Check {
    /// In the order in which they run.
    pub const ALL: [Self; 22] = [
        Self::Encoding,
        Self::Document,
        Self::Layout,
        Self::Issuer,
        Self::SignatureShape,
        Self::ResponseSignature,
        Self::Decryption,
        Self::Plaintext,
        Self::AssertionSignature,
        Self::AssertionIssuer,
        Self::Status,
        Self::Destination,
        Self::InResponseTo,
        Self::ResponseTime,
        Self::AssertionId,
        Self::AssertionTime,
        Self::Subject,
        Self::Conditions,
        Self::Authentication,
        Self::User,
        Self::Category,
        Self::Requirements,
    ];

    /// What is looked at, as an operator reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Document => "document",
            Self::Layout => "layout",
            Self::Issuer => "issuer",
            Self::SignatureShape => "signature shape",
            Self::ResponseSignature => "response signature",
            Self::Decryption => "decryption",
            Self::Plaintext => "plaintext",
            Self::AssertionSignature => "assertion signature",
            Self::AssertionIssuer => "assertion issuer",
            Self::Status => "status",
            Self::Destination => "destination",
            Self::InResponseTo => "in response to",
            Self::ResponseTime => "response time",
            Self::AssertionId => "assertion id",
            Self::AssertionTime => "assertion time",
            Self::Subject => "subject",
            Self::Conditions => "conditions",
            Self::Authentication => "authentication",
            Self::User => "user",
            Self::Category => "category",
            Self::Requirements => "requirements",
        }
    }
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed(Refusal),
    /// There was nothing to check, or an earlier check failed.
    NotReached,
}

/// What was found in a Response.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The IdP, when it is one of the metadata.
    pub idp: Option<String>,
    /// The tenant against whose rules it was held.
    pub tenant: Option<TenantId>,
    /// Every check, in order.
    pub checks: Vec<(Check, Outcome)>,
    /// Names of the attributes of a verified assertion, with the number of values.
    pub attributes: Vec<(String, usize)>,
}

impl Inspection {
    /// Whether the Response would have opened a session, had it answered a pending request and come for the first time.
    pub fn is_good(&self) -> bool {
        !self.checks.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
    }

    fn of(idp: Option<String>, tenant: Option<TenantId>) -> Self {
        let checks = Check::ALL.map(|check| (check, Outcome::NotReached)).to_vec();
        Self { idp, tenant, checks, attributes: Vec::new() }
    }

    /// What was begun held, or the verifier would not have gone on; with a refusal, all but the last.
    fn settle(&mut self, begun: &[Check], refusal: Option<Refusal>) {
        begun.iter().for_each(|check| self.set(*check, Outcome::Passed));
        if let (Some(refusal), Some(last)) = (refusal, begun.last()) {
            self.set(*last, Outcome::Failed(refusal));
        }
    }

    fn set(&mut self, check: Check, outcome: Outcome) {
        for (known, state) in &mut self.checks {
            if *known == check {
                *state = outcome.clone();
            }
        }
    }
}

/// Looks at a Response: the XML, the base64 of the form field, or the field as a browser's tools copy it
/// (percent-encoded). It is held against the rules of the first of `tenants` that has its IdP; against those of the only
/// one, whichever IdP it names. `metadata` finds an IdP by entityID. Which request was pending is not known here, so the
/// Response is only held against itself, and nothing is known to have been asked of the login.
pub fn inspect(
    file: &[u8],
    sp: &ServiceProvider,
    tenants: &[&Tenant],
    metadata: &dyn Fn(&str) -> Option<Arc<IdpMetadata>>,
    clock_skew: Duration,
    now: WallTime,
) -> Inspection {
    let mut seen = Inspection::of(None, None);
    let text = match envelope::decode(&as_field(file)) {
        Ok(text) => text,
        Err(refusal) => {
            seen.set(Check::Encoding, Outcome::Failed(refusal));
            return seen;
        }
    };
    seen.set(Check::Encoding, Outcome::Passed);
    let claimed = envelope::claimed_issuer(&text).unwrap_or_default();
    let tenant = match tenants {
        [only] => Some(*only),
        all => all.iter().copied().find(|tenant| idp_of(tenant) == Some(claimed.as_str())),
    };
    let Some((tenant, idp)) = tenant.and_then(|tenant| Some((tenant, metadata(idp_of(tenant)?)?))) else {
        // The checks before that of the issuer still tell something.
        let mut begun = Vec::new();
        let refusal = envelope::layout(&text, &mut |check| begun.push(check)).err();
        if refusal.is_none() {
            begun.push(Check::Issuer);
        }
        seen.settle(&begun, Some(refusal.unwrap_or(Refusal::Issuer)));
        return seen;
    };
    seen.idp = Some(idp.entity_id.clone());
    seen.tenant = Some(tenant.id.clone());
    let request = envelope::claimed_request(&text).unwrap_or_default();
    let destination = envelope::claimed_destination(&text);
    let acs_url = destination.as_deref().and_then(|url| sp.acs_urls().find(|own| *own == url));
    let acs_url = acs_url.or_else(|| sp.acs_urls().next()).unwrap_or_default();
    let asked = Asked::default();
    let expected = Expected { idp: &idp, request_id: &request, acs_url, tenant, asked, clock_skew, now };
    check(&text, sp, &expected, &mut seen, |_, _| ());
    seen
}

/// A test login: what was found in the answer to a request of ours, and what would come of it. Only for the eyes of the
/// user it speaks of: unlike an [`Inspection`], it has values.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// Check by check.
    pub inspection: Inspection,
    /// The login, when every check holds. Whether it opens anything is the caller's matter.
    pub login: Option<Login>,
    /// Whom it names, when that check holds.
    pub subject: Option<Subject>,
    /// In which category, when that check holds.
    pub category: Option<Category>,
    /// AuthnContextClassRef.
    pub contexts: Vec<String>,
    /// eduPersonAssurance.
    pub assurance: Vec<String>,
}

/// Looks at the form field that answers a test login: the checks of the consumer, on the same code.
pub fn rehearse(field: &[u8], sp: &ServiceProvider, expected: &Expected<'_>) -> Rehearsal {
    let mut seen = Inspection::of(Some(expected.idp.entity_id.clone()), Some(expected.tenant.id.clone()));
    let text = envelope::decode(field);
    seen.set(Check::Encoding, text.as_ref().err().cloned().map_or(Outcome::Passed, Outcome::Failed));
    let found = text.ok().and_then(|text| {
        check(&text, sp, expected, &mut seen, |verified, found| {
            let (doc, assertion) = verified.assertion();
            (
                found.user.clone().ok(),
                found.category.clone().ok(),
                attributes::contexts(doc, assertion),
                attributes::shown(doc, assertion, &AttributeName::ASSURANCE),
                judge(verified, expected, found).ok(),
            )
        })
    });
    let (subject, category, contexts, assurance, login) = found.unwrap_or_default();
    Rehearsal { inspection: seen, login, subject, category, contexts, assurance }
}

/// Runs the checks behind the encoding; `read` looks at what was verified.
fn check<T>(
    text: &str,
    sp: &ServiceProvider,
    expected: &Expected<'_>,
    seen: &mut Inspection,
    read: impl FnOnce(&Verified<'_, '_>, Findings) -> T,
) -> Option<T> {
    let only = expected.tenant.idp.as_ref().is_some_and(|wanted| wanted.assertion_signature_only);
    let mut begun = Vec::new();
    let verified =
        envelope::verify(text, &envelope::bare, sp, expected.idp, only, &mut |check| begun.push(check), |verified| {
            let (doc, assertion) = verified.assertion();
            let found = Findings::of(verified, sp, expected);
            Ok((found.list(), attributes::names(doc, assertion), read(verified, found)))
        });
    match verified {
        Ok((findings, names, read)) => {
            seen.settle(&begun, None);
            for (check, fault) in findings {
                seen.set(check, fault.map_or(Outcome::Passed, Outcome::Failed));
            }
            seen.attributes = names;
            Some(read)
        }
        Err(refusal) => {
            seen.settle(&begun, Some(refusal));
            None
        }
    }
}

fn idp_of(tenant: &Tenant) -> Option<&str> {
    tenant.idp.as_ref().map(|wanted| wanted.entity_id.as_str())
}

/// The form field, whichever way the file holds it.
fn as_field(file: &[u8]) -> Vec<u8> {
    let bare = file.trim_ascii();
    if bare.starts_with(b"<") {
        return BASE64_STANDARD.encode(bare).into_bytes();
    }
    if bare.contains(&b'%') || bare.starts_with(b"SAMLResponse=") {
        let named = url::form_urlencoded::parse(bare).find(|(name, _)| name == "SAMLResponse");
        let bytes = named.map(|(_, value)| value.into_owned().into_bytes());
        // The bare value has no `=` of a name before it.
        return bytes.unwrap_or_else(|| {
            let query = [b"v=".as_slice(), bare].concat();
            url::form_urlencoded::parse(&query)
                .next()
                .map(|(_, value)| value.into_owned().into_bytes())
                .unwrap_or_default()
        });
    }
    bare.to_vec()
}

#[cfg(test)]
#[path = "tests/inspect.rs"]
mod tests;
