use ipnet::IpNet;
use weir_flow_record::{
    Address, Direction, ExporterId, ReceivedAt, TargetKey, Timestamp, Vector, ZoneId,
};

use crate::MinuteProfile;

/// Sums of one target and one second of event time, scaled by the sampling rates (a rate unknown counts as 1 and is told
/// apart in [`Series::unknown_rate`]).
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Bucket {
    /// Octets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Flows that began in this second.
    pub flows: u64,
    /// Variance of `octets` by sampling: Σ (octets per packet)² · packets · w(w−1), spread like the octets.
    pub octets_variance: f64,
    /// Variance of `packets` by sampling: Σ packets · w(w−1).
    pub packets_variance: f64,
}

impl Bucket {
    /// Adds the sums of another part of the same target and second.
    pub fn add(&mut self, other: &Self) {
        self.octets = self.octets.saturating_add(other.octets);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows = self.flows.saturating_add(other.flows);
        self.octets_variance += other.octets_variance;
        self.packets_variance += other.packets_variance;
    }

    pub(crate) fn holds_traffic(&self) -> bool {
        self.octets != 0 || self.packets != 0 || self.flows != 0
    }
}

/// Seconds without traffic between two series of a shard beyond which the earlier one is forgotten.
const MOST_GAP: i64 = 4096;

/// How wide a target is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TargetScope {
    /// A single address.
    Host,
    /// A cell of addresses around hosts, the /24 or /56 cut to its zone, that is told since its traffic rose.
    Automatic,
    /// A configured prefix length inside a zone.
    Prefix,
    /// A whole zone; the key's prefix is the zone's first.
    Zone,
    /// A link or exporter; the key's prefix is the exporter's address, its zone the link's [`number`](LinkInterfaces::number).
    Link,
}

impl TargetScope {
    /// A number that never changes: state files and other machines hold it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Host => 0,
            Self::Prefix => 1,
            Self::Zone => 2,
            Self::Automatic => 3,
            Self::Link => 4,
        }
    }

    /// The scope of a [`number`](Self::number).
    pub const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Host,
            1 => Self::Prefix,
            2 => Self::Zone,
            3 => Self::Automatic,
            4 => Self::Link,
            _ => return None,
        })
    }
}

/// A target's seconds. Values are absolute, not increments: a later series of the same target and shard replaces what an
/// earlier one said of the seconds that it holds; seconds before `first_second` are as they were told before.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// The target.
    pub target: TargetKey,
    /// Host, prefix or zone.
    pub scope: TargetScope,
    /// Second since the epoch of the first bucket; buckets follow each other without gaps.
    pub first_second: i64,
    /// Everything.
    pub total: Vec<Bucket>,
    /// Per vector, as many buckets each as `total`; vectors without traffic are left out. `None` for cold hosts.
    pub vectors: Option<Vec<(Vector, Vec<Bucket>)>>,
    /// Whether records without a known sampling rate are among these: then sums are lower bounds.
    pub unknown_rate: bool,
    /// Largest sampling rate among the records.
    pub max_sampling_rate: u32,
    /// Of automatic prefixes: how the traffic is spread over hosts, and what was usual.
    pub shape: Option<Box<PrefixShape>>,
}

/// How an automatic prefix' traffic is spread over its hosts, and what was usual there before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrefixShape {
    /// The narrowest prefix that holds nearly all of the newest traffic.
    pub holds: IpNet,
    /// Hosts with traffic in the newest seconds; some thousands at most.
    pub hosts: u32,
    /// The number of equal hosts whose traffic would be as unevenly spread: 1 / Σ share².
    pub effective_hosts: u32,
    /// Whether a shard sees more than usual there itself; else it only looks since another one does.
    pub risen: bool,
    /// Seconds over which `levels` were learned: 0 = nothing is known.
    pub known_for: u32,
    /// What usually arrives, by vector: octets and packets a second. Vectors without traffic are left out.
    pub levels: Vec<(Vector, [u64; 2])>,
}

