//! Kinds of attacks, and of what looks like one.

use weir_flow_record::{TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG, Vector};

/// What the packets of a kind look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// What a label calls it; `None` = benign.
    pub(super) vector: Option<Vector>,
    pub(super) protocol: u8,
    pub(super) source_port: Port,
    pub(super) destination_port: Port,
    pub(super) flags: u16,
    /// Mean octets of a packet, and their spread as a share.
    pub(super) octets: (f64, f64),
    /// Usual senders; 0 = forged.
    pub(super) sources: u32,
    /// Each packet is a flow of its own, whoever sends it.
    pub(super) scattered: bool,
    /// What it is, for `--list`.
    pub(super) about: &'static str,
}

/// A port of a kind's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Port {
    /// Always this one.
    Is(u16),
    /// Each flow has one of its own, from 1024 on.
    Any,
    /// One for the whole attack.
    Some,
    /// There is none.
    No,
}

use Port::{Any, Is, No, Some as One};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

const fn attack(
    name: &'static str,
    vector: Vector,
    protocol: u8,
    ports: (Port, Port),
    octets: (f64, f64),
    sources: u32,
    about: &'static str,
) -> Kind {
    Kind {
        vector: Some(vector),
        ..benign(name, protocol, 0, ports, octets, sources, about)
    }
}

const fn flood(
    name: &'static str,
    vector: Vector,
    flags: u16,
    ports: (Port, Port),
    octets: f64,
    sources: u32,
    about: &'static str,
) -> Kind {
    Kind {
        flags,
        ..attack(name, vector, TCP, ports, (octets, 0.05), sources, about)
    }
}

const fn benign(
    name: &'static str,
    protocol: u8,
    flags: u16,
    ports: (Port, Port),
    octets: (f64, f64),
    sources: u32,
    about: &'static str,
) -> Kind {
    Kind {
        name,
        vector: None,
        protocol,
        source_port: ports.0,
        destination_port: ports.1,
        flags,
        octets,
        sources,
        scattered: false,
        about,
    }
}

const DATA: u16 = TCP_ACK | TCP_PSH;

