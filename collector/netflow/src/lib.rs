//! Decodes NetFlow v1, v5, v7, v9 and IPFIX: export datagrams in, rows of a [`FlowBatch`](weir_flow_record::FlowBatch) out,
//! with the template cache, sampling rates and sequence numbers that this needs. [`encode`] does the reverse for tests,
//! benches and the traffic generator.
//!
//! A template is compiled once into a plan (which column takes which octets); the records of a Set then go column by column
//! into memory that the caller reuses. Nothing is allocated per record.
//!
//! Records of both directions (RFC 5103) give two rows. It opens no socket and reads no clock, it scales nothing by sampling
//! rates, it decodes no element that a row has no column for, and it looks into no list (RFC 6313): these are skipped by
//! their length.
//!
//! ```
//! use weir_flow_record::{ColumnSet, ExportTime, FlowBatch, ObservationDomainId, ReceivedAt, Row};
//! use weir_netflow::encode::{Encoder, Format};
//! use weir_netflow::{CheckedLimits, Decoder};
//!
//! let mut encoder = Encoder::new(Format::Ipfix, ObservationDomainId(7));
//! let mut datagrams = Vec::new();
//! encoder.encode_templates(ExportTime::from_nanos(0), &mut datagrams);
//! encoder.encode_flows(ExportTime::from_nanos(0), &[Row { octets: 40, ..Row::default() }], &mut datagrams);
//!
//! let mut decoder = Decoder::new(CheckedLimits::default(), ColumnSet::NONE);
//! let mut batch = FlowBatch::default();
//! let from = "192.0.2.1:4739".parse()?;
//! for datagram in &datagrams {
//!     decoder.handle_datagram(ReceivedAt::from_nanos(0), from, datagram, &mut batch);
//!     while let Some(_change) = decoder.poll_change() { /* keep it over a restart */ }
//! }
//! decoder.handle_timeout(ReceivedAt::from_nanos(1_000_000_000)); // about once a second
//! assert_eq!(batch.octets, [40]);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod biflow;
mod change;
mod columns;
mod cursor;
mod decoder;
mod domains;
mod element;
pub mod encode;
mod firewall;
pub mod fuzzing;
mod held_back;
mod legacy;
mod limits;
mod message;
mod names;
mod outcome;
mod plan;
mod sampling;
mod section;
mod sequence;
mod sets;
mod skew;
mod tables;
mod template;
mod templates;
mod times;
mod variable;
mod view;

pub use change::{FieldSpecifier, SequenceState, StateChange, TemplateDefinition};
pub use decoder::Decoder;
pub use limits::{CheckedLimits, Limits, LimitsError};
pub use message::message_length;
pub use names::NameStatement;
pub use outcome::{DatagramError, DatagramOutcome, DecoderCounters};
pub use weir_flow_record::{ExporterView, SamplingView};
