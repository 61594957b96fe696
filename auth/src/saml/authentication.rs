//! How and when the user logged in at the IdP: the authentication statements of a verified assertion.

use guichet_config::AttributeName;
use uppsala::{Document, NodeId};

use super::{
    Expected, Refusal, attributes,
    response::{optional_time, required_time},
    xml::{self, SAML},
};
use crate::{
    WallTime,
    assurance::{Assurance, Context, Level},
};

/// What the statements say.
pub(super) struct Authentication {
    /// The earliest SessionNotOnOrAfter.
    pub(super) session_not_after: Option<WallTime>,
    /// How and when; of several statements, what all of them vouch for.
    pub(super) assurance: Assurance,
}

/// Reads every statement (core §2.7.2) and holds it against what was asked: one that is weaker or older is no answer,
/// whatever stands beside it.
pub(super) fn read(doc: &Document<'_>, assertion: NodeId, expected: &Expected<'_>) -> Result<Authentication, Refusal> {
    let mut found: Option<Authentication> = None;
    for statement in xml::children(doc, assertion, SAML, "AuthnStatement") {
        let instant = required_time(doc, statement, "AuthnInstant")?;
        expected.not_in_future(instant)?;
        let end = optional_time(doc, statement, "SessionNotOnOrAfter")?;
        end.map_or(Ok(()), |end| expected.before(end))?;
        let context = context(doc, statement)?;
        expected.asked.check_context(context)?;
        let at = expected.asked.check_instant(instant, expected.clock_skew, expected.now)?;
        found = Some(match found {
            None => Authentication { session_not_after: end, assurance: Assurance { context, at, level: None } },
            Some(before) => Authentication {
                session_not_after: before.session_not_after.into_iter().chain(end).min(),
                assurance: Assurance {
                    context: context.filter(|context| before.assurance.context == Some(*context)),
                    at: before.assurance.at.min(at),
                    level: None,
                },
            },
        });
    }
    let mut found = found.ok_or(Refusal::AuthnStatement)?;
    found.assurance.level = level(doc, assertion);
    Ok(found)
}

/// AuthnContextClassRef. Declarations by value or reference beside it add nothing we know.
fn context(doc: &Document<'_>, statement: NodeId) -> Result<Option<Context>, Refusal> {
    let single = |node, local| xml::single(doc, node, SAML, local).map_err(|()| Refusal::AuthnContext);
    let Some(context) = single(statement, "AuthnContext")? else { return Ok(None) };
    let Some(class) = single(context, "AuthnContextClassRef")? else { return Ok(None) };
    let uri = xml::text(doc, class).ok_or(Refusal::ValueNotPlain)?;
    Ok(Some(Context::of(uri.trim_ascii())))
}

/// The best level among the values of eduPersonAssurance; what cannot be read vouches for nothing.
fn level(doc: &Document<'_>, assertion: NodeId) -> Option<Level> {
    let values = attributes::nodes(doc, assertion, &AttributeName::ASSURANCE).take(VALUES_MAX);
    values.filter_map(|node| Level::of(&xml::text(doc, node)?)).max()
}

/// The framework defines some twenty.
const VALUES_MAX: usize = 64;
