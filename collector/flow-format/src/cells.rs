use crate::Record;
use crate::text::{push_address, push_mac, push_net, push_next_hop, push_protocol};

/// The values of a record in the order of [`COLUMNS`](crate::COLUMNS), told one by one.
pub(crate) trait Cells {
    fn unsigned(&mut self, value: impl Into<u64>);
    fn signed(&mut self, value: i64);
    /// What `push` appends holds no quote, comma, backslash or control character.
    fn text(&mut self, push: impl FnOnce(&mut Vec<u8>));
}

#[inline(always)]
pub(crate) fn tell(record: &Record, cells: &mut impl Cells) {
    cells.text(|out| out.extend_from_slice(record.kind.name().as_bytes()));
    cells.signed(record.time_received_ns);
    cells.unsigned(record.sequence_num);
    cells.unsigned(record.sampling_rate);
    cells.text(|out| push_address(out, record.sampler_address));
    cells.unsigned(record.observation_domain_id);
    cells.signed(record.time_flow_start_ns);
    cells.signed(record.time_flow_end_ns);
    cells.unsigned(record.bytes);
    cells.unsigned(record.packets);
    cells.text(|out| push_address(out, record.src_addr));
    cells.text(|out| push_address(out, record.dst_addr));
    cells.text(|out| out.extend_from_slice(record.etype().as_bytes()));
    cells.text(|out| push_protocol(out, record.proto));
    cells.unsigned(record.src_port);
    cells.unsigned(record.dst_port);
    cells.unsigned(record.in_if);
    cells.unsigned(record.out_if);
    cells.text(|out| push_mac(out, record.src_mac));
    cells.text(|out| push_mac(out, record.dst_mac));
    cells.unsigned(record.vlan_id);
    cells.unsigned(record.ip_tos);
    cells.unsigned(record.ip_ttl);
    cells.unsigned(record.tcp_flags);
    cells.unsigned(record.icmp_type);
    cells.unsigned(record.icmp_code);
    cells.unsigned(record.ipv6_flow_label);
    cells.unsigned(record.src_as);
    cells.unsigned(record.dst_as);
    cells.text(|out| push_next_hop(out, record.next_hop));
    cells.text(|out| push_net(out, record.src_addr, record.src_net));
    cells.text(|out| push_net(out, record.dst_addr, record.dst_net));
}
