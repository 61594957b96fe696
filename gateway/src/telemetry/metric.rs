//! Every metric of the gateway, by name, in one registry.
//!
//! `guichet_<area>_<what>_<unit>[_total]`. Labels hold names from the configuration or the words of an enum, never
//! users, addresses or paths, so that their number is bounded by the configuration. `docs/metrics.md` lists the same
//! names; a test compares.

use std::sync::LazyLock;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector, process_collector::ProcessCollector,
};

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// All of them. Fields are named as the metrics, without `guichet_` and the unit.
#[derive(Debug)]
#[allow(missing_docs, reason = "the help text of each metric says it, in `new`")]
pub struct Metrics {
    registry: Registry,

    pub node_ready: IntGauge,
    pub node_draining: IntGauge,
    pub config_generation: IntGauge,
    pub config_reloads: IntCounterVec,

    pub listener_connections: IntCounterVec,
    pub listener_connections_open: IntGaugeVec,
    pub listener_accept_errors: IntCounterVec,
    pub limit_rejections: IntCounterVec,
    pub proxy_header_rejections: IntCounterVec,

    pub tls_handshakes: IntCounterVec,
    pub tls_handshake_seconds: HistogramVec,
    pub tls_certificate_not_after: IntGaugeVec,
    pub tls_certificate_reloads: IntCounterVec,

    pub auth_decisions: IntCounterVec,
    pub auth_decision_seconds: HistogramVec,
    pub auth_ecp_answers: IntCounterVec,
    pub auth_ecp_refusals: IntCounterVec,
    pub auth_ecp_seconds: HistogramVec,
    pub auth_proof_refusals: IntCounterVec,
    pub session_opened: IntCounterVec,
    pub session_refused: IntCounterVec,

    pub mail_dialogue_ends: IntCounterVec,
    pub mail_passwords_in_clear: IntCounterVec,
    pub mail_sessions: IntCounterVec,
    pub mail_sessions_open: IntGaugeVec,
    pub mail_session_ends: IntCounterVec,
    pub mail_login_seconds: Histogram,
    pub submission_messages: IntCounterVec,
    pub relay_to_cell_bytes: IntCounter,
    pub relay_to_client_bytes: IntCounter,

    pub cell_endpoint_up: IntGaugeVec,
    pub cell_connects: IntCounterVec,
    pub cell_login_failures: IntCounterVec,
    pub cell_source_exhausted: IntCounterVec,
    pub zimbra_tokens: IntCounterVec,
    pub drain_active: IntGaugeVec,

    pub http_requests: IntCounterVec,
    pub http_request_seconds: HistogramVec,
    pub placement_users: IntGauge,
    pub placement_held_logins: IntGauge,
    pub placement_holds: IntCounterVec,
    pub placement_second_looks: IntCounterVec,
    pub placement_sessions_ended: IntCounter,
    pub waves: IntGaugeVec,

    pub http_requests_open: IntGauge,
    pub http_gate_refusals: IntCounterVec,

    pub setup_requests: IntCounterVec,

    pub login_institutions: IntCounterVec,
    pub discovery_requests: IntCounterVec,
    pub discovery_returns: IntCounterVec,
    pub step_ups: IntCounterVec,
    pub saml_requests: IntCounterVec,
    pub saml_logins: IntCounterVec,
    pub saml_refusals: IntCounterVec,
    pub saml_logout_requests: IntCounterVec,
    pub saml_logout_answers: IntCounterVec,
    pub saml_logout_refusals: IntCounterVec,
    pub saml_metadata_refreshes: IntCounterVec,
    pub saml_metadata_refreshed: IntGaugeVec,
    pub saml_metadata_not_after: IntGaugeVec,
    pub saml_metadata_certificate_not_after: IntGaugeVec,
    pub saml_metadata_idps: IntGaugeVec,
    pub saml_metadata_idps_dropped: IntCounterVec,
    pub idp_state: IntGaugeVec,
    pub idp_state_changes: IntCounterVec,
    pub idp_probes: IntCounterVec,
    pub idp_guard: IntGauge,
}

