use weir_flow_record::{
    Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ExporterId, ExtraRow, FlowBatch,
    ObservationDomainId, ReceivedAt, Row,
};
use weir_packet::Packet;

use crate::clock;
use crate::layout::{Flow, FlowKey, PRESENT_ICMP, PRESENT_VLAN, Sample};
use crate::sampler::Sampler;

/// What every packet's header tells.
const ALWAYS: ColumnSet = ColumnSet::TOS
    .with(ColumnSet::TTL)
    .with(ColumnSet::MAC)
    .with(ColumnSet::FLOW_TIMES)
    .with(ColumnSet::TCP_FLAGS);

/// Who observes, as the records say it: this host is the exporter, the interface its observation domain.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Its number among the exporters.
    pub exporter: ExporterId,
    /// This host's address.
    pub address: Address,
    /// The interface's index.
    pub interface: u32,
    /// One in how many.
    pub sampling_rate: u32,
    /// Records so far.
    pub sequence: u32,
}

impl Observation {
    /// What `sampler` observes, as the exporter number 0.
    pub fn of(sampler: &Sampler) -> Self {
        Self {
            exporter: ExporterId::default(),
            address: sampler.address(),
            interface: sampler.interface_index(),
            sampling_rate: sampler.sampling_rate(),
            sequence: 0,
        }
    }

    /// Appends one packet, seen at `at`, as a datagram of its own; see [`push_sample`].
    pub fn append(&mut self, at: ReceivedAt, sample: &Sample, headers: &[u8], out: &mut FlowBatch) {
        let first = out.len();
        let present = push_sample(sample, headers, at.nanos(), self, out);
        self.finish(at, first, present, out);
    }

    /// Marks the rows of `out` from `first` on as observed now.
    pub(crate) fn finish(
        &mut self,
        now: ReceivedAt,
        first: usize,
        present: ColumnSet,
        out: &mut FlowBatch,
    ) {
        if out.len() == first {
            return;
        }
        // A batch has fewer rows than 2³².
        let rows = first as u32..out.len() as u32;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(rows.end - rows.start);
        out.datagrams.push(DatagramInfo {
            rows,
            exporter: self.exporter,
            exporter_address: self.address,
            domain: ObservationDomainId(self.interface),
            protocol: ExportProtocol::Xdp,
            sequence,
            received_at: now,
            export_time: ExportTime(now.0),
            present: ALWAYS.with(present),
        });
    }

    /// The optional columns that a sample has beside those that all have.
    fn extra_columns(bits: u8, is_v4: bool) -> ColumnSet {
        let when = |is: bool, set| if is { set } else { ColumnSet::NONE };
        when(bits & PRESENT_VLAN != 0, ColumnSet::VLAN)
            .with(when(bits & PRESENT_ICMP != 0, ColumnSet::ICMP))
            .with(when(!is_v4, ColumnSet::FLOW_LABEL))
    }
}

/// Between the two clocks at one instant: the monotonic clock's reading plus this is the wall's.
#[derive(Clone, Copy)]
pub(crate) struct Skew(i64);

impl Skew {
    pub(crate) fn now(wall: ReceivedAt) -> Self {
        Self(wall.nanos().saturating_sub(clock::monotonic()))
    }

    pub(crate) fn wall(self, monotonic: u64) -> i64 {
        i64::try_from(monotonic)
            .unwrap_or(i64::MAX)
            .saturating_add(self.0)
    }
}

/// Appends one packet, at `time` (ns UTC), as a record; which optional columns it has. `headers` are its first octets, where
/// they are known: they show the packet within a tunnel.
#[inline]
pub fn push_sample(
    sample: &Sample,
    headers: &[u8],
    time: i64,
    observation: &Observation,
    out: &mut FlowBatch,
) -> ColumnSet {
    let row = Row {
        source_address: sample.source(),
        destination_address: sample.destination(),
        source_port: sample.source_port,
        destination_port: sample.destination_port,
        protocol: sample.protocol,
        tcp_flags: sample.tcp_flags,
        fragment: sample.fragment(),
        octets: u64::from(sample.octets),
        packets: 1,
        flow_start: time,
        flow_end: time,
        sampling_rate: observation.sampling_rate,
        input_interface: observation.interface,
        direction: 0,
        ..Row::default()
    };
    let mut present = Observation::extra_columns(sample.present, row.source_address.is_v4());
    if out.projection == ColumnSet::NONE {
        out.push(&row);
        return present;
    }
    let mut extra = ExtraRow {
        tos: sample.tos,
        ttl: sample.ttl,
        icmp_type: sample.icmp_type,
        icmp_code: sample.icmp_code,
        vlan_id: sample.vlan_id,
        source_mac: sample.source_mac,
        destination_mac: sample.destination_mac,
        flow_label: sample.flow_label,
        ..ExtraRow::default()
    };
    if out.projection.has(ColumnSet::INNER)
        && let Some(inner) = Packet::ethernet(headers).inner
    {
        extra.inner_source_address = inner.source;
        extra.inner_destination_address = inner.destination;
        extra.inner_source_port = inner.source_port;
        extra.inner_destination_port = inner.destination_port;
        extra.inner_protocol = inner.protocol;
        present = present.with(ColumnSet::INNER);
    }
    out.push_with(&row, &extra);
    present
}

/// Appends a flow of exact mode.
pub(crate) fn push_flow(
    key: &FlowKey,
    flow: &Flow,
    skew: Skew,
    observation: &Observation,
    out: &mut FlowBatch,
) -> ColumnSet {
    let row = Row {
        source_address: Address::from_octets(key.source),
        destination_address: Address::from_octets(key.destination),
        source_port: key.source_port,
        destination_port: key.destination_port,
        protocol: key.protocol,
        tcp_flags: flow.tcp_flags,
        fragment: weir_flow_record::FragmentKind::from_number(key.fragment),
        octets: flow.octets,
        packets: flow.packets,
        flow_start: skew.wall(flow.first),
        flow_end: skew.wall(flow.last),
        sampling_rate: 1,
        input_interface: observation.interface,
        direction: 0,
        ..Row::default()
    };
    let extra = ExtraRow {
        tos: key.tos,
        ttl: flow.ttl,
        icmp_type: key.icmp_type,
        icmp_code: key.icmp_code,
        vlan_id: key.vlan_id,
        ..ExtraRow::default()
    };
    out.push_with(&row, &extra);
    Observation::extra_columns(key.present, row.source_address.is_v4())
}
