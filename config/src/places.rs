//! Where keys stand, for checks made here and later (certificates, metadata).

use std::collections::BTreeMap;

use crate::{Config, Place, Problem};

/// Place of a key path, or of the nearest table around it that stands in a file.
pub(crate) fn find(places: &BTreeMap<String, Place>, key: &str) -> Option<Place> {
    let mut key = key;
    loop {
        if let Some(place) = places.get(key) {
            return Some(place.clone());
        }
        key = key.rfind(['.', '[']).and_then(|at| key.get(..at)).filter(|rest| !rest.is_empty())?;
    }
}

impl Config {
    /// Where a key path such as `cell.alpha.web.endpoints[0]` stands; when it does not, the nearest table around it.
    pub fn place(&self, key: &str) -> Place {
        find(&self.places, key).or_else(|| self.places.get("").cloned()).unwrap_or_default()
    }

    /// A problem at a key path, for checks that need more than the files.
    pub fn problem(&self, key: &str, message: impl Into<String>, hint: Option<String>) -> Problem {
        Problem { place: self.place(key), key: key.to_owned(), message: message.into(), hint }
    }
}
