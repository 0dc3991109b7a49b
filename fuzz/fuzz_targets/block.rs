//! A block of flow records from Kafka: what can be read is written and read again as the same.
#![no_main]

use weir_flow_record::FlowBatch;
use weir_kafka::block::{decode, encode};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut batch = FlowBatch::default();
    if decode(data, &mut batch).is_ok() {
        let (mut block, mut again) = (Vec::new(), FlowBatch::default());
        encode(&batch, &mut block);
        decode(&block, &mut again).unwrap();
        let rows = |batch: &FlowBatch| (0..batch.len()).map(|row| format!("{:?}", batch.row(row))).collect::<Vec<_>>();
        assert_eq!(rows(&batch), rows(&again));
    }
});
