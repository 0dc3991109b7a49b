use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weir_flow_record::Address;

/// Who may export: prefixes, looked up in logarithmic time without memory of anyone. Empty, it lets anyone in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowList {
    v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl AllowList {
    /// A list of `prefixes`, which may overlap.
    pub fn new(prefixes: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network(), net.broadcast())),
                IpNet::V6(net) => v6.push((net.network(), net.broadcast())),
            }
        }
        Self {
            v4: disjoint(v4),
            v6: disjoint(v6),
        }
    }

    /// Whether `exporter` may export.
    pub fn allows(&self, exporter: Address) -> bool {
        if self.v4.is_empty() && self.v6.is_empty() {
            return true;
        }
        match exporter.ip() {
            IpAddr::V4(v4) => holds(&self.v4, v4),
            IpAddr::V6(v6) => holds(&self.v6, v6),
        }
    }
}

/// Prefixes are disjoint or one holds the other; only the outer ones stay, in order.
fn disjoint<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    let mut reached = None;
    ranges.retain(|(_, last)| {
        let outer = reached.is_none_or(|reached| *last > reached);
        if outer {
            reached = Some(*last);
        }
        outer
    });
    ranges
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    let before = behind.checked_sub(1).and_then(|index| ranges.get(index));
    before.is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(prefixes: &[&str]) -> AllowList {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        AllowList::new(&prefixes)
    }

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn an_empty_list_lets_anyone_in() {
        assert!(AllowList::default().allows(address("192.0.2.1")));
        assert!(AllowList::default().allows(address("2001:db8::1")));
    }

    #[test]
    fn prefixes_may_overlap_and_stand_in_any_order() {
        let list = list(&[
            "203.0.113.128/25",
            "10.0.0.0/8",
            "10.1.2.0/24",
            "10.255.255.255/32",
            "192.0.2.7/32",
        ]);
        for inside in [
            "10.0.0.0",
            "10.1.2.3",
            "10.200.0.1",
            "10.255.255.255",
            "192.0.2.7",
            "203.0.113.255",
            "::ffff:10.1.1.1",
        ] {
            assert!(list.allows(address(inside)), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "192.0.2.6",
            "192.0.2.8",
            "203.0.113.127",
            "2001:db8::1",
        ] {
            assert!(!list.allows(address(outside)), "{outside}");
        }
    }

    #[test]
    fn a_list_of_one_family_lets_nobody_of_the_other_in() {
        assert!(!list(&["::/0"]).allows(address("192.0.2.1")));
        assert!(!list(&["0.0.0.0/0"]).allows(address("2001:db8::1")));
        assert!(list(&["0.0.0.0/0"]).allows(address("255.255.255.255")));
    }
}
