//! Which zone an address is in, for each record: two tables that are searched by halves.

use ipnet::IpNet;
use weir_flow_record::Address;

/// The zones' prefixes.
pub(super) struct Zones {
    /// First and last address, apart from each other and in order.
    ranges: Vec<(u128, u128)>,
    named: Vec<(String, IpNet)>,
}

impl Zones {
    pub(super) fn new<'z, N: ToString + 'z>(
        zones: impl Iterator<Item = (&'z N, &'z Vec<IpNet>)>,
    ) -> Self {
        let mut named = Vec::new();
        for (name, prefixes) in zones {
            named.extend(prefixes.iter().map(|prefix| (name.to_string(), *prefix)));
        }
        // The longest first: it decides.
        named.sort_by_key(|(_, prefix)| std::cmp::Reverse(prefix.prefix_len()));
        let number = |ip: std::net::IpAddr| u128::from_be_bytes(Address::from(ip).octets());
        let mut all: Vec<(u128, u128)> = named
            .iter()
            .map(|(_, prefix)| (number(prefix.network()), number(prefix.broadcast())))
            .collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges, named }
    }

    /// Whether a zone holds the address.
    pub(super) fn hold(&self, address: Address) -> bool {
        let number = u128::from_be_bytes(address.octets());
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        let before = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        before.is_some_and(|(_, last)| number <= *last)
    }

    /// The name of the zone that holds the address, or nothing.
    pub(super) fn of(&self, address: Address) -> &str {
        let mut holding = self.named.iter();
        let found = holding.find(|(_, prefix)| address.is_in(prefix));
        found.map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_find_their_zone_or_none() {
        let prefixes = |list: &[&str]| -> Vec<IpNet> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        let wide = prefixes(&["203.0.112.0/22", "2001:db8:a::/48", "0.0.0.0/32"]);
        let narrow = prefixes(&["203.0.113.0/24", "203.0.116.0/24"]);
        let zones = Zones::new([(&"wide", &wide), (&"narrow", &narrow)].into_iter());
        for (address, zone) in [
            ("203.0.112.0", "wide"),
            ("203.0.113.255", "narrow"),
            ("203.0.115.255", "wide"),
            ("203.0.116.9", "narrow"),
            ("203.0.117.0", ""),
            ("203.0.111.255", ""),
            ("2001:db8:a:ffff::1", "wide"),
            ("2001:db8:b::", ""),
            ("255.255.255.255", ""),
        ] {
            let address = Address::from(address.parse::<std::net::IpAddr>().unwrap());
            assert_eq!(zones.of(address), zone, "{address}");
            assert_eq!(zones.hold(address), !zone.is_empty(), "{address}");
        }
    }
}
