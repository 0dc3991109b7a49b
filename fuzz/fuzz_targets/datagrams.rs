#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_netflow::fuzzing::fuzz_datagrams(data));
