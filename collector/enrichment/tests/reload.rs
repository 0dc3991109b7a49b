//! Reload, the cache over it, and what rows and findings get.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use support::{country, database, system};
use weir_attack_event::{AttackId, Findings, Origin, TopTalker};
use weir_enrichment::{
    Enricher, EnrichmentConfig, ExporterNames, FIELDS, InterfaceConfig, InterfaceName, Interfaces,
    Lookups, NameLimits, NameTable, RowEnricher, RowFields, annotate,
};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row,
};

const EXPORTER: Address = Address::from_v4([198, 51, 100, 1]);
const INSIDE: Address = Address::from_v4([192, 0, 2, 1]);
const OUTSIDE: Address = Address::from_v4([203, 0, 113, 9]);

fn configure(folder: &Path) -> EnrichmentConfig {
    let config = EnrichmentConfig {
        asn_database: folder.join("asn.mmdb"),
        country_database: folder.join("country.mmdb"),
        networks: folder.join("networks.csv"),
    };
    let systems = [
        ("192.0.2.0/24", system(64_496, "A")),
        ("203.0.113.0/25", system(64_497, "B")),
        ("203.0.113.128/25", system(64_498, "C")),
    ];
    let countries = [
        ("192.0.2.0/24", country("DE")),
        ("203.0.113.0/24", country("FR")),
    ];
    fs::write(
        &config.asn_database,
        database("GeoLite2-ASN", 24, true, &systems),
    )
    .unwrap();
    fs::write(
        &config.country_database,
        database("GeoLite2-Country", 24, true, &countries),
    )
    .unwrap();
    fs::write(
        &config.networks,
        "prefix,name,site,role,tenant\n192.0.2.0/24,web,fra1,servers,\"acme, inc\"\n10.0.0.0/8,lab,,,\n",
    )
    .unwrap();
    config
}

#[test]
fn a_reload_is_seen_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let enricher = Arc::new(Enricher::load(&config).unwrap());
    let mut lookups = Lookups::new(Arc::clone(&enricher));
    assert_eq!(lookups.lookup(INSIDE).name, "web");

    fs::write(
        &config.networks,
        "prefix,name\n192.0.2.0/33,bad\n192.0.2.0/24,good\n,\n",
    )
    .unwrap();
    let faults = enricher.reload(&config).err().unwrap();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("enrichment.networks: "), "{told:?}");
    assert!(
        told[0].contains("networks.csv line 2: `192.0.2.0/33`"),
        "{told:?}"
    );
    lookups.refresh();
    assert_eq!(lookups.lookup(INSIDE).name, "web");

    fs::write(
        &config.networks,
        "prefix,name\n192.0.2.0/24,new\n172.16.0.0/12,more\n",
    )
    .unwrap();
    let changes = enricher.reload(&config).unwrap();
    assert_eq!((changes.networks, changes.systems), (2, 3));
    assert_eq!((changes.networks_added, changes.networks_removed), (1, 1));
    assert_eq!(
        (changes.networks_changed, changes.asn_built),
        (1, Some(1_700_000_000))
    );
    assert_eq!(
        lookups.lookup(INSIDE).name,
        "web",
        "one batch sees one state"
    );
    lookups.refresh();
    let info = lookups.lookup(INSIDE);
    assert_eq!(
        (info.name, info.asn, info.as_name),
        ("new", Some(64_496), "A")
    );
    assert_eq!(info.country.unwrap().as_str(), "DE");
}

#[test]
fn the_cache_says_what_the_snapshot_says() {
    let folder = tempfile::tempdir().unwrap();
    let enricher = Arc::new(Enricher::load(&configure(folder.path())).unwrap());
    let (lookups, snapshot) = (Lookups::new(Arc::clone(&enricher)), enricher.snapshot());
    for round in 0..40_000u32 {
        let [_, b, c, d] = round.wrapping_mul(2_654_435_761).to_be_bytes();
        let address = Address::from_v4([
            [192, 203, 10][b as usize % 3],
            0,
            [2, 113][c as usize % 2],
            d,
        ]);
        assert_eq!(lookups.lookup(address), snapshot.lookup(address));
    }
    assert_eq!(
        lookups.lookup(Address::UNSPECIFIED),
        snapshot.lookup(Address::UNSPECIFIED)
    );
}

