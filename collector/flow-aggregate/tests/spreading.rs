//! How records fall into seconds, and what is told of them.

mod support;

use support::{SECOND, START, aggregator, batch, crowded, row, second, tick, v4, v6};
use weir_flow_aggregate::Aggregator;
use weir_flow_record::Vector;

#[test]
fn a_minute_of_600_mbit_is_never_more_than_that() {
    let mut aggregator = aggregator(Some(1), 100);
    // A phase that is no multiple of anything: partial seconds at both ends.
    let now = START + 300_000_007;
    let record = row(v4(1), now, 0, 60 * SECOND, 4_500_000_000, 3_000_000, 1);
    aggregator.handle_batch(&batch(now, &[record]));
    let summary = tick(&mut aggregator).unwrap();
    let host = &summary.hosts[0];
    assert_eq!(
        host.total.iter().map(|bucket| bucket.octets).sum::<u64>(),
        4_500_000_000
    );
    let most = host
        .total
        .iter()
        .map(|bucket| bucket.octets * 8)
        .max()
        .unwrap();
    assert!((599_999_000..=600_001_000).contains(&most), "{most} bit/s");
    assert_eq!(
        host.total.iter().filter(|bucket| bucket.octets > 0).count(),
        61
    );
    // The flow counts once, where it began.
    assert_eq!(host.total.iter().map(|bucket| bucket.flows).sum::<u64>(), 1);
}

#[test]
fn both_families_are_told_alike() {
    let told = |target| {
        let mut aggregator = aggregator(Some(1), 100);
        let rows: Vec<_> = (0..50)
            .map(|index| {
                row(
                    target,
                    START,
                    index * SECOND / 7,
                    index * SECOND / 3,
                    1_000 * index as u64,
                    10,
                    10,
                )
            })
            .collect();
        aggregator.handle_batch(&batch(START, &rows));
        let summary = tick(&mut aggregator).unwrap();
        (
            summary.hosts[0].total.clone(),
            summary.hosts[0].vectors.clone(),
            summary.zones[0].total.clone(),
        )
    };
    assert_eq!(told(v4(1)), told(v6(1)));
}

#[test]
fn a_watched_hosts_vectors_add_up_to_its_total() {
    let mut aggregator = aggregator(Some(500), 100);
    // Before it is interesting, and after.
    for (index, packets) in [(0, 10), (1, 20), (2, 1_000), (3, 50)] {
        let now = START + index * SECOND;
        let mut syn = row(v4(1), now, 0, 0, packets * 60, packets, 1);
        (syn.protocol, syn.tcp_flags) = (6, weir_flow_record::TCP_SYN);
        let dns = row(v4(1), now, 0, SECOND / 2, packets * 500, packets, 1);
        aggregator.handle_batch(&batch(now, &[syn, dns]));
    }
    let summary = tick(&mut aggregator).unwrap();
    let host = &summary.hosts[0];
    let vectors = host.vectors.as_ref().unwrap();
    let names: Vec<Vector> = vectors.iter().map(|(vector, _)| *vector).collect();
    assert_eq!(
        names,
        [Vector::TcpSynFlood, Vector::DnsAmplification],
        "earlier rows are classified too"
    );
    for (index, total) in host.total.iter().enumerate() {
        let sum: u64 = vectors
            .iter()
            .map(|(_, buckets)| buckets[index].packets)
            .sum();
        assert_eq!(
            sum,
            total.packets,
            "second {}",
            host.first_second + index as i64
        );
    }
    assert_eq!(
        host.total.iter().map(|bucket| bucket.packets).sum::<u64>(),
        2 * 1_080
    );
}

