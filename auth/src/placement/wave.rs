//! A wave: users who move to another cell together, and the one record that says how far they are.
//!
//! ```text
//!            hold, for a while          hold                hold
//!   Planned ───────────┐       Committed ──┐       RolledBack ──┐
//!      │  ▲────────────┘           │  ▲────┘          │  ▲──────┘
//!      └────────── commit ─────────┘  └─── commit ────┘  │
//!                                  └─────── rollback ─────┘
//! ```
//!
//! A hold is no state of its own: it has an end, and what was true before it is true after it. Every step said twice is the
//! same as said once, so that whoever does not know whether it was done says it again.

use std::{fmt, str::FromStr};

use guichet_config::NameError;
use serde::{Deserialize, Serialize};

use crate::WallTime;

/// Names a wave: 1 to 64 lower-case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WaveName(String);

impl WaveName {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WaveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WaveName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // The same letters as every other name that an operator gives.
        text.parse::<guichet_config::CellId>().map(|_| Self(text.to_owned()))
    }
}

impl TryFrom<String> for WaveName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<WaveName> for String {
    fn from(name: WaveName) -> Self {
        name.0
    }
}

/// Where the users of a wave are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Where they were; nothing happened yet.
    Planned,
    /// Where the wave leads.
    Committed,
    /// Where they were, again.
    RolledBack,
}

impl Stage {
    /// For people and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// What an operator can do with a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No login until then.
    Hold {
        /// The hold ends by itself.
        until: WallTime,
    },
    /// Users go where the wave leads.
    Commit,
    /// Users go back to where they were.
    Rollback,
}

/// What is known of a wave beside its users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Name.
    pub name: WaveName,
    /// Where its users are.
    pub stage: Stage,
    /// Milliseconds; 0: never held in this stage.
    pub hold_until: u64,
    /// How many.
    pub users: u64,
    /// Counts its changes, from 1.
    pub epoch: u64,
    /// When it was planned, milliseconds.
    pub planned: u64,
    /// Last change, milliseconds.
    pub changed: u64,
    /// Who changed it last.
    pub actor: String,
}

/// Why a wave does not take a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaveRefused {
    /// Nobody was moved or held.
    #[error("the wave was only planned: there is nothing to roll back, `remove` drops it")]
    NothingToRollBack,
}

impl Wave {
    /// A new one.
    pub fn plan(name: WaveName, users: u64, actor: &str, now: WallTime) -> Self {
        let actor = actor.to_owned();
        Self { name, stage: Stage::Planned, hold_until: 0, users, epoch: 1, planned: now.0, changed: now.0, actor }
    }

    /// The end of the hold, while it lasts.
    pub fn held(&self, now: WallTime) -> Option<WallTime> {
        (self.hold_until > now.0).then_some(WallTime(self.hold_until))
    }

    /// Nothing happened since it was planned.
    pub fn untouched(&self) -> bool {
        self.stage == Stage::Planned && self.hold_until == 0
    }

    /// The record after a step; `None`: it is as it would be.
    ///
    /// # Errors
    /// The step makes no sense here.
    pub fn after(&self, step: Step, actor: &str, now: WallTime) -> Result<Option<Self>, WaveRefused> {
        let (stage, hold_until) = match step {
            Step::Hold { until } => (self.stage, until.0),
            Step::Commit => (Stage::Committed, 0),
            Step::Rollback if self.untouched() => return Err(WaveRefused::NothingToRollBack),
            Step::Rollback => (Stage::RolledBack, 0),
        };
        if (stage, hold_until) == (self.stage, self.hold_until) {
            return Ok(None);
        }
        let (epoch, actor) = (self.epoch + 1, actor.to_owned());
        Ok(Some(Self { stage, hold_until, epoch, changed: now.0, actor, ..self.clone() }))
    }
}
