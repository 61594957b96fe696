//! `cargo fuzz run sasl_plain`: SASL PLAIN messages in base64.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_proto::properties::sasl_plain(data));
