use weir_flow_record::Row;

use super::FeatureVector;
use super::describe::{describe, log_ratio};
use super::schema::{PER_WINDOW, WINDOW_SECONDS};
use super::slot::{Slot, Traffic};

/// Seconds kept of a target: the longest window, what a window waits for late records ([`LONGEST_SETTLE`]), and two in the making.
pub(crate) const KEPT: usize = 12 + LONGEST_SETTLE as usize;

/// Seconds that a window waits at most for records which come late.
pub(crate) const LONGEST_SETTLE: u8 = 20;

/// Places of the table that finds a second's slot: a power of two above [`KEPT`].
const PLACES: usize = 64;

/// No slot.
const NONE: u8 = u8::MAX;

/// A record's packets and octets are spread over its time, but over no more than this: older seconds are judged already.
const SPREAD_NANOS: i64 = 10_000_000_000;

const NANOS: i64 = 1_000_000_000;

/// Active seconds after which a target's usual level counts as known.
const LEVEL_SECONDS: u32 = 60;

/// The most that a level moves in an active second, in powers of two: an attack of a minute moves it by a fifth of a doubling.
const LEVEL_STEP: f32 = 1.0 / 300.0;

/// The last seconds of one target.
#[derive(Debug)]
pub(crate) struct Target {
    /// Slots with the seconds they hold, in no order; at most [`KEPT`].
    slots: Vec<(i64, Slot)>,
    /// Where the slot of a second is, by its lowest bits; checked against the second that the slot holds.
    places: [u8; PLACES],
    level: Level,
    sampling_rate: u32,
    pub(crate) newest: i64,
    /// The second of which it was last noted that it is to be described.
    pub(crate) due: i64,
}

/// What is usual for a target, learned slowly from its own ten-second windows.
#[derive(Clone, Copy, Default, Debug)]
struct Level {
    packets: f32,
    octets: f32,
    seconds: u32,
}

