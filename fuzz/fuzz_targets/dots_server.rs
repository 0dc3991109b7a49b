#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_dots_server::fuzzing::fuzz_server(data));
