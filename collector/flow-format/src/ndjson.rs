//! JSON lines: one object a record, as goflow2's `-format json` writes them.

use weir_flow_record::FlowBatch;

use crate::cells::{Cells, tell};
use crate::record::{COLUMNS, Inner, Record, rows};
use crate::text::{push_address, push_protocol, push_signed, push_unsigned};

/// No record is longer: the names take some 420 octets, and no value more than 43.
const LONGEST: usize = 1280;

/// Appends all records of a batch, a line each.
pub fn append(batch: &FlowBatch, out: &mut Vec<u8>) {
    for (row, record) in rows(batch) {
        append_record(&record, out);
        append_inner(batch, row, out);
    }
}

/// Adds what is inside a tunnel (`inner_src_addr` and so on) to the record that was appended last, if its row has that.
pub fn append_inner(batch: &FlowBatch, row: usize, out: &mut Vec<u8>) {
    let Some(inner) = Inner::of(batch, row) else {
        return;
    };
    reopen(out);
    for (name, address) in [("src", inner.src_addr), ("dst", inner.dst_addr)] {
        out.extend_from_slice(b",\"inner_");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"_addr\":\"");
        push_address(out, address);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"inner_proto\":\"");
    push_protocol(out, inner.proto);
    out.extend_from_slice(b"\",\"inner_src_port\":");
    push_unsigned(out, inner.src_port.into());
    out.extend_from_slice(b",\"inner_dst_port\":");
    push_unsigned(out, inner.dst_port.into());
    out.extend_from_slice(b"}\n");
}

/// Takes the end off the object that was appended last, so that more fields can follow; [`append_record`]'s end is theirs.
pub fn reopen(out: &mut Vec<u8>) {
    if out.ends_with(b"}\n") {
        out.truncate(out.len() - 2);
    }
}

/// Appends one record and a line feed.
pub fn append_record(record: &Record, out: &mut Vec<u8>) {
    out.reserve(LONGEST);
    let mut object = Object { out, column: 0 };
    tell(record, &mut object);
    out.extend_from_slice(b"}\n");
}

/// A JSON object whose keys are the columns in their order.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    column: usize,
}

impl Object<'_> {
    #[inline(always)]
    fn key(&mut self) {
        self.out
            .extend_from_slice(if self.column == 0 { b"{\"" } else { b",\"" });
        self.out.extend_from_slice(COLUMNS[self.column].as_bytes());
        self.out.extend_from_slice(b"\":");
        self.column += 1;
    }
}

impl Cells for Object<'_> {
    #[inline(always)]
    fn unsigned(&mut self, value: impl Into<u64>) {
        self.key();
        push_unsigned(self.out, value.into());
    }

    #[inline(always)]
    fn signed(&mut self, value: i64) {
        self.key();
        push_signed(self.out, value);
    }

    /// No text of a record holds a character that JSON escapes.
    #[inline(always)]
    fn text(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        self.key();
        self.out.push(b'"');
        push(self.out);
        self.out.push(b'"');
    }
}
