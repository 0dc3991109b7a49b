//! Looking addresses up: in the databases and the table of networks, with and without the cache, and rows whole.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot go on may panic"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{Value, country, database, system};
use weir_enrichment::{Enricher, EnrichmentConfig, Lookups, NameTable, RowEnricher};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row,
};

/// About as many as GeoLite2-ASN has for IPv4.
const PREFIXES: u32 = 400_000;
const NETWORKS: u32 = 50_000;
const ROWS: usize = 1 << 20;

/// A mixed number for each `n`.
fn mixed(n: u32) -> u32 {
    let n = (n ^ n >> 16).wrapping_mul(0x7feb_352d);
    let n = (n ^ n >> 15).wrapping_mul(0x846c_a68b);
    n ^ n >> 16
}

fn prefix(n: u32, length: u32) -> String {
    let bits = mixed(n) & (u32::MAX << (32 - length));
    format!("{}/{length}", std::net::Ipv4Addr::from_bits(bits))
}

/// As many for IPv6.
fn prefix6(n: u32) -> String {
    format!(
        "{}/{}",
        std::net::Ipv6Addr::from_bits(0x2a00 << 112 | u128::from(mixed(n)) << 80),
        48
    )
}

fn enricher(folder: &std::path::Path) -> Enricher {
    let config = EnrichmentConfig {
        asn_database: folder.join("asn.mmdb"),
        country_database: folder.join("country.mmdb"),
        networks: folder.join("networks.csv"),
    };
    let v4 = (0..PREFIXES).map(|n| prefix(n, 14 + n % 11));
    let prefixes: Vec<String> = v4.chain((0..PREFIXES).map(prefix6)).collect();
    let of = |value: fn(u32) -> Value| -> Vec<(&str, Value)> {
        let values = (0..2 * PREFIXES).map(value);
        prefixes.iter().map(String::as_str).zip(values).collect()
    };
    let systems = of(|n| system(1 + n % 80_000, "EXAMPLE"));
    let countries = of(|n| country(["DE", "FR", "US"][n as usize % 3]));
    std::fs::write(
        &config.asn_database,
        database("GeoLite2-ASN", 28, true, &systems),
    )
    .unwrap();
    std::fs::write(
        &config.country_database,
        database("GeoLite2-Country", 32, true, &countries),
    )
    .unwrap();
    let mut lines: Vec<String> = (0..NETWORKS)
        .map(|n| prefix(n + 1_000_000, 20 + n % 9))
        .collect();
    lines.sort();
    lines.dedup();
    let lines: String = lines
        .iter()
        .map(|prefix| format!("{prefix},n,s,r,t\n"))
        .collect();
    std::fs::write(
        &config.networks,
        format!("prefix,name,site,role,tenant\n{lines}"),
    )
    .unwrap();
    let begun = std::time::Instant::now();
    let enricher = Enricher::load(&config).unwrap();
    println!(
        "loaded {PREFIXES} prefixes twice and {NETWORKS} networks in {:?}",
        begun.elapsed()
    );
    enricher
}

/// Addresses of which half come from 1,000 and the others from `many`.
fn addresses(many: u32, v6: bool) -> Vec<Address> {
    (0..ROWS as u32)
        .map(|n| {
            let known = mixed(n ^ 0x5555);
            let of = if n % 2 == 0 {
                known % 1_000
            } else {
                1_000 + known % many
            };
            if v6 {
                let bits = 0x2a00 << 112 | u128::from(mixed(of)) << 80 | 1;
                Address::from_octets(bits.to_be_bytes())
            } else {
                Address::from_v4(mixed(of + 7).to_be_bytes())
            }
        })
        .collect()
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let enricher = Arc::new(enricher(folder.path()));
    let (snapshot, lookups) = (enricher.snapshot(), Lookups::new(Arc::clone(&enricher)));
    let mut group = criterion.benchmark_group("lookup");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, many, v6) in [
        ("v4-3k-sources", 2_000, false),
        ("v4-1M-sources", 1_000_000, false),
        ("v6-3k-sources", 2_000, true),
        ("v6-1M-sources", 1_000_000, true),
    ] {
        let addresses = addresses(many, v6);
        group.bench_function(format!("{name}/snapshot"), |bencher| {
            bencher.iter(|| {
                for address in &addresses {
                    black_box(snapshot.lookup(*address));
                }
            });
        });
        group.bench_function(format!("{name}/cache"), |bencher| {
            bencher.iter(|| {
                for address in &addresses {
                    black_box(lookups.lookup(*address));
                }
            });
        });
    }
    let (names, batch) = (NameTable::default(), batch(&addresses(100_000, false)));
    group.bench_function("rows-100k-sources-one-target", |bencher| {
        let rows = RowEnricher::new(&lookups, &names).datagram(&batch.datagrams[0]);
        bencher.iter(|| {
            for row in 0..ROWS {
                black_box(rows.row(&batch, row));
            }
        });
    });
    group.finish();
}

fn batch(addresses: &[Address]) -> FlowBatch {
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    for address in addresses {
        batch.push(&Row {
            source_address: *address,
            destination_address: Address::from_v4([203, 0, 113, 9]),
            input_interface: 7,
            output_interface: 8,
            ..Row::default()
        });
    }
    batch.datagrams.push(DatagramInfo {
        rows: 0..ROWS as u32,
        exporter: ExporterId(0),
        exporter_address: Address::from_v4([198, 51, 100, 1]),
        domain: ObservationDomainId(7),
        protocol: ExportProtocol::Ipfix,
        sequence: 9,
        received_at: ReceivedAt::from_nanos(5),
        export_time: ExportTime::from_nanos(4),
        present: ColumnSet::NONE,
    });
    batch
}

criterion_group!(benches, bench);
criterion_main!(benches);
