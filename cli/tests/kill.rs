//! `kill -9` at 20 random points: what the daemon knew, the next one knows; no attack gets two mitigations, none is orphaned.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use support::{Daemon, Exporter, Lab, Random, eventually};
use weir_flow_record::Address;

const ROUNDS: u8 = 20;

#[test]
fn state_survives_a_kill_at_any_point() {
    let lab = Lab::new();
    let mut random = Random(20261120);
    let targets = Arc::new(Mutex::new(Vec::<Address>::new()));
    let stop = Arc::new(AtomicBool::new(false));

    // The templates are sent once, to the first daemon.
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    std::thread::sleep(Duration::from_millis(500));
    daemon.kill();

    let traffic = std::thread::spawn({
        let (targets, stop) = (Arc::clone(&targets), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                let targets = targets.lock().unwrap().clone();
                exporter.send_packets(&targets, 30_000);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    for round in 0..ROUNDS {
        let daemon = Daemon::start(&lab.config);
        targets
            .lock()
            .unwrap()
            .push(Address::from_v4([203, 0, 113, 10 + round]));
        // Detection takes about half a second here, the request a few milliseconds more: most kills come close to it.
        std::thread::sleep(Duration::from_millis(250 + random.below(650)));
        daemon.kill();
        let ledger = lab.ledger.lock().unwrap();
        assert_eq!(ledger.doubles, Vec::<String>::new(), "round {round}");
    }

    // The last daemon holds one mitigation for each attack.
    let daemon = Daemon::start(&lab.config);
    let all: Vec<IpNet> = targets
        .lock()
        .unwrap()
        .iter()
        .map(|target| target.host())
        .collect();
    let held = || -> Vec<IpNet> {
        let mut held: Vec<IpNet> = lab
            .ledger
            .lock()
            .unwrap()
            .active
            .values()
            .flatten()
            .copied()
            .collect();
        held.sort();
        held
    };
    assert!(
        eventually(Duration::from_secs(15), || held() == all),
        "held {:?} of {all:?}",
        held()
    );
    assert_eq!(lab.ledger.lock().unwrap().doubles, Vec::<String>::new());
    let asked = lab.ledger.lock().unwrap().began.len();

    // When the attacks are over, nothing is left.
    stop.store(true, Ordering::Relaxed);
    traffic.join().unwrap();
    assert!(
        eventually(Duration::from_secs(20), || held().is_empty()),
        "orphans: {:?}",
        held()
    );
    assert_eq!(daemon.terminate(), Some(0));
    eprintln!(
        "{ROUNDS} kills, {} attacks, {asked} mitigations asked for",
        all.len()
    );
}