/// All kinds; the catalogue's sixteen first, in its order.
pub(super) static KINDS: [Kind; 33] = [
    attack(
        "total",
        Vector::Total,
        47,
        (No, No),
        (900.0, 0.4),
        400,
        "GRE of many senders, as botnets send it",
    ),
    attack(
        "udp-flood",
        Vector::UdpFlood,
        UDP,
        (Any, Any),
        (700.0, 0.5),
        3000,
        "UDP from bots to any port",
    ),
    flood(
        "tcp-syn-flood",
        Vector::TcpSynFlood,
        TCP_SYN,
        (Any, Is(443)),
        52.0,
        0,
        "SYN with forged sources",
    ),
    flood(
        "tcp-ack-flood",
        Vector::TcpAckFlood,
        TCP_ACK,
        (Any, Is(443)),
        60.0,
        2500,
        "ACK from bots",
    ),
    flood(
        "tcp-rst-flood",
        Vector::TcpRstFlood,
        TCP_RST,
        (Any, Is(443)),
        40.0,
        0,
        "RST with forged sources",
    ),
    attack(
        "icmp-flood",
        Vector::IcmpFlood,
        ICMP,
        (No, Is(2048)),
        (500.0, 0.6),
        1500,
        "echo requests from bots",
    ),
    attack(
        "ip-fragments",
        Vector::IpFragments,
        UDP,
        (No, No),
        (1300.0, 0.2),
        600,
        "later fragments, nothing else",
    ),
    flood(
        "tcp-synack-reflection",
        Vector::TcpSynackReflection,
        TCP_SYN | TCP_ACK,
        (Is(443), Any),
        58.0,
        8000,
        "SYN-ACK of servers that were sent forged SYN",
    ),
    attack(
        "dns-amplification",
        Vector::DnsAmplification,
        UDP,
        (Is(53), One),
        (1400.0, 0.1),
        2500,
        "large answers of open resolvers",
    ),
    attack(
        "ntp-amplification",
        Vector::NtpAmplification,
        UDP,
        (Is(123), One),
        (468.0, 0.02),
        900,
        "monlist answers",
    ),
    attack(
        "ssdp-amplification",
        Vector::SsdpAmplification,
        UDP,
        (Is(1900), One),
        (330.0, 0.2),
        4000,
        "answers of home devices",
    ),
    attack(
        "snmp-amplification",
        Vector::SnmpAmplification,
        UDP,
        (Is(161), One),
        (1200.0, 0.2),
        700,
        "GetBulk answers",
    ),
    attack(
        "cldap-amplification",
        Vector::CldapAmplification,
        UDP,
        (Is(389), One),
        (1350.0, 0.15),
        500,
        "answers of domain controllers",
    ),
    attack(
        "memcached-amplification",
        Vector::MemcachedAmplification,
        UDP,
        (Is(11_211), One),
        (1400.0, 0.02),
        60,
        "few senders, much traffic",
    ),
    attack(
        "chargen-amplification",
        Vector::ChargenAmplification,
        UDP,
        (Is(19), One),
        (1020.0, 0.3),
        300,
        "answers of forgotten devices",
    ),
    attack(
        "dns-query-flood",
        Vector::DnsQueryFlood,
        UDP,
        (Any, Is(53)),
        (82.0, 0.15),
        4000,
        "queries for names by chance, by resolvers that mean well (water torture)",
    ),
    // Further faces of the same vectors.
    attack(
        "forged-udp-flood",
        Vector::UdpFlood,
        UDP,
        (Any, Is(27_015)),
        (120.0, 0.3),
        0,
        "small UDP with forged sources, to a game",
    ),
    attack(
        "quic-flood",
        Vector::UdpFlood,
        UDP,
        (Any, Is(443)),
        (1250.0, 0.1),
        5000,
        "UDP from bots to port 443, like much normal traffic",
    ),
    attack(
        "wsd-reflection",
        Vector::UdpFlood,
        UDP,
        (Is(3702), One),
        (1100.0, 0.3),
        2000,
        "a reflector that the catalogue does not name",
    ),
    attack(
        "esp-flood",
        Vector::Total,
        50,
        (No, No),
        (1100.0, 0.3),
        0,
        "ESP with forged sources",
    ),
    flood(
        "http-flood",
        Vector::TcpAckFlood,
        TCP_SYN | DATA | TCP_FIN,
        (Any, Is(443)),
        180.0,
        6000,
        "whole connections of bots",
    ),
    flood(
        "bot-syn-flood",
        Vector::TcpSynFlood,
        TCP_SYN,
        (Any, Is(80)),
        60.0,
        20_000,
        "SYN of bots with addresses of their own",
    ),
    flood(
        "odd-flags-flood",
        Vector::Total,
        TCP_FIN | TCP_PSH | TCP_URG,
        (Any, Any),
        40.0,
        0,
        "FIN, PSH and URG with forged sources",
    ),
    attack(
        "ntp-query-flood",
        Vector::UdpFlood,
        UDP,
        (Any, Is(123)),
        (76.0, 0.01),
        0,
        "forged requests to a time server",
    ),
    // What is no attack.
    benign(
        "flash-crowd",
        TCP,
        DATA,
        (Any, Is(443)),
        (160.0, 0.5),
        0,
        "many more visitors of a host, as `times_normal` says",
    ),
    benign(
        "backup",
        TCP,
        DATA,
        (Any, Is(873)),
        (1460.0, 0.02),
        1,
        "one large transfer that is exported each active timeout",
    ),
    benign(
        "speed-test",
        TCP,
        DATA,
        (Is(8080), Any),
        (1440.0, 0.05),
        8,
        "a few connections as fast as the line",
    ),
    Kind {
        scattered: true,
        ..benign(
            "scan",
            TCP,
            TCP_SYN,
            (Any, Is(22)),
            (44.0, 0.01),
            1,
            "a SYN to each address of a prefix",
        )
    },
    benign(
        "cdn-push",
        TCP,
        DATA,
        (Is(443), Any),
        (1450.0, 0.05),
        24,
        "a content network fills a cache",
    ),
    Kind {
        scattered: true,
        ..benign(
            "busy-resolver",
            UDP,
            0,
            (Is(53), Any),
            (220.0, 0.9),
            800,
            "answers to a resolver, some of them large",
        )
    },
    Kind {
        scattered: true,
        ..benign(
            "busy-ntp",
            UDP,
            0,
            (Any, Is(123)),
            (76.0, 0.01),
            20_000,
            "requests to a time server of the pool",
        )
    },
    benign(
        "video",
        UDP,
        0,
        (Is(443), Any),
        (1280.0, 0.1),
        30,
        "streams over QUIC to one address, as behind a NAT",
    ),
    benign(
        "vpn",
        UDP,
        0,
        (Is(4500), Is(4500)),
        (900.0, 0.4),
        2,
        "a tunnel between sites",
    ),
];

/// A kind by its name.
pub(super) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Name, label (`None`: benign) and a few words for each kind.
pub fn kinds() -> impl Iterator<Item = (&'static str, Option<Vector>, &'static str)> {
    KINDS
        .iter()
        .map(|kind| (kind.name, kind.vector, kind.about))
}

#[cfg(test)]
mod tests {
    use weir_flow_record::FragmentKind;

    use super::*;

    #[test]
    fn the_catalogue_is_complete_and_in_order() {
        for (kind, vector) in KINDS.iter().zip(Vector::ALL) {
            assert_eq!((kind.name, kind.vector), (vector.name(), Some(vector)));
        }
    }

    #[test]
    fn packets_are_what_their_label_says() {
        let port = |port: Port| match port {
            Is(port) => port,
            Any | One => 40_000,
            No => 0,
        };
        for kind in &KINDS {
            let Some(vector) = kind.vector else { continue };
            let fragment = match vector {
                Vector::IpFragments => FragmentKind::NotFirst,
                _ => FragmentKind::None,
            };
            let seen = Vector::classify(
                kind.protocol,
                port(kind.source_port),
                port(kind.destination_port),
                kind.flags,
                fragment,
            );
            assert_eq!(seen, vector, "{}", kind.name);
        }
    }
}
