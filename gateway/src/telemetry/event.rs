//! One struct per happening; `emit` writes its log line and counts it, together.
//!
//! `error` wakes someone, `warn` can wait for morning, `info` is the life of the process and of sessions, `debug` that
//! of a connection. No event holds a password, a cookie or an assertion.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use guichet_auth::{
    AuthMethod, Decision, Identity, Outcome, Protocol,
    availability::IdpState,
    placement::{Stage, Wave},
    store::DrainTarget,
};
use guichet_config::{Address, CellId, ListenerId, TenantId};
use guichet_proto::smtp::Message;
use tracing::{debug, error, info, warn};

use super::METRICS;

/// A connection was turned away by a limit.
#[derive(Debug)]
pub struct ConnectionRefused<'a> {
    /// Where it came in.
    pub listener: &'a ListenerId,
    /// From where.
    pub client: IpAddr,
    /// `connections`, `source` or `rate`.
    pub scope: &'static str,
}

impl ConnectionRefused<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.limit_rejections.with_label_values(&[self.scope]).inc();
        debug!(listener = %self.listener, client = %self.client, scope = self.scope, "A connection was refused by a limit.");
    }
}

/// A PROXY header was missing, broken or came from a stranger.
#[derive(Debug)]
pub struct ProxyHeaderRefused<'a> {
    /// Where it came in.
    pub listener: &'a ListenerId,
    /// Who sent it.
    pub peer: SocketAddr,
    /// `untrusted`, `broken`, `deadline` or `gone`.
    pub reason: &'static str,
    /// What is wrong with it.
    pub detail: &'a str,
}

impl ProxyHeaderRefused<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.proxy_header_rejections.with_label_values(&[self.listener.as_str(), self.reason]).inc();
        warn!(listener = %self.listener, peer = %self.peer, reason = self.reason, detail = self.detail, "A connection was closed for its PROXY header.");
    }
}

/// A TLS handshake with a client ended.
#[derive(Debug)]
pub struct Handshake<'a> {
    /// Where it came in.
    pub listener: &'a ListenerId,
    /// From where.
    pub client: SocketAddr,
    /// What it took, or why it failed.
    pub result: Result<Duration, &'a str>,
}

impl Handshake<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let listener = self.listener.as_str();
        match self.result {
            Ok(took) => {
                METRICS.tls_handshakes.with_label_values(&[listener, "ok"]).inc();
                METRICS.tls_handshake_seconds.with_label_values(&[listener]).observe(took.as_secs_f64());
            }
            Err(error) => {
                METRICS.tls_handshakes.with_label_values(&[listener, "failed"]).inc();
                debug!(listener, client = %self.client, error, "A TLS handshake failed.");
            }
        }
    }
}

/// A client certificate or a bearer token proves nothing.
#[derive(Debug)]
pub struct ProofRefused<'a> {
    /// Which of them.
    pub method: AuthMethod,
    /// By which protocol.
    pub protocol: Protocol,
    /// Names the connection.
    pub session: &'a str,
    /// From where.
    pub client: SocketAddr,
    /// The check that failed.
    pub reason: &'static str,
}

impl ProofRefused<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let method = self.method.method().as_str();
        METRICS.auth_proof_refusals.with_label_values(&[method, self.reason]).inc();
        info!(session = self.session, protocol = self.protocol.as_str(), client = %self.client, method, reason = self.reason, "A certificate or token proves nothing.");
    }
}

/// A login was decided.
#[derive(Debug)]
pub struct LoginDecided<'a> {
    /// What was shown.
    pub method: AuthMethod,
    /// By which protocol.
    pub protocol: Protocol,
    /// Names the connection or request in other lines.
    pub session: &'a str,
    /// From where.
    pub client: SocketAddr,
    /// The address proven or typed, when it is one. Anything else may be a password typed into the wrong field.
    pub address: Option<&'a guichet_config::Address>,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// What it took.
    pub took: Duration,
}

