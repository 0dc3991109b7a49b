//! A part of a summary as octets, and back. Zones and links travel by their names: members may number them differently while
//! a configuration is rolled out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weir_flow_record::{Direction, ExporterId, ReceivedAt, TargetKey, Timestamp, Vector, ZoneId};

use super::Partitions;
use super::octets::{Input, put, put_float, put_signed, put_text};
use crate::{
    AggregateCounters, Bucket, ExporterCoverage, MinuteProfile, MinuteRow, MinuteSums, PrefixShape,
    Series, TargetScope, TrafficPart, WindowSummary, ZoneMinute,
};

/// Version of the form. Another one is refused: collectors are updated after detectors.
const FORM: u8 = 1;
/// Seconds that a series may lie before its tick, and after it.
const SPAN: std::ops::RangeInclusive<i64> = -100_000..=100;
/// Buckets of a series at most: twice the longest history.
const MOST_BUCKETS: u64 = 8192;
/// Buckets of a part at most, which are 40 MiB.
const MOST_IN_ALL: u64 = 1 << 20;
/// Largest time of a tick: 2⁶² ns, in the year 2116.
const LAST: i64 = 1 << 62;
/// Largest counter: sums of all collectors' stay within 64 bits.
const MOST: u64 = 1 << 50;
/// Rows of coverage.
const MOST_COVERAGE: usize = 64;

/// What a collector says of the zones of a partition.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    /// The collector's name.
    pub collector: Arc<str>,
    /// Which of the collector's lives it was: grows with each start.
    pub epoch: u64,
    /// Counts the collector's parts for the partition.
    pub sequence: u64,
    /// What it says; `shard` and `tick` do not travel.
    pub summary: WindowSummary,
}

/// A part, and what was left out of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Decoded {
    /// The part.
    pub part: Part,
    /// Series and rows of zones and links that are not configured here.
    pub unknown: u64,
}

/// Why octets are no part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A form of another program version.
    #[error("a summary has form {found}, this program knows {FORM}")]
    Form {
        /// What the first octet says.
        found: u8,
    },
    /// It ends within a value.
    #[error("a summary is cut at octet {offset}")]
    Cut {
        /// Where.
        offset: usize,
    },
    /// A value that no program writes.
    #[error("a summary has a bad value before octet {offset}")]
    Value {
        /// Where.
        offset: usize,
    },
}

impl Part {
    /// As octets. Names are cut to 255 octets; what belongs to no zone or link of `partitions` is left out.
    #[must_use]
    pub fn encode(&self, partitions: &Partitions) -> Vec<u8> {
        let mut writer = Writer {
            out: Vec::with_capacity(1024),
            second: self.summary.time().second(),
            places: BTreeMap::new(),
        };
        let out = &mut writer.out;
        out.push(FORM);
        put_text(out, &self.collector);
        put(out, self.epoch);
        put(out, self.sequence);
        writer.summary(&self.summary, partitions);
        writer.out
    }

    /// Reads what [`encode`](Self::encode) wrote. Takes 40 MiB at most, whatever the octets are.
    pub fn decode(octets: &[u8], partitions: &Partitions) -> Result<Decoded, WireError> {
        let mut input = Input::new(octets);
        match input.octet()? {
            FORM => {}
            found => return Err(WireError::Form { found }),
        }
        let collector = input.text()?.into();
        let epoch = input.number()?;
        let sequence = input.number()?;
        let mut reader = Reader {
            input,
            second: 0,
            zones: Vec::new(),
            buckets: MOST_IN_ALL,
            unknown: 0,
        };
        let summary = reader.summary(partitions)?;
        if !reader.input.is_empty() {
            return Err(reader.input.bad());
        }
        Ok(Decoded {
            part: Self {
                collector,
                epoch,
                sequence,
                summary,
            },
            unknown: reader.unknown,
        })
    }
}

struct Writer {
    out: Vec<u8>,
    second: i64,
    /// Zones by their place in the list of names.
    places: BTreeMap<ZoneId, u64>,
}

