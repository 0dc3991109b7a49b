//! Decodes sFlow v5 (sflow.org/sflow_version_5.txt): datagrams in, rows of a [`FlowBatch`](weir_flow_record::FlowBatch) out,
//! one row for each sampled frame. [`encode`] does the reverse for tests, benches and the traffic generator.
//!
//! An exporter is an agent as seen from one UDP source: sequences, lost samples and interface counters are kept for each of
//! its sub-agents and data sources, in bounded tables. Formats that are not known are skipped by their length and counted.
//!
//! It opens no socket and reads no clock, and it scales nothing by sampling rates.
//!
//! ```
//! use weir_flow_record::{Address, ColumnSet, ExporterId, FlowBatch, ReceivedAt, Row};
//! use weir_sflow::encode::{Encoder, Sample};
//! use weir_sflow::{CheckedLimits, Decoder};
//!
//! let mut encoder = Encoder::new(Address::from_v4([192, 0, 2, 1]), 0);
//! let row = Row { octets: 64, packets: 1, sampling_rate: 1000, ..Row::default() };
//! let mut datagrams = Vec::new();
//! encoder.encode(5_000, &[Sample::flow(row)], &mut datagrams);
//!
//! let mut decoder = Decoder::new(CheckedLimits::default(), ColumnSet::NONE, ExporterId(0));
//! let mut batch = FlowBatch::default();
//! let from = "192.0.2.1:6343".parse()?;
//! for datagram in &datagrams {
//!     decoder.handle_datagram(ReceivedAt::from_nanos(0), from, datagram, &mut batch);
//! }
//! assert_eq!((batch.octets[0], batch.sampling_rate[0]), (64, 1000));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod counters;
mod cursor;
mod datagram;
mod decoder;
pub mod encode;
pub mod fuzzing;
mod interface;
mod limits;
mod outcome;
mod record;
mod sample;
mod sequence;
mod state;
mod tables;

pub use counters::{CounterReport, InterfaceCounters};
pub use decoder::Decoder;
pub use limits::{CheckedLimits, Limits, LimitsError};
pub use outcome::{DatagramError, DatagramOutcome, DecoderCounters};
pub use state::SequenceState;

/// Whether a datagram is sFlow v5, by its first word: NetFlow and IPFIX have their version in the first two octets, where
/// sFlow has zeros.
#[inline]
pub fn is_sflow(octets: &[u8]) -> bool {
    octets.starts_with(&[0, 0, 0, 5])
}
