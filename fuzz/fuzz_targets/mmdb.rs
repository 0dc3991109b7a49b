#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _records = weir_enrichment::fuzzing::fuzz_database(data);
});
