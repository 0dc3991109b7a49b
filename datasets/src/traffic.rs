use weir_flow_record::{Address, FragmentKind, Timestamp};

/// What packets of a flow have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowKey {
    /// Who sends.
    pub source: Address,
    /// Who receives.
    pub destination: Address,
    /// The sender's port; 0 for protocols without ports and later fragments.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// Packets of one flow, or of many forged sources, within one step of the simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// The flow; where `forged`, its source and source port stand for many.
    pub key: FlowKey,
    /// Every packet has a forged source address and port of its own.
    pub forged: bool,
    /// From the zone to the outside.
    pub outbound: bool,
    /// Union of the packets' TCP flags.
    pub tcp_flags: u16,
    /// Whole packets or fragments.
    pub fragment: FragmentKind,
    /// How many packets.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
}

impl Traffic {
    /// Takes `packets` away, and their share of the octets; returns how many octets these were.
    pub fn drop_packets(&mut self, packets: u64) -> u64 {
        let dropped = packets.min(self.packets);
        let octets = share(self.octets, dropped, self.packets);
        self.packets -= dropped;
        self.octets -= octets;
        octets
    }
}

/// `octets` × `part` / `whole`; 0 for an empty whole.
pub(crate) fn share(octets: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(octets) * u128::from(part);
    u64::try_from(product / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// Something on the path before the router that lets traffic pass or drops it.
pub trait TrafficFilter {
    /// Takes what it drops out of `traffic`, the whole traffic of the step that ends at `at`.
    fn filter(&mut self, at: Timestamp, traffic: &mut [Traffic]);
}

/// Lets everything pass.
#[derive(Clone, Copy, Debug)]
pub struct Unfiltered;

impl TrafficFilter for Unfiltered {
    fn filter(&mut self, _at: Timestamp, _traffic: &mut [Traffic]) {}
}
