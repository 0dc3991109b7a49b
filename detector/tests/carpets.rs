//! Attacks on many hosts, each below its own limit: told once, for the prefix that explains them; and large normal traffic, of
//! which nothing is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use support::{Pipeline, at, bits, flow, packets, zone};
use weir_attack_event::EventKind;
use weir_detector::{DetectorConfig, ThresholdConfig, check};
use weir_flow_record::{Address, Direction, Quantity, Row, Vector};

/// 100 kpps and 1 Gbit/s for each host.
fn limits() -> Vec<ThresholdConfig> {
    vec![ThresholdConfig {
        bits_per_second: Some(Quantity(1_000_000_000)),
        ..packets(100_000)
    }]
}

fn pipeline(prefixes: &[&str]) -> Pipeline {
    Pipeline::with(check(&DetectorConfig::default(), &limits(), &[zone(prefixes)]).unwrap())
}

fn v4(network: [u8; 2], number: u32) -> Address {
    let [a, b] = network;
    Address::from_v4([a, b, (number >> 8) as u8, number as u8])
}

/// A host of a /64 for each number, 256 of them in each /56.
fn v6(number: u32) -> Address {
    let high = 0x2001_0db8_000a_0000_u64 | u64::from(number);
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&high.to_be_bytes());
    octets[15] = 7;
    Address::from_octets(octets)
}

/// A second in which each of `hosts` gets `packets` of `octets` each, told in ten parts.
fn second(
    pipeline: &mut Pipeline,
    second: u32,
    hosts: impl Iterator<Item = Address> + Clone,
    (packets, octets): (u64, u64),
    change: impl Fn(&mut Row),
) {
    for tenth in 0..10 {
        let from = f64::from(second) + f64::from(tenth) * 0.1;
        let rows: Vec<Row> = hosts
            .clone()
            .enumerate()
            // Not all hosts in each part: exporters tell flows when they end.
            .filter(|(index, _)| *index % 10 == tenth as usize)
            .map(|(_, target)| {
                let mut row = flow(target, at(from), at(from + 0.09), packets * octets, packets);
                change(&mut row);
                row
            })
            .collect();
        pipeline.receive(at(from + 0.1), &rows);
    }
}

/// A web server's clients: large and small hosts, as usual, with some noise.
fn peace(pipeline: &mut Pipeline, at: u32, hosts: &[Address], level: u64) {
    for (index, host) in hosts.iter().enumerate() {
        let noise = u64::from((at.wrapping_mul(2_654_435_761) >> 16) % 40) + 80;
        let packets = level * noise / 100 / (index as u64 % 7 + 1);
        second(
            pipeline,
            at,
            std::iter::once(*host),
            (packets, 900),
            |row| {
                (row.protocol, row.tcp_flags) = (6, weir_flow_record::TCP_ACK);
            },
        );
    }
}

fn told(pipeline: &Pipeline) -> Vec<String> {
    let starts = pipeline.starts().into_iter();
    starts
        .map(|event| event.target.prefix.to_string())
        .collect()
}

/// The prefix that the newest event of the first attack names.
fn last_target(pipeline: &Pipeline) -> String {
    pipeline.events.last().unwrap().target.prefix.to_string()
}

#[test]
fn a_thousand_hosts_each_below_the_limit_are_one_attack_on_the_prefix() {
    let mut pipeline = pipeline(&["10.9.0.0/16"]);
    let servers: Vec<Address> = (0..6).map(|number| v4([10, 9], number * 700)).collect();
    for at in 0..30 {
        peace(&mut pipeline, at, &servers, 2_000);
    }
    assert_eq!(told(&pipeline), [""; 0]);
    let hosts = (0..1024).map(|number| v4([10, 9], 4 * 256 + number));
    for at in 30..40 {
        peace(&mut pipeline, at, &servers, 2_000);
        second(&mut pipeline, at, hosts.clone(), (2_500, 100), |_| {});
    }
    pipeline.finish();
    assert_eq!(
        told(&pipeline),
        ["10.9.4.0/22"],
        "{:?}",
        pipeline.events[0].why
    );
    let start = &pipeline.events[0];
    assert_eq!(start.vectors[0].name, Vector::UdpFlood);
    let delay = start.detected_at.since(at(30.0)).as_secs_f64();
    assert!(delay < 2.5, "{delay}");
    assert!(start.why[0].0.contains("spread over"), "{:?}", start.why);
    let end = pipeline.events.last().unwrap();
    assert_eq!(
        (end.kind, end.end_time),
        (EventKind::AttackEnd, Some(at(40.0)))
    );
}

