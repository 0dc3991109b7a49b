use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An IP address as 16 octets; IPv4 is held as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2), so that one code path serves both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address([u8; 16]);

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Address {
    /// The address `::`, which stands for "the record carried none".
    pub const UNSPECIFIED: Self = Self([0; 16]);

    /// Wraps 16 octets in network order.
    #[inline]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Maps an IPv4 address.
    #[inline]
    pub const fn from_v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The 16 octets in network order.
    #[inline]
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }

    /// The octets as two words, most significant first: for hashing and columns.
    #[inline]
    pub const fn words(self) -> (u64, u64) {
        let value = u128::from_be_bytes(self.0);
        ((value >> 64) as u64, value as u64)
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(self) -> bool {
        self.0[..12] == MAPPED
    }

    /// The address as the standard library's type, IPv4 unmapped.
    pub fn ip(self) -> IpAddr {
        if self.is_v4() {
            let [.., a, b, c, d] = self.0;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.0))
        }
    }

    /// The host prefix: /32 or /128.
    pub fn host(self) -> IpNet {
        IpNet::from(self.ip())
    }

    /// The prefix of `v4` or `v6` bits that holds this address; longer lengths are cut to the host's.
    pub fn prefix(self, v4: u8, v6: u8) -> IpNet {
        match self.ip() {
            IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new_assert(ip, v4.min(32)).trunc()),
            IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new_assert(ip, v6.min(128)).trunc()),
        }
    }

    /// Whether `prefix` holds this address.
    pub fn is_in(self, prefix: &IpNet) -> bool {
        prefix.contains(&self.ip())
    }
}

impl From<IpAddr> for Address {
    /// IPv4-mapped IPv6 addresses become IPv4: dual-stack sockets report IPv4 peers that way.
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.ip().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IpAddr::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_keep_their_form() {
        for text in ["192.0.2.1", "2001:db8::1", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Address::from(ip).to_string(), text);
        }
        assert_eq!(
            Address::from("::ffff:192.0.2.1".parse::<IpAddr>().unwrap()),
            Address::from_v4([192, 0, 2, 1])
        );
    }

    #[test]
    fn prefixes_are_cut() {
        assert_eq!(
            Address::from_v4([192, 0, 2, 77]).prefix(24, 48).to_string(),
            "192.0.2.0/24"
        );
        let v6 = Address::from("2001:db8:1:2::1".parse::<IpAddr>().unwrap());
        assert_eq!(v6.prefix(24, 48).to_string(), "2001:db8:1::/48");
        assert!(v6.is_in(&"2001:db8::/32".parse().unwrap()));
    }
}
