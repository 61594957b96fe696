//! `cargo fuzz run bearer_token`: bearer tokens that nobody signed: a token, or a header and claims on two lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_auth::properties::bearer_token(data));
