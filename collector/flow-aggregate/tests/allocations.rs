//! A warmed-up aggregator allocates nothing for a batch.

mod support;

use support::{SECOND, START, aggregator, batch, row, tick, v4, v6};

#[test]
fn no_allocation_per_record() {
    let mut aggregator = aggregator(Some(1_000_000), 4096);
    let rows = |now| -> Vec<_> {
        (0..1000_u16)
            .map(|host| {
                let target = if host % 2 == 0 { v4(host) } else { v6(host) };
                row(target, now, 0, i64::from(host % 7) * SECOND, 1500, 3, 10)
            })
            .collect()
    };
    let batches: Vec<_> = (0..80)
        .map(|step| batch(START + step * SECOND, &rows(START + step * SECOND)))
        .collect();
    let (warm_up, measured) = batches.split_at(70);
    for batch in warm_up {
        aggregator.handle_batch(batch);
        tick(&mut aggregator);
    }
    let info = allocation_counter::measure(|| {
        measured
            .iter()
            .for_each(|batch| aggregator.handle_batch(batch))
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(aggregator.counters().records, 80_000);
}
