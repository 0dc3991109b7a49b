//! The three forms of one record, and what writing them costs.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::io::Write;
use std::process::{Command, Stdio};

use prost::Message;
use weir_flow_format::protobuf::{Encoder, FlowMessage, FlowType};
use weir_flow_format::{COLUMNS, csv, ndjson, records};
use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, FlowBatch,
    ObservationDomainId, ReceivedAt, Row,
};

fn batch(rows: u32) -> FlowBatch {
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    for row in 0..rows {
        batch.push(&Row {
            source_address: Address::from_v4((0xc000_0201 + row).to_be_bytes()),
            destination_address: Address::from_v4([203, 0, 113, 9]),
            source_port: 53,
            destination_port: 4444,
            protocol: 17,
            octets: 1500,
            packets: 1,
            sampling_rate: 100,
            flow_start: 1_700_000_000_000_000_000,
            flow_end: 1_700_000_001_000_000_000,
            input_interface: 3,
            forwarding_status: 64,
            ..Row::default()
        });
    }
    batch.extra.source_prefix_length.fill(24);
    batch.extra.destination_mac.fill([2, 0, 0, 0, 0, 1]);
    batch.datagrams.push(DatagramInfo {
        rows: 0..rows,
        exporter: ExporterId(0),
        exporter_address: Address::from_v4([198, 51, 100, 1]),
        domain: ObservationDomainId(7),
        protocol: ExportProtocol::Ipfix,
        sequence: 9,
        received_at: ReceivedAt::from_nanos(1_700_000_002_000_000_000),
        export_time: ExportTime::from_nanos(1_700_000_002_000_000_000),
        present: ColumnSet::NONE,
    });
    batch
}

#[test]
fn json_has_goflow2s_names_and_kinds() {
    let mut out = Vec::new();
    ndjson::append(&batch(1), &mut out);
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    for (name, expected) in [
        ("type", serde_json::json!("IPFIX")),
        ("sampler_address", "198.51.100.1".into()),
        ("proto", "UDP".into()),
        ("etype", "IPv4".into()),
        ("bytes", 1500.into()),
        ("src_net", "192.0.2.0/24".into()),
        ("dst_net", "0.0.0.0/0".into()),
        ("next_hop", "".into()),
        ("src_mac", "00:00:00:00:00:00".into()),
        ("time_flow_start_ns", 1_700_000_000_000_000_000_i64.into()),
    ] {
        assert_eq!(value[name], expected, "{name}");
    }
    assert_eq!(value.as_object().unwrap().len(), COLUMNS.len());
}

#[test]
fn csv_and_json_have_the_same_values_in_the_same_order() {
    let (mut json, mut lines) = (Vec::new(), Vec::new());
    ndjson::append(&batch(1), &mut json);
    csv::append_header(&mut lines);
    csv::append(&batch(1), &mut lines);
    let text = String::from_utf8(lines).unwrap();
    let (header, line) = text.trim_end().split_once('\n').unwrap();
    let pairs: Vec<String> = header
        .split(',')
        .zip(line.split(','))
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    let json = String::from_utf8(json).unwrap();
    let object = json.trim_end().trim_matches(['{', '}']);
    let values: Vec<String> = object
        .split(",\"")
        .map(|pair| format!("\"{}", pair.trim_start_matches('"')))
        .map(|pair| {
            let (name, value) = pair.split_once(':').unwrap();
            format!("{name}:{}", value.trim_matches('"'))
        })
        .collect();
    assert_eq!(pairs, values);
}

