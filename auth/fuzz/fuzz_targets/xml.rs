//! `cargo fuzz run xml`: XML that a stranger wrote.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_auth::properties::xml(data));
