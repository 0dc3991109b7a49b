use std::fmt;

use crate::FragmentKind;

/// TCP's FIN flag as it stands in a flow's `tcpControlBits` (IE 6).
pub const TCP_FIN: u16 = 0x01;
/// TCP's SYN flag.
pub const TCP_SYN: u16 = 0x02;
/// TCP's RST flag.
pub const TCP_RST: u16 = 0x04;
/// TCP's PSH flag.
pub const TCP_PSH: u16 = 0x08;
/// TCP's ACK flag.
pub const TCP_ACK: u16 = 0x10;
/// TCP's URG flag.
pub const TCP_URG: u16 = 0x20;

/// What kind of traffic a record is, by the most specific description that fits it: vectors are disjoint.
/// The numbers are attack identifiers of Weir's catalogue (RFC 9244 §7.6 `attack-id`) and never change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the catalogue's")]
pub enum Vector {
    Total = 1,
    UdpFlood = 2,
    TcpSynFlood = 3,
    TcpAckFlood = 4,
    TcpRstFlood = 5,
    IcmpFlood = 6,
    IpFragments = 7,
    TcpSynackReflection = 8,
    DnsAmplification = 16,
    NtpAmplification = 17,
    SsdpAmplification = 18,
    SnmpAmplification = 19,
    CldapAmplification = 20,
    MemcachedAmplification = 21,
    ChargenAmplification = 22,
    DnsQueryFlood = 23,
}

impl Vector {
    /// All vectors, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Total,
        Self::UdpFlood,
        Self::TcpSynFlood,
        Self::TcpAckFlood,
        Self::TcpRstFlood,
        Self::IcmpFlood,
        Self::IpFragments,
        Self::TcpSynackReflection,
        Self::DnsAmplification,
        Self::NtpAmplification,
        Self::SsdpAmplification,
        Self::SnmpAmplification,
        Self::CldapAmplification,
        Self::MemcachedAmplification,
        Self::ChargenAmplification,
        Self::DnsQueryFlood,
    ];

    /// The catalogue's number.
    pub const fn attack_id(self) -> u32 {
        self as u32
    }

    /// The catalogue's name, as in configuration and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::UdpFlood => "udp-flood",
            Self::TcpSynFlood => "tcp-syn-flood",
            Self::TcpAckFlood => "tcp-ack-flood",
            Self::TcpRstFlood => "tcp-rst-flood",
            Self::IcmpFlood => "icmp-flood",
            Self::IpFragments => "ip-fragments",
            Self::TcpSynackReflection => "tcp-synack-reflection",
            Self::DnsAmplification => "dns-amplification",
            Self::NtpAmplification => "ntp-amplification",
            Self::SsdpAmplification => "ssdp-amplification",
            Self::SnmpAmplification => "snmp-amplification",
            Self::CldapAmplification => "cldap-amplification",
            Self::MemcachedAmplification => "memcached-amplification",
            Self::ChargenAmplification => "chargen-amplification",
            Self::DnsQueryFlood => "dns-query-flood",
        }
    }

    /// The vector of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vector| vector.name() == name)
    }

    /// A dense number below [`Vector::COUNT`], for tables.
    #[inline]
    pub const fn index(self) -> usize {
        let id = self as usize;
        if id < 16 { id - 1 } else { id - 8 }
    }

    /// How many vectors there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The vector of a record, by protocol, ports, the union of its TCP flags and whether it holds fragments; `Total`
    /// where no kind fits (other protocols, TCP without flags, established TCP with data only is `TcpAckFlood`).
    ///
    /// The flags of a record are the union over its packets, so a record with SYN and ACK from a client's whole
    /// connection is told from a SYN-ACK by its many flags: reflection sends SYN-ACK and at most RST.
    #[inline]
    pub fn classify(
        protocol: u8,
        source_port: u16,
        destination_port: u16,
        tcp_flags: u16,
        fragment: FragmentKind,
    ) -> Self {
        // All are looked up and one is chosen, without a branch: traffic is too mixed for a processor to guess which.
        let kinds = [
            Self::Total,
            TCP[usize::from(tcp_flags % 32)],
            classify_udp(source_port, destination_port),
            Self::IcmpFlood,
        ];
        let vector = kinds[usize::from(KINDS[usize::from(protocol)] % 4)];
        if fragment == FragmentKind::NotFirst {
            Self::IpFragments
        } else {
            vector
        }
    }
}

/// Kinds of protocols: others, TCP, UDP, ICMP.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    kinds[6] = 1;
    kinds[17] = 2;
    kinds[1] = 3;
    kinds[58] = 3;
    kinds
};

