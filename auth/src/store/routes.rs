//! The table of placements and the waves, on disk and in memory.
//!
//! On disk stands what an operator said: the last file imported, in pieces; single users said since; the users of each wave,
//! in pieces, and its record. Every change counts by one transaction of the state file: it is there whole, or it never was.
//! A whole table is too much for one, behind which every other writer of the file would wait: it is written beside the one
//! that counts, a few pieces at a time, and a last, small transaction makes it count. In
//! memory stands the one table that answers a login, behind a lock that is held for a moment by those who change it and
//! shared by those who ask.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use guichet_config::{Address, CellId};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use tokio::sync::watch;

use super::{Store, StoreError, use_error};
use crate::{
    WallTime,
    placement::{Listing, Problems, Route, Slot, Stage, Step, Table, Wave, WaveName, WaveRefused, chunks, read_stored},
};

/// Why placements or waves stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// The state file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No wave of this name.
    #[error("there is no wave of this name")]
    UnknownWave,
    /// A wave of this name moves users already.
    #[error("there is a wave of this name that was held or committed already; `remove` it first, or take another name")]
    WaveExists,
    /// The step makes no sense.
    #[error(transparent)]
    Refused(#[from] WaveRefused),
    /// The user is part of a wave.
    #[error("the user is in the wave `{0}`; `remove` that first")]
    InWave(WaveName),
    /// A new table under waves would change what they mean.
    #[error("there are waves ({0}); `remove` them first")]
    WavesLive(String),
    /// The file of users cannot be used.
    #[error("the file of users cannot be used")]
    Lines(Problems),
}

/// What an import does, or would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Users in the file.
    pub users: usize,
    /// Of these: had no placement before.
    pub added: usize,
    /// Of these: had another one.
    pub moved: usize,
    /// Users placed before that the file does not have.
    pub removed: usize,
}

/// What the table knows of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The cell, whatever a wave says.
    pub cell: Option<CellId>,
    /// The wave, and where it leads.
    pub wave: Option<(Wave, CellId)>,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    /// By number from 1; the entries of the table hold the number.
    waves: Vec<Option<Wave>>,
}

#[derive(Debug)]
pub(super) struct Routes {
    /// Whoever changes something holds this from the first look to the last; `state` is locked for writing only by them,
    /// and only for the moment of the change.
    changing: Mutex<()>,
    state: RwLock<State>,
    changes: watch::Sender<u64>,
}

impl State {
    fn wave(&self, number: u16) -> Option<&Wave> {
        self.waves.get(usize::from(number).checked_sub(1)?)?.as_ref()
    }

    fn number(&self, name: &WaveName) -> Option<u16> {
        let place = self.waves.iter().position(|wave| wave.as_ref().is_some_and(|wave| wave.name == *name))?;
        u16::try_from(place + 1).ok()
    }

    /// Takes a wave in; its number.
    fn add(&mut self, wave: Wave) -> Option<u16> {
        let place = self.waves.iter().position(Option::is_none).unwrap_or(self.waves.len());
        let number = u16::try_from(place + 1).ok().filter(|_| place < WAVES_MAX)?;
        if place == self.waves.len() {
            self.waves.push(None);
        }
        if let Some(slot) = self.waves.get_mut(place) {
            *slot = Some(wave);
        }
        Some(number)
    }

    fn replace(&mut self, number: u16, wave: Option<Wave>) {
        if let Some(place) = usize::from(number).checked_sub(1).and_then(|place| self.waves.get_mut(place)) {
            *place = wave;
        }
    }

    /// The wave of an entry, and where it leads.
    fn in_wave(&self, slot: Slot) -> Option<(&Wave, &CellId)> {
        let (number, to) = self.table.wave_of(slot)?;
        Some((self.wave(number)?, to))
    }

    /// Where an entry is served, holds aside.
    fn cell(&self, slot: Slot) -> Option<&CellId> {
        match self.in_wave(slot) {
            Some((wave, to)) if wave.stage == Stage::Committed => Some(to),
            _ => self.table.cell_of(slot),
        }
    }

