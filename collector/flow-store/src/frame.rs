use ipnet::IpNet;
use polars::prelude::{Column, DataFrame, IntoColumn, NamedFromOwned, PolarsResult, Series};
use weir_attack_event::DrillDown;
use weir_flow_record::{Address, Direction, Vector};

use crate::mix::Mix;
use crate::segment::{Segment, StoredRow};

pub(crate) const SOURCE_HIGH: &str = "source_high";
pub(crate) const SOURCE_LOW: &str = "source_low";
pub(crate) const NETWORK_HIGH: &str = "network_high";
pub(crate) const NETWORK_LOW: &str = "network_low";
pub(crate) const SOURCE_PORT: &str = "source_port";
pub(crate) const DESTINATION_PORT: &str = "destination_port";
pub(crate) const PROTOCOL: &str = "protocol";
pub(crate) const OCTETS: &str = "octets";
pub(crate) const PACKETS: &str = "packets";
pub(crate) const DIRECT: &str = "direct";
pub(crate) const SYSTEM: &str = "system";

/// Prefix lengths to which sources are summed up.
pub(crate) const NETWORK_V4: u8 = 24;
pub(crate) const NETWORK_V6: u8 = 48;

/// Most of what one row may count: 2⁴³, so that the sums over all rows fit.
const MOST_PER_ROW: u128 = 1 << 43;

/// Rows of one question in the columns that polars groups.
#[derive(Default)]
pub(crate) struct Rows {
    source_high: Vec<u64>,
    source_low: Vec<u64>,
    network_high: Vec<u64>,
    network_low: Vec<u64>,
    source_port: Vec<u16>,
    destination_port: Vec<u16>,
    protocol: Vec<u8>,
    octets: Vec<u64>,
    packets: Vec<u64>,
    /// 1 where the row is no reflection: its source may be forged.
    direct: Vec<u64>,
    /// The source's autonomous system, as exported; 0 = not stated.
    system: Vec<u32>,
    /// Who is hit: empty where that can be one host only.
    destinations: Ends,
    pub(crate) mix: Mix,
}

/// Addresses of one side.
#[derive(Default)]
struct Ends {
    high: Vec<u64>,
    low: Vec<u64>,
    network_high: Vec<u64>,
    network_low: Vec<u64>,
}

/// Whose rows are asked for, and when.
pub(crate) struct Selection {
    prefixes: Vec<Prefix>,
    direction: Direction,
    from: i64,
    to: i64,
}

/// A prefix ready to be compared with addresses.
pub(crate) struct Prefix {
    pub(crate) network: u128,
    pub(crate) mask: u128,
    pub(crate) v4: bool,
}

impl Selection {
    pub(crate) fn new(question: &DrillDown) -> Self {
        let prefixes = std::iter::once(&question.target.prefix).chain(&question.other_prefixes);
        Self {
            prefixes: prefixes.map(Prefix::new).collect(),
            direction: question.target.direction,
            from: question.from.nanos(),
            to: question.to.nanos(),
        }
    }

    /// Whether the traffic asked for may go to several hosts.
    fn has_destinations(&self) -> bool {
        let one_host = |prefix: &Prefix| prefix.mask == u128::MAX;
        self.direction == Direction::Out
            || self.prefixes.len() > 1
            || !self.prefixes.iter().all(one_host)
    }

    pub(crate) fn is_outbound(&self) -> bool {
        self.direction == Direction::Out
    }

    pub(crate) fn may_hold(&self, segment: &Segment) -> bool {
        segment.overlaps(self.from, self.to)
    }

    pub(crate) fn holds(&self, segment: &Segment, row: usize) -> bool {
        let address = match self.direction {
            Direction::In => segment.destination(row),
            Direction::Out => segment.source(row),
        };
        self.prefixes.iter().any(|prefix| prefix.holds(address))
            && segment.is_within(row, self.from, self.to)
    }

    /// Seconds asked for, at least one: nothing here is sharper than a bucket.
    pub(crate) fn seconds(&self) -> f64 {
        (self.to.saturating_sub(self.from) as f64 / 1e9).max(1.0)
    }

    /// Appends the part of `row` that lies in the time asked for, scaled by its sampling rate; an unknown rate counts as
    /// 1, what is found is then a lower bound.
    pub(crate) fn append(&self, row: &StoredRow, rows: &mut Rows) {
        let rate = u128::from(row.sampling_rate.max(1));
        let (part, whole) = self.overlap(row);
        let scaled = |count: u64| {
            let count = (u128::from(count) * rate).min(u128::from(u64::MAX));
            // Rounded: both are below 2⁶⁴.
            ((count * part + whole / 2) / whole).min(MOST_PER_ROW) as u64
        };
        let (high, low) = row.source.words();
        let (network_high, network_low) = network(row.source).words();
        rows.source_high.push(high);
        rows.source_low.push(low);
        rows.network_high.push(network_high);
        rows.network_low.push(network_low);
        // TCP, UDP, DCCP, SCTP, UDP-Lite; ICMP's type and code, say, are no port.
        let has_ports = matches!(row.protocol, 6 | 17 | 33 | 132 | 136);
        let port = |port: u16| if has_ports { port } else { 0 };
        rows.source_port.push(port(row.source_port));
        rows.destination_port.push(port(row.destination_port));
        rows.protocol.push(row.protocol);
        let packets = scaled(row.packets);
        rows.octets.push(scaled(row.octets));
        rows.packets.push(packets);
        rows.direct.push(u64::from(!is_reflection(row.vector)));
        rows.system.push(row.source_as);
        rows.mix.add(row, packets);
        if self.has_destinations() {
            rows.destinations.push(row.destination);
        }
    }

