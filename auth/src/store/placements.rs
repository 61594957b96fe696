//! An operator's word on where a user's mailbox is: written to the file first, answered from memory.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use guichet_config::{Address, CellId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{StoreError, use_error};
use crate::WallTime;

/// An operator's word on a user's placement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementOverride {
    /// Cell, as the configuration names it.
    pub cell: String,
    /// Ends then, milliseconds since the epoch.
    pub until: u64,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: String,
    /// Since.
    pub since: u64,
}

#[derive(Debug, Default)]
pub(super) struct Placements(RwLock<HashMap<Address, PlacementOverride>>);

impl Placements {
    /// Reads every word. One that cannot be read is an error: a user must not end in the wrong cell unnoticed.
    pub(super) fn load(file: &Database) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let txn = file.begin_read()?;
        let mut all = HashMap::new();
        for entry in txn.open_table(PLACEMENTS)?.iter()? {
            let (address, json) = entry?;
            all.insert(address.value().parse()?, serde_json::from_slice(json.value())?);
        }
        Ok(Self(RwLock::new(all)))
    }

    pub(super) fn place(
        &self,
        file: &Database,
        address: &Address,
        word: Option<&PlacementOverride>,
    ) -> Result<(), StoreError> {
        let txn = file.begin_write().map_err(use_error)?;
        {
            let mut table = txn.open_table(PLACEMENTS).map_err(use_error)?;
            match word {
                Some(word) => {
                    let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
                    if all.len() >= PLACEMENTS_MAX && !all.contains_key(address) {
                        return Err(StoreError::Full("placements"));
                    }
                    let json = serde_json::to_vec(word).map_err(use_error)?;
                    table.insert(address.as_str(), json.as_slice()).map_err(use_error)?;
                }
                None => drop(table.remove(address.as_str()).map_err(use_error)?),
            }
        }
        txn.commit().map_err(use_error)?;
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match word {
            Some(word) => drop(all.insert(address.clone(), word.clone())),
            None => drop(all.remove(address)),
        }
        Ok(())
    }

    pub(super) fn of(&self, address: &Address, now: WallTime) -> Option<CellId> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let word = all.get(address).filter(|word| word.until > now.0)?;
        word.cell.parse().ok()
    }

    /// Whether there is a word at all, ended ones included.
    pub(super) fn any(&self) -> bool {
        !self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn list(&self, now: WallTime) -> Vec<(Address, PlacementOverride)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> =
            all.iter().filter(|(_, word)| word.until > now.0).map(|(a, w)| (a.clone(), w.clone())).collect();
        list.sort_by(|one, other| one.0.cmp(&other.0));
        list
    }

    pub(super) fn purge(&self, now: WallTime) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, word| word.until > now.0);
    }
}

/// Address → [`PlacementOverride`] as JSON.
pub(super) const PLACEMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("placements");

/// Exceptions, made by hand: a tenth of what a big institution has.
const PLACEMENTS_MAX: usize = 10_000;
