//! `cargo fuzz run imap_cell`: our login at a cell that says anything. The first byte cuts and chooses STARTTLS.
#![no_main]

use guichet_proto::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((first, bytes)) = data.split_first() {
        properties::imap_cell(bytes, &[usize::from(*first), 7], first % 4 == 0);
    }
});
