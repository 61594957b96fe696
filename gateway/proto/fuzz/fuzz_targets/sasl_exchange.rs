//! `cargo fuzz run sasl_exchange`: whole exchanges. The first byte chooses the mechanism and whether there is an initial
//! response, the rest is lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_proto::properties::sasl_exchange(data));
