//! CSV: a header line, then the columns of each record. No value holds a comma or a quote, so nothing is quoted.

use weir_flow_record::FlowBatch;

use crate::cells::{Cells, tell};
use crate::record::{COLUMNS, Record, records};
use crate::text::{push_signed, push_unsigned};

/// Appends the header line.
pub fn append_header(out: &mut Vec<u8>) {
    out.extend_from_slice(COLUMNS.join(",").as_bytes());
    out.push(b'\n');
}

/// Appends all records of a batch, a line each.
pub fn append(batch: &FlowBatch, out: &mut Vec<u8>) {
    for record in records(batch) {
        append_record(&record, out);
    }
}

/// Appends one record and a line feed.
pub fn append_record(record: &Record, out: &mut Vec<u8>) {
    let mut line = Line { out };
    tell(record, &mut line);
    // The comma after the last value becomes the line's end.
    if let Some(last) = out.last_mut() {
        *last = b'\n';
    }
}

/// A line of values, each with a comma behind it.
struct Line<'o> {
    out: &'o mut Vec<u8>,
}

impl Cells for Line<'_> {
    fn unsigned(&mut self, value: impl Into<u64>) {
        push_unsigned(self.out, value.into());
        self.out.push(b',');
    }

    fn signed(&mut self, value: i64) {
        push_signed(self.out, value);
        self.out.push(b',');
    }

    fn text(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        push(self.out);
        self.out.push(b',');
    }
}
