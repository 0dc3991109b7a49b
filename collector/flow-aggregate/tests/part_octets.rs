//! Parts of summaries as octets: what is written is read, and nothing else does harm.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use weir_flow_aggregate::cluster::{Part, Partitions, WireError};
use weir_flow_aggregate::{
    Bucket, ExporterCoverage, MinuteProfile, MinuteRow, MinuteSums, PrefixShape, Series,
    TargetScope, TrafficPart, WindowSummary, ZoneMinute,
};
use weir_flow_record::{Direction, ExporterId, ReceivedAt, TargetKey, Timestamp, Vector, ZoneId};

const NOW: i64 = 1_790_000_000;

fn partitions() -> Partitions {
    let names = ["alpha", "beta", "gamma"].into_iter().zip(0..);
    Partitions::new(4, names.map(|(name, zone)| (ZoneId(zone), name.into())))
}

fn target() -> impl Strategy<Value = TargetKey> {
    (
        any::<bool>(),
        any::<u128>(),
        any::<u8>(),
        any::<bool>(),
        0..3_u16,
    )
        .prop_map(|(is_v6, address, length, out, zone)| {
            let prefix = if is_v6 {
                IpNet::new(address.to_be_bytes().into(), length % 129).unwrap()
            } else {
                let address = (address as u32).to_be_bytes();
                IpNet::new(address.into(), length % 33).unwrap()
            };
            TargetKey {
                prefix: prefix.trunc(),
                direction: if out { Direction::Out } else { Direction::In },
                zone: ZoneId(zone),
            }
        })
}

fn bucket() -> impl Strategy<Value = Bucket> {
    let sums = (any::<u64>(), 0..5000_u64, 0..3_u64, 0.0..1e18, 0.0..1e12);
    prop_oneof![
        2 => Just(Bucket::default()),
        3 => sums.prop_map(|(octets, packets, flows, octets_variance, packets_variance)| Bucket {
            octets, packets, flows, octets_variance, packets_variance
        }),
    ]
}

fn vectors() -> impl Strategy<Value = Vec<Vector>> {
    proptest::sample::subsequence(Vector::ALL.to_vec(), 0..4)
}

fn series(scope: TargetScope) -> impl Strategy<Value = Series> {
    let shape = (vectors(), any::<u32>(), any::<bool>());
    let rest = (any::<bool>(), any::<u32>(), proptest::option::of(shape));
    let lengths = (0..80_usize, vectors(), any::<bool>());
    (target(), -600..2_i64, lengths, rest).prop_flat_map(
        move |(target, first, (length, vectors, told), rest)| {
            let buckets = || proptest::collection::vec(bucket(), length);
            let of_vectors = vectors.into_iter().map(|v| (Just(v), buckets()));
            let of_vectors: Vec<_> = of_vectors.collect();
            (buckets(), of_vectors).prop_map(move |(total, vectors)| {
                let (unknown_rate, max_sampling_rate, shape) = rest.clone();
                Series {
                    target,
                    scope,
                    first_second: NOW + first,
                    total,
                    vectors: told.then_some(vectors),
                    unknown_rate,
                    max_sampling_rate,
                    shape: shape.map(|(vectors, number, risen)| {
                        let levels = vectors.into_iter().map(|v| (v, [number.into(), 9]));
                        Box::new(PrefixShape {
                            holds: target.prefix,
                            hosts: number,
                            effective_hosts: number / 2,
                            risen,
                            known_for: 3,
                            levels: levels.collect(),
                        })
                    }),
                }
            })
        },
    )
}

fn minute() -> impl Strategy<Value = MinuteProfile> {
    let row = (target(), any::<u64>(), any::<bool>()).prop_map(|(target, sum, host)| MinuteRow {
        target,
        scope: if host {
            TargetScope::Host
        } else {
            TargetScope::Prefix
        },
        seconds: 60,
        octets: sum,
        packets: sum / 2,
        flows: sum / 3,
        peak_octets: sum / 4,
        peak_packets: 0,
        peak_flows: 1,
    });
    let zone = (target(), any::<u8>(), any::<u16>()).prop_map(|(target, protocol, port)| {
        let sums = MinuteSums {
            octets: 1,
            packets: 2,
            flows: 3,
            connections: port.into(),
        };
        let parts = vec![
            (TrafficPart::Protocol(protocol), sums),
            (TrafficPart::Port { protocol, port }, sums),
        ];
        ZoneMinute { target, parts }
    });
    let rows = proptest::collection::vec(row, 0..5);
    let zones = proptest::collection::vec(zone, 0..3);
    (rows, zones, any::<bool>()).prop_map(|(targets, zones, is_last)| MinuteProfile {
        first_second: NOW - 70,
        targets,
        zones,
        is_last,
    })
}

