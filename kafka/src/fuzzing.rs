//! Bodies of fuzz targets: plain functions that take any octets and must return.

use weir_flow_record::FlowBatch;

use crate::block;

/// Reads `data` as a block; checks that what was accepted is whole, and comes out again when it is written. Panics only if
/// reading or writing is wrong.
pub fn fuzz_block(data: &[u8]) {
    let mut read = FlowBatch::default();
    if block::decode(data, &mut read).is_err() {
        assert!(read.is_empty() && read.datagrams.is_empty());
        return;
    }
    let rows = read.len();
    assert!((1..=block::MAX_ROWS).contains(&rows));
    assert_eq!(
        (read.source_address.len(), read.flow_start.len()),
        (rows, rows)
    );
    let mut next = 0;
    for datagram in &read.datagrams {
        assert!(datagram.rows.start == next && datagram.rows.end > next);
        next = datagram.rows.end;
    }
    assert_eq!(next as usize, rows);
    let mut written = Vec::new();
    block::encode(&read, &mut written);
    let mut again = FlowBatch::default();
    assert_eq!(block::decode(&written, &mut again), Ok(()));
    assert_eq!(again.datagrams, read.datagrams);
    for row in 0..rows {
        assert_eq!(again.row(row), read.row(row));
        assert_eq!(again.extra_row(row), read.extra_row(row));
    }
}