impl PrefixShape {
    /// Adds another shard's part: other exporters, and mostly the same hosts.
    pub fn merge(&mut self, other: &Self) {
        while !self.holds.contains(&other.holds) {
            let Some(wider) = self.holds.supernet() else {
                break;
            };
            self.holds = wider;
        }
        self.hosts = self.hosts.max(other.hosts);
        self.effective_hosts = self.effective_hosts.max(other.effective_hosts);
        self.risen |= other.risen;
        self.known_for = self.known_for.min(other.known_for);
        for (vector, level) in &other.levels {
            match self.levels.iter_mut().find(|(known, _)| known == vector) {
                Some((_, known)) => {
                    known[0] = known[0].saturating_add(level[0]);
                    known[1] = known[1].saturating_add(level[1]);
                }
                None => self.levels.push((*vector, *level)),
            }
        }
        self.levels.sort_unstable_by_key(|(vector, _)| *vector);
    }
}

impl Series {
    /// Adds another shard's part of the same target; the result covers both spans.
    pub fn merge(&mut self, other: &Self) {
        let first = self.first_second.min(other.first_second);
        let end = (self.first_second + self.total.len() as i64)
            .max(other.first_second + other.total.len() as i64);
        let length = usize::try_from(end - first).unwrap_or(0);
        let (own, others) = (self.first_second - first, other.first_second - first);
        widen(&mut self.total, own, length);
        add_at(&mut self.total, others, &other.total);
        if let Some(theirs) = &other.vectors {
            let vectors = self.vectors.get_or_insert_default();
            for (_, buckets) in vectors.iter_mut() {
                widen(buckets, own, length);
            }
            for (vector, buckets) in theirs {
                add_at(vector_mut(vectors, *vector, length), others, buckets);
            }
        } else if let Some(vectors) = &mut self.vectors {
            for (_, buckets) in vectors.iter_mut() {
                widen(buckets, own, length);
            }
        }
        self.first_second = first;
        self.unknown_rate |= other.unknown_rate;
        self.max_sampling_rate = self.max_sampling_rate.max(other.max_sampling_rate);
        match (&mut self.shape, &other.shape) {
            (Some(shape), Some(theirs)) => shape.merge(theirs),
            (None, Some(theirs)) => self.shape = Some(theirs.clone()),
            _ => {}
        }
    }

    /// Takes in a later series of the same target and shard.
    pub(crate) fn replace(&mut self, later: &Self) {
        let end = self.first_second + self.total.len() as i64;
        if later.first_second < self.first_second || later.first_second > end + MOST_GAP {
            self.clone_from(later);
            return;
        }
        let kept = (later.first_second - self.first_second) as usize;
        let length = kept + later.total.len();
        let vectors = self.vectors.get_or_insert_default();
        for buckets in vectors
            .iter_mut()
            .map(|(_, buckets)| buckets)
            .chain([&mut self.total])
        {
            buckets.truncate(kept);
            buckets.resize(length, Bucket::default());
        }
        add_at(&mut self.total, kept as i64, &later.total);
        for (vector, buckets) in later.vectors.iter().flatten() {
            add_at(vector_mut(vectors, *vector, length), kept as i64, buckets);
        }
        self.unknown_rate = later.unknown_rate;
        self.max_sampling_rate = later.max_sampling_rate;
        self.shape.clone_from(&later.shape);
    }

    /// The seconds from `first` on.
    pub(crate) fn since(&self, first: i64) -> Self {
        let skip = usize::try_from(first - self.first_second).unwrap_or(0);
        let rest = |buckets: &[Bucket]| buckets.get(skip..).unwrap_or_default().to_vec();
        let vectors = self.vectors.iter().flatten();
        Self {
            first_second: self.first_second.max(first),
            total: rest(&self.total),
            vectors: Some(
                vectors
                    .map(|(vector, buckets)| (*vector, rest(buckets)))
                    .collect(),
            ),
            shape: self.shape.clone(),
            ..*self
        }
    }

    /// Forgets seconds, and vectors that have no traffic left.
    pub(crate) fn forget_before(&mut self, first: i64) {
        let old = usize::try_from(first - self.first_second).unwrap_or(0);
        let old = old.min(self.total.len());
        // Now and then is enough.
        if old < 64 {
            return;
        }
        self.total.drain(..old);
        for (_, buckets) in self.vectors.iter_mut().flatten() {
            buckets.drain(..old);
        }
        if let Some(vectors) = &mut self.vectors {
            vectors.retain(|(_, buckets)| buckets.iter().any(Bucket::holds_traffic));
        }
        self.first_second += old as i64;
    }
}

