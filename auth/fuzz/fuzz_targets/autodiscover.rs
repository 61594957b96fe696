//! `cargo fuzz run autodiscover`: what a program asks Microsoft's autodiscover. The reader is one file of the gateway, and the
//! gateway is much to build for it.
#![no_main]

#[allow(dead_code, reason = "only its property is called")]
#[path = "../../../gateway/src/http/setup/request.rs"]
mod request;

libfuzzer_sys::fuzz_target!(|data: &[u8]| request::holds(data));
