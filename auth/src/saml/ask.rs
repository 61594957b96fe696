//! What a request asks of the IdP beside a login, and how an answer is held against it.

use std::time::Duration;

use guichet_config::{LoginRequest, StepUp};
use samael::schema::{AuthnContextClassRef, AuthnContextComparison, RequestedAuthnContext};

use super::{Refusal, xml};
use crate::{WallTime, assurance::Context};

/// What a request asks of the IdP beside a login. Sealed with the login under way: an answer is held against what was
/// asked, not against what the configuration says by then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The user logs in afresh (ForceAuthn).
    pub force_authn: bool,
    /// AuthnContextClassRef, of which the login must have one, the preferred first; empty: any.
    pub authn_context: Vec<String>,
}

impl Ask {
    /// What a tenant asks of every login.
    pub fn of_login(request: &LoginRequest) -> Self {
        Self { force_authn: request.force_authn, authn_context: request.authn_context.clone() }
    }

    /// What a page asks that wants more.
    pub fn of_step_up(rule: &StepUp) -> Self {
        Self { force_authn: true, authn_context: rule.authn_context.clone() }
    }

    /// Core §3.3.2.2.1: one of the list, exactly.
    pub(super) fn requested_context(&self) -> Option<RequestedAuthnContext> {
        if self.authn_context.is_empty() {
            return None;
        }
        let value = |uri: &String| AuthnContextClassRef { value: Some(xml::escape(uri)) };
        Some(RequestedAuthnContext {
            authn_context_class_refs: Some(self.authn_context.iter().map(value).collect()),
            authn_context_decl_refs: None,
            comparison: Some(AuthnContextComparison::Exact),
        })
    }
}

/// What the pending request asked, for the consumer of its answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// AuthnContextClassRef, of which the login must have one; empty: any.
    pub authn_context: &'a [String],
    /// A fresh login was asked for then.
    pub forced: Option<WallTime>,
}

impl<'a> Asked<'a> {
    /// What was asked by a request made at `issued`.
    pub fn of(ask: &'a Ask, issued: WallTime) -> Self {
        Self { authn_context: &ask.authn_context, forced: ask.force_authn.then_some(issued) }
    }

    /// The context must be one of those asked for.
    pub(super) fn check_context(&self, context: Option<Context>) -> Result<(), Refusal> {
        if Context::is_one_of(context, self.authn_context) { Ok(()) } else { Err(Refusal::AuthnContext) }
    }

    /// A fresh login happened after it was asked for, clock difference granted. Returns when, by our clock.
    pub(super) fn check_instant(
        &self,
        instant: WallTime,
        clock_skew: Duration,
        now: WallTime,
    ) -> Result<WallTime, Refusal> {
        match self.forced {
            Some(asked) if instant.plus(clock_skew) <= asked => Err(Refusal::AuthnInstant),
            // Between question and answer, whatever the IdP's clock says.
            Some(asked) => Ok(instant.max(asked).min(now)),
            None => Ok(instant.min(now)),
        }
    }
}
