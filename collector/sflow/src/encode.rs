//! Writes sFlow v5 datagrams: for tests, benches and the traffic generator.
//!
//! An [`Encoder`] stands for one sub-agent and keeps its sequence numbers and totals.

use weir_flow_record::{Address, ExtraRow, Row};
use weir_packet::encode::ethernet;

use crate::counters::InterfaceCounters;
use crate::sample::format;

/// The largest datagram, in octets of UDP payload, as agents mostly have it.
pub const DEFAULT_MTU: usize = 1400;
/// Octets before the samples with an IPv6 agent.
const HEADER: usize = 40;

/// One sample to be written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Sample {
    /// A sampled frame.
    Flow(FlowSample),
    /// An interface's counters.
    Counters(InterfaceCounters),
    /// A discarded packet.
    Discarded {
        /// ifIndex at which it came.
        input_interface: u32,
        /// Why (sflow.org/sflow_drops.txt).
        reason: u32,
    },
}

/// A sampled frame: a record of one packet, and how to write it.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct FlowSample {
    /// Addresses, ports, interfaces, rate; `octets` is the frame's length. A forwarding status from 128 on is written as
    /// discarded by an access list.
    pub row: Row,
    /// Optional fields.
    pub extra: ExtraRow,
    /// Which form.
    pub form: Form,
}

/// In which form a frame is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Form {
    /// Interfaces and data source as two words each.
    pub expanded: bool,
    /// Records of Ethernet and IP instead of the frame's header; these have no TTL, fragment kind, flow label or ICMP type.
    pub sampled_ip: bool,
    /// With records of switch, router and gateway.
    pub extended: bool,
}

impl Sample {
    /// A frame in its usual form: a compact sample with the frame's header.
    pub fn flow(row: Row) -> Self {
        Self::Flow(FlowSample {
            row,
            ..FlowSample::default()
        })
    }
}

/// One sub-agent; see the [module](self).
#[derive(Clone, Debug)]
pub struct Encoder {
    agent: Address,
    sub_agent: u32,
    mtu: usize,
    sequence: u32,
    sample_sequence: u32,
    pool: u32,
    drops: u32,
    sample: Vec<u8>,
    frame: Vec<u8>,
}

