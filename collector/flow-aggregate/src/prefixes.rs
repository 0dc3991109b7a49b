//! Configured prefix lengths: sums of the hosts inside, with all vectors.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weir_flow_record::{Address, Direction, TargetKey, Vector, ZoneId};

use crate::hosts::NONE;
use crate::ring::{Addition, Rings};
use crate::{Bucket, Interesting, PrefixLength, Series, TargetScope};

/// Prefixes, and for each host the list of those that it is in.
#[derive(Debug)]
pub(crate) struct Prefixes {
    by_key: BTreeMap<(u16, Direction, IpNet), u32>,
    slots: Vec<Slot>,
    /// By list number: slots. Hosts of the same longest prefix share a list.
    lists: Vec<Vec<u32>>,
    list_of: BTreeMap<(u16, Direction, IpNet), u32>,
    changed: Vec<u32>,
    max: usize,
    history: usize,
}

#[derive(Debug)]
struct Slot {
    zone: u16,
    prefix: IpNet,
    interesting: Interesting,
    rings: Rings,
    /// Told once, a prefix is told at every change: the detector may hold an attack on it.
    told: bool,
    changed: bool,
}

impl Prefixes {
    pub(crate) fn new(max: usize, history: usize) -> Self {
        Self {
            by_key: BTreeMap::new(),
            slots: Vec::new(),
            lists: Vec::new(),
            list_of: BTreeMap::new(),
            changed: Vec::new(),
            max,
            history,
        }
    }

    /// The list of prefixes for a new host; [`NONE`] where there is no room for more prefixes.
    pub(crate) fn list(
        &mut self,
        zone: u16,
        address: Address,
        direction: Direction,
        lengths: &[PrefixLength],
        newest: i64,
    ) -> u32 {
        let lengths = lengths
            .iter()
            .filter(|length| length.interesting.direction == direction);
        let prefixes: Vec<(IpNet, Interesting)> = lengths
            .map(|length| (address.prefix(length.v4, length.v6), length.interesting))
            .collect();
        let Some(longest) = prefixes
            .iter()
            .map(|(prefix, _)| *prefix)
            .max_by_key(IpNet::prefix_len)
        else {
            return NONE;
        };
        if let Some(list) = self.list_of.get(&(zone, direction, longest)) {
            return *list;
        }
        if self.slots.len() + prefixes.len() > self.max {
            return NONE;
        }
        let mut list = Vec::new();
        for (prefix, interesting) in prefixes {
            let slot = *self
                .by_key
                .entry((zone, direction, prefix))
                .or_insert_with(|| {
                    let rings = Rings::new(self.history, newest + 2 - self.history as i64);
                    self.slots.push(Slot {
                        zone,
                        prefix,
                        interesting,
                        rings,
                        told: false,
                        changed: false,
                    });
                    (self.slots.len() - 1) as u32
                });
            list.push(slot);
        }
        self.lists.push(list);
        let index = (self.lists.len() - 1) as u32;
        self.list_of.insert((zone, direction, longest), index);
        index
    }

    /// Adds a record to all prefixes of a list.
    #[inline]
    pub(crate) fn add(
        &mut self,
        list: u32,
        oldest: i64,
        vector: Vector,
        addition: &Addition,
        rate: u32,
    ) {
        let Some(list) = self.lists.get(list as usize) else {
            return;
        };
        for index in list {
            if let Some(slot) = self.slots.get_mut(*index as usize) {
                slot.rings.advance(oldest);
                slot.rings.add(vector, addition, rate);
                if !slot.changed {
                    slot.changed = true;
                    self.changed.push(*index);
                }
            }
        }
    }

    /// Appends what changed of the prefixes that are interesting.
    pub(crate) fn summarise(&mut self, newest: i64, zones: &[ZoneId], out: &mut Vec<Series>) {
        for index in self.changed.drain(..) {
            let Some(slot) = self.slots.get_mut(index as usize) else {
                continue;
            };
            slot.changed = false;
            let Some(reading) = slot.rings.read(newest) else {
                continue;
            };
            slot.told |= reading
                .total
                .iter()
                .any(|bucket| is_interesting(bucket, &slot.interesting));
            if slot.told {
                let zone = zones
                    .get(usize::from(slot.zone))
                    .copied()
                    .unwrap_or_default();
                let target = TargetKey {
                    prefix: slot.prefix,
                    direction: slot.interesting.direction,
                    zone,
                };
                out.push(reading.series(target, TargetScope::Prefix));
            }
        }
        out.sort_by_key(|series| series.target);
    }
}

fn is_interesting(bucket: &Bucket, rates: &Interesting) -> bool {
    let over = |value: u64, rate: Option<u64>| rate.is_some_and(|rate| value >= rate);
    over(bucket.octets, rates.octets)
        || over(bucket.packets, rates.packets)
        || over(bucket.flows, rates.flows)
}