#[test]
fn where_it_begins_does_not_matter() {
    for (first, count, target) in [
        (8_u32, 8_u32, "10.9.8.0/21"),
        (4, 8, "10.9.0.0/20"),
        (200, 1, "10.9.200.0/24"),
    ] {
        let mut pipeline = pipeline(&["10.9.0.0/16"]);
        let quiet = [v4([10, 9], 3)];
        for at in 0..20 {
            peace(&mut pipeline, at, &quiet, 100);
        }
        let hosts = (first * 256..(first + count) * 256).map(|number| v4([10, 9], number));
        for at in 20..30 {
            second(&mut pipeline, at, hosts.clone(), (2_500, 100), |_| {});
        }
        pipeline.finish();
        assert_eq!(told(&pipeline), [target]);
    }
}

#[test]
fn ipv6_is_no_different() {
    let mut pipeline = pipeline(&["2001:db8:a::/48"]);
    for at in 0..20 {
        peace(&mut pipeline, at, &[v6(9)], 100);
    }
    let hosts = (1024..2048).map(v6);
    for at in 20..30 {
        second(&mut pipeline, at, hosts.clone(), (2_500, 100), |_| {});
    }
    pipeline.finish();
    assert_eq!(told(&pipeline), ["2001:db8:a:400::/54"]);
}

