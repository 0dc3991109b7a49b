//! Baselines by the command line: history teaches a replay, others' baselines are taken in and survive kill -9.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{Daemon, Lab};
use weir_baseline::{
    Aspect, BaselineConfig, BaselineSettings, BaselineTarget, BaselineZone, Baselines, Normal,
    Subject, from_archive,
};
use weir_datasets::PcapWriter;
use weir_flow_record::{
    Address, Direction, ExportTime, ObservationDomainId, Row, TCP_SYN, Timestamp, ZoneId,
};
use weir_netflow::encode::{Encoder, Format};

const EPOCH: i64 = 1_767_571_200;
const SECOND: i64 = 1_000_000_000;

/// Minutes of 1,000 packets of 500 octets a second to a web server: 4 Mbit/s.
fn capture(path: &Path, from: i64, minutes: i64) {
    let mut pcap = PcapWriter::new(File::create(path).unwrap()).unwrap();
    let to = SocketAddr::from(([192, 0, 2, 250], 4739));
    let exporter = SocketAddr::from(([192, 0, 2, 1], 50_000));
    let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(1)).with_sampling_rate(10);
    let mut datagrams = Vec::new();
    for second in from..from + minutes * 60 {
        let now = second * SECOND;
        let export = ExportTime::from_nanos(now);
        datagrams.clear();
        if (second - from) % 60 == 0 {
            encoder.encode_templates(export, &mut datagrams);
        }
        let row = Row {
            source_address: Address::from("198.51.100.7".parse::<IpAddr>().unwrap()),
            destination_address: Address::from("203.0.113.9".parse::<IpAddr>().unwrap()),
            source_port: 50_000,
            destination_port: 443,
            protocol: 6,
            tcp_flags: TCP_SYN,
            octets: 50_000,
            packets: 100,
            flow_start: now - SECOND / 2,
            flow_end: now - SECOND / 4,
            sampling_rate: 10,
            ..Row::default()
        };
        encoder.encode_flows(export, &[row], &mut datagrams);
        for datagram in &datagrams {
            let at = Timestamp::from_nanos(now);
            pcap.write(at, exporter, to, datagram).unwrap();
        }
    }
}

fn weir(config: &Path, command: &[&str], rest: &[&str]) -> Output {
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.args(command).arg("--config").arg(config).args(rest);
    weir.output().unwrap()
}

fn told(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a file of baselines says of the zone and a part of its traffic.
fn normal(file: &Path, subject: Subject, aspect: Aspect) -> Normal {
    let config = BaselineConfig::default();
    let zone = BaselineZone {
        name: "web".into(),
        prefixes: vec!["203.0.113.0/24".parse().unwrap()],
    };
    let mut baselines = Baselines::new(BaselineSettings::new(config, vec![zone], Vec::new()));
    for row in from_archive(&fs::read(file).unwrap()).unwrap() {
        baselines.restore(&row.key, &row.value.unwrap()).unwrap();
    }
    let target = BaselineTarget {
        subject,
        direction: Direction::In,
    };
    baselines.overall(&target, aspect).unwrap()
}

#[test]
fn history_teaches_a_replay_and_two_replays_learn_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = path("weir.toml");
    let text = "state_dir = \"state\"\n[[zone]]\nname = \"web\"\nprefixes = [\"203.0.113.0/24\"]\n";
    fs::write(&config, text).unwrap();
    let (first, second) = (path("first.pcap"), path("second.pcap"));
    capture(&first, EPOCH, 40);
    capture(&second, EPOCH + 86_400, 40);
    let replay = |pcap: &Path, file: &Path| {
        let events = path("events.ndjson");
        let names = [&events, file, pcap].map(|path| path.to_str().unwrap());
        let rest = ["--events", names[0], "--baselines", names[1], names[2]];
        told(&weir(&config, &["replay"], &rest));
    };
    let (a, b) = (path("a.baselines"), path("b.baselines"));
    replay(&first, &a);
    replay(&first, &b);
    assert!(
        fs::read(&a).unwrap() == fs::read(&b).unwrap(),
        "two replays differ"
    );
    let zone = Subject::Zone(ZoneId(0));
    let day = normal(&a, zone, Aspect::Total);
    assert!((day.bits.mid / 4e6 - 1.0).abs() < 0.05, "{day:?}");
    assert!((2300..=2400).contains(&day.seconds_learned), "{day:?}");
    let host = normal(
        &a,
        Subject::Prefix("203.0.113.9/32".parse().unwrap()),
        Aspect::Total,
    );
    assert!((host.packets.mid / 1e3 - 1.0).abs() < 0.05, "{host:?}");
    let https = Aspect::Port {
        protocol: 6,
        port: 443,
    };
    let https = normal(&a, zone, https);
    assert!(
        (https.connections.unwrap().mid / 10.0 - 1.0).abs() < 0.05,
        "{https:?}"
    );
    replay(&second, &a);
    let both = normal(&a, zone, Aspect::Total);
    assert!(
        both.seconds_learned >= 2 * day.seconds_learned - 10,
        "{both:?}"
    );
}

