use std::ops::Range;

use weir_flow_record::{Address, DatagramInfo, FlowBatch, FragmentKind, Vector};

/// Octets that a row takes in memory.
pub(crate) const ROW_OCTETS: usize = 2 * 16 + 4 * 8 + 4 + 3 * 2 + 2;

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
    first_start: i64,
    last_end: i64,
}

/// One row as a drill-down sees it.
#[derive(Clone, Copy)]
pub(crate) struct StoredRow {
    pub(crate) source: Address,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) octets: u64,
    pub(crate) packets: u64,
    pub(crate) sampling_rate: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
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
        (self.first_start, self.last_end) = (i64::MAX, i64::MIN);
    }

    /// Appends rows of `batch`, which `datagram` brought.
    pub(crate) fn extend(
        &mut self,
        batch: &FlowBatch,
        rows: Range<usize>,
        datagram: &DatagramInfo,
    ) {
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
        );
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
            start: self.start[row],
            end: self.end[row],
            octets: self.octets[row],
            packets: self.packets[row],
            sampling_rate: self.sampling_rate[row],
            source_port: self.source_port[row],
            destination_port: self.destination_port[row],
            protocol: self.protocol[row],
            vector: self.vector(row) as u8,
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
