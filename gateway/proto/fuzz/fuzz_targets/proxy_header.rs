//! `cargo fuzz run proxy_header`: PROXY headers, both versions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guichet_proto::properties::proxy_header(data));