/// What another one says is normal: 5 Gbit/s.
fn foreign() -> Value {
    json!({"ietf-dots-telemetry:telemetry-setup": {"telemetry": [{"baseline": [
        {"id": 1, "target-prefix": ["203.0.113.0/24", "2001:db8:a::/48"], "total-traffic-normal": [
            {"unit": "megabit-ps", "low-percentile-g": "1000", "mid-percentile-g": "5000",
             "high-percentile-g": "8000", "peak-g": "9000"}
        ]},
        {"id": 2, "target-prefix": ["198.51.100.0/24"], "total-traffic-normal": [
            {"unit": "megabit-ps", "mid-percentile-g": "1"}
        ]},
    ]}]}})
}

#[test]
fn an_imported_baseline_survives_kill_9_and_is_exported_again() {
    let lab = Lab::new();
    let file = lab.folder.path().join("foreign.json");
    fs::write(&file, foreign().to_string()).unwrap();
    let name = file.to_str().unwrap();
    let daemon = Daemon::start(&lab.config);
    let imported = weir(&lab.config, &["baseline", "import"], &[name]);
    let refused = String::from_utf8_lossy(&imported.stderr).into_owned();
    assert!(
        refused.contains("198.51.100.0/24 is in no zone"),
        "{refused}"
    );
    assert!(told(&imported).contains("imported: 203.0.113.0/24, 2001:db8:a::/48"));
    let shown = |rest: &[&str]| {
        let text = told(&weir(&lab.config, &["baseline", "show"], rest));
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let list = shown(&["--json"]);
    assert_eq!(
        (&list[0]["name"], &list[0]["kind"]),
        (&json!("lab"), &json!("zone"))
    );
    // It is written within a moment, and read again from the file when nobody runs.
    std::thread::sleep(std::time::Duration::from_secs(1));
    daemon.kill();
    let target = shown(&["lab", "--json"]);
    assert_eq!(target["total"]["bits"]["mid"], 5e9);
    assert_eq!(target["hours"].as_array().unwrap().len(), 168);
    let text = told(&weir(&lab.config, &["baseline", "show"], &["lab"]));
    assert!(text.contains("100 % of it imported"), "{text}");
    let exported = told(&weir(&lab.config, &["baseline", "export"], &[]));
    let exported: Value = serde_json::from_str(&exported).unwrap();
    let setup = &exported["ietf-dots-telemetry:telemetry-setup"]["telemetry"][0];
    let traffic = &setup["baseline"][0]["total-traffic-normal"][0];
    assert_eq!(traffic["mid-percentile-g"], "5000");
    assert_eq!(traffic["unit"], "megabit-ps");
}
