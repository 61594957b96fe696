//! The machine of one IdP.

use std::time::Duration;

use guichet_config::{Availability as Thresholds, Forced, TenantId};

use super::{IdpState, IdpStatus, Probe};
use crate::WallTime;

/// What the evidence says, whatever an operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    Up,
    Suspect,
    Down,
}

/// One IdP.
#[derive(Debug)]
pub(super) struct Machine {
    /// Whose machine this is; tenants may share an IdP.
    pub(super) idp: String,
    evidence: Evidence,
    since: WallTime,
    /// First failed probe of the trouble at hand, while there is one.
    trouble_since: Option<WallTime>,
    /// Probes in a row, of one kind: the other counter is zero.
    failures: u32,
    successes: u32,
    /// First probe of the row.
    row_since: WallTime,
    last_success: Option<WallTime>,
    /// Least time in this DOWN.
    dwell: Duration,
    /// When it last came back from DOWN.
    returned: Option<WallTime>,
    operator: Option<Word>,
    configured: Option<(Forced, WallTime)>,
}

#[derive(Clone, Debug)]
struct Word {
    forced: Forced,
    until: Option<WallTime>,
    reason: String,
    since: WallTime,
}

impl Machine {
    pub(super) fn new(idp: &str, now: WallTime) -> Self {
        Self {
            idp: idp.to_owned(),
            evidence: Evidence::Up,
            since: now,
            trouble_since: None,
            failures: 0,
            successes: 0,
            row_since: now,
            last_success: None,
            dwell: Duration::ZERO,
            returned: None,
            operator: None,
            configured: None,
        }
    }

    pub(super) fn configure(&mut self, forced: Option<Forced>, now: WallTime) {
        if self.configured.map(|(forced, _)| forced) != forced {
            self.configured = forced.map(|forced| (forced, now));
        }
    }

    pub(super) fn force(&mut self, forced: Option<(Forced, Option<WallTime>, String)>, now: WallTime) {
        self.operator = forced.map(|(forced, until, reason)| Word { forced, until, reason, since: now });
    }

    pub(super) fn on_probe(&mut self, probe: Probe, thresholds: &Thresholds, guarded: bool, now: WallTime) {
        match probe {
            Probe::Failed => self.on_failure(thresholds, guarded, now),
            Probe::Good => {
                if self.successes == 0 {
                    self.row_since = now;
                }
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                self.try_return(thresholds, now);
            }
        }
    }

    pub(super) fn on_signed_success(&mut self, thresholds: &Thresholds, now: WallTime) {
        self.last_success = Some(self.last_success.unwrap_or(now).max(now));
        self.try_return(thresholds, now);
    }

    fn on_failure(&mut self, thresholds: &Thresholds, guarded: bool, now: WallTime) {
        if self.failures == 0 {
            self.row_since = now;
        }
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        match self.evidence {
            Evidence::Up if self.failures >= thresholds.failures_to_suspect => self.enter(Evidence::Suspect, now),
            Evidence::Suspect => {
                let proven =
                    self.failures >= thresholds.failures_to_down && now.since(self.row_since) >= thresholds.down_after;
                let vetoed = self.last_success.is_some_and(|success| now.since(success) < thresholds.veto);
                if proven && !vetoed && !guarded {
                    self.go_down(thresholds, now);
                }
            }
            Evidence::Up | Evidence::Down => {}
        }
    }

    /// A relapse within an hour of the last return doubles the dwell.
    fn go_down(&mut self, thresholds: &Thresholds, now: WallTime) {
        let relapse = self.returned.is_some_and(|returned| now.since(returned) < RELAPSE_WITHIN);
        self.dwell =
            if relapse { self.dwell.saturating_mul(2).min(DWELL_MAX).max(thresholds.dwell) } else { thresholds.dwell };
        self.enter(Evidence::Down, now);
    }

    /// Back to UP from anything: a user's signed Response since the trouble began and two good probes, or good probes
    /// enough; from DOWN only after the dwell.
    fn try_return(&mut self, thresholds: &Thresholds, now: WallTime) {
        if self.evidence == Evidence::Up {
            return;
        }
        let signed = self.last_success.is_some_and(|success| success >= self.since);
        let by_login = signed && self.successes >= GOOD_WITH_SUCCESS;
        let by_probes =
            self.successes >= thresholds.successes_to_up && now.since(self.row_since) >= thresholds.up_after;
        let dwelt = self.evidence != Evidence::Down || now.since(self.since) >= self.dwell;
        if (by_login || by_probes) && dwelt {
            if self.evidence == Evidence::Down {
                self.returned = Some(now);
            }
            self.enter(Evidence::Up, now);
        }
    }

    fn enter(&mut self, evidence: Evidence, now: WallTime) {
        self.trouble_since = match evidence {
            Evidence::Up => None,
            Evidence::Suspect => Some(self.row_since),
            Evidence::Down => self.trouble_since,
        };
        self.evidence = evidence;
        self.since = now;
    }

    pub(super) fn suspected(&self) -> bool {
        self.evidence == Evidence::Suspect
    }

    /// Suspect, and the last probe failed.
    pub(super) fn failing(&self) -> bool {
        self.suspected() && self.failures > 0
    }

    pub(super) fn turned_bad_since(&self, now: WallTime, window: Duration) -> bool {
        self.failing() && now.since(self.since) < window
    }

    pub(super) fn forget_failures(&mut self) {
        if self.suspected() {
            self.failures = 0;
        }
    }

    pub(super) fn state(&self, now: WallTime) -> IdpState {
        match self.forced(now) {
            Some((Forced::Down, _)) => IdpState::ForcedDown,
            Some((Forced::Up, _)) => IdpState::ForcedUp,
            None => match self.evidence {
                Evidence::Up => IdpState::Up,
                Evidence::Suspect => IdpState::Suspect,
                Evidence::Down => IdpState::Down,
            },
        }
    }

    pub(super) fn status(&self, tenant: &TenantId, now: WallTime) -> IdpStatus {
        let configured = |(forced, _)| (forced, None, "by configuration".to_owned());
        IdpStatus {
            tenant: tenant.clone(),
            state: self.state(now),
            since: self.forced(now).map_or(self.since, |(_, since)| since),
            trouble_since: self.trouble_since,
            failures: self.failures,
            last_success: self.last_success,
            forced: match self.living_word(now) {
                Some(word) => Some((word.forced, word.until, word.reason.clone())),
                None => self.configured.map(configured),
            },
        }
    }

    /// The operator's word while it lasts, else the configuration's; and since when.
    fn forced(&self, now: WallTime) -> Option<(Forced, WallTime)> {
        self.living_word(now).map(|word| (word.forced, word.since)).or(self.configured)
    }

    fn living_word(&self, now: WallTime) -> Option<&Word> {
        self.operator.as_ref().filter(|word| word.until.is_none_or(|until| now < until))
    }
}

/// Good probes that confirm a signed Response.
const GOOD_WITH_SUCCESS: u32 = 2;

/// DOWN again so soon after a return is a relapse.
const RELAPSE_WITHIN: Duration = Duration::from_secs(3600);

/// The dwell doubles up to this.
const DWELL_MAX: Duration = Duration::from_secs(3600);
