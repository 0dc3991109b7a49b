//! Captures of real exporters, where the folder with shared data is there (`WEIR_SHARED`, else `../shared` beside the
//! repository): what decoders of others agreed on must come out, and nothing may panic.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use weir_flow_record::{ColumnSet, FlowBatch, ReceivedAt};
use weir_netflow::{CheckedLimits, DatagramError, DatagramOutcome, Decoder};

#[test]
fn captures_agree_with_other_decoders() {
    let Some(data) = shared_data() else { return };
    let truth = std::fs::read_to_string(data.join("truth.csv")).unwrap();
    let details = std::fs::read_to_string(data.join("truth_detail.json")).unwrap();
    let mut rows = csv(&truth);
    let columns = rows.remove(0);
    let (mut checked, mut wrong) = (0, Vec::new());
    for row in rows {
        let row: HashMap<&str, &str> = columns
            .iter()
            .map(String::as_str)
            .zip(row.iter().map(String::as_str))
            .collect();
        let got = decode_file(&data.join(row["file"]));
        let ours = row["protocol"]
            .split('+')
            .all(|protocol| ["v1", "v5", "v7", "v9", "ipfix"].contains(&protocol));
        if row["use_as_exact"] != "yes" || !ours {
            continue;
        }
        checked += 1;
        let number = |name: &str| row[name].parse::<u64>().unwrap();
        let sums = known_sums(&details, row["file"]);
        let want = Figures {
            datagrams: number("datagrams"),
            templates: number("templates"),
            options_templates: number("options_templates"),
            records: number("data_records_if_templates_known"),
            options_records: number("options_records"),
            octets: sums.0,
            packets: sums.1,
        };
        if got != want {
            wrong.push(format!("{}: {got:?} instead of {want:?}", row["file"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 50, "only {checked} captures are exact");
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Figures {
    datagrams: u64,
    templates: u64,
    options_templates: u64,
    records: u64,
    options_records: u64,
    octets: u64,
    packets: u64,
}

impl Figures {
    fn add(&mut self, outcome: &DatagramOutcome) {
        if matches!(outcome.malformed, Some(DatagramError::Version { .. })) {
            return;
        }
        self.datagrams += 1;
        self.templates += u64::from(outcome.templates);
        self.options_templates += u64::from(outcome.options_templates);
        self.records += u64::from(outcome.records) + u64::from(outcome.released_records);
        self.options_records +=
            u64::from(outcome.options_records) + u64::from(outcome.released_options_records);
        self.octets += outcome.delta_octets;
        self.packets += outcome.delta_packets;
    }
}

fn decode_file(path: &Path) -> Figures {
    let mut decoder = Decoder::new(CheckedLimits::default(), ColumnSet::ALL);
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    let mut figures = Figures::default();
    for (at, from, payload) in datagrams(&std::fs::read(path).unwrap()) {
        batch.clear();
        let at = ReceivedAt::from_nanos(at);
        figures.add(&decoder.handle_datagram(at, from, &payload, &mut batch));
    }
    figures
}

/// `octets_delta` and `packets_delta` of the file's `sums_templates_known`, without a JSON parser: the object is flat.
fn known_sums(details: &str, file: &str) -> (u64, u64) {
    let of_file = details.split_once(&format!("\"{file}\"")).unwrap().1;
    let sums = of_file.split_once("\"sums_templates_known\"").unwrap().1;
    let sums = sums.split_once('}').unwrap().0;
    let value = |name: &str| {
        sums.split_once(&format!("\"{name}\":"))
            .map_or(0, |(_, rest)| {
                let digits: String = rest
                    .trim_start()
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect();
                digits.parse().unwrap()
            })
    };
    (value("octets_delta"), value("packets_delta"))
}

fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            '\r' => {}
            letter => cell.push(letter),
        }
    }
    rows
}

/// UDP datagrams of a pcap or pcapng file: time, sender, payload. Fragments are not put together: the captures have none.
fn datagrams(file: &[u8]) -> Vec<(i64, SocketAddr, Vec<u8>)> {
    match file.get(..4) {
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(file),
        Some([0xd4, 0xc3, 0xb2, 0xa1]) => pcap(file, 1_000),
        Some([0x4d, 0x3c, 0xb2, 0xa1]) => pcap(file, 1),
        _ => panic!("neither pcap nor pcapng"),
    }
}

fn number(octets: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(octets[at..at + 4].try_into().unwrap())
}

fn pcap(file: &[u8], nanos: i64) -> Vec<(i64, SocketAddr, Vec<u8>)> {
    let link = number(file, 20);
    let mut rest = &file[24..];
    let mut found = Vec::new();
    while rest.len() >= 16 {
        let at = i64::from(number(rest, 0)) * 1_000_000_000 + i64::from(number(rest, 4)) * nanos;
        let end = (16 + number(rest, 8) as usize).min(rest.len());
        found.extend(udp(&rest[16..end], link).map(|(from, data)| (at, from, data.to_vec())));
        rest = &rest[end..];
    }
    found
}

/// One interface, little-endian, microseconds.
fn pcapng(file: &[u8]) -> Vec<(i64, SocketAddr, Vec<u8>)> {
    let (mut rest, mut link, mut found) = (file, 1, Vec::new());
    while rest.len() >= 12 {
        let length = number(rest, 4) as usize;
        match number(rest, 0) {
            1 => link = number(rest, 8) & 0xffff,
            6 => {
                let micros = i64::from(number(rest, 12)) << 32 | i64::from(number(rest, 16));
                let frame = &rest[28..28 + number(rest, 20) as usize];
                let datagram = udp(frame, link);
                found.extend(
                    datagram
                        .map(|(from, data)| (micros.saturating_mul(1_000), from, data.to_vec())),
                );
            }
            _ => {}
        }
        rest = rest.get(length.max(12)..).unwrap_or(&[]);
    }
    found
}

fn udp(frame: &[u8], link: u32) -> Option<(SocketAddr, &[u8])> {
    let packet = match link {
        1 if frame.get(12..14)? == [0x81, 0] => frame.get(18..)?,
        1 => frame.get(14..)?,
        113 => frame.get(16..)?,
        0 => frame.get(4..)?,
        _ => frame,
    };
    let (source, udp) = match packet.first()? >> 4 {
        4 if *packet.get(9)? == 17 => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let header = usize::from(packet.first()? & 15) * 4;
            (IpAddr::from(source), packet.get(header..)?)
        }
        6 if *packet.get(6)? == 17 => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            (IpAddr::from(source), packet.get(40..)?)
        }
        _ => return None,
    };
    let port = u16::from_be_bytes(udp.get(..2)?.try_into().ok()?);
    let length = usize::from(u16::from_be_bytes(udp.get(4..6)?.try_into().ok()?));
    let payload = udp.get(8..length.min(udp.len()))?;
    Some((SocketAddr::new(source, port), payload))
}

