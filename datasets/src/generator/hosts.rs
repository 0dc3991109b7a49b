//! Who there is: hosts inside, clients and senders outside.

use ipnet::IpNet;
use rand::{Rng, RngExt};
use weir_flow_record::Address;

use super::draw::{cumulate, hash, pick, unit};
use super::scenario::ScenarioFile;

/// A host inside, by one address of each family that its zone has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) v4: Option<Address>,
    pub(super) v6: Option<Address>,
}

impl Host {
    /// Its address of a family, or the one that it has.
    pub(super) fn address(&self, v6: bool) -> Address {
        let wanted = if v6 { self.v6 } else { self.v4 };
        wanted
            .or(self.v4)
            .or(self.v6)
            .unwrap_or(Address::UNSPECIFIED)
    }
}

/// All hosts, the most popular first.
pub(super) struct Hosts {
    pub(super) all: Vec<Host>,
    pub(super) prefixes: Vec<IpNet>,
    popularity: Vec<f64>,
    clients: u32,
    ipv6: f64,
    seed: u64,
}

impl Hosts {
    pub(super) fn new(file: &ScenarioFile) -> Self {
        let mut all = Vec::new();
        for zone in &file.zones {
            let family = |v6: bool| -> Vec<IpNet> {
                let prefixes = zone.prefixes.iter().map(IpNet::trunc);
                prefixes
                    .filter(|prefix| matches!(prefix, IpNet::V6(_)) == v6)
                    .collect()
            };
            let (v4, v6) = (family(false), family(true));
            let place = |prefixes: &[IpNet], number: u32| {
                let count = u32::try_from(prefixes.len()).unwrap_or(u32::MAX);
                let prefix = prefixes.get(number.checked_rem(count)? as usize)?;
                host_address(prefix, number / count)
            };
            for number in 0..zone.hosts {
                let host = Host {
                    v4: place(&v4, number),
                    v6: place(&v6, number),
                };
                if host.v4.or(host.v6).is_some() {
                    all.push(host);
                }
            }
        }
        // The first zone's first host is not the most popular of all.
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|place| hash(&[file.seed, 11, *place as u64]));
        let all: Vec<Host> = order
            .into_iter()
            .filter_map(|place| all.get(place).copied())
            .collect();
        let popularity = (1..=all.len()).map(|rank| (rank as f64).powf(-file.normal.popularity));
        Self {
            popularity: cumulate(popularity),
            all,
            prefixes: file
                .zones
                .iter()
                .flat_map(|zone| zone.prefixes.clone())
                .collect(),
            clients: file.normal.clients,
            ipv6: file.normal.ipv6,
            seed: file.seed,
        }
    }

    /// A host by popularity; each service (`salt`) has an order of its own among the hosts that offer it.
    pub(super) fn pick(&self, rng: &mut impl Rng, salt: u64, share: f64) -> usize {
        let rank = pick(rng, &self.popularity);
        let most = ((self.all.len() as f64 * share).ceil() as usize).clamp(1, self.all.len());
        let moved = (rank as u64).wrapping_mul(hash(&[self.seed, salt]) | 1);
        // The busiest keep their rank for most services: there are a few hosts that everybody knows.
        if rank < 3 && unit(hash(&[self.seed, salt, 3])) < 0.5 {
            rank % most
        } else {
            (moved % most as u64) as usize
        }
    }

    /// Whether a conversation is IPv6.
    pub(super) fn is_v6(&self, rng: &mut impl Rng) -> bool {
        rng.random::<f64>() < self.ipv6
    }

    /// A client outside, of those whose traffic takes this way; few of them come often.
    pub(super) fn client(&self, rng: &mut impl Rng, feed: usize, v6: bool) -> Address {
        let rank = f64::from(self.clients).powf(rng.random::<f64>()) as u64;
        self.outside([12, feed as u64, u64::from(v6)], rank, v6)
    }

    /// A sender outside by its number; those of the same `kind` are the same ones each time.
    pub(super) fn outside(&self, kind: [u64; 3], number: u64, v6: bool) -> Address {
        (0_u64..)
            .map(|attempt| {
                // Neighbours share a network, as clients of one provider do.
                let network = hash(&[self.seed, kind[0], kind[1], kind[2], number / 6, attempt]);
                let own = hash(&[network, number]);
                address_of(network, own, v6)
            })
            .find(|address| self.is_outside(*address))
            .unwrap_or(Address::UNSPECIFIED)
    }

    /// Any address outside: a forged one.
    pub(super) fn forged(&self, rng: &mut impl Rng, v6: bool) -> Address {
        loop {
            let address = address_of(rng.random(), rng.random(), v6);
            if self.is_outside(address) {
                return address;
            }
        }
    }

    fn is_outside(&self, address: Address) -> bool {
        let [.., a, b, _, _] = address.octets();
        let special = address.is_v4()
            && (matches!(a, 0 | 10 | 127 | 224..)
                || matches!((a, b), (192, 168) | (172, 16..=31) | (169, 254)));
        !special && !self.prefixes.iter().any(|prefix| address.is_in(prefix))
    }
}