impl Encoder {
    /// An encoder whose sequence starts at 1.
    pub fn new(agent: Address, sub_agent: u32) -> Self {
        Self {
            agent,
            sub_agent,
            mtu: DEFAULT_MTU,
            sequence: 0,
            sample_sequence: 0,
            pool: 0,
            drops: 0,
            sample: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// Keeps datagrams within `octets` of UDP payload (512 to 65,507).
    #[must_use]
    pub fn with_mtu(mut self, octets: usize) -> Self {
        self.mtu = octets.clamp(512, 65_507);
        self
    }

    /// Pretends that the agent lost so many samples, which the next one tells.
    pub fn lose_samples(&mut self, samples: u32) {
        self.drops = self.drops.wrapping_add(samples);
    }

    /// Pretends that so many datagrams were sent and lost.
    pub fn lose_datagrams(&mut self, datagrams: u32) {
        self.sequence = self.sequence.wrapping_add(datagrams);
    }

    /// Appends datagrams with the samples, in order; `uptime` in ms.
    pub fn encode(&mut self, uptime: u32, samples: &[Sample], datagrams: &mut Vec<Vec<u8>>) {
        let mut body = Vec::new();
        let mut count = 0;
        for sample in samples {
            self.write_sample(sample);
            if count > 0 && HEADER + body.len() + self.sample.len() > self.mtu {
                datagrams.push(self.datagram(uptime, count, &body));
                body.clear();
                count = 0;
            }
            body.extend_from_slice(&self.sample);
            count += 1;
        }
        if count > 0 {
            datagrams.push(self.datagram(uptime, count, &body));
        }
    }

    fn datagram(&mut self, uptime: u32, samples: u32, body: &[u8]) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = Vec::with_capacity(HEADER + body.len());
        words(&mut out, &[5]);
        address(&mut out, self.agent);
        words(&mut out, &[self.sub_agent, self.sequence, uptime, samples]);
        out.extend_from_slice(body);
        out
    }

    fn write_sample(&mut self, sample: &Sample) {
        self.sample_sequence = self.sample_sequence.wrapping_add(1);
        let mut out = std::mem::take(&mut self.sample);
        out.clear();
        match sample {
            Sample::Flow(flow) => self.write_flow(flow, &mut out),
            Sample::Counters(counters) => {
                words(
                    &mut out,
                    &[format::COUNTERS, 12 + 8 + InterfaceCounters::LENGTH],
                );
                let source = counters.if_index & 0x00ff_ffff;
                words(&mut out, &[self.sample_sequence, source, 1]);
                words(&mut out, &[1, InterfaceCounters::LENGTH]);
                counters.write(&mut out);
            }
            Sample::Discarded {
                input_interface,
                reason,
            } => {
                words(&mut out, &[format::DISCARDED_PACKET, 32]);
                words(&mut out, &[self.sample_sequence, 0, *input_interface]);
                words(&mut out, &[self.drops, *input_interface, 0, *reason, 0]);
            }
        }
        self.sample = out;
    }

    fn write_flow(&mut self, flow: &FlowSample, out: &mut Vec<u8>) {
        let row = &flow.row;
        self.pool = self.pool.wrapping_add(row.sampling_rate);
        let source = if row.direction == 1 {
            row.output_interface
        } else {
            row.input_interface
        };
        // A data source that is no interface says nothing of the direction.
        let kind = u32::from(row.direction > 1);
        let (output_format, output) = match row.forwarding_status {
            128.. => (1, 258),
            _ => (0, row.output_interface),
        };
        let form = flow.form;
        let kind_of_sample = if form.expanded {
            format::EXPANDED_FLOW
        } else {
            format::FLOW
        };
        words(out, &[kind_of_sample, 0, self.sample_sequence]);
        let totals = [row.sampling_rate, self.pool, self.drops];
        let records = if form.sampled_ip { 2 } else { 1 } + if form.extended { 3 } else { 0 };
        if form.expanded {
            words(out, &[kind, source]);
            words(out, &totals);
            words(
                out,
                &[0, row.input_interface, output_format, output, records],
            );
        } else {
            words(out, &[kind << 24 | source & 0x00ff_ffff]);
            words(out, &totals);
            let output = output_format << 30 | output & 0x3fff_ffff;
            words(out, &[row.input_interface & 0x3fff_ffff, output, records]);
        }
        if form.sampled_ip {
            write_sampled_ip(flow, out);
        } else {
            self.frame.clear();
            ethernet(row, &flow.extra, &mut self.frame);
            write_raw_header(row, &self.frame, out);
        }
        if form.extended {
            write_extended(&flow.extra, out);
        }
        close(out, 4);
    }
}

fn write_raw_header(row: &Row, frame: &[u8], out: &mut Vec<u8>) {
    let at = open(out, 1);
    let shown = frame
        .len()
        .min(usize::try_from(row.octets).unwrap_or(frame.len()));
    let length = u32::try_from(row.octets).unwrap_or(u32::MAX);
    words(out, &[1, length, 4, shown as u32]);
    out.extend_from_slice(&frame[..shown]);
    // All records before are multiples of four octets.
    out.resize(out.len().next_multiple_of(4), 0);
    close(out, at);
}

fn write_sampled_ip(flow: &FlowSample, out: &mut Vec<u8>) {
    let (row, extra) = (&flow.row, &flow.extra);
    let length = u32::try_from(row.octets).unwrap_or(u32::MAX);
    let at = open(out, 2);
    words(out, &[length]);
    for mac in [extra.source_mac, extra.destination_mac] {
        out.extend_from_slice(&mac);
        out.extend_from_slice(&[0, 0]);
    }
    let v4 = row.source_address.is_v4() && row.destination_address.is_v4();
    words(out, &[if v4 { 0x0800 } else { 0x86dd }]);
    close(out, at);
    let at = open(out, if v4 { 3 } else { 4 });
    words(out, &[length.saturating_sub(18), u32::from(row.protocol)]);
    let skipped = if v4 { 12 } else { 0 };
    out.extend_from_slice(&row.source_address.octets()[skipped..]);
    out.extend_from_slice(&row.destination_address.octets()[skipped..]);
    words(
        out,
        &[
            u32::from(row.source_port),
            u32::from(row.destination_port),
            u32::from(row.tcp_flags),
            u32::from(extra.tos),
        ],
    );
    close(out, at);
}

fn write_extended(extra: &ExtraRow, out: &mut Vec<u8>) {
    let at = open(out, 1001);
    words(out, &[u32::from(extra.vlan_id), 0, 0, 0]);
    close(out, at);
    let at = open(out, 1002);
    address(out, extra.next_hop);
    words(
        out,
        &[
            u32::from(extra.source_prefix_length),
            u32::from(extra.destination_prefix_length),
        ],
    );
    close(out, at);
    let at = open(out, 1003);
    address(out, extra.next_hop);
    // Own, source and peer AS; one path of two AS numbers; no communities; local preference.
    words(out, &[64_512, extra.source_as, 64_513]);
    words(out, &[1, 2, 2, 64_514, extra.destination_as, 0, 100]);
    close(out, at);
}

/// Starts a record; returns where its length stands.
fn open(out: &mut Vec<u8>, format: u32) -> usize {
    words(out, &[format, 0]);
    out.len() - 4
}

/// Writes the length of what follows the length at `at`.
fn close(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn address(out: &mut Vec<u8>, address: Address) {
    if address.is_v4() {
        words(out, &[1]);
        out.extend_from_slice(&address.octets()[12..]);
    } else if address == Address::UNSPECIFIED {
        words(out, &[0]);
    } else {
        words(out, &[2]);
        out.extend_from_slice(&address.octets());
    }
}