fn batch() -> FlowBatch {
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    batch.push(&Row {
        source_address: INSIDE,
        destination_address: OUTSIDE,
        input_interface: 7,
        output_interface: 8,
        ..Row::default()
    });
    batch.extra.destination_as[0] = 65_000;
    batch.datagrams.push(DatagramInfo {
        rows: 0..1,
        exporter: ExporterId(0),
        exporter_address: EXPORTER,
        domain: ObservationDomainId(7),
        protocol: ExportProtocol::Ipfix,
        sequence: 9,
        received_at: ReceivedAt::from_nanos(5),
        export_time: ExportTime::from_nanos(4),
        present: ColumnSet::NONE,
    });
    batch
}

fn names() -> NameTable {
    let transit = InterfaceConfig {
        name: "transit-a".to_owned(),
        ..InterfaceConfig::default()
    };
    let configured = ExporterNames {
        prefix: EXPORTER.host(),
        name: "edge-1".to_owned(),
        interfaces: Interfaces([(7, transit)].into()),
    };
    let mut names = NameTable::new(vec![configured], NameLimits::default());
    names.handle_interface(&InterfaceName {
        exporter: EXPORTER,
        index: 8,
        name: "xe-0/0/8",
        description: "",
    });
    names
}

#[test]
fn a_row_gets_what_is_known_and_keeps_what_its_exporter_said() {
    let folder = tempfile::tempdir().unwrap();
    let lookups = Lookups::new(Arc::new(Enricher::load(&configure(folder.path())).unwrap()));
    let (names, batch) = (names(), batch());
    let rows = RowEnricher::new(&lookups, &names).datagram(&batch.datagrams[0]);
    let fields = rows.row(&batch, 0);
    assert_eq!((fields.src_as, fields.dst_as), (64_496, 65_000));
    let json = serde_json::to_value(fields).unwrap();
    for (name, expected) in [
        ("src_country", "DE"),
        ("dst_country", "FR"),
        ("src_net_tenant", "acme, inc"),
        ("src_net_site", "fra1"),
        ("dst_net_name", ""),
        ("in_if_name", "transit-a"),
        ("out_if_name", "xe-0/0/8"),
        ("sampler_name", "edge-1"),
    ] {
        assert_eq!(json[name], expected, "{name}");
    }
    let line = fields.csv().to_string();
    assert_eq!(
        line,
        ",DE,FR,web,fra1,servers,\"acme, inc\",,,,,transit-a,xe-0/0/8,edge-1"
    );
}

#[test]
fn json_and_text_have_the_same_fields_in_the_same_order() {
    let json = serde_json::to_string(&RowFields::default()).unwrap();
    let expected: Vec<_> = FIELDS
        .iter()
        .map(|name| format!("\"{name}\":\"\""))
        .collect();
    assert_eq!(json, format!("{{{}}}", expected.join(",")));
    assert_eq!(RowFields::default().texts(), [""; FIELDS.len()]);
}

#[test]
fn enriching_a_row_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lookups = Lookups::new(Arc::new(Enricher::load(&configure(folder.path())).unwrap()));
    let (names, mut batch) = (names(), batch());
    let rows = RowEnricher::new(&lookups, &names).datagram(&batch.datagrams[0]);
    let info = allocation_counter::measure(|| {
        for last in 0..=255 {
            batch.source_address[0] = Address::from_v4([192, 0, 2, last]);
            assert_eq!(rows.row(&batch, 0).src_as, 64_496);
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn top_talkers_say_where_they_are_as_far_as_all_of_the_prefix_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let enricher = Enricher::load(&configure(folder.path())).unwrap();
    let talker = |prefix: &str| TopTalker {
        source_prefix: prefix.parse().unwrap(),
        bits_per_second: 1,
        packets_per_second: 1,
        share: 0.1,
        spoofed: None,
        origin: Origin::default(),
    };
    let mut findings = Findings {
        attack: AttackId("a".into()),
        top_talkers: vec![
            talker("192.0.2.7/32"),
            talker("203.0.113.0/24"),
            talker("198.51.100.0/24"),
        ],
        ports: Vec::new(),
        protocols: Vec::new(),
        source_count: 3,
        rows: 3,
        complete: true,
        evidence: Default::default(),
    };
    annotate(&mut findings, &enricher.snapshot());
    let origin = |place: usize| findings.top_talkers[place].origin.clone();
    assert_eq!(
        origin(0),
        Origin {
            asn: Some(64_496),
            as_name: Some("A".to_owned()),
            country: Some("DE".to_owned()),
            network: Some("web".to_owned()),
        }
    );
    let halves = origin(1);
    assert_eq!((halves.asn, halves.country.as_deref()), (None, Some("FR")));
    assert_eq!(origin(2), Origin::default());
}
