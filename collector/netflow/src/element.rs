//! Numbers of the information elements that rows and sampling need (IANA "IPFIX Information Elements"; NetFlow v9 shares
//! those below 128).

macro_rules! elements {
    ($($name:ident = $number:literal),+ $(,)?) => {
        $( pub(crate) const $name: u16 = $number; )+

        /// Whether the element is one of these.
        pub(crate) fn is_known(element: u16) -> bool {
            matches!(element, $( $name )|+)
        }
    };
}

elements! {
    OCTET_DELTA_COUNT = 1,
    PACKET_DELTA_COUNT = 2,
    PROTOCOL_IDENTIFIER = 4,
    IP_CLASS_OF_SERVICE = 5,
    TCP_CONTROL_BITS = 6,
    SOURCE_TRANSPORT_PORT = 7,
    SOURCE_IPV4_ADDRESS = 8,
    SOURCE_IPV4_PREFIX_LENGTH = 9,
    INGRESS_INTERFACE = 10,
    DESTINATION_TRANSPORT_PORT = 11,
    DESTINATION_IPV4_ADDRESS = 12,
    DESTINATION_IPV4_PREFIX_LENGTH = 13,
    EGRESS_INTERFACE = 14,
    IP_NEXT_HOP_IPV4_ADDRESS = 15,
    BGP_SOURCE_AS_NUMBER = 16,
    BGP_DESTINATION_AS_NUMBER = 17,
    BGP_NEXT_HOP_IPV4_ADDRESS = 18,
    FLOW_END_SYS_UP_TIME = 21,
    FLOW_START_SYS_UP_TIME = 22,
    POST_OCTET_DELTA_COUNT = 23,
    POST_PACKET_DELTA_COUNT = 24,
    SOURCE_IPV6_ADDRESS = 27,
    DESTINATION_IPV6_ADDRESS = 28,
    SOURCE_IPV6_PREFIX_LENGTH = 29,
    DESTINATION_IPV6_PREFIX_LENGTH = 30,
    FLOW_LABEL_IPV6 = 31,
    ICMP_TYPE_CODE_IPV4 = 32,
    SAMPLING_INTERVAL = 34,
    SAMPLING_ALGORITHM = 35,
    SAMPLER_ID = 48,
    SAMPLER_MODE = 49,
    SAMPLER_RANDOM_INTERVAL = 50,
    MINIMUM_TTL = 52,
    MAXIMUM_TTL = 53,
    SOURCE_MAC_ADDRESS = 56,
    POST_DESTINATION_MAC_ADDRESS = 57,
    VLAN_ID = 58,
    FLOW_DIRECTION = 61,
    IP_NEXT_HOP_IPV6_ADDRESS = 62,
    BGP_NEXT_HOP_IPV6_ADDRESS = 63,
    DESTINATION_MAC_ADDRESS = 80,
    POST_SOURCE_MAC_ADDRESS = 81,
    OCTET_TOTAL_COUNT = 85,
    PACKET_TOTAL_COUNT = 86,
    FRAGMENT_OFFSET = 88,
    FORWARDING_STATUS = 89,
    ICMP_TYPE_CODE_IPV6 = 139,
    FLOW_ID = 148,
    FLOW_START_SECONDS = 150,
    FLOW_END_SECONDS = 151,
    FLOW_START_MILLISECONDS = 152,
    FLOW_END_MILLISECONDS = 153,
    FLOW_START_MICROSECONDS = 154,
    FLOW_END_MICROSECONDS = 155,
    FLOW_START_NANOSECONDS = 156,
    FLOW_END_NANOSECONDS = 157,
    FLOW_START_DELTA_MICROSECONDS = 158,
    FLOW_END_DELTA_MICROSECONDS = 159,
    SYSTEM_INIT_TIME_MILLISECONDS = 160,
    FLOW_DURATION_MILLISECONDS = 161,
    FLOW_DURATION_MICROSECONDS = 162,
    ICMP_TYPE_IPV4 = 176,
    ICMP_CODE_IPV4 = 177,
    ICMP_TYPE_IPV6 = 178,
    ICMP_CODE_IPV6 = 179,
    UDP_SOURCE_PORT = 180,
    UDP_DESTINATION_PORT = 181,
    TCP_SOURCE_PORT = 182,
    TCP_DESTINATION_PORT = 183,
    IP_TTL = 192,
    FRAGMENT_FLAGS = 197,
    INITIATOR_OCTETS = 231,
    RESPONDER_OCTETS = 232,
    FIREWALL_EVENT = 233,
    DOT1Q_VLAN_ID = 243,
    INGRESS_PHYSICAL_INTERFACE = 252,
    EGRESS_PHYSICAL_INTERFACE = 253,
    COLLECTION_TIME_MILLISECONDS = 258,
    INITIATOR_PACKETS = 298,
    RESPONDER_PACKETS = 299,
    SELECTOR_ID = 302,
    SELECTOR_ALGORITHM = 304,
    SAMPLING_PACKET_INTERVAL = 305,
    SAMPLING_PACKET_SPACE = 306,
    SAMPLING_SIZE = 309,
    SAMPLING_POPULATION = 310,
    SAMPLING_PROBABILITY = 311,
    DATA_LINK_FRAME_SIZE = 312,
    IP_HEADER_PACKET_SECTION = 313,
    DATA_LINK_FRAME_SECTION = 315,
    MPLS_LABEL_STACK_SECTION = 316,
    OBSERVATION_TIME_SECONDS = 322,
    OBSERVATION_TIME_MILLISECONDS = 323,
    OBSERVATION_TIME_MICROSECONDS = 324,
    OBSERVATION_TIME_NANOSECONDS = 325,
    CISCO_FIREWALL_EVENT = 40_005,
}

/// The element means the same of the packets in the other direction (RFC 5103 §6.1).
pub(crate) const REVERSE: u32 = 29_305;
/// CERT's, which YAF uses.
pub(crate) const CERT: u32 = 6_871;
/// ntop's, which nProbe uses; in v9 it has these numbers instead.
pub(crate) const NTOP: u32 = 35_632;
pub(crate) const NTOP_NETFLOW_V9: std::ops::RangeInclusive<u16> = 57_472..=58_495;

/// YAF: flags of a direction's first packet, and of all its others.
pub(crate) const CERT_INITIAL_TCP_FLAGS: u16 = 14;
pub(crate) const CERT_UNION_TCP_FLAGS: u16 = 15;
/// YAF: milliseconds from the first packet to the first of the other direction.
pub(crate) const CERT_REVERSE_FLOW_DELTA_MILLISECONDS: u16 = 21;
/// In an enterprise's own elements this bit stands for the other direction (RFC 5103 §6.2).
pub(crate) const CERT_REVERSE_BIT: u16 = 0x4000;

/// Whether one of CERT's elements is of use.
pub(crate) fn is_known_of_cert(element: u16) -> bool {
    matches!(
        element & !CERT_REVERSE_BIT,
        CERT_INITIAL_TCP_FLAGS | CERT_UNION_TCP_FLAGS
    ) || element == CERT_REVERSE_FLOW_DELTA_MILLISECONDS
}