#[test]
fn an_attack_that_grows_is_told_by_updates() {
    let mut pipeline = pipeline(&["10.9.0.0/16"]);
    let quiet = [v4([10, 9], 3)];
    for at in 0..20 {
        peace(&mut pipeline, at, &quiet, 100);
    }
    let hosts = (0..1024).map(|number| v4([10, 9], 4 * 256 + number));
    for at in 20..40 {
        let count = if at < 30 { 256 } else { 1024 };
        second(
            &mut pipeline,
            at,
            hosts.clone().take(count),
            (2_500, 100),
            |_| {},
        );
    }
    pipeline.finish();
    assert_eq!(told(&pipeline), ["10.9.4.0/24"]);
    assert_eq!(last_target(&pipeline), "10.9.4.0/22");
    let ids: Vec<_> = pipeline.events.iter().map(|event| &event.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    let grown = |event: &weir_attack_event::AttackEvent| {
        event
            .why
            .iter()
            .any(|why| why.0.contains("grown from 10.9.4.0/24 to 10.9.4.0/22"))
    };
    assert!(pipeline.events.iter().any(grown));
}

#[test]
fn a_small_zone_is_told_as_it_is() {
    for (prefix, count, target) in [
        ("10.9.7.0/24", 256, "10.9.7.0/24"),
        ("10.9.7.16/28", 16, "10.9.7.16/28"),
    ] {
        let mut pipeline = pipeline(&[prefix]);
        let quiet = [v4([10, 9], 7 * 256 + 17)];
        for at in 0..20 {
            peace(&mut pipeline, at, &quiet, 100);
        }
        let first = 7 * 256 + if count == 16 { 16 } else { 0 };
        let hosts = (first..first + count).map(|number| v4([10, 9], number));
        for at in 20..30 {
            let each = u64::from(1_000_000 / count);
            second(&mut pipeline, at, hosts.clone(), (each, 100), |_| {});
        }
        pipeline.finish();
        assert_eq!(told(&pipeline), [target]);
    }
}

#[test]
fn reflection_to_many_hosts_is_told_from_the_first_second() {
    let mut pipeline = pipeline(&["10.9.0.0/16"]);
    let hosts = (0..512).map(|number| v4([10, 9], 16 * 256 + number));
    for at in 0..5 {
        second(&mut pipeline, at, hosts.clone(), (1_000, 468), |row| {
            row.source_port = 123
        });
    }
    pipeline.finish();
    assert_eq!(told(&pipeline), ["10.9.16.0/23"]);
    assert_eq!(pipeline.events[0].vectors[0].name, Vector::NtpAmplification);
}

#[test]
fn large_hosts_that_are_always_there_are_no_attack() {
    let mut pipeline = pipeline(&["10.9.0.0/16"]);
    // 16 hosts of 200 Mbit/s: 3.2 Gbit/s together.
    let hosts = (0..16).map(|number| v4([10, 9], 256 + number * 9));
    for at in 0..120 {
        let change = |row: &mut Row| (row.protocol, row.tcp_flags) = (6, weir_flow_record::TCP_ACK);
        second(&mut pipeline, at, hosts.clone(), (20_000, 1_250), change);
    }
    pipeline.finish();
    assert_eq!(told(&pipeline), [""; 0], "{:?}", pipeline.events[0]);
}

#[test]
fn a_crowd_of_four_times_the_usual_is_no_attack() {
    let mut pipeline = pipeline(&["10.9.0.0/16"]);
    let hosts: Vec<Address> = (0..40)
        .map(|number| v4([10, 9], 256 + number * 5))
        .collect();
    for at in 0..150 {
        let level = if (90..120).contains(&at) {
            32_000
        } else {
            8_000
        };
        peace(&mut pipeline, at, &hosts, level);
    }
    pipeline.finish();
    assert_eq!(told(&pipeline), [""; 0]);
}

#[test]
fn a_large_host_attack_is_told_for_the_host_alone() {
    let mut pipeline = pipeline(&["10.9.0.0/16"]);
    for at in 0..20 {
        peace(&mut pipeline, at, &[v4([10, 9], 300)], 100);
    }
    let target = v4([10, 9], 301);
    for at in 20..30 {
        second(
            &mut pipeline,
            at,
            std::iter::once(target),
            (3_000_000, 100),
            |_| {},
        );
    }
    pipeline.finish();
    assert_eq!(told(&pipeline), ["10.9.1.45/32"]);
}

#[test]
fn an_hour_long_backup_that_is_told_each_minute_is_no_attack() {
    let mut pipeline = Pipeline::new(&[bits(1_000_000_000)]);
    let target = support::host(9);
    for minute in 0..60 {
        let (start, end) = (f64::from(minute) * 60.0, f64::from(minute) * 60.0 + 60.0);
        // 600 Mbit/s.
        let row = flow(target, at(start), at(end), 4_500_000_000, 3_000_000);
        pipeline.receive(at(end), &[row]);
    }
    pipeline.finish();
    assert_eq!(pipeline.kinds(), []);
}

#[test]
fn what_many_inside_hosts_send_is_told_for_their_prefix() {
    let outward = ThresholdConfig {
        direction: Direction::Out,
        ..packets(100_000)
    };
    let settings = check(
        &DetectorConfig::default(),
        &[outward],
        &[zone(&["10.9.0.0/16"])],
    );
    let mut pipeline = Pipeline::with(settings.unwrap());
    let bots: Vec<Address> = (0..200).map(|number| v4([10, 9], 768 + number)).collect();
    let victim = Address::from_v4([198, 51, 100, 1]);
    for at in 0..40 {
        let each = if at < 20 { 10 } else { 2_000 };
        let out = (0..200).map(|_| victim);
        let bots = bots.clone();
        let next = std::cell::Cell::new(0_usize);
        second(&mut pipeline, at, out, (each, 60), move |row| {
            row.source_address = bots[next.get() % bots.len()];
            next.set(next.get() + 1);
            (row.protocol, row.tcp_flags) = (6, weir_flow_record::TCP_SYN);
        });
    }
    pipeline.finish();
    assert_eq!(pipeline.starts().len(), 1);
    assert_eq!(last_target(&pipeline), "10.9.3.0/24");
    assert_eq!(pipeline.events[0].target.direction, Direction::Out);
}