impl LoginDecided<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let (decision, reason) = match &self.outcome.decision {
            Decision::Allow(_) => ("allow", ""),
            Decision::Deny(reason) => ("deny", reason.as_str()),
            Decision::Unavailable(reason) => ("unavailable", reason.as_str()),
        };
        let label = if reason.is_empty() { decision } else { reason };
        let source = self.outcome.source.as_str();
        let method = match &self.outcome.decision {
            // What it earned, when it earned something: a password may be taken as a fallback only.
            Decision::Allow(identity) => identity.method,
            Decision::Deny(_) | Decision::Unavailable(_) => self.method.method(),
        };
        let (method, protocol) = (method.as_str(), self.protocol.as_str());
        METRICS.auth_decisions.with_label_values(&[method, protocol, label, source]).inc();
        METRICS.auth_decision_seconds.with_label_values(&[source]).observe(self.took.as_secs_f64());
        let user = self.address.map(guichet_config::Address::as_str).unwrap_or_default();
        match self.method {
            AuthMethod::Password | AuthMethod::Fallback => {
                info!(session = self.session, protocol, client = %self.client, method, user, decision, reason, source, "A password login was decided.");
            }
            AuthMethod::Certificate | AuthMethod::Token => {
                info!(session = self.session, protocol, client = %self.client, method, user, decision, reason, source, "A login without a password was decided.");
            }
        }
    }
}

/// A cell did not let an allowed user in. Never "wrong password" to the client.
#[derive(Debug)]
pub struct CellLoginFailed<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// Who.
    pub identity: &'a Identity,
    /// Where.
    pub cell: &'a CellId,
    /// `no_endpoint`, `no_source`, `drained`, `connect`, `temporary`, `elsewhere`, `refused`, `protocol`, `bye`, `deadline`; or
    /// `password_needed` when the user gave none; or `token_no_key`, `token_away`, `token_garbage`, `token_refused`, `token_held` when the cell gave no auth token.
    pub reason: &'static str,
    /// The chain of causes.
    pub detail: &'a str,
}

impl CellLoginFailed<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.cell_login_failures.with_label_values(&[self.cell.as_str(), self.reason]).inc();
        warn!(session = self.session, user = %self.identity.address, tenant = %self.identity.tenant, cell = %self.cell, reason = self.reason, detail = self.detail, "A cell did not let an allowed user in.");
    }
}

/// An allowed user is placed in a cell that the configuration does not have.
#[derive(Debug)]
pub struct NoCell<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// Who.
    pub identity: &'a Identity,
}

impl NoCell<'_> {
    /// Logs and counts. The cell's name came from elsewhere and is no label.
    pub fn emit(&self) {
        METRICS.cell_login_failures.with_label_values(&["", "no_cell"]).inc();
        warn!(session = self.session, user = %self.identity.address, tenant = %self.identity.tenant, "A user's cell is not in the configuration.");
    }
}

/// A Zimbra cell was asked for a user's auth token, or was not for what it answered before.
#[derive(Debug)]
pub struct TokenAsked<'a> {
    /// Cell.
    pub cell: &'a CellId,
    /// Who.
    pub user: &'a Address,
    /// `given`, `refused`, `held` or `failed`.
    pub result: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl TokenAsked<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.zimbra_tokens.with_label_values(&[self.cell.as_str(), self.result]).inc();
        debug!(cell = %self.cell, user = %self.user, result = self.result, millis = self.took.as_millis(), "A cell was asked for an auth token.");
    }
}

/// A Zimbra cell refuses token after token, whoever the user is.
#[derive(Debug)]
pub struct PreauthInDoubt<'a> {
    /// Cell.
    pub cell: &'a CellId,
    /// What it said last.
    pub detail: &'a str,
}

impl PreauthInDoubt<'_> {
    /// Logs.
    pub fn emit(&self) {
        error!(cell = %self.cell, detail = self.detail, "A cell refuses every auth token: its PreAuth key is another one, or the clocks differ. It is asked once in a while now, so that it locks nobody out.");
    }
}

/// A cell turned an allowed user away, and the directory was asked once more where the user belongs.
#[derive(Debug)]
pub struct LookedAgain<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// Who, as it was known before.
    pub identity: &'a Identity,
    /// The cell that turned the user away.
    pub cell: &'a CellId,
    /// `moved`: tried at another cell; `held`: being moved; `same`, `nowhere`, `unavailable`: told to try later; `denied`: the
    /// directory lets the user in no more.
    pub result: &'static str,
}

impl LookedAgain<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.placement_second_looks.with_label_values(&[self.result]).inc();
        info!(session = self.session, user = %self.identity.address, tenant = %self.identity.tenant, cell = %self.cell, result = self.result, "A cell turned a user away and the route was looked up again.");
    }
}

/// A login came while its user was being moved.
#[derive(Debug)]
pub struct LoginHeld<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// Who.
    pub identity: &'a Identity,
    /// `released`: it waited and went on; `timed_out`, `refused` (too many wait), `moved` (the user moved while the cell was
    /// being opened), `web`: told to try later.
    pub result: &'static str,
    /// How long it waited.
    pub waited: Duration,
}

