//! What a node must remember: seal keys, one-time markers, overrides, revocations, placements and waves, in one `redb` file.
//!
//! One node alone needs no other store. Every entry has an end and is purged after it; full tables refuse, they do not
//! forget. Each write is on disk (fsync) before the call returns, so a killed process loses nothing it has said.

mod drains;
mod ledger;
mod placements;
mod routes;

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aws_lc_rs::digest;
use guichet_config::{Address, CellId, Forced, Secret, TenantId};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use self::{drains::Drains, ledger::Ledger, placements::Placements, routes::Routes};
use crate::{
    WallTime,
    session::{LogoutTag, LogoutTags, SealKey, random},
};

pub use self::{
    drains::{DrainOverride, DrainTarget},
    ledger::Logout,
    placements::PlacementOverride,
    routes::{Imported, PlacementError, Standing},
};

/// Why the store cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the file, or it cannot be opened.
    #[error("the state file cannot be opened")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Reading or writing failed.
    #[error("the state file cannot be used")]
    Use(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// As many living entries as the store takes; the oldest must end first.
    #[error("the state file holds as many {0} as it can")]
    Full(&'static str),
}

/// An operator's word on a tenant's IdP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdpOverride {
    /// `down` or `up`.
    pub forced: String,
    /// Ends then.
    pub until: u64,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: String,
    /// Since.
    pub since: u64,
}

/// The node's own store. Blocking (milliseconds, fsync): call from `spawn_blocking` on a busy runtime.
#[derive(Debug)]
pub struct Store {
    file: Database,
    ledger: Ledger,
    placements: Placements,
    routes: Routes,
    drains: Drains,
    /// When ended markers and revocations were last removed.
    purged: AtomicU64,
}

impl Store {
    /// Opens or creates `state_dir/guichet.redb` (0600), and the folder (0700) when it is missing.
    ///
    /// # Errors
    /// The file is held by another process, damaged, or not usable.
    pub fn open(state_dir: &Path, now: WallTime) -> Result<Self, StoreError> {
        let file = open_file(state_dir)?;
        let txn = file.begin_write().map_err(open_error)?;
        create_tables(&txn).map_err(open_error)?;
        purge(&txn, now).map_err(open_error)?;
        txn.commit().map_err(open_error)?;
        let ledger = Ledger::load(&file).map_err(open_error)?;
        let placements = Placements::load(&file).map_err(StoreError::Open)?;
        let routes = Routes::load(&file).map_err(StoreError::Open)?;
        let drains = Drains::load(&file).map_err(StoreError::Open)?;
        Ok(Self { file, ledger, placements, routes, drains, purged: AtomicU64::new(now.0) })
    }

    /// Sets a one-time marker. `true`: it is new; `false`: it was there already (a replay).
    ///
    /// # Errors
    /// The file cannot be used, or too many markers live; the caller refuses.
    pub fn mark_once(&self, kind: &str, id: &str, until: WallTime, now: WallTime) -> Result<bool, StoreError> {
        let key = marker(kind, id);
        // Write transactions exclude each other: of two threads with one marker, one reads what the other wrote.
        let txn = self.file.begin_write().map_err(use_error)?;
        self.purge_when_due(&txn, now)?;
        {
            let mut markers = txn.open_table(MARKERS).map_err(use_error)?;
            let before = markers.get(key.as_slice()).map_err(use_error)?.map(|until| until.value());
            if before.is_some_and(|until| until > now.0) {
                return Ok(false);
            }
            if before.is_none() && markers.len().map_err(use_error)? >= MARKERS_MAX {
                return Err(StoreError::Full("one-time markers"));
            }
            markers.insert(key.as_slice(), until.0).map_err(use_error)?;
        }
        txn.commit().map_err(use_error)?;
        Ok(true)
    }

