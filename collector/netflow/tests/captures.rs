//! Captures of real exporters, where the folder with shared data is there (`WEIR_SHARED`, else `../shared` beside the
//! repository): what decoders of others agreed on must come out, and nothing may panic.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
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

/// UDP over IPv4 of a classic pcap file: time, sender, payload. No fragments, no VLAN: the captures have none.
fn datagrams(file: &[u8]) -> Vec<(i64, SocketAddr, Vec<u8>)> {
    let little = match file.get(..4) {
        Some([0xd4, 0xc3, 0xb2, 0xa1]) => true,
        Some([0xa1, 0xb2, 0xc3, 0xd4]) => false,
        _ => panic!("no classic pcap"),
    };
    let number = |octets: &[u8]| {
        let octets: [u8; 4] = octets.try_into().unwrap();
        if little {
            u32::from_le_bytes(octets)
        } else {
            u32::from_be_bytes(octets)
        }
    };
    let link = number(&file[20..24]);
    let mut rest = &file[24..];
    let mut found = Vec::new();
    while rest.len() >= 16 {
        let at =
            i64::from(number(&rest[..4])) * 1_000_000_000 + i64::from(number(&rest[4..8])) * 1_000;
        let length = number(&rest[8..12]) as usize;
        let frame = &rest[16..(16 + length).min(rest.len())];
        rest = rest.get(16 + length..).unwrap_or(&[]);
        if let Some((from, payload)) = udp(frame, link) {
            found.push((at, from, payload.to_vec()));
        }
    }
    found
}

fn udp(frame: &[u8], link: u32) -> Option<(SocketAddr, &[u8])> {
    let packet = match link {
        1 if frame.get(12..14)? == [8, 0] => frame.get(14..)?,
        101 | 228 => frame,
        113 => frame.get(16..)?,
        0 => frame.get(4..)?,
        _ => return None,
    };
    let header = usize::from(packet.first()? & 15) * 4;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != 17 {
        return None;
    }
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let udp = packet.get(header..)?;
    let port = u16::from_be_bytes(udp.get(..2)?.try_into().ok()?);
    let length = usize::from(u16::from_be_bytes(udp.get(4..6)?.try_into().ok()?));
    let payload = udp.get(8..length.min(udp.len()))?;
    Some((SocketAddr::from((Ipv4Addr::from(source), port)), payload))
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
