//! What all collectors say of a partition as one: they come, go and start again.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_flow_record::Timestamp;

use super::Part;
use crate::{AggregationConfig, Merger, WatchList, WindowSummary};

/// Collectors that are added up at most; one that starts again is another one until what it said before is forgotten.
pub const MAX_COLLECTORS: usize = 64;
/// Seconds behind the newest tick after which nobody waits for a collector any more: seconds settle without it.
const STALLED: i64 = 10;

/// Adds up the parts of collectors. After each [`handle_part`](Self::handle_part), poll
/// [`poll_summary`](Self::poll_summary) and [`poll_watch`](Self::poll_watch).
///
/// A part replaces what the same life of the same collector said before, and adds to what others say; one that comes again
/// changes nothing. What a collector said before it started again still counts: it tells of other records now.
#[derive(Debug)]
pub struct CollectorMerger {
    merger: Merger,
    /// By their number.
    lives: Vec<Option<Life>>,
    /// The newest life of each collector.
    newest: BTreeMap<Arc<str>, u16>,
    /// Seconds of silence after which a life is forgotten.
    forget: i64,
    heard: i64,
    counters: CollectorCounters,
    summary: Option<WindowSummary>,
}

/// A collector between two starts.
#[derive(Debug)]
struct Life {
    collector: Arc<str>,
    epoch: u64,
    sequence: u64,
    heard: i64,
    settled_until: i64,
}

/// What became of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It counts.
    Taken,
    /// It counts, and is the first of its collector's life.
    Joined,
    /// It came before, or is of an earlier life.
    Repeat,
    /// There are too many collectors.
    Refused,
}

/// What was left out, and how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CollectorCounters {
    /// Parts that counted.
    pub parts: u64,
    /// Parts that came before, or of an earlier life.
    pub repeats: u64,
    /// Parts of collectors for which there was no room.
    pub refused: u64,
    /// Collectors that are heard.
    pub collectors: u64,
}

impl CollectorMerger {
    /// Knows no collector yet; histories as in `config`.
    #[must_use]
    pub fn new(config: &AggregationConfig) -> Self {
        let merger = Merger::of_members(MAX_COLLECTORS as u16, config);
        Self {
            forget: merger.longest_history(),
            merger,
            lives: Vec::new(),
            newest: BTreeMap::new(),
            heard: i64::MIN,
            counters: CollectorCounters::default(),
            summary: None,
        }
    }

    /// Takes in a part.
    pub fn handle_part(&mut self, part: Part) -> Admission {
        let second = part.summary.time().second();
        let known = self.newest.get(&part.collector).copied();
        let life = known.and_then(|number| Some((number, self.life(number)?)));
        let (number, admission) = match life {
            Some((_, life)) if (part.epoch, part.sequence) <= (life.epoch, life.sequence) => {
                self.counters.repeats += 1;
                return Admission::Repeat;
            }
            Some((number, life)) if life.epoch == part.epoch => (number, Admission::Taken),
            _ => match self.join(&part, second) {
                Some(number) => (number, Admission::Joined),
                None => {
                    self.counters.refused += 1;
                    return Admission::Refused;
                }
            },
        };
        let mut summary = part.summary;
        self.heard = self.heard.max(second);
        if let Some(Some(life)) = self.lives.get_mut(usize::from(number)) {
            life.sequence = part.sequence;
            life.heard = life.heard.max(second);
            life.settled_until = life.settled_until.max(summary.settled_until);
        }
        self.counters.parts += 1;
        summary.shard = number;
        self.merger.handle_summary(summary);
        let settled = self.settled_until();
        while let Some(mut summary) = self.merger.poll_summary() {
            summary.settled_until = settled.unwrap_or(summary.settled_until);
            self.summary = Some(summary);
        }
        self.forget_silent();
        admission
    }

    /// What the detector wants to see, or no longer.
    pub fn handle_watch(&mut self, list: &WatchList) {
        self.merger.handle_watch(list);
    }

    /// The sum as of the newest part that counted.
    #[must_use]
    pub fn poll_summary(&mut self) -> Option<WindowSummary> {
        self.summary.take()
    }

    /// What a collector is to watch. Poll until `None` after each `handle_*`.
    #[must_use]
    pub fn poll_watch(&mut self) -> Option<(Arc<str>, WatchList)> {
        while let Some((number, list)) = self.merger.poll_watch() {
            // Who has started again is told as who it is now.
            if let Some(life) = self.life(number)
                && self.newest.get(&life.collector) == Some(&number)
            {
                return Some((Arc::clone(&life.collector), list));
            }
        }
        None
    }

    /// The collectors that are heard.
    pub fn collectors(&self) -> impl Iterator<Item = &Arc<str>> {
        self.newest
            .iter()
            .filter(|(_, number)| self.life(**number).is_some_and(|life| self.is_heard(life)))
            .map(|(collector, _)| collector)
    }

    /// Counters.
    #[must_use]
    pub fn counters(&self) -> CollectorCounters {
        CollectorCounters {
            collectors: self.collectors().count() as u64,
            ..self.counters
        }
    }

    fn life(&self, number: u16) -> Option<&Life> {
        self.lives.get(usize::from(number))?.as_ref()
    }

    fn is_heard(&self, life: &Life) -> bool {
        life.heard >= self.heard - STALLED
    }

    /// A second is settled once it is with all collectors that are heard.
    fn settled_until(&self) -> Option<i64> {
        let newest = self.newest.values();
        newest
            .filter_map(|number| self.life(*number))
            .filter(|life| self.is_heard(life))
            .map(|life| life.settled_until)
            .min()
    }

    /// A number for a collector's new life; that of who has been silent for longest where there is none.
    fn join(&mut self, part: &Part, second: i64) -> Option<u16> {
        let free = self.lives.iter().position(Option::is_none);
        let place = match free {
            Some(place) => place,
            None if self.lives.len() < MAX_COLLECTORS => {
                self.lives.push(None);
                self.lives.len() - 1
            }
            None => {
                let silent = self.lives.iter().enumerate().filter_map(|(place, life)| {
                    let life = life.as_ref()?;
                    (!self.is_heard(life)).then_some((life.heard, place))
                });
                let (_, place) = silent.min()?;
                self.leave(place);
                place
            }
        };
        let number = u16::try_from(place).ok()?;
        self.merger.join(number);
        self.lives[place] = Some(Life {
            collector: Arc::clone(&part.collector),
            epoch: part.epoch,
            sequence: 0,
            heard: second,
            settled_until: i64::MIN,
        });
        self.newest.insert(Arc::clone(&part.collector), number);
        Some(number)
    }

    fn leave(&mut self, place: usize) {
        let Some(life) = self.lives.get_mut(place).and_then(Option::take) else {
            return;
        };
        let number = place as u16;
        self.merger.leave(number);
        if self.newest.get(&life.collector) == Some(&number) {
            self.newest.remove(&life.collector);
        }
    }

    fn forget_silent(&mut self) {
        let before = self.heard - self.forget;
        let silent = self.lives.iter().enumerate().filter(|(_, life)| {
            let life = life.as_ref();
            life.is_some_and(|life| life.heard < before)
        });
        let silent: Vec<usize> = silent.map(|(place, _)| place).collect();
        silent.into_iter().for_each(|place| self.leave(place));
    }
}

/// Time of the newest part.
impl CollectorMerger {
    /// The newest tick that any collector has told of.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        (self.heard > i64::MIN).then(|| Timestamp::from_seconds(self.heard))
    }
}
