//! Frames octet by octet: link layers, extension headers, fragments, tunnels, and cuts.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use weir_flow_record::{Address, ExtraRow, FragmentKind, Row};
use weir_packet::{IpPacket, LinkType, MacAddresses, Packet, encode};

fn row() -> Row {
    Row {
        source_address: Address::from_v4([192, 0, 2, 1]),
        destination_address: Address::from_v4([203, 0, 113, 9]),
        source_port: 1234,
        destination_port: 443,
        protocol: 6,
        tcp_flags: 0x102,
        octets: 1514,
        ..Row::default()
    }
}

fn row_v6(protocol: u8) -> Row {
    Row {
        source_address: "2001:db8::1".parse::<std::net::IpAddr>().unwrap().into(),
        destination_address: "2001:db8::2".parse::<std::net::IpAddr>().unwrap().into(),
        protocol,
        source_port: 53,
        destination_port: 4444,
        octets: 500,
        ..Row::default()
    }
}

fn packet(row: &Row) -> Vec<u8> {
    let mut octets = Vec::new();
    encode::ip(row, &ExtraRow::default(), row.octets, &mut octets);
    octets
}

fn frame(row: &Row) -> Vec<u8> {
    let mut octets = Vec::new();
    encode::ethernet(row, &ExtraRow::default(), &mut octets);
    octets
}

fn ethernet(tags: &[u8], packet: &[u8]) -> Vec<u8> {
    [&[2; 6][..], &[4; 6], tags, packet].concat()
}

fn assert_is(ip: Option<IpPacket>, row: &Row) {
    let ip = ip.unwrap();
    assert_eq!(
        (ip.source, ip.destination),
        (row.source_address, row.destination_address)
    );
    assert_eq!(
        (ip.source_port, ip.destination_port),
        (row.source_port, row.destination_port)
    );
    assert_eq!((ip.protocol, ip.tcp_flags), (row.protocol, row.tcp_flags));
}

#[test]
fn fields_of_a_frame() {
    let extra = ExtraRow {
        tos: 0xb8,
        ttl: 63,
        vlan_id: 7,
        source_mac: [1; 6],
        destination_mac: [2; 6],
        ..ExtraRow::default()
    };
    let mut octets = Vec::new();
    encode::ethernet(&row(), &extra, &mut octets);
    let read = Packet::ethernet(&octets);
    assert_is(read.ip, &row());
    assert_eq!(
        read.mac,
        Some(MacAddresses {
            source: [1; 6],
            destination: [2; 6]
        })
    );
    assert_eq!(read.vlan_id, Some(7));
    let ip = read.ip.unwrap();
    assert_eq!((ip.tos, ip.ttl, ip.length), (0xb8, 63, 1496));
    assert_eq!((ip.fragment, read.inner), (FragmentKind::None, None));
}

#[test]
fn tags_labels_and_ppp_lead_to_ip() {
    let packet = packet(&row());
    for (tags, vlan) in [
        (
            &[0x88, 0xa8, 0x01, 0x23, 0x81, 0, 0, 9, 8, 0][..],
            Some(0x123),
        ),
        (&[0x91, 0x00, 0xe0, 0x05, 8, 0], Some(5)),
        (&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64], None),
        (&[0x81, 0, 0, 3, 0x88, 0x48, 0, 2, 1, 64], Some(3)),
        (
            &[0x81, 0, 0, 3, 0x88, 0x64, 0x11, 0, 0, 1, 5, 0xde, 0, 0x21],
            Some(3),
        ),
    ] {
        let read = Packet::ethernet(&ethernet(tags, &packet));
        assert_is(read.ip, &row());
        assert_eq!(read.vlan_id, vlan);
    }
    assert_is(
        Packet::parse(LinkType::Ppp, &[&[0xff, 3, 0, 0x21][..], &packet].concat()).ip,
        &row(),
    );
    assert_is(
        Packet::parse(LinkType::Ppp, &[&[0x21][..], &packet].concat()).ip,
        &row(),
    );
    assert_is(
        Packet::parse(LinkType::Mpls, &[&[0, 2, 1, 64][..], &packet].concat()).ip,
        &row(),
    );
}

#[test]
fn what_is_no_ip_gives_no_packet() {
    assert_eq!(Packet::ethernet(&ethernet(&[8, 6], &[0; 28])).ip, None);
    assert_eq!(
        Packet::ethernet(&ethernet(&[0x88, 0x47, 0, 1, 0, 64], &[])).ip,
        None
    );
}

