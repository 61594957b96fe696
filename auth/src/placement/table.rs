//! Two million users in one piece of memory.
//!
//! A user is an entry of 16 bytes, the part of the address before the `@` in one long text, and a slot or two of an index.
//! Domains and cells stand once. Addresses are kept whole, so the table can be listed, and a user found by a hash is compared
//! byte by byte: two users cannot be taken for one. The hash is keyed by chance: nobody who may choose addresses can make
//! them meet. An entry is never removed, only emptied; a restart or an import begins without the empty ones.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use guichet_config::{Address, CellId};

/// The table holds as much as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table of placements is full")]
pub struct Full;

/// Who is looked for: what stands before and behind the `@`, in canonical form.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    local: &'a str,
    domain: &'a str,
}

impl<'a> From<&'a Address> for Wanted<'a> {
    fn from(address: &'a Address) -> Self {
        Self { local: address.local(), domain: address.domain() }
    }
}

impl<'a> Wanted<'a> {
    /// From a text known to be canonical; `None` without an `@`.
    pub(super) fn of_canonical(text: &'a str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        Some(Self { local, domain })
    }
}

/// Names an entry; good as long as its table lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Cells, and waves, by user.
#[derive(Clone, Default)]
pub struct Table {
    domains: Names,
    cells: Names,
    cell_ids: Vec<CellId>,
    entries: Vec<Entry>,
    /// Local parts, one behind the other.
    text: Vec<u8>,
    /// Number of the entry and one; 0 is free. A power of two of them, a quarter free or more.
    index: Vec<u32>,
    hasher: RandomState,
    placed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    text: u32,
    domain: u16,
    cell: u16,
    wave: u16,
    to: u16,
    length: u8,
}

/// Nobody's address.
impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("placed", &self.placed).finish_non_exhaustive()
    }
}

impl Table {
    /// Empty, with room for so many users and bytes of addresses.
    pub(super) fn with_capacity(users: usize, bytes: usize) -> Self {
        let users = users.min(USERS_MAX);
        Self {
            entries: Vec::with_capacity(users),
            text: Vec::with_capacity(bytes),
            index: vec![0; slots_for(users)],
            ..Self::default()
        }
    }

    /// Users that have a cell here.
    pub fn len(&self) -> usize {
        self.placed
    }

    /// Nobody has.
    pub fn is_empty(&self) -> bool {
        self.placed == 0
    }

