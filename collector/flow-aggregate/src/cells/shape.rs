//! How a cell's traffic is spread over its hosts.

use ipnet::IpNet;
use weir_flow_record::{Address, Vector};

use crate::summary::PrefixShape;

/// Share of the traffic that the narrowest prefix holds.
const NEARLY_ALL: f64 = 0.95;
/// Large hosts that are left out if the others have half of the traffic.
const LARGE: usize = 3;
/// Bits in front of an IPv4 address in the 16 octets that hold both families.
const V4_OFFSET: u8 = 96;

/// Octets and packets of hosts, by address.
#[derive(Debug, Default)]
pub(crate) struct Weights(Vec<(u128, u64, u64)>);

impl Weights {
    pub(crate) fn push(&mut self, address: Address, octets: u64, packets: u64) {
        if octets != 0 || packets != 0 {
            self.0
                .push((u128::from_be_bytes(address.octets()), octets, packets));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The shape of a cell that begins at `first` and has `bits`.
pub(crate) fn shape(
    weights: &Weights,
    (first, bits): (u128, u8),
    risen: bool,
    (known_for, levels): (u32, Vec<(Vector, [u64; 2])>),
) -> PrefixShape {
    let (octets, packets) = weights
        .0
        .iter()
        .fold((0.0, 0.0), |(o, p), (_, octets, packets)| {
            (o + *octets as f64, p + *packets as f64)
        });
    let part = |value: u64, whole: f64| {
        if whole > 0.0 {
            value as f64 / whole
        } else {
            0.0
        }
    };
    let mut each: Vec<f64> = Vec::with_capacity(weights.0.len());
    let mut shares: Vec<(u128, f64)> = Vec::with_capacity(weights.0.len());
    for (address, o, p) in &weights.0 {
        // By packets and octets alike: a host that holds most of one of them is no small one.
        let share = part(*o, octets).max(part(*p, packets));
        each.push(share);
        shares.push((*address, (part(*o, octets) + part(*p, packets)) / 2.0));
    }
    PrefixShape {
        holds: narrowest(&shares, first, bits),
        hosts: u32::try_from(weights.0.len()).unwrap_or(u32::MAX),
        effective_hosts: effective(&mut each),
        risen,
        known_for,
        levels,
    }
}

/// The number of equal hosts that would be as unevenly spread: of all, or of all but the few largest ones where the others
/// have half of the traffic.
fn effective(shares: &mut [f64]) -> u32 {
    shares.sort_by(|a, b| b.total_cmp(a));
    let of = |shares: &[f64]| {
        let sum: f64 = shares.iter().sum();
        let squares: f64 = shares.iter().map(|share| share * share).sum();
        if squares > 0.0 {
            (sum, sum * sum / squares)
        } else {
            (0.0, 0.0)
        }
    };
    let (whole, all) = of(shares);
    let (rest, others) = of(shares.get(LARGE..).unwrap_or_default());
    let most = if rest >= whole / 2.0 {
        all.max(others)
    } else {
        all
    };
    most.round() as u32
}

/// The longest prefix inside `first`/`bits` that holds nearly all of the shares.
fn narrowest(shares: &[(u128, f64)], mut first: u128, mut bits: u8) -> IpNet {
    let whole: f64 = shares.iter().map(|(_, share)| share).sum();
    while bits < 128 && whole > 0.0 {
        let half = 1_u128 << (127 - u32::from(bits));
        let within = |from: u128| {
            let inside = |address: u128| address >= from && address - from < half;
            shares
                .iter()
                .filter(|(address, _)| inside(*address))
                .map(|(_, share)| share)
                .sum::<f64>()
        };
        let upper = first | half;
        if within(first) >= whole * NEARLY_ALL {
            bits += 1;
        } else if within(upper) >= whole * NEARLY_ALL {
            (first, bits) = (upper, bits + 1);
        } else {
            break;
        }
    }
    let address = Address::from_octets(first.to_be_bytes());
    address.prefix(bits.saturating_sub(V4_OFFSET), bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hosts: &[(u8, u64)]) -> PrefixShape {
        let mut weights = Weights::default();
        for (last, packets) in hosts {
            let address = Address::from_v4([10, 0, 7, *last]);
            weights.push(address, packets * 100, *packets);
        }
        let first = u128::from_be_bytes(Address::from_v4([10, 0, 7, 0]).octets());
        shape(&weights, (first, 96 + 24), true, (60, Vec::new()))
    }

    #[test]
    fn equal_hosts_count_each_and_a_large_one_for_nearly_all() {
        let equal: Vec<(u8, u64)> = (0..200).map(|host| (host, 1_000)).collect();
        assert_eq!((of(&equal).hosts, of(&equal).effective_hosts), (200, 200));
        let mut one: Vec<(u8, u64)> = (0..200).map(|host| (host, 10)).collect();
        one[3].1 = 1_000_000;
        assert_eq!(of(&one).effective_hosts, 1);
    }

    #[test]
    fn the_narrowest_prefix_leaves_out_a_little() {
        let mut hosts: Vec<(u8, u64)> = (64..128).map(|host| (host, 1_000)).collect();
        assert_eq!(of(&hosts).holds, "10.0.7.64/26".parse().unwrap());
        hosts.push((200, 1_500));
        assert_eq!(of(&hosts).holds, "10.0.7.64/26".parse().unwrap());
        hosts.push((201, 50_000));
        assert_eq!(of(&hosts).holds, "10.0.7.0/24".parse().unwrap());
        assert_eq!(of(&[(9, 5)]).holds, "10.0.7.9/32".parse().unwrap());
    }
}
