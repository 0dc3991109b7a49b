//! What several tests need. Each uses a part of it.
#![allow(dead_code, reason = "every test file compiles this module for itself")]

use std::net::SocketAddr;

use weir_flow_record::{Address, ColumnSet, ExportTime, FlowBatch, FragmentKind, ReceivedAt, Row};
use weir_netflow::{CheckedLimits, DatagramOutcome, Decoder};

pub(crate) const NOW: i64 = 1_700_000_000_000_000_000;

pub(crate) fn decoder() -> Decoder {
    Decoder::new(CheckedLimits::default(), ColumnSet::ALL)
}

pub(crate) fn from(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

pub(crate) fn received(seconds: i64) -> ReceivedAt {
    ReceivedAt::from_nanos(NOW + seconds * 1_000_000_000)
}

pub(crate) fn export_time(seconds: i64) -> ExportTime {
    ExportTime::from_nanos(NOW + seconds * 1_000_000_000)
}

/// Decodes into an empty batch.
pub(crate) fn decode(
    decoder: &mut Decoder,
    at: i64,
    port: u16,
    octets: &[u8],
) -> (DatagramOutcome, FlowBatch) {
    let mut batch = FlowBatch::with_projection(ColumnSet::ALL);
    let outcome = decoder.handle_datagram(received(at), from(port), octets, &mut batch);
    (outcome, batch)
}

/// Rows that differ from each other in every field.
pub(crate) fn rows(count: usize, v6: bool) -> Vec<Row> {
    (0..count)
        .map(|index| {
            let byte = (index % 200) as u8;
            let mut octets = [0x20; 16];
            octets[15] = byte;
            let (source, destination) = if v6 {
                (
                    Address::from_octets(octets),
                    Address::from_octets([byte; 16]),
                )
            } else {
                (
                    Address::from_v4([198, 51, 100, byte]),
                    Address::from_v4([203, 0, 113, byte]),
                )
            };
            Row {
                source_address: source,
                destination_address: destination,
                source_port: 1000 + index as u16,
                destination_port: 53,
                protocol: 17,
                tcp_flags: u16::from(byte),
                fragment: [
                    FragmentKind::None,
                    FragmentKind::First,
                    FragmentKind::NotFirst,
                ][index % 3],
                octets: 1_000 * (index as u64 + 1),
                packets: index as u64 + 1,
                flow_start: NOW - 2_000_000_000 + index as i64 * 1_000_000,
                flow_end: NOW - 500_000_000,
                sampling_rate: 0,
                input_interface: index as u32,
                output_interface: 70_000,
                direction: (index % 2) as u8,
                forwarding_status: 64,
            }
        })
        .collect()
}

/// A message built word by word.
#[derive(Default, Clone)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u16s(self, values: &[u16]) -> Self {
        values.iter().fold(self, |bytes, &value| bytes.u16(value))
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn raw(mut self, octets: &[u8]) -> Self {
        self.0.extend_from_slice(octets);
        self
    }

    /// A Set around `content`.
    pub(crate) fn set(self, id: u16, content: &Self) -> Self {
        let length = content.0.len() + 4;
        self.u16(id).u16(length as u16).raw(&content.0)
    }
}

/// An IPFIX message around `sets`, exported at [`NOW`].
pub(crate) fn ipfix(domain: u32, sequence: u32, sets: &Bytes) -> Vec<u8> {
    Bytes::default()
        .u16(10)
        .u16(sets.0.len() as u16 + 16)
        .u32(1_700_000_000)
        .u32(sequence)
        .u32(domain)
        .raw(&sets.0)
        .0
}

/// A v9 message around `sets`, exported at [`NOW`], up for 100 s.
pub(crate) fn v9(domain: u32, sequence: u32, sets: &Bytes) -> Vec<u8> {
    Bytes::default()
        .u16(9)
        .u16(1)
        .u32(100_000)
        .u32(1_700_000_000)
        .u32(sequence)
        .u32(domain)
        .raw(&sets.0)
        .0
}

/// An IPFIX or v9 template record of IANA's elements.
pub(crate) fn template(id: u16, fields: &[(u16, u16)]) -> Bytes {
    fields.iter().fold(
        Bytes::default().u16(id).u16(fields.len() as u16),
        |bytes, &(element, length)| bytes.u16(element).u16(length),
    )
}

/// An IPFIX template record: enterprise (0 = IANA), element, length.
pub(crate) fn template_of(id: u16, fields: &[(u32, u16, u16)]) -> Bytes {
    fields.iter().fold(
        Bytes::default().u16(id).u16(fields.len() as u16),
        |bytes, &field| specifier(bytes, field),
    )
}

/// An IPFIX options template record, `scope` of its fields being the scope.
pub(crate) fn options_template_of(id: u16, scope: u16, fields: &[(u32, u16, u16)]) -> Bytes {
    fields.iter().fold(
        Bytes::default().u16(id).u16(fields.len() as u16).u16(scope),
        |bytes, &field| specifier(bytes, field),
    )
}

fn specifier(bytes: Bytes, (enterprise, element, length): (u32, u16, u16)) -> Bytes {
    match enterprise {
        0 => bytes.u16(element).u16(length),
        _ => bytes.u16(0x8000 | element).u16(length).u32(enterprise),
    }
}

/// A v9 options template record: scope types and options, both with lengths.
pub(crate) fn v9_options(id: u16, scope: &[(u16, u16)], options: &[(u16, u16)]) -> Bytes {
    let header = Bytes::default()
        .u16(id)
        .u16(scope.len() as u16 * 4)
        .u16(options.len() as u16 * 4);
    scope
        .iter()
        .chain(options)
        .fold(header, |bytes, &(element, length)| {
            bytes.u16(element).u16(length)
        })
}
