#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_data_channel::fuzzing::fuzz_restconf(data));
