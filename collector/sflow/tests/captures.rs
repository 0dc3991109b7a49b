//! Captures of real agents, where the folder with shared data is there (`WEIR_SHARED`, else `../shared` beside the
//! repository): what decoders of others agreed on must come out.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use common::{at, batch, decoder};
use weir_flow_record::FlowBatch;
use weir_sflow::is_sflow;

#[test]
fn captures_agree_with_other_decoders() {
    let Some(data) = shared_data() else { return };
    let truth = std::fs::read_to_string(data.join("truth.csv")).unwrap();
    let mut lines = truth.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut checked = 0;
    for line in lines {
        // What is quoted stands behind the columns that are read here.
        let row: HashMap<&str, &str> = columns.iter().copied().zip(line.split(',')).collect();
        if row["protocol"] != "sflow5" {
            continue;
        }
        checked += 1;
        let number = |name: &str| row[name].parse::<u64>().unwrap();
        let wanted = Figures {
            datagrams: number("datagrams"),
            flow_samples: number("sflow_flow_samples"),
            counter_samples: number("sflow_counter_samples"),
            drop_samples: number("sflow_drop_samples"),
            frame_octets: number("sflow_sampled_frame_bytes"),
        };
        let (got, batch) = decode_file(&data.join(row["file"]));
        assert_eq!(got, wanted, "{}", row["file"]);
        assert_eq!(batch.len() as u64, wanted.flow_samples, "{}", row["file"]);
        if wanted.frame_octets > 0 {
            let scaled: u64 = batch
                .octets
                .iter()
                .zip(&batch.sampling_rate)
                .map(|(octets, rate)| octets * u64::from(*rate))
                .sum();
            assert_eq!(scaled, number("sflow_scaled_bytes"), "{}", row["file"]);
        }
    }
    assert!(checked >= 10, "only {checked} captures");
}

/// Fields as Akvorado's and goflow2's tests have them.
#[test]
fn fields_of_known_captures() {
    let Some(data) = shared_data() else { return };
    let (_, qinq) = decode_file(&data.join("flow/akvorado/data-qinq.pcap"));
    assert_eq!(qinq.source_address[0].to_string(), "49.49.49.2");
    assert_eq!(qinq.destination_address[0].to_string(), "49.49.49.109");
    assert_eq!((qinq.octets[0], qinq.sampling_rate[0]), (106, 4096));
    let (_, local) = decode_file(&data.join("flow/akvorado/data-local-interface.pcap"));
    assert_eq!(local.output_interface[0], 0, "internal");
    let (_, raw) = decode_file(&data.join("flow/akvorado/data-sflow-raw-ipv4.pcap"));
    assert!(raw.source_address.iter().all(|address| address.is_v4()));
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Figures {
    datagrams: u64,
    flow_samples: u64,
    counter_samples: u64,
    drop_samples: u64,
    frame_octets: u64,
}

fn decode_file(path: &Path) -> (Figures, FlowBatch) {
    let (mut decoder, mut batch, mut figures) = (decoder(), batch(), Figures::default());
    for (from, payload) in datagrams(&std::fs::read(path).unwrap()) {
        assert!(is_sflow(&payload));
        let outcome = decoder.handle_datagram(at(0), from, &payload, &mut batch);
        assert_eq!((outcome.malformed, outcome.malformed_samples), (None, 0));
        figures.datagrams += 1;
        figures.flow_samples += u64::from(outcome.flow_samples);
        figures.counter_samples += u64::from(outcome.counter_samples);
        figures.drop_samples += u64::from(outcome.drop_samples);
        figures.frame_octets += outcome.octets;
    }
    (figures, batch)
}

/// UDP datagrams of a little-endian pcap of Ethernet frames: sender and payload.
fn datagrams(file: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(number(20), 1, "Ethernet");
    let (mut at, mut found) = (24, Vec::new());
    while at + 16 <= file.len() {
        let end = (at + 16 + number(at + 8)).min(file.len());
        found.extend(udp(&file[at + 16..end]));
        at = end;
    }
    found
}

fn udp(frame: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let ip = weir_packet::Packet::ethernet(frame).ip?;
    assert_eq!(ip.protocol, 17);
    let header = if ip.source.is_v4() { 34 } else { 54 };
    let from: IpAddr = ip.source.ip();
    let end = frame.len().min(14 + ip.length as usize);
    Some((
        SocketAddr::new(from, ip.source_port),
        frame.get(header + 8..end)?.to_vec(),
    ))
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
