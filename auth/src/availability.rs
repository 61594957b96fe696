//! Is an IdP up? A state machine per IdP, pure: probes, signed successes and an operator's word in, a state out.
//!
//! An outage needs proof. Probe failures raise suspicion and, often and long enough, prove it; one signed Response
//! vetoes. Unknown means up.
//!
//! ```text
//!        failures_to_suspect in a row            failures_to_down in a row over down_after,
//!   UP ------------------------------> SUSPECT ------------------------------------> DOWN
//!    ^                                    |     no signed success within veto, no guard  |
//!    |   signed success + 2 good probes,  |                                              |
//!    +---or successes_to_up over up_after-+-------------- and dwell is over -------------+
//! ```
//!
//! When many IdPs turn bad at once the node suspects itself (its own way out is broken, more likely): while that
//! guard is on, no IdP is declared down by itself. An operator still may.

mod machine;
mod policy;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use guichet_config::{Availability as Thresholds, Forced, TenantId};

use self::machine::Machine;
pub use self::policy::{category_falls_back, offers_fallback};
use crate::WallTime;

/// State of an IdP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdpState {
    /// Works, or nothing is known.
    Up,
    /// Evidence of trouble, not enough.
    Suspect,
    /// Outage proven.
    Down,
    /// An operator says so.
    ForcedDown,
    /// An operator says so.
    ForcedUp,
}

impl IdpState {
    /// `up`, `suspect`, `down`, `forced_down`, `forced_up`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::ForcedDown => "forced_down",
            Self::ForcedUp => "forced_up",
        }
    }

    /// Whether the login page offers the directory password.
    pub fn offers_fallback(self) -> bool {
        matches!(self, Self::Down | Self::ForcedDown)
    }
}

/// Result of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The sign-in page answered (HTTP below 500).
    Good,
    /// No connection, bad TLS, time-out, HTTP 5xx.
    Failed,
}

/// What the board says of one tenant's IdP.
#[derive(Clone, Debug)]
pub struct IdpStatus {
    /// Tenant.
    pub tenant: TenantId,
    /// State now.
    pub state: IdpState,
    /// Since when.
    pub since: WallTime,
    /// First failed probe of the trouble at hand: users are told this, for it is when it began for them.
    pub trouble_since: Option<WallTime>,
    /// Failed probes in a row.
    pub failures: u32,
    /// Last signed Response.
    pub last_success: Option<WallTime>,
    /// Operator's word and its end.
    pub forced: Option<(Forced, Option<WallTime>, String)>,
}

/// The state machine of every tenant's IdP.
#[derive(Debug)]
pub struct Board(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    thresholds: Option<Thresholds>,
    machines: BTreeMap<TenantId, Machine>,
    /// The node suspects itself since then.
    guarded: Option<WallTime>,
}

impl Board {
    /// Nothing known: every IdP is up.
    pub fn new() -> Self {
        Self(Mutex::new(Inner { thresholds: None, machines: BTreeMap::new(), guarded: None }))
    }

    /// After a (re)load: tenants, the entity ID of their IdP, their forced state by configuration; others are forgotten.
    /// Of an IdP that a tenant did not have before nothing is known.
    pub fn configure(&self, thresholds: &Thresholds, tenants: &[(TenantId, String, Option<Forced>)], now: WallTime) {
        let mut inner = self.lock();
        inner.thresholds = Some(thresholds.clone());
        let mut before = std::mem::take(&mut inner.machines);
        for (tenant, idp, forced) in tenants {
            let known = before.remove(tenant).filter(|machine| machine.idp == *idp);
            let mut machine = known.unwrap_or_else(|| Machine::new(idp, now));
            machine.configure(*forced, now);
            inner.machines.insert(tenant.clone(), machine);
        }
        inner.watch_guard(now);
    }

    /// A probe ended. Returns the new state when it changed.
    pub fn on_probe(&self, tenant: &TenantId, probe: Probe, now: WallTime) -> Option<IdpState> {
        self.change(tenant, now, |machine, thresholds, guarded| {
            machine.on_probe(probe, thresholds, guarded, now);
        })
    }

    /// A valid signed Response came. Returns the new state when it changed.
    pub fn on_signed_success(&self, tenant: &TenantId, now: WallTime) -> Option<IdpState> {
        self.change(tenant, now, |machine, thresholds, _| machine.on_signed_success(thresholds, now))
    }

    /// An operator's word (`None` releases). It stands above the configuration's and ends by itself.
    pub fn force(&self, tenant: &TenantId, forced: Option<(Forced, Option<WallTime>, String)>, now: WallTime) {
        if let Some(machine) = self.lock().machines.get_mut(tenant) {
            machine.force(forced, now);
        }
    }

    /// State of one tenant's IdP; tenants without one are `Up`.
    pub fn state(&self, tenant: &TenantId, now: WallTime) -> IdpState {
        self.lock().machines.get(tenant).map_or(IdpState::Up, |machine| machine.state(now))
    }

    /// How long to wait before the next probe (the caller adds jitter).
    pub fn probe_after(&self, tenant: &TenantId, _now: WallTime) -> Duration {
        let inner = self.lock();
        let Some(thresholds) = &inner.thresholds else { return PROBE_INTERVAL };
        match inner.machines.get(tenant) {
            Some(machine) if machine.suspected() => thresholds.probe_interval_suspect,
            _ => thresholds.probe_interval,
        }
    }

    /// Whether the node suspects itself: so many IdPs turned bad at once that none is declared down automatically.
    pub fn guarded(&self) -> bool {
        self.lock().guarded.is_some()
    }

    /// All of them, in tenant order.
    pub fn list(&self, now: WallTime) -> Vec<IdpStatus> {
        self.lock().machines.iter().map(|(tenant, machine)| machine.status(tenant, now)).collect()
    }

    fn change(
        &self,
        tenant: &TenantId,
        now: WallTime,
        event: impl FnOnce(&mut Machine, &Thresholds, bool),
    ) -> Option<IdpState> {
        let mut inner = self.lock();
        let Inner { thresholds: Some(thresholds), machines, guarded } = &mut *inner else { return None };
        let machine = machines.get_mut(tenant)?;
        let before = machine.state(now);
        event(machine, thresholds, guarded.is_some());
        let after = machine.state(now);
        inner.watch_guard(now);
        (after != before).then_some(after)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    /// Turns the guard on when many IdPs became suspect within a minute, and off when most of them answer again. What
    /// was counted under the guard proves nothing: those still suspect start their proof anew. An IdP that several
    /// tenants share counts once.
    fn watch_guard(&mut self, now: WallTime) {
        let guarded = self.guarded.is_some();
        let turned = |machine: &&Machine| match guarded {
            true => machine.failing(),
            false => machine.turned_bad_since(now, GUARD_WINDOW),
        };
        let bad = idps(self.machines.values().filter(turned));
        let many = bad >= GUARD_LEAST && bad * 10 > idps(self.machines.values()) * 3;
        if guarded && !many {
            self.guarded = None;
            self.machines.values_mut().for_each(Machine::forget_failures);
        } else if !guarded && many {
            self.guarded = Some(now);
        }
    }
}

fn idps<'a>(machines: impl Iterator<Item = &'a Machine>) -> usize {
    machines.map(|machine| machine.idp.as_str()).collect::<BTreeSet<_>>().len()
}

/// More than 30 % of the IdPs must turn bad within this time for the node to suspect itself.
const GUARD_WINDOW: Duration = Duration::from_secs(60);

/// And at least so many: of one or two IdPs nothing can be told.
const GUARD_LEAST: usize = 3;

/// Before any configuration.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
