//! The configuration of a node: one TOML file and a folder of tenants, read whole and checked whole.
//!
//! [`load`] reads the files (`file.rs` mirrors them key by key), checks every reference between them and returns
//! a [`Config`]: plain values that cannot be wrong. Anything else comes back as a [`Report`] that lists every problem
//! with its file, line, key path and a hint. This crate is a leaf: it opens files, never sockets.

mod attribute;
mod check;
mod checked;
mod document;
mod error;
mod file;
mod name;
mod places;
mod schema;
mod secret;
mod shape;
#[cfg(test)]
mod tests;

pub use attribute::{AttributeName, IdentifierSyntax};
pub use checked::*;
pub use error::{Place, Problem, Report};
pub use name::{Address, CellId, Domain, ListenerId, NameError, TenantId};
pub use secret::Secret;

use std::path::Path;

/// Reads and checks the file at `path` and its `tenants.d/*.toml`.
///
/// # Errors
/// Every problem found, in file and line order.
pub fn load(path: &Path) -> Result<Config, Report> {
    check::load(path)
}

/// The JSON Schema of the main file, for editors.
pub fn schema() -> serde_json::Value {
    schema::of::<file::Main>()
}