impl Writer {
    fn summary(&mut self, summary: &WindowSummary, partitions: &Partitions) {
        put(&mut self.out, summary.now.0.nanos().clamp(0, LAST) as u64);
        put_signed(&mut self.out, self.second - summary.settled_until);
        self.names(summary, partitions);
        for list in [
            &summary.zones,
            &summary.links,
            &summary.prefixes,
            &summary.hosts,
        ] {
            let known = |series: &&Series| self.places.contains_key(&series.target.zone);
            let known: Vec<&Series> = list.iter().filter(known).collect();
            put(&mut self.out, known.len() as u64);
            known.into_iter().for_each(|series| self.series(series));
        }
        put(&mut self.out, u64::from(summary.minute.is_some()));
        if let Some(minute) = &summary.minute {
            self.minute(minute);
        }
        let rows = summary.coverage.len().min(MOST_COVERAGE);
        put(&mut self.out, rows as u64);
        for row in &summary.coverage[..rows] {
            put(&mut self.out, row.exporter.0.into());
            put(&mut self.out, row.records.min(MOST));
            put(&mut self.out, row.missing_records.min(MOST));
        }
        for counter in counters(&summary.counters) {
            put(&mut self.out, counter.min(MOST));
        }
    }

    /// The names of the zones and links that the part is about.
    fn names(&mut self, summary: &WindowSummary, partitions: &Partitions) {
        let series = [
            &summary.zones,
            &summary.links,
            &summary.prefixes,
            &summary.hosts,
        ];
        let series = series.into_iter().flatten().map(|series| &series.target);
        let minute = summary.minute.iter();
        let minute = minute.flat_map(|minute| {
            let rows = minute.targets.iter().map(|row| &row.target);
            rows.chain(minute.zones.iter().map(|zone| &zone.target))
        });
        let mut names = Vec::new();
        for target in series.chain(minute) {
            if let Some(name) = partitions.name(target.zone)
                && !self.places.contains_key(&target.zone)
            {
                self.places.insert(target.zone, names.len() as u64);
                names.push(name);
            }
        }
        put(&mut self.out, names.len() as u64);
        for name in names {
            put_text(&mut self.out, name);
        }
    }

    fn target(&mut self, target: &TargetKey, flags: u8) {
        let is_v6 = matches!(target.prefix, IpNet::V6(_));
        let is_out = target.direction == Direction::Out;
        self.out
            .push(flags << 2 | u8::from(is_v6) << 1 | u8::from(is_out));
        let place = self.places.get(&target.zone).copied().unwrap_or(0);
        put(&mut self.out, place);
        self.prefix(&target.prefix);
    }

    /// The length, and as many octets as it covers.
    fn prefix(&mut self, prefix: &IpNet) {
        let length = prefix.prefix_len();
        self.out.push(length);
        let octets = usize::from(length.div_ceil(8));
        match prefix.trunc().addr() {
            IpAddr::V4(address) => self.out.extend_from_slice(&address.octets()[..octets]),
            IpAddr::V6(address) => self.out.extend_from_slice(&address.octets()[..octets]),
        }
    }

    fn series(&mut self, series: &Series) {
        let flags = u8::from(series.vectors.is_some())
            | u8::from(series.unknown_rate) << 1
            | u8::from(series.shape.is_some()) << 2;
        self.target(&series.target, flags);
        self.out.push(series.scope.number());
        put_signed(&mut self.out, series.first_second - self.second);
        put(&mut self.out, series.max_sampling_rate.into());
        put(&mut self.out, series.total.len() as u64);
        self.buckets(&series.total);
        if let Some(vectors) = &series.vectors {
            put(&mut self.out, vectors.len() as u64);
            for (vector, buckets) in vectors {
                put(&mut self.out, vector.attack_id().into());
                self.buckets(buckets);
            }
        }
        if let Some(shape) = &series.shape {
            self.out.push(u8::from(matches!(shape.holds, IpNet::V6(_))));
            self.prefix(&shape.holds);
            put(&mut self.out, shape.hosts.into());
            put(&mut self.out, shape.effective_hosts.into());
            self.out.push(u8::from(shape.risen));
            put(&mut self.out, shape.known_for.into());
            put(&mut self.out, shape.levels.len() as u64);
            for (vector, [octets, packets]) in &shape.levels {
                put(&mut self.out, vector.attack_id().into());
                put(&mut self.out, *octets);
                put(&mut self.out, *packets);
            }
        }
    }

