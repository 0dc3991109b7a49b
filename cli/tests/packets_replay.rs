//! `weir replay` of packets: what a capture holds is found out, and a flood in packets is an attack like one in exports.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir_flow_record::{Address, ExportTime, ExtraRow, ObservationDomainId, Row};
use weir_netflow::encode::{Encoder, Format};

const START: u64 = 1_700_000_000;

/// A pcap file of Ethernet frames with their times in ms.
fn capture(path: &Path, frames: impl Iterator<Item = (u64, Vec<u8>)>) {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for (at, frame) in frames {
        let words = [
            START + at / 1_000,
            at % 1_000 * 1_000,
            frame.len() as u64,
            frame.len() as u64,
        ];
        for word in words {
            out.extend_from_slice(&(word as u32).to_le_bytes());
        }
        out.extend_from_slice(&frame);
    }
    std::fs::write(path, out).unwrap();
}

fn frame(to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let row = Row {
        source_address: Address::from_v4([198, 51, 100, 7]),
        destination_address: Address::from_v4(to),
        source_port: 53,
        destination_port: port,
        protocol: 17,
        octets: 42 + payload.len() as u64,
        ..Row::default()
    };
    let mut octets = Vec::new();
    weir_packet::encode::ethernet(&row, &ExtraRow::default(), &mut octets);
    octets.truncate(34);
    octets.extend_from_slice(&53_u16.to_be_bytes());
    octets.extend_from_slice(&port.to_be_bytes());
    octets.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    octets.extend_from_slice(&[0, 0]);
    octets.extend_from_slice(payload);
    octets
}

/// Ten quiet seconds, ten of 2,000 packets each, ten quiet ones.
fn flood() -> impl Iterator<Item = (u64, Vec<u8>)> {
    (0..30_000_u64).flat_map(|at| {
        let count = if (10_000..20_000).contains(&at) {
            2
        } else {
            usize::from(at % 100 == 0)
        };
        // It begins as a DNS message whose id is NetFlow v9's version word.
        let octets = frame(
            [203, 0, 113, 9],
            4444,
            &[
                0, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
            ],
        );
        std::iter::repeat_n((at, octets), count)
    })
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"
[[zone]]
name = "lab"
prefixes = ["203.0.113.0/24"]
  [[zone.threshold]]
  scope = "host"
  direction = "in"
  vector = "total"
  packets_per_second = 1000
  for = "1s"
  clear_for = "3s"
"#;
        std::fs::write(folder.path().join("weir.toml"), config).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The events of a replay.
    fn replay(&self, capture: &str, more: &[&str]) -> Vec<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["replay", "--config"])
            .arg(self.path("weir.toml"))
            .arg(self.path(capture))
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn a_flood_in_packets_is_found_and_ends() {
    let bench = Bench::new();
    capture(&bench.path("flood.pcap"), flood());
    let events = bench.replay("flood.pcap", &[]);
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        (kinds.first(), kinds.last()),
        (Some(&"attack-start"), Some(&"attack-end"))
    );
    let start = &events[0];
    assert_eq!(start["target"], "203.0.113.9/32");
    assert_eq!(start["vectors"][0]["name"], "dns-amplification");
    let peak = events.last().unwrap()["traffic"]["packets_per_second"]["peak"].as_u64();
    assert_eq!(
        peak,
        Some(2_000),
        "every packet counts once, at a rate of 1"
    );
    assert_eq!(bench.replay("flood.pcap", &["--as", "packets"]), events);
    assert_eq!(
        bench.replay("flood.pcap", &["--shards", "3"]).len(),
        events.len()
    );
    assert!(bench.replay("flood.pcap", &["--as", "exports"]).is_empty());
}

#[test]
fn exports_are_replayed_as_exports() {
    let bench = Bench::new();
    let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(1)).with_sampling_rate(1);
    let mut frames = Vec::new();
    for second in 0..30_u64 {
        let now = (START + second) as i64 * 1_000_000_000;
        let mut datagrams = Vec::new();
        let at = ExportTime::from_nanos(now);
        if second == 0 {
            encoder.encode_templates(at, &mut datagrams);
        }
        let row = Row {
            source_address: Address::from_v4([198, 51, 100, 7]),
            destination_address: Address::from_v4([203, 0, 113, 9]),
            protocol: 17,
            packets: if (10..20).contains(&second) {
                2_000
            } else {
                10
            },
            octets: 100_000,
            flow_start: now - 900_000_000,
            flow_end: now,
            ..Row::default()
        };
        encoder.encode_flows(at, &[row], &mut datagrams);
        frames.extend(
            datagrams
                .iter()
                .map(|datagram| (second * 1_000, frame([192, 0, 2, 99], 4739, datagram))),
        );
    }
    capture(&bench.path("exports.pcap"), frames.into_iter());
    let events = bench.replay("exports.pcap", &[]);
    assert_eq!(
        events[0]["target"], "203.0.113.9/32",
        "the flows' target, not the collector"
    );
    assert_eq!(bench.replay("exports.pcap", &["--as", "exports"]), events);
    assert!(
        bench
            .replay("exports.pcap", &["--as", "packets"])
            .is_empty()
    );
}
