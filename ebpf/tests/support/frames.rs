//! Frames of every kind, by hand: what each has to show stands beside it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part"
)]

use weir_ebpf::Sample;
use weir_flow_record::{Address, FragmentKind};

/// A frame and what it shows.
pub struct Case {
    pub name: &'static str,
    pub octets: Vec<u8>,
    /// `None`: no IP.
    pub shows: Option<Shows>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shows {
    pub source: Address,
    pub destination: Address,
    pub protocol: u8,
    pub ports: (u16, u16),
    pub tcp_flags: u16,
    pub octets: u32,
    pub fragment: FragmentKind,
    pub vlan_id: Option<u16>,
    pub icmp: Option<(u8, u8)>,
    pub tos: u8,
    pub ttl: u8,
    pub flow_label: u32,
}

impl From<&Sample> for Shows {
    fn from(sample: &Sample) -> Self {
        Self {
            source: sample.source(),
            destination: sample.destination(),
            protocol: sample.protocol,
            ports: (sample.source_port, sample.destination_port),
            tcp_flags: sample.tcp_flags,
            octets: sample.octets,
            fragment: sample.fragment(),
            vlan_id: sample.vlan_id(),
            icmp: sample.icmp(),
            tos: sample.tos,
            ttl: sample.ttl,
            flow_label: sample.flow_label,
        }
    }
}

/// Destination and source of all frames.
pub const MACS: [u8; 12] = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa];
const S4: [u8; 4] = [192, 0, 2, 1];
const D4: [u8; 4] = [203, 0, 113, 9];
const S6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const D6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn base4() -> Shows {
    Shows {
        source: Address::from_v4(S4),
        destination: Address::from_v4(D4),
        protocol: 17,
        ports: (0, 0),
        tcp_flags: 0,
        octets: 0,
        fragment: FragmentKind::None,
        vlan_id: None,
        icmp: None,
        tos: 0x28,
        ttl: 61,
        flow_label: 0,
    }
}

fn base6() -> Shows {
    Shows {
        source: Address::from_octets(S6),
        destination: Address::from_octets(D6),
        flow_label: 0x54321,
        ..base4()
    }
}

fn frame(tags: &[u8], kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut out = MACS.to_vec();
    out.extend_from_slice(tags);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(packet);
    // Ethernet's least.
    out.resize(out.len().max(60), 0);
    out
}

fn v4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = (20 + options.len() + payload.len()) as u16;
    let mut out = vec![0x45 + (options.len() / 4) as u8, 0x28];
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0, 7]);
    out.extend_from_slice(&fragment.to_be_bytes());
    out.extend_from_slice(&[61, protocol, 0, 0]);
    out.extend_from_slice(&S4);
    out.extend_from_slice(&D4);
    out.extend_from_slice(options);
    out.extend_from_slice(payload);
    out
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let word = 6_u32 << 28 | 0x28 << 20 | 0x54321;
    let mut out = word.to_be_bytes().to_vec();
    out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    out.extend_from_slice(&[next, 61]);
    out.extend_from_slice(&S6);
    out.extend_from_slice(&D6);
    out.extend_from_slice(payload);
    out
}

fn udp(payload: usize) -> Vec<u8> {
    let mut out = vec![0x14, 0xe9, 0, 53];
    out.extend_from_slice(&((8 + payload) as u16).to_be_bytes());
    out.resize(8 + payload, 0);
    out
}

/// Ports 5353 and 53, flags SYN, ECE, CWR and AE.
fn tcp() -> Vec<u8> {
    let mut out = vec![0x14, 0xe9, 0, 53];
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x51, 0xc2, 1, 0, 0, 0, 0, 0]);
    out
}

