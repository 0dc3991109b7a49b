//! Memory of many targets.

mod support;

use support::*;
use weir_flow_record::Timestamp;

/// 100,000 targets take less than 1 GB: measured with a tenth of them, of which as large a share is among the busiest.
#[test]
fn a_hundred_thousand_targets_fit_a_gigabyte() {
    const HOSTS: usize = 10_000;
    let learn = || {
        let mut baselines =
            weir_baseline::Baselines::new(settings(weir_baseline::BaselineConfig {
                // 5,000 in each direction of 100,000 targets are a tenth.
                busiest_hosts: HOSTS / 10,
                max_targets: HOSTS,
                ..weir_baseline::BaselineConfig::default()
            }));
        // Two hours of noisy minutes: sketches are as full as they get, and histograms are there.
        for at in 0..125_i64 {
            let hosts = (0..HOSTS).map(|host| {
                let noise = noise(at * 7919 + host as i64) * 3.0;
                let bits = 1e6 * (1.0 + noise) * (1.0 + (host % 50) as f64);
                (format!("10.0.{}.{}/32", host / 256, host % 256), bits)
            });
            baselines.handle_minute(&minute(MONDAY + at * 60, hosts), &|_| true);
            for _ in 0..100 {
                baselines.handle_timeout(Timestamp::from_seconds(MONDAY + at * 60 + 70));
                while baselines.poll_persist().is_some() {}
            }
        }
        assert_eq!(baselines.len(), HOSTS);
        baselines
    };
    let mut octets = 0;
    let info = allocation_counter::measure(|| {
        octets = {
            let baselines = learn();
            let told = baselines.octets();
            std::mem::forget(baselines);
            told
        }
    });
    let held = info.bytes_current as usize;
    println!(
        "{HOSTS} targets: {held} octets held, {octets} told; {} MB for 100,000",
        held * 10 / 1_000_000
    );
    assert!(held * (100_000 / HOSTS) < 1_000_000_000, "{held}");
    assert!(
        (0.7..1.3).contains(&(octets as f64 / held as f64)),
        "{octets} {held}"
    );
}
