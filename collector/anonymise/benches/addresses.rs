//! What an address costs: `cargo bench -p weir-anonymise`.

use std::hint::black_box;
use std::os::unix::fs::PermissionsExt;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_anonymise::{AnonymiseSettings, Anonymiser, Method};
use weir_flow_record::Address;

/// Addresses of a run: fewer than the cache has places, or all different.
const FEW: u32 = 10_000;

fn addresses(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the key");
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, [7; 32]).expect("a key");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&key_file, mode).expect("a mode");
    let settings = AnonymiseSettings {
        method: Method::CryptoPan { key_file },
        keep: Vec::new(),
    };
    let mut anonymiser = Anonymiser::new(&settings).expect("a key of 32 octets");
    let mut group = criterion.benchmark_group("crypto-pan");
    group.throughput(Throughput::Elements(1));
    let mut next = 0_u32;
    let mut number = |among: u32| {
        next = next.wrapping_add(1);
        (next % among).wrapping_mul(2_654_435_761)
    };
    group.bench_function("ipv4-known", |bencher| {
        bencher.iter(|| {
            let address = Address::from_v4(number(FEW).to_be_bytes());
            black_box(anonymiser.address(address))
        });
    });
    group.bench_function("ipv4-new", |bencher| {
        bencher.iter(|| {
            let address = Address::from_v4(number(u32::MAX).to_be_bytes());
            black_box(anonymiser.address(address))
        });
    });
    group.bench_function("ipv6-new", |bencher| {
        bencher.iter(|| {
            let low = u128::from(number(u32::MAX));
            let address = Address::from_octets((0x2001_0db8 << 96 | low).to_be_bytes());
            black_box(anonymiser.address(address))
        });
    });
    group.finish();
}

criterion_group!(benches, addresses);
criterion_main!(benches);
