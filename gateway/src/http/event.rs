//! What happens on the web way: its log lines and its metrics, together.

use std::{net::IpAddr, time::Duration};

use guichet_auth::{
    Identity,
    saml::logout::{Channel, LogoutOutcome},
};
use guichet_config::{Address, CellId, TenantId};
use tracing::{debug, info, warn};

use crate::telemetry::METRICS;

/// The strict gate refused a request head.
pub(crate) fn refused_head(kind: &'static str) {
    METRICS.http_gate_refusals.with_label_values(&[kind]).inc();
    debug!(kind, "A request head was refused.");
}

/// A request ended.
pub(crate) struct RequestEnded<'a> {
    /// From where.
    pub(crate) client: Option<IpAddr>,
    /// `1.1` or `2`.
    pub(crate) version: &'static str,
    /// Method; shown at debug level only.
    pub(crate) method: &'a str,
    /// Cell, when one answered.
    pub(crate) cell: Option<&'a CellId>,
    /// Status sent; 0 when nothing was.
    pub(crate) status: u16,
    /// From the head to the end of the answer.
    pub(crate) took: Duration,
    /// What went wrong at the cell.
    pub(crate) error: Option<String>,
}

impl RequestEnded<'_> {
    /// Logs and counts.
    pub(crate) fn emit(&self) {
        let service = if self.cell.is_some() { "cell" } else { "own" };
        let class = match self.status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
            _ => "none",
        };
        METRICS.http_requests.with_label_values(&[service, self.version, class]).inc();
        METRICS.http_request_seconds.with_label_values(&[service]).observe(self.took.as_secs_f64());
        let cell = self.cell.map(CellId::as_str).unwrap_or_default();
        match &self.error {
            Some(error) if self.status >= 500 => {
                warn!(client = ?self.client, cell, status = self.status, error, "A cell did not answer a request.");
            }
            error => debug!(
                client = ?self.client, method = self.method, cell, status = self.status,
                micros = self.took.as_micros(), error = error.as_deref().unwrap_or_default(), "A request ended."
            ),
        }
    }
}

/// A browser session was opened.
pub(crate) fn session_opened(identity: &Identity, client: IpAddr) {
    let method = identity.method.as_str();
    METRICS.session_opened.with_label_values(&[method]).inc();
    info!(user = %identity.address, tenant = %identity.tenant, method, %client, "A browser session was opened.");
}

/// A session cookie was not accepted.
pub(crate) fn session_refused(reason: &'static str) {
    METRICS.session_refused.with_label_values(&[reason]).inc();
    debug!(reason, "A session cookie was not accepted.");
}

/// A login request goes to an IdP.
pub(crate) fn saml_request(tenant: &TenantId) {
    METRICS.saml_requests.with_label_values(&[tenant.as_str()]).inc();
    debug!(%tenant, "A login request goes to the IdP.");
}

/// An answer at the assertion consumer was refused. `tenant` is the pending login's, when there is one.
pub(crate) fn saml_refused(tenant: Option<&TenantId>, client: IpAddr, kind: &str, error: &str, reference: &str) {
    let tenant = tenant.map(TenantId::as_str).unwrap_or_default();
    METRICS.saml_logins.with_label_values(&[tenant, "refused"]).inc();
    METRICS.saml_refusals.with_label_values(&[kind]).inc();
    warn!(tenant, %client, kind, error, reference, "A SAML login was refused.");
}

/// The answer to a test login. `failed`: kinds of the checks that failed.
pub(crate) fn saml_tested(tenant: &TenantId, client: IpAddr, failed: &[&str]) {
    METRICS.saml_logins.with_label_values(&[tenant.as_str(), "tested"]).inc();
    info!(%tenant, %client, good = failed.is_empty(), failed = failed.join(" "), "A test login was answered.");
}

/// A SAML login was accepted.
pub(crate) fn saml_accepted(identity: &Identity) {
    METRICS.saml_logins.with_label_values(&[identity.tenant.as_str(), "accepted"]).inc();
}

/// An institution was chosen for a login. `how`: by `address`, from the `list`, by a `link`, or at a `discovery` service.
pub(crate) fn institution_chosen(how: &'static str) {
    METRICS.login_institutions.with_label_values(&[how]).inc();
}

