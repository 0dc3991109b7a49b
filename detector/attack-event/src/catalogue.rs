use serde::{Deserialize, Serialize};
use weir_flow_record::Vector;

use crate::AttackName;

/// How bad an attack is. Low: at least the limit; medium: at least three times the limit; high: at least ten times the
/// limit, or half of the pipe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// At least the limit.
    Low,
    /// At least 3 × the limit.
    Medium,
    /// At least 10 × the limit, or at least half of the pipe.
    High,
}

/// One kind of traffic in an attack (RFC 9244 §7.6 `vendor-id`, `attack-id`).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VectorShare {
    /// Private enterprise number whose catalogue `attack_id` is of.
    pub vendor_id: u32,
    /// Number in that catalogue.
    pub attack_id: u32,
    /// Name in that catalogue.
    pub name: AttackName,
    /// Share of the attack's packets or octets, by the rate that fired: 0 to 1. A name that a model gives to what others count
    /// already has none of its own.
    pub share: f64,
    /// How sure the vector is: 0 to 1.
    pub confidence: f64,
}

/// What an attack of this vector is, in one sentence: `attack-description` of RFC 9244 §7.6.
pub const fn description(vector: Vector) -> &'static str {
    match vector {
        Vector::Total => "traffic above the limit of the target",
        Vector::UdpFlood => "flood of UDP datagrams",
        Vector::TcpSynFlood => "flood of TCP connection requests (SYN without ACK)",
        Vector::TcpAckFlood => "flood of TCP segments with ACK",
        Vector::TcpRstFlood => "flood of TCP resets",
        Vector::IcmpFlood => "flood of ICMP messages",
        Vector::IpFragments => "flood of IP fragments",
        Vector::TcpSynackReflection => "TCP SYN-ACK reflected by servers",
        Vector::DnsAmplification => "amplified DNS responses (source port 53)",
        Vector::NtpAmplification => "amplified NTP responses (source port 123)",
        Vector::SsdpAmplification => "amplified SSDP responses (source port 1900)",
        Vector::SnmpAmplification => "amplified SNMP responses (source port 161)",
        Vector::CldapAmplification => "amplified CLDAP responses (source port 389)",
        Vector::MemcachedAmplification => "amplified memcached responses (source port 11211)",
        Vector::ChargenAmplification => "amplified chargen responses (source port 19)",
        Vector::DnsQueryFlood => "flood of DNS queries (destination port 53)",
    }
}
