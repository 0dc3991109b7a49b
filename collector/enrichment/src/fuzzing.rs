//! Bodies of fuzz targets: plain functions that take any octets and must return.

use weir_flow_record::Address;

use crate::country::CountryCode;
use crate::database::{AutonomousSystem, Content, Database};
use crate::networks::Networks;

/// Reads `data` as a CSV file of networks; checks that each network that was read is found by an address of its own, unless
/// a longer prefix holds it. Panics only if the table is wrong.
pub fn fuzz_networks(data: &[u8]) {
    let networks = match Networks::parse(data) {
        Ok(networks) => networks,
        Err(faults) => {
            assert!(!faults.is_empty());
            return;
        }
    };
    let sorted = networks.sorted();
    assert_eq!(sorted.len(), networks.len());
    for prefix in sorted.keys().take(1_000) {
        let address = Address::from(prefix.network());
        let naive = sorted
            .keys()
            .filter(|other| other.contains(&prefix.network()))
            .max_by_key(|other| other.prefix_len());
        let found = networks
            .find(address)
            .and_then(|number| networks.get(number));
        assert_eq!(found, naive.and_then(|prefix| sorted.get(prefix)).copied());
    }
}

/// Opens `data` as a MaxMind database of either kind and looks addresses up; returns how many records both have.
pub fn fuzz_database(data: &[u8]) -> usize {
    records::<AutonomousSystem>(data) + records::<CountryCode>(data)
}

fn records<T: Content>(data: &[u8]) -> usize {
    let Ok(database) = Database::<T>::from_octets(data.to_vec()) else {
        return 0;
    };
    for octet in 0..=u8::MAX {
        let spread = octet.wrapping_mul(151);
        let v4 = Address::from_v4([octet, spread, octet, spread]);
        for address in [
            v4,
            Address::from_octets([octet; 16]),
            Address::from_octets([spread; 16]),
        ] {
            if let Some(number) = database.find(address) {
                assert!(database.get(number).is_some());
            }
        }
    }
    let starts = database.v4_starts.as_deref().unwrap_or_default();
    for range in starts.windows(2).take(1_000) {
        if let [start, next] = *range {
            assert!(start < next, "ranges are sorted");
            let find = |bits: u32| database.find(Address::from_v4(bits.to_be_bytes()));
            assert_eq!(find(start), find(next - 1), "one thing holds in a range");
        }
    }
    database.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_tables_never_panic() {
        let lines = "prefix,name,site,role,tenant\n10.0.0.0/8,a,b,c,d\n10.1.0.0/16,\"e,\"\"f\",,,\n2001:db8::/32,g,,,\n";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut octets = lines.as_bytes().to_vec();
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let place = (state >> 33) as usize % octets.len();
            octets[place] = b"0123456789/:.,\"#\n\rx\xff"[(state >> 50) as usize % 20];
            fuzz_networks(&octets);
        }
        fuzz_networks(lines.as_bytes());
    }
}
