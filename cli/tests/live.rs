//! How long from the first packet of an attack to the accepted request: printed, not judged, since machines differ.

mod support;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::{Daemon, Exporter, Lab, Random, eventually};
use weir_flow_record::Address;

const ONSETS: u8 = 20;

fn dots(lab: &Lab, arguments: &[&str]) -> Output {
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.arg("dots").args(arguments).arg("--config");
    weir.arg(&lab.config).output().expect("weir runs")
}

#[test]
fn an_operator_tells_how_well_a_mitigation_works() {
    let lab = Lab::new();
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    let target = Address::from_v4([203, 0, 113, 77]);
    let active = || !lab.ledger.lock().unwrap().active.is_empty();
    assert!(eventually(Duration::from_secs(20), || {
        exporter.send_packets(&[target], 30_000);
        active()
    }));
    let mut mid = None;
    assert!(eventually(Duration::from_secs(10), || {
        let status = dots(&lab, &["status", "--json"]).stdout;
        let overview: serde_json::Value = serde_json::from_slice(&status).unwrap_or_default();
        mid = overview["attacks"][0]["mitigations"][0]["mid"].as_u64();
        mid.is_some()
    }));
    let mid = mid.unwrap_or_default().to_string();
    let told = dots(
        &lab,
        &["efficacy", &mid, "under-attack", "--arriving", "200M"],
    );
    assert!(told.status.success(), "{told:?}");
    let unknown = dots(&lab, &["efficacy", "4242", "mitigated"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no mitigation has mid 4242"));
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn time_from_onset_to_accepted_request() {
    let lab = Lab::new();
    let mut random = Random(7);
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    let mut delays = Vec::new();
    for onset in 0..ONSETS {
        // A random phase within the second.
        std::thread::sleep(Duration::from_millis(200 + random.below(1000)));
        let target = Address::from_v4([203, 0, 113, 50 + onset]);
        let began = Instant::now();
        let asked = |lab: &Lab| lab.ledger.lock().unwrap().began.len();
        let before = asked(&lab);
        while asked(&lab) == before {
            std::thread::sleep(Duration::from_millis(100));
            // 1.5 × the limit of 100,000 packets per second, told each 100 ms.
            exporter.send_packets(&[target], 15_000);
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "the attack on {target} is not seen"
            );
        }
        let (at, prefixes) = lab.ledger.lock().unwrap().began[before].clone();
        assert_eq!(prefixes, [target.host()]);
        delays.push(at.duration_since(began));
    }
    delays.sort();
    let at = |percent: usize| delays[(delays.len() * percent).div_ceil(100) - 1];
    eprintln!(
        "onset to accepted PUT, {ONSETS} onsets at 1.5 × the limit: median {:.2} s, p95 {:.2} s, worst {:.2} s",
        at(50).as_secs_f64(),
        at(95).as_secs_f64(),
        at(100).as_secs_f64()
    );
    assert!(
        eventually(Duration::from_secs(30), || lab
            .ledger
            .lock()
            .unwrap()
            .active
            .is_empty()),
        "attacks do not end"
    );
    assert_eq!(daemon.terminate(), Some(0));
}
