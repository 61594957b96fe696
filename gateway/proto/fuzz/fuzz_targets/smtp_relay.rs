//! `cargo fuzz run smtp_relay`: the relay between a client that says anything and a cell. The first byte cuts and chooses.
#![no_main]

use guichet_proto::{properties, smtp::LineEnds};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((first, bytes)) = data.split_first() {
        let line_ends = if first % 2 == 0 { LineEnds::Reject } else { LineEnds::Normalise };
        properties::smtp_relay(bytes, &[usize::from(*first), 7], line_ends, first % 3 != 0);
    }
});