    fn route(&self, user: &Address, now: WallTime) -> Route {
        let Some(slot) = self.table.find(user.into()) else { return Route::Default };
        if let Some(until) = self.in_wave(slot).and_then(|(wave, _)| wave.held(now)) {
            return Route::Held { until };
        }
        self.cell(slot).cloned().map_or(Route::Default, Route::Cell)
    }
}

impl Routes {
    /// Reads it all. What cannot be read is an error: a user must not end in the wrong cell unnoticed.
    pub(super) fn load(file: &Database) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let txn = file.begin_read()?;
        let mut state = State::default();
        let lines = txn.open_table(LINES)?;
        let table = &mut state.table;
        let current = txn.open_table(CURRENT)?.get(())?.map(|owner| owner.value().to_owned());
        for chunk in lines.range(range_of(current.as_deref().unwrap_or(IMPORTED)))? {
            let (_, chunk) = chunk?;
            let read = read_stored(chunk.value(), |user, cell| table.place(user, Some(cell)).ok().map(drop));
            read.ok_or("a piece of the placements cannot be read")?;
        }
        for single in txn.open_table(SINGLES)?.iter()? {
            let (address, cell) = single?;
            let address: Address = address.value().parse()?;
            table.place((&address).into(), Some(cell.value()).filter(|cell| !cell.is_empty()))?;
        }
        for wave in txn.open_table(WAVES)?.iter()? {
            let (name, json) = wave?;
            let number = state.add(serde_json::from_slice(json.value())?).ok_or("too many waves")?;
            for chunk in lines.range(range_of(name.value()))? {
                let (_, chunk) = chunk?;
                let table = &mut state.table;
                let read = read_stored(chunk.value(), |user, to| {
                    let slot = table.enter(user).ok()?;
                    table.join(slot, number, to).ok()
                });
                read.ok_or("a piece of a wave cannot be read")?;
            }
        }
        state.table.shrink();
        Ok(Self { changing: Mutex::new(()), state: RwLock::new(state), changes: watch::Sender::new(0) })
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for another route.
    fn told(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Joins the users of a plan to their wave, a few at a time: no login waits for all of them.
    fn join(&self, listing: &Table, number: u16) -> Result<(), StoreError> {
        let mut slots = listing.slots();
        loop {
            let mut state = self.write();
            for _ in 0..JOINED_AT_ONCE {
                let Some(slot) = slots.next() else { return Ok(()) };
                let Some(to) = listing.cell_of(slot) else { continue };
                let joined =
                    state.table.enter(listing.user(slot)).and_then(|it| state.table.join(it, number, to.as_str()));
                joined.map_err(|_| StoreError::Full("placements"))?;
            }
        }
    }
}

impl Store {
    /// Where the table sends a user now. Answered from memory: no file access on the hot path.
    pub fn route(&self, user: &Address, now: WallTime) -> Route {
        self.routes.state().route(user, now)
    }

    /// Tells of every change of routes. The end of a hold is none: it is known in advance.
    pub fn route_changes(&self) -> watch::Receiver<u64> {
        self.routes.changes.subscribe()
    }

    /// What the table knows of a user.
    pub fn standing(&self, user: &Address) -> Standing {
        let state = self.routes.state();
        let Some(slot) = state.table.find(user.into()) else { return Standing::default() };
        let wave = state.in_wave(slot).map(|(wave, to)| (wave.clone(), to.clone()));
        Standing { cell: state.table.cell_of(slot).cloned(), wave }
    }

    /// Users that have a placement.
    pub fn placements_len(&self) -> usize {
        self.routes.state().table.len()
    }

    /// Memory of the table, bytes.
    pub fn placements_bytes(&self) -> usize {
        self.routes.state().table.bytes()
    }

    /// Cells that the table names.
    pub fn placement_cells(&self) -> Vec<CellId> {
        self.routes.state().table.cells_used()
    }

