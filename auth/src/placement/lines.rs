//! Files of users: `address` or `address,cell`, one a line. Blank lines and lines that begin with `#` say nothing.
//!
//! A file is taken whole or not at all: every problem is told with its line, and with one problem nothing comes of it.

use std::collections::HashMap;

use guichet_config::{Address, CellId, Domain};

use super::table::{Full, Slot, Table, Wanted};

/// What the configuration knows.
pub struct Known<'a> {
    /// Whether a domain belongs to a tenant.
    pub domain: &'a dyn Fn(&Domain) -> bool,
    /// Whether a cell exists.
    pub cell: &'a dyn Fn(&CellId) -> bool,
}

/// What a line may be.
#[derive(Clone, Copy, Debug)]
pub enum Rule<'a> {
    /// `address,cell`.
    CellRequired,
    /// `address` alone means this cell.
    CellDefault(&'a CellId),
}

/// One line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LineProblem {
    /// From 1.
    pub line: usize,
    /// Why.
    pub message: String,
}

/// Why a file is not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first [`PROBLEMS_MAX`].
    pub first: Vec<LineProblem>,
    /// How many there are.
    pub total: usize,
}

impl Problems {
    pub(crate) fn note(&mut self, line: usize, message: impl Into<String>) {
        self.total += 1;
        if self.first.len() < PROBLEMS_MAX {
            self.first.push(LineProblem { line, message: message.into() });
        }
    }
}

/// A file that can be used: each user once, each with a cell.
#[derive(Debug)]
pub struct Listing {
    pub(crate) table: Table,
    /// Line of each entry.
    lines: Vec<u32>,
}

impl Listing {
    /// Reads a file.
    ///
    /// # Errors
    /// Every line that cannot be used.
    pub fn read(text: &[u8], rule: Rule<'_>, known: &Known<'_>) -> Result<Self, Problems> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        let mut reader = Reader {
            listing: Self { table: Table::with_capacity(lines, text.len() / 2), lines: Vec::with_capacity(lines) },
            rule,
            known,
            domains: HashMap::new(),
            cells: HashMap::new(),
        };
        let mut problems = Problems::default();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            if let Err(message) = reader.line(number, line) {
                problems.note(number, message);
            }
        }
        if problems.total > 0 {
            return Err(problems);
        }
        reader.listing.table.shrink();
        Ok(reader.listing)
    }

    /// How many users.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The table alone.
    pub fn into_table(self) -> Table {
        self.table
    }

    pub(crate) fn line_of(&self, slot: Slot) -> usize {
        self.lines.get(slot.index()).map_or(0, |line| *line as usize)
    }
}

struct Reader<'a> {
    listing: Listing,
    rule: Rule<'a>,
    known: &'a Known<'a>,
    /// Answers of `known`, so that a line costs no second look.
    domains: HashMap<Box<str>, bool>,
    cells: HashMap<Box<str>, bool>,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_| "this is not UTF-8".to_owned())?.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (address, cell) = match (line.split_once(','), self.rule) {
            (Some((address, cell)), _) => (address.trim_end(), cell.trim_start()),
            (None, Rule::CellDefault(cell)) => (line, cell.as_str()),
            (None, Rule::CellRequired) => return Err("a cell is missing: write `address,cell`".to_owned()),
        };
        let address = address.parse::<Address>().map_err(|error| format!("`{}`: {error}", shown(address)))?;
        self.check_domain(address.domain())?;
        self.check_cell(cell)?;
        let before = self.listing.table.find((&address).into());
        if let Some(before) = before {
            let first = self.listing.line_of(before);
            return Err(format!("{address} stands on line {first} already"));
        }
        let placed = self.listing.table.place((&address).into(), Some(cell));
        placed.map_err(|Full| "more users than the table takes".to_owned())?;
        self.listing.lines.push(u32::try_from(number).unwrap_or(u32::MAX));
        Ok(())
    }

    fn check_domain(&mut self, domain: &str) -> Result<(), String> {
        let known = match self.domains.get(domain) {
            Some(known) => *known,
            None => {
                let known = domain.parse().is_ok_and(|domain| (self.known.domain)(&domain));
                if self.domains.len() < REMEMBERED_MAX {
                    self.domains.insert(domain.into(), known);
                }
                known
            }
        };
        if known { Ok(()) } else { Err(format!("no tenant has the domain `{domain}`")) }
    }

    fn check_cell(&mut self, cell: &str) -> Result<(), String> {
        let known = match self.cells.get(cell) {
            Some(known) => *known,
            None => {
                let known = cell.parse().is_ok_and(|cell| (self.known.cell)(&cell));
                if self.cells.len() < REMEMBERED_MAX {
                    self.cells.insert(cell.into(), known);
                }
                known
            }
        };
        if known { Ok(()) } else { Err(format!("the configuration has no cell `{}`", shown(cell))) }
    }
}

/// The lines `address,cell` that `of` gives, in pieces of about [`CHUNK_BYTES`].
pub(crate) fn chunks<'a>(
    table: &'a Table,
    of: impl Fn(Slot) -> Option<&'a CellId> + 'a,
) -> impl Iterator<Item = Vec<u8>> + 'a {
    let mut slots = table.slots();
    std::iter::from_fn(move || {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + 512);
        for slot in slots.by_ref() {
            if let Some(cell) = of(slot) {
                table.write_user(slot, &mut chunk);
                chunk.push(b',');
                chunk.extend_from_slice(cell.as_str().as_bytes());
                chunk.push(b'\n');
            }
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
        }
        Some(chunk).filter(|chunk| !chunk.is_empty())
    })
}

/// Calls `each` with the users and cells of a chunk. `None`: it is not what [`chunks`] wrote.
pub(crate) fn read_stored<'a>(chunk: &'a [u8], mut each: impl FnMut(Wanted<'a>, &'a str) -> Option<()>) -> Option<()> {
    let text = std::str::from_utf8(chunk).ok()?.strip_suffix('\n')?;
    for line in text.split('\n') {
        let (address, cell) = line.rsplit_once(',')?;
        each(Wanted::of_canonical(address)?, cell)?;
    }
    Some(())
}

/// What a file says, short and harmless to a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// More would not be read.
pub const PROBLEMS_MAX: usize = 100;

/// A little under a power of two, by which the state file gives room.
const CHUNK_BYTES: usize = 1_000_000;

/// A file full of different wrong names must not fill the memory.
const REMEMBERED_MAX: usize = 100_000;
