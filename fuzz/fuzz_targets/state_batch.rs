//! A batch of state rows from another machine: what can be read is written and read again as the same.
#![no_main]

use weir_state::Batch;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(batch) = Batch::decode(data) {
        let octets = batch.encode();
        assert_eq!(Batch::decode(&octets).unwrap().encode(), octets);
    }
});
