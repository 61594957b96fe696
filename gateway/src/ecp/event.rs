//! What is told of questions to IdPs: never a password, never an answer.

use std::time::Duration;

use guichet_config::{Address, TenantId};
use tracing::{debug, info, warn};

use super::{Said, Trouble};
use crate::telemetry::METRICS;

/// An IdP was asked about a password.
pub(super) struct Asked<'a> {
    /// Whose IdP.
    pub(super) tenant: &'a TenantId,
    /// Who was typed.
    pub(super) user: &'a Address,
    /// What it said.
    pub(super) said: &'a Result<Said, Trouble>,
    /// From the question to the verified answer.
    pub(super) took: Duration,
}

impl Asked<'_> {
    /// Logs and counts.
    pub(super) fn emit(&self) {
        let (tenant, user) = (self.tenant, self.user);
        let result = match self.said {
            Ok(Said::Known(_)) => "known",
            Ok(Said::WrongPassword) => "wrong_password",
            Ok(Said::NotAdmitted(_)) => "not_admitted",
            Err(Trouble::Refused { .. }) => "refused",
            Err(Trouble::Away(_)) => "unavailable",
            Err(Trouble::Busy) => "busy",
            Err(Trouble::Ours(_)) => "failed",
        };
        METRICS.auth_ecp_answers.with_label_values(&[tenant.as_str(), result]).inc();
        METRICS.auth_ecp_seconds.with_label_values(&[result]).observe(self.took.as_secs_f64());
        let millis = self.took.as_millis();
        match self.said {
            Ok(Said::Known(_) | Said::WrongPassword) => {
                debug!(%tenant, %user, result, millis, "An IdP was asked about a password.");
            }
            Ok(Said::NotAdmitted(refusal)) => {
                info!(%tenant, %user, kind = refusal.kind(), error = %refusal, "An IdP knows a password, and its user may not come in.");
            }
            Err(Trouble::Refused { kind, error, alarming }) => {
                if *alarming {
                    METRICS.auth_ecp_refusals.with_label_values(&[kind]).inc();
                }
                warn!(%tenant, %user, kind, error, millis, "An IdP's answer on a password cannot be accepted.");
            }
            Err(Trouble::Away(error)) => {
                warn!(%tenant, %user, error, millis, "An IdP does not answer on a password.");
            }
            Err(Trouble::Busy) => {
                warn!(%tenant, %user, millis, "An IdP is not asked about a password: too many questions are under way.");
            }
            Err(Trouble::Ours(error)) => {
                warn!(%tenant, %user, error, millis, "An IdP could not be asked about a password.");
            }
        }
    }
}
