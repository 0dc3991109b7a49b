use std::collections::{BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;
use weir_flow_record::{Address, ColumnSet, DatagramInfo, FlowBatch, FragmentKind, Row};

use super::FeatureVector;
use super::accumulator::{KEPT, LONGEST_SETTLE, Target};
use super::burden::Burden;
use super::lateness::Lateness;
use super::members::Members;

const NANOS: i64 = 1_000_000_000;

const LATEST: i64 = 4_000_000_000 * NANOS;

/// Bounds of [`Windows`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Targets at most; a full one takes 32 KB.
    pub max_targets: usize,
    /// Seconds that a window waits for records which come late, 0 to 20.
    pub settle: u8,
    /// The same at most, where batches show that many records come late: routers tell of a flow only when it has paused for a while.
    pub longest_settle: u8,
    /// Whether every destination becomes a target (training), or only those named by [`Windows::watch`] (live).
    pub every_target: bool,
    /// Records of a second that are taken in, about. Where targets have more, packets are sampled as a router samples them,
    /// one in 4, 16, … 4096: what is said of rates stays true.
    pub most_records: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_targets: 4096,
            settle: 2,
            longest_settle: 2,
            every_target: false,
            most_records: u32::MAX,
        }
    }
}

/// A target's second, described.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The target.
    pub target: Address,
    /// The window's last second, since 1970.
    pub second: i64,
    /// Its features.
    pub features: FeatureVector,
}

/// What was not described.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Windows given.
    pub windows: u64,
    /// Times that a target found no room, by [`Limits::max_targets`]; a live model asks once with each batch then.
    pub refused: u64,
    /// Records that ended in a second described already.
    pub late: u64,
}

/// The streaming accumulator: records in, windows out.
///
/// Feed [`handle_row`](Self::handle_row) or [`handle_batch`](Self::handle_batch) and [`handle_time`](Self::handle_time), then
/// drain [`poll_window`](Self::poll_window). Once its targets are known and have been active for a while it allocates nothing.
#[derive(Debug)]
pub struct Windows {
    limits: Limits,
    targets: HashMap<Address, Target, RandomState>,
    /// Most records are of no target: these are left after a look at a bit.
    members: Members,
    /// Seconds with targets that wait to be described: the heart of the order.
    due: BTreeSet<(i64, Address)>,
    ready: VecDeque<(i64, Address)>,
    described: i64,
    /// The newest second of a record, and that in which idle targets last made room.
    newest: i64,
    swept: i64,
    spare: Vec<Target>,
    lateness: Lateness,
    burden: Burden,
    counters: Counters,
}

impl Windows {
    /// Without targets.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits {
                settle: limits.settle.min(LONGEST_SETTLE),
                longest_settle: limits.longest_settle.min(LONGEST_SETTLE),
                ..limits
            },
            targets: HashMap::default(),
            members: Members::new(limits.max_targets),
            due: BTreeSet::new(),
            ready: VecDeque::new(),
            described: i64::MIN,
            newest: i64::MIN,
            swept: i64::MIN,
            spare: Vec::new(),
            lateness: Lateness::default(),
            burden: Burden::new(limits.most_records),
            counters: Counters::default(),
        }
    }

    /// Begins with a target; false if there are too many.
    pub fn watch(&mut self, target: Address) -> bool {
        if self.targets.contains_key(&target) {
            return true;
        }
        // Looking for idle ones costs, and a scan would ask for it with every record.
        if self.targets.len() >= self.limits.max_targets && self.newest > self.swept {
            self.swept = self.newest;
            self.forget_idle();
        }
        if self.targets.len() >= self.limits.max_targets {
            self.counters.refused += 1;
            return false;
        }
        let fresh = self.spare.pop().unwrap_or_else(Target::new);
        self.members.add(target);
        self.targets.insert(target, fresh);
        true
    }

    /// Ends with a target.
    pub fn unwatch(&mut self, target: Address) {
        if let Some(mut old) = self.targets.remove(&target) {
            old.clear();
            self.spare.push(old);
            self.members.set(self.targets.keys());
        }
    }

    /// Whether it is a target.
    pub fn is_watched(&self, target: Address) -> bool {
        self.members.may_hold(target) && self.targets.contains_key(&target)
    }

    /// A record whose times are event times (design.md, "Time"). `flags_known` is false where the source tells no TCP flags,
    /// which is not the same as none set.
    pub fn handle_row(&mut self, row: &Row, flags_known: bool) {
        let row = &sane(row);
        let second = row.flow_end.div_euclid(NANOS);
        self.note(second);
        if let Some(target) = self.targets.get_mut(&row.source_address) {
            target.add_out(row);
        }
        let described = self.described;
        let Some(target) = self.target(row.destination_address) else {
            return;
        };
        target.add_in(row, flags_known);
        if second > described && second != target.due {
            target.due = second;
            self.due.insert((second, row.destination_address));
        }
    }

    /// A record ended in a second.
    fn note(&mut self, second: i64) {
        self.newest = self.newest.max(second);
        self.counters.late += u64::from(second <= self.described);
    }

    /// All records of a batch, with times as the pipeline computes them: the age from the exporter's clock, the time itself
    /// from ours.
    pub fn handle_batch(&mut self, batch: &FlowBatch) {
        for datagram in &batch.datagrams {
            let flags_known = datagram.present.has(ColumnSet::TCP_FLAGS);
            let (received, exported) = (datagram.received_at.nanos(), datagram.export_time.nanos());
            for index in datagram.rows.start as usize..datagram.rows.end as usize {
                let Some(end) = event_end(batch, index, received, exported) else {
                    break;
                };
                self.lateness.add(received, end);
                if !self.may_concern(batch, index) {
                    self.note(end.clamp(0, LATEST).div_euclid(NANOS));
                } else if let Some(row) = event_row(batch, index, received, exported)
                    && let Some(row) = self.burden.thin(&row)
                {
                    self.handle_row(&row, flags_known);
                }
            }
        }
    }

    /// Whether a record may be of a target.
    fn may_concern(&self, batch: &FlowBatch, index: usize) -> bool {
        let is_target = |address: Option<&Address>| {
            address.is_some_and(|address| self.members.may_hold(*address))
        };
        self.limits.every_target
            || is_target(batch.destination_address.get(index))
            || is_target(batch.source_address.get(index))
    }

    /// The data's time has come to `now` (ns): windows that end before `now − settle` become ready.
    pub fn handle_time(&mut self, now: i64) {
        let second = now.clamp(0, LATEST).div_euclid(NANOS);
        let settle = match self.limits.longest_settle {
            longest if longest > self.limits.settle => {
                self.lateness.settle(second, self.limits.settle, longest)
            }
            _ => self.limits.settle,
        };
        let until = second - 1 - i64::from(settle);
        while let Some(first) = self.due.first().copied() {
            if first.0 > until {
                break;
            }
            self.due.pop_first();
            self.ready.push_back(first);
        }
        self.described = self.described.max(until);
        self.burden.handle_second(second);
    }

    /// No more records will come: everything becomes ready.
    pub fn handle_end(&mut self) {
        self.ready.extend(std::mem::take(&mut self.due));
    }

    /// The next window, in the order of seconds and then of targets. To be polled after every `handle_…`.
    #[must_use]
    pub fn poll_window(&mut self) -> Option<Window> {
        while let Some((second, address)) = self.ready.pop_front() {
            let Some(target) = self.targets.get_mut(&address) else {
                continue;
            };
            if target.is_active(second) {
                self.counters.windows += 1;
                return Some(Window {
                    target: address,
                    second,
                    features: target.describe(second),
                });
            }
        }
        None
    }

    /// How many targets there are.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// One packet in how many is taken in at the moment: see [`Limits::most_records`].
    pub fn thinned_to(&self) -> u32 {
        self.burden.one_in()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn target(&mut self, address: Address) -> Option<&mut Target> {
        if self.limits.every_target && !self.watch(address) {
            return None;
        }
        self.targets.get_mut(&address)
    }

    /// Targets without traffic for longer than a window make room.
    fn forget_idle(&mut self) {
        let limit = self.newest.saturating_sub(4 * KEPT as i64);
        let spare = &mut self.spare;
        self.targets.retain(|_, target| {
            let keep = target.newest >= limit;
            if !keep && spare.len() < 64 {
                let mut old = std::mem::replace(target, Target::new());
                old.clear();
                spare.push(old);
            }
            keep
        });
        self.members.set(self.targets.keys());
    }
}

