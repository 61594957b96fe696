//! `cargo fuzz run http1_gate`: request heads. The first byte cuts.
#![no_main]

use guichet_proto::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((first, bytes)) = data.split_first() {
        properties::http1_gate(bytes, &[usize::from(*first), 7]);
    }
});
