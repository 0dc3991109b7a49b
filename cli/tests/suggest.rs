//! `weir check --suggest`: thresholds that raise nothing on the history they come from, and catch ten times as much.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;

use weir_datasets::PcapWriter;
use weir_flow_record::{Address, ExportTime, ObservationDomainId, ReceivedAt, Row};
use weir_netflow::encode::{Encoder, Format};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000;
/// Half an hour.
const SECONDS: i64 = 1800;

/// Twenty web servers, each with some 1,000 packets a second in and twice that out; for the last minute the first of them
/// gets `factor` times as much.
fn history(path: &Path, factor: u64) {
    let mut file = PcapWriter::new(BufWriter::new(File::create(path).unwrap())).unwrap();
    let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(1)).with_sampling_rate(1);
    let from = "192.0.2.1:30000".parse().unwrap();
    let to = "192.0.2.2:4739".parse().unwrap();
    let mut random = 7_u64;
    for second in 0..SECONDS {
        let now = (START + second) * SECOND;
        let mut rows = Vec::new();
        for host in 0..20_u8 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mut packets = 900 + (random >> 33) % 200;
            if host == 0 && second >= SECONDS - 60 {
                packets *= factor;
            }
            let server = Address::from_v4([203, 0, 113, host]);
            let client = Address::from_v4([198, 51, 100, (random >> 40) as u8]);
            let request = Row {
                source_address: client,
                destination_address: server,
                source_port: 40_000,
                destination_port: 443,
                protocol: 6,
                tcp_flags: 0x18,
                packets,
                octets: packets * 400,
                flow_start: now - SECOND,
                flow_end: now,
                sampling_rate: 1,
                ..Row::default()
            };
            rows.push(request);
            rows.push(Row {
                source_address: server,
                destination_address: client,
                source_port: 443,
                destination_port: 40_000,
                packets: 2_000,
                octets: 2_000 * 1_200,
                ..request
            });
        }
        let mut datagrams = Vec::new();
        if second % 60 == 0 {
            encoder.encode_templates(ExportTime::from_nanos(now), &mut datagrams);
        }
        encoder.encode_flows(ExportTime::from_nanos(now), &rows, &mut datagrams);
        for datagram in datagrams {
            file.write(ReceivedAt::from_nanos(now).0, from, to, &datagram)
                .unwrap();
        }
    }
    file.finish().unwrap();
}

const CONFIG: &str = r#"state_dir = "state"
[[zone]]
name = "web"
prefixes = ["203.0.113.0/24"]
"#;

fn weir(arguments: &[&str], paths: &[&Path]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.args(arguments).args(paths).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn proposals_raise_nothing_on_their_history_and_catch_ten_times_as_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("weir.toml"), CONFIG).unwrap();
    history(&path("peace.pcap"), 1);
    let config = path("weir.toml");
    let asked = [&*config, Path::new("--from"), &path("peace.pcap")];
    let snippet = weir(&["check", "--suggest", "--config"], &asked);
    for words in [
        "from 0.5 h of traffic",
        "WARNING: less than a day",
        "no attack would have been raised",
        "# would have raised nothing",
        "scope = \"host\"",
        "scope = \"zone\"",
        "direction = \"out\"",
        // P95 of about 1,000 packets a second times five.
        "packets_per_second = \"5.",
    ] {
        assert!(snippet.contains(words), "`{words}` is not in\n{snippet}");
    }

    // It is a configuration as it stands.
    let proposed = path("proposed.toml");
    std::fs::write(&proposed, format!("state_dir = \"state\"\n{snippet}")).unwrap();
    weir(&["check", "--config"], &[&*proposed]);
    let replay = |capture: &str| {
        history(
            &path(capture),
            if capture == "attack.pcap" { 10 } else { 1 },
        );
        weir(&["replay", "--config"], &[&*proposed, &path(capture)])
    };
    assert_eq!(replay("again.pcap"), "");
    let events = replay("attack.pcap");
    let first = events.lines().next().unwrap();
    assert!(
        first.contains("\"attack-start\"") && first.contains("203.0.113.0/32"),
        "{first}"
    );

    // A replay leaves the bundle that the daemon would have left, and a replay of the bundle finds the attack again.
    let bundles = path("evidence");
    let kept = [
        &*proposed,
        Path::new("--evidence"),
        &bundles,
        &path("attack.pcap"),
    ];
    assert_eq!(weir(&["replay", "--config"], &kept), events);
    let id = serde_json::from_str::<serde_json::Value>(first).unwrap()["id"].clone();
    let bundle = bundles.join(id.as_str().unwrap());
    let lines = std::fs::read_to_string(bundle.join("events.ndjson")).unwrap();
    assert_eq!(lines, events);
    let again = weir(&["replay", "--config"], &[&*proposed, &bundle]);
    let found = again.lines().next().unwrap();
    assert!(
        found.contains("\"attack-start\"") && found.contains("203.0.113.0/32"),
        "{found}"
    );

    // And what they would have raised is told.
    let asked = [&*config, Path::new("--from"), &path("attack.pcap")];
    let snippet = weir(&["check", "--suggest", "--config"], &asked);
    assert!(
        snippet
            .contains("# With these, 1 attack would have been raised on this history, 48.0 a day."),
        "{snippet}"
    );
    assert!(
        snippet.contains("# would have raised 1 attack, 48.0 a day; the worst 203.0.113.0/32 at "),
        "{snippet}"
    );
}

#[test]
fn without_traffic_there_is_nothing_to_suggest() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(
        path("weir.toml"),
        CONFIG.replace("203.0.113.0", "192.0.2.0"),
    )
    .unwrap();
    history(&path("other.pcap"), 1);
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "--suggest", "--config"])
        .args([
            &*path("weir.toml"),
            Path::new("--from"),
            &path("other.pcap"),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no traffic of a zone"));
}
