//! Full rings of interesting hosts: a bounded slab.

use crate::aggregator::UNCLASSIFIED;
use crate::ring::{Addition, Reading, Rings};
use crate::spread::{SECOND, Shares, Span, Spread};
use weir_flow_record::Vector;

/// The slab.
#[derive(Debug)]
pub(crate) struct Watched {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    max: usize,
    history: usize,
}

#[derive(Debug)]
struct Slot {
    host: u32,
    rings: Rings,
    /// Wanted by the detector, whatever its traffic.
    pinned: bool,
}

impl Watched {
    pub(crate) fn new(max: usize, history: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            max,
            history,
        }
    }

    /// A slot for a host; `None` where the slab is full.
    pub(crate) fn take(&mut self, host: u32, oldest: i64) -> Option<u32> {
        let mut rings = Rings::new(self.history, oldest);
        rings.mark_all();
        let slot = Some(Slot {
            host,
            rings,
            pinned: false,
        });
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            return Some(index);
        }
        if self.slots.len() >= self.max {
            return None;
        }
        self.slots.push(slot);
        Some((self.slots.len() - 1) as u32)
    }

    pub(crate) fn give_back(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.take().is_some()
        {
            self.free.push(index);
        }
    }

    pub(crate) fn pin(&mut self, index: u32, pinned: bool) {
        if let Some(Some(slot)) = self.slots.get_mut(index as usize) {
            slot.pinned = pinned;
        }
    }

    pub(crate) fn is_pinned(&self, index: u32) -> bool {
        matches!(self.slots.get(index as usize), Some(Some(slot)) if slot.pinned)
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(crate) fn host(&self, index: u32) -> Option<u32> {
        self.slots
            .get(index as usize)?
            .as_ref()
            .map(|slot| slot.host)
    }

    #[inline]
    pub(crate) fn add(
        &mut self,
        index: u32,
        oldest: i64,
        vector: Vector,
        addition: &Addition,
        rate: u32,
    ) {
        if let Some(Some(slot)) = self.slots.get_mut(index as usize) {
            slot.rings.advance(oldest);
            slot.rings.add(vector, addition, rate);
        }
    }

    /// Adds what a host's totals have more than its vectors: rows that came before the host was watched and are forgotten.
    pub(crate) fn fill_total(
        &mut self,
        index: u32,
        oldest: i64,
        totals: impl Iterator<Item = (i64, u64, u64, u64)>,
    ) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else {
            return;
        };
        slot.rings.mark_all();
        let Some(known) = slot
            .rings
            .read(slot.rings.oldest() + self.history as i64 - 2)
        else {
            return;
        };
        slot.rings.mark_all();
        for (second, octets, packets, flows) in totals {
            let at = usize::try_from(second - known.first_second).ok();
            let bucket = at
                .and_then(|at| known.total.get(at))
                .copied()
                .unwrap_or_default();
            let (octets, packets) = (
                octets.saturating_sub(bucket.octets),
                packets.saturating_sub(bucket.packets),
            );
            let flows = flows.saturating_sub(bucket.flows);
            if octets == 0 && packets == 0 && flows == 0 {
                continue;
            }
            let point = Span {
                start: second * SECOND,
                end: second * SECOND,
            };
            let Some(spread) = Spread::new(point, oldest) else {
                continue;
            };
            let whole = |count| Shares {
                first: count,
                ..Shares::default()
            };
            let addition = Addition {
                spread,
                octets: whole(octets),
                packets: whole(packets),
                octets_variance: 0.0,
                packets_variance: 0.0,
                flows: u32::try_from(flows).unwrap_or(u32::MAX),
            };
            slot.rings.add(UNCLASSIFIED, &addition, 1);
        }
    }

    /// What changed; `None` where nothing did.
    pub(crate) fn read(&mut self, index: u32, oldest: i64, newest: i64) -> Option<Reading> {
        let slot = self.slots.get_mut(index as usize)?.as_mut()?;
        slot.rings
            .is_changed()
            .then(|| slot.rings.advance(oldest))?;
        slot.rings.read(newest)
    }
}
