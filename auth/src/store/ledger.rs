//! Revocations: written to the file first, answered from memory.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use guichet_config::TenantId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{StoreError, use_error};
use crate::{
    Method, WallTime,
    session::{LogoutTag, LogoutTags, Session},
};

/// What memory holds of the file's revocations.
#[derive(Debug, Default)]
pub(super) struct Ledger(RwLock<Revocations>);

#[derive(Debug, Default)]
struct Revocations {
    /// sid → end of the entry.
    sessions: HashMap<[u8; 16], u64>,
    /// Tenant → sessions opened before, end of the entry.
    fallback: HashMap<String, (u64, u64)>,
    /// Tenant → tag → what a logout at its IdP ended. By tenant, so that an IdP that is broken into fills its own share.
    logouts: HashMap<String, HashMap<LogoutTag, Logout>>,
}

/// What a LogoutRequest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logout {
    /// Sessions opened until then, by our clock.
    pub before: WallTime,
    /// And such as assertions issued until then would still open, by the clock of the IdP.
    pub asserted: WallTime,
    /// End of the entry: no session it means lives longer.
    pub until: WallTime,
}

impl Logout {
    fn read((before, asserted, until): (u64, u64, u64)) -> Self {
        Self { before: WallTime(before), asserted: WallTime(asserted), until: WallTime(until) }
    }

    fn write(&self) -> (u64, u64, u64) {
        (self.before.0, self.asserted.0, self.until.0)
    }

    /// Revocations only grow.
    fn merged(&self, other: &Self) -> Self {
        Self {
            before: self.before.max(other.before),
            asserted: self.asserted.max(other.asserted),
            until: self.until.max(other.until),
        }
    }
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
        for entry in txn.open_table(LOGOUTS)?.iter()? {
            let (key, logout) = entry?;
            let (tenant, tag) = key.value();
            let of_tenant = all.logouts.entry(tenant.to_owned()).or_default();
            of_tenant.insert(LogoutTag(tag), Logout::read(logout.value()));
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

    pub(super) fn log_out(
        &self,
        file: &Database,
        tenant: &TenantId,
        tags: &[LogoutTag],
        logout: &Logout,
    ) -> Result<(), StoreError> {
        {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let of_tenant = all.logouts.get(tenant.as_str());
            let new = tags.iter().filter(|tag| of_tenant.is_none_or(|known| !known.contains_key(*tag))).count();
            let total: usize = all.logouts.values().map(HashMap::len).sum();
            if of_tenant.map_or(0, HashMap::len) + new > LOGOUTS_PER_TENANT_MAX || total + new > LOGOUTS_MAX {
                return Err(StoreError::Full("logouts"));
            }
        }
        let txn = file.begin_write().map_err(use_error)?;
        {
            let mut table = txn.open_table(LOGOUTS).map_err(use_error)?;
            for tag in tags {
                let key = (tenant.as_str(), tag.0);
                let before = table.get(key).map_err(use_error)?.map(|known| Logout::read(known.value()));
                let merged = before.map_or(*logout, |before| before.merged(logout));
                table.insert(key, merged.write()).map_err(use_error)?;
            }
        }
        txn.commit().map_err(use_error)?;
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = all.logouts.entry(tenant.as_str().to_owned()).or_default();
        for tag in tags {
            of_tenant.entry(*tag).and_modify(|known| *known = known.merged(logout)).or_insert(*logout);
        }
        Ok(())
    }

    pub(super) fn logged_out(&self, tenant: &TenantId, tags: &LogoutTags, issued: WallTime) -> bool {
        self.of_tags(tenant, tags, |logout| logout.asserted >= issued)
    }

    fn of_tags(&self, tenant: &TenantId, tags: &LogoutTags, holds: impl Fn(&Logout) -> bool) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(logouts) = all.logouts.get(tenant.as_str()) else { return false };
        tags.each().any(|tag| logouts.get(&tag).is_some_and(&holds))
    }

    pub(super) fn revoked(&self, session: &Session) -> bool {
        let at_idp = |tags| self.of_tags(&session.tenant, tags, |logout| logout.before >= session.issued);
        if session.logout.as_ref().is_some_and(at_idp) {
            return true;
        }
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
        all.logouts.retain(|_, tags| {
            tags.retain(|_, logout| logout.until > now);
            !tags.is_empty()
        });
    }
}

/// sid → end of the entry.
pub(super) const SESSIONS: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("revoked_sessions");
/// Tenant → sessions opened before, end of the entry.
pub(super) const FALLBACK: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("revoked_fallback");
/// Tenant, tag → what its logout ended.
pub(super) const LOGOUTS: TableDefinition<'_, (&str, [u8; 16]), (u64, u64, u64)> = TableDefinition::new("logouts");

/// One logout writes a tag for each key of the ring under which sessions live (two, when they live less than a day) and each
/// session index: 131,000 logouts of one institution within the life of a session. About 20 MB of memory.
const LOGOUTS_PER_TENANT_MAX: usize = 262_144;

/// Four institutions at their bound. About 80 MB of memory.
const LOGOUTS_MAX: usize = 1_048_576;

/// About 64 MB of memory.
const SESSIONS_MAX: usize = 1_000_000;