    /// How much of a row's time was asked for, of how much.
    fn overlap(&self, row: &StoredRow) -> (u128, u128) {
        let whole = i128::from(row.end) - i128::from(row.start);
        if whole <= 0 {
            return (1, 1);
        }
        let part = i128::from(row.end.min(self.to)) - i128::from(row.start.max(self.from));
        (part.clamp(0, whole).unsigned_abs(), whole.unsigned_abs())
    }
}

impl Prefix {
    pub(crate) fn new(prefix: &IpNet) -> Self {
        let host_bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
        // An IPv4 prefix keeps the 96 bits of the mapping: its host bits are at most 32.
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Self {
            network: number(Address::from(prefix.network())) & mask,
            mask,
            v4: matches!(prefix, IpNet::V4(_)),
        }
    }

    pub(crate) fn holds(&self, address: Address) -> bool {
        number(address) & self.mask == self.network && address.is_v4() == self.v4
    }
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Who is hit, in the columns that sources have in the other frame; `None` where that can be one host only.
    pub(crate) fn destinations(&mut self) -> PolarsResult<Option<DataFrame>> {
        let ends = std::mem::take(&mut self.destinations);
        if ends.high.is_empty() {
            return Ok(None);
        }
        let columns: Vec<Column> = vec![
            Series::from_vec(SOURCE_HIGH.into(), ends.high).into_column(),
            Series::from_vec(SOURCE_LOW.into(), ends.low).into_column(),
            Series::from_vec(NETWORK_HIGH.into(), ends.network_high).into_column(),
            Series::from_vec(NETWORK_LOW.into(), ends.network_low).into_column(),
            Series::from_vec(OCTETS.into(), self.octets.clone()).into_column(),
            Series::from_vec(PACKETS.into(), self.packets.clone()).into_column(),
        ];
        DataFrame::new(self.len(), columns).map(Some)
    }

    pub(crate) fn into_frame(self) -> PolarsResult<DataFrame> {
        let height = self.len();
        let columns: Vec<Column> = vec![
            Series::from_vec(SOURCE_HIGH.into(), self.source_high).into_column(),
            Series::from_vec(SOURCE_LOW.into(), self.source_low).into_column(),
            Series::from_vec(NETWORK_HIGH.into(), self.network_high).into_column(),
            Series::from_vec(NETWORK_LOW.into(), self.network_low).into_column(),
            Series::from_vec(SOURCE_PORT.into(), self.source_port).into_column(),
            Series::from_vec(DESTINATION_PORT.into(), self.destination_port).into_column(),
            Series::from_vec(PROTOCOL.into(), self.protocol).into_column(),
            Series::from_vec(OCTETS.into(), self.octets).into_column(),
            Series::from_vec(PACKETS.into(), self.packets).into_column(),
            Series::from_vec(DIRECT.into(), self.direct).into_column(),
            Series::from_vec(SYSTEM.into(), self.system).into_column(),
        ];
        DataFrame::new(height, columns)
    }
}

impl Ends {
    fn push(&mut self, address: Address) {
        let (high, low) = address.words();
        let (network_high, network_low) = network(address).words();
        self.high.push(high);
        self.low.push(low);
        self.network_high.push(network_high);
        self.network_low.push(network_low);
    }
}

/// The network that a source is summed up to.
pub(crate) fn network(address: Address) -> Address {
    let kept = if address.is_v4() {
        96 + u32::from(NETWORK_V4)
    } else {
        u32::from(NETWORK_V6)
    };
    let mask = u128::MAX << (128 - kept);
    Address::from_octets((number(address) & mask).to_be_bytes())
}

pub(crate) fn address(high: u64, low: u64) -> Address {
    Address::from_octets((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

pub(crate) fn number(address: Address) -> u128 {
    u128::from_be_bytes(address.octets())
}

/// Reflectors answer with their own address: it is not forged.
fn is_reflection(vector: u8) -> bool {
    let is = |kind: Vector| kind as u8 == vector;
    is(Vector::TcpSynackReflection)
        || (Vector::DnsAmplification as u8..=Vector::ChargenAmplification as u8).contains(&vector)
}
