//! Flow records as others read them: one set of columns with goflow2 v2's names and kinds of value, written as JSON lines
//! ([`ndjson`]), CSV ([`csv`]) and goflow2's protobuf ([`protobuf`]). Parquet files of `weir-flow-store` have the same
//! columns.
//!
//! It owns no file and no clock: octets are appended to a buffer of the caller, and nothing is allocated per record once
//! that buffer has grown.
//!
//! ```
//! use weir_flow_format::{csv, ndjson, protobuf};
//! use weir_flow_record::FlowBatch;
//!
//! let (batch, mut out) = (FlowBatch::default(), Vec::new());
//! ndjson::append(&batch, &mut out);
//! protobuf::Encoder::default().append_delimited(&batch, &mut out);
//! assert!(out.is_empty());
//! csv::append_header(&mut out);
//! assert!(out.starts_with(b"type,time_received_ns,"));
//! ```

mod cells;
pub mod csv;
pub mod ndjson;
pub mod protobuf;
mod record;
pub mod text;

pub use record::{COLUMNS, Inner, Record, protocol_keyword, records, rows};
