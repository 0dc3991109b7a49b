//! Which zone an address is in: a cheap test that most foreign addresses fail, then the longest match.

use ipnet::IpNet;
use prefix_trie::PrefixMap;
use weir_flow_record::Address;

use crate::ZonePrefixes;

/// Foreign addresses that the first test lets through, remembered so that they cost no longest match each.
const REMEMBERED: usize = 2048;

/// Zones by prefix.
#[derive(Debug)]
pub(crate) struct ZoneTable {
    /// A bit for each IPv4 /16, and for each hash of an IPv6 /32.
    maybe: Box<[u64; 1024]>,
    v4: PrefixMap<ipnet::Ipv4Net, u16>,
    v6: PrefixMap<ipnet::Ipv6Net, u16>,
    remembered: Vec<(Address, Option<u16>)>,
}

impl ZoneTable {
    pub(crate) fn new(zones: &[ZonePrefixes]) -> Self {
        let mut table = Self {
            maybe: Box::new([0; 1024]),
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            remembered: Vec::new(),
        };
        for (index, zone) in zones.iter().enumerate() {
            for prefix in &zone.prefixes {
                table.insert(prefix, index as u16);
            }
        }
        let none = (Address::UNSPECIFIED, table.zone(Address::UNSPECIFIED));
        table.remembered = vec![none; REMEMBERED];
        table
    }

    /// Whether the address may be in a zone.
    #[inline]
    pub(crate) fn may_hold(&self, address: Address) -> bool {
        let (high, low) = address.words();
        let bit = if high == 0 && low >> 32 == 0xffff {
            (low >> 16) as u16
        } else {
            hash_v6(high)
        };
        self.maybe[usize::from(bit >> 6) % 1024] >> (bit & 63) & 1 != 0
    }

    /// The zone of the longest prefix that holds an address which is no known host.
    /// `hash` is any hash of the address.
    pub(crate) fn remembered_zone(&mut self, address: Address, hash: u64) -> Option<u16> {
        let place = (hash >> 16) as usize % REMEMBERED;
        match self.remembered.get(place) {
            Some((known, zone)) if *known == address => *zone,
            _ => {
                let zone = self.zone(address);
                if let Some(entry) = self.remembered.get_mut(place) {
                    *entry = (address, zone);
                }
                zone
            }
        }
    }

    /// The zone of the longest prefix that holds the address.
    pub(crate) fn zone(&self, address: Address) -> Option<u16> {
        match address.host() {
            IpNet::V4(host) => self.v4.get_lpm(&host).map(|(_, zone)| *zone),
            IpNet::V6(host) => self.v6.get_lpm(&host).map(|(_, zone)| *zone),
        }
    }

    fn insert(&mut self, prefix: &IpNet, zone: u16) {
        match prefix {
            IpNet::V4(v4) => {
                let first = u32::from(v4.network()) >> 16;
                let last = u32::from(v4.broadcast()) >> 16;
                (first..=last).for_each(|bit| self.set(bit as u16));
                self.v4.insert(*v4, zone);
            }
            IpNet::V6(v6) => {
                let (high, _) = Address::from_octets(v6.network().octets()).words();
                if v6.prefix_len() >= 32 {
                    self.set(hash_v6(high));
                } else {
                    // A shorter prefix holds too many /32s to hash each.
                    self.maybe.fill(u64::MAX);
                }
                self.v6.insert(*v6, zone);
            }
        }
    }

    fn set(&mut self, bit: u16) {
        self.maybe[usize::from(bit >> 6) % 1024] |= 1 << (bit & 63);
    }
}

#[inline]
fn hash_v6(high: u64) -> u16 {
    ((high >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

#[cfg(test)]
mod tests {
    use weir_flow_record::ZoneId;

    use super::*;

    #[test]
    fn the_longest_match_wins_in_both_families() {
        let zone = |zone, prefixes: &[&str]| ZonePrefixes {
            zone: ZoneId(zone),
            prefixes: prefixes
                .iter()
                .map(|prefix| prefix.parse().unwrap())
                .collect(),
            interesting: Vec::new(),
            prefix_lengths: Vec::new(),
            automatic: Vec::new(),
        };
        let table = ZoneTable::new(&[
            zone(0, &["10.0.0.0/8", "2001:db8::/32"]),
            zone(1, &["10.1.2.0/24", "2001:db8:1::/48"]),
        ]);
        for (address, expected) in [
            ("10.9.9.9", Some(0)),
            ("10.1.2.3", Some(1)),
            ("11.0.0.1", None),
            ("2001:db8:2::1", Some(0)),
            ("2001:db8:1::1", Some(1)),
            ("2001:db9::1", None),
        ] {
            let address = Address::from(address.parse::<std::net::IpAddr>().unwrap());
            let found = table
                .may_hold(address)
                .then(|| table.zone(address))
                .flatten();
            assert_eq!(found, expected, "{address}");
        }
        // A zone of everything holds everything.
        let all = ZoneTable::new(&[zone(0, &["0.0.0.0/0", "::/0"])]);
        for address in ["192.0.2.1", "2001:db8::1", "fe80::1"] {
            let address = Address::from(address.parse::<std::net::IpAddr>().unwrap());
            assert!(all.may_hold(address) && all.zone(address) == Some(0));
        }
    }
}