impl LoginHeld<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.placement_holds.with_label_values(&[self.result]).inc();
        info!(session = self.session, user = %self.identity.address, tenant = %self.identity.tenant, result = self.result, millis = self.waited.as_millis(), "A login came while its user was being moved.");
    }
}

/// Placements name a cell that the configuration does not have.
#[derive(Debug)]
pub struct PlacementsWithoutCell<'a> {
    /// The cell.
    pub cell: &'a CellId,
}

impl PlacementsWithoutCell<'_> {
    /// Logs.
    pub fn emit(&self) {
        error!(cell = %self.cell, "Users are placed in a cell that the configuration does not have: they cannot log in.");
    }
}

/// Waves were made, went on or ended.
#[derive(Debug)]
pub struct WavesChanged<'a> {
    /// All of them, now.
    pub waves: &'a [Wave],
}

impl WavesChanged<'_> {
    /// Counts; the audit line tells who did what.
    pub fn emit(&self) {
        for stage in [Stage::Planned, Stage::Committed, Stage::RolledBack] {
            let count = self.waves.iter().filter(|wave| wave.stage == stage).count();
            METRICS.waves.with_label_values(&[stage.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// An endpoint joined or left the rotation.
#[derive(Debug)]
pub struct EndpointChanged<'a> {
    /// Cell.
    pub cell: &'a CellId,
    /// `web` or `imap`.
    pub service: &'static str,
    /// `host:port`.
    pub endpoint: &'a str,
    /// In rotation now; otherwise why not.
    pub result: Result<(), &'a str>,
}

impl EndpointChanged<'_> {
    /// Logs; the gauge follows the state itself.
    pub fn emit(&self) {
        let Self { cell, service, endpoint, .. } = self;
        let up = i64::from(self.result.is_ok());
        METRICS.cell_endpoint_up.with_label_values(&[cell.as_str(), service, endpoint]).set(up);
        match self.result {
            Ok(()) => info!(%cell, service, endpoint, "An endpoint joined the rotation."),
            Err(error) => warn!(%cell, service, endpoint, error, "An endpoint left the rotation."),
        }
    }
}

/// A source address had no port left for an endpoint of a cell, or is no address of this machine.
#[derive(Debug)]
pub struct SourceExhausted<'a> {
    /// Cell.
    pub cell: &'a str,
    /// Address; `None`: it is not known which, or the kernel chose it.
    pub from: Option<IpAddr>,
}

impl SourceExhausted<'_> {
    /// Logs and counts. With thousands of connections a second, the counter is the one to watch.
    pub fn emit(&self) {
        METRICS.cell_source_exhausted.with_label_values(&[self.cell]).inc();
        debug!(cell = self.cell, from = ?self.from, "A source address has no port left for a connection to a cell.");
    }
}

/// Sets the gauge of a drain.
pub fn set_drained(target: &DrainTarget, drained: bool) {
    let labels = match target {
        DrainTarget::Cell(cell) => ["cell", cell, ""],
        DrainTarget::Endpoint(cell, endpoint) => ["endpoint", cell, endpoint],
        DrainTarget::Listener(listener) => ["listener", listener, ""],
    };
    if drained {
        METRICS.drain_active.with_label_values(&labels).set(1);
    } else {
        let _ = METRICS.drain_active.remove_label_values(&labels);
    }
}

/// A mail dialogue ended without a login.
#[derive(Debug)]
pub struct DialogueEnded<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// Where it came in.
    pub listener: &'a ListenerId,
    /// From where.
    pub client: SocketAddr,
    /// Why.
    pub reason: &'static str,
}

impl DialogueEnded<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.mail_dialogue_ends.with_label_values(&[self.listener.as_str(), self.reason]).inc();
        debug!(session = self.session, listener = %self.listener, client = %self.client, reason = self.reason, "A mail connection ended before login.");
    }
}

/// A credential came before TLS: it was refused, and everybody on the way could read it.
#[derive(Debug)]
pub struct PasswordInClear<'a> {
    /// By which protocol.
    pub protocol: &'static str,
    /// Names the connection.
    pub session: &'a str,
    /// From where.
    pub client: SocketAddr,
    /// The address typed, when it is one.
    pub address: Option<&'a guichet_config::Address>,
}

impl PasswordInClear<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.mail_passwords_in_clear.with_label_values(&[self.protocol]).inc();
        let user = self.address.map(guichet_config::Address::as_str).unwrap_or_default();
        warn!(session = self.session, protocol = self.protocol, client = %self.client, user, "A password came before TLS and was refused: its owner should change it.");
    }
}

