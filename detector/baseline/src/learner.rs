//! One target: its traffic as a whole and by aspect, what waits to be learned, and what was imported.

use std::collections::{BTreeMap, VecDeque};

use weir_flow_record::Timestamp;

use crate::cell::{Levels, METRICS};
use crate::config::BaselineSettings;
use crate::normal::{Level, Normal};
use crate::profile::{Profile, Sample};
use crate::{Aspect, Metric};

/// IP protocols that are learned of a target.
const MAX_PROTOCOLS: usize = 16;
/// A target that nothing is told of for no longer than this had no traffic meanwhile.
const SILENCE: i64 = 300;
/// Samples that wait at most.
const MAX_PENDING: usize = 1024;
const WEEK: f64 = 7.0 * 86_400.0;

/// What is known of a target.
#[derive(Clone, Debug)]
pub(crate) struct Learner {
    pub(crate) total: Profile,
    pub(crate) aspects: BTreeMap<Aspect, Profile>,
    pub(crate) imported: Option<Box<Imported>>,
    /// Newest first second that was told of the whole, and of the aspects that come by the minute.
    newest: [i64; 2],
    pending: VecDeque<Pending>,
    /// Seconds from this one on are not learned, until peace is told again.
    at_war: bool,
    pub(crate) dirty: bool,
    /// When it was last given out to be saved.
    pub(crate) saved_at: i64,
}

/// What somebody else knows of a target.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Imported {
    pub(crate) at: i64,
    pub(crate) aspects: BTreeMap<Aspect, [Option<Levels>; METRICS]>,
}

/// A second or a minute that waits to be learned.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) first: i64,
    pub(crate) seconds: u32,
    /// The whole; `None` where only aspects are told.
    pub(crate) total: Option<Sample>,
    pub(crate) aspects: Vec<(Aspect, Sample)>,
}

/// What became of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Taken {
    pub(crate) learned: u64,
    pub(crate) left_out: u64,
    pub(crate) refused_aspects: u64,
}

impl Learner {
    pub(crate) fn new(full: bool) -> Self {
        Self {
            total: Profile::new(full),
            aspects: BTreeMap::new(),
            imported: None,
            newest: [i64::MIN; 2],
            pending: VecDeque::new(),
            at_war: false,
            dirty: false,
            saved_at: i64::MIN,
        }
    }

    /// Goes on after what an earlier run has learned.
    pub(crate) fn continue_after(&mut self, second: i64) {
        self.newest = [second; 2];
    }

    /// Takes in a second or a minute. What is told twice, or of a time before what is known, is left out.
    pub(crate) fn handle(
        &mut self,
        settings: &BaselineSettings,
        sample: Pending,
        peace: bool,
    ) -> Taken {
        let newest = &mut self.newest[usize::from(sample.total.is_none())];
        let (before, first) = (*newest, sample.first);
        if first <= before {
            return Taken::default();
        }
        *newest = first;
        let end = first + i64::from(sample.seconds);
        let mut taken = Taken::default();
        if peace {
            self.fill_silence(&sample, before);
            self.at_war = false;
            if self.pending.len() >= MAX_PENDING {
                taken = self.learn_oldest(settings);
            }
            self.pending.push_back(sample);
        } else {
            taken.left_out = u64::from(sample.seconds) + self.forget_since(first);
            self.at_war = true;
        }
        let quarantine = settings.config.quarantine.0.as_secs() as i64;
        taken.plus(self.learn_before(settings, end - quarantine))
    }

    /// Seconds that were not told, between two that were in peace: there was nothing to tell.
    fn fill_silence(&mut self, sample: &Pending, before: i64) {
        let step = i64::from(sample.seconds.max(1));
        let Some(total) = &sample.total else { return };
        if self.at_war || before == i64::MIN || sample.first - before > SILENCE {
            return;
        }
        let silent = Sample::flat(total.rates.map(|rate| rate.map(|_| 0.0)));
        let mut first = before + step;
        while first + step <= sample.first && self.pending.len() < MAX_PENDING {
            self.pending.push_back(Pending {
                first,
                seconds: sample.seconds,
                total: Some(silent),
                aspects: Vec::new(),
            });
            first += step;
        }
    }