/// A record whose times lie between 1970 and 2096, in order: whoever sends others gets odd windows, and no overflow.
pub(crate) fn sane(row: &Row) -> Row {
    let flow_end = row.flow_end.clamp(0, LATEST);
    Row {
        flow_start: row.flow_start.clamp(0, flow_end),
        flow_end,
        ..*row
    }
}

/// All records of a batch with event times, and whether their TCP flags are known.
pub fn event_rows(batch: &FlowBatch) -> impl Iterator<Item = (Row, bool)> {
    let datagrams = batch.datagrams.iter();
    datagrams.flat_map(move |datagram| rows_of(batch, datagram))
}

fn rows_of<'b>(
    batch: &'b FlowBatch,
    datagram: &DatagramInfo,
) -> impl Iterator<Item = (Row, bool)> + use<'b> {
    let flags_known = datagram.present.has(ColumnSet::TCP_FLAGS);
    let (received, exported) = (datagram.received_at.nanos(), datagram.export_time.nanos());
    let rows = datagram.rows.start as usize..datagram.rows.end as usize;
    rows.filter_map(move |index| Some((event_row(batch, index, received, exported)?, flags_known)))
}

/// When a record of a batch ended, as event time.
fn event_end(batch: &FlowBatch, index: usize, received: i64, exported: i64) -> Option<i64> {
    let flow_end = *batch.flow_end.get(index)?;
    Some(received.saturating_sub(exported.saturating_sub(flow_end).max(0)))
}

/// A record of a batch with event times.
fn event_row(batch: &FlowBatch, index: usize, received: i64, exported: i64) -> Option<Row> {
    let flow_end = *batch.flow_end.get(index)?;
    let flow_start = *batch.flow_start.get(index)?;
    let end = event_end(batch, index, received, exported)?;
    Some(Row {
        source_address: *batch.source_address.get(index)?,
        destination_address: *batch.destination_address.get(index)?,
        source_port: *batch.source_port.get(index)?,
        destination_port: *batch.destination_port.get(index)?,
        protocol: *batch.protocol.get(index)?,
        tcp_flags: *batch.tcp_flags.get(index)?,
        fragment: FragmentKind::from_number(*batch.fragment.get(index)?),
        octets: *batch.octets.get(index)?,
        packets: *batch.packets.get(index)?,
        flow_start: end.saturating_sub(flow_end.saturating_sub(flow_start).max(0)),
        flow_end: end,
        sampling_rate: *batch.sampling_rate.get(index)?,
        input_interface: *batch.input_interface.get(index)?,
        output_interface: *batch.output_interface.get(index)?,
        direction: *batch.direction.get(index)?,
        forwarding_status: *batch.forwarding_status.get(index)?,
    })
}
