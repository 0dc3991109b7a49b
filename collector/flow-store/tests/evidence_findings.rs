//! What a drill-down says of packets: TTLs, sizes, flags; where sources are; who inside sends; who is hit.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use weir_attack_event::{AttackId, DrillDown, Findings, Origin};
use weir_flow_record::{
    Address, ByteSize, ColumnSet, DatagramInfo, Direction, EventTime, ExportProtocol, ExportTime,
    ExporterId, ExtraRow, FlowBatch, ObservationDomainId, ReceivedAt, Row, TargetKey, ZoneId,
};
use weir_flow_store::RecentWindow;

const SECOND: i64 = 1_000_000_000;
const T0: i64 = 1_700_000_000 * SECOND;

fn v4(octets: [u8; 4]) -> Address {
    Address::from_v4(octets)
}

fn row(source: Address, destination: Address) -> Row {
    Row {
        source_address: source,
        destination_address: destination,
        source_port: 4000,
        destination_port: 80,
        protocol: 17,
        octets: 100,
        packets: 1,
        flow_start: T0,
        flow_end: T0,
        sampling_rate: 1,
        ..Row::default()
    }
}

fn window(projection: ColumnSet, rows: &[(Row, ExtraRow)]) -> RecentWindow {
    let mut batch = FlowBatch::with_projection(projection);
    for (row, extra) in rows {
        batch.push_with(row, extra);
    }
    batch.datagrams.push(DatagramInfo {
        rows: 0..batch.len() as u32,
        exporter: ExporterId(0),
        exporter_address: v4([192, 0, 2, 1]),
        domain: ObservationDomainId(1),
        protocol: ExportProtocol::Ipfix,
        sequence: 0,
        received_at: ReceivedAt::from_nanos(T0),
        export_time: ExportTime::from_nanos(T0),
        present: ColumnSet::FLOW_TIMES,
    });
    let mut window = RecentWindow::new(ByteSize(64 << 20));
    window.handle_batch(&batch);
    window
}

fn question(target: &str, direction: Direction) -> DrillDown {
    DrillDown {
        attack: AttackId("a".into()),
        target: TargetKey {
            prefix: target.parse().unwrap(),
            direction,
            zone: ZoneId(0),
        },
        other_prefixes: Vec::new(),
        from: EventTime::from_nanos(T0),
        to: EventTime::from_nanos(T0 + SECOND),
        top: 5,
    }
}

fn inbound(projection: ColumnSet, rows: &[(Row, ExtraRow)]) -> Findings {
    window(projection, rows).drill_down(&question("203.0.113.1/32", Direction::In))
}

#[test]
fn packets_are_described_by_their_own_number() {
    let target = v4([203, 0, 113, 1]);
    let reply = |host: u8, ttl: u8, octets: u64, packets: u64| {
        let row = Row {
            octets,
            packets,
            ..row(v4([198, 51, 100, host]), target)
        };
        let extra = ExtraRow {
            ttl,
            ..ExtraRow::default()
        };
        (row, extra)
    };
    // 60 packets of 1,400 octets with TTL 52, 30 of 60 with TTL 240, 10 that state none, of 9,000 octets.
    let rows = [
        reply(1, 52, 84_000, 60),
        reply(2, 240, 1_800, 30),
        reply(3, 0, 90_000, 10),
    ];
    let found = inbound(ColumnSet::TTL, &rows).evidence;
    let ttls: Vec<(u8, u32)> = found
        .ttl
        .iter()
        .map(|ttl| (ttl.ttl, (ttl.share * 90.0).round() as u32))
        .collect();
    assert_eq!(
        (ttls, found.ttl_count),
        (vec![(52, 60), (240, 30)], Some(2))
    );
    let sizes = found.packet_size.unwrap();
    assert_eq!(
        (sizes.mean, sizes.low, sizes.mid, sizes.high),
        (1758, 60, 1400, 1400)
    );
    let classes: Vec<_> = sizes
        .classes
        .iter()
        .map(|class| (class.from, class.to, (class.share * 100.0).round()))
        .collect();
    assert_eq!(
        classes,
        [
            (0, Some(64), 30.0),
            (1025, Some(1518), 60.0),
            (1519, None, 10.0)
        ]
    );
    assert!(found.tcp_flags.is_empty() && found.destinations.is_empty());
    // Without the column nothing is said of TTLs, rather than 0.
    let found = inbound(ColumnSet::NONE, &rows).evidence;
    assert_eq!((found.ttl.len(), found.ttl_count), (0, None));
}

#[test]
fn flags_are_told_of_tcp_alone() {
    let target = v4([203, 0, 113, 1]);
    let segment = |flags: u16, protocol: u8| {
        let row = Row {
            tcp_flags: flags,
            protocol,
            ..row(v4([198, 51, 100, 9]), target)
        };
        (row, ExtraRow::default())
    };
    let mut rows = vec![segment(0x02, 6); 75];
    rows.extend(vec![segment(0x12, 6); 25]);
    rows.extend(vec![segment(0xff, 17); 100]);
    let found = inbound(ColumnSet::NONE, &rows).evidence;
    let flags: Vec<_> = found
        .tcp_flags
        .iter()
        .map(|share| (share.flags.as_str(), share.share))
        .collect();
    assert_eq!(flags, [("SYN", 0.75), ("SYN+ACK", 0.25)]);
}

