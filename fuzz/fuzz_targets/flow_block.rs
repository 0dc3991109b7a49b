#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_kafka::fuzzing::fuzz_block(data));