/// Vectors of TCP by the flags from FIN to ACK.
const TCP: [Vector; 32] = {
    let mut table = [Vector::Total; 32];
    let mut flags = 0;
    while flags < 32 {
        table[flags] = classify_tcp(flags as u16);
        flags += 1;
    }
    table
};

const fn classify_tcp(flags: u16) -> Vector {
    match flags {
        f if f & (TCP_SYN | TCP_ACK) == TCP_SYN => Vector::TcpSynFlood,
        f if f & !TCP_RST == TCP_SYN | TCP_ACK => Vector::TcpSynackReflection,
        f if f & (TCP_RST | TCP_PSH | TCP_FIN | TCP_SYN) == TCP_RST => Vector::TcpRstFlood,
        f if f & TCP_ACK != 0 => Vector::TcpAckFlood,
        _ => Vector::Total,
    }
}

/// Reflectors by the source port they answer from, `Total` where there is none; the last place stands for all ports beyond.
const REFLECTORS: [Vector; 2048] = {
    let mut table = [Vector::Total; 2048];
    table[53] = Vector::DnsAmplification;
    table[123] = Vector::NtpAmplification;
    table[1900] = Vector::SsdpAmplification;
    table[161] = Vector::SnmpAmplification;
    table[389] = Vector::CldapAmplification;
    table[19] = Vector::ChargenAmplification;
    table
};

#[inline]
fn classify_udp(source_port: u16, destination_port: u16) -> Vector {
    let mut vector = Vector::UdpFlood;
    // A source port of 0 is what exporters write for packets without ports; what follows a first fragment
    // arrives that way from exporters that send neither IE 88 nor IE 197.
    if source_port == 0 && destination_port == 0 {
        vector = Vector::IpFragments;
    }
    if destination_port == 53 {
        vector = Vector::DnsQueryFlood;
    }
    let reflector = REFLECTORS[usize::from(source_port).min(2047)];
    // NTP servers ask each other.
    if reflector != Vector::Total && !(source_port == 123 && destination_port == 123) {
        vector = reflector;
    }
    if source_port == 11211 {
        vector = Vector::MemcachedAmplification;
    }
    vector
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for Vector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Vector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::by_name(&name).ok_or_else(|| {
            serde::de::Error::custom(format!("`{name}` is no vector of the catalogue"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_indexes_agree() {
        for (index, vector) in Vector::ALL.into_iter().enumerate() {
            assert_eq!(vector.index(), index);
            assert_eq!(Vector::by_name(vector.name()), Some(vector));
        }
    }

    #[test]
    fn records_get_their_most_specific_vector() {
        let whole = FragmentKind::None;
        for (protocol, source, destination, flags, fragment, vector) in [
            (6, 1024, 80, TCP_SYN, whole, Vector::TcpSynFlood),
            (6, 1024, 80, TCP_SYN | TCP_RST, whole, Vector::TcpSynFlood),
            (
                6,
                80,
                1024,
                TCP_SYN | TCP_ACK,
                whole,
                Vector::TcpSynackReflection,
            ),
            (
                6,
                80,
                1024,
                TCP_SYN | TCP_ACK | TCP_RST,
                whole,
                Vector::TcpSynackReflection,
            ),
            (
                6,
                1024,
                80,
                TCP_SYN | TCP_ACK | TCP_PSH | TCP_FIN,
                whole,
                Vector::TcpAckFlood,
            ),
            (6, 1024, 80, TCP_RST, whole, Vector::TcpRstFlood),
            (6, 1024, 80, TCP_RST | TCP_ACK, whole, Vector::TcpRstFlood),
            (6, 1024, 80, TCP_ACK, whole, Vector::TcpAckFlood),
            (6, 1024, 80, 0, whole, Vector::Total),
            (17, 53, 4444, 0, whole, Vector::DnsAmplification),
            (17, 123, 123, 0, whole, Vector::UdpFlood),
            (17, 4444, 53, 0, whole, Vector::DnsQueryFlood),
            (17, 0, 0, 0, FragmentKind::NotFirst, Vector::IpFragments),
            (17, 4444, 4445, 0, whole, Vector::UdpFlood),
            (1, 0, 2048, 0, whole, Vector::IcmpFlood),
            (58, 0, 0, 0, whole, Vector::IcmpFlood),
            (47, 0, 0, 0, whole, Vector::Total),
        ] {
            assert_eq!(
                Vector::classify(protocol, source, destination, flags, fragment),
                vector,
                "{vector}"
            );
        }
    }
}
