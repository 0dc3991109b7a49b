//! The router's exports tell what was simulated: the same for the same seed, within sampling error, for both families.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Reader, read, run};
use weir_datasets::{Attack, AttackVector, Network, Scenario, Sources, Unfiltered, write_labels};
use weir_flow_record::{Address, TCP_SYN, Timestamp, Vector};

fn start() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_250_000_000)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn with_attack(seed: u64, prefix: usize) -> (Scenario, Address) {
    let mut scenario = Scenario::lab(seed, start());
    let target = scenario.host(prefix, 3).unwrap();
    scenario
        .attacks
        .push(Attack::lab(target, start().plus(seconds(3)), seconds(4)));
    (scenario, target)
}

fn datagrams(scenario: Scenario, piece: Duration) -> Vec<(Timestamp, Vec<u8>)> {
    let mut network = Network::new(scenario).unwrap();
    while network.now() < start().plus(seconds(9)) {
        network.handle_step(network.now().plus(piece), &mut Unfiltered);
    }
    network.handle_stop();
    std::iter::from_fn(|| network.poll_datagram()).collect()
}

#[test]
fn a_seed_gives_the_same_datagrams_however_time_is_cut() {
    let whole = datagrams(with_attack(7, 0).0, seconds(9));
    assert!(whole == datagrams(with_attack(7, 0).0, Duration::from_millis(100)));
    assert!(whole != datagrams(with_attack(8, 0).0, seconds(9)));
    assert!(whole.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

#[test]
fn scaled_exports_are_what_was_sent() {
    for prefix in [0, 1] {
        let (scenario, target) = with_attack(11, prefix);
        let mut network = Network::new(scenario).unwrap();
        let mut reader = Reader::default();
        run(&mut network, seconds(9), &mut Unfiltered, &mut reader);
        network.handle_stop();
        read(&mut network, &mut reader);
        let totals = network.totals();
        assert_eq!(
            (totals.sent_octets, totals.sent_packets),
            (totals.passed_octets, totals.passed_packets)
        );
        let octets: u64 = reader.records.iter().map(|record| record.octets).sum();
        let packets: u64 = reader.records.iter().map(|record| record.packets).sum();
        assert_eq!(
            (octets, packets),
            (totals.sampled_octets, totals.sampled_packets)
        );
        assert_eq!(reader.records.len() as u64, totals.records);
        close(packets * 100, totals.sent_packets, 0.04);
        close(octets * 100, totals.sent_octets, 0.04);
        // 4 s of 60,000 × 1,200 and 20,000 × 60 octets; the target's normal traffic is small beside it.
        let attack = reader.octets_to(
            target.ip(),
            start().plus(seconds(3)),
            start().plus(seconds(7)),
        );
        close(attack * 100, 4 * (60_000 * 1200 + 20_000 * 60), 0.04);
        assert_eq!(reader.sampling_rates, [100], "told once in the first 10 s");
        let syn = reader
            .records
            .iter()
            .filter(|r| r.destination == target.ip() && r.tcp_flags == TCP_SYN);
        close(
            syn.map(|record| record.packets).sum::<u64>() * 100,
            80_000,
            0.15,
        );
    }
}

#[test]
fn normal_traffic_has_the_volume_asked_for() {
    let mut network = Network::new(Scenario {
        packets_per_second: 20_000,
        ..Scenario::lab(3, start())
    })
    .unwrap();
    network.handle_step(start().plus(seconds(10)), &mut Unfiltered);
    let begun = network.totals().sent_packets;
    network.handle_step(start().plus(seconds(30)), &mut Unfiltered);
    close(network.totals().sent_packets - begun, 20 * 20_000, 0.08);
}

#[test]
fn records_leave_by_the_active_timeout() {
    for timeout in [Duration::from_millis(100), seconds(1)] {
        let (mut scenario, _) = with_attack(5, 0);
        (scenario.active_timeout, scenario.inactive_timeout) = (timeout, timeout);
        let mut network = Network::new(scenario).unwrap();
        let mut reader = Reader::default();
        run(&mut network, seconds(8), &mut Unfiltered, &mut reader);
        assert!(reader.records.len() > 1000);
        let limit = (timeout + Duration::from_millis(101)).as_millis() as u64;
        for record in &reader.records {
            let exported = (record.exported.nanos() / 1_000_000) as u64;
            assert!(record.start_ms <= record.end_ms && record.end_ms <= exported);
            assert!(exported - record.start_ms <= limit, "{record:?}");
        }
    }
}

#[test]
fn forged_sources_differ_packet_by_packet() {
    for prefix in [0, 1] {
        let mut scenario = Scenario::lab(2, start());
        let target = scenario.host(prefix, 0).unwrap();
        let vectors = vec![AttackVector {
            vector: Vector::TcpSynFlood,
            packets_per_second: 100_000,
            packet_octets: 60,
            sources: Sources::Forged,
        }];
        scenario.packets_per_second = 0;
        scenario.attacks.push(Attack {
            target,
            vectors,
            start: start(),
            duration: seconds(2),
        });
        let mut network = Network::new(scenario).unwrap();
        let mut reader = Reader::default();
        run(&mut network, seconds(4), &mut Unfiltered, &mut reader);
        let sources: std::collections::BTreeSet<_> =
            reader.records.iter().map(|record| record.source).collect();
        assert!((1800..2200).contains(&sources.len()), "{}", sources.len());
        assert_eq!(sources.len(), reader.records.len());
    }
}

#[test]
fn labels_tell_target_time_and_vector() {
    let (scenario, target) = with_attack(1, 1);
    let mut network = Network::new(scenario).unwrap();
    assert_eq!(
        write_labels(&network.labels()),
        format!(
            "start,end,target,attack\n2023-11-14T22:13:23.25Z,2023-11-14T22:13:27.25Z,{target}/128,dns-amplification\n"
        )
    );
    network.handle_step(start().plus(seconds(5)), &mut Unfiltered);
    network.handle_attack_stop();
    assert_eq!(network.labels()[0].end, start().plus(seconds(5)));
    let before = network.totals().sent_packets;
    network.handle_step(start().plus(seconds(7)), &mut Unfiltered);
    assert!(network.totals().sent_packets - before < 20_000);
}

#[test]
fn a_million_packets_per_second_are_cheap() {
    let (mut scenario, _) = with_attack(1, 0);
    let attack = &mut scenario.attacks[0];
    attack.vectors[0].packets_per_second = 800_000;
    attack.vectors[1].packets_per_second = 200_000;
    let mut network = Network::new(scenario).unwrap();
    let begin = Instant::now();
    network.handle_step(start().plus(seconds(8)), &mut Unfiltered);
    assert!(network.totals().sent_packets > 3_900_000);
    // Far from the usual cost, but far from real time too.
    assert!(begin.elapsed() < seconds(6), "{:?}", begin.elapsed());
    eprintln!("8 s simulated in {:?}", begin.elapsed());
}

fn close(seen: u64, expected: u64, tolerance: f64) {
    let ratio = seen as f64 / expected as f64;
    assert!(
        (ratio - 1.0).abs() < tolerance,
        "{seen} instead of {expected}"
    );
}
