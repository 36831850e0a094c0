#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmgate_properties::streams::check(data));
