use weir_flow_record::{Address, ExportProtocol, FlowBatch};

use super::columns::{Column, with_columns};
use super::{EACH, MAGIC, NANOS_OF_MS, SAME, SHORT, VERSION};

/// Appends a batch as a block. Its datagrams cover its rows from the first to the last, at most
/// [`MAX_ROWS`](super::MAX_ROWS), and are all of one exporter and domain, which the first one tells. Of a batch without rows
/// nothing is appended.
pub fn encode(batch: &FlowBatch, out: &mut Vec<u8>) {
    let told = || batch.datagrams.iter().filter(|d| !d.rows.is_empty());
    let Some(first) = told().next() else { return };
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    unsigned(out, batch.len() as u64);
    unsigned(out, told().count() as u64);
    unsigned(out, batch.projection.0.into());
    out.extend_from_slice(&first.exporter_address.octets());
    unsigned(out, first.domain.0.into());
    let mut before = 0;
    for datagram in told() {
        let received = datagram.received_at.nanos();
        unsigned(out, datagram.rows.len() as u64);
        out.push(number_of(datagram.protocol));
        unsigned(out, datagram.sequence.into());
        signed(out, received.wrapping_sub(before));
        signed(out, datagram.export_time.nanos().wrapping_sub(received));
        unsigned(out, datagram.present.0.into());
        before = received;
    }
    macro_rules! write {
        ($($column:ident),*; $($set:ident: $($extra:ident),+;)*) => {
            $( Column::write(&batch.$column, out); )*
            write_times(batch, out);
            $( if batch.projection.has(weir_flow_record::ColumnSet::$set) {
                $( Column::write(&batch.extra.$extra, out); )+
            } )*
        };
    }
    with_columns!(write);
}

/// Ends are near each other, and starts near their ends.
fn write_times(batch: &FlowBatch, out: &mut Vec<u8>) {
    let (ends, starts) = (&batch.flow_end, &batch.flow_start);
    let first = ends.first().copied().into_iter();
    let steps = ends.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    write_differences(first.chain(steps), out);
    let pairs = ends.iter().zip(starts);
    write_differences(pairs.map(|(end, start)| start.wrapping_sub(*end)), out);
}

/// Most exporters count in milliseconds.
fn write_differences(values: impl Iterator<Item = i64> + Clone, out: &mut Vec<u8>) {
    let (tag, unit) = if values.clone().all(|value| value % NANOS_OF_MS == 0) {
        (SHORT, NANOS_OF_MS)
    } else {
        (EACH, 1)
    };
    out.push(tag);
    for value in values {
        signed(out, value / unit);
    }
}

/// A number of LEB128.
pub(super) fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Protocols by numbers that stay.
fn number_of(protocol: ExportProtocol) -> u8 {
    match protocol {
        ExportProtocol::NetflowV1 => 1,
        ExportProtocol::NetflowV5 => 5,
        ExportProtocol::NetflowV7 => 7,
        ExportProtocol::NetflowV9 => 9,
        ExportProtocol::Ipfix => 10,
        ExportProtocol::SflowV5 => 105,
        ExportProtocol::Xdp => 200,
    }
}

/// Appends the values of a column behind its tag; `each` appends one.
pub(super) fn values<T: Copy + PartialEq>(
    column: &[T],
    out: &mut Vec<u8>,
    each: impl Fn(&mut Vec<u8>, T),
) {
    match column.split_first() {
        Some((first, rest)) if rest.iter().all(|value| value == first) => {
            out.push(SAME);
            each(out, *first);
        }
        _ => {
            out.push(EACH);
            for value in column {
                each(out, *value);
            }
        }
    }
}

/// The same for addresses, of which IPv4's take four octets.
pub(super) fn addresses(column: &[Address], out: &mut Vec<u8>) {
    let has_several = column.windows(2).any(|pair| pair[0] != pair[1]);
    if has_several && column.iter().all(|address| address.is_v4()) {
        out.push(SHORT);
        for address in column {
            out.extend_from_slice(&address.octets()[12..]);
        }
    } else {
        values(column, out, |out, address| {
            out.extend_from_slice(&address.octets());
        });
    }
}
