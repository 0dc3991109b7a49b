//! MaxMind databases: what they say of an address, and that no file does harm.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::net::IpAddr;
use std::path::PathBuf;

use support::{Value, country, database, metadata, system, text, write};
use weir_enrichment::fuzzing::fuzz_database;
use weir_enrichment::{EnrichmentConfig, Fault, Snapshot};
use weir_flow_record::Address;

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().unwrap())
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, octets: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, octets).unwrap();
        path
    }
}

fn load_systems(octets: &[u8]) -> Result<Snapshot, Vec<Fault>> {
    let files = Files::new();
    Snapshot::load(&EnrichmentConfig {
        asn_database: files.write("asn.mmdb", octets),
        ..EnrichmentConfig::default()
    })
}

fn fault_of(octets: &[u8]) -> String {
    let faults = load_systems(octets).err().unwrap();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].path, "enrichment.asn_database");
    faults[0].message.clone()
}

fn systems() -> Vec<(&'static str, Value)> {
    vec![
        ("192.0.2.0/24", system(64_496, "EXAMPLE-A")),
        ("192.0.2.128/25", system(64_497, "EXAMPLE-B")),
        ("10.0.0.0/8", system(4_200_000_000, &"long ".repeat(40))),
    ]
}

#[test]
fn all_record_sizes_and_both_families_are_read() {
    for bits in [24, 28, 32] {
        for v6 in [false, true] {
            let mut networks = systems();
            if v6 {
                networks.push(("2001:db8::/32", system(64_498, "EXAMPLE-6")));
            }
            let snapshot = load_systems(&database("GeoLite2-ASN", bits, v6, &networks)).unwrap();
            let of = |text: &str| {
                let info = snapshot.lookup(address(text));
                (info.asn, info.as_name)
            };
            assert_eq!(of("192.0.2.1"), (Some(64_496), "EXAMPLE-A"));
            assert_eq!(of("192.0.2.200"), (Some(64_497), "EXAMPLE-B"));
            assert_eq!(of("10.255.0.1").0, Some(4_200_000_000));
            assert_eq!(of("192.0.3.1"), (None, ""));
            assert_eq!(of("2001:db8::1").0, v6.then_some(64_498));
            assert_eq!(of("2001:db9::1").0, None);
        }
    }
}

#[test]
fn countries_are_read_by_maxminds_layout_and_by_ipinfos() {
    let files = Files::new();
    let ours = database(
        "GeoLite2-Country",
        24,
        true,
        &[("192.0.2.0/24", country("DE"))],
    );
    let flat = Value::Map(vec![
        ("asn", text("AS64500")),
        ("as_name", text("Example")),
        ("country", text("France")),
        ("country_code", text("FR")),
    ]);
    let flat = database(
        "ipinfo generic_lite_free.mmdb",
        32,
        true,
        &[("192.0.2.0/24", flat)],
    );
    let maxmind = Snapshot::load(&EnrichmentConfig {
        country_database: files.write("country.mmdb", &ours),
        ..EnrichmentConfig::default()
    });
    let info = maxmind.unwrap();
    let info = info.lookup(address("192.0.2.1"));
    assert_eq!(info.country.unwrap().as_str(), "DE");
    let path = files.write("lite.mmdb", &flat);
    let both = Snapshot::load(&EnrichmentConfig {
        asn_database: path.clone(),
        country_database: path,
        ..EnrichmentConfig::default()
    })
    .unwrap();
    let info = both.lookup(address("192.0.2.1"));
    assert_eq!((info.asn, info.as_name), (Some(64_500), "Example"));
    assert_eq!(info.country.unwrap().as_str(), "FR");
}

#[test]
fn a_database_of_something_else_is_told() {
    let octets = database(
        "GeoLite2-Country",
        24,
        true,
        &[("192.0.2.0/24", country("DE"))],
    );
    let fault = fault_of(&octets);
    assert!(
        fault.ends_with("is a database of type GeoLite2-Country, which has no AS numbers"),
        "{fault}"
    );
    let wrong = Value::Map(vec![("autonomous_system_number", text("many"))]);
    let fault = fault_of(&database(
        "GeoLite2-ASN",
        24,
        false,
        &[("10.0.0.0/8", wrong)],
    ));
    assert!(fault.contains("cannot be used"), "{fault}");
}

