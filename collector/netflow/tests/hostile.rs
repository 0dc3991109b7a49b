//! Random, mutated and greedy input ends in counters, in bounded time and memory.

mod common;

use std::net::SocketAddr;

use common::{Bytes, NOW, export_time, ipfix, received, rows, template};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_flow_record::{ColumnSet, FlowBatch, ObservationDomainId};
use weir_netflow::encode::{Encoder, Format};
use weir_netflow::fuzzing::fuzz_datagrams;
use weir_netflow::{Decoder, Limits};

/// Valid datagrams of all formats.
fn seeds() -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    for (number, format) in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5]
        .into_iter()
        .enumerate()
    {
        let domain = ObservationDomainId(number as u32);
        let mut encoder = Encoder::new(format, domain)
            .with_sampling_rate(10)
            .with_mtu(300);
        encoder.encode_templates(export_time(0), &mut datagrams);
        encoder.encode_flows(export_time(0), &rows(6, false), &mut datagrams);
        encoder.encode_flows(export_time(0), &rows(6, true), &mut datagrams);
        encoder.encode_withdrawal(export_time(0), &mut datagrams);
    }
    let variable = Bytes::default().u16s(&[400, 3, 82, 65_535, 1, 8, 8, 65_535]);
    let data = Bytes::default().raw(b"\x03abc").u64(1).raw(b"\x04abcd");
    datagrams.push(ipfix(
        0,
        0,
        &Bytes::default().set(2, &variable).set(400, &data),
    ));
    let both = [(0, 8, 4), (0, 12, 4), (0, 82, 65_535), (29_305, 1, 4)];
    let answered = Bytes::default().u64(1).raw(b"\x03abc").u32(9);
    let events = [(0, 148, 1), (0, 233, 1), (0, 231, 4), (0, 232, 2)];
    let event = |kind: u8| Bytes::default().u8(1).u8(kind).u32(9).u16(8);
    let weighed = event(5).raw(&event(2).0).raw(&event(1).0);
    let sets = Bytes::default()
        .set(2, &common::template_of(401, &both))
        .set(2, &common::template_of(402, &events))
        .set(401, &answered)
        .set(402, &weighed);
    datagrams.push(ipfix(0, 0, &sets));
    datagrams
}

fn mutate(datagram: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(0..6) {
        if datagram.is_empty() {
            return;
        }
        let at = random.random_range(0..datagram.len());
        match random.random_range(0..5) {
            0 => datagram[at] = random.random(),
            1 => datagram[at] ^= 1 << random.random_range(0..8),
            2 => datagram[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            3 => datagram.truncate(at),
            _ => {
                let from = random.random_range(0..datagram.len());
                let piece = datagram[from..].to_vec();
                datagram.splice(at..at, piece.into_iter().take(40));
            }
        }
    }
}

#[test]
fn random_and_mutated_datagrams_end_in_counters() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let seeds = seeds();
    for _ in 0..1_500 {
        let mut series = Vec::new();
        for _ in 0..40 {
            let datagram = if random.random_range(0..8) == 0 {
                let mut noise = vec![0; random.random_range(0..200)];
                random.fill_bytes(&mut noise);
                if let [first, second, ..] = noise.as_mut_slice() {
                    (*first, *second) = (0, [1, 5, 7, 9, 10][random.random_range(0..5)]);
                }
                noise
            } else {
                let mut datagram = seeds[random.random_range(0..seeds.len())].clone();
                mutate(&mut datagram, &mut random);
                datagram
            };
            series.extend((datagram.len() as u16).to_be_bytes());
            series.extend(datagram);
        }
        fuzz_datagrams(&series);
    }
}

