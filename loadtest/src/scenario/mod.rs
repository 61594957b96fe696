//! Rehearsals: what users do on some day, with the bounds that the day must keep.

mod idp_outage;
mod imap_reconnect_storm;
mod judge;
mod mail_day;
mod monday_morning;

use std::{sync::Arc, time::Duration};

use serde::Serialize;

pub use judge::{Threshold, Verdict, judge};

use crate::{
    client::Target,
    demo::{DemoTenant, DemoUser},
    engine::{Chance, Plan},
    record::Recorder,
};

/// A scenario that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// People arrive at work.
    MondayMorning,
    /// Every mail program comes back at once.
    ImapReconnectStorm,
    /// An institution's IdP goes away and comes back.
    IdpOutage,
    /// Every mail protocol at once.
    MailDay,
}

/// All of them.
pub const ALL: [Scenario; 4] =
    [Scenario::MondayMorning, Scenario::MailDay, Scenario::ImapReconnectStorm, Scenario::IdpOutage];

/// How a scenario is run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Settings {
    /// Visits a second.
    pub rate: f64,
    /// Seconds in which visits begin.
    pub duration_s: u64,
    /// People taking part, or connections held.
    pub users: usize,
    /// Decides arrivals and choices.
    pub seed: u64,
}

impl Settings {
    /// For the engine.
    pub fn plan(&self) -> Plan {
        Plan { rate: self.rate, duration: Duration::from_secs(self.duration_s), seed: self.seed }
    }
}

impl Scenario {
    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::MondayMorning => "monday-morning",
            Self::ImapReconnectStorm => "imap-reconnect-storm",
            Self::IdpOutage => "idp-outage",
            Self::MailDay => "mail-day",
        }
    }

    /// One sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::MondayMorning => {
                "people arrive: SAML logins with three webmail pages each, and as many mail programs that log in, read and leave"
            }
            Self::ImapReconnectStorm => "connections in IDLE are cut all at once and come back at the rate given",
            Self::IdpOutage => {
                "an institution's IdP goes down; the fallback is offered once that is proven, used, and withdrawn after the IdP's return"
            }
            Self::MailDay => {
                "an ordinary day: mail programs that read and wait in IDLE, POP3 polls, messages sent and told to their readers, Sieve scripts uploaded"
            }
        }
    }

    /// What it does unless told otherwise.
    pub fn defaults(self) -> Settings {
        match self {
            Self::MondayMorning => Settings { rate: 10.0, duration_s: 30, users: 40, seed: 1 },
            Self::ImapReconnectStorm => Settings { rate: 100.0, duration_s: 10, users: 500, seed: 1 },
            Self::IdpOutage => Settings { rate: 2.0, duration_s: 20, users: 40, seed: 1 },
            Self::MailDay => Settings { rate: 20.0, duration_s: 30, users: 40, seed: 1 },
        }
    }

    /// What it must keep.
    pub fn thresholds(self) -> &'static [Threshold] {
        match self {
            Self::MondayMorning => monday_morning::THRESHOLDS,
            Self::ImapReconnectStorm => imap_reconnect_storm::THRESHOLDS,
            Self::IdpOutage => idp_outage::THRESHOLDS,
            Self::MailDay => mail_day::THRESHOLDS,
        }
    }

    /// Runs it to its end.
    pub async fn run(self, target: &Target, settings: &Settings, recorder: &Arc<Recorder>) {
        let crowd = Arc::new(Crowd::new(target, settings.users));
        match self {
            Self::MondayMorning => monday_morning::run(target, settings, recorder, &crowd).await,
            Self::ImapReconnectStorm => imap_reconnect_storm::run(target, settings, recorder, &crowd).await,
            Self::IdpOutage => idp_outage::run(target, settings, recorder, &crowd).await,
            Self::MailDay => mail_day::run(target, settings, recorder, &crowd).await,
        }
    }
}

/// Who takes part.
#[derive(Debug)]
pub(crate) struct Crowd(Vec<(DemoTenant, DemoUser)>);

impl Crowd {
    /// The first people of every institution in turn, so that small crowds are mixed too.
    pub(crate) fn new(target: &Target, users: usize) -> Self {
        let tenants = &target.demo.tenants;
        let most = tenants.iter().map(|tenant| tenant.users.len()).max().unwrap_or_default();
        let all = (0..most).flat_map(|at| {
            tenants.iter().filter_map(move |tenant| tenant.users.get(at).map(|user| (tenant.clone(), user.clone())))
        });
        Self(all.take(users.max(1)).collect())
    }

    /// Anyone.
    pub(crate) fn anyone(&self, chance: &mut Chance) -> Option<(DemoTenant, DemoUser)> {
        chance.pick(&self.0).cloned()
    }

    /// The one at a place, counted round and round.
    pub(crate) fn at(&self, place: usize) -> Option<&(DemoTenant, DemoUser)> {
        self.0.get(place.checked_rem(self.0.len())?)
    }

    /// Those of one institution, and the others.
    fn split(&self, tenant: &str) -> (Self, Self) {
        let (inside, outside) = self.0.iter().cloned().partition(|(one, _)| one.id == tenant);
        (Self(inside), Self(outside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_their_names() {
        for scenario in ALL {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
        }
        assert_eq!(Scenario::named("tuesday"), None);
    }
}