#[test]
fn a_missing_file_and_one_of_another_kind_are_told() {
    let faults = Snapshot::load(&EnrichmentConfig {
        asn_database: "/nonexistent/asn.mmdb".into(),
        country_database: "/".into(),
        networks: "/nonexistent/networks.csv".into(),
    });
    let faults = faults.err().unwrap();
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "enrichment.asn_database",
            "enrichment.country_database",
            "enrichment.networks"
        ]
    );
    assert!(
        faults
            .iter()
            .all(|fault| fault.message.contains("cannot be read")),
        "{faults:?}"
    );
    assert!(fault_of(b"prefix,name\n").contains("is no MaxMind database"));
}

#[test]
fn a_file_that_was_cut_short_is_told_wherever_it_was_cut() {
    let whole = database("GeoLite2-ASN", 28, true, &systems());
    for length in 0..whole.len() {
        // The last octets are the metadata's empty list of languages.
        assert!(load_from(&whole[..length]).is_err(), "{length}");
    }
    // From the front, so that the metadata do not fit the file.
    for start in 1..whole.len() {
        let _ = fuzz_database(&whole[start..]);
    }
}

fn load_from(octets: &[u8]) -> Result<(), ()> {
    (fuzz_database(octets) > 0).then_some(()).ok_or(())
}

#[test]
fn a_tree_that_leads_astray_is_told() {
    let tail = |nodes| metadata("GeoLite2-ASN", 24, true, nodes);
    let of = |tree: &[u8], data: &[u8], nodes: u32| {
        let mut octets = tree.to_vec();
        octets.extend([0; 16]);
        octets.extend(data);
        octets.extend(tail(nodes));
        octets
    };
    // Into the separator, and beyond the data.
    assert!(fault_of(&of(&[0, 0, 2, 0, 0, 1], &[], 1)).contains("broken search tree"));
    assert!(fault_of(&of(&[0, 0, 200, 0, 0, 1], &[0xe0], 1)).contains("broken search tree"));
    // More nodes than the file has.
    assert!(fault_of(&of(&[0, 0, 1, 0, 0, 1], &[], 1 << 30)).contains("broken metadata"));
    // In a circle: it ends, and finds nothing.
    let circle = load_systems(&of(&[0; 6], &[], 1)).unwrap();
    assert_eq!(circle.lookup(address("192.0.2.1")).asn, None);
}

#[test]
fn values_in_circles_and_bombs_are_told() {
    let of = |data: &[u8]| {
        let mut octets = vec![0, 0, 17, 0, 0, 1];
        octets.extend([0; 16]);
        octets.extend(data);
        octets.extend(metadata("GeoLite2-ASN", 24, false, 1));
        octets
    };
    let written = |value: &Value| {
        let mut data = Vec::new();
        write(&mut data, value);
        data
    };
    let circle = written(&Value::Map(vec![("a", Value::Pointer(0))]));
    assert!(fault_of(&of(&circle)).contains("broken record at octet 0"));
    // Each map holds the one behind it twice.
    let mut bomb = Vec::new();
    for level in 1..=30u32 {
        let next = Value::Pointer(level * 15);
        bomb.extend(written(&Value::Map(vec![("a", next.clone()), ("b", next)])));
    }
    bomb.extend(written(&Value::Number(1)));
    assert!(fault_of(&of(&bomb)).contains("broken record"));
    // Nesting without end, a key that is no text, a type that is none, a list longer than the file.
    for data in [
        vec![0xe1; 5_000],
        vec![0xe1, 0xc1, 1, 0xc1, 1],
        vec![0x00, 0xff],
        vec![0x1f, 4, 255, 255, 255],
    ] {
        assert!(fault_of(&of(&data)).contains("broken record"));
    }
}

#[test]
fn damaged_files_never_panic() {
    let whole = [
        database("GeoLite2-ASN", 24, false, &systems()),
        database(
            "GeoLite2-Country",
            28,
            true,
            &[("192.0.2.0/24", country("DE"))],
        ),
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let mut good = 0;
    for round in 0..20_000 {
        let mut octets = whole[round % 2].clone();
        for _ in 0..=random(3) {
            let place = random(octets.len());
            octets[place] = [0, 1, 0xff, 0x20, 0x38, 0xe1, random(256) as u8][random(7)];
        }
        good += usize::from(fuzz_database(&octets) > 0);
    }
    assert!(good > 1_000 && good < 20_000, "{good}");
}
