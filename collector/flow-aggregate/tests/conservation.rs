//! Nothing is lost silently: Σ buckets + late + refused = Σ scaled octets, exactly.

mod support;

use proptest::prelude::*;
use support::{SECOND, START, aggregator, batch, row, tick, v4, v6};
use weir_flow_record::Direction;

type Record = (bool, u16, i64, i64, u64, u64, u32);

fn record() -> impl Strategy<Value = Record> {
    let duration = prop_oneof![Just(0), 0..3 * SECOND, 0..100 * SECOND];
    let age = prop_oneof![4 => Just(0), 2 => 0..2 * SECOND, 1 => 0..120 * SECOND];
    let rate = prop_oneof![Just(0_u32), Just(1), Just(100), 1..10_000_u32];
    (
        any::<bool>(),
        0..40_u16,
        age,
        duration,
        0..2_000_000_u64,
        1..2_000_u64,
        rate,
    )
}

proptest! {
    #[test]
    fn every_octet_is_in_a_bucket_or_in_a_counter(
        batches in prop::collection::vec((0..5 * SECOND, prop::collection::vec(record(), 1..40)), 1..12),
        max_hosts in prop_oneof![Just(16_u32), Just(1000)],
    ) {
        let mut aggregator = aggregator(Some(1_000), max_hosts);
        let (mut now, mut octets) = (START, 0_u64);
        for (pause, records) in batches {
            now += pause;
            let rows: Vec<_> = records
                .iter()
                .map(|(six, host, age, duration, octets, packets, rate)| {
                    let target = if *six { v6(*host) } else { v4(*host) };
                    row(target, now, *age, *duration, *octets, *packets, *rate)
                })
                .collect();
            octets += rows.iter().map(|row| row.octets * u64::from(row.sampling_rate.max(1))).sum::<u64>();
            aggregator.handle_batch(&batch(now, &rows));
            tick(&mut aggregator);
        }
        let counters = aggregator.counters();
        prop_assert_eq!(counters.counted_octets + counters.late_octets + counters.refused_octets, octets);
    }

    #[test]
    fn buckets_hold_what_was_counted(records in prop::collection::vec(record(), 1..200)) {
        let mut aggregator = aggregator(None, 1000);
        let rows: Vec<_> = records
            .iter()
            .map(|(six, host, age, duration, octets, packets, rate)| {
                let target = if *six { v6(*host) } else { v4(*host) };
                row(target, START, *age, *duration, *octets, *packets, *rate)
            })
            .collect();
        aggregator.handle_batch(&batch(START, &rows));
        let held: u64 = (0..40)
            .flat_map(|host| [v4(host), v6(host)])
            .map(|host| aggregator.octets_in_buckets(host, Direction::In))
            .sum();
        prop_assert_eq!(held, aggregator.counters().counted_octets);
    }
}