#[test]
fn a_full_table_still_counts_for_the_zone() {
    let mut aggregator = aggregator(None, 16);
    let rows: Vec<_> = (0..100)
        .map(|host| row(v4(host), START, 0, 0, 1_000, 1, 1))
        .collect();
    aggregator.handle_batch(&batch(START, &rows));
    let summary = tick(&mut aggregator).unwrap();
    assert_eq!(
        summary.zones[0]
            .total
            .iter()
            .map(|bucket| bucket.octets)
            .sum::<u64>(),
        100_000
    );
    assert_eq!(summary.counters.refused_octets, 84_000);
    assert_eq!(summary.counters.refused_records, 84);
    // Quiet hosts make room again.
    let later = START + 1_000 * SECOND;
    for step in 0..4 {
        let now = later + step * SECOND;
        aggregator.handle_batch(&batch(now, &[row(v4(0), now, 0, 0, 1, 1, 1)]));
        tick(&mut aggregator);
    }
    let now = later + 5 * SECOND;
    aggregator.handle_batch(&batch(now, &[row(v4(99), now, 0, 0, 1_000, 1, 1)]));
    assert_eq!(aggregator.counters().refused_records, 84);
}

#[test]
fn where_not_all_can_be_watched_those_far_above_are() {
    let mut aggregator = crowded(Some(100), 2);
    let told = |aggregator: &mut Aggregator, packets: [u64; 4], second: i64| -> Vec<String> {
        let now = START + second * SECOND;
        let hosts = (0_u16..).zip(packets).filter(|(_, packets)| *packets > 0);
        let rows: Vec<_> = hosts
            .map(|(host, packets)| row(v4(host), now, 0, 0, packets * 60, packets, 1))
            .collect();
        aggregator.handle_batch(&batch(now, &rows));
        let told = tick(aggregator).unwrap().hosts;
        told.iter()
            .map(|series| series.target.prefix.addr().to_string())
            .collect()
    };
    let first = ["10.0.0.0", "10.0.0.1"];
    assert_eq!(told(&mut aggregator, [120, 110, 0, 0], 0), first);
    // A third one finds no room while both are interesting, or while it is hardly so itself.
    assert_eq!(told(&mut aggregator, [120, 110, 500, 0], 1), first);
    assert_eq!(told(&mut aggregator, [20, 20, 0, 110], 10), first);
    // Far above those that are quiet now it takes the place of one.
    let now = told(&mut aggregator, [20, 20, 0, 500], 11);
    assert!(now.len() == 2 && now[1] == "10.0.0.3", "{now:?}");
    assert_eq!(aggregator.counters().refused_watches, 2);
}

#[test]
fn what_is_far_below_its_limits_is_told_once_a_second_and_all_of_it() {
    let mut aggregator = aggregator(Some(100), 10);
    let mut ticks = Vec::new();
    for step in 0..45 {
        // A second of much, then little ten times a second.
        let now = START + step * SECOND / 10;
        let sent = if step == 0 { 150 } else { 1 };
        let rows = [row(v4(1), now, 0, 0, sent * 60, sent, 1)];
        aggregator.handle_batch(&batch(now, &rows));
        if !tick(&mut aggregator).unwrap().hosts.is_empty() {
            ticks.push(step);
        }
    }
    // For three seconds the first one is among the newest.
    assert_eq!(ticks, (0..30).chain([39]).collect::<Vec<_>>());
    let rest = tick(&mut aggregator).unwrap().hosts.remove(0);
    assert_eq!(rest.total.last().unwrap().packets, 5);
    assert!(tick(&mut aggregator).is_none());
}

#[test]
fn a_gap_is_jumped() {
    let mut aggregator = aggregator(Some(1), 100);
    aggregator.handle_batch(&batch(START, &[row(v4(1), START, 0, 0, 500, 5, 1)]));
    tick(&mut aggregator);
    let year = START + 365 * 86_400 * SECOND;
    aggregator.handle_batch(&batch(year, &[row(v4(1), year, 0, 0, 700, 7, 1)]));
    let summary = tick(&mut aggregator).unwrap();
    let host = &summary.hosts[0];
    let packets: Vec<_> = (host.first_second..)
        .zip(&host.total)
        .filter(|(_, b)| b.packets > 0)
        .collect();
    assert_eq!(packets.len(), 1);
    assert_eq!((packets[0].0, packets[0].1.packets), (second(year), 7));
    assert_eq!(aggregator.poll_timeout(), None, "nothing is left to tell");
}
