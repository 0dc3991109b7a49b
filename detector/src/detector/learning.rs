//! What the detector teaches its baselines: settled seconds of zones and minutes of all others, in peace.

use weir_baseline::{BaselineConfig, BaselineSettings, BaselineTarget, BaselineZone, Baselines};
use weir_flow_aggregate::{Bucket, MinuteProfile, TargetScope, WindowSummary};
use weir_flow_record::{Direction, TargetKey};

use super::Detector;
use crate::config::DetectorSettings;

/// Share of a wider target's traffic from which on an attack inside it is an attack on it, as far as learning goes.
const NOTICEABLE: f64 = 0.1;
/// Seconds before the start of an attack that are not learned either: a ramp.
const RAMP: i64 = 10;

/// Baselines of a detector that were not given settings of their own.
pub(super) fn default_baselines(settings: &DetectorSettings) -> Baselines {
    let zones = settings.zones.iter().map(|zone| BaselineZone {
        name: zone.name.clone(),
        prefixes: zone.prefixes.clone(),
    });
    Baselines::new(BaselineSettings::new(
        BaselineConfig::default(),
        zones.collect(),
        Vec::new(),
    ))
}

impl Detector {
    /// Takes baselines in place of those before.
    #[must_use]
    pub fn with_baselines(mut self, baselines: Baselines) -> Self {
        self.baselines = baselines;
        self
    }

    /// What is normal.
    #[must_use]
    pub fn baselines(&self) -> &Baselines {
        &self.baselines
    }

    /// What is normal, to be restored, imported and saved.
    #[must_use]
    pub fn baselines_mut(&mut self) -> &mut Baselines {
        &mut self.baselines
    }

    /// Learns what a tick has settled.
    pub(super) fn learn(&mut self, summary: &WindowSummary) {
        let settled = summary.settled_until;
        let zones = self.settings.zones.iter().filter_map(|zone| {
            let prefix = *zone.prefixes.first()?;
            Some([Direction::In, Direction::Out].map(|direction| TargetKey {
                prefix,
                direction,
                zone: zone.id,
            }))
        });
        let zones: Vec<TargetKey> = zones.flatten().collect();
        for target in zones {
            self.learn_seconds((TargetScope::Zone, target), settled);
        }
        let links: Vec<TargetKey> = summary.links.iter().map(|series| series.target).collect();
        for target in links {
            self.learn_seconds((TargetScope::Link, target), settled);
        }
        if let Some(minute) = &summary.minute {
            self.learn_minute(minute);
        }
        self.baselines.handle_timeout(summary.time());
    }

    fn learn_seconds(&mut self, key: (TargetScope, TargetKey), settled: i64) {
        let (scope, target) = key;
        let Some(track) = self.tracks.get(&key) else {
            return;
        };
        let from = self.learned.get(&target).copied().unwrap_or(i64::MIN);
        let name = BaselineTarget::of(scope, &target);
        for (second, content) in track.since(from) {
            if second >= settled {
                break;
            }
            let peace = self.is_in_peace(&target, second, &content.total);
            let vectors = content.vectors.iter().map(|(vector, sums)| (*vector, sums));
            self.baselines
                .handle_second(&name, second, &content.total, vectors, peace);
        }
        self.learned.insert(target, settled);
    }

    /// Whether no attack makes up a noticeable part of a zone's second.
    fn is_in_peace(&self, zone: &TargetKey, second: i64, total: &Bucket) -> bool {
        let inside = self.attacks.iter().filter(|((_, target), attack)| {
            target.zone == zone.zone
                && target.direction == zone.direction
                && attack.start.second() - RAMP <= second
                && !attack.is_model_only()
        });
        let (mut octets, mut packets) = (0_u64, 0_u64);
        for (key, _) in inside {
            if key.0 >= TargetScope::Zone {
                return false;
            }
            let track = self.tracks.get(key);
            if let Some(content) = track.and_then(|track| track.second(second)) {
                octets = octets.saturating_add(content.total.octets);
                packets = packets.saturating_add(content.total.packets);
            }
        }
        let share = |part: u64, all: u64| part as f64 / (all.max(1) as f64);
        share(octets, total.octets) < NOTICEABLE && share(packets, total.packets) < NOTICEABLE
    }

    fn learn_minute(&mut self, minute: &MinuteProfile) {
        let end = minute.first_second + 60;
        // Zones are looked at as a whole: their protocols and ports are those of an attack inside, too.
        let under_attack: Vec<(TargetScope, TargetKey)> = self
            .attacks
            .iter()
            .filter(|(_, attack)| attack.start.second() - RAMP < end && !attack.is_model_only())
            .map(|(key, _)| *key)
            .collect();
        let noticed: Vec<TargetKey> = self
            .learned
            .keys()
            .filter(|zone| {
                let is_inside = |(_, target): &(TargetScope, TargetKey)| {
                    (target.zone, target.direction) == (zone.zone, zone.direction)
                };
                if !under_attack.iter().any(is_inside) {
                    return false;
                }
                let track = self.tracks.get(&(TargetScope::Zone, **zone));
                let seconds = track.map(|track| track.since(minute.first_second));
                seconds.is_some_and(|mut seconds| {
                    seconds.any(|(second, content)| {
                        second < end && !self.is_in_peace(zone, second, &content.total)
                    })
                })
            })
            .copied()
            .collect();
        let peace = |target: &TargetKey| {
            if noticed.contains(target) {
                return false;
            }
            let touches = |(scope, attacked): &(TargetScope, TargetKey)| {
                *scope < TargetScope::Zone
                    && attacked.direction == target.direction
                    && attacked.zone == target.zone
                    && (attacked.prefix.contains(&target.prefix)
                        || target.prefix.contains(&attacked.prefix))
            };
            self.learned.contains_key(target) || !under_attack.iter().any(touches)
        };
        self.baselines.handle_minute(minute, &peace);
    }

    /// Takes back what waits to be learned of a target, and of what it is in, since an attack on it began.
    pub(super) fn unlearn(&mut self, key: (TargetScope, TargetKey)) {
        let Some(attack) = self.attacks.get(&key) else {
            return;
        };
        let since = attack.start.second() - RAMP;
        match key.0 {
            TargetScope::Zone | TargetScope::Link => {
                let zone = BaselineTarget::of(key.0, &key.1);
                self.baselines.forget_since(&zone, since);
            }
            _ => {
                let (prefix, direction) = (key.1.prefix, key.1.direction);
                self.baselines
                    .forget_attack(key.1.zone, prefix, direction, since);
            }
        }
    }
}
