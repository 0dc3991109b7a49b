//! Flow records on disk: the daemon's Parquet files, and replays of such.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{Daemon, Exporter, Lab, eventually};
use weir_flow_format::records;
use weir_flow_record::Address;
use weir_flow_store::FlowReader;

/// Packets of each stored record.
fn stored(folder: &Path) -> Vec<u64> {
    let mut packets = Vec::new();
    let read = FlowReader::open(&[folder.to_owned()]);
    for batch in read.unwrap() {
        packets.extend(records(&batch.unwrap()).map(|record| record.packets));
    }
    packets
}

#[test]
fn the_daemon_stores_what_it_receives() {
    let lab = Lab::new();
    let mut config = std::fs::read_to_string(&lab.config).unwrap();
    config.push_str("[store]\nparquet_dir = \"store\"\nparquet_interval = \"1s\"\n");
    std::fs::write(&lab.config, config).unwrap();
    let store = lab.folder.path().join("store");
    let mut exporter = Exporter::new(lab.collector);
    let daemon = Daemon::start(&lab.config);
    exporter.send_templates();
    let target = Address::from_v4([203, 0, 113, 50]);
    (1..=40).for_each(|packets| exporter.send_packets(&[target], packets));
    assert!(
        eventually(Duration::from_secs(10), || store.is_dir()
            && stored(&store).len() >= 40),
        "no file comes while the daemon runs"
    );
    // What waits at the end is written, too.
    (41..=50).for_each(|packets| exporter.send_packets(&[target], packets));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.terminate(), Some(0));
    let mut packets = stored(&store);
    packets.sort_unstable();
    assert_eq!(packets, (1..=50).collect::<Vec<u64>>());
}

/// Where the project's shared captures are, if they are.
fn captures() -> Option<PathBuf> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("data/derived/exports");
    folder.is_dir().then_some(folder)
}

fn weir(arguments: &[&str], paths: &[&Path]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let status = command.args(arguments).args(paths).status();
    assert!(status.unwrap().success(), "{arguments:?}");
}

const CONFIG: &str = r#"state_dir = "state"
[[zone]]
name = "lab"
prefixes = ["192.168.50.0/24", "10.10.10.0/24"]
[[threshold]]
scope = "host"
direction = "in"
vector = "total"
packets_per_second = "500"
"#;

#[test]
fn a_replay_of_stored_flows_gives_the_events_of_the_capture() {
    let Some(captures) = captures() else {
        println!("skipped: no captures (set WEIR_SHARED to their folder)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("weir.toml"), CONFIG).unwrap();
    for name in [
        "softflowd_v9_CIC-DDoS-2019-SynFlood.pcap.pcap",
        "softflowd_v5_pkt.TCP.synflood.spoofed.pcap.pcap",
    ] {
        let capture = captures.join(name);
        weir(
            &["decode", "--format", "parquet", "-o"],
            &[&path("flows.parquet"), &capture],
        );
        for (events, source) in [("first", &capture), ("second", &path("flows.parquet"))] {
            let arguments = ["replay", "--config"];
            let paths = [
                &path("weir.toml"),
                Path::new("--events"),
                &path(events),
                source,
            ];
            weir(&arguments, &paths);
        }
        let first = std::fs::read_to_string(path("first")).unwrap();
        assert!(first.contains("attack-start"), "{name}");
        assert_eq!(first, std::fs::read_to_string(path("second")).unwrap());
    }
}
