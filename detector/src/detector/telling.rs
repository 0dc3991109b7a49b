//! What is told of attacks, and when.

use std::time::Duration;

use weir_attack_event::{BaselineRef, DrillDown, EventKind, Reason};
use weir_baseline::{Aspect, BaselineTarget};
use weir_flow_aggregate::{TargetScope, WatchList};
use weir_flow_record::{EventTime, TargetKey, Timestamp};

use super::Detector;
use crate::DetectorOutput;
use crate::saved::{Saved, SavedRepeat};
use crate::words;

impl Detector {
    /// Tells a new attack: it is saved first, and waits for no drill-down.
    pub(super) fn open(&mut self, key: (TargetScope, TargetKey)) {
        self.note_normal(key);
        let Some(attack) = self.attacks.get(&key) else {
            return;
        };
        let (watched, continued) = (attack.watched(), attack.continued);
        if !attack.is_model_only() {
            self.unlearn(key);
        }
        self.watch(watched, Vec::new());
        self.tell(
            key,
            if continued {
                EventKind::AttackUpdate
            } else {
                EventKind::AttackStart
            },
        );
        self.ask(key);
    }

    /// Notes what was normal when an attack began, where that is known.
    fn note_normal(&mut self, key: (TargetScope, TargetKey)) {
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        let target = BaselineTarget::of(key.0, &key.1);
        let normal = self.baselines.normal(&target, Aspect::Total, attack.start);
        if let Some(normal) = normal {
            let count = |level: f64| level.max(0.0) as u64;
            attack.baseline = Some(BaselineRef {
                bits_per_second: count(normal.bits.mid),
                packets_per_second: count(normal.packets.mid),
                high_bits_per_second: Some(count(normal.bits.high)),
                high_packets_per_second: Some(count(normal.packets.high)),
                seconds_learned: Some(normal.seconds_learned),
                updated: Some(normal.updated),
                confidence: Some(normal.confidence),
            });
        }
    }

    pub(super) fn watch(&mut self, watch: Vec<TargetKey>, release: Vec<TargetKey>) {
        let list = WatchList {
            watch,
            release,
            ..WatchList::default()
        };
        self.outputs.push_back(DetectorOutput::Watch(list));
    }

    pub(super) fn persist(&mut self, row: Saved) {
        self.outputs
            .push_back(DetectorOutput::Persist(Box::new(row)));
    }

    pub(super) fn tell(&mut self, key: (TargetScope, TargetKey), kind: EventKind) {
        let (now, seen) = (self.now, self.seen());
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        let event = attack.event(kind, now, seen);
        let saved = attack.save(&event);
        self.persist(Saved::Attack(Box::new(saved)));
        self.outputs
            .push_back(DetectorOutput::Event(Box::new(event)));
    }

    fn ask(&mut self, key: (TargetScope, TargetKey)) {
        let Some(attack) = self.attacks.get(&key) else {
            return;
        };
        let to = Timestamp::from_seconds(attack.last_busy + 1).plus(Duration::from_secs(1));
        self.outputs.push_back(DetectorOutput::DrillDown(DrillDown {
            attack: attack.id.clone(),
            target: attack.key,
            other_prefixes: attack.target.other_prefixes.clone(),
            from: EventTime(attack.start),
            to: EventTime(to),
            top: self.settings.top_talkers,
        }));
    }

    /// Ends an attack, for a reason other than that it has been quiet, if there is one.
    pub(super) fn end(&mut self, key: (TargetScope, TargetKey), reason: Option<Reason>) {
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        attack.why.extend(reason);
        self.tell(key, EventKind::AttackEnd);
        let Some(attack) = self.attacks.remove(&key) else {
            return;
        };
        if attack.model.is_some() {
            self.heard.note_over(attack.key, attack.model_last);
        }
        if attack.is_model_only() {
            // Thresholds judge the target as if there had been no attack.
            return self.watch(Vec::new(), attack.watched());
        }
        if let Some(track) = self.tracks.get_mut(&key) {
            track.judged_until = attack.last_busy + 1;
        }
        let repeat = self
            .repeats
            .handle_end(key, attack.last_busy, attack.longest_gap);
        if let Some(repeat) = repeat {
            self.persist(Saved::Repeat(SavedRepeat {
                repeated: key.1,
                repeat_scope: key.0.number(),
                starts: repeat.starts,
                last_end: repeat.last_end,
                longest_gap: repeat.longest_gap,
            }));
        }
        self.watch(Vec::new(), attack.watched());
    }

    /// Adds to the reasons of a new attack what its figures rest on.
    pub(super) fn tell_sampling(&mut self, key: (TargetScope, TargetKey)) {
        let seen = self.seen();
        if let (Some(attack), Some(track)) = (self.attacks.get_mut(&key), self.tracks.get(&key)) {
            attack
                .why
                .extend(words::sampling(track.unknown_rate, track.max_sampling_rate));
            attack.why.extend(words::coverage(seen));
        }
    }

    /// Ends what is over, updates what has changed or was not told for long.
    pub(super) fn handle_due(&mut self) {
        let (now, settle, interval) = (self.now, self.settle, self.settings.update_interval);
        let ended: Vec<_> = self
            .attacks
            .iter()
            .filter(|(_, attack)| attack.end_due(settle) <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in ended {
            self.end(key, None);
        }
        let updated: Vec<_> = self
            .attacks
            .iter()
            .filter(|(_, attack)| attack.update_due(interval) <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in updated {
            let only_time_has_passed = self.attacks.get(&key).is_some_and(|attack| !attack.news);
            self.tell(key, EventKind::AttackUpdate);
            if only_time_has_passed {
                self.ask(key);
            }
        }
    }
}