/// A logged-in mail session began.
#[derive(Debug)]
pub struct MailSessionOpened<'a> {
    /// The protocol, or `relay`.
    pub protocol: &'static str,
    /// Where.
    pub cell: &'a CellId,
    /// From the login command to the cell's welcome; absent where there is no login.
    pub took: Option<Duration>,
}

impl MailSessionOpened<'_> {
    /// Counts; the line is written at the end.
    pub fn emit(&self) {
        METRICS.mail_sessions.with_label_values(&[self.protocol, self.cell.as_str()]).inc();
        METRICS.mail_sessions_open.with_label_values(&[self.protocol, self.cell.as_str()]).inc();
        if let Some(took) = self.took {
            METRICS.mail_login_seconds.observe(took.as_secs_f64());
        }
    }
}

/// A logged-in mail session ended.
#[derive(Debug)]
pub struct MailSessionEnded<'a> {
    /// The protocol, or `relay`.
    pub protocol: &'static str,
    /// Names the connection.
    pub session: &'a str,
    /// Where it came in.
    pub listener: &'a ListenerId,
    /// From where.
    pub client: SocketAddr,
    /// TLS version and suite.
    pub tls: &'a str,
    /// Who, of which institution; nobody behind a relay listener.
    pub user: Option<(&'a str, &'a str)>,
    /// Cell.
    pub cell: &'a CellId,
    /// Endpoint of the cell.
    pub endpoint: &'a str,
    /// Bytes to the cell.
    pub to_cell: u64,
    /// Bytes to the client.
    pub to_client: u64,
    /// Time since login.
    pub lasted: Duration,
    /// Who ended it and why.
    pub end: &'static str,
}

impl MailSessionEnded<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let (user, tenant) = self.user.unwrap_or_default();
        METRICS.mail_sessions_open.with_label_values(&[self.protocol, self.cell.as_str()]).dec();
        METRICS.mail_session_ends.with_label_values(&[self.protocol, self.end]).inc();
        info!(
            session = self.session, protocol = self.protocol, listener = %self.listener, client = %self.client,
            tls = self.tls, user, tenant, cell = %self.cell, endpoint = self.endpoint,
            to_cell = self.to_cell, to_client = self.to_client, seconds = self.lasted.as_secs(), end = self.end,
            "A mail session ended."
        );
    }
}

/// A cell gave its word on a message.
#[derive(Debug)]
pub struct MessageSubmitted<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// From where.
    pub client: SocketAddr,
    /// Who, of which institution.
    pub user: Option<(&'a str, &'a str)>,
    /// Cell.
    pub cell: &'a CellId,
    /// Envelope, length and the cell's reply; nothing of the text.
    pub message: &'a Message,
}

impl MessageSubmitted<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let Message { sender, recipients, bytes, code, said, .. } = self.message;
        let result = match *code {
            ..300 => "accepted",
            300..500 => "deferred",
            500.. => "refused",
        };
        let (user, tenant) = self.user.unwrap_or_default();
        METRICS.submission_messages.with_label_values(&[self.cell.as_str(), result]).inc();
        info!(
            session = self.session, client = %self.client, user, tenant, cell = %self.cell, sender, recipients, bytes,
            code, said, result, "A message was submitted."
        );
    }
}

/// An allowed user has as many mail sessions as a limit allows.
#[derive(Debug)]
pub struct SessionLimited<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// From where.
    pub client: SocketAddr,
    /// Who.
    pub identity: &'a Identity,
    /// `sessions_user` or `sessions_source`.
    pub scope: &'static str,
}

impl SessionLimited<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.limit_rejections.with_label_values(&[self.scope]).inc();
        info!(session = self.session, client = %self.client, user = %self.identity.address, tenant = %self.identity.tenant, scope = self.scope, "A user has too many mail sessions open for another.");
    }
}

/// A message or recipient was put off by a limit.
#[derive(Debug)]
pub struct SubmissionLimited<'a> {
    /// Names the connection.
    pub session: &'a str,
    /// Who.
    pub user: &'a guichet_config::Address,
    /// Institution.
    pub tenant: &'a TenantId,
    /// `messages_user`, `messages_tenant`, `recipients_user` or `recipients_tenant`.
    pub scope: &'static str,
}

