//! HTTP/1.1 in front of the engine: the strict gate. It looks at the raw bytes of a request head and refuses what two
//! parsers could read in two ways (RFC 9112 §3, §5, §6, §11). Bodies, routes and limits are the business of others.

mod fields;
mod gate;
mod request_line;
#[cfg(test)]
mod tests;

pub use gate::{Gate, HEAD_BYTES_MAX, inspect};