fn chain(headers: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = headers.concat();
    out.extend_from_slice(payload);
    out
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let ports = (5353, 53);
    let vlan = [0x81, 0, 0x60, 0x64];
    let qinq = [0x88, 0xa8, 0x00, 0xc8, 0x81, 0, 0x60, 0x64];
    let case = |name, octets: Vec<u8>, shows| Case {
        name,
        octets,
        shows,
    };
    let udp4 = Shows {
        ports,
        octets: 128,
        ..base4()
    };
    let udp6 = Shows {
        ports,
        octets: 148,
        ..base6()
    };
    let tcp_flags = 0x1c2;
    let hop = |next: u8| [next, 0, 5, 2, 0, 0, 1, 0];
    let long = |next: u8| {
        let mut header = [0; 24];
        (header[0], header[1]) = (next, 2);
        header
    };
    vec![
        case(
            "UDP",
            frame(&[], 0x0800, &v4(17, 0x4000, &[], &udp(100))),
            Some(udp4),
        ),
        case(
            "UDP in IPv6",
            frame(&[], 0x86dd, &v6(17, &udp(100))),
            Some(udp6),
        ),
        case(
            "TCP",
            frame(&[], 0x0800, &v4(6, 0x4000, &[], &tcp())),
            Some(Shows {
                protocol: 6,
                tcp_flags,
                octets: 40,
                ..udp4
            }),
        ),
        case(
            "TCP behind options",
            frame(&[], 0x0800, &v4(6, 0, &[1; 12], &tcp())),
            Some(Shows {
                protocol: 6,
                tcp_flags,
                octets: 52,
                ..udp4
            }),
        ),
        case(
            "TCP in IPv6",
            frame(&[], 0x86dd, &v6(6, &tcp())),
            Some(Shows {
                protocol: 6,
                tcp_flags,
                octets: 60,
                ..udp6
            }),
        ),
        case(
            "ICMP",
            frame(&[], 0x0800, &v4(1, 0, &[], &[3, 4, 0, 0, 0, 0, 0, 0])),
            Some(Shows {
                protocol: 1,
                icmp: Some((3, 4)),
                octets: 28,
                ..base4()
            }),
        ),
        case(
            "ICMPv6",
            frame(&[], 0x86dd, &v6(58, &[128, 0, 0, 0, 0, 0, 0, 0])),
            Some(Shows {
                protocol: 58,
                icmp: Some((128, 0)),
                octets: 48,
                ..base6()
            }),
        ),
        case(
            "VLAN",
            frame(&vlan, 0x0800, &v4(17, 0, &[], &udp(100))),
            Some(Shows {
                vlan_id: Some(100),
                ..udp4
            }),
        ),
        case(
            "VLAN 0: a priority alone",
            frame(&[0x81, 0, 0xe0, 0], 0x86dd, &v6(17, &udp(100))),
            Some(Shows {
                vlan_id: Some(0),
                ..udp6
            }),
        ),
        case(
            "QinQ",
            frame(&qinq, 0x86dd, &v6(17, &udp(100))),
            Some(Shows {
                vlan_id: Some(200),
                ..udp6
            }),
        ),
        case(
            "first fragment",
            frame(&[], 0x0800, &v4(17, 0x2000, &[], &udp(100))),
            Some(Shows {
                fragment: FragmentKind::First,
                ..udp4
            }),
        ),
        case(
            "last fragment",
            frame(&[], 0x0800, &v4(17, 185, &[], &udp(100))),
            Some(Shows {
                fragment: FragmentKind::NotFirst,
                ports: (0, 0),
                ..udp4
            }),
        ),
        case(
            "first fragment of IPv6",
            frame(
                &[],
                0x86dd,
                &v6(44, &chain(&[&[17, 0, 0, 1, 0, 0, 0, 9]], &udp(100))),
            ),
            Some(Shows {
                fragment: FragmentKind::First,
                octets: 156,
                ..udp6
            }),
        ),
        case(
            "later fragment of IPv6",
            frame(
                &[],
                0x86dd,
                &v6(44, &chain(&[&[17, 0, 5, 0xa9, 0, 0, 0, 9]], &udp(100))),
            ),
            Some(Shows {
                fragment: FragmentKind::NotFirst,
                ports: (0, 0),
                octets: 156,
                ..udp6
            }),
        ),
        case(
            "six extension headers",
            frame(
                &[],
                0x86dd,
                &v6(
                    0,
                    &chain(
                        &[
                            &hop(60),
                            &hop(43),
                            &hop(51),
                            &[
                                60, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                0, 0,
                            ],
                            &hop(60),
                            &hop(17),
                        ],
                        &udp(4),
                    ),
                ),
            ),
            Some(Shows {
                octets: 40 + 64 + 12,
                ..udp6
            }),
        ),
        case(
            "extension headers beyond what is looked at",
            frame(
                &[],
                0x86dd,
                &v6(
                    0,
                    &chain(&[&long(60), &long(60), &long(60), &long(17)], &udp(100)),
                ),
            ),
            Some(Shows {
                protocol: 60,
                ports: (0, 0),
                octets: 40 + 96 + 108,
                ..udp6
            }),
        ),
        case(
            "GRE",
            frame(
                &[],
                0x0800,
                &v4(47, 0, &[], &chain(&[&[0, 0, 8, 0]], &v4(6, 0, &[], &tcp()))),
            ),
            Some(Shows {
                protocol: 47,
                octets: 64,
                ..base4()
            }),
        ),
        case(
            "IP in IP",
            frame(&[], 0x0800, &v4(4, 0, &[], &v4(17, 0, &[], &udp(100)))),
            Some(Shows {
                protocol: 4,
                octets: 148,
                ..base4()
            }),
        ),
        case(
            "SCTP",
            frame(&[], 0x0800, &v4(132, 0, &[], &udp(100))),
            Some(Shows {
                protocol: 132,
                ..udp4
            }),
        ),
        case(
            "MPLS",
            frame(
                &[],
                0x8847,
                &chain(
                    &[&[0, 0, 0x10, 64], &[0, 0, 0x21, 64]],
                    &v4(17, 0, &[], &udp(100)),
                ),
            ),
            Some(udp4),
        ),
        case(
            "PPPoE",
            frame(
                &[],
                0x8864,
                &chain(
                    &[&[0x11, 0, 0, 1, 0, 0x82, 0, 0x21]],
                    &v4(17, 0, &[], &udp(100)),
                ),
            ),
            Some(udp4),
        ),
        case(
            "UDP of 2,000 octets",
            frame(&[], 0x0800, &v4(17, 0, &[], &udp(2000))),
            Some(Shows {
                octets: 2028,
                ..udp4
            }),
        ),
        case("ARP", frame(&[], 0x0806, &[0, 1, 8, 0, 6, 4, 0, 1]), None),
        case(
            "a version that is none",
            frame(&[], 0x0800, &[0x95; 60]),
            None,
        ),
    ]
}
