//! `cargo fuzz run pop3_cell`: our login at a POP3 cell that says anything. The first byte cuts and chooses STARTTLS.
#![no_main]

use guichet_proto::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((first, bytes)) = data.split_first() {
        properties::pop3_cell(bytes, &[usize::from(*first), 7], first % 4 == 0);
    }
});