    /// Takes back what waits and ends after `second`: an attack began then. Seconds taken back.
    pub(crate) fn forget_since(&mut self, second: i64) -> u64 {
        let mut forgotten = 0;
        self.pending.retain(|sample| {
            let keep = sample.first + i64::from(sample.seconds) <= second;
            forgotten += if keep { 0 } else { u64::from(sample.seconds) };
            keep
        });
        forgotten
    }

    /// Learns what has waited until `second`.
    pub(crate) fn learn_before(&mut self, settings: &BaselineSettings, second: i64) -> Taken {
        let mut taken = Taken::default();
        while self
            .pending
            .front()
            .is_some_and(|sample| sample.first + i64::from(sample.seconds) <= second)
        {
            taken = taken.plus(self.learn_oldest(settings));
        }
        taken
    }

    fn learn_oldest(&mut self, settings: &BaselineSettings) -> Taken {
        let Some(sample) = self.pending.pop_front() else {
            return Taken::default();
        };
        self.dirty = true;
        let when = (sample.first, sample.seconds, 1);
        let mut taken = Taken {
            learned: u64::from(sample.seconds),
            ..Taken::default()
        };
        if let Some(total) = &sample.total {
            self.total.learn(settings, when, total);
        }
        for (aspect, values) in &sample.aspects {
            if !self.aspects.contains_key(aspect) {
                if !self.has_room(settings, *aspect) {
                    taken.refused_aspects += 1;
                    continue;
                }
                self.aspects.insert(*aspect, Profile::new(false));
            }
            if is_connected(*aspect) {
                let metric = Metric::Connections as usize;
                self.total.learn_metric(sample.first, metric, values);
            }
        }
        // An aspect that is known and not told had nothing. Vectors come with the whole, protocols and ports by themselves.
        let of_whole = sample.total.is_some();
        for (aspect, profile) in &mut self.aspects {
            if matches!(aspect, Aspect::Vector(_)) != of_whole {
                continue;
            }
            let told = sample.aspects.iter().find(|(other, _)| other == aspect);
            let silent = Sample::flat([Some(0.0), Some(0.0), Some(0.0), None]);
            profile.learn(settings, when, told.map_or(&silent, |(_, values)| values));
        }
        taken
    }

    fn has_room(&self, settings: &BaselineSettings, aspect: Aspect) -> bool {
        let count = |is_it: fn(&Aspect) -> bool| self.aspects.keys().filter(|a| is_it(a)).count();
        match aspect {
            Aspect::Total => false,
            Aspect::Vector(_) => true,
            Aspect::Protocol(_) => count(|a| matches!(a, Aspect::Protocol(_))) < MAX_PROTOCOLS,
            Aspect::Port { .. } => {
                count(|a| matches!(a, Aspect::Port { .. })) < settings.config.max_ports
            }
        }
    }

    /// Ends hours that are over at `second`.
    pub(crate) fn close_before(&mut self, settings: &BaselineSettings, second: i64) {
        let mut closed = self.total.close_before(settings, second);
        for profile in self.aspects.values_mut() {
            closed |= profile.close_before(settings, second);
        }
        self.dirty |= closed;
    }

    /// Forgets aspects that had nothing for longer than `age` seconds.
    pub(crate) fn forget_aspects(&mut self, settings: &BaselineSettings, second: i64) {
        let age = settings.config.forget_after.0.as_secs() as i64;
        self.aspects.retain(|_, profile| {
            // What is silent goes on to be learned as silent: its level says whether there is anything.
            let silent = profile.hours.all.minutes > 24 * 60 && profile.weight() < 1.0;
            !silent && second.saturating_sub(profile.updated) <= age
        });
    }

    /// The newest second that anything is known of.
    pub(crate) fn updated(&self) -> i64 {
        let imported = self.imported.as_ref().map_or(i64::MIN, |it| it.at);
        self.total.updated.max(self.newest[0]).max(imported)
    }

