//! A collector's summary from Kafka: what can be read is merged, and is written and read again as the same.
#![no_main]

use weir_flow_aggregate::AggregationConfig;
use weir_flow_aggregate::cluster::{CollectorMerger, Part, Partitions};
use weir_flow_record::ZoneId;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let names = ["a", "b"]
        .into_iter()
        .zip(0..)
        .map(|(name, zone)| (ZoneId(zone), name.into()));
    let partitions = Partitions::new(4, names);
    let Ok(decoded) = Part::decode(data, &partitions) else {
        return;
    };
    let octets = decoded.part.encode(&partitions);
    let again = Part::decode(&octets, &partitions).unwrap();
    assert_eq!(again.part.encode(&partitions), octets);
    let mut merger = CollectorMerger::new(&AggregationConfig::default());
    merger.handle_part(decoded.part);
    while merger.poll_summary().is_some() {}
    while merger.poll_watch().is_some() {}
});
