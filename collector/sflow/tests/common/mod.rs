//! Rows and decoders for tests.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part of it")]

use std::net::SocketAddr;

use weir_flow_record::{Address, ColumnSet, ExporterId, FlowBatch, ReceivedAt, Row};
use weir_sflow::encode::{Encoder, Sample};
use weir_sflow::{CheckedLimits, DatagramOutcome, Decoder};

pub(crate) fn decoder() -> Decoder {
    Decoder::new(CheckedLimits::default(), ColumnSet::ALL, ExporterId(100))
}

pub(crate) fn batch() -> FlowBatch {
    FlowBatch::with_projection(ColumnSet::ALL)
}

pub(crate) fn from(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 6343))
}

pub(crate) fn at(seconds: i64) -> ReceivedAt {
    ReceivedAt::from_nanos(seconds * 1_000_000_000)
}

pub(crate) fn encoder() -> Encoder {
    Encoder::new(Address::from_v4([198, 51, 100, 1]), 7)
}

pub(crate) fn row(number: u16) -> Row {
    Row {
        source_address: Address::from_v4([192, 0, 2, (number % 250) as u8]),
        destination_address: Address::from_v4([203, 0, 113, 9]),
        source_port: 53,
        destination_port: number,
        protocol: 17,
        octets: 1500,
        packets: 1,
        sampling_rate: 1000,
        input_interface: 3,
        output_interface: 4,
        direction: 0,
        ..Row::default()
    }
}

pub(crate) fn flows(count: u16) -> Vec<Sample> {
    (0..count).map(|number| Sample::flow(row(number))).collect()
}

/// The datagrams of `samples`.
pub(crate) fn datagrams(encoder: &mut Encoder, samples: &[Sample]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    encoder.encode(1_000_000, samples, &mut datagrams);
    datagrams
}

/// Decodes one datagram into a batch of its own.
pub(crate) fn decode(
    decoder: &mut Decoder,
    host: u8,
    datagram: &[u8],
) -> (DatagramOutcome, FlowBatch) {
    let mut batch = batch();
    let outcome = decoder.handle_datagram(at(1), from(host), datagram, &mut batch);
    (outcome, batch)
}
