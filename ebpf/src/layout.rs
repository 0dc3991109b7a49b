//! What kernel and user space share: `src/bpf/layout.h` says the same in C.

use bytemuck::{Pod, Zeroable};
use weir_flow_record::{Address, FragmentKind};

/// Octets of a frame that are looked at.
pub const HEADERS: usize = 128;

pub(crate) const PRESENT_VLAN: u8 = 1;
pub(crate) const PRESENT_ICMP: u8 = 2;

/// One packet's headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(
    missing_docs,
    reason = "what has no doc is named as its header's field"
)]
pub struct Sample {
    /// Of the monotonic clock, in ns.
    pub time: u64,
    /// IPv4 as `::ffff:a.b.c.d`.
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// Octets of the IP packet; where its header leaves that open (segmentation offload, jumbograms), of what the frame carries.
    pub octets: u32,
    /// Octets of the frame, without checksum.
    pub frame_octets: u32,
    pub flow_label: u32,
    pub source_port: u16,
    pub destination_port: u16,
    /// The nine flags.
    pub tcp_flags: u16,
    /// Of the outermost tag; see [`vlan_id`](Self::vlan_id).
    pub vlan_id: u16,
    pub protocol: u8,
    pub tos: u8,
    pub ttl: u8,
    /// [`FragmentKind`] as a number.
    pub fragment: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// Bits: 1 a VLAN tag, 2 ICMP.
    pub present: u8,
    /// How many octets of the frame come with it.
    pub headers: u8,
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
}

impl Sample {
    /// Where the packet comes from.
    #[inline]
    pub fn source(&self) -> Address {
        Address::from_octets(self.source)
    }

    /// Where it goes.
    #[inline]
    pub fn destination(&self) -> Address {
        Address::from_octets(self.destination)
    }

    /// The VLAN of the outermost tag.
    pub fn vlan_id(&self) -> Option<u16> {
        (self.present & PRESENT_VLAN != 0).then_some(self.vlan_id)
    }

    /// Type and code of ICMP or ICMPv6.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        (self.present & PRESENT_ICMP != 0).then_some((self.icmp_type, self.icmp_code))
    }

    /// Which fragment it is.
    #[inline]
    pub fn fragment(&self) -> FragmentKind {
        FragmentKind::from_number(self.fragment)
    }
}

/// What a flow is counted by in exact mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of Sample")]
pub struct FlowKey {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub source_port: u16,
    pub destination_port: u16,
    pub vlan_id: u16,
    pub protocol: u8,
    pub fragment: u8,
    pub tos: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub present: u8,
    pub(crate) pad: u32,
}

impl FlowKey {
    /// The flow that a packet belongs to.
    pub fn of(sample: &Sample) -> Self {
        Self {
            source: sample.source,
            destination: sample.destination,
            source_port: sample.source_port,
            destination_port: sample.destination_port,
            vlan_id: sample.vlan_id,
            protocol: sample.protocol,
            fragment: sample.fragment,
            tos: sample.tos,
            icmp_type: sample.icmp_type,
            icmp_code: sample.icmp_code,
            present: sample.present,
            pad: 0,
        }
    }
}

/// What was counted of a flow since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Flow {
    /// Packets.
    pub packets: u64,
    /// Octets of IP packets.
    pub octets: u64,
    /// When the first came: monotonic clock, ns.
    pub first: u64,
    /// When the last came.
    pub last: u64,
    /// Of all packets.
    pub tcp_flags: u16,
    /// Of the first packet.
    pub ttl: u8,
    pub(crate) pad: [u8; 5],
}

impl Flow {
    /// Adds what another CPU, or a later packet, counted.
    pub fn add(&mut self, other: &Self) {
        if other.packets == 0 {
            return;
        }
        if self.packets == 0 {
            *self = *other;
            return;
        }
        self.packets = self.packets.saturating_add(other.packets);
        self.octets = self.octets.saturating_add(other.octets);
        if other.first < self.first {
            (self.first, self.ttl) = (other.first, other.ttl);
        }
        self.last = self.last.max(other.last);
        self.tcp_flags |= other.tcp_flags;
    }
}

/// What was counted exactly since the sampler was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Totals {
    /// Packets of any kind.
    pub packets: u64,
    /// Octets of their frames.
    pub octets: u64,
    /// Packets whose turn it was to be sampled.
    pub samples: u64,
    /// Of those (in exact mode of all packets), without IP.
    pub without_ip: u64,
    /// Whose headers reach beyond the first 128 octets.
    pub cut: u64,
    /// Samples that were lost because the ring was full.
    pub ring_full: u64,
    /// Packets (exact mode) whose flow found no room in the table.
    pub refused_packets: u64,
    /// Octets of those.
    pub refused_octets: u64,
    pub(crate) until_next: u64,
}

// SAFETY: plain integers without padding, any octets are valid; `bytemuck::Pod` has checked it.
unsafe impl aya::Pod for Totals {}

impl Totals {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            octets: self.octets.saturating_add(other.octets),
            samples: self.samples.saturating_add(other.samples),
            without_ip: self.without_ip.saturating_add(other.without_ip),
            cut: self.cut.saturating_add(other.cut),
            ring_full: self.ring_full.saturating_add(other.ring_full),
            refused_packets: self.refused_packets.saturating_add(other.refused_packets),
            refused_octets: self.refused_octets.saturating_add(other.refused_octets),
            until_next: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_kernel_program() {
        assert_eq!(size_of::<Sample>(), 80);
        assert_eq!(size_of::<FlowKey>(), 48);
        assert_eq!(size_of::<Flow>(), 40);
        assert_eq!(size_of::<Totals>(), 72);
    }
}