fn shared_data() -> Option<PathBuf> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let data = shared.join("data");
    let found = data.join("truth.csv").exists();
    if !found {
        println!("skipped: no shared data");
    }
    found.then_some(data)
}

#[test]
fn captures_name_their_interfaces_and_applications() {
    let Some(data) = shared_data() else { return };
    let names = |file: &str| -> Vec<String> {
        let mut decoder = Decoder::new(CheckedLimits::default(), ColumnSet::NONE);
        let mut batch = FlowBatch::default();
        for (at, from, payload) in datagrams(&std::fs::read(data.join(file)).unwrap()) {
            decoder.handle_datagram(ReceivedAt::from_nanos(at), from, &payload, &mut batch);
        }
        let said = std::iter::from_fn(|| decoder.poll_name());
        said.map(|said| serde_json::to_string(&said).unwrap())
            .collect()
    };
    let has = |file: &str, count: usize, part: &str| {
        let names = names(file);
        assert_eq!(names.len(), count, "{file}");
        assert!(names.iter().any(|name| name.contains(part)), "{names:?}");
    };
    has(
        "flow/telegraf/cases/netflow_v9_options.pcap",
        8,
        r#""index":1,"name":"Te0/0/0","description":"TenGigabitEthernet0/0/0""#,
    );
    has(
        "flow/netgauze/srv6.pcap",
        20,
        r#""index":67,"name":"TenGigE0_0_0_0.516""#,
    );
    has(
        "flow/logstash/cases/Netflow_9_Cisco_NBAR_options_template_260.pcap",
        15,
        r#""application":16777305,"name":"ospf""#,
    );
}
