//! Revocations: written to the file first, answered from memory.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use guichet_config::TenantId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{StoreError, use_error};
use crate::{Method, WallTime, session::Session};

/// What memory holds of the file's revocations.
#[derive(Debug, Default)]
pub(super) struct Ledger(RwLock<Revocations>);

#[derive(Debug, Default)]
struct Revocations {
    /// sid → end of the entry.
    sessions: HashMap<[u8; 16], u64>,
    /// Tenant → sessions opened before, end of the entry.
    fallback: HashMap<String, (u64, u64)>,
}

impl Ledger {
    /// Reads every revocation.
    pub(super) fn load(file: &Database) -> Result<Self, redb::Error> {
        let txn = file.begin_read()?;
        let mut all = Revocations::default();
        for entry in txn.open_table(SESSIONS)?.iter()? {
            let (sid, until) = entry?;
            all.sessions.insert(sid.value(), until.value());
        }
        for entry in txn.open_table(FALLBACK)?.iter()? {
            let (tenant, ends) = entry?;
            all.fallback.insert(tenant.value().to_owned(), ends.value());
        }
        Ok(Self(RwLock::new(all)))
    }

    pub(super) fn revoke_session(&self, file: &Database, sid: &[u8; 16], until: WallTime) -> Result<(), StoreError> {
        {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if all.sessions.len() >= SESSIONS_MAX && !all.sessions.contains_key(sid) {
                return Err(StoreError::Full("session revocations"));
            }
        }
        let txn = file.begin_write().map_err(use_error)?;
        {
            let mut table = txn.open_table(SESSIONS).map_err(use_error)?;
            let before = table.get(sid).map_err(use_error)?.map_or(0, |until| until.value());
            table.insert(sid, until.0.max(before)).map_err(use_error)?;
        }
        txn.commit().map_err(use_error)?;
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let entry = all.sessions.entry(*sid).or_default();
        *entry = until.0.max(*entry);
        Ok(())
    }

    pub(super) fn revoke_fallback(
        &self,
        file: &Database,
        tenant: &TenantId,
        before: WallTime,
        until: WallTime,
    ) -> Result<(), StoreError> {
        let txn = file.begin_write().map_err(use_error)?;
        let merged = {
            let mut table = txn.open_table(FALLBACK).map_err(use_error)?;
            // Revocations only grow.
            let (old_before, old_until) =
                table.get(tenant.as_str()).map_err(use_error)?.map_or((0, 0), |ends| ends.value());
            let merged = (before.0.max(old_before), until.0.max(old_until));
            table.insert(tenant.as_str(), merged).map_err(use_error)?;
            merged
        };
        txn.commit().map_err(use_error)?;
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.fallback.insert(tenant.as_str().to_owned(), merged);
        Ok(())
    }

    pub(super) fn revoked(&self, session: &Session) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.sessions.contains_key(&session.sid)
            || (session.method == Method::Fallback
                && all.fallback.get(session.tenant.as_str()).is_some_and(|(before, _)| *before > session.issued.0))
    }

    /// Forgets what has ended.
    pub(super) fn purge(&self, now: WallTime) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.sessions.retain(|_, until| *until > now.0);
        all.fallback.retain(|_, (_, until)| *until > now.0);
    }
}

/// sid → end of the entry.
pub(super) const SESSIONS: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("revoked_sessions");
/// Tenant → sessions opened before, end of the entry.
pub(super) const FALLBACK: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("revoked_fallback");

/// About 64 MB of memory.
const SESSIONS_MAX: usize = 1_000_000;
