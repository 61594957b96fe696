//! Metrics and logs: names in one place, one struct per happening that emits both.

pub mod event;
pub mod log;
pub mod metric;

pub use metric::METRICS;

/// An error and everything under it, on one line: `outer: inner: innermost`.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