    /// Bytes of memory it takes, everything counted.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.text.capacity()
            + self.index.capacity() * size_of::<u32>()
            + self.domains.bytes()
            + self.cells.bytes()
    }

    /// How many more entries it takes.
    pub(crate) fn room(&self) -> usize {
        USERS_MAX - self.entries.len()
    }

    /// The entry of a user.
    pub(crate) fn find(&self, user: Wanted<'_>) -> Option<Slot> {
        let domain = self.domains.number(user.domain)?;
        self.probe(domain, user.local).ok().map(Slot)
    }

    /// The cell of a user.
    pub fn cell(&self, user: Wanted<'_>) -> Option<&CellId> {
        self.find(user).and_then(|slot| self.cell_of(slot))
    }

    /// The cell of an entry.
    pub(crate) fn cell_of(&self, slot: Slot) -> Option<&CellId> {
        self.cell_id(self.entry(slot).cell)
    }

    /// The wave of an entry, by its number from 1, and where it leads.
    pub(crate) fn wave_of(&self, slot: Slot) -> Option<(u16, &CellId)> {
        let entry = self.entry(slot);
        self.cell_id(entry.to).filter(|_| entry.wave > 0).map(|to| (entry.wave, to))
    }

    /// Sets or empties the cell of a user.
    pub(crate) fn place(&mut self, user: Wanted<'_>, cell: Option<&str>) -> Result<Slot, Full> {
        let number = cell.map_or(Ok(NOWHERE), |cell| self.intern_cell(cell))?;
        let slot = self.enter(user)?;
        self.set_cell(slot, number);
        Ok(slot)
    }

    /// Sets the wave of an entry.
    pub(crate) fn join(&mut self, slot: Slot, wave: u16, to: &str) -> Result<(), Full> {
        let to = self.intern_cell(to)?;
        if let Some(entry) = self.entries.get_mut(slot.index()) {
            (entry.wave, entry.to) = (wave, to);
        }
        Ok(())
    }

    /// Ends a wave for all who are in it; `settle`: where it leads is their cell from now on.
    pub(crate) fn dissolve(&mut self, wave: u16, settle: bool) {
        for number in 0..self.entries.len() {
            let slot = Slot(u32::try_from(number).unwrap_or(u32::MAX));
            let entry = self.entry(slot);
            if entry.wave != wave {
                continue;
            }
            if settle {
                self.set_cell(slot, entry.to);
            }
            if let Some(entry) = self.entries.get_mut(number) {
                (entry.wave, entry.to) = (0, NOWHERE);
            }
        }
    }

    /// The user's entry, made when missing.
    pub(crate) fn enter(&mut self, user: Wanted<'_>) -> Result<Slot, Full> {
        let domain = self.domains.intern(user.domain)?;
        let number = match self.probe(domain, user.local) {
            Ok(number) => return Ok(Slot(number)),
            Err(_) if self.entries.len() >= USERS_MAX => return Err(Full),
            Err(_) => u32::try_from(self.entries.len()).map_err(|_| Full)?,
        };
        let text = u32::try_from(self.text.len()).map_err(|_| Full)?;
        let length = u8::try_from(user.local.len()).map_err(|_| Full)?;
        if slots_for(self.entries.len() + 1) > self.index.len() {
            self.grow();
        }
        if let Err(free) = self.probe(domain, user.local)
            && let Some(slot) = self.index.get_mut(free)
        {
            *slot = number + 1;
        }
        self.text.extend_from_slice(user.local.as_bytes());
        self.entries.push(Entry { text, domain, cell: NOWHERE, wave: 0, to: NOWHERE, length });
        Ok(Slot(number))
    }

    /// Every entry, in the order they came in.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)).map(Slot)
    }

    /// Before and behind the `@` of an entry.
    pub(crate) fn user(&self, slot: Slot) -> Wanted<'_> {
        let entry = self.entry(slot);
        let local = std::str::from_utf8(self.local(&entry)).unwrap_or_default();
        Wanted { local, domain: self.domains.name(entry.domain) }
    }

    /// Writes `user@domain`.
    pub(crate) fn write_user(&self, slot: Slot, out: &mut Vec<u8>) {
        let entry = self.entry(slot);
        out.extend_from_slice(self.local(&entry));
        out.push(b'@');
        out.extend_from_slice(self.domains.name(entry.domain).as_bytes());
    }

    /// The address of an entry.
    pub(crate) fn address(&self, slot: Slot) -> Option<Address> {
        let mut text = Vec::new();
        self.write_user(slot, &mut text);
        std::str::from_utf8(&text).ok()?.parse().ok()
    }

    /// Cells that somebody is in or goes to.
    pub(crate) fn cells_used(&self) -> Vec<CellId> {
        let mut used = vec![false; self.cell_ids.len()];
        for entry in &self.entries {
            for number in [entry.cell, entry.to] {
                if let Some(used) = used.get_mut(usize::from(number)) {
                    *used = true;
                }
            }
        }
        self.cell_ids.iter().zip(used).filter(|(_, used)| *used).map(|(id, _)| id.clone()).collect()
    }

    /// Gives back what growth took in advance.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    fn entry(&self, slot: Slot) -> Entry {
        let nobody = Entry { text: 0, domain: 0, cell: NOWHERE, wave: 0, to: NOWHERE, length: 0 };
        self.entries.get(slot.index()).copied().unwrap_or(nobody)
    }

    fn local(&self, entry: &Entry) -> &[u8] {
        let start = entry.text as usize;
        self.text.get(start..start + usize::from(entry.length)).unwrap_or_default()
    }

    fn set_cell(&mut self, slot: Slot, cell: u16) {
        let Some(entry) = self.entries.get_mut(slot.index()) else { return };
        self.placed += usize::from(cell != NOWHERE);
        self.placed -= usize::from(entry.cell != NOWHERE);
        entry.cell = cell;
    }

    fn cell_id(&self, number: u16) -> Option<&CellId> {
        self.cell_ids.get(usize::from(number))
    }

    fn intern_cell(&mut self, cell: &str) -> Result<u16, Full> {
        if let Some(number) = self.cells.number(cell) {
            return Ok(number);
        }
        // What is no name of a cell was refused before it came here.
        self.cell_ids.push(cell.parse().map_err(|_| Full)?);
        self.cells.intern(cell)
    }

    /// The number of the user's entry, or the free place of the index where it belongs.
    fn probe(&self, domain: u16, local: &str) -> Result<u32, usize> {
        let mask = self.index.len().wrapping_sub(1);
        let mut place = self.hash(domain, local.as_bytes()) & mask;
        // Ends: a part of the index is always free.
        while let Some(found @ 1..) = self.index.get(place).copied() {
            let number = found - 1;
            let entry = self.entry(Slot(number));
            if entry.domain == domain && self.local(&entry) == local.as_bytes() {
                return Ok(number);
            }
            place = (place + 1) & mask;
        }
        Err(place)
    }

    fn hash(&self, domain: u16, local: &[u8]) -> usize {
        // The upper half of a 64-bit hash never counts: the index has less than 2^32 places.
        self.hasher.hash_one((domain, local)) as usize
    }

    fn grow(&mut self) {
        let mut index = vec![0_u32; slots_for(self.entries.len() + 1)];
        let mask = index.len() - 1;
        for (number, entry) in (1_u32..).zip(&self.entries) {
            let mut place = self.hash(entry.domain, self.local(entry)) & mask;
            while index.get(place).is_some_and(|found| *found > 0) {
                place = (place + 1) & mask;
            }
            if let Some(free) = index.get_mut(place) {
                *free = number;
            }
        }
        self.index = index;
    }
}

/// Places of the index for so many entries: a power of two, at most three quarters used.
fn slots_for(entries: usize) -> usize {
    (entries + entries / 3 + 1).next_power_of_two().max(16)
}

/// Names that stand once, by number.
#[derive(Clone, Debug, Default)]
struct Names {
    by_number: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, u16>,
}

impl Names {
    fn number(&self, name: &str) -> Option<u16> {
        self.by_name.get(name).copied()
    }

    fn name(&self, number: u16) -> &str {
        self.by_number.get(usize::from(number)).map_or("", |name| name)
    }

    fn intern(&mut self, name: &str) -> Result<u16, Full> {
        if let Some(number) = self.number(name) {
            return Ok(number);
        }
        let number = u16::try_from(self.by_number.len()).ok().filter(|number| *number < NOWHERE).ok_or(Full)?;
        let name: Arc<str> = name.into();
        self.by_number.push(name.clone());
        self.by_name.insert(name, number);
        Ok(number)
    }

    fn bytes(&self) -> usize {
        let each = 2 * size_of::<Arc<str>>() + size_of::<u16>() + 2 * size_of::<usize>();
        self.by_name.capacity() * each + self.by_number.iter().map(|name| name.len()).sum::<usize>()
    }
}

/// No cell.
const NOWHERE: u16 = u16::MAX;

/// Four times the service we are built for; under half a gigabyte, whatever the addresses.
const USERS_MAX: usize = 8_000_000;