    /// Puts a file in the place of all placements, at once. `dry_run`: only tells what it would do. `moved` is told every
    /// user whose cell is another than before, when it is done.
    ///
    /// # Errors
    /// The state file, or waves: they would mean something else. Nothing changed.
    pub fn import_placements(
        &self,
        listing: Listing,
        dry_run: bool,
        mut moved: impl FnMut(&Address, &CellId),
    ) -> Result<Imported, PlacementError> {
        let _changing = self.routes.changing();
        let table = listing.into_table();
        let imported = {
            let state = self.routes.state();
            let waves: Vec<_> = state.waves.iter().flatten().map(|wave| wave.name.as_str()).collect();
            if !waves.is_empty() {
                return Err(PlacementError::WavesLive(waves.join(", ")));
            }
            compare(&state.table, &table)
        };
        if dry_run {
            return Ok(imported);
        }
        let beside = self.write_beside(&table, |slot| table.cell_of(slot))?;
        self.write_routes(|txn| make_current(txn, beside))?;
        self.forget_spare();
        let before = std::mem::replace(&mut self.routes.write().table, table);
        self.routes.told();
        let state = self.routes.state();
        for slot in state.table.slots() {
            let Some(cell) = state.table.cell_of(slot) else { continue };
            if before.cell(state.table.user(slot)) != Some(cell)
                && let Some(address) = state.table.address(slot)
            {
                moved(&address, cell);
            }
        }
        Ok(imported)
    }

    /// Every placement, as lines `address,cell` in the order they came in, in pieces. What an import of it would read.
    pub fn export_placements(&self) -> Vec<Vec<u8>> {
        // Nobody waits to write while the table is read for long: who would, waits here.
        let _changing = self.routes.changing();
        let state = self.routes.state();
        chunks(&state.table, |slot| state.cell(slot)).collect()
    }

    /// Sets or clears the placement of one user.
    ///
    /// # Errors
    /// The state file, or the user is in a wave. Nothing changed.
    pub fn set_placement(&self, user: &Address, cell: Option<&CellId>) -> Result<(), PlacementError> {
        let _changing = self.routes.changing();
        {
            let state = self.routes.state();
            let slot = state.table.find(user.into());
            if let Some((wave, _)) = slot.and_then(|slot| state.in_wave(slot)) {
                return Err(PlacementError::InWave(wave.name.clone()));
            }
            if slot.and_then(|slot| state.table.cell_of(slot)) == cell {
                return Ok(());
            }
            if slot.is_none() && state.table.room() == 0 {
                return Err(StoreError::Full("placements").into());
            }
        }
        let beside = if self.singles()? >= SINGLES_MAX {
            // Time to write the whole anew.
            let state = self.routes.state();
            Some(self.write_beside(&state.table, |slot| state.table.cell_of(slot))?)
        } else {
            None
        };
        self.write_routes(|txn| {
            if let Some(owner) = beside {
                make_current(txn, owner)?;
            }
            let mut singles = txn.open_table(SINGLES).map_err(use_error)?;
            singles.insert(user.as_str(), cell.map_or("", CellId::as_str)).map_err(use_error)?;
            Ok(())
        })?;
        if beside.is_some() {
            self.forget_spare();
        }
        let placed = self.routes.write().table.place(user.into(), cell.map(CellId::as_str));
        placed.map_err(|_| StoreError::Full("placements"))?;
        self.routes.told();
        Ok(())
    }