/// A vector's buckets in a sorted list, which gets it if it is not there.
fn vector_mut(
    vectors: &mut Vec<(Vector, Vec<Bucket>)>,
    vector: Vector,
    length: usize,
) -> &mut Vec<Bucket> {
    let index = match vectors.binary_search_by_key(&vector, |(vector, _)| *vector) {
        Ok(index) => index,
        Err(index) => {
            vectors.insert(index, (vector, vec![Bucket::default(); length]));
            index
        }
    };
    &mut vectors[index].1
}

fn widen(buckets: &mut Vec<Bucket>, before: i64, length: usize) {
    let before = usize::try_from(before).unwrap_or(0);
    buckets.splice(0..0, std::iter::repeat_n(Bucket::default(), before));
    buckets.resize(length, Bucket::default());
}

fn add_at(buckets: &mut [Bucket], offset: i64, other: &[Bucket]) {
    let offset = usize::try_from(offset).unwrap_or(0);
    for (sum, part) in buckets[offset..].iter_mut().zip(other) {
        sum.add(part);
    }
}

/// What is known of one exporter's losses in a tick.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ExporterCoverage {
    /// The exporter.
    pub exporter: ExporterId,
    /// Records decoded since the start.
    pub records: u64,
    /// Records that sequence gaps say are missing, since the start.
    pub missing_records: u64,
}

/// Where octets and records went that are in no bucket, and what tables refused: all since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AggregateCounters {
    /// Records handled.
    pub records: u64,
    /// Records of no zone.
    pub outside_records: u64,
    /// Scaled octets that fell into buckets of hosts.
    pub counted_octets: u64,
    /// Scaled octets of shares older than the history.
    pub late_octets: u64,
    /// Records with a late share.
    pub late_records: u64,
    /// Records that end more than 1 s after their export time (counted at receipt all the same).
    pub early_records: u64,
    /// Scaled octets whose host found no room in the table; they count for the zone.
    pub refused_octets: u64,
    /// Records of these.
    pub refused_records: u64,
    /// Records without a known sampling rate.
    pub unknown_rate_records: u64,
    /// Records that state more than 2⁴⁸ octets or 2³⁶ packets once scaled, and were cut to that.
    pub cut_records: u64,
    /// Records whose prefix of a configured length found no room; they count for host and zone.
    pub refused_prefix_records: u64,
    /// Hosts that should be watched and found no room.
    pub refused_watches: u64,
    /// Records of hosts that belong to no cell, since there was no room for it: automatic prefixes do not see them.
    pub refused_cell_records: u64,
    /// Cells that should be told and found no room.
    pub refused_cells: u64,
    /// Records whose service port found no room in a zone's minute, an estimate.
    pub refused_port_records: u64,
    /// Rows of minutes that came too late or found no room when shards were added up.
    pub refused_minute_rows: u64,
}

impl AggregateCounters {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            records: self.records + other.records,
            outside_records: self.outside_records + other.outside_records,
            counted_octets: self.counted_octets.saturating_add(other.counted_octets),
            late_octets: self.late_octets.saturating_add(other.late_octets),
            late_records: self.late_records + other.late_records,
            early_records: self.early_records + other.early_records,
            refused_octets: self.refused_octets.saturating_add(other.refused_octets),
            refused_records: self.refused_records + other.refused_records,
            unknown_rate_records: self.unknown_rate_records + other.unknown_rate_records,
            cut_records: self.cut_records + other.cut_records,
            refused_prefix_records: self.refused_prefix_records + other.refused_prefix_records,
            refused_watches: self.refused_watches + other.refused_watches,
            refused_cell_records: self.refused_cell_records + other.refused_cell_records,
            refused_cells: self.refused_cells + other.refused_cells,
            refused_port_records: self
                .refused_port_records
                .saturating_add(other.refused_port_records),
            refused_minute_rows: self.refused_minute_rows + other.refused_minute_rows,
        }
    }
}

