//! Bytes that may hold a password: wiped when they are dropped.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Text that must never be shown.
#[derive(Clone, Default)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What came from the peer and was not consumed yet. The driver appends, the dialogue consumes.
///
/// The driver appends no more than [`InputBuf::room`] bytes at a time, so that what a peer sends ahead stays bounded:
/// when there is no room it stops reading, and the peer's own window does the rest.
#[derive(Default)]
pub struct InputBuf {
    bytes: Zeroizing<Vec<u8>>,
}

impl InputBuf {
    /// Most bytes that wait: the longest command (a 12 KiB SASL line, or an 8 KiB line with two 4 KiB literals) and
    /// room for what is pipelined behind it.
    pub const BYTES_MAX: usize = 32 * 1024;

    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what was read. A bigger buffer is made by hand, because `Vec` would leave its old bytes unwiped.
    pub fn extend(&mut self, bytes: &[u8]) {
        let needed = self.bytes.len().saturating_add(bytes.len());
        if needed > self.bytes.capacity() {
            let mut bigger = Zeroizing::new(Vec::with_capacity(needed.max(self.bytes.capacity().saturating_mul(2))));
            bigger.extend_from_slice(&self.bytes);
            self.bytes = bigger;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// How many more bytes the driver may append.
    pub fn room(&self) -> usize {
        Self::BYTES_MAX.saturating_sub(self.bytes.len())
    }

    /// What waits.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the first `n` bytes (at most all) and wipes them.
    pub fn consume(&mut self, n: usize) {
        let len = self.bytes.len();
        let n = n.min(len);
        self.bytes.copy_within(n.., 0);
        if let Some(vacated) = self.bytes.get_mut(len - n..) {
            vacated.zeroize();
        }
        self.bytes.truncate(len - n);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Debug for InputBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InputBuf({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_keeps_what_is_behind() {
        let mut input = InputBuf::new();
        input.extend(b"one two");
        input.consume(4);
        assert_eq!(input.as_slice(), b"two");
        input.extend(b" three");
        assert_eq!(input.as_slice(), b"two three");
        input.consume(99);
        assert!(input.is_empty());
        assert_eq!(input.room(), InputBuf::BYTES_MAX);
    }

    #[test]
    fn debug_shows_no_bytes() {
        let mut input = InputBuf::new();
        input.extend(b"hunter2");
        assert_eq!(format!("{input:?} {:?}", SecretText::new("hunter2".into())), "InputBuf(7 bytes) ***");
    }
}
