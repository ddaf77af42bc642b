#![no_main]
#![allow(dead_code, reason = "each target asks one of the oracles")]

#[path = "../../tests/it/oracles/mod.rs"]
mod oracles;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracles::header_edits::check(bytes);
});
