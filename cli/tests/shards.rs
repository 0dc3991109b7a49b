//! One shard and four see the same attacks: also one that no shard sees more than a quarter of.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use weir_datasets::PcapWriter;
use weir_flow_record::{Address, ExportTime, ObservationDomainId, Row, Timestamp};
use weir_netflow::encode::{Encoder, Format};

const EPOCH: i64 = 1_700_000_000_000_000_000;
const MILLISECOND: i64 = 1_000_000;
const EXPORTERS: u8 = 8;

/// Eight exporters that each carry an eighth of 120,000 packets per second to one IPv4 and one IPv6 host, of limits of
/// 100,000, from second 3 to second 9.
fn capture(path: &Path) {
    let mut pcap = PcapWriter::new(File::create(path).unwrap()).unwrap();
    let to = SocketAddr::from(([192, 0, 2, 250], 4739));
    let exporters: Vec<SocketAddr> = (1..=EXPORTERS)
        .map(|last| SocketAddr::from(([192, 0, 2, last], 50_000)))
        .collect();
    let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(1)).with_sampling_rate(10);
    let mut datagrams = Vec::new();
    for tick in 0..150 {
        let now = EPOCH + tick * 100 * MILLISECOND;
        for (index, from) in (0_i64..).zip(&exporters) {
            datagrams.clear();
            let export = ExportTime::from_nanos(now);
            if tick % 50 == 0 {
                encoder.encode_templates(export, &mut datagrams);
            }
            let attack = (30..90).contains(&tick);
            let rows: Vec<Row> = ["203.0.113.9", "2001:db8:a::9"]
                .iter()
                .map(|target| row(target, if attack { 150 } else { 10 }, now))
                .collect();
            encoder.encode_flows(export, &rows, &mut datagrams);
            let at = Timestamp::from_nanos(now + index * MILLISECOND);
            for datagram in &datagrams {
                pcap.write(at, *from, to, datagram).unwrap();
            }
        }
    }
}

fn row(target: &str, packets: u64, now: i64) -> Row {
    let target: IpAddr = target.parse().unwrap();
    let source = match target {
        IpAddr::V4(_) => "198.51.100.7",
        IpAddr::V6(_) => "2001:db8:b::7",
    };
    Row {
        source_address: Address::from(source.parse::<IpAddr>().unwrap()),
        destination_address: Address::from(target),
        source_port: 53,
        destination_port: 4444,
        protocol: 17,
        octets: packets * 900,
        packets,
        flow_start: now - 100 * MILLISECOND,
        flow_end: now,
        sampling_rate: 10,
        ..Row::default()
    }
}

fn replay(folder: &Path, shards: &str) -> Vec<Value> {
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["replay", "--shards", shards, "--config"])
        .arg(folder.join("weir.toml"))
        .arg(folder.join("exports.pcap"))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn nanos(event: &Value, field: &str) -> i64 {
    let time: jiff::Timestamp = event[field].as_str().unwrap().parse().unwrap();
    time.as_nanosecond() as i64
}

#[test]
fn one_shard_and_four_tell_the_same_attacks() {
    let folder = tempfile::tempdir().unwrap();
    capture(&folder.path().join("exports.pcap"));
    std::fs::write(
        folder.path().join("weir.toml"),
        "[[zone]]\nname = \"a\"\nprefixes = [\"203.0.113.0/24\", \"2001:db8:a::/48\"]\n",
    )
    .unwrap();
    let one = replay(folder.path(), "1");
    let starts = |events: &[Value]| -> Vec<Value> {
        let is_start = |event: &&Value| event["event"] == "attack-start";
        let mut starts: Vec<Value> = events.iter().filter(is_start).cloned().collect();
        starts.sort_by_key(|event| event["target"].to_string());
        starts
    };
    assert_eq!(starts(&one).len(), 2, "{one:?}");
    for shards in ["2", "4"] {
        let many = replay(folder.path(), shards);
        assert_eq!(many, replay(folder.path(), shards), "two runs differ");
        assert_eq!(one.len(), many.len());
        for (a, b) in starts(&one).iter().zip(&starts(&many)) {
            for field in ["id", "target", "zone", "start_time", "severity"] {
                assert_eq!(a[field], b[field], "{field} with {shards} shards");
            }
            assert_eq!(a["vectors"][0]["name"], b["vectors"][0]["name"]);
            let later = nanos(b, "detected_at") - nanos(a, "detected_at");
            assert!(later.abs() <= 200 * MILLISECOND, "{later} ns later");
        }
    }
}