fn address_of(network: u64, own: u64, v6: bool) -> Address {
    if v6 {
        let network = 0x2000_0000_0000_0000 | network >> 3 & 0x1fff_ffff_ffff_ff00;
        return Address::from_octets((u128::from(network) << 64 | u128::from(own)).to_be_bytes());
    }
    let [a, b, c, ..] = network.to_be_bytes();
    let [d, ..] = own.to_be_bytes();
    Address::from_v4([a, b, c, d])
}

/// Host number so and so of a prefix; `None` where the prefix has not so many.
fn host_address(prefix: &IpNet, number: u32) -> Option<Address> {
    let base = u128::from_be_bytes(Address::from(prefix.network()).octets());
    let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    let place = match prefix {
        IpNet::V4(_) if bits == 0 => (number == 0).then_some(0)?,
        IpNet::V4(_) => {
            let room = (1_u128 << bits).saturating_sub(2).max(1);
            // Spread over the prefix by a step that has no divisor in common with most sizes.
            (u128::from(number) < room).then_some(1 + u128::from(number) * 2_147_483_647 % room)?
        }
        // A subnet for every eight hosts, where there is room for subnets.
        IpNet::V6(_) if bits > 64 => {
            let subnet = u128::from(number / 8) % (1_u128 << (bits - 64).min(32));
            (subnet << 64) | (0x10 + u128::from(number))
        }
        IpNet::V6(_) => (u128::from(number) < 1_u128 << bits).then_some(number.into())?,
    };
    Some(Address::from_octets((base + place).to_be_bytes()))
}

/// Any address of a prefix, used or not.
pub(super) fn any_in(rng: &mut impl Rng, prefix: &IpNet) -> Address {
    let base = u128::from_be_bytes(Address::from(prefix.network()).octets());
    let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    let mask = if bits >= 128 {
        u128::MAX
    } else {
        (1 << bits) - 1
    };
    Address::from_octets((base | rng.random::<u128>() & mask).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::draw::dice;
    use super::*;

    #[test]
    fn hosts_are_inside_and_all_others_outside() {
        let file = ScenarioFile::default();
        let hosts = Hosts::new(&file);
        assert_eq!(hosts.all.len(), 300);
        let inside = |address: Address| file.zones[0].prefixes.iter().any(|p| address.is_in(p));
        let v4: BTreeSet<Address> = hosts.all.iter().map(|host| host.address(false)).collect();
        assert_eq!(v4.len(), 300);
        assert!(v4.iter().all(|address| inside(*address) && address.is_v4()));
        assert!(hosts.all.iter().all(|host| inside(host.address(true))));
        let mut rng = dice(1, 1);
        for v6 in [false, true] {
            for _ in 0..1000 {
                let client = hosts.client(&mut rng, 0, v6);
                assert!(!inside(client) && client.is_v4() != v6, "{client}");
                assert!(!inside(hosts.forged(&mut rng, v6)));
            }
        }
        let target = any_in(&mut rng, &"203.0.112.0/22".parse().unwrap());
        assert!(inside(target));
    }

    #[test]
    fn few_hosts_have_most() {
        let hosts = Hosts::new(&ScenarioFile::default());
        let mut rng = dice(1, 1);
        let mut seen = vec![0_u32; hosts.all.len()];
        for _ in 0..30_000 {
            seen[hosts.pick(&mut rng, 7, 1.0)] += 1;
        }
        seen.sort_unstable();
        let top: u32 = seen.iter().rev().take(30).sum();
        assert!(top > 12_000, "{top}");
    }
}
