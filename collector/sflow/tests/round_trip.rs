//! What the encoder writes, the decoder reads.

mod common;

use common::{at, batch, decoder, encoder, from};
use proptest::prelude::*;
use weir_flow_record::{Address, ColumnSet, ExtraRow, FragmentKind, Row};
use weir_sflow::InterfaceCounters;
use weir_sflow::encode::{FlowSample, Form, Sample};

proptest! {
    #[test]
    fn every_field_comes_back(samples in proptest::collection::vec(sample(), 1..60)) {
        let wire: Vec<Sample> = samples.iter().copied().map(Sample::Flow).collect();
        let mut datagrams = Vec::new();
        encoder().encode(1_000, &wire, &mut datagrams);
        let (mut decoder, mut batch) = (decoder(), batch());
        for datagram in &datagrams {
            prop_assert!(datagram.len() <= weir_sflow::encode::DEFAULT_MTU);
            let outcome = decoder.handle_datagram(at(5), from(1), datagram, &mut batch);
            prop_assert_eq!((outcome.malformed, outcome.malformed_samples, outcome.sequence_gap), (None, 0, false));
        }
        prop_assert_eq!(batch.len(), samples.len());
        for (index, sample) in samples.iter().enumerate() {
            prop_assert_eq!(batch.row(index), sample.row);
            prop_assert_eq!(batch.extra_row(index), sample.extra);
        }
    }
}

fn address(v4: bool) -> impl Strategy<Value = Address> {
    any::<[u8; 16]>().prop_map(move |octets| match octets {
        [a, b, c, d, ..] if v4 => Address::from_v4([a, b, c, d]),
        // Not one of those that stand for IPv4.
        mut octets => {
            octets[0] |= 0x20;
            Address::from_octets(octets)
        }
    })
}

prop_compose! {
    fn sample()(v4 in any::<bool>())(
        source_address in address(v4),
        destination_address in address(v4),
        next_hop in address(v4),
        (source_port, destination_port, tcp_flags, vlan_id) in (any::<u16>(), any::<u16>(), 0..512_u16, 1..4095_u16),
        protocol in prop_oneof![Just(6_u8), Just(17), Just(1), Just(58), Just(132), Just(50)],
        fragment in prop_oneof![Just(FragmentKind::None), Just(FragmentKind::First), Just(FragmentKind::NotFirst)],
        (octets, sampling_rate, input, output) in (128..9000_u64, any::<u32>(), 1..1000_u32, 1001..2000_u32),
        (direction, discarded) in (prop_oneof![Just(0_u8), Just(1), Just(255)], any::<bool>()),
        form in any::<[bool; 3]>(),
        (tos, ttl, icmp, flow_label) in (any::<u8>(), any::<u8>(), any::<(u8, u8)>(), 0..1_u32 << 20),
        (macs, ases, lengths) in (any::<([u8; 6], [u8; 6])>(), (1..u32::MAX, any::<u32>()), any::<(u8, u8)>()),
        v4 in Just(v4),
    ) -> FlowSample {
        let form = Form { expanded: form[0], sampled_ip: form[1], extended: form[2] };
        // What a form cannot carry is 0.
        let header = !form.sampled_ip;
        let fragment = if header { fragment } else { FragmentKind::None };
        let first = fragment != FragmentKind::NotFirst;
        let with_ports = matches!(protocol, 6 | 17 | 132) && first;
        let with_icmp = matches!(protocol, 1 | 58) && header && first;
        let extended = form.extended;
        let row = Row {
            source_address,
            destination_address,
            source_port: if with_ports { source_port } else { 0 },
            destination_port: if with_ports { if destination_port == 4789 { 1 } else { destination_port } } else { 0 },
            protocol,
            tcp_flags: if protocol == 6 && first { tcp_flags } else { 0 },
            fragment,
            octets,
            packets: 1,
            flow_start: at(5).nanos(),
            flow_end: at(5).nanos(),
            sampling_rate,
            input_interface: input,
            output_interface: if discarded { 0 } else { output },
            direction: if discarded && direction == 1 { 255 } else { direction },
            forwarding_status: if discarded { 130 } else { 0 },
        };
        let extra = ExtraRow {
            tos,
            ttl: if header { ttl } else { 0 },
            icmp_type: if with_icmp { icmp.0 } else { 0 },
            icmp_code: if with_icmp { icmp.1 } else { 0 },
            vlan_id: if header || extended { vlan_id } else { 0 },
            source_as: if extended { ases.0 } else { 0 },
            destination_as: if extended { ases.1 } else { 0 },
            next_hop: if extended { next_hop } else { Address::UNSPECIFIED },
            source_prefix_length: if extended { lengths.0 } else { 0 },
            destination_prefix_length: if extended { lengths.1 } else { 0 },
            source_mac: macs.0,
            destination_mac: macs.1,
            flow_label: if header && !v4 { flow_label } else { 0 },
            ..ExtraRow::default()
        };
        FlowSample { row, extra, form }
    }
}

#[test]
fn interface_counters_come_back() {
    let counters = InterfaceCounters {
        if_index: 9,
        if_type: 6,
        speed: 100_000_000_000,
        direction: 1,
        status: 3,
        in_octets: u64::MAX - 1,
        in_unicast_packets: 1,
        in_multicast_packets: 2,
        in_broadcast_packets: 3,
        in_discards: 4,
        in_errors: 5,
        in_unknown_protocols: 6,
        out_octets: 7,
        out_unicast_packets: 8,
        out_multicast_packets: 9,
        out_broadcast_packets: 10,
        out_discards: 11,
        out_errors: 12,
        promiscuous_mode: 1,
    };
    let samples = [
        Sample::Counters(counters),
        Sample::Discarded {
            input_interface: 9,
            reason: 258,
        },
    ];
    let mut decoder = decoder();
    for datagram in common::datagrams(&mut encoder(), &samples) {
        let (outcome, batch) = common::decode(&mut decoder, 1, &datagram);
        assert_eq!((outcome.counter_samples, outcome.drop_samples), (1, 1));
        assert!(batch.is_empty() && batch.datagrams.is_empty());
    }
    let report = decoder.poll_counters();
    assert_eq!(report.map(|report| report.counters), Some(counters));
    assert_eq!(decoder.poll_counters(), None);
}

#[test]
fn a_datagram_says_what_its_rows_carried() {
    let [datagram] = &common::datagrams(&mut encoder(), &common::flows(1))[..] else {
        panic!("one sample is one datagram");
    };
    let (_, batch) = common::decode(&mut decoder(), 1, datagram);
    let info = &batch.datagrams[0];
    assert_eq!(info.exporter_address, Address::from_v4([198, 51, 100, 1]));
    assert_eq!((info.domain.0, info.exporter.0, info.sequence), (7, 100, 1));
    assert_eq!(info.export_time.nanos(), at(1).nanos());
    assert!(info.present.has(ColumnSet::MAC.with(ColumnSet::TTL)));
    assert!(!info.present.has(ColumnSet::AS) && !info.present.has(ColumnSet::ICMP));
}