    /// Seal keys, newest first; makes the first and rotates (24 h) as needed, keeps those that sealed living sessions.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn seal_keys(&self, now: WallTime) -> Result<Vec<SealKey>, StoreError> {
        let txn = self.file.begin_write().map_err(use_error)?;
        let kept = {
            let mut ring = Vec::new();
            let mut table = txn.open_table(SEAL_KEYS).map_err(use_error)?;
            for entry in table.iter().map_err(use_error)? {
                let (kid, value) = entry.map_err(use_error)?;
                let (made, key) = value.value();
                ring.push((kid.value(), WallTime(made), Secret::new(key.to_vec())));
            }
            let newest = ring.last().map(|(kid, made, _)| (*kid, *made));
            if newest.is_none_or(|(_, made)| now.since(made) >= ROTATE_AFTER) {
                let kid = newest.map_or(1, |(kid, _)| kid.saturating_add(1));
                let key: [u8; 32] = random();
                table.insert(kid, (now.0, key.as_slice())).map_err(use_error)?;
                ring.push((kid, now, Secret::new(key.to_vec())));
            }
            // A key seals until the next is made, and what it sealed last lives as long as a session may.
            let mut next_made = None;
            let mut kept = Vec::new();
            for (kid, made, key) in ring.into_iter().rev() {
                if next_made.is_some_and(|next: WallTime| now.since(next) > KEEP_FOR) {
                    table.remove(kid).map_err(use_error)?;
                } else {
                    kept.push(SealKey { kid, key });
                }
                next_made = Some(made);
            }
            kept
        };
        txn.commit().map_err(use_error)?;
        Ok(kept)
    }

    /// Sets or releases an operator's word on an IdP.
    ///
    /// # Errors
    /// The file cannot be used; nothing changed.
    pub fn force_idp(&self, tenant: &TenantId, word: Option<&IdpOverride>) -> Result<(), StoreError> {
        let txn = self.file.begin_write().map_err(use_error)?;
        {
            let mut table = txn.open_table(OVERRIDES).map_err(use_error)?;
            match word {
                Some(word) => {
                    let json = serde_json::to_vec(word).map_err(use_error)?;
                    table.insert(tenant.as_str(), json.as_slice()).map_err(use_error)?;
                }
                None => drop(table.remove(tenant.as_str()).map_err(use_error)?),
            }
        }
        txn.commit().map_err(use_error)
    }

    /// Words that have not ended.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn forced_idps(&self, now: WallTime) -> Result<Vec<(TenantId, Forced, IdpOverride)>, StoreError> {
        let txn = self.file.begin_read().map_err(use_error)?;
        let table = txn.open_table(OVERRIDES).map_err(use_error)?;
        let mut words = Vec::new();
        for entry in table.iter().map_err(use_error)? {
            let (tenant, json) = entry.map_err(use_error)?;
            let word: IdpOverride = serde_json::from_slice(json.value()).map_err(use_error)?;
            let forced = if word.forced == "down" { Forced::Down } else { Forced::Up };
            if word.until > now.0 {
                words.push((tenant.value().parse().map_err(use_error)?, forced, word));
            }
        }
        Ok(words)
    }

    /// Sets or releases an operator's word on where a user's mailbox is.
    ///
    /// # Errors
    /// The file cannot be used, or too many words live; nothing changed.
    pub fn place_user(&self, address: &Address, word: Option<&PlacementOverride>) -> Result<(), StoreError> {
        self.placements.place(&self.file, address, word)
    }

    /// The cell an operator's word names for a user. Answered from memory: no file access on the hot path.
    pub fn placed_user(&self, address: &Address, now: WallTime) -> Option<CellId> {
        self.placements.of(address, now)
    }

    /// Words on users that have not ended, in address order.
    pub fn placed_users(&self, now: WallTime) -> Vec<(Address, PlacementOverride)> {
        self.placements.list(now)
    }

    /// Sets an operator's word that something is to be empty.
    ///
    /// # Errors
    /// The file cannot be used, or too many words live; nothing changed.
    pub fn drain(&self, word: DrainOverride) -> Result<(), StoreError> {
        self.drains.set(&self.file, word)
    }

    /// Takes such words back.
    ///
    /// # Errors
    /// The file cannot be used; nothing changed.
    pub fn resume(&self, targets: &[DrainTarget]) -> Result<(), StoreError> {
        self.drains.take_back(&self.file, targets)
    }

    /// Such words that have not ended. Answered from memory.
    pub fn drains(&self, now: WallTime) -> Vec<DrainOverride> {
        self.drains.list(now)
    }

    /// Revokes one session until `until` (its absolute end).
    ///
    /// # Errors
    /// The file cannot be used, or too many revocations live.
    pub fn revoke_session(&self, sid: &[u8; 16], until: WallTime) -> Result<(), StoreError> {
        self.ledger.revoke_session(&self.file, sid, until)
    }

    /// Revokes the fallback sessions of a tenant that were opened before `before`.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn revoke_fallback(&self, tenant: &TenantId, before: WallTime, until: WallTime) -> Result<(), StoreError> {
        self.ledger.revoke_fallback(&self.file, tenant, before, until)
    }

    /// Ends the sessions of a tenant that carry one of the tags.
    ///
    /// # Errors
    /// The file cannot be used, or too many logouts live.
    pub fn log_out(&self, tenant: &TenantId, tags: &[LogoutTag], logout: &Logout) -> Result<(), StoreError> {
        self.ledger.log_out(&self.file, tenant, tags, logout)
    }

    /// Whether a logout came for an assertion issued at `issued`, so that it must not open a session (core §3.7.3.1).
    pub fn logged_out(&self, tenant: &TenantId, tags: &LogoutTags, issued: WallTime) -> bool {
        self.ledger.logged_out(tenant, tags, issued)
    }

    /// Whether the ledger ends this session. Answered from memory: no file access on the hot path.
    pub fn revoked(&self, session: &crate::session::Session) -> bool {
        self.ledger.revoked(session)
    }

    fn purge_when_due(&self, txn: &WriteTransaction, now: WallTime) -> Result<(), StoreError> {
        let before = WallTime(self.purged.load(Ordering::Relaxed));
        if now.since(before) >= PURGE_EVERY {
            purge(txn, now).map_err(use_error)?;
            self.ledger.purge(now);
            self.placements.purge(now);
            self.drains.purge(now);
            self.purged.store(now.0, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn open_file(state_dir: &Path) -> Result<Database, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(open_error)?;
    let path = state_dir.join("guichet.redb");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(open_error)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    // A damaged page can trip an assertion inside redb: to us that is one more way of not being usable.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        builder.create_with_backend(redb::backends::FileBackend::new(file)?)
    }))
    .map_err(|_| StoreError::Open("the file is damaged".into()))?
    .map_err(open_error)
}