#[test]
fn a_hundred_thousand_templates_stay_within_their_memory() {
    let limits = Limits {
        template_octets: 8 << 20,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let mut batch = FlowBatch::default();
    let fields: Vec<(u16, u16)> = (1..60).map(|element| (element, 4)).collect();
    let mut sent = 0;
    let used = allocation_counter::measure(|| {
        for exporter in 0..500u32 {
            let [_, _, high, low] = exporter.to_be_bytes();
            let from = SocketAddr::from(([10, 0, high, low], 2055));
            for domain in 0..50u32 {
                let sets = (0..4).fold(Bytes::default(), |sets, number| {
                    sets.set(2, &template(256 + number, &fields))
                });
                sent += 4;
                let datagram = ipfix(domain, 0, &sets);
                decoder.handle_datagram(received(0), from, &datagram, &mut batch);
            }
        }
    });
    assert_eq!(sent, 100_000);
    let counters = decoder.counters();
    assert_eq!(counters.templates, sent);
    assert!(counters.refused_templates > 0);
    assert!(
        used.bytes_max < 48 << 20,
        "{} MiB at most",
        used.bytes_max >> 20
    );
}

#[test]
fn a_flood_of_exporters_is_refused_and_costs_others_nothing() {
    let limits = Limits {
        max_exporters: 100,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::ALL);
    let mut batch = FlowBatch::default();
    let sets = Bytes::default()
        .set(2, &template(256, &[(1, 4)]))
        .set(256, &Bytes::default().u32(1));
    for number in 0..20_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let from = SocketAddr::from(([10, a, b, c], 2055));
        decoder.handle_datagram(received(0), from, &ipfix(0, 0, &sets), &mut batch);
    }
    assert_eq!(decoder.exporters().count(), 100);
    assert_eq!(decoder.counters().refused_datagrams, 19_900);
    batch.clear();
    let first = SocketAddr::from(([10, 0, 0, 0], 2055));
    let outcome = decoder.handle_datagram(received(1), first, &ipfix(0, 1, &sets), &mut batch);
    assert_eq!(outcome.records, 1);
}

#[test]
fn what_waited_is_released_in_portions() {
    let limits = Limits {
        held_back_octets: 64 << 20,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(limits.check().unwrap(), ColumnSet::NONE);
    let mut batch = FlowBatch::default();
    let from = SocketAddr::from(([10, 0, 0, 1], 2055));
    let data = Bytes::default().set(256, &Bytes(vec![7; 60_000]));
    for _ in 0..5 {
        decoder.handle_datagram(received(0), from, &ipfix(0, 0, &data), &mut batch);
    }
    let sets = Bytes::default().set(2, &template(256, &[(4, 1)]));
    let mut released = Vec::new();
    while released.iter().sum::<u32>() < 300_000 && released.len() < 10 {
        batch.clear();
        let outcome = decoder.handle_datagram(received(1), from, &ipfix(0, 0, &sets), &mut batch);
        assert_eq!(batch.len(), outcome.released_records as usize);
        released.push(outcome.released_records);
    }
    assert_eq!(released, [180_000, 120_000]);
}

#[test]
fn absurd_clocks_do_not_overflow() {
    let fields = [(152, 8), (157, 8), (161, 8), (158, 8), (22, 4), (160, 8)];
    let content = Bytes(vec![0xff; 44]);
    let sets = Bytes::default()
        .set(2, &template(256, &fields))
        .set(256, &content);
    for seconds in [0u32, 1, u32::MAX] {
        let mut datagram = ipfix(1, u32::MAX, &sets);
        datagram[4..8].copy_from_slice(&seconds.to_be_bytes());
        let mut batch = FlowBatch::default();
        let mut decoder = Decoder::new(Limits::default().check().unwrap(), ColumnSet::ALL);
        let from = SocketAddr::from(([10, 0, 0, 1], 1));
        for at in [i64::MIN, 0, NOW, i64::MAX] {
            let at = weir_flow_record::ReceivedAt::from_nanos(at);
            decoder.handle_datagram(at, from, &datagram, &mut batch);
            decoder.handle_timeout(at);
        }
        assert_eq!(batch.len(), 4);
    }
}
