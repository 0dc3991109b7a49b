use ipnet::IpNet;
use weir_flow_record::{Address, ColumnSet, FlowBatch};

use crate::crypto_pan::CryptoPan;
use crate::{AnonymiseSettings, KeyError, Method, read_key};

/// Places of the cache, each for one address: 2 MiB.
const PLACES: usize = 1 << 16;

/// Makes addresses anonymous. An address that came before is looked up in a table of fixed size.
pub struct Anonymiser {
    way: Way,
    keep: Vec<IpNet>,
}

enum Way {
    CryptoPan(Box<CryptoPan>, Vec<(Address, Address)>),
    Truncate(u8, u8),
}

impl Anonymiser {
    /// Reads the key where there is one.
    pub fn new(settings: &AnonymiseSettings) -> Result<Self, KeyError> {
        let way = match &settings.method {
            Method::CryptoPan { key_file } => {
                let cryptopan = CryptoPan::new(&read_key(key_file)?)?;
                // No address: `::` is never looked up.
                let places = vec![(Address::UNSPECIFIED, Address::UNSPECIFIED); PLACES];
                Way::CryptoPan(Box::new(cryptopan), places)
            }
            Method::Truncate { v4, v6 } => Way::Truncate(*v4, *v6),
        };
        Ok(Self {
            way,
            keep: settings.keep.clone(),
        })
    }

    /// Replaces all addresses of hosts in a batch; MAC addresses become zero.
    pub fn handle_batch(&mut self, batch: &mut FlowBatch) {
        let extra = &mut batch.extra;
        for column in [
            &mut batch.source_address,
            &mut batch.destination_address,
            &mut extra.next_hop,
            &mut extra.inner_source_address,
            &mut extra.inner_destination_address,
        ] {
            for address in column {
                *address = self.address(*address);
            }
        }
        for column in [&mut extra.source_mac, &mut extra.destination_mac] {
            column.fill([0; 6]);
        }
        for datagram in &mut batch.datagrams {
            datagram.present = ColumnSet(datagram.present.0 & !ColumnSet::MAC.0);
        }
    }

    /// What stands for an address; "none" stays none.
    pub fn address(&mut self, address: Address) -> Address {
        if address == Address::UNSPECIFIED || self.keep.iter().any(|kept| address.is_in(kept)) {
            return address;
        }
        match &mut self.way {
            Way::Truncate(v4, v6) => Address::from(address.prefix(*v4, *v6).addr()),
            Way::CryptoPan(cryptopan, places) => {
                let Some(place) = places.get_mut(place_of(address)) else {
                    return Address::UNSPECIFIED;
                };
                if place.0 != address {
                    // Rather none than a real one.
                    let other = cryptopan.address(address);
                    *place = (address, other.unwrap_or(Address::UNSPECIFIED));
                }
                place.1
            }
        }
    }
}

/// Spreads addresses over the places. Who sends addresses that fall into one place makes this slow, not wrong.
fn place_of(address: Address) -> usize {
    let (high, low) = address.words();
    let mixed = (high.rotate_left(29) ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as usize
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use weir_flow_record::{ExtraRow, Row};

    use super::*;

    #[test]
    fn a_batch_has_no_real_address_left_but_kept_ones() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, [9; 32]).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let settings = AnonymiseSettings {
            method: Method::CryptoPan { key_file },
            keep: vec!["203.0.113.0/24".parse().unwrap()],
        };
        let mut anonymiser = Anonymiser::new(&settings).unwrap();
        let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
        let (stranger, own) = (
            Address::from_v4([198, 51, 100, 7]),
            Address::from_v4([203, 0, 113, 5]),
        );
        let v6 = Address::from_octets([0x20; 16]);
        for _ in 0..2 {
            let row = Row {
                source_address: stranger,
                destination_address: own,
                octets: 1500,
                ..Row::default()
            };
            let extra = ExtraRow {
                next_hop: v6,
                inner_source_address: stranger,
                source_mac: [1; 6],
                destination_mac: [2; 6],
                source_as: 64_500,
                ..ExtraRow::default()
            };
            batch.push_with(&row, &extra);
        }
        anonymiser.handle_batch(&mut batch);
        let anonymous = batch.source_address[0];
        assert_ne!(anonymous, stranger);
        assert_eq!(batch.source_address, [anonymous; 2]);
        assert_eq!(batch.extra.inner_source_address, [anonymous; 2]);
        // None is not an address.
        assert_eq!(
            batch.extra.inner_destination_address,
            [Address::UNSPECIFIED; 2]
        );
        assert_eq!(batch.destination_address, [own; 2]);
        assert_ne!(batch.extra.next_hop[0], v6);
        assert_eq!(batch.extra.source_mac, [[0; 6]; 2]);
        assert_eq!(batch.extra.destination_mac, [[0; 6]; 2]);
        assert_eq!((batch.octets[0], batch.extra.source_as[0]), (1500, 64_500));
    }

    #[test]
    fn the_cache_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, [3; 32]).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let settings = AnonymiseSettings {
            method: Method::CryptoPan {
                key_file: key_file.clone(),
            },
            keep: Vec::new(),
        };
        let mut anonymiser = Anonymiser::new(&settings).unwrap();
        let mut direct = CryptoPan::new(&read_key(&key_file).unwrap()).unwrap();
        // More addresses than places, twice, so that some were displaced meanwhile.
        for _ in 0..2 {
            for number in 0..(PLACES as u32 + 1000) {
                let address = Address::from_v4(number.wrapping_mul(2_654_435_761).to_be_bytes());
                let cached = anonymiser.address(address);
                if number % 97 == 0 {
                    assert_eq!(Some(cached), direct.address(address), "{address}");
                }
            }
        }
    }

    #[test]
    fn truncation_keeps_networks() {
        let settings = AnonymiseSettings {
            method: Method::Truncate { v4: 24, v6: 48 },
            keep: Vec::new(),
        };
        let mut anonymiser = Anonymiser::new(&settings).unwrap();
        let v6: std::net::IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        assert_eq!(anonymiser.address(v6.into()).to_string(), "2001:db8:1::");
        let v4 = Address::from_v4([192, 0, 2, 77]);
        assert_eq!(anonymiser.address(v4).to_string(), "192.0.2.0");
        assert_eq!(
            anonymiser.address(Address::UNSPECIFIED),
            Address::UNSPECIFIED
        );
    }
}