    /// Plans a wave: nobody moves yet. A wave that was only planned is replaced. `dry_run`: only looks for problems.
    ///
    /// # Errors
    /// The state file, a wave of this name that did something, or users of another wave or under an operator's word.
    /// Nothing changed.
    pub fn plan_wave(
        &self,
        name: &WaveName,
        listing: &Listing,
        actor: &str,
        now: WallTime,
        dry_run: bool,
    ) -> Result<Wave, PlacementError> {
        let _changing = self.routes.changing();
        let before = {
            let state = self.routes.state();
            let before = state.number(name);
            if before.and_then(|number| state.wave(number)).is_some_and(|wave| !wave.untouched()) {
                return Err(PlacementError::WaveExists);
            }
            if before.is_none() && state.waves.iter().flatten().count() >= WAVES_MAX {
                return Err(StoreError::Full("waves").into());
            }
            if state.table.room() < listing.len() {
                return Err(StoreError::Full("placements").into());
            }
            self.check_plan(&state, listing, name, now)?;
            before
        };
        let wave = Wave::plan(name.clone(), listing.len() as u64, actor, now);
        if dry_run {
            return Ok(wave);
        }
        self.write_routes(|txn| {
            forget(txn, name.as_str())?;
            write_lines(txn, name.as_str(), &listing.table, |slot| listing.table.cell_of(slot))?;
            write_wave(txn, &wave)
        })?;
        let number = {
            let mut state = self.routes.write();
            if let Some(before) = before {
                state.table.dissolve(before, false);
                state.replace(before, None);
            }
            state.add(wave.clone()).ok_or(StoreError::Full("waves"))?
        };
        self.routes.join(&listing.table, number)?;
        Ok(wave)
    }

    fn check_plan(
        &self,
        state: &State,
        listing: &Listing,
        name: &WaveName,
        now: WallTime,
    ) -> Result<(), PlacementError> {
        let mut problems = Problems::default();
        for slot in listing.table.slots() {
            let user = listing.table.user(slot);
            let other = state.table.find(user).and_then(|slot| state.in_wave(slot)).map(|(wave, _)| &wave.name);
            if let Some(other) = other.filter(|other| *other != name) {
                problems.note(listing.line_of(slot), format!("the user is in the wave `{other}`; `remove` that first"));
            }
            let address = if self.placements.any() { listing.table.address(slot) } else { None };
            if address.is_some_and(|address| self.placements.of(&address, now).is_some()) {
                let message = "an operator's word holds the user elsewhere; `user release` takes it back";
                problems.note(listing.line_of(slot), message);
            }
        }
        if problems.total > 0 { Err(PlacementError::Lines(problems)) } else { Ok(()) }
    }

    /// Takes a wave one step on, for all its users at once. Returns its record, and whether it changed.
    ///
    /// # Errors
    /// The state file, no such wave, or a step that makes no sense. Nothing changed.
    pub fn step_wave(
        &self,
        name: &WaveName,
        step: Step,
        actor: &str,
        now: WallTime,
    ) -> Result<(Wave, bool), PlacementError> {
        let _changing = self.routes.changing();
        let (number, wave) = self.find_wave(name)?;
        let Some(after) = wave.after(step, actor, now)? else { return Ok((wave, false)) };
        self.write_routes(|txn| write_wave(txn, &after))?;
        self.routes.write().replace(number, Some(after.clone()));
        self.routes.told();
        Ok((after, true))
    }

    /// Ends a wave. Where its users are now is their placement: after a commit there is no way back.
    ///
    /// # Errors
    /// The state file, or no such wave. Nothing changed.
    pub fn remove_wave(&self, name: &WaveName) -> Result<Wave, PlacementError> {
        let _changing = self.routes.changing();
        let (number, wave) = self.find_wave(name)?;
        let settle = wave.stage == Stage::Committed;
        let beside = if settle {
            let state = self.routes.state();
            let settled = self.write_beside(&state.table, |slot| match state.table.wave_of(slot) {
                Some((of, to)) if of == number => Some(to),
                _ => state.table.cell_of(slot),
            });
            Some(settled?)
        } else {
            None
        };
        self.write_routes(|txn| {
            forget(txn, name.as_str())?;
            txn.open_table(WAVES).map_err(use_error)?.remove(name.as_str()).map_err(use_error)?;
            beside.map_or(Ok(()), |owner| make_current(txn, owner))
        })?;
        if beside.is_some() {
            self.forget_spare();
        }
        {
            let mut state = self.routes.write();
            state.table.dissolve(number, settle);
            state.replace(number, None);
        }
        // A hold ends with it.
        self.routes.told();
        Ok(wave)
    }

