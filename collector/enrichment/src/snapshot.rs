use std::path::Path;

use weir_flow_record::Address;

use crate::config::{EnrichmentConfig, Fault};
use crate::country::CountryCode;
use crate::database::{AutonomousSystem, Content, Database};
use crate::networks::{Network, Networks};
use crate::ranges::Ranges;

/// Octets of a file of networks, at most.
const MOST_OCTETS: u64 = 256 << 20;

/// What the files say, read whole; it never changes.
#[derive(Default)]
pub struct Snapshot {
    pub(crate) systems: Option<Database<AutonomousSystem>>,
    pub(crate) countries: Option<Database<CountryCode>>,
    pub(crate) networks: Networks,
    ranges: Option<Ranges>,
}

/// What is known of an address; texts are empty where nothing is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetworkInfo<'a> {
    /// Its autonomous system.
    pub asn: Option<u32>,
    /// That system's name.
    pub as_name: &'a str,
    /// Its country.
    pub country: Option<CountryCode>,
    /// Its network's name.
    pub name: &'a str,
    /// Where its network is.
    pub site: &'a str,
    /// What its network is for.
    pub role: &'a str,
    /// Whose network it is.
    pub tenant: &'a str,
}

/// What was found for an address, as numbers within one snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Resolved {
    pub(crate) system: Option<Number>,
    pub(crate) network: Option<Number>,
    pub(crate) country: Option<CountryCode>,
}

/// A number from 0 on that leaves room for `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Number(std::num::NonZeroU32);

impl Number {
    fn new(number: u32) -> Option<Self> {
        std::num::NonZeroU32::new(number.wrapping_add(1)).map(Self)
    }

    fn get(self) -> u32 {
        self.0.get() - 1
    }
}

impl Snapshot {
    /// Reads all files that `config` names; reports all that is wrong with any.
    pub fn load(config: &EnrichmentConfig) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut systems = database(&config.asn_database, "enrichment.asn_database", &mut faults);
        let mut countries = database(
            &config.country_database,
            "enrichment.country_database",
            &mut faults,
        );
        let networks = networks(&config.networks, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let starts = [v4_starts(&mut systems), v4_starts(&mut countries)];
        let mut snapshot = Self {
            systems,
            countries,
            networks,
            ranges: None,
        };
        if let [Some(mut starts), Some(more)] = starts {
            starts.extend(more);
            starts.extend(snapshot.networks.v4_starts());
            let search = |address| snapshot.search(address);
            snapshot.ranges = Some(Ranges::new(starts, search));
        }
        Ok(snapshot)
    }

    /// What is known of an address. Nothing is allocated.
    pub fn lookup(&self, address: Address) -> NetworkInfo<'_> {
        self.info(self.resolve(address))
    }

    pub(crate) fn resolve(&self, address: Address) -> Resolved {
        self.ranged(address).unwrap_or_else(|| self.search(address))
    }

    /// What holds for an IPv4 address, unless there are too many ranges.
    pub(crate) fn ranged(&self, address: Address) -> Option<Resolved> {
        let ranges = self.ranges.as_ref().filter(|_| address.is_v4())?;
        ranges.find(address.words().1 as u32)
    }

    /// As the files say it, one by one.
    pub(crate) fn search(&self, address: Address) -> Resolved {
        Resolved {
            system: self
                .systems
                .as_ref()
                .and_then(|systems| Number::new(systems.find(address)?)),
            network: self.networks.find(address).and_then(Number::new),
            country: self
                .countries
                .as_ref()
                .and_then(|countries| countries.get(countries.find(address)?).copied()),
        }
    }

    pub(crate) fn info(&self, resolved: Resolved) -> NetworkInfo<'_> {
        let system = resolved
            .system
            .zip(self.systems.as_ref())
            .and_then(|(number, systems)| systems.get(number.get()));
        let mut info = NetworkInfo {
            asn: system.map(|system| system.number),
            as_name: system.map_or("", |system| &system.name),
            country: resolved.country,
            ..NetworkInfo::default()
        };
        if let Some(Network {
            name,
            site,
            role,
            tenant,
        }) = resolved
            .network
            .and_then(|number| self.networks.get(number.get()))
        {
            (info.name, info.site, info.role, info.tenant) = (name, site, role, tenant);
        }
        info
    }
}

/// None for a database that is not there; `None` where there are too many.
fn v4_starts<T>(database: &mut Option<Database<T>>) -> Option<Vec<u32>> {
    match database {
        Some(database) => database.v4_starts.take(),
        None => Some(Vec::new()),
    }
}

fn database<T: Content>(path: &Path, key: &str, faults: &mut Vec<Fault>) -> Option<Database<T>> {
    if path.as_os_str().is_empty() {
        return None;
    }
    Database::open(path)
        .map_err(|error| faults.push(Fault::new(key, format!("{} {error}", path.display()))))
        .ok()
}

fn networks(path: &Path, faults: &mut Vec<Fault>) -> Networks {
    if path.as_os_str().is_empty() {
        return Networks::default();
    }
    let mut fault = |message: String| {
        faults.push(Fault::new(
            "enrichment.networks",
            format!("{} {message}", path.display()),
        ));
    };
    let octets = match read(path) {
        Ok(octets) => octets,
        Err(message) => {
            fault(message);
            return Networks::default();
        }
    };
    Networks::parse(&octets).unwrap_or_else(|lines| {
        lines.iter().for_each(|line| fault(line.to_string()));
        Networks::default()
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;

    let mut octets = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_OCTETS + 1).read_to_end(&mut octets))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if octets.len() as u64 > MOST_OCTETS {
        return Err(format!("has more than {MOST_OCTETS} octets"));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn ranges_say_what_the_files_say(
            prefixes in proptest::collection::btree_set((0u32..64, 8u8..=32), 0..60),
            probes in proptest::collection::vec(any::<u32>(), 50),
        ) {
            // Prefixes crowd at the edges of /16s and of the whole space.
            let lines: std::collections::BTreeSet<String> = prefixes
                .iter()
                .map(|&(n, length)| {
                    let bits = (n << 26 | 0x0001_ffff).wrapping_add(n) | if n % 3 == 0 { 0xffff } else { 0 };
                    let prefix = ipnet::Ipv4Net::new_assert(bits.into(), length).trunc();
                    format!("{prefix},{prefix}\n")
                })
                .collect();
            let lines: String = lines.into_iter().collect();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("networks.csv");
            std::fs::write(&path, format!("prefix,name\n{lines}")).unwrap();
            let config = EnrichmentConfig { networks: path, ..EnrichmentConfig::default() };
            let snapshot = Snapshot::load(&config).unwrap();
            prop_assert!(snapshot.ranges.is_some());
            let edges = snapshot.networks.v4_starts().flat_map(|start| [start, start.wrapping_sub(1), start | 0xffff]);
            for bits in probes.into_iter().chain(edges).chain([0, u32::MAX]) {
                let address = Address::from_v4(bits.to_be_bytes());
                prop_assert_eq!(snapshot.resolve(address), snapshot.search(address));
            }
        }
    }
}