/// What a shard says at a tick.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowSummary {
    /// The shard.
    pub shard: u16,
    /// Number of the tick.
    pub tick: u64,
    /// Received time of the tick.
    pub now: ReceivedAt,
    /// Buckets of seconds before this one are settled: complete but for late records.
    pub settled_until: i64,
    /// Zones that changed since the last tick.
    pub zones: Vec<Series>,
    /// Links that changed.
    pub links: Vec<Series>,
    /// Configured and automatic prefixes that changed.
    pub prefixes: Vec<Series>,
    /// Watched and newly interesting hosts that changed.
    pub hosts: Vec<Series>,
    /// A slice of the newest settled minute, for baselines.
    pub minute: Option<MinuteProfile>,
    /// Losses.
    pub coverage: Vec<ExporterCoverage>,
    /// Counters.
    pub counters: AggregateCounters,
}

/// Targets that the detector wants to see whatever their rate: hosts with every tick that changes them, automatic prefixes once
/// a second.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WatchList {
    /// Added to the list.
    pub watch: Vec<TargetKey>,
    /// Taken from the list.
    pub release: Vec<TargetKey>,
    /// Automatic prefixes to be told for a few seconds: another shard has seen them rise.
    pub look: Vec<TargetKey>,
}

/// A zone as the aggregator needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZonePrefixes {
    /// Its number: the place in the configuration.
    pub zone: ZoneId,
    /// Its prefixes, at least one.
    pub prefixes: Vec<IpNet>,
    /// Host limits in each direction that make a host worth watching; the lowest counts. Incoming traffic is always summed,
    /// outgoing traffic where these or `prefix_lengths` name [`Direction::Out`].
    pub interesting: Vec<Interesting>,
    /// Prefix lengths that are summed.
    pub prefix_lengths: Vec<PrefixLength>,
    /// Rates from which on a cell of hosts is worth telling, if it is more than usual there.
    pub automatic: Vec<Automatic>,
}

/// Interfaces of an exporter whose traffic is summed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInterfaces {
    /// The number of the link: see [`number`](Self::number).
    pub id: ZoneId,
    /// The exporter's address.
    pub exporter: Address,
    /// Its interfaces; none = all that it tells, which counts as incoming.
    pub interfaces: Vec<u32>,
}

/// Rates of one second from which on an automatic prefix is told, of one vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Automatic {
    /// In which direction.
    pub direction: Direction,
    /// Of which traffic; [`Vector::Total`] is what has no vector of its own.
    pub vector: Vector,
    /// Octets in one second.
    pub octets: Option<u64>,
    /// Packets in one second.
    pub packets: Option<u64>,
}

/// A prefix length that is summed inside a zone, and the rates from which on its prefixes are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixLength {
    /// Bits of IPv4 prefixes.
    pub v4: u8,
    /// Bits of IPv6 prefixes.
    pub v6: u8,
    /// Direction and rates.
    pub interesting: Interesting,
}

/// Rates of one second from which on a host is watched: half of the lowest limit, divided by the number of shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interesting {
    /// In which direction.
    pub direction: Direction,
    /// Octets in one second.
    pub octets: Option<u64>,
    /// Packets in one second.
    pub packets: Option<u64>,
    /// New flows in one second.
    pub flows: Option<u64>,
}

/// Octets, packets and flows.
pub(crate) fn rates(interesting: &Interesting) -> [Option<u64>; 3] {
    [interesting.octets, interesting.packets, interesting.flows]
}

impl WindowSummary {
    /// An empty summary of a tick.
    pub fn new(shard: u16, tick: u64, now: ReceivedAt, settled_until: i64) -> Self {
        Self {
            shard,
            tick,
            now,
            settled_until,
            zones: Vec::new(),
            links: Vec::new(),
            prefixes: Vec::new(),
            hosts: Vec::new(),
            minute: None,
            coverage: Vec::new(),
            counters: AggregateCounters::default(),
        }
    }

    /// The time of the tick.
    pub fn time(&self) -> Timestamp {
        self.now.0
    }
}
