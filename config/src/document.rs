//! One file on its way to a typed value: read with a bound, parsed with places, compared with its shape.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::{Place, Problem, shape};

/// A file as a value, when its shape is right, and where its keys stand.
pub(crate) struct Document<T> {
    /// The value; absent when a problem was reported that leaves none.
    pub(crate) value: Option<T>,
    /// Place of each key path; `""` is the top of the file.
    pub(crate) places: BTreeMap<String, Place>,
}

/// Reads the file; what is wrong with its text or its shape goes to `problems`.
pub(crate) fn read<T: DeserializeOwned + JsonSchema>(path: &Path, problems: &mut Vec<Problem>) -> Document<T> {
    let file = Arc::new(path.to_owned());
    let top = Place { file: Arc::clone(&file), line: 1, column: 1 };
    let mut document = Document { value: None, places: BTreeMap::from([(String::new(), top.clone())]) };
    let bytes = match read_bounded(path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            problems.push(Problem {
                place: top,
                key: String::new(),
                message: format!("the file cannot be read: {error}"),
                hint: None,
            });
            return document;
        }
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default()).into_owned();
            problems.push(Problem {
                place: Lines::new(file, &text).place(good),
                key: String::new(),
                message: "the file is not UTF-8 text".to_owned(),
                hint: None,
            });
            return document;
        }
    };
    let lines = Lines::new(file, &text);
    let table = match DeTable::parse(&text) {
        Ok(table) => table,
        Err(error) => {
            problems.push(Problem {
                place: lines.place(error.span().unwrap_or(text.len()..text.len()).start),
                key: String::new(),
                message: format!("this is not TOML: {}", error.message()),
                hint: None,
            });
            return document;
        }
    };
    let span = table.span();
    let mut root = DeValue::Table(table.into_inner());
    let whole = shape::check::<T>(&mut root, &lines, &mut document.places, problems);
    if let (true, DeValue::Table(root)) = (whole, root) {
        match T::deserialize(toml::Deserializer::from(toml::Spanned::new(span, root))) {
            Ok(value) => document.value = Some(value),
            // Shapes that the schema allows and serde does not are a fault of ours; it is still a report, not a crash.
            Err(error) => problems.push(Problem {
                place: lines.place(error.span().unwrap_or_default().start),
                key: String::new(),
                message: error.message().to_owned(),
                hint: None,
            }),
        }
    }
    document
}

/// The bytes of a file, at most `bytes_max`.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, std::io::Error> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Turns offsets into places.
pub(crate) struct Lines<'a> {
    file: Arc<PathBuf>,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(file: Arc<PathBuf>, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, starts }
    }

    /// Line and column of a byte offset.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index)).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..offset.min(self.text.len())).unwrap_or_default();
        // Bytes that begin a character.
        let column = 1 + before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Place { file: Arc::clone(&self.file), line, column }
    }

    /// Place where a span begins.
    pub(crate) fn start(&self, span: &Range<usize>) -> Place {
        self.place(span.start)
    }
}

/// A fleet's file with thousands of tenants stays far below it.
const FILE_BYTES_MAX: u64 = 16 << 20;
