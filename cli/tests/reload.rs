//! SIGHUP: a good configuration is taken, a bad one refused, and an attack goes on under its mitigation either way.

mod support;

use std::time::{Duration, Instant};

use support::{Daemon, Exporter, Lab, eventually};
use weir_flow_record::Address;

#[test]
fn an_attack_survives_a_reload() {
    let lab = Lab::new();
    let good = std::fs::read_to_string(&lab.config).unwrap();
    let mut exporter = Exporter::new(lab.collector);
    let mut daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    let target = Address::from_v4([203, 0, 113, 99]);
    let asked = || lab.ledger.lock().unwrap().began.len();
    let mut attack_for = |time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            exporter.send_packets(&[target], 20_000);
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    attack_for(Duration::from_secs(3));
    assert_eq!(asked(), 1);

    std::fs::write(&lab.config, "[collector]\nshards = \"many\"\n").unwrap();
    daemon.reload();
    attack_for(Duration::from_secs(1));
    assert!(daemon.is_running());

    // No mistake that a check finds: another program has the port.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("listen = \"{}\"", taken.local_addr().unwrap());
    let unusable = good.replace("listen = \"127.0.0.1:0\"", &elsewhere);
    assert_ne!(unusable, good);
    std::fs::write(&lab.config, unusable).unwrap();
    daemon.reload();
    attack_for(Duration::from_secs(3));
    assert!(daemon.is_running());

    std::fs::write(
        &lab.config,
        good.replace("clear_for = \"3s\"", "clear_for = \"2s\""),
    )
    .unwrap();
    daemon.reload();
    attack_for(Duration::from_secs(3));
    assert!(daemon.is_running());
    assert_eq!(asked(), 1, "the attack is known, and so is its mitigation");
    assert_eq!(lab.ledger.lock().unwrap().active.len(), 1);

    assert!(eventually(Duration::from_secs(15), || lab
        .ledger
        .lock()
        .unwrap()
        .active
        .is_empty()));
    assert_eq!(daemon.terminate(), Some(0));
}