fn part() -> impl Strategy<Value = Part> {
    let list = |scope| proptest::collection::vec(series(scope), 0..4);
    let lists = (
        list(TargetScope::Zone),
        list(TargetScope::Link),
        list(TargetScope::Automatic),
        list(TargetScope::Host),
    );
    let numbers = (
        any::<u64>(),
        any::<u64>(),
        0..1_000_000_000_i64,
        0..1_u64 << 50,
    );
    (
        "[a-z]{0,20}",
        numbers,
        lists,
        proptest::option::of(minute()),
    )
        .prop_map(
            |(name, (epoch, sequence, nanos, records), (zones, links, prefixes, hosts), minute)| {
                let now = Timestamp::from_nanos(NOW * 1_000_000_000 + nanos);
                let mut summary = WindowSummary::new(0, 0, ReceivedAt(now), NOW - 5);
                summary.coverage.push(ExporterCoverage {
                    exporter: ExporterId(7),
                    records,
                    missing_records: records / 3,
                });
                summary.counters.records = records;
                summary.counters.refused_minute_rows = records / 7;
                Part {
                    collector: Arc::from(name),
                    epoch,
                    sequence,
                    summary: WindowSummary {
                        zones,
                        links,
                        prefixes,
                        hosts,
                        minute,
                        ..summary
                    },
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_part_comes_back_as_it_was(part in part()) {
        let octets = part.encode(&partitions());
        let decoded = Part::decode(&octets, &partitions()).unwrap();
        prop_assert_eq!(decoded.unknown, 0);
        prop_assert_eq!(decoded.part, part);
        for cut in 0..octets.len() {
            prop_assert!(Part::decode(&octets[..cut], &partitions()).is_err());
        }
    }

    #[test]
    fn damaged_octets_are_refused_or_another_part(part in part(), place: usize, octet: u8) {
        let mut octets = part.encode(&partitions());
        let place = place % octets.len();
        octets[place] = octet;
        if let Ok(decoded) = Part::decode(&octets, &partitions()) {
            // Whatever it is, it can be written again.
            let again = decoded.part.encode(&partitions());
            prop_assert!(Part::decode(&again, &partitions()).is_ok());
        }
    }

    #[test]
    fn hostile_octets_never_panic(octets: Vec<u8>) {
        let _ = Part::decode(&octets, &partitions());
        let framed: Vec<u8> = [1, 0, 1, 1].into_iter().chain(octets).collect();
        let _ = Part::decode(&framed, &partitions());
    }

    #[test]
    fn what_is_cut_by_partition_is_all_there_was(part in part()) {
        let all = partitions();
        let parts = all.cut(part.summary.clone());
        prop_assert_eq!(parts.len(), 4);
        let hosts = |summary: &WindowSummary| summary.hosts.len() + summary.zones.len();
        prop_assert_eq!(parts.iter().map(hosts).sum::<usize>(), hosts(&part.summary));
        for (place, part) in (0..).zip(&parts) {
            for series in part.hosts.iter().chain(&part.prefixes) {
                prop_assert_eq!(all.of(series.target.zone), Some(place));
            }
        }
    }
}

#[test]
fn zones_travel_by_name() {
    let target = TargetKey {
        prefix: "10.0.0.1/32".parse().unwrap(),
        direction: Direction::In,
        zone: ZoneId(2),
    };
    let mut summary = WindowSummary::new(0, 0, ReceivedAt::from_nanos(NOW), 0);
    summary.hosts = vec![Series {
        target,
        scope: TargetScope::Host,
        first_second: 0,
        total: vec![Bucket {
            octets: 1,
            ..Bucket::default()
        }],
        vectors: None,
        unknown_rate: false,
        max_sampling_rate: 1,
        shape: None,
    }];
    let part = Part {
        collector: "c".into(),
        epoch: 1,
        sequence: 1,
        summary,
    };
    let octets = part.encode(&partitions());
    let other = Partitions::new(4, [(ZoneId(0), "gamma".into())]);
    let decoded = Part::decode(&octets, &other).unwrap();
    assert_eq!(decoded.part.summary.hosts[0].target.zone, ZoneId(0));
    let none = Partitions::new(4, [(ZoneId(0), "epsilon".into())]);
    let decoded = Part::decode(&octets, &none).unwrap();
    assert_eq!((decoded.unknown, decoded.part.summary.hosts.len()), (1, 0));
}

#[test]
fn a_few_octets_make_no_huge_part() {
    let part = Part {
        collector: "c".into(),
        epoch: 1,
        sequence: 1,
        summary: WindowSummary::new(0, 0, ReceivedAt::from_nanos(NOW), 0),
    };
    let mut octets = part.encode(&partitions());
    assert_eq!(octets[0], 1);
    octets[0] = 2;
    let refused = Part::decode(&octets, &partitions());
    assert_eq!(refused, Err(WireError::Form { found: 2 }));
    // A host with as many empty buckets as may be, again and again.
    let mut hostile = vec![1, 0, 1, 1, 0, 0, 1, 1, b'a', 0, 0, 0];
    hostile.extend([0x80, 0x80, 0x01]);
    for _ in 0..1 << 14 {
        hostile.extend([0, 0, 32, 1, 2, 3, 4, 0, 0, 0, 0x80, 0x40, 0, 0xff, 0x3f]);
    }
    hostile.extend([0; 20]);
    assert!(matches!(
        Part::decode(&hostile, &partitions()),
        Err(WireError::Value { .. })
    ));
}
