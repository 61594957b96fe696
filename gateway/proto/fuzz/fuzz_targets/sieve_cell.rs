//! `cargo fuzz run sieve_cell`: our login at a ManageSieve cell that says anything. The first byte cuts and chooses STARTTLS.
#![no_main]

use guichet_proto::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((first, bytes)) = data.split_first() {
        properties::sieve_cell(bytes, &[usize::from(*first), 7], first % 4 == 0);
    }
});
