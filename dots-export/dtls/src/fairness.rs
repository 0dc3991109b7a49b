//! Who gives way where many begin and few end: no peer keeps others out by beginning more than they do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Of what has begun, each with its peer and a number that grows, the one to give up: the oldest of the peer that has begun
/// most. An IPv6 peer is its /64, which a single host may use as a whole.
#[must_use]
pub fn gives_way<N: Ord + Copy>(begun: impl Iterator<Item = (IpAddr, N)>) -> Option<N> {
    let mut peers: BTreeMap<IpAddr, (usize, N)> = BTreeMap::new();
    for (address, number) in begun {
        let (count, oldest) = peers.entry(network(address)).or_insert((0, number));
        *count += 1;
        *oldest = number.min(*oldest);
    }
    // Of peers that have begun as much as each other, the one that began first.
    let most = |(count, oldest): &(usize, N)| (*count, std::cmp::Reverse(*oldest));
    peers
        .into_values()
        .max_by_key(most)
        .map(|(_, oldest)| oldest)
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_busiest_peer_gives_way() {
        let begun = |list: &[(&str, u32)]| {
            let read = |(text, number): &(&str, u32)| (text.parse().unwrap(), *number);
            gives_way(list.iter().map(read).collect::<Vec<_>>().into_iter())
        };
        assert_eq!(begun(&[]), None);
        assert_eq!(begun(&[("192.0.2.1", 5), ("192.0.2.2", 3)]), Some(3));
        assert_eq!(
            begun(&[("192.0.2.1", 1), ("192.0.2.2", 7), ("192.0.2.2", 4)]),
            Some(4)
        );
        let of_one_host = [
            ("2001:db8::1", 9),
            ("2001:db8::ffff", 8),
            ("2001:db8:1::1", 2),
        ];
        assert_eq!(begun(&of_one_host), Some(8));
        assert_eq!(
            begun(&[("::ffff:192.0.2.1", 6), ("192.0.2.1", 5), ("192.0.2.2", 1)]),
            Some(5)
        );
    }
}
