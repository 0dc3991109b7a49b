#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_dots_proto::fuzzing::fuzz_coap_stream(data));