    /// What is normal in the hour of a second, or over all hours.
    pub(crate) fn normal(
        &self,
        settings: &BaselineSettings,
        aspect: Aspect,
        second: Option<i64>,
        now: i64,
    ) -> Option<Normal> {
        let profile = match aspect {
            Aspect::Total => Some(&self.total),
            _ => self.aspects.get(&aspect),
        };
        let minimum = settings.config.minimum.0.as_secs();
        let own = profile.filter(|profile| profile.learned >= minimum);
        let imported = self.imported.as_ref();
        let theirs = imported.and_then(|imported| imported.of(aspect));
        let learned = own.map_or(0, |profile| profile.learned);
        let part = match (own, theirs) {
            (None, None) => return None,
            (Some(_), None) => 0.0,
            (None, Some(_)) => 1.0,
            (Some(_), Some(_)) => {
                let weight = settings.config.import_weight.0.as_secs_f64();
                weight / (weight + learned as f64)
            }
        };
        let level = |metric: Metric| {
            let own = own.and_then(|profile| match second {
                Some(second) => profile.estimate(settings, metric as usize, second),
                None => profile.overall(settings, metric as usize),
            });
            let theirs = theirs.and_then(|levels| levels[metric as usize]);
            match (own.map(Level::from_array), theirs.map(Level::from_array)) {
                (Some(own), Some(theirs)) => Some(own.blend(&theirs, part)),
                (own, theirs) => own.or(theirs),
            }
        };
        let fade = |at: i64| {
            let weeks = now.saturating_sub(at).max(0) as f64 / WEEK;
            0.5_f64.powf(weeks * 2.0 * 168.0 / settings.memory_hours())
        };
        let support = own.map_or(0.0, |profile| profile.support(second.unwrap_or(now)));
        let own_confidence = own.map_or(0.0, |profile| {
            support / (support + 1.0) * fade(profile.updated)
        });
        let their_confidence = imported.map_or(0.0, |imported| 0.5 * fade(imported.at));
        let at = imported.map_or(now, |imported| imported.at);
        Some(Normal {
            bits: level(Metric::Bits).unwrap_or_default(),
            packets: level(Metric::Packets).unwrap_or_default(),
            flows: level(Metric::Flows).unwrap_or_default(),
            connections: level(Metric::Connections),
            seconds_learned: learned,
            since: Timestamp::from_seconds(own.map_or(at, |profile| profile.since)),
            updated: Timestamp::from_seconds(own.map_or(at, |profile| profile.updated)),
            confidence: own_confidence.max(own_confidence * (1.0 - part) + their_confidence * part),
            imported: part,
        })
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        let entry = size_of::<Aspect>() + size_of::<Profile>();
        let aspects: usize = self.aspects.values().map(|it| it.octets() + entry).sum();
        let waiting: usize = self
            .pending
            .iter()
            .map(|it| it.aspects.capacity() * size_of::<(Aspect, Sample)>())
            .sum();
        let pending = self.pending.capacity() * size_of::<Pending>();
        size_of::<Self>() + self.total.octets() + aspects + pending + waiting
    }
}

impl Imported {
    /// What was said of an aspect; of a port maybe without its protocol.
    fn of(&self, aspect: Aspect) -> Option<&[Option<Levels>; METRICS]> {
        let any = match aspect {
            Aspect::Port { port, .. } => Some(Aspect::Port { protocol: 0, port }),
            _ => None,
        };
        let own = self.aspects.get(&aspect);
        own.or_else(|| self.aspects.get(&any?))
    }
}

/// Protocols that have connections: what is told of TCP's is told of the whole.
fn is_connected(aspect: Aspect) -> bool {
    aspect == Aspect::Protocol(6)
}

impl Taken {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            learned: self.learned + other.learned,
            left_out: self.left_out + other.left_out,
            refused_aspects: self.refused_aspects + other.refused_aspects,
        }
    }
}
