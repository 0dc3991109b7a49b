//! What the detector teaches its baselines.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

use weir_baseline::{Aspect, BaselineTarget};
use weir_detector::{Detector, DetectorConfig, DetectorOutput, ThresholdConfig, ZoneConfig, check};
use weir_flow_aggregate::{Bucket, MinuteProfile, MinuteRow, Series, TargetScope, WindowSummary};
use weir_flow_record::{Direction, ReceivedAt, TargetKey, Timestamp, Vector, ZoneId};

const START: i64 = 1_767_571_200;
const MBIT: u64 = 1_000_000 / 8;

fn detector() -> Detector {
    let zone = ZoneConfig {
        name: "customer-a".to_owned(),
        prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        ..ZoneConfig::default()
    };
    let settings = check(
        &DetectorConfig::default(),
        &[ThresholdConfig::built_in()],
        &[zone],
    );
    Detector::new(settings.unwrap())
}

fn key(prefix: &str) -> TargetKey {
    TargetKey {
        prefix: prefix.parse().unwrap(),
        direction: Direction::In,
        zone: ZoneId(0),
    }
}

fn series(scope: TargetScope, prefix: &str, second: i64, octets: u64) -> Series {
    let bucket = Bucket {
        octets,
        packets: octets / 1000,
        flows: octets / 100_000,
        ..Bucket::default()
    };
    Series {
        target: key(prefix),
        scope,
        first_second: second,
        total: vec![bucket],
        vectors: Some(vec![(Vector::UdpFlood, vec![bucket])]),
        unknown_rate: false,
        max_sampling_rate: 1,
        shape: None,
    }
}

/// A second in which a host and its zone get so much; the host's minutes are told too.
fn second(detector: &mut Detector, second: i64, host: u64, zone: u64) -> usize {
    let now = ReceivedAt::from_nanos((second + 1) * 1_000_000_000);
    let mut summary = WindowSummary::new(0, 1, now, second - 4);
    let (name, prefix) = ("203.0.113.7/32", "203.0.113.0/24");
    summary.hosts = vec![series(TargetScope::Host, name, second, host)];
    summary.zones = vec![series(TargetScope::Zone, prefix, second, zone)];
    if (second - 4) % 60 == 0 {
        summary.minute = Some(MinuteProfile {
            first_second: second - 64,
            targets: vec![MinuteRow {
                target: key(name),
                scope: TargetScope::Host,
                seconds: 60,
                octets: host * 60,
                packets: host * 60 / 1000,
                flows: host * 60 / 100_000,
                peak_octets: host,
                peak_packets: host / 1000,
                peak_flows: host / 100_000,
            }],
            zones: Vec::new(),
            is_last: true,
        });
    }
    detector.handle_window(&summary);
    let outputs = std::iter::from_fn(|| detector.poll_output());
    let events = outputs.filter(|output| matches!(output, DetectorOutput::Event(_)));
    events.count()
}

#[test]
fn peace_is_learned_and_an_attack_is_not() {
    let mut detector = detector();
    let (quiet, busy, attack) = (10 * MBIT, 100 * MBIT, 5000 * MBIT);
    for at in 0..3600 {
        assert_eq!(second(&mut detector, START + at, quiet, busy), 0);
    }
    let mut events = 0;
    for at in 3600..4200 {
        events += second(&mut detector, START + at, attack, busy + attack);
    }
    assert!(events > 0);
    for at in 4200..9000 {
        second(&mut detector, START + at, quiet, busy);
    }
    let of = |scope, prefix| {
        let target = BaselineTarget::of(scope, &key(prefix));
        let at = Timestamp::from_seconds(START + 9000);
        let baselines = detector.baselines();
        baselines.normal(&target, Aspect::Total, at).unwrap()
    };
    let zone = of(TargetScope::Zone, "203.0.113.0/24");
    assert!((zone.bits.mid / 1e8 - 1.0).abs() < 0.03, "{zone:?}");
    assert!(zone.bits.peak < 1.1e8, "{zone:?}");
    assert!(zone.seconds_learned > 7000, "{zone:?}");
    let host = of(TargetScope::Host, "203.0.113.7/32");
    assert!((host.bits.mid / 1e7 - 1.0).abs() < 0.03, "{host:?}");
    assert!(host.bits.peak < 1.1e7, "{host:?}");
}