    /// Each bucket by an octet that says which of its sums are not zero, and these; after an empty one, how many more are empty.
    fn buckets(&mut self, buckets: &[Bucket]) {
        let mut rest = buckets;
        while let Some((bucket, others)) = rest.split_first() {
            rest = others;
            let counts = [bucket.octets, bucket.packets, bucket.flows];
            let floats = [bucket.octets_variance, bucket.packets_variance];
            let present = counts.iter().map(|count| *count != 0);
            // The bits, for a negative zero is not what it was if it is left out.
            let present = present.chain(floats.iter().map(|float| float.to_bits() != 0));
            let mask = (0..).zip(present).fold(0_u8, |mask, (place, present)| {
                mask | u8::from(present) << place
            });
            self.out.push(mask);
            if mask == 0 {
                let empty = |bucket: &&Bucket| {
                    !bucket.holds_traffic()
                        && bucket.octets_variance.to_bits() == 0
                        && bucket.packets_variance.to_bits() == 0
                };
                let more = rest.iter().take_while(empty).count();
                put(&mut self.out, more as u64);
                rest = &rest[more..];
            }
            for count in counts.into_iter().filter(|count| *count != 0) {
                put(&mut self.out, count);
            }
            for float in floats.into_iter().filter(|float| float.to_bits() != 0) {
                put_float(&mut self.out, float);
            }
        }
    }

    fn minute(&mut self, minute: &MinuteProfile) {
        put_signed(&mut self.out, minute.first_second - self.second);
        self.out.push(u8::from(minute.is_last));
        let known = |zone: &ZoneId| self.places.contains_key(zone);
        let rows: Vec<&MinuteRow> = minute
            .targets
            .iter()
            .filter(|row| known(&row.target.zone))
            .collect();
        let zones: Vec<&ZoneMinute> = minute
            .zones
            .iter()
            .filter(|zone| known(&zone.target.zone))
            .collect();
        put(&mut self.out, rows.len() as u64);
        for row in rows {
            self.target(&row.target, 0);
            self.out.push(row.scope.number());
            put(&mut self.out, row.seconds.into());
            for sum in [
                row.octets,
                row.packets,
                row.flows,
                row.peak_octets,
                row.peak_packets,
                row.peak_flows,
            ] {
                put(&mut self.out, sum);
            }
        }
        put(&mut self.out, zones.len() as u64);
        for zone in zones {
            self.target(&zone.target, 0);
            put(&mut self.out, zone.parts.len() as u64);
            for (part, sums) in &zone.parts {
                match part {
                    TrafficPart::Protocol(protocol) => self.out.extend([0, *protocol]),
                    TrafficPart::Port { protocol, port } => {
                        self.out.extend([1, *protocol]);
                        put(&mut self.out, (*port).into());
                    }
                }
                for sum in [sums.octets, sums.packets, sums.flows, sums.connections] {
                    put(&mut self.out, sum);
                }
            }
        }
    }
}

struct Reader<'a> {
    input: Input<'a>,
    second: i64,
    /// By the place in the list of names; `None` = not configured here.
    zones: Vec<Option<ZoneId>>,
    /// How many buckets there may still be.
    buckets: u64,
    unknown: u64,
}

