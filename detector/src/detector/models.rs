//! What follows from the active model's word. It adds: whatever thresholds say without it they say with it.

use weir_attack_event::{ModelWord, Reason};
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Direction, TargetKey, Timestamp};

use super::judging::told_target;
use super::operator::zone_of;
use super::{Detector, MAX_ATTACKS};
use crate::attack::{Attack, Beginning};
use crate::config::Stage;
use crate::model::{ModelCounters, ModelVerdict};
use crate::track::Metric;
use crate::words;

impl Detector {
    /// Takes in what the active model says of a host. An attack that is open on it is named and rated; else one is raised, with the
    /// least severity, unless the configuration, a mute, a maintenance window, the zone's stage or the hourly bound forbids it.
    /// Poll [`poll_output`](Self::poll_output) afterwards.
    pub fn handle_verdict(&mut self, now: Timestamp, verdict: &ModelVerdict) {
        self.handle_now(now);
        let sure = is_sure(verdict, self.settings.models.least_confidence);
        let Some(zone) = zone_of(&self.settings.zones, &verdict.target).filter(|_| sure) else {
            return;
        };
        self.heard.counters.verdicts += 1;
        let key = TargetKey {
            prefix: verdict.target,
            direction: Direction::In,
            zone: zone.id,
        };
        let key = (TargetScope::Host, key);
        if self.attacks.contains_key(&key) {
            self.name(key, verdict);
        } else {
            self.raise(key, verdict);
        }
    }

    /// What became of the model's words.
    #[must_use]
    pub fn model_counters(&self) -> ModelCounters {
        self.heard.counters
    }

    fn name(&mut self, key: (TargetScope, TargetKey), verdict: &ModelVerdict) {
        let vendor_id = self.settings.vendor_id;
        let Some(attack) = self.attacks.get_mut(&key) else {
            return;
        };
        let first = attack.model.is_none();
        attack.handle_verdict(verdict, vendor_id);
        self.heard.counters.named += u64::from(first);
        self.handle_due();
    }

    fn raise(&mut self, key: (TargetScope, TargetKey), verdict: &ModelVerdict) {
        let (scope, target) = key;
        let Some(zone) = self.settings.zone(target.zone) else {
            return;
        };
        let models = &self.settings.models;
        if self.is_muted(&target.prefix) {
            // Unmuted, it may be told again.
            self.heard.forget(&target);
            return;
        }
        let silent = !models.raise
            || !is_sure(verdict, models.raise_confidence)
            || !verdict.is_long(models.raise_after.0)
            || zone.stage == Stage::Learning
            || self.silences.until_quiet(&key).is_some()
            || self.is_told_wider(key);
        if silent || self.heard.is_over(&target, verdict) {
            return;
        }
        let open = self.attacks.values().filter(|one| one.is_model_only());
        let open = open.count();
        let most = models.max_events_per_hour;
        if self.attacks.len() >= MAX_ATTACKS || !self.heard.may_raise(self.now, most, open) {
            return;
        }
        let mut attack = Attack::begin(Beginning {
            key: target,
            scope,
            target: told_target(zone, scope, &target),
            start_second: verdict.start,
            now: self.now,
            metric: Metric::Packets,
            dry_run: zone.dry_run || zone.stage == Stage::DryRun,
        });
        attack.raised_for = Some(models.clear_for);
        attack.clear_for = models.clear_for.0;
        attack.handle_verdict(verdict, self.settings.vendor_id);
        if let Some(track) = self.tracks.get(&key) {
            attack.measure(track, self.settings.vendor_id, self.now);
        }
        self.attacks.insert(key, attack);
        self.tell_sampling(key);
        self.open(key);
    }

    /// A new attack on something wider goes on with the name of one that a model raised inside, where that is a part of it.
    pub(super) fn take_over(&mut self, key: (TargetScope, TargetKey)) {
        let (scope, target) = key;
        let Some(wider) = self.attacks.get(&key) else {
            return;
        };
        if matches!(scope, TargetScope::Host | TargetScope::Link) {
            return;
        }
        let told = &wider.target;
        let mut inside: Vec<(Timestamp, (TargetScope, TargetKey))> = self
            .attacks
            .iter()
            .filter(|((_, one), attack)| {
                attack.is_model_only()
                    && (one.zone, one.direction) == (target.zone, target.direction)
                    && std::iter::once(&told.prefix)
                        .chain(&told.other_prefixes)
                        .any(|prefix| prefix.contains(&one.prefix))
            })
            .map(|(key, attack)| (attack.start, *key))
            .collect();
        inside.sort_unstable();
        if scope == TargetScope::Zone && !self.is_most_of(key, &inside) {
            return;
        }
        let prefix = told.prefix;
        let mut inside = inside.into_iter().map(|(_, key)| key);
        let Some(old) = inside.next().and_then(|first| self.attacks.remove(&first)) else {
            return;
        };
        self.watch(Vec::new(), old.watched());
        if let Some(attack) = self.attacks.get_mut(&key) {
            let grown = words::wider(&old.target.prefix, &prefix);
            attack.goes_on(old, grown);
            self.heard.counters.taken_over += 1;
        }
        let reason = format!("it goes on as part of the attack on {prefix}");
        for other in inside {
            self.end(other, Some(Reason(reason.clone())));
        }
    }

    /// Whether some targets explain at least half of what a wider one had when its attack began.
    fn is_most_of(
        &self,
        key: (TargetScope, TargetKey),
        inside: &[(Timestamp, (TargetScope, TargetKey))],
    ) -> bool {
        let Some(wider) = self.attacks.get(&key) else {
            return false;
        };
        let second = wider.start.second();
        let value = |key: &(TargetScope, TargetKey)| {
            let track = self.tracks.get(key);
            let second = track.and_then(|track| track.second(second));
            second.map_or(0, |second| wider.metric.value(&second.total))
        };
        let parts = inside.iter().map(|(_, key)| value(key));
        !inside.is_empty() && parts.fold(0, u64::saturating_add).saturating_mul(2) >= value(&key)
    }
}

/// Whether a model is so sure that it is an attack; half a millionth off for models that compute in single precision.
fn is_sure(verdict: &ModelVerdict, least: f64) -> bool {
    verdict.attack + 5e-7 >= least
}

impl Attack {
    /// Takes in the model's word: it names and rates, and takes away nothing that was measured.
    fn handle_verdict(&mut self, verdict: &ModelVerdict, vendor_id: u32) {
        let said = |word: &ModelWord| (&*word.id, &word.name) == (&*verdict.model, &verdict.name);
        if !self.model.as_ref().is_some_and(said) {
            // One line for the model, whatever it has called the attack before.
            let reason = verdict.reason();
            match self.model_reason.replace(reason.clone()) {
                Some(old) => self
                    .why
                    .iter_mut()
                    .filter(|one| **one == old)
                    .for_each(|one| *one = reason.clone()),
                None => self.why.push(reason),
            }
        }
        self.model = Some(ModelWord {
            id: verdict.model.clone(),
            name: verdict.name.clone(),
            confidence: verdict.confidence.clamp(0.0, 1.0),
            alone: self.is_model_only(),
        });
        self.model_last = self.model_last.max(verdict.last);
        if self.raised_for.is_some() {
            self.last_busy = self.last_busy.max(verdict.last);
        }
        self.name_by_model(vendor_id);
    }
}
