//! Which partition a zone belongs to: by its name, so that all members agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_flow_record::ZoneId;

use crate::{MinuteProfile, Series, WindowSummary};

/// The partition of a key, as Kafka's own clients choose it: murmur2, without its sign.
///
/// ```
/// assert_eq!(weir_flow_aggregate::cluster::partition_of(b"21", 1_000), 340);
/// ```
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash 2 with Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev();
        hash ^= tail.fold(0, |tail, octet| tail << 8 | u32::from(*octet));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// The zones and links with their partitions.
#[derive(Clone, Debug)]
pub struct Partitions {
    count: u32,
    names: BTreeMap<ZoneId, (Arc<str>, u32)>,
    numbers: BTreeMap<Arc<str>, ZoneId>,
}

impl Partitions {
    /// `count` partitions (at least one) of zones and links.
    pub fn new(count: u32, names: impl IntoIterator<Item = (ZoneId, Arc<str>)>) -> Self {
        let count = count.max(1);
        let names: BTreeMap<_, _> = names
            .into_iter()
            .map(|(zone, name)| {
                let partition = partition_of(name.as_bytes(), count);
                (zone, (name, partition))
            })
            .collect();
        let numbers = names
            .iter()
            .map(|(zone, (name, _))| (Arc::clone(name), *zone))
            .collect();
        Self {
            count,
            names,
            numbers,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The name of a zone or link.
    #[must_use]
    pub fn name(&self, zone: ZoneId) -> Option<&str> {
        self.names.get(&zone).map(|(name, _)| &**name)
    }

    /// The number of a zone or link here.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<ZoneId> {
        self.numbers.get(name).copied()
    }

    /// The partition of a zone or link.
    #[must_use]
    pub fn of(&self, zone: ZoneId) -> Option<u32> {
        self.names.get(&zone).map(|(_, partition)| *partition)
    }

    /// Zones and links of a partition.
    pub fn zones(&self, partition: u32) -> impl Iterator<Item = ZoneId> {
        let names = self.names.iter();
        names
            .filter(move |(_, (_, of))| *of == partition)
            .map(|(zone, _)| *zone)
    }

    /// A summary for each partition, in their order, also where there is nothing to tell: time passes there too. Counters go to
    /// the first one; of coverage each gets the sum.
    #[must_use]
    pub fn cut(&self, summary: WindowSummary) -> Vec<WindowSummary> {
        let mut coverage = summary.coverage.iter().copied();
        let coverage = coverage.next().map(|first| {
            coverage.fold(first, |mut sum, row| {
                sum.records = sum.records.saturating_add(row.records);
                sum.missing_records = sum.missing_records.saturating_add(row.missing_records);
                sum
            })
        });
        let mut parts: Vec<WindowSummary> = (0..self.count)
            .map(|_| {
                let (now, settled) = (summary.now, summary.settled_until);
                let mut part = WindowSummary::new(summary.shard, summary.tick, now, settled);
                part.coverage.extend(coverage);
                part.minute = summary.minute.as_ref().map(|minute| MinuteProfile {
                    first_second: minute.first_second,
                    is_last: minute.is_last,
                    ..MinuteProfile::default()
                });
                part
            })
            .collect();
        if let Some(first) = parts.first_mut() {
            first.counters = summary.counters;
        }
        self.spread(summary.zones, &mut parts, |part| &mut part.zones);
        self.spread(summary.links, &mut parts, |part| &mut part.links);
        self.spread(summary.prefixes, &mut parts, |part| &mut part.prefixes);
        self.spread(summary.hosts, &mut parts, |part| &mut part.hosts);
        let minute = summary.minute.unwrap_or_default();
        for row in minute.targets {
            if let Some(minute) = self.minute_of(row.target.zone, &mut parts) {
                minute.targets.push(row);
            }
        }
        for zone in minute.zones {
            if let Some(minute) = self.minute_of(zone.target.zone, &mut parts) {
                minute.zones.push(zone);
            }
        }
        parts
    }

    fn spread(
        &self,
        list: Vec<Series>,
        parts: &mut [WindowSummary],
        of: fn(&mut WindowSummary) -> &mut Vec<Series>,
    ) {
        for series in list {
            let partition = self.of(series.target.zone);
            if let Some(part) = partition.and_then(|place| parts.get_mut(place as usize)) {
                of(part).push(series);
            }
        }
    }

    fn minute_of<'p>(
        &self,
        zone: ZoneId,
        parts: &'p mut [WindowSummary],
    ) -> Option<&'p mut MinuteProfile> {
        parts.get_mut(self.of(zone)? as usize)?.minute.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_own_clients_put_them() {
        // From the tests of Kafka's Utils.murmur2.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }
}
