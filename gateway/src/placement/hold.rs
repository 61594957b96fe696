//! Logins of users who are being moved: they wait for the end of it, so many at once and so long, and no longer.
//!
//! A waiting login sleeps until a route changes, its hold ends or its patience does; nobody looks every so often.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use guichet_auth::Identity;
use guichet_config::{CellId, Config, Limits, TenantId};
use tokio::time::{Instant, sleep_until};

use super::Placed;
use crate::{
    app::App,
    telemetry::{METRICS, event::LoginHeld},
};

/// Why a login has no cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// The move takes longer than a login may wait, or too many wait already.
    Held,
    /// The user's cell is not in the configuration.
    Nowhere,
}

/// Logins that wait on this node.
#[derive(Debug, Default)]
pub struct Holds {
    total: AtomicUsize,
    tenants: Mutex<HashMap<TenantId, usize>>,
}

/// A place among those who wait; given back on drop.
#[derive(Debug)]
struct Seat {
    holds: Arc<Holds>,
    tenant: TenantId,
}

impl Holds {
    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>, tenant: &TenantId, limits: &Limits) -> Result<Seat, &'static str> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = tenants.get(tenant).copied().unwrap_or(0);
        if self.waiting() >= limits.held_logins {
            return Err("held");
        }
        if of_tenant >= limits.held_logins_per_tenant {
            return Err("held_tenant");
        }
        tenants.insert(tenant.clone(), of_tenant + 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        METRICS.placement_held_logins.inc();
        Ok(Seat { holds: self.clone(), tenant: tenant.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut tenants = self.holds.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = tenants.get_mut(&self.tenant) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                tenants.remove(&self.tenant);
            }
        }
        self.holds.total.fetch_sub(1, Ordering::Relaxed);
        METRICS.placement_held_logins.dec();
    }
}

impl App {
    /// The cell of a user who logs in; waits while the user is held. `session` names the login in the log.
    ///
    /// # Errors
    /// There is none, or not in time.
    pub async fn settled(
        &self,
        session: &str,
        identity: &Identity,
        config: &Config,
        deadline: Instant,
    ) -> Result<CellId, Unsettled> {
        // Before the first look: a change behind it wakes us.
        let mut changes = self.store.route_changes();
        let began = Instant::now();
        let patience = deadline.min(began + PATIENCE);
        let mut seat = None;
        let told = |result| LoginHeld { session, identity, result, waited: began.elapsed() }.emit();
        loop {
            changes.mark_unchanged();
            let until = match self.place(identity, config) {
                Placed::Cell(cell) => {
                    if seat.is_some() {
                        told("released");
                    }
                    return Ok(cell);
                }
                Placed::Nowhere => return Err(Unsettled::Nowhere),
                Placed::Held(until) => until,
            };
            if seat.is_none() {
                match self.holds.enter(&identity.tenant, &config.limits) {
                    Ok(taken) => seat = Some(taken),
                    Err(scope) => {
                        METRICS.limit_rejections.with_label_values(&[scope]).inc();
                        told("refused");
                        return Err(Unsettled::Held);
                    }
                }
            }
            let end = Instant::now() + until.since(self.clock.now());
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(end.min(patience)) => {
                    if Instant::now() >= patience {
                        told("timed_out");
                        return Err(Unsettled::Held);
                    }
                }
            }
        }
    }
}

/// Below what mail programs wait for an answer (60 to 100 s).
const PATIENCE: Duration = Duration::from_secs(30);
