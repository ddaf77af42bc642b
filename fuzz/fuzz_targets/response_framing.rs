#![no_main]
#![allow(dead_code, reason = "each target asks one of the oracles")]

use std::sync::LazyLock;

#[path = "../../tests/it/oracles/mod.rs"]
mod oracles;

static STAND: LazyLock<oracles::stand::Stand> = LazyLock::new(oracles::stand::Stand::start);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracles::response_framing::check(&STAND, bytes);
});
