//! Bytes on their way to one side.

/// What waits to be sent. Gives its memory back when it is empty: an idle session holds none.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// When that much waits, nothing more is read from the other side.
    pub(super) const BYTES_MAX: usize = 64 * 1024;

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What waits.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// The first `n` bytes of it are sent.
    pub(super) fn sent(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n);
        if self.sent >= self.bytes.len() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How much more may wait.
    pub(super) fn room(&self) -> usize {
        Self::BYTES_MAX.saturating_sub(self.as_slice().len())
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbox({} bytes)", self.as_slice().len())
    }
}
