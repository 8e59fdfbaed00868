//! See the README beside `Cargo.toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidemark_tsdb_fuzz::envelope(bytes));