#[test]
fn options_and_extension_headers_are_passed() {
    let mut with_options = packet(&row());
    with_options[0] = 0x47;
    with_options.splice(20..20, [1; 8]);
    assert_is(Packet::ip(&with_options).ip, &row());

    let udp = row_v6(17);
    let mut extended = packet(&udp);
    extended[6] = 0;
    // Hop-by-hop, destination options of 16 octets, authentication of 12.
    let headers = [
        &[60, 0, 1, 4, 0, 0, 0, 0][..],
        &[51, 1],
        &[0; 14],
        &[17, 1],
        &[0; 10],
    ]
    .concat();
    extended.splice(40..40, headers);
    assert_is(Packet::ip(&extended).ip, &udp);
}

#[test]
fn fragments_have_kinds_and_only_the_first_has_ports() {
    for mut row in [row(), row_v6(17)] {
        row.fragment = FragmentKind::First;
        let first = Packet::ip(&packet(&row)).ip;
        assert_is(first, &row);
        assert_eq!(first.unwrap().fragment, FragmentKind::First);
        row.fragment = FragmentKind::NotFirst;
        let mut octets = packet(&row);
        octets.extend([0xab; 40]);
        let later = Packet::ip(&octets).ip.unwrap();
        assert_eq!(later.fragment, FragmentKind::NotFirst);
        assert_eq!(
            (later.source_port, later.tcp_flags, later.protocol),
            (0, 0, row.protocol)
        );
    }
}

#[test]
fn segment_routing_tells_its_last_segment_and_its_payload() {
    let inner = row();
    let mut outer = row_v6(43);
    (outer.source_port, outer.destination_port) = (0, 0);
    let mut octets = packet(&outer);
    let last = "2001:db8:5::1".parse::<std::net::Ipv6Addr>().unwrap();
    octets.extend([4, 4, 4, 1, 1, 0, 0, 0]);
    octets.extend(last.octets());
    octets.extend([0xbb; 16]);
    octets.extend(packet(&inner));
    let read = Packet::ip(&octets);
    let ip = read.ip.unwrap();
    assert_eq!(
        ip.final_destination,
        Some(Address::from_octets(last.octets()))
    );
    assert_eq!(
        (ip.destination, ip.protocol),
        (outer.destination_address, 4)
    );
    assert_is(read.inner, &inner);
}

#[test]
fn tunnels_show_their_inner_packet_apart() {
    let inner = row();
    let (ip, ethernet) = (packet(&inner), frame(&inner));
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet].concat();
    for (protocol, port, content) in [
        (4, 0, ip.clone()),
        (41, 0, packet(&row_v6(17))),
        (47, 0, [&[0, 0, 8, 0][..], &ip].concat()),
        (47, 0, [&[0xb0, 0, 8, 0][..], &[0; 12], &ip].concat()),
        (
            47,
            0,
            [&[0x20, 0, 0x65, 0x58, 0, 0, 0, 1][..], &ethernet].concat(),
        ),
        (97, 0, [&[0x30, 0][..], &ethernet].concat()),
        (143, 0, ethernet.clone()),
        (17, 4789, vxlan.clone()),
    ] {
        let outer = Row {
            protocol,
            destination_port: port,
            source_port: 0,
            tcp_flags: 0,
            ..row_v6(protocol)
        };
        let mut octets = packet(&outer);
        if protocol == 17 {
            octets.truncate(48);
        }
        octets.extend(&content);
        let read = Packet::ip(&octets);
        assert_is(read.ip, &outer);
        let inner = if protocol == 41 { row_v6(17) } else { inner };
        assert_is(read.inner, &inner);
    }
}

#[test]
fn what_only_looks_like_a_tunnel_has_no_inner_packet() {
    for (protocol, content) in [
        (47, [&[0x00, 1, 8, 0][..], &packet(&row())].concat()),
        (47, [&[0x40, 0, 8, 0][..], &packet(&row())].concat()),
        (97, [&[0x40, 0][..], &frame(&row())].concat()),
        (4, vec![0; 40]),
    ] {
        let mut octets = packet(&Row {
            source_port: 0,
            destination_port: 0,
            ..row_v6(protocol)
        });
        octets.extend(&content);
        assert_eq!(Packet::ip(&octets).inner, None, "{protocol}");
    }
}

#[test]
fn a_cut_sample_tells_what_it_shows() {
    let octets = frame(&row());
    let at = |length: usize| Packet::ethernet(&octets[..length]);
    assert_eq!(at(11), Packet::default());
    assert!(at(12).mac.is_some());
    assert_eq!(at(33).ip, None);
    let addresses_only = at(34).ip.unwrap();
    assert_eq!(
        (addresses_only.protocol, addresses_only.source_port),
        (6, 0)
    );
    let ports = at(38).ip.unwrap();
    assert_eq!(
        (ports.source_port, ports.destination_port, ports.tcp_flags),
        (1234, 443, 0)
    );
    assert_eq!(at(48).ip.unwrap().tcp_flags, 0x102);
}
