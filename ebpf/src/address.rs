//! Which address this host exports under.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use weir_flow_record::Address;

/// The address that samples of `interface` come from: one of the interface's own, else one of the host's, else loopback's.
/// IPv4 goes first, link-local addresses last.
pub fn of_interface(interface: &str) -> Address {
    let Ok(addresses) = getifaddrs() else {
        return Address::from_v4([127, 0, 0, 1]);
    };
    let found = addresses.filter_map(|entry| {
        let address = entry.address?;
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => return None,
        };
        Some((rank(ip, entry.interface_name == interface), ip))
    });
    found
        .min()
        .map_or(Address::from_v4([127, 0, 0, 1]), |(_, ip)| ip.into())
}

/// The smaller, the better.
fn rank(ip: IpAddr, is_own: bool) -> (bool, bool, bool, bool) {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    (ip.is_loopback(), link_local, !is_own, ip.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interfaces_own_address_goes_first() {
        let rank = |text: &str, own| rank(text.parse().unwrap(), own);
        let best_first = [
            rank("192.0.2.1", true),
            rank("2001:db8::1", true),
            rank("192.0.2.9", false),
            rank("fe80::1", true),
            rank("127.0.0.1", false),
        ];
        assert!(best_first.is_sorted());
    }
}