fn create_tables(txn: &WriteTransaction) -> Result<(), redb::TableError> {
    txn.open_table(MARKERS)?;
    txn.open_table(SEAL_KEYS)?;
    txn.open_table(OVERRIDES)?;
    txn.open_table(placements::PLACEMENTS)?;
    routes::create_tables(txn)?;
    txn.open_table(drains::DRAINS)?;
    txn.open_table(ledger::SESSIONS)?;
    txn.open_table(ledger::FALLBACK)?;
    txn.open_table(ledger::LOGOUTS)?;
    Ok(())
}

/// Removes what has ended.
fn purge(txn: &WriteTransaction, now: WallTime) -> Result<(), redb::Error> {
    txn.open_table(MARKERS)?.retain(|_, until| until > now.0)?;
    txn.open_table(ledger::SESSIONS)?.retain(|_, until| until > now.0)?;
    txn.open_table(ledger::FALLBACK)?.retain(|_, (_, until)| until > now.0)?;
    txn.open_table(ledger::LOGOUTS)?.retain(|_, (_, _, until)| until > now.0)?;
    // A word that cannot be read stays: whoever reads it reports it.
    txn.open_table(OVERRIDES)?
        .retain(|_, json| serde_json::from_slice::<IdpOverride>(json).map_or(true, |word| word.until > now.0))?;
    txn.open_table(placements::PLACEMENTS)?
        .retain(|_, json| serde_json::from_slice::<PlacementOverride>(json).map_or(true, |word| word.until > now.0))?;
    txn.open_table(drains::DRAINS)?
        .retain(|_, json| serde_json::from_slice::<DrainOverride>(json).map_or(true, |word| word.until > now.0))?;
    Ok(())
}

/// Key of a marker: its length does not depend on what a peer sent.
fn marker(kind: &str, id: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind.as_bytes());
    context.update(&[0]);
    context.update(id.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

fn open_error(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Open(Box::new(error))
}

fn use_error(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Use(Box::new(error))
}

/// SHA-256 of kind and id → end.
const MARKERS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("markers");
/// kid → made, key.
const SEAL_KEYS: TableDefinition<'_, u32, (u64, &[u8])> = TableDefinition::new("seal_keys");
/// Tenant → [`IdpOverride`] as JSON.
const OVERRIDES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("idp_overrides");

/// Ten minutes of 800 logins a second, two markers each: a few tens of MiB of file.
const MARKERS_MAX: u64 = 1_000_000;

/// How often ended entries are removed.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Age at which the newest seal key gets a successor.
pub(crate) const ROTATE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How long a replaced key still opens: longer than any session lives.
const KEEP_FOR: Duration = Duration::from_secs(8 * 24 * 3600);

/// Memory redb may use for pages.
const CACHE_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests;
