//! What a drill-down finds: sources, ports and protocols of a target, in both families, within the time asked for.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;

use weir_attack_event::{AttackId, DrillDown, Findings, PortSide};
use weir_flow_record::{
    Address, ByteSize, ColumnSet, DatagramInfo, Direction, EventTime, ExportProtocol, ExportTime,
    ExporterId, FlowBatch, ObservationDomainId, ReceivedAt, Row, TargetKey, ZoneId,
};
use weir_flow_store::RecentWindow;

const SECOND: i64 = 1_000_000_000;
/// When everything begins; the exporter's clock is an hour slow.
const T0: i64 = 1_700_000_000 * SECOND;
const SLOW: i64 = 3600 * SECOND;

/// Both families, so that every case has its twin.
#[derive(Clone, Copy)]
struct Family {
    v6: bool,
}

const FAMILIES: [Family; 2] = [Family { v6: false }, Family { v6: true }];

impl Family {
    fn target(self) -> Address {
        self.address(if self.v6 {
            "2001:db8:a::1"
        } else {
            "203.0.113.1"
        })
    }

    fn other(self) -> Address {
        self.address(if self.v6 {
            "2001:db8:a::2"
        } else {
            "203.0.113.2"
        })
    }

    fn address(self, text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    /// A source in network number `network`, host number `host`.
    fn source(self, network: u32, host: u8) -> Address {
        let [_, a, b, c] = network.to_be_bytes();
        if self.v6 {
            Address::from_octets([0x2a, a, b, c, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
        } else {
            Address::from_v4([100 + a, b, c, host])
        }
    }

    fn network(self, network: u32) -> String {
        let (v4, v6) = (24, 48);
        self.source(network, 0).prefix(v4, v6).to_string()
    }
}

fn row(source: Address, target: Address) -> Row {
    Row {
        source_address: source,
        destination_address: target,
        source_port: 53,
        destination_port: 40_000,
        protocol: 17,
        octets: 1000,
        packets: 1,
        flow_start: T0 - SLOW,
        flow_end: T0 - SLOW,
        sampling_rate: 100,
        ..Row::default()
    }
}

/// A datagram that is received one second after T0, `rows` a datagram.
fn batch(rows: &[Row]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for rows in rows.chunks(24) {
        let first = batch.len() as u32;
        rows.iter().for_each(|row| batch.push(row));
        batch.datagrams.push(DatagramInfo {
            rows: first..batch.len() as u32,
            exporter: ExporterId(0),
            exporter_address: Address::from_v4([192, 0, 2, 1]),
            domain: ObservationDomainId(1),
            protocol: ExportProtocol::Ipfix,
            sequence: 0,
            received_at: ReceivedAt::from_nanos(T0 + SECOND),
            export_time: ExportTime::from_nanos(T0 + SECOND - SLOW),
            present: ColumnSet::FLOW_TIMES,
        });
    }
    batch
}

fn question(target: Address, from: i64, to: i64) -> DrillDown {
    DrillDown {
        attack: AttackId("a".into()),
        target: TargetKey {
            prefix: target.host(),
            direction: Direction::In,
            zone: ZoneId(0),
        },
        other_prefixes: Vec::new(),
        from: EventTime::from_nanos(from),
        to: EventTime::from_nanos(to),
        top: 5,
    }
}

fn find(rows: &[Row], question: &DrillDown) -> Findings {
    let mut window = RecentWindow::new(ByteSize(64 << 20));
    window.handle_batch(&batch(rows));
    window.drill_down(question)
}

fn prefixes(findings: &Findings) -> Vec<String> {
    findings
        .top_talkers
        .iter()
        .map(|talker| talker.source_prefix.to_string())
        .collect()
}

#[test]
fn dominating_hosts_are_named() {
    for family in FAMILIES {
        let (big, small) = (family.source(7, 1), family.source(7, 2));
        let mut rows = vec![row(big, family.target()); 60];
        rows.extend(vec![row(small, family.target()); 20]);
        rows.extend((0..20).map(|network| row(family.source(100 + network, 1), family.target())));
        rows.extend(vec![row(big, family.other()); 500]);
        let found = find(&rows, &question(family.target(), T0, T0 + SECOND));
        assert_eq!(
            (found.rows, found.source_count, found.complete),
            (100, 22, true)
        );
        assert_eq!(
            prefixes(&found)[..2],
            [big.host().to_string(), small.host().to_string()]
        );
        assert_eq!(found.top_talkers.len(), 5);
        // 60 rows of 1 packet and 1,000 octets, 1 in 100 sampled, in 1 s.
        let first = &found.top_talkers[0];
        assert_eq!(
            (first.packets_per_second, first.bits_per_second),
            (6000, 48_000_000)
        );
        assert!((first.share - 0.6).abs() < 1e-9);
        assert_eq!(first.spoofed, None);
    }
}

#[test]
fn many_hosts_are_summed_up_to_networks() {
    for family in FAMILIES {
        let mut rows = Vec::new();
        for network in 0..50 {
            for host in 0..=network as u8 {
                rows.push(row(family.source(network, host), family.target()));
            }
        }
        // The only host of its network keeps its own address.
        rows.extend(vec![row(family.source(900, 9), family.target()); 48]);
        let found = find(&rows, &question(family.target(), T0, T0 + SECOND));
        let expected = [
            family.network(49),
            family.network(48),
            family.network(47),
            family.source(900, 9).host().to_string(),
            family.network(46),
        ];
        assert_eq!(prefixes(&found)[..2], expected[..2]);
        let (mut seen, mut wanted) = (prefixes(&found)[2..].to_vec(), expected[2..].to_vec());
        seen.sort();
        wanted.sort();
        assert_eq!(seen, wanted);
        assert_eq!(found.source_count, 50 * 51 / 2 + 1);
    }
}

#[test]
fn service_ports_and_protocols_have_their_share() {
    for family in FAMILIES {
        let mut rows = Vec::new();
        for client in 0..200 {
            let ephemeral = 40_000 + client as u16;
            rows.push(Row {
                destination_port: ephemeral,
                ..row(family.source(client, 1), family.target())
            });
        }
        for client in 0..100 {
            let (source_port, protocol) = (30_000 + client as u16, 6);
            let tcp = row(family.source(client, 1), family.target());
            rows.push(Row {
                source_port,
                destination_port: 443,
                protocol,
                ..tcp
            });
        }
        for _ in 0..100 {
            let icmp = row(family.source(1, 1), family.target());
            rows.push(Row {
                source_port: 0,
                destination_port: 2048,
                protocol: 1,
                ..icmp
            });
        }
        let found = find(&rows, &question(family.target(), T0, T0 + SECOND));
        let ports: Vec<_> = found
            .ports
            .iter()
            .map(|port| (port.port, port.side, port.protocol, port.share))
            .collect();
        assert_eq!(
            ports,
            [
                (53, PortSide::Source, 17, 0.5),
                (443, PortSide::Destination, 6, 0.25)
            ]
        );
        let protocols: Vec<_> = found
            .protocols
            .iter()
            .map(|share| (share.protocol, share.share))
            .collect();
        assert_eq!(protocols, [(17, 0.5), (1, 0.25), (6, 0.25)]);
    }
}

#[test]
fn only_the_time_asked_for_counts() {
    let family = FAMILIES[0];
    let at = |start: i64, end: i64| Row {
        octets: 10_000,
        packets: 10,
        flow_start: T0 - SLOW + start,
        flow_end: T0 - SLOW + end,
        ..row(family.source(1, 1), family.target())
    };
    // Ends before, lasts into, lies within, begins after: the exporter's slow clock does not matter.
    let rows = [
        at(-9 * SECOND, -2 * SECOND),
        at(-SECOND, SECOND),
        at(0, 0),
        at(SECOND, SECOND),
    ];
    let found = find(&rows, &question(family.target(), T0, T0 + SECOND / 2));
    assert_eq!(found.rows, 2);
    // A quarter of 10 packets, rounded up in the scaled count, and 10 packets, within one second.
    assert_eq!(found.top_talkers[0].packets_per_second, 250 + 1000);
    let found = find(
        &rows,
        &question(family.target(), T0 - 100 * SECOND, T0 + 99 * SECOND),
    );
    assert_eq!(
        (found.rows, found.top_talkers[0].packets_per_second),
        (4, 4000 / 199)
    );
}

#[test]
fn outgoing_and_zone_wide_questions() {
    for family in FAMILIES {
        let rows = [
            row(family.target(), family.source(1, 1)),
            row(family.other(), family.source(1, 1)),
            row(family.source(1, 1), family.target()),
        ];
        let mut asked = question(family.target(), T0, T0 + SECOND);
        asked.target.direction = Direction::Out;
        assert_eq!(
            prefixes(&find(&rows, &asked)),
            [family.target().host().to_string()]
        );
        asked.other_prefixes = vec![family.other().host()];
        assert_eq!(find(&rows, &asked).rows, 2);
        asked.other_prefixes = vec!["::/0".parse().unwrap()];
        let all_of_v6 = find(&rows, &asked).rows;
        assert_eq!(all_of_v6, if family.v6 { 3 } else { 1 });
    }
}

#[test]
fn forged_sources_are_told_and_reflectors_are_not() {
    for family in FAMILIES {
        // Multiples of the golden ratio fill the space evenly.
        let forged = |index: u32| {
            let [a, b, c, d] = index.wrapping_mul(2_654_435_761).to_be_bytes();
            if family.v6 {
                let high = [0x20 | a & 0x1f, b, c, d, a, b, 0, 0];
                Address::from_octets(
                    [high, [0, 0, 0, 0, 0, 0, 0, 1]]
                        .concat()
                        .try_into()
                        .unwrap(),
                )
            } else {
                let unicast: Vec<u8> = (1..224)
                    .filter(|octet| !matches!(octet, 10 | 127))
                    .collect();
                Address::from_v4([unicast[usize::from(a) * unicast.len() / 256], b, c, d])
            }
        };
        let syn = |index| Row {
            protocol: 6,
            tcp_flags: 2,
            ..row(forged(index), family.target())
        };
        let asked = question(family.target(), T0, T0 + SECOND);
        let rows: Vec<Row> = (0..4000).map(syn).collect();
        let found = find(&rows, &asked);
        assert!(
            found
                .top_talkers
                .iter()
                .all(|talker| talker.spoofed == Some(true)),
            "{found:?}"
        );
        let reflected: Vec<Row> = rows
            .iter()
            .map(|row| Row {
                protocol: 17,
                ..*row
            })
            .collect();
        assert_eq!(find(&reflected, &asked).top_talkers[0].spoofed, None);
        let again: Vec<Row> = rows.iter().flat_map(|row| [*row, *row]).collect();
        assert_eq!(find(&again, &asked).top_talkers[0].spoofed, None);
    }
}

#[test]
fn the_order_does_not_depend_on_how_rows_came() {
    let family = FAMILIES[1];
    let mut rows: Vec<Row> = (0..3000)
        .map(|index| {
            let ports = (index % 7) as u16;
            Row {
                source_port: 50 + ports,
                destination_port: 60 + ports,
                ..row(family.source(index % 300, 1), family.target())
            }
        })
        .collect();
    let asked = question(family.target(), T0, T0 + SECOND);
    let found = find(&rows, &asked);
    assert_eq!((found.top_talkers.len(), found.ports.len()), (5, 10));
    for _ in 0..5 {
        rows.rotate_left(701);
        rows.reverse();
        assert_eq!(find(&rows, &asked), found);
    }
}

#[test]
fn hostile_counts_saturate() {
    let family = FAMILIES[0];
    let huge = Row {
        octets: u64::MAX,
        packets: u64::MAX,
        sampling_rate: u32::MAX,
        flow_start: i64::MIN,
        flow_end: i64::MAX,
        ..row(family.source(1, 1), family.target())
    };
    let found = find(
        &vec![huge; 100],
        &question(family.target(), i64::MIN, i64::MAX),
    );
    assert_eq!((found.rows, found.source_count), (100, 1));
    assert_eq!(found.protocols[0].share, 1.0);
    let unknown = Row {
        sampling_rate: 0,
        ..row(family.source(1, 1), family.target())
    };
    let found = find(&[unknown], &question(family.target(), T0, T0 + SECOND));
    assert_eq!(
        found.top_talkers[0].packets_per_second, 1,
        "an unknown rate gives a lower bound"
    );
}
