//! Minutes of several shards into one: rows wait until all shards have told theirs, and then go out in slices.

use std::collections::{BTreeMap, VecDeque};

use weir_flow_record::TargetKey;

use crate::{MinuteProfile, MinuteRow, MinuteSums, TargetScope, TrafficPart, ZoneMinute};

/// Rows of a minute that wait at most.
const MAX_ROWS: usize = 1 << 18;
/// Seconds after its end when a minute is told though a shard has not told all of it: one without traffic does not tick.
const PATIENCE: i64 = 45;
/// Rows of a slice.
const SLICE: usize = 2048;
/// Slices that wait at most.
const MAX_SLICES: usize = 1024;

/// Adds up the minutes of shards.
#[derive(Debug)]
pub(crate) struct MinuteMerger {
    gathered: BTreeMap<i64, Gathered>,
    shards: usize,
    /// First second of the newest minute that was told.
    told: i64,
    slices: VecDeque<MinuteProfile>,
    refused: u64,
}

/// What shards said of a minute so far.
#[derive(Debug, Default)]
struct Gathered {
    targets: BTreeMap<(TargetScope, TargetKey), MinuteRow>,
    zones: BTreeMap<TargetKey, BTreeMap<TrafficPart, MinuteSums>>,
    /// Shards that have told all.
    done: Vec<usize>,
}

impl MinuteMerger {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            gathered: BTreeMap::new(),
            shards,
            told: i64::MIN,
            slices: VecDeque::new(),
            refused: 0,
        }
    }

    /// How many shards there are from now on.
    pub(crate) fn set_shards(&mut self, shards: usize) {
        self.shards = shards;
    }

    /// Takes in what a shard says at a second; a slice of what all say, if there is one.
    pub(crate) fn merge(
        &mut self,
        shard: usize,
        second: i64,
        profile: Option<MinuteProfile>,
    ) -> Option<MinuteProfile> {
        if let Some(profile) = profile {
            self.gather(shard, profile);
        }
        while let Some((minute, gathered)) = self.gathered.first_key_value()
            && (gathered.done.len() >= self.shards.max(1) || *minute + 60 + PATIENCE <= second)
        {
            if let Some((minute, gathered)) = self.gathered.pop_first() {
                self.told = minute;
                self.cut(minute, gathered);
            }
        }
        self.slices.pop_front()
    }

    /// Rows that came too late, or found no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    fn gather(&mut self, shard: usize, profile: MinuteProfile) {
        if profile.first_second <= self.told {
            self.refused += profile.targets.len() as u64;
            return;
        }
        let gathered = self.gathered.entry(profile.first_second).or_default();
        for row in &profile.targets {
            let key = (row.scope, row.target);
            let has_room = gathered.targets.len() < MAX_ROWS;
            match gathered.targets.get_mut(&key) {
                Some(sum) => sum.add(row),
                None if has_room => {
                    gathered.targets.insert(key, *row);
                }
                None => self.refused += 1,
            }
        }
        for zone in profile.zones {
            let parts = gathered.zones.entry(zone.target).or_default();
            for (part, sums) in zone.parts {
                parts.entry(part).or_default().add(&sums);
            }
        }
        if profile.is_last && !gathered.done.contains(&shard) {
            gathered.done.push(shard);
        }
    }

    fn cut(&mut self, first_second: i64, gathered: Gathered) {
        let rows: Vec<MinuteRow> = gathered.targets.into_values().collect();
        let mut zones: Vec<ZoneMinute> = gathered
            .zones
            .into_iter()
            .map(|(target, parts)| ZoneMinute {
                target,
                parts: parts.into_iter().collect(),
            })
            .collect();
        let slices = rows.len().div_ceil(SLICE).max(1);
        for place in 0..slices {
            let rest = rows.get(place * SLICE..).unwrap_or_default();
            let targets = rest.get(..SLICE.min(rest.len())).unwrap_or_default();
            if self.slices.len() >= MAX_SLICES {
                self.refused += targets.len() as u64;
                continue;
            }
            self.slices.push_back(MinuteProfile {
                first_second,
                targets: targets.to_vec(),
                zones: std::mem::take(&mut zones),
                is_last: place + 1 == slices,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{Direction, ZoneId};

    use super::*;

    fn profile(hosts: &[(u8, u64)], is_last: bool) -> MinuteProfile {
        let row = |(host, octets): &(u8, u64)| MinuteRow {
            target: TargetKey {
                prefix: std::net::IpAddr::from([10, 0, 0, *host]).into(),
                direction: Direction::In,
                zone: ZoneId(0),
            },
            scope: TargetScope::Host,
            seconds: 60,
            octets: *octets,
            packets: 60,
            flows: 1,
            peak_octets: *octets,
            peak_packets: 60,
            peak_flows: 1,
        };
        MinuteProfile {
            first_second: 600,
            targets: hosts.iter().map(row).collect(),
            zones: Vec::new(),
            is_last,
        }
    }

    #[test]
    fn a_minute_is_told_when_all_shards_have_told_theirs() {
        let mut merger = MinuteMerger::new(2);
        assert!(
            merger
                .merge(0, 666, Some(profile(&[(1, 5)], false)))
                .is_none()
        );
        assert!(
            merger
                .merge(1, 666, Some(profile(&[(1, 7), (2, 1)], true)))
                .is_none()
        );
        let told = merger
            .merge(0, 667, Some(profile(&[(3, 9)], true)))
            .unwrap();
        let octets: Vec<u64> = told.targets.iter().map(|row| row.octets).collect();
        assert_eq!((octets, told.is_last), (vec![12, 1, 9], true));
        // What comes afterwards is too late.
        assert!(
            merger
                .merge(1, 668, Some(profile(&[(4, 1)], true)))
                .is_none()
        );
        assert_eq!(merger.refused(), 1);
    }

    #[test]
    fn a_shard_without_traffic_does_not_hold_up_the_others() {
        let mut merger = MinuteMerger::new(2);
        assert!(
            merger
                .merge(0, 666, Some(profile(&[(1, 5)], true)))
                .is_none()
        );
        assert!(merger.merge(0, 704, None).is_none());
        assert_eq!(merger.merge(0, 705, None).unwrap().targets.len(), 1);
    }

    #[test]
    fn many_rows_go_out_in_slices() {
        let mut merger = MinuteMerger::new(1);
        let mut many = profile(&[(1, 1)], true);
        let row = many.targets[0];
        many.targets = (0..5000_u32)
            .map(|host| MinuteRow {
                target: TargetKey {
                    prefix: std::net::IpAddr::from((0x0a00_0000 + host).to_be_bytes()).into(),
                    ..row.target
                },
                ..row
            })
            .collect();
        let mut sizes = vec![merger.merge(0, 666, Some(many)).unwrap().targets.len()];
        while let Some(slice) = merger.merge(0, 667, None) {
            sizes.push(slice.targets.len());
        }
        assert_eq!(sizes, [2048, 2048, 904]);
    }
}