    /// Every wave, by name.
    pub fn waves(&self) -> Vec<Wave> {
        let mut waves: Vec<_> = self.routes.state().waves.iter().flatten().cloned().collect();
        waves.sort_by(|one, other| one.name.cmp(&other.name));
        waves
    }

    /// The users of a wave, and where it leads each.
    ///
    /// # Errors
    /// No such wave.
    pub fn wave_users(&self, name: &WaveName) -> Result<Vec<(Address, CellId)>, PlacementError> {
        let _changing = self.routes.changing();
        let (number, _) = self.find_wave(name)?;
        let state = self.routes.state();
        let table = &state.table;
        let of_it = table.slots().filter_map(|slot| {
            let (of, to) = table.wave_of(slot)?;
            (of == number).then_some(())?;
            Some((table.address(slot)?, to.clone()))
        });
        Ok(of_it.collect())
    }

    fn find_wave(&self, name: &WaveName) -> Result<(u16, Wave), PlacementError> {
        let state = self.routes.state();
        let number = state.number(name).ok_or(PlacementError::UnknownWave)?;
        let wave = state.wave(number).cloned().ok_or(PlacementError::UnknownWave)?;
        Ok((number, wave))
    }

    /// Writes all placements beside those that count, and nothing of it counts yet. For whom.
    fn write_beside<'a>(
        &self,
        table: &'a Table,
        of: impl Fn(Slot) -> Option<&'a CellId> + 'a,
    ) -> Result<&'static str, StoreError> {
        let owner = self.spare()?;
        self.forget_in_steps(owner)?;
        let mut pieces = (0_u32..).zip(chunks(table, of));
        loop {
            // Made before the transaction begins: whoever waits for one comes first.
            let step: Vec<_> = pieces.by_ref().take(PIECES_AT_ONCE).collect();
            if step.is_empty() {
                return Ok(owner);
            }
            self.write_routes(|txn| {
                let mut lines = txn.open_table(LINES).map_err(use_error)?;
                for (number, piece) in &step {
                    lines.insert((owner, *number), piece.as_slice()).map_err(use_error)?;
                }
                Ok(())
            })?;
        }
    }

    /// Forgets the placements that count no more. What is left when that fails is forgotten before the next are written.
    fn forget_spare(&self) {
        let _ = self.spare().and_then(|owner| self.forget_in_steps(owner));
    }

    fn forget_in_steps(&self, owner: &str) -> Result<(), StoreError> {
        loop {
            let left = self.pieces_of(owner)?;
            if left.is_empty() {
                return Ok(());
            }
            self.write_routes(|txn| {
                let mut lines = txn.open_table(LINES).map_err(use_error)?;
                for number in left.iter().take(PIECES_AT_ONCE) {
                    lines.remove((owner, *number)).map_err(use_error)?;
                }
                Ok(())
            })?;
        }
    }

    /// The numbers of the pieces on disk.
    pub(super) fn pieces_of(&self, owner: &str) -> Result<Vec<u32>, StoreError> {
        let txn = self.file.begin_read().map_err(use_error)?;
        let lines = txn.open_table(LINES).map_err(use_error)?;
        let range = lines.range(range_of(owner)).map_err(use_error)?;
        range.map(|piece| piece.map(|(key, _)| key.value().1).map_err(use_error)).collect()
    }

    /// The owner of imported lines that does not count now.
    pub(super) fn spare(&self) -> Result<&'static str, StoreError> {
        let txn = self.file.begin_read().map_err(use_error)?;
        let current = txn.open_table(CURRENT).map_err(use_error)?.get(()).map_err(use_error)?;
        let other = current.is_some_and(|owner| owner.value() == IMPORTED_TOO);
        Ok(if other { IMPORTED } else { IMPORTED_TOO })
    }

    fn singles(&self) -> Result<u64, StoreError> {
        let txn = self.file.begin_read().map_err(use_error)?;
        txn.open_table(SINGLES).map_err(use_error)?.len().map_err(use_error)
    }

    /// One transaction: on disk when this returns, or nothing of it ever.
    fn write_routes(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let txn = self.file.begin_write().map_err(use_error)?;
        change(&txn)?;
        txn.commit().map_err(use_error)
    }
}

