//! Frames through a veth pair, in every mode: what arrives, what is counted, what is said, and what stays behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/frames.rs"]
mod frames;
mod support;

use std::time::{Duration, Instant};

use frames::{Shows, cases};
use support::{Lab, inside};
use weir_ebpf::{
    Method, Mode, Observation, OpenError, SampledHeaders, Sampler, SamplerSettings, Totals, clock,
};
use weir_flow_record::{ColumnSet, Direction, ExportProtocol, FlowBatch, ReceivedAt};

fn settings(mode: Mode) -> SamplerSettings {
    SamplerSettings {
        interface: "in0".into(),
        sample_one_in: 1,
        mode,
        ring_octets: 4 << 20,
        ..SamplerSettings::default()
    }
}

impl Lab {
    fn open(&self, settings: &SamplerSettings) -> Result<Sampler, OpenError> {
        inside(&self.there, || Sampler::open(settings))
    }

    /// Whether an XDP program is attached.
    fn has_program(&self) -> bool {
        let output = self.there("ip link show dev in0");
        String::from_utf8_lossy(&output.stdout).contains("xdp")
    }
}

fn now() -> ReceivedAt {
    ReceivedAt::from_nanos(clock::wall())
}

/// Reads until `rows` are there, or for two seconds.
fn read(sampler: &mut Sampler, batch: &mut FlowBatch, rows: usize, headers: &mut SampledHeaders) {
    let mut observation = Observation::of(sampler);
    let end = Instant::now() + Duration::from_secs(2);
    while batch.len() < rows && Instant::now() < end {
        sampler.read(now(), &mut observation, batch, Some(headers));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_mode_tells_the_same_fields() {
    let Some(lab) = Lab::new() else { return };
    let sender = lab.sender();
    for method in Method::ALL {
        let mut sampler = lab.open(&settings(Mode::Only(method))).unwrap();
        assert_eq!((sampler.method(), sampler.declined().len()), (method, 0));
        assert_eq!(
            lab.has_program(),
            matches!(method, Method::Native | Method::Generic)
        );
        let before = clock::wall();
        let (mut octets, mut expected) = (0, Vec::new());
        for case in cases() {
            sender.send(&case.octets);
            octets += case.octets.len() as u64;
            let mut shows = case.shows;
            // The kernel takes tags off before packet sockets; pnet does not ask for them.
            if let (Method::Pnet, Some(shows)) = (method, &mut shows) {
                shows.vlan_id = shows.vlan_id.filter(|_| case.name == "QinQ").map(|_| 100);
            }
            expected.extend(shows.map(|shows| (case.name, shows)));
        }
        let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
        let mut headers = SampledHeaders::new(100);
        read(&mut sampler, &mut batch, expected.len(), &mut headers);
        let after = clock::wall();
        assert_eq!(batch.len(), expected.len(), "{method}");
        for (row, (name, shows)) in expected.iter().enumerate() {
            assert_eq!(shown(&batch, row), in_columns(*shows), "{name} by {method}");
            let at = batch.flow_end[row];
            assert!(
                (before..=after).contains(&at),
                "{name} by {method}: {before} {at} {after}"
            );
            assert_eq!(batch.input_interface[row], sampler.interface_index());
            assert_eq!(
                (
                    batch.packets[row],
                    batch.sampling_rate[row],
                    batch.direction[row]
                ),
                (1, 1, 0)
            );
        }
        let datagram = &batch.datagrams[0];
        assert_eq!(datagram.protocol, ExportProtocol::Xdp);
        assert_eq!(datagram.domain.0, sampler.interface_index());
        let tunnelled = expected
            .iter()
            .position(|(name, _)| *name == "GRE")
            .unwrap();
        assert_eq!(
            batch.extra.inner_protocol[tunnelled], 6,
            "the packet within a tunnel"
        );
        assert_eq!(batch.extra.inner_destination_port[tunnelled], 53);
        let totals = sampler.totals();
        assert_eq!(totals.packets, cases().len() as u64, "{method}");
        // pnet does not see four octets of each outermost tag.
        let tags = if method == Method::Pnet { 3 * 4 } else { 0 };
        assert_eq!(totals.octets, octets - tags, "{method}");
        assert_eq!((totals.without_ip, totals.ring_full), (2, 0), "{method}");
        assert!(
            headers
                .pcap(&"203.0.113.9/32".parse().unwrap(), Direction::In, 100)
                .is_some()
        );
        drop(sampler);
        assert!(!lab.has_program(), "{method} stays behind");
    }
}

fn shown(batch: &FlowBatch, row: usize) -> Shows {
    let (fields, extra) = (batch.row(row), batch.extra_row(row));
    Shows {
        source: fields.source_address,
        destination: fields.destination_address,
        protocol: fields.protocol,
        ports: (fields.source_port, fields.destination_port),
        tcp_flags: fields.tcp_flags,
        octets: u32::try_from(fields.octets).unwrap(),
        fragment: fields.fragment,
        vlan_id: Some(extra.vlan_id),
        icmp: Some((extra.icmp_type, extra.icmp_code)),
        tos: extra.tos,
        ttl: extra.ttl,
        flow_label: extra.flow_label,
    }
}

/// As columns have it: what is absent is 0.
fn in_columns(shows: Shows) -> Shows {
    Shows {
        vlan_id: shows.vlan_id.or(Some(0)),
        icmp: shows.icmp.or(Some((0, 0))),
        ..shows
    }
}

#[test]
fn the_best_mode_is_taken_and_said() {
    let Some(lab) = Lab::new() else { return };
    let sampler = lab.open(&settings(Mode::Auto)).unwrap();
    assert_eq!(sampler.method(), Method::Native);
    assert_eq!(sampler.story(), "in0: XDP in the driver, 1 in 1 packets");
    drop(sampler);
    // Loopback has no driver that runs programs.
    let on_loopback = SamplerSettings {
        interface: "lo".into(),
        ..settings(Mode::Auto)
    };
    let sampler = lab.open(&on_loopback).unwrap();
    assert_eq!(sampler.method(), Method::Generic);
    assert!(
        sampler.story().contains("not XDP in the driver: "),
        "{}",
        sampler.story()
    );
}

#[test]
fn what_cannot_be_sampled_is_said() {
    let Some(lab) = Lab::new() else { return };
    let first = lab.open(&settings(Mode::Auto)).unwrap();
    let second = lab.open(&settings(Mode::Auto)).err().unwrap();
    assert!(matches!(second, OpenError::Busy(_)), "{second}");
    assert!(
        second
            .to_string()
            .starts_with("in0 has an XDP program already"),
        "{second}"
    );
    // Packets of an interface with a program can still be had.
    assert!(lab.open(&settings(Mode::Only(Method::Tpacket))).is_ok());
    drop(first);
    let none = SamplerSettings {
        interface: "nowhere".into(),
        ..settings(Mode::Auto)
    };
    assert!(matches!(lab.open(&none), Err(OpenError::NoInterface(_))));
    let without = inside(&lab.there, || {
        weir_ebpf::capability::drop_all().unwrap();
        Sampler::open(&settings(Mode::Auto)).err().unwrap()
    });
    assert!(matches!(without, OpenError::NotPermitted(_)), "{without}");
}

/// CAP_NET_RAW is enough for the packet ring.
#[test]
fn each_method_needs_its_own_capabilities() {
    let Some(lab) = Lab::new() else { return };
    let (story, method) = inside(&lab.there, || {
        for capability in caps::all() {
            if capability != caps::Capability::CAP_NET_RAW {
                caps::drop(None, caps::CapSet::Effective, capability).unwrap();
            }
        }
        let sampler = Sampler::open(&settings(Mode::Auto)).unwrap();
        (sampler.story(), sampler.method())
    });
    assert_eq!(method, Method::Tpacket, "{story}");
    assert!(
        story.contains("not XDP in the driver: not permitted"),
        "{story}"
    );
    let method = inside(&lab.there, || {
        use caps::Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};
        for capability in caps::all() {
            if ![CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON].contains(&capability) {
                caps::drop(None, caps::CapSet::Effective, capability).unwrap();
            }
        }
        Sampler::open(&settings(Mode::Auto)).unwrap().method()
    });
    assert_eq!(method, Method::Native);
}

/// Sends `count` UDP datagrams from `flows` ports.
fn send(lab: &Lab, count: usize, flows: usize) {
    let sender = lab.sender();
    let mut frame = cases().swap_remove(0).octets;
    for number in 0..count {
        let port = u16::try_from(number % flows).unwrap();
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        sender.send(&frame);
        // No more than a ring takes while nobody reads.
        if number % 1_000 == 999 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn the_sampling_rate_is_that_of_the_exact_totals() {
    let Some(lab) = Lab::new() else { return };
    for method in [Method::Native, Method::Generic, Method::Tpacket] {
        let one_in_20 = SamplerSettings {
            sample_one_in: 20,
            ring_octets: 16 << 20,
            ..settings(Mode::Only(method))
        };
        let mut sampler = lab.open(&one_in_20).unwrap();
        send(&lab, 40_000, 100);
        let mut batch = FlowBatch::default();
        let mut headers = SampledHeaders::new(10);
        read(&mut sampler, &mut batch, 3_000, &mut headers);
        let totals = sampler.totals();
        assert_eq!(totals.packets, 40_000, "{method}");
        assert_eq!(totals.samples, batch.len() as u64, "{method}");
        // 2,000 in the mean; gaps of 1 to 39 deviate by 11.3, so the count by 25.
        assert!(
            (1_850..2_150).contains(&batch.len()),
            "{method}: {}",
            batch.len()
        );
        assert!(batch.sampling_rate.iter().all(|rate| *rate == 20));
    }
}

#[test]
fn a_full_ring_is_counted() {
    let Some(lab) = Lab::new() else { return };
    let small = SamplerSettings {
        ring_octets: 4096,
        ..settings(Mode::Only(Method::Native))
    };
    let mut sampler = lab.open(&small).unwrap();
    send(&lab, 500, 10);
    let mut batch = FlowBatch::default();
    read(&mut sampler, &mut batch, 500, &mut SampledHeaders::new(10));
    let totals = sampler.totals();
    assert_eq!(totals.packets, 500);
    assert!(totals.ring_full > 400, "{totals:?}");
    assert_eq!(totals.ring_full + batch.len() as u64, 500);
    assert_eq!(sampler.lost_records(&totals), totals.ring_full);
}

#[test]
fn exact_mode_counts_every_packet_by_flow() {
    let Some(lab) = Lab::new() else { return };
    for method in Method::ALL {
        let exact = SamplerSettings {
            exact: true,
            sample_one_in: 20,
            ..settings(Mode::Only(method))
        };
        let mut sampler = lab.open(&exact).unwrap();
        let before = clock::wall();
        // The buffer of pnet's socket holds about 250 while nobody reads.
        let each = if method == Method::Pnet { 4 } else { 30 };
        let count = 50 * each;
        send(&lab, count as usize, 50);
        std::thread::sleep(Duration::from_millis(50));
        let mut batch = FlowBatch::default();
        let mut headers = SampledHeaders::new(1_000);
        read(&mut sampler, &mut batch, 50, &mut headers);
        let totals = sampler.totals();
        assert_eq!(
            (totals.packets, totals.refused_packets),
            (count, 0),
            "{method}"
        );
        assert_eq!(batch.packets.iter().sum::<u64>(), count, "{method}");
        assert_eq!(batch.octets.iter().sum::<u64>(), count * 128, "{method}");
        assert_eq!(batch.len(), 50, "{method}");
        for row in 0..batch.len() {
            assert!(
                before <= batch.flow_start[row] && batch.flow_start[row] <= batch.flow_end[row]
            );
            assert_eq!((batch.sampling_rate[row], batch.packets[row]), (1, each));
        }
        let some = headers.pcap(&"203.0.113.9/32".parse().unwrap(), Direction::In, 1_000);
        assert!(some.is_some(), "{method}: sampled headers for evidence");
    }
}

#[test]
fn a_full_flow_table_is_counted() {
    let Some(lab) = Lab::new() else { return };
    let exact = SamplerSettings {
        exact: true,
        max_flows: 64,
        ..settings(Mode::Only(Method::Native))
    };
    let mut sampler = lab.open(&exact).unwrap();
    send(&lab, 2_000, 1_000);
    let mut batch = FlowBatch::default();
    read(&mut sampler, &mut batch, 64, &mut SampledHeaders::new(1));
    let totals: Totals = sampler.totals();
    assert_eq!(totals.packets, 2_000);
    assert!(totals.refused_packets > 1_000, "{totals:?}");
    assert_eq!(
        totals.refused_packets + batch.packets.iter().sum::<u64>(),
        2_000
    );
    assert_eq!(totals.refused_octets, totals.refused_packets * 128);
    assert!(sampler.lost_records(&totals) > 500);
    send(&lab, 64, 30);
    batch.clear();
    read(&mut sampler, &mut batch, 30, &mut SampledHeaders::new(1));
    assert_eq!(batch.len(), 30, "there is room again");
}