#[test]
fn systems_and_countries_have_their_share_of_all_packets() {
    let target = v4([203, 0, 113, 1]);
    let from = |host: u8, system: u32, packets: u64| {
        let row = Row {
            packets,
            octets: packets * 100,
            ..row(v4([198, 51, 100, host]), target)
        };
        let extra = ExtraRow {
            source_as: system,
            ..ExtraRow::default()
        };
        (row, extra)
    };
    // The exporter states the first system; the database knows 2 and 3, and no country of 4.
    let rows = [
        from(1, 64_500, 50),
        from(2, 0, 20),
        from(3, 0, 20),
        from(4, 0, 10),
    ];
    let origin = |address: Address| match address.octets()[15] {
        2 | 3 => Origin {
            asn: Some(64_501),
            as_name: Some("EXAMPLE".to_owned()),
            country: Some("DE".to_owned()),
            network: None,
        },
        _ => Origin::default(),
    };
    let window = window(ColumnSet::AS, &rows);
    let found = window.drill_down_with(&question("203.0.113.1/32", Direction::In), &origin);
    let systems: Vec<_> = found
        .evidence
        .source_as
        .iter()
        .map(|system| (system.asn, system.name.as_deref(), system.share))
        .collect();
    assert_eq!(
        systems,
        [(64_500, None, 0.5), (64_501, Some("EXAMPLE"), 0.4)]
    );
    let countries = &found.evidence.source_countries;
    assert_eq!((countries.len(), countries[0].country.as_str()), (1, "DE"));
    assert!((countries[0].share - 0.4).abs() < 1e-9);
}

#[test]
fn an_outbound_attack_names_who_sends_inside_and_who_is_hit() {
    let victim = v4([192, 0, 2, 77]);
    let mut rows = Vec::new();
    for host in 1..=150_u8 {
        // Each sends as many packets as its number says.
        let row = Row {
            packets: u64::from(host),
            ..row(v4([203, 0, 113, host]), victim)
        };
        rows.push((row, ExtraRow::default()));
    }
    rows.push((
        row(v4([203, 0, 113, 1]), v4([192, 0, 2, 78])),
        ExtraRow::default(),
    ));
    let window = window(ColumnSet::NONE, &rows);
    let found = window.drill_down(&question("203.0.113.0/24", Direction::Out));
    let inside = &found.evidence.inside_sources;
    assert_eq!((inside.len(), found.source_count), (100, 150));
    assert_eq!(inside[0].address.to_string(), "203.0.113.150");
    assert_eq!(inside[0].packets_per_second, 150);
    assert_eq!(
        found.top_talkers[0].source_prefix.to_string(),
        "203.0.113.0/24"
    );
    let hit = &found.evidence.destinations;
    assert_eq!(found.evidence.destination_count, Some(2));
    assert_eq!(hit[0].prefix.to_string(), "192.0.2.77/32");
    assert!(hit[0].share > 0.99);
}

#[test]
fn hosts_inside_an_attacked_prefix_are_named() {
    let rows: Vec<_> = (0..200_u8)
        .map(|host| {
            let carpet = row(v4([198, 51, 100, 7]), v4([203, 0, 113, host]));
            (carpet, ExtraRow::default())
        })
        .collect();
    let window = window(ColumnSet::NONE, &rows);
    let found = window.drill_down(&question("203.0.113.0/24", Direction::In));
    assert_eq!(found.evidence.destination_count, Some(200));
    // No host stands out: the network is named.
    assert_eq!(
        found.evidence.destinations[0].prefix.to_string(),
        "203.0.113.0/24"
    );
    assert!(found.evidence.inside_sources.is_empty());
    let host = window.drill_down(&question("203.0.113.7/32", Direction::In));
    assert_eq!(host.evidence.destination_count, None, "one host is no news");
}

#[test]
fn sources_that_nobody_can_have_are_forged() {
    let target = v4([203, 0, 113, 1]);
    let rows = [
        (row(v4([127, 0, 0, 1]), target), ExtraRow::default()),
        (row(v4([8, 8, 8, 8]), target), ExtraRow::default()),
        (row(v4([8, 8, 8, 8]), target), ExtraRow::default()),
        (row(v4([8, 8, 8, 8]), target), ExtraRow::default()),
    ];
    let found = inbound(ColumnSet::NONE, &rows);
    assert_eq!(found.evidence.impossible_sources, Some(0.25));
    let hints: Vec<_> = found
        .top_talkers
        .iter()
        .map(|talker| (talker.source_prefix.to_string(), talker.spoofed))
        .collect();
    assert_eq!(
        hints,
        [
            ("8.8.8.8/32".to_owned(), None),
            ("127.0.0.1/32".to_owned(), Some(true))
        ]
    );
}