fn compare(before: &Table, after: &Table) -> Imported {
    let mut imported = Imported { users: after.len(), added: 0, moved: 0, removed: 0 };
    let mut kept = 0;
    for slot in after.slots() {
        match before.cell(after.user(slot)) {
            None => imported.added += 1,
            Some(cell) => {
                kept += 1;
                imported.moved += usize::from(after.cell_of(slot) != Some(cell));
            }
        }
    }
    imported.removed = before.len() - kept;
    imported
}

/// The imported lines of this owner count, and nothing said before them.
fn make_current(txn: &WriteTransaction, owner: &str) -> Result<(), StoreError> {
    txn.open_table(CURRENT).map_err(use_error)?.insert((), owner).map_err(use_error)?;
    txn.open_table(SINGLES).map_err(use_error)?.retain(|_, _| false).map_err(use_error)
}

fn write_lines<'a>(
    txn: &WriteTransaction,
    owner: &str,
    table: &'a Table,
    of: impl Fn(Slot) -> Option<&'a CellId> + 'a,
) -> Result<(), StoreError> {
    let mut lines = txn.open_table(LINES).map_err(use_error)?;
    for (number, chunk) in (0_u32..).zip(chunks(table, of)) {
        lines.insert((owner, number), chunk.as_slice()).map_err(use_error)?;
    }
    Ok(())
}

fn write_wave(txn: &WriteTransaction, wave: &Wave) -> Result<(), StoreError> {
    let json = serde_json::to_vec(wave).map_err(use_error)?;
    txn.open_table(WAVES).map_err(use_error)?.insert(wave.name.as_str(), json.as_slice()).map_err(use_error)?;
    Ok(())
}

fn forget(txn: &WriteTransaction, owner: &str) -> Result<(), StoreError> {
    txn.open_table(LINES).map_err(use_error)?.retain_in(range_of(owner), |_, _| false).map_err(use_error)
}

fn range_of(owner: &str) -> std::ops::RangeInclusive<(&str, u32)> {
    (owner, 0)..=(owner, u32::MAX)
}

pub(super) fn create_tables(txn: &WriteTransaction) -> Result<(), redb::TableError> {
    txn.open_table(LINES)?;
    txn.open_table(SINGLES)?;
    txn.open_table(WAVES)?;
    txn.open_table(CURRENT)?;
    Ok(())
}

/// Whose lines, number of the piece → lines `address,cell`. The imported file, and the users of waves.
const LINES: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("placement_lines");
/// Address → cell; empty: none. Said since the last import, and stronger.
const SINGLES: TableDefinition<'_, &str, &str> = TableDefinition::new("placement_singles");
/// Name → [`Wave`] as JSON.
const WAVES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("waves");

/// Whose imported lines count; nothing: those of [`IMPORTED`].
const CURRENT: TableDefinition<'_, (), &str> = TableDefinition::new("placement_current");

/// Owners of the lines of the imported file, in turn; no wave has such a name.
const IMPORTED: &str = "";
const IMPORTED_TOO: &str = "+";

/// Pieces of a table, a megabyte each, in one transaction: a twentieth of 2,000,000 users for whoever waits for it.
const PIECES_AT_ONCE: usize = 4;

/// More single placements than this are written into the whole.
const SINGLES_MAX: u64 = 10_000;

/// A few a day, for years.
const WAVES_MAX: usize = 1000;

/// Users joined to a wave before a login may look between.
const JOINED_AT_ONCE: usize = 2000;

#[cfg(test)]
mod tests;
