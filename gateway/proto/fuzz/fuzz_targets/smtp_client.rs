//! `cargo fuzz run smtp_client`: the submission dialogue. The first byte cuts and chooses.
#![no_main]

use guichet_proto::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((first, bytes)) = data.split_first() {
        let cut = usize::from(*first);
        properties::smtp_client(bytes, &[cut, 7], u64::from(*first).wrapping_mul(0x9e37_79b9_7f4a_7c15), first % 4 != 0);
    }
});
