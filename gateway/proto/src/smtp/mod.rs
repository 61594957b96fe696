//! Submission (RFC 6409).

mod scan;
#[cfg(test)]
mod tests;

pub use scan::{BadByte, DataScanner, Found, LineEnds, Scanned};