#[test]
fn a_message_has_goflow2s_octets() {
    let mut out = Vec::new();
    let batch = batch(1);
    Encoder::default().append(&records(&batch).next().unwrap(), &mut out);
    // Tags and values as `pb/flow.proto` of goflow2 v2 numbers them.
    #[rustfmt::skip]
    let expected = [
        0x08, 4,                                            // 1 type: IPFIX
        0x18, 100,                                          // 3 sampling_rate
        0x20, 9,                                            // 4 sequence_num
        0x32, 4, 192, 0, 2, 1,                              // 6 src_addr
        0x3a, 4, 203, 0, 113, 9,                            // 7 dst_addr
        0x48, 0xdc, 0x0b,                                   // 9 bytes: 1500
        0x50, 1,                                            // 10 packets
        0x5a, 4, 198, 51, 100, 1,                           // 11 sampler_address
        0x80, 1, 24,                                        // 16 src_net
        0x90, 1, 3,                                         // 18 in_if
        0xa0, 1, 17,                                        // 20 proto
        0xa8, 1, 53,                                        // 21 src_port
        0xb0, 1, 0xdc, 0x22,                                // 22 dst_port: 4444
        0xc0, 1, 64,                                        // 24 forwarding_status
        0xe0, 1, 0x81, 0x80, 0x80, 0x80, 0x80, 0x40,        // 28 dst_mac: 02:00:00:00:00:01
        0xf0, 1, 0x80, 0x10,                                // 30 etype: 0x0800
        0xb0, 4, 7,                                         // 70 observation_domain_id
    ];
    assert_eq!(&out[..expected.len()], &expected);
    let message = FlowMessage::decode(out.as_slice()).unwrap();
    assert_eq!(message.r#type(), FlowType::Ipfix);
    assert_eq!(message.time_received_ns, 1_700_000_002_000_000_000);
    assert_eq!(message.time_flow_start_ns, 1_700_000_000_000_000_000);
    assert_eq!(message.time_flow_end_ns, 1_700_000_001_000_000_000);
}

#[test]
fn delimited_messages_are_read_back_one_by_one() {
    let mut batch = batch(3);
    // A short message, whose length takes one octet, among long ones.
    batch
        .extra
        .next_hop
        .fill("2001:db8::1".parse::<std::net::IpAddr>().unwrap().into());
    batch.extra.source_as.fill(u32::MAX);
    batch.source_address[1] = Address::UNSPECIFIED;
    batch.extra.next_hop[1] = Address::UNSPECIFIED;
    batch.extra.source_as[1] = 0;
    for (address, row) in [([0x20; 16], 0), ([0x3f; 16], 2)] {
        batch.source_address[row] = Address::from_octets(address);
        batch.destination_address[row] = Address::from_octets(address);
    }
    let mut out = Vec::new();
    Encoder::default().append_delimited(&batch, &mut out);
    let mut rest = out.as_slice();
    let mut lengths = Vec::new();
    for record in records(&batch) {
        let before = rest.len();
        let message = FlowMessage::decode_length_delimited(&mut rest).unwrap();
        lengths.push(before - rest.len());
        assert_eq!(message.bytes, record.bytes);
        assert_eq!(
            message.encoded_len() + if message.encoded_len() < 128 { 1 } else { 2 },
            before - rest.len()
        );
    }
    assert!(rest.is_empty());
    assert!(lengths[0] > 129 && lengths[1] < 128, "{lengths:?}");
}

/// The field numbers, read by protobuf's own compiler.
#[test]
fn protoc_reads_a_message_by_number() {
    const PROTO: &str = "syntax = \"proto3\"; package flowpb; message FlowMessage {
        enum FlowType { FLOWUNKNOWN = 0; SFLOW_5 = 1; NETFLOW_V5 = 2; NETFLOW_V9 = 3; IPFIX = 4; }
        FlowType type = 1; uint64 sampling_rate = 3; uint32 sequence_num = 4; bytes src_addr = 6; uint64 bytes = 9;
        bytes sampler_address = 11; uint32 proto = 20; uint32 etype = 30; uint64 time_received_ns = 110; }";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flow.proto"), PROTO).unwrap();
    let started = Command::new("protoc")
        .args(["--decode=flowpb.FlowMessage", "flow.proto"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut protoc = match started {
        Ok(protoc) => protoc,
        Err(error) => {
            println!("skipped: protoc does not run here: {error}");
            return;
        }
    };
    let mut out = Vec::new();
    Encoder::default().append(&records(&batch(1)).next().unwrap(), &mut out);
    protoc.stdin.take().unwrap().write_all(&out).unwrap();
    let answer = protoc.wait_with_output().unwrap();
    assert!(answer.status.success());
    let text = String::from_utf8(answer.stdout).unwrap();
    for line in [
        "type: IPFIX",
        "sampling_rate: 100",
        "sequence_num: 9",
        r#"src_addr: "\300\000\002\001""#,
        "bytes: 1500",
        "proto: 17",
        "etype: 2048",
        "time_received_ns: 1700000002000000000",
        // Numbers that the schema above leaves out are shown bare.
        "21: 53",
        "70: 7",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
    }
}

#[test]
fn nothing_is_allocated_per_record() {
    let batch = batch(500);
    let mut encoder = Encoder::default();
    let mut out = Vec::with_capacity(1 << 20);
    let mut write = || {
        out.clear();
        ndjson::append(&batch, &mut out);
        out.clear();
        csv::append(&batch, &mut out);
        out.clear();
        encoder.append_delimited(&batch, &mut out);
    };
    write();
    let counted = allocation_counter::measure(write);
    assert_eq!(counted.count_total, 0);
}