impl Reader<'_> {
    fn summary(&mut self, partitions: &Partitions) -> Result<WindowSummary, WireError> {
        let now = self.input.up_to(LAST as u64)?;
        let now = ReceivedAt(Timestamp::from_nanos(now.cast_signed()));
        self.second = now.0.second();
        let settled_until = self.second - self.signed_in(&(-100..=100_000))?;
        for _ in 0..self.input.count()? {
            let name = self.input.text()?;
            self.zones.push(partitions.zone(name));
        }
        let mut summary = WindowSummary::new(0, 0, now, settled_until);
        for list in [
            &mut summary.zones,
            &mut summary.links,
            &mut summary.prefixes,
            &mut summary.hosts,
        ] {
            for _ in 0..self.input.count()? {
                let series = self.series()?;
                list.extend(series);
            }
        }
        if self.flag()? {
            summary.minute = Some(self.minute()?);
        }
        let rows = self.input.count()?;
        if rows > MOST_COVERAGE {
            return Err(self.input.bad());
        }
        for _ in 0..rows {
            summary.coverage.push(ExporterCoverage {
                exporter: ExporterId(self.input.narrow()?),
                records: self.input.up_to(MOST)?,
                missing_records: self.input.up_to(MOST)?,
            });
        }
        for counter in counters_mut(&mut summary.counters) {
            *counter = self.input.up_to(MOST)?;
        }
        Ok(summary)
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.input.octet()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.input.bad()),
        }
    }

    fn signed_in(&mut self, range: &std::ops::RangeInclusive<i64>) -> Result<i64, WireError> {
        let value = self.input.signed()?;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(self.input.bad())
        }
    }

    /// The target, `None` where its zone is not configured here, and the flags.
    fn target(&mut self) -> Result<(Option<TargetKey>, u8), WireError> {
        let octet = self.input.octet()?;
        let place = usize::try_from(self.input.number()?).unwrap_or(usize::MAX);
        let zone = *self.zones.get(place).ok_or(self.input.bad())?;
        let prefix = self.prefix(octet & 2 != 0)?;
        let direction = if octet & 1 != 0 {
            Direction::Out
        } else {
            Direction::In
        };
        let target = zone.map(|zone| TargetKey {
            prefix,
            direction,
            zone,
        });
        self.unknown += u64::from(target.is_none());
        Ok((target, octet >> 2))
    }

    fn prefix(&mut self, is_v6: bool) -> Result<IpNet, WireError> {
        let length = self.input.octet()?;
        let most = if is_v6 { 128 } else { 32 };
        if length > most {
            return Err(self.input.bad());
        }
        let taken = self.input.take(length.div_ceil(8).into())?;
        let mut octets = [0; 16];
        octets[..taken.len()].copy_from_slice(taken);
        let address: IpAddr = if is_v6 {
            octets.into()
        } else {
            let [a, b, c, d, ..] = octets;
            [a, b, c, d].into()
        };
        let prefix = IpNet::new(address, length).map_err(|_| self.input.bad())?;
        if prefix != prefix.trunc() {
            return Err(self.input.bad());
        }
        Ok(prefix)
    }

    fn scope(&mut self) -> Result<TargetScope, WireError> {
        let scope = TargetScope::of_number(self.input.octet()?);
        scope.ok_or_else(|| self.input.bad())
    }

    fn vector(&mut self) -> Result<Vector, WireError> {
        let number = self.input.narrow()?;
        let mut all = Vector::ALL.into_iter();
        all.find(|vector| vector.attack_id() == number)
            .ok_or(self.input.bad())
    }

    fn series(&mut self) -> Result<Option<Series>, WireError> {
        let (target, flags) = self.target()?;
        let scope = self.scope()?;
        let first_second = self.second + self.signed_in(&SPAN)?;
        let max_sampling_rate = self.input.narrow()?;
        let length = self.input.up_to(MOST_BUCKETS)?;
        let total = self.buckets(length)?;
        let vectors = if flags & 1 != 0 {
            Some(self.vectors(length)?)
        } else {
            None
        };
        let shape = if flags & 4 != 0 {
            Some(Box::new(self.shape()?))
        } else {
            None
        };
        Ok(target.map(|target| Series {
            target,
            scope,
            first_second,
            total,
            vectors,
            unknown_rate: flags & 2 != 0,
            max_sampling_rate,
            shape,
        }))
    }

    /// Each vector once, in the order of their numbers: they are looked up by halves.
    fn vectors(&mut self, length: u64) -> Result<Vec<(Vector, Vec<Bucket>)>, WireError> {
        let mut vectors: Vec<(Vector, Vec<Bucket>)> = Vec::new();
        for _ in 0..self.input.count()? {
            let vector = self.vector()?;
            if vectors.last().is_some_and(|(last, _)| *last >= vector) {
                return Err(self.input.bad());
            }
            vectors.push((vector, self.buckets(length)?));
        }
        Ok(vectors)
    }

    fn buckets(&mut self, length: u64) -> Result<Vec<Bucket>, WireError> {
        self.buckets = self
            .buckets
            .checked_sub(length)
            .ok_or_else(|| self.input.bad())?;
        let mut left = length;
        let mut buckets = Vec::new();
        while left > 0 {
            let mask = self.input.octet()?;
            left -= 1;
            if mask == 0 {
                let more = self.input.up_to(left)?;
                left -= more;
                let length = buckets.len() + 1 + more as usize;
                buckets.resize(length, Bucket::default());
                continue;
            }
            let input = &mut self.input;
            let mut count = |place: u8| match mask >> place & 1 {
                0 => Ok(0),
                _ => input.number(),
            };
            let (octets, packets, flows) = (count(0)?, count(1)?, count(2)?);
            let mut float = |place: u8| match mask >> place & 1 {
                0 => Ok(0.0),
                _ => input.float(),
            };
            buckets.push(Bucket {
                octets,
                packets,
                flows,
                octets_variance: float(3)?,
                packets_variance: float(4)?,
            });
        }
        Ok(buckets)
    }

    fn shape(&mut self) -> Result<PrefixShape, WireError> {
        let is_v6 = self.flag()?;
        let mut shape = PrefixShape {
            holds: self.prefix(is_v6)?,
            hosts: self.input.narrow()?,
            effective_hosts: self.input.narrow()?,
            risen: self.flag()?,
            known_for: self.input.narrow()?,
            levels: Vec::new(),
        };
        for _ in 0..self.input.count()? {
            let vector = self.vector()?;
            let level = [self.input.number()?, self.input.number()?];
            shape.levels.push((vector, level));
        }
        Ok(shape)
    }

    fn minute(&mut self) -> Result<MinuteProfile, WireError> {
        let mut minute = MinuteProfile {
            first_second: self.second + self.signed_in(&SPAN)?,
            is_last: self.flag()?,
            ..MinuteProfile::default()
        };
        for _ in 0..self.input.count()? {
            let (target, _) = self.target()?;
            let scope = self.scope()?;
            let seconds = self.input.narrow()?;
            let mut sums = [0; 6];
            for sum in &mut sums {
                *sum = self.input.number()?;
            }
            let [
                octets,
                packets,
                flows,
                peak_octets,
                peak_packets,
                peak_flows,
            ] = sums;
            minute.targets.extend(target.map(|target| MinuteRow {
                target,
                scope,
                seconds,
                octets,
                packets,
                flows,
                peak_octets,
                peak_packets,
                peak_flows,
            }));
        }
        for _ in 0..self.input.count()? {
            let (target, _) = self.target()?;
            let mut parts = Vec::new();
            for _ in 0..self.input.count()? {
                parts.push(self.part()?);
            }
            minute
                .zones
                .extend(target.map(|target| ZoneMinute { target, parts }));
        }
        Ok(minute)
    }

    fn part(&mut self) -> Result<(TrafficPart, MinuteSums), WireError> {
        let has_port = self.flag()?;
        let protocol = self.input.octet()?;
        let part = if has_port {
            let port = self.input.up_to(u16::MAX.into())? as u16;
            TrafficPart::Port { protocol, port }
        } else {
            TrafficPart::Protocol(protocol)
        };
        let mut sum = || self.input.number();
        let sums = MinuteSums {
            octets: sum()?,
            packets: sum()?,
            flows: sum()?,
            connections: sum()?,
        };
        Ok((part, sums))
    }
}

/// All counters, in an order that never changes.
fn counters(counters: &AggregateCounters) -> [u64; 16] {
    let mut copy = *counters;
    counters_mut(&mut copy).map(|counter| *counter)
}

fn counters_mut(counters: &mut AggregateCounters) -> [&mut u64; 16] {
    let AggregateCounters {
        records,
        outside_records,
        counted_octets,
        late_octets,
        late_records,
        early_records,
        refused_octets,
        refused_records,
        unknown_rate_records,
        cut_records,
        refused_prefix_records,
        refused_watches,
        refused_cell_records,
        refused_cells,
        refused_port_records,
        refused_minute_rows,
    } = counters;
    [
        records,
        outside_records,
        counted_octets,
        late_octets,
        late_records,
        early_records,
        refused_octets,
        refused_records,
        unknown_rate_records,
        cut_records,
        refused_prefix_records,
        refused_watches,
        refused_cell_records,
        refused_cells,
        refused_port_records,
        refused_minute_rows,
    ]
}