/// A discovery service sent a browser back. `result`: `chosen`, `several` tenants to ask for, `none`, `unknown` IdP, or
/// `no_state` of this browser.
pub(crate) fn discovery_returned(result: &'static str) {
    METRICS.discovery_returns.with_label_values(&[result]).inc();
    debug!(result, "A discovery service sent a browser back.");
}

/// A service provider of `saml.discovery_for` asked where a user belongs. `result`: `shown`, `chosen`, or `remembered`
/// and `nothing` when the user must not be asked.
pub(crate) fn discovery_asked(client: &str, result: &'static str) {
    METRICS.discovery_requests.with_label_values(&[client, result]).inc();
    debug!(client, result, "A service provider asked for an institution.");
}

/// A question to us as a discovery service was refused; what it said is cut short and escaped.
pub(crate) fn discovery_refused(client: IpAddr, kind: &'static str, who: &str, return_to: &str, reference: &str) {
    METRICS.discovery_requests.with_label_values(&["", "refused"]).inc();
    let short = |text: &str| text.chars().take(200).collect::<String>();
    // A query may hold the state of somebody's login.
    let (who, return_to) = (short(who), short(return_to.split('?').next().unwrap_or_default()));
    warn!(%client, kind, ?who, ?return_to, reference, "A question to the discovery service was refused.");
}

/// A page wanted a fresher or stronger login. `result`: `asked` (the browser goes to the IdP), `done`, `refused` (the
/// answer was not accepted), `told` (a script, a form or a program was turned away), `impossible` (this user came by a
/// password) or `idp_down`.
pub(crate) fn step_up(user: &Address, tenant: &TenantId, result: &'static str) {
    METRICS.step_ups.with_label_values(&[tenant.as_str(), result]).inc();
    match result {
        "done" | "refused" => info!(%user, %tenant, result, "A page wanted a fresher or stronger login."),
        // A script or a program may ask without end.
        _ => debug!(%user, %tenant, result, "A page wanted a fresher or stronger login."),
    }
}

/// We ask an IdP to end its session.
pub(crate) fn logout_sent(tenant: &TenantId) {
    METRICS.saml_logout_requests.with_label_values(&[tenant.as_str(), "sent"]).inc();
    debug!(%tenant, "A logout request goes to the IdP.");
}

/// An IdP asked us to end sessions, and they have ended. `users`: how many of them this node knows.
pub(crate) fn logout_received(tenant: &TenantId, channel: Channel, users: usize) {
    METRICS.saml_logout_requests.with_label_values(&[tenant.as_str(), "received"]).inc();
    info!(%tenant, channel = channel.as_str(), users, "The IdP ended sessions.");
}

/// An IdP answered our logout request.
pub(crate) fn logout_answered(tenant: &TenantId, outcome: LogoutOutcome) {
    let (result, code) = match outcome {
        LogoutOutcome::Ended => ("ended", ""),
        LogoutOutcome::Partly => ("partly", ""),
        LogoutOutcome::Refused(code) => ("refused", code),
    };
    METRICS.saml_logout_answers.with_label_values(&[tenant.as_str(), result]).inc();
    info!(%tenant, result, code, "The IdP answered a logout request.");
}

/// A logout message was refused.
pub(crate) fn logout_refused(client: IpAddr, kind: &str, error: &str, reference: &str) {
    METRICS.saml_logout_refusals.with_label_values(&[kind]).inc();
    warn!(%client, kind, error, reference, "A SAML logout message was refused.");
}

/// A mail program asked for its settings. `result`: `told`, `unknown` (domain), `refused` or `forwarded` to the cell.
pub(crate) fn setup_asked(document: &'static str, result: &'static str) {
    METRICS.setup_requests.with_label_values(&[document, result]).inc();
    debug!(document, result, "A mail program asked for its settings.");
}

/// A page could not be served because of ourselves or something behind us.
pub(crate) fn trouble(what: &'static str, error: &str, reference: &str) {
    warn!(what, error, reference, "A login could not be served.");
}
