//! `cargo fuzz run redirect_decode`: bytes as the query of an HTTP-Redirect.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_auth::saml::properties::redirect_decode(data));
