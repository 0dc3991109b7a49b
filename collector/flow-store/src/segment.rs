use std::ops::Range;

use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportTime, ExtraRow, FlowBatch, FragmentKind, Row, Vector,
};

/// Octets that a row takes in memory, with its part of the datagrams' headers (24 rows a datagram, about).
pub(crate) const ROW_OCTETS: usize = 2 * 16 + 4 * 8 + 3 * 4 + 3 * 2 + 4 + 9 + 4;

/// Optional columns that a segment keeps where they are projected.
pub(crate) const KEPT: ColumnSet = ColumnSet::TTL.with(ColumnSet::AS);

/// Rows that came together, in columns of a fixed capacity.
pub(crate) struct Segment {
    source: Vec<Address>,
    destination: Vec<Address>,
    /// ns of event time.
    start: Vec<i64>,
    end: Vec<i64>,
    octets: Vec<u64>,
    packets: Vec<u64>,
    sampling_rate: Vec<u32>,
    source_port: Vec<u16>,
    destination_port: Vec<u16>,
    protocol: Vec<u8>,
    tcp_flags: Vec<u16>,
    /// Number of the [`FragmentKind`].
    fragment: Vec<u8>,
    input_interface: Vec<u32>,
    output_interface: Vec<u32>,
    direction: Vec<u8>,
    forwarding_status: Vec<u8>,
    /// Empty, like the next two, where nobody projects it.
    ttl: Vec<u8>,
    source_as: Vec<u32>,
    destination_as: Vec<u32>,
    /// Where rows came from: each for the rows up to the next.
    headers: Vec<DatagramInfo>,
    first_start: i64,
    last_end: i64,
}

/// One row as a drill-down sees it.
#[derive(Clone, Copy)]
pub(crate) struct StoredRow {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) octets: u64,
    pub(crate) packets: u64,
    pub(crate) sampling_rate: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
    pub(crate) tcp_flags: u16,
    /// 0 = not stated.
    pub(crate) ttl: u8,
    /// 0 = not stated.
    pub(crate) source_as: u32,
    /// Number of the [`Vector`].
    pub(crate) vector: u8,
}

impl Segment {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            source: Vec::with_capacity(rows),
            destination: Vec::with_capacity(rows),
            start: Vec::with_capacity(rows),
            end: Vec::with_capacity(rows),
            octets: Vec::with_capacity(rows),
            packets: Vec::with_capacity(rows),
            sampling_rate: Vec::with_capacity(rows),
            source_port: Vec::with_capacity(rows),
            destination_port: Vec::with_capacity(rows),
            protocol: Vec::with_capacity(rows),
            tcp_flags: Vec::with_capacity(rows),
            fragment: Vec::with_capacity(rows),
            input_interface: Vec::with_capacity(rows),
            output_interface: Vec::with_capacity(rows),
            direction: Vec::with_capacity(rows),
            forwarding_status: Vec::with_capacity(rows),
            ttl: Vec::new(),
            source_as: Vec::new(),
            destination_as: Vec::new(),
            headers: Vec::new(),
            first_start: i64::MAX,
            last_end: i64::MIN,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The last point of event time in it.
    pub(crate) fn last_end(&self) -> i64 {
        self.last_end
    }