impl Metrics {
    #[rustfmt::skip] // one metric a line
    fn new() -> Self {
        let r = Registry::new();
        let build = gauges(&r, "guichet_build_info", "Always 1; the labels tell the build.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        register(&r, ProcessCollector::for_self());
        Self {
            node_ready: gauge(&r, "guichet_node_ready", "1 when listeners accept and the node is not stopping."),
            node_draining: gauge(&r, "guichet_node_draining", "1 while the node waits for connections to end."),
            config_generation: gauge(&r, "guichet_config_generation", "Counts loads of the configuration, from 1."),
            config_reloads: counters(&r, "guichet_config_reloads_total", "Reloads asked for.", &["result"]),

            listener_connections: counters(&r, "guichet_listener_connections_total", "Accepted connections.", &["listener"]),
            listener_connections_open: gauges(&r, "guichet_listener_connections_open", "Connections open now.", &["listener"]),
            listener_accept_errors: counters(&r, "guichet_listener_accept_errors_total", "Failed accepts.", &["listener"]),
            limit_rejections: counters(&r, "guichet_limit_rejections_total", "Connections, logins, sessions, messages and recipients turned away by a limit.", &["scope"]),
            proxy_header_rejections: counters(&r, "guichet_proxy_header_rejections_total", "Connections closed for their PROXY header.", &["listener", "reason"]),

            tls_handshakes: counters(&r, "guichet_tls_handshakes_total", "TLS handshakes with clients.", &["listener", "result"]),
            tls_handshake_seconds: histograms(&r, "guichet_tls_handshake_seconds", "Time of good TLS handshakes.", &["listener"]),
            tls_certificate_not_after: gauges(&r, "guichet_tls_certificate_not_after_seconds", "End of validity, Unix time.", &["certificate"]),
            tls_certificate_reloads: counters(&r, "guichet_tls_certificate_reloads_total", "Changes seen in the certificate folder.", &["result"]),

            auth_decisions: counters(&r, "guichet_auth_decisions_total", "Decisions on logins by password, certificate and token.", &["method", "protocol", "decision", "source"]),
            auth_decision_seconds: histograms(&r, "guichet_auth_decision_seconds", "Time of these decisions.", &["source"]),
            auth_ecp_answers: counters(&r, "guichet_auth_ecp_answers_total", "Passwords that a tenant's IdP was asked about by ECP, by what it said.", &["tenant", "result"]),
            auth_ecp_refusals: counters(&r, "guichet_auth_ecp_refusals_total", "Answers of ECP endpoints that cannot be accepted and that somebody should look at, by the check that failed.", &["kind"]),
            auth_ecp_seconds: histograms(&r, "guichet_auth_ecp_seconds", "Time of these questions.", &["result"]),
            auth_proof_refusals: counters(&r, "guichet_auth_proof_refusals_total", "Client certificates and bearer tokens that prove nothing, by the check that failed.", &["method", "reason"]),
            session_opened: counters(&r, "guichet_session_opened_total", "Browser sessions opened.", &["method"]),
            session_refused: counters(&r, "guichet_session_refused_total", "Session cookies not accepted.", &["reason"]),

            mail_dialogue_ends: counters(&r, "guichet_mail_dialogue_ends_total", "Dialogues that ended without login.", &["listener", "reason"]),
            mail_passwords_in_clear: counters(&r, "guichet_mail_passwords_in_clear_total", "Credentials sent before TLS, and refused.", &["protocol"]),
            mail_sessions: counters(&r, "guichet_mail_sessions_total", "Logged-in mail sessions.", &["protocol", "cell"]),
            mail_sessions_open: gauges(&r, "guichet_mail_sessions_open", "Logged-in mail sessions now.", &["protocol", "cell"]),
            mail_session_ends: counters(&r, "guichet_mail_session_ends_total", "Ends of logged-in mail sessions.", &["protocol", "reason"]),
            mail_login_seconds: histogram(&r, "guichet_mail_login_seconds", "From a login command to the cell's welcome."),
            submission_messages: counters(&r, "guichet_submission_messages_total", "Messages a cell gave its word on.", &["cell", "result"]),
            relay_to_cell_bytes: counter(&r, "guichet_relay_to_cell_bytes_total", "Bytes relayed from clients to cells."),
            relay_to_client_bytes: counter(&r, "guichet_relay_to_client_bytes_total", "Bytes relayed from cells to clients."),

            cell_endpoint_up: gauges(&r, "guichet_cell_endpoint_up", "1 when the endpoint is in rotation.", &["cell", "service", "endpoint"]),
            cell_connects: counters(&r, "guichet_cell_connects_total", "Connections to cells.", &["cell", "service", "result"]),
            cell_login_failures: counters(&r, "guichet_cell_login_failures_total", "Cells that did not let an allowed user in.", &["cell", "reason"]),
            cell_source_exhausted: counters(&r, "guichet_cell_source_exhausted_total", "Connections that a source address had no port for; the next address was tried.", &["cell"]),
            zimbra_tokens: counters(&r, "guichet_zimbra_tokens_total", "Auth tokens asked for at Zimbra cells.", &["cell", "result"]),
            drain_active: gauges(&r, "guichet_drain_active", "1 while an operator drains a cell, an endpoint or a listener.", &["kind", "name", "endpoint"]),

            placement_users: gauge(&r, "guichet_placement_users", "Users that the table of placements has a cell for."),
            placement_held_logins: gauge(&r, "guichet_placement_held_logins", "Logins that wait for the end of a move."),
            placement_holds: counters(&r, "guichet_placement_holds_total", "Logins and requests of users being moved, by how it went on.", &["result"]),
            placement_second_looks: counters(&r, "guichet_placement_second_looks_total", "Routes looked up once more because the cell turned an allowed user away.", &["result"]),
            placement_sessions_ended: counter(&r, "guichet_placement_sessions_ended_total", "Mail sessions ended because their user was held or moved."),
            waves: gauges(&r, "guichet_waves", "Waves by where their users are.", &["stage"]),

            http_requests: counters(&r, "guichet_http_requests_total", "Requests answered.", &["service", "version", "status"]),
            http_request_seconds: histograms(&r, "guichet_http_request_seconds", "Time from request head to end of answer.", &["service"]),
            http_requests_open: gauge(&r, "guichet_http_requests_open", "Requests being answered now."),
            http_gate_refusals: counters(&r, "guichet_http_gate_refusals_total", "Request heads refused by the strict gate.", &["kind"]),

            setup_requests: counters(&r, "guichet_setup_requests_total", "Mail programs that asked for their settings.", &["document", "result"]),

            login_institutions: counters(&r, "guichet_login_institutions_total", "Institutions chosen for a login.", &["how"]),
            discovery_requests: counters(&r, "guichet_discovery_requests_total", "Questions of service providers to us as their discovery service.", &["client", "result"]),
            discovery_returns: counters(&r, "guichet_discovery_returns_total", "Browsers sent back by the federation's discovery service.", &["result"]),
            step_ups: counters(&r, "guichet_step_up_total", "Requests for pages that want a fresher or stronger login than the session has.", &["tenant", "result"]),
            saml_requests: counters(&r, "guichet_saml_requests_total", "Login requests sent to an IdP.", &["tenant"]),
            saml_logins: counters(&r, "guichet_saml_logins_total", "Answers of an IdP at the assertion consumer; `tested`: of a test login.", &["tenant", "result"]),
            saml_refusals: counters(&r, "guichet_saml_refusals_total", "Responses refused, by the check that failed.", &["kind"]),
            saml_logout_requests: counters(&r, "guichet_saml_logout_requests_total", "Logout requests sent to an IdP, and those of an IdP that ended sessions.", &["tenant", "direction"]),
            saml_logout_answers: counters(&r, "guichet_saml_logout_answers_total", "Answers of an IdP to our logout requests.", &["tenant", "result"]),
            saml_logout_refusals: counters(&r, "guichet_saml_logout_refusals_total", "Logout messages refused, by the check that failed.", &["kind"]),
            saml_metadata_refreshes: counters(&r, "guichet_saml_metadata_refreshes_total", "Documents of IdP metadata looked at again.", &["federation", "result"]),
            saml_metadata_refreshed: gauges(&r, "guichet_saml_metadata_refreshed_seconds", "When the source last stood by the metadata in use, Unix time.", &["federation"]),
            saml_metadata_not_after: gauges(&r, "guichet_saml_metadata_not_after_seconds", "End of the metadata in use (validUntil), Unix time.", &["federation"]),
            saml_metadata_certificate_not_after: gauges(&r, "guichet_saml_metadata_certificate_not_after_seconds", "First end of a certificate, Unix time.", &["federation", "owner"]),
            saml_metadata_idps: gauges(&r, "guichet_saml_metadata_idps", "IdPs kept of the metadata.", &["federation"]),
            saml_metadata_idps_dropped: counters(&r, "guichet_saml_metadata_idps_dropped_total", "IdPs of tenants that a new document does not hold any more, or not in a usable way.", &["federation", "result"]),
            idp_state: gauges(&r, "guichet_idp_state", "1 for the state the tenant's IdP is in.", &["tenant", "state"]),
            idp_state_changes: counters(&r, "guichet_idp_state_changes_total", "Changes of an IdP's state.", &["tenant", "state"]),
            idp_probes: counters(&r, "guichet_idp_probes_total", "Probes of IdPs.", &["tenant", "result"]),
            idp_guard: gauge(&r, "guichet_idp_guard", "1 while so many IdPs fail at once that the node suspects its own way out."),

            registry: r,
        }
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing into memory fails only for an empty family, which `gather` leaves out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

fn register<C: Collector + 'static>(registry: &Registry, collector: C) {
    registry.register(Box::new(collector)).expect("each name is registered once, below");
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::new(name, help).expect("a legal name");
    register(registry, metric.clone());
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect("a legal name");
    register(registry, metric.clone());
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::new(name, help).expect("a legal name");
    register(registry, metric.clone());
    metric
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect("a legal name");
    register(registry, metric.clone());
    metric
}

fn histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec())).expect("a legal name");
    register(registry, metric.clone());
    metric
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
    let metric = HistogramVec::new(options, labels).expect("a legal name");
    register(registry, metric.clone());
    metric
}

/// Seconds: from a cache hit to a cell that hangs.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_can_be_made_and_shown() {
        METRICS.relay_to_cell_bytes.inc_by(3);
        METRICS.limit_rejections.with_label_values(&["source"]).inc();
        let text = METRICS.render();
        assert!(text.contains("guichet_relay_to_cell_bytes_total"), "{text}");
        assert!(text.contains("guichet_limit_rejections_total{scope=\"source\"}"), "{text}");
    }
}
