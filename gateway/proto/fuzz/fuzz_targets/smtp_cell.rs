//! `cargo fuzz run smtp_cell`: our login at a submission cell that says anything. The first byte cuts and chooses STARTTLS
//! and XCLIENT.
#![no_main]

use guichet_proto::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((first, bytes)) = data.split_first() {
        properties::smtp_cell(bytes, &[usize::from(*first), 7], first % 4 == 0, first & 2 == 0);
    }
});