    /// Whether a row of it may lie between these points of event time.
    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.first_start <= to && self.last_end >= from
    }

    /// Forgets all rows and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.source.clear();
        self.destination.clear();
        self.start.clear();
        self.end.clear();
        self.octets.clear();
        self.packets.clear();
        self.sampling_rate.clear();
        self.source_port.clear();
        self.destination_port.clear();
        self.protocol.clear();
        self.tcp_flags.clear();
        self.fragment.clear();
        self.input_interface.clear();
        self.output_interface.clear();
        self.direction.clear();
        self.forwarding_status.clear();
        self.ttl.clear();
        self.source_as.clear();
        self.destination_as.clear();
        self.headers.clear();
        (self.first_start, self.last_end) = (i64::MAX, i64::MIN);
    }

    /// Appends rows of `batch`, which `datagram` brought.
    pub(crate) fn extend(
        &mut self,
        batch: &FlowBatch,
        rows: Range<usize>,
        datagram: &DatagramInfo,
    ) {
        let first = self.len();
        // A segment has fewer rows than 2³².
        self.headers.push(DatagramInfo {
            rows: first as u32..(first + rows.len()) as u32,
            ..datagram.clone()
        });
        let export_time = datagram.export_time.nanos();
        let received_at = datagram.received_at.nanos();
        let times = batch.flow_start[rows.clone()]
            .iter()
            .zip(&batch.flow_end[rows.clone()]);
        for (flow_start, flow_end) in times {
            // design, "Time": a record's age is a difference of the exporter's own clock, so its error cancels out.
            let age = export_time.saturating_sub(*flow_end).max(0);
            let end = received_at.saturating_sub(age);
            let duration = flow_end.saturating_sub(*flow_start).max(0);
            let start = end.saturating_sub(duration);
            self.start.push(start);
            self.end.push(end);
            self.first_start = self.first_start.min(start);
            self.last_end = self.last_end.max(end);
        }
        macro_rules! copy {
            ($($own:ident: $column:ident),* $(,)?) => {
                $( self.$own.extend_from_slice(&batch.$column[rows.clone()]); )*
            };
        }
        copy!(
            source: source_address,
            destination: destination_address,
            octets: octets,
            packets: packets,
            sampling_rate: sampling_rate,
            source_port: source_port,
            destination_port: destination_port,
            protocol: protocol,
            tcp_flags: tcp_flags,
            fragment: fragment,
            input_interface: input_interface,
            output_interface: output_interface,
            direction: direction,
            forwarding_status: forwarding_status,
        );
        let extra = &batch.extra;
        extend_kept(&mut self.ttl, &extra.ttl, first, rows.clone());
        extend_kept(&mut self.source_as, &extra.source_as, first, rows.clone());
        extend_kept(&mut self.destination_as, &extra.destination_as, first, rows);
    }

    pub(crate) fn source(&self, row: usize) -> Address {
        self.source[row]
    }

    pub(crate) fn destination(&self, row: usize) -> Address {
        self.destination[row]
    }

    pub(crate) fn is_within(&self, row: usize, from: i64, to: i64) -> bool {
        self.start[row] <= to && self.end[row] >= from
    }

    pub(crate) fn row(&self, row: usize) -> StoredRow {
        StoredRow {
            source: self.source[row],
            destination: self.destination[row],
            start: self.start[row],
            end: self.end[row],
            octets: self.octets[row],
            packets: self.packets[row],
            sampling_rate: self.sampling_rate[row],
            source_port: self.source_port[row],
            destination_port: self.destination_port[row],
            protocol: self.protocol[row],
            tcp_flags: self.tcp_flags[row],
            ttl: self.ttl.get(row).copied().unwrap_or(0),
            source_as: self.source_as.get(row).copied().unwrap_or(0),
            vector: self.vector(row) as u8,
        }
    }

    /// Appends the rows that are wanted to a batch, as records of an exporter whose clock is right: their times are event
    /// times, and so they count in the same seconds again.
    pub(crate) fn copy_into(&self, batch: &mut FlowBatch, wanted: impl Fn(usize) -> bool) {
        for header in &self.headers {
            let first = batch.len() as u32;
            let rows = header.rows.start as usize..(header.rows.end as usize).min(self.len());
            for row in rows.filter(|row| wanted(*row)) {
                batch.push_with(&self.record(row), &self.extra(row));
            }
            if batch.len() as u32 > first {
                batch.datagrams.push(DatagramInfo {
                    rows: first..batch.len() as u32,
                    export_time: ExportTime::from_nanos(header.received_at.nanos()),
                    ..header.clone()
                });
            }
        }
    }

    fn record(&self, row: usize) -> Row {
        Row {
            source_address: self.source[row],
            destination_address: self.destination[row],
            source_port: self.source_port[row],
            destination_port: self.destination_port[row],
            protocol: self.protocol[row],
            tcp_flags: self.tcp_flags[row],
            fragment: FragmentKind::from_number(self.fragment[row]),
            octets: self.octets[row],
            packets: self.packets[row],
            flow_start: self.start[row],
            flow_end: self.end[row],
            sampling_rate: self.sampling_rate[row],
            input_interface: self.input_interface[row],
            output_interface: self.output_interface[row],
            direction: self.direction[row],
            forwarding_status: self.forwarding_status[row],
        }
    }

    fn extra(&self, row: usize) -> ExtraRow {
        ExtraRow {
            ttl: self.ttl.get(row).copied().unwrap_or(0),
            source_as: self.source_as.get(row).copied().unwrap_or(0),
            destination_as: self.destination_as.get(row).copied().unwrap_or(0),
            ..ExtraRow::default()
        }
    }

    /// Classified when somebody asks: few of the rows are ever looked at.
    fn vector(&self, row: usize) -> Vector {
        Vector::classify(
            self.protocol[row],
            self.source_port[row],
            self.destination_port[row],
            self.tcp_flags[row],
            FragmentKind::from_number(self.fragment[row]),
        )
    }
}

/// Appends to a column that may not have been projected so far; where it is not now, nothing is stated.
fn extend_kept<T: Copy + Default>(
    column: &mut Vec<T>,
    from: &[T],
    first: usize,
    rows: Range<usize>,
) {
    match from.get(rows.clone()) {
        Some(values) => {
            column.resize(first, T::default());
            column.extend_from_slice(values);
        }
        None if column.is_empty() => {}
        None => column.resize(first + rows.len(), T::default()),
    }
}
