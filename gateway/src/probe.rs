//! Probes of every tenant's IdP, into the availability board.
//!
//! A probe is a real, signed AuthnRequest to the sign-in endpoint, as a browser would bring it: any answer below 500
//! means that name, network, TLS and application work. Nobody logs in, no cookie is kept, no redirect is followed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use guichet_auth::{
    WallTime,
    availability::{IdpState, Probe},
    saml::{Binding, acs_url},
};
use guichet_config::TenantId;
use tokio::{sync::Semaphore, task::AbortHandle};

use crate::{
    app::{App, Snapshot},
    mail::{Selector, Traffic},
    telemetry::event::{IdpProbed, IdpStateChanged, set_idp_guard, set_idp_state},
};

/// Probes until the node stops. One task per tenant with an IdP; those of tenants that a reload removed end.
pub async fn run(app: Arc<App>) {
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "IdPs cannot be probed.");
            return;
        }
    };
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks: HashMap<TenantId, AbortHandle> = HashMap::new();
    loop {
        let snapshot = app.snapshot.load_full();
        let wanted = |id: &TenantId| snapshot.config.tenants.get(id).is_some_and(|tenant| tenant.idp.is_some());
        tasks.retain(|id, task| {
            let stays = wanted(id) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for id in snapshot.config.tenants.keys().filter(|id| wanted(id)) {
            tasks.entry(id.clone()).or_insert_with(|| {
                let prober = Prober {
                    app: Arc::clone(&app),
                    tenant: id.clone(),
                    client: client.clone(),
                    at_once: Arc::clone(&at_once),
                };
                tokio::spawn(prober.run()).abort_handle()
            });
        }
        drop(snapshot);
        tokio::select! {
            () = app.stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    for task in tasks.into_values() {
        task.abort();
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("Guichet-probe/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
}

struct Prober {
    app: Arc<App>,
    tenant: TenantId,
    client: reqwest::Client,
    at_once: Arc<Semaphore>,
}

impl Prober {
    async fn run(self) {
        let mut returned = Returned::default();
        let mut last = self.app.board.state(&self.tenant, self.app.clock.now());
        // All tenants at once after a start would look like an attack to a shared IdP.
        tokio::time::sleep(jitter(FIRST)).await;
        loop {
            let snapshot = self.app.snapshot.load_full();
            let timeout = snapshot.config.availability.probe_timeout;
            let result = {
                let Ok(_turn) = self.at_once.acquire().await else { return };
                tokio::time::timeout(timeout, self.probe(&snapshot))
                    .await
                    .unwrap_or_else(|_| Err("no answer in time".into()))
            };
            drop(snapshot);
            IdpProbed { tenant: &self.tenant, result: result.as_ref().copied().map_err(String::as_str) }.emit();
            let now = self.app.clock.now();
            let probe = if result.is_ok() { Probe::Good } else { Probe::Failed };
            if let Some(state) = self.app.board.on_probe(&self.tenant, probe, now) {
                IdpStateChanged { tenant: &self.tenant, state }.emit();
            }
            let state = self.app.board.state(&self.tenant, now);
            if is_forced(last) && !is_forced(state) {
                tracing::info!(tenant = %self.tenant, state = state.as_str(), "The operator's word on an IdP has ended.");
            }
            last = state;
            set_idp_state(&self.tenant, state);
            set_idp_guard(self.app.board.guarded());
            if returned.on_state(state, now) {
                self.end_fallback_sessions(now).await;
            }
            tokio::time::sleep(jitter(self.app.board.probe_after(&self.tenant, now))).await;
        }
    }

    /// One probe: an answer below 500, or why not.
    async fn probe(&self, snapshot: &Snapshot) -> Result<(), String> {
        let tenant = snapshot.config.tenants.get(&self.tenant).and_then(|tenant| tenant.idp.as_ref());
        let idp = tenant.and_then(|idp| snapshot.idps.idp(&idp.entity_id));
        // Our own gap is no evidence against the IdP.
        let (Some(idp), Some(sp)) = (idp, snapshot.sp.clone()) else { return Ok(()) };
        let now = self.app.clock.now();
        let acs_url = acs_url(&snapshot.config.hosts.public().origin);
        let made = tokio::task::spawn_blocking(move || sp.authn_request(&idp, &acs_url, RELAY_STATE, now)).await;
        let Ok(Ok(outgoing)) = made else { return Ok(()) };
        let request = match outgoing.binding {
            Binding::Redirect { url } => self.client.get(url),
            Binding::Post { action, saml_request } => {
                self.client.post(action).form(&[("SAMLRequest", saml_request.as_str()), ("RelayState", RELAY_STATE)])
            }
        };
        let answer = request.header("accept", "text/html").send().await;
        // The URL holds the request: long, and of no use in a log.
        let answer = answer.map_err(|error| crate::telemetry::chain(&error.without_url()))?;
        match answer.status().as_u16() {
            status @ 500.. => Err(format!("the sign-in page answers {status}")),
            _ => Ok(()),
        }
    }

    async fn end_fallback_sessions(&self, now: WallTime) {
        let lifetime = self.app.snapshot.load().config.session.lifetime_fallback;
        let (store, tenant) = (Arc::clone(&self.app.store), self.tenant.clone());
        let ended = tokio::task::spawn_blocking(move || store.revoke_fallback(&tenant, now, now.plus(lifetime))).await;
        match ended {
            Ok(Ok(())) => {
                // Which tunnels are of such a session is not known: those of others come again.
                let tunnels =
                    Selector { tenant: Some(self.tenant.clone()), protocol: Some(Traffic::Web), ..Selector::default() };
                self.app.relays.kick(&tunnels, TUNNELS_OVER);
                tracing::info!(tenant = %self.tenant, "The sessions opened by fallback have ended: the IdP is back.")
            }
            Ok(Err(error)) => {
                tracing::error!(tenant = %self.tenant, error = crate::telemetry::chain(&error), "The sessions opened by fallback cannot be ended.");
            }
            Err(_) => {}
        }
    }
}

/// Notices when a fallback is over for long enough that its sessions should end.
#[derive(Debug, Default)]
struct Returned {
    offered: bool,
    since: Option<WallTime>,
}

impl Returned {
    /// The state now. `true`, once: the fallback has been over for [`GRACE`].
    fn on_state(&mut self, state: IdpState, now: WallTime) -> bool {
        if state.offers_fallback() {
            *self = Self { offered: true, since: None };
            return false;
        }
        if std::mem::take(&mut self.offered) {
            self.since = Some(now);
        }
        let due = self.since.is_some_and(|since| now.since(since) >= GRACE);
        if due {
            self.since = None;
        }
        due
    }
}

fn is_forced(state: IdpState) -> bool {
    matches!(state, IdpState::ForcedDown | IdpState::ForcedUp)
}

/// Four to six fifths.
pub(crate) fn jitter(around: Duration) -> Duration {
    let mut byte = [128];
    // Without chance there is no jitter; the probe goes on.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    around.mul_f64(0.8 + 0.4 * f64::from(byte[0]) / 255.0)
}

/// Probes at once, over all tenants.
const AT_ONCE: usize = 16;
/// After a start.
const FIRST: Duration = Duration::from_secs(1);
/// For tenants that a reload brought or removed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Users in the middle of a mail keep their session that long after the IdP is back.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// Browsers open their tunnels again; not all in one second.
const TUNNELS_OVER: Duration = Duration::from_secs(30);
/// Tells an institution's logs what the request was.
const RELAY_STATE: &str = "probe";

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> WallTime {
        WallTime(minutes * 60_000)
    }

    #[test]
    fn fallback_sessions_end_once_a_quarter_of_an_hour_after_the_return() {
        let mut returned = Returned::default();
        assert!(!returned.on_state(IdpState::Up, minutes(0)));
        assert!(!returned.on_state(IdpState::Up, minutes(60)));
        assert!(!returned.on_state(IdpState::Down, minutes(61)));
        assert!(!returned.on_state(IdpState::Up, minutes(70)));
        assert!(!returned.on_state(IdpState::Up, minutes(84)));
        assert!(returned.on_state(IdpState::Up, minutes(85)));
        assert!(!returned.on_state(IdpState::Up, minutes(86)));
    }

    #[test]
    fn a_relapse_keeps_the_sessions() {
        let mut returned = Returned::default();
        assert!(!returned.on_state(IdpState::ForcedDown, minutes(0)));
        assert!(!returned.on_state(IdpState::Up, minutes(1)));
        assert!(!returned.on_state(IdpState::Down, minutes(10)));
        assert!(!returned.on_state(IdpState::Down, minutes(30)));
        assert!(!returned.on_state(IdpState::Up, minutes(31)));
        assert!(!returned.on_state(IdpState::Up, minutes(45)));
        assert!(returned.on_state(IdpState::Up, minutes(46)));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for _ in 0..100 {
            let wait = jitter(Duration::from_secs(10));
            assert!((Duration::from_secs(8)..=Duration::from_secs(12)).contains(&wait), "{wait:?}");
        }
    }
}