impl Target {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            places: [NONE; PLACES],
            level: Level::default(),
            sampling_rate: 0,
            newest: i64::MIN,
            due: i64::MIN,
        }
    }

    /// Forgets everything but the memory, for another target.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.places = [NONE; PLACES];
        self.level = Level::default();
        self.sampling_rate = 0;
        self.newest = i64::MIN;
        self.due = i64::MIN;
    }

    /// A record towards the target.
    pub(crate) fn add_in(&mut self, row: &Row, flags_known: bool) {
        let traffic = Traffic::of(row, flags_known);
        self.sampling_rate = row.sampling_rate;
        self.spread(row, |slot, share| slot.add_traffic(&traffic, share));
        if let Some(slot) = self.slot(row.flow_end.div_euclid(NANOS)) {
            slot.add_record(row, flags_known);
        }
    }

    /// A record that leaves the target.
    pub(crate) fn add_out(&mut self, row: &Row) {
        let traffic = Traffic::of(row, true);
        self.spread(row, |slot, share| slot.add_answer(&traffic, share));
        if let Some(slot) = self.slot(row.flow_end.div_euclid(NANOS)) {
            slot.records_out = slot.records_out.saturating_add(1);
        }
    }

    fn spread(&mut self, row: &Row, mut add: impl FnMut(&mut Slot, f32)) {
        let end = row.flow_end;
        let whole = end.saturating_sub(row.flow_start).max(0);
        let start = end - whole.min(SPREAD_NANOS);
        // The share of packets that fell before the span is not squeezed into it.
        let (first, last) = (start.div_euclid(NANOS), end.div_euclid(NANOS));
        if first == last {
            if let Some(slot) = self.slot(last) {
                add(
                    slot,
                    if whole > 0 {
                        (end - start) as f32 / whole as f32
                    } else {
                        1.0
                    },
                );
            }
            return;
        }
        for second in first..=last {
            let from = start.max(second * NANOS);
            let to = end.min((second + 1) * NANOS);
            if let Some(slot) = self.slot(second) {
                add(slot, (to - from) as f32 / whole as f32);
            }
        }
    }

    /// The slot of a second; `None` if it is older than what is kept.
    fn slot(&mut self, second: i64) -> Option<&mut Slot> {
        self.newest = self.newest.max(second);
        let oldest = self.newest.saturating_sub(KEPT as i64 - 1);
        if second < oldest {
            return None;
        }
        if let Some(at) = self.at(second) {
            return self.slots.get_mut(at).map(|(_, slot)| slot);
        }
        let at = match self.slots.iter().position(|(held, _)| *held < oldest) {
            Some(at) => at,
            None => {
                self.slots.push((second, Slot::EMPTY));
                self.slots.len() - 1
            }
        };
        if let (Some(place), Ok(at)) = (self.places.get_mut(place(second)), u8::try_from(at)) {
            *place = at;
        }
        let (held, slot) = self.slots.get_mut(at)?;
        *held = second;
        *slot = Slot::EMPTY;
        Some(slot)
    }

    /// Where the slot of a second is, if it is held.
    fn at(&self, second: i64) -> Option<usize> {
        let at = usize::from(*self.places.get(place(second))?);
        self.slots
            .get(at)
            .is_some_and(|(held, _)| *held == second)
            .then_some(at)
    }

    /// The features of the windows that end with `second`, and learns the level from them. To be called once a second.
    pub(crate) fn describe(&mut self, second: i64) -> FeatureVector {
        let mut features = [f32::NAN; super::FEATURES];
        let mut packets = [0.0; 2];
        let mut octets = [0.0; 2];
        for (index, seconds) in WINDOW_SECONDS.into_iter().enumerate() {
            let sum = self.sum(second, seconds);
            packets[index] = sum.packets / seconds as f32;
            octets[index] = sum.octets / seconds as f32;
            let from = index * PER_WINDOW;
            if let Some(part) = features.get_mut(from..from + PER_WINDOW) {
                describe(&sum, seconds, part);
            }
        }
        let known = self.level.seconds >= LEVEL_SECONDS;
        let over = |rate: f32, level: f32| {
            if known {
                (1.0 + rate).log2() - level
            } else {
                f32::NAN
            }
        };
        let context = [
            log_ratio(packets[1], packets[0]),
            over(packets[0], self.level.packets),
            over(octets[0], self.level.octets),
            if self.sampling_rate == 0 {
                f32::NAN
            } else {
                (self.sampling_rate as f32).log2()
            },
        ];
        if let Some(part) = features.get_mut(2 * PER_WINDOW..) {
            part.copy_from_slice(&context);
        }
        self.level.learn(packets[0], octets[0]);
        features
    }

    fn sum(&self, second: i64, seconds: usize) -> Slot {
        let mut sum = Slot::EMPTY;
        let first = second - seconds as i64;
        // Sums of floats depend on their order, and the order in memory on the past: oldest first.
        for wanted in first + 1..=second {
            if let Some((_, slot)) = self.at(wanted).and_then(|at| self.slots.get(at)) {
                sum.add(slot);
            }
        }
        sum
    }

    /// Whether any record ended in that second.
    pub(crate) fn is_active(&self, second: i64) -> bool {
        let slot = self.at(second).and_then(|at| self.slots.get(at));
        slot.is_some_and(|(_, slot)| slot.records > 0)
    }
}

fn place(second: i64) -> usize {
    second.rem_euclid(PLACES as i64) as usize
}

impl Level {
    fn learn(&mut self, packets: f32, octets: f32) {
        let (packets, octets) = ((1.0 + packets).log2(), (1.0 + octets).log2());
        // While unknown the plain mean; then in small steps, so that an attack hardly moves it.
        if self.seconds < LEVEL_SECONDS {
            let weight = 1.0 / (self.seconds + 1) as f32;
            self.packets += (packets - self.packets) * weight;
            self.octets += (octets - self.octets) * weight;
        } else {
            self.packets += (packets - self.packets).clamp(-LEVEL_STEP, LEVEL_STEP);
            self.octets += (octets - self.octets).clamp(-LEVEL_STEP, LEVEL_STEP);
        }
        self.seconds = self.seconds.saturating_add(1);
    }
}