impl SubmissionLimited<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        METRICS.limit_rejections.with_label_values(&[self.scope]).inc();
        debug!(session = self.session, user = %self.user, tenant = %self.tenant, scope = self.scope, "A limit put off what a user submits.");
    }
}

/// A reload was asked for.
#[derive(Debug)]
pub struct Reloaded<'a> {
    /// The new generation and what changed, or the report.
    pub result: Result<(u64, &'a str), &'a str>,
}

impl Reloaded<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        match self.result {
            Ok((generation, changed)) => {
                METRICS.config_reloads.with_label_values(&["done"]).inc();
                METRICS.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
                info!(generation, changed, "The configuration was reloaded.");
            }
            Err(report) => {
                METRICS.config_reloads.with_label_values(&["refused"]).inc();
                error!(report, "The configuration was not reloaded; the old one stays.");
            }
        }
    }
}

/// The certificate folder changed.
#[derive(Debug)]
pub struct CertificatesChanged<'a> {
    /// How many certificates serve now, or what is wrong with the new ones.
    pub result: Result<usize, &'a str>,
}

impl CertificatesChanged<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        match self.result {
            Ok(count) => {
                METRICS.tls_certificate_reloads.with_label_values(&["done"]).inc();
                info!(count, "The certificates were read again.");
            }
            Err(error) => {
                METRICS.tls_certificate_reloads.with_label_values(&["refused"]).inc();
                error!(error, "The changed certificates cannot be used; the old ones stay.");
            }
        }
    }
}

/// A probe of a tenant's IdP ended.
#[derive(Debug)]
pub struct IdpProbed<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// Answered, or why not.
    pub result: Result<(), &'a str>,
}

impl IdpProbed<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let tenant = self.tenant.as_str();
        match self.result {
            Ok(()) => METRICS.idp_probes.with_label_values(&[tenant, "good"]).inc(),
            Err(error) => {
                METRICS.idp_probes.with_label_values(&[tenant, "failed"]).inc();
                debug!(tenant, error, "A probe of an IdP failed.");
            }
        }
    }
}

/// The state of a tenant's IdP changed.
#[derive(Debug)]
pub struct IdpStateChanged<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// State now.
    pub state: IdpState,
}

impl IdpStateChanged<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let (tenant, state) = (self.tenant.as_str(), self.state.as_str());
        METRICS.idp_state_changes.with_label_values(&[tenant, state]).inc();
        set_idp_state(self.tenant, self.state);
        match self.state {
            IdpState::Down | IdpState::ForcedDown => warn!(tenant, state, "The state of an IdP changed."),
            _ => info!(tenant, state, "The state of an IdP changed."),
        }
    }
}

/// Sets the gauge of a tenant's IdP.
pub fn set_idp_state(tenant: &TenantId, state: IdpState) {
    for one in [IdpState::Up, IdpState::Suspect, IdpState::Down, IdpState::ForcedDown, IdpState::ForcedUp] {
        METRICS.idp_state.with_label_values(&[tenant.as_str(), one.as_str()]).set(i64::from(one == state));
    }
}

/// Sets the gauge of the guard, and says when it turns: someone must look at this node's way out.
pub fn set_idp_guard(on: bool) {
    let before = METRICS.idp_guard.get() == 1;
    METRICS.idp_guard.set(i64::from(on));
    match (before, on) {
        (false, true) => error!(
            "Many IdPs fail at once: this node suspects its own way out and declares none of them down. Look at its \
             network; an IdP that is really down can be forced down."
        ),
        (true, false) => info!("Most IdPs answer again: the node trusts its probes."),
        _ => {}
    }
}

/// An IdP's answer came to the assertion consumer.
#[derive(Debug)]
pub struct SamlAnswered<'a> {
    /// Tenant of the pending login.
    pub tenant: &'a TenantId,
    /// From where.
    pub client: IpAddr,
    /// Who, or the kind of the check that failed and its sentence.
    pub result: Result<&'a Identity, (&'static str, &'a str)>,
}

impl SamlAnswered<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let tenant = self.tenant.as_str();
        match self.result {
            Ok(identity) => {
                METRICS.saml_logins.with_label_values(&[tenant, "accepted"]).inc();
                info!(tenant, client = %self.client, user = %identity.address, "A SAML login was accepted.");
            }
            Err((kind, error)) => {
                METRICS.saml_logins.with_label_values(&[tenant, "refused"]).inc();
                METRICS.saml_refusals.with_label_values(&[kind]).inc();
                warn!(tenant, client = %self.client, kind, error, "A SAML login was refused.");
            }
        }
    }
}
