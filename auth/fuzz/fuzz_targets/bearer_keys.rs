//! `cargo fuzz run bearer_keys`: an issuer's key set.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_auth::properties::bearer_keys(data));
