//! An operator's word that a cell, one endpoint of it or a listener is to be empty: written to the file first, answered from
//! memory.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{StoreError, use_error};
use crate::WallTime;

/// What is drained; names as the configuration has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainTarget {
    /// A cell.
    Cell(String),
    /// One endpoint of a cell, `host:port`.
    Endpoint(String, String),
    /// A listener.
    Listener(String),
}

/// An operator's word on a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOverride {
    /// Of what.
    pub target: DrainTarget,
    /// The last live connection ends then, milliseconds since the epoch.
    pub done: u64,
    /// Ends then.
    pub until: u64,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: String,
    /// Since.
    pub since: u64,
}

#[derive(Debug, Default)]
pub(super) struct Drains(RwLock<BTreeMap<DrainTarget, DrainOverride>>);

impl Drains {
    /// Reads every word. One that cannot be read is an error: a cell under repair must not get users back unnoticed.
    pub(super) fn load(file: &Database) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let txn = file.begin_read()?;
        let mut all = BTreeMap::new();
        for entry in txn.open_table(DRAINS)?.iter()? {
            let word: DrainOverride = serde_json::from_slice(entry?.1.value())?;
            all.insert(word.target.clone(), word);
        }
        Ok(Self(RwLock::new(all)))
    }

    pub(super) fn set(&self, file: &Database, word: DrainOverride) -> Result<(), StoreError> {
        let txn = file.begin_write().map_err(use_error)?;
        {
            let mut table = txn.open_table(DRAINS).map_err(use_error)?;
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= DRAINS_MAX && !all.contains_key(&word.target) {
                return Err(StoreError::Full("drains"));
            }
            let json = serde_json::to_vec(&word).map_err(use_error)?;
            table.insert(key(&word.target).as_str(), json.as_slice()).map_err(use_error)?;
        }
        txn.commit().map_err(use_error)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(word.target.clone(), word);
        Ok(())
    }

    pub(super) fn take_back(&self, file: &Database, targets: &[DrainTarget]) -> Result<(), StoreError> {
        let txn = file.begin_write().map_err(use_error)?;
        {
            let mut table = txn.open_table(DRAINS).map_err(use_error)?;
            for target in targets {
                table.remove(key(target).as_str()).map_err(use_error)?;
            }
        }
        txn.commit().map_err(use_error)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|target, _| !targets.contains(target));
        Ok(())
    }

    pub(super) fn list(&self, now: WallTime) -> Vec<DrainOverride> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|word| word.until > now.0).cloned().collect()
    }

    pub(super) fn purge(&self, now: WallTime) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, word| word.until > now.0);
    }
}

/// No name of the configuration holds a space.
fn key(target: &DrainTarget) -> String {
    match target {
        DrainTarget::Cell(cell) => format!("cell {cell}"),
        DrainTarget::Endpoint(cell, endpoint) => format!("endpoint {cell} {endpoint}"),
        DrainTarget::Listener(listener) => format!("listener {listener}"),
    }
}

/// [`key`] → [`DrainOverride`] as JSON.
pub(super) const DRAINS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("drains");

/// More than a node has cells, endpoints and listeners.
const DRAINS_MAX: usize = 1_000;
