//! `cargo fuzz run bearer_claims`: claims behind a signature.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_auth::properties::bearer_claims(data));
