use weir_flow_record::{Address, DatagramInfo, FlowBatch, Vector};

/// Octets that a row takes in memory.
pub(crate) const ROW_OCTETS: usize = 2 * 16 + 4 * 8 + 4 + 2 * 2 + 1 + 1;

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
    /// Number of the [`Vector`].
    vector: Vec<u8>,
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
            vector: Vec::with_capacity(rows),
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
        self.vector.clear();
        (self.first_start, self.last_end) = (i64::MAX, i64::MIN);
    }

    /// Appends a row of `batch`, which `datagram` brought.
    pub(crate) fn push(&mut self, batch: &FlowBatch, row: usize, datagram: &DatagramInfo) {
        // design, "Time": a record's age is a difference of the exporter's own clock, so its error cancels out.
        let age = datagram
            .export_time
            .nanos()
            .saturating_sub(batch.flow_end[row])
            .max(0);
        let end = datagram.received_at.nanos().saturating_sub(age);
        let duration = batch.flow_end[row]
            .saturating_sub(batch.flow_start[row])
            .max(0);
        let start = end.saturating_sub(duration);
        self.source.push(batch.source_address[row]);
        self.destination.push(batch.destination_address[row]);
        self.start.push(start);
        self.end.push(end);
        self.octets.push(batch.octets[row]);
        self.packets.push(batch.packets[row]);
        self.sampling_rate.push(batch.sampling_rate[row]);
        self.source_port.push(batch.source_port[row]);
        self.destination_port.push(batch.destination_port[row]);
        self.protocol.push(batch.protocol[row]);
        self.vector.push(vector_number(batch.vector(row)));
        self.first_start = self.first_start.min(start);
        self.last_end = self.last_end.max(end);
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
            vector: self.vector[row],
        }
    }
}

const fn vector_number(vector: Vector) -> u8 {
    vector as u8
}
