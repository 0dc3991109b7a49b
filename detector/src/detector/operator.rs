//! Carries out an operator's word.

use std::time::Duration;

use ipnet::IpNet;
use weir_attack_event::{AttackId, EventKind, Reason, Severity};
use weir_flow_aggregate::TargetScope;
use weir_flow_record::{Direction, TargetKey, Timestamp};

use super::Detector;
use super::judging::told_target;
use crate::attack::{Attack, Beginning};
use crate::config::Zone;
use crate::overrides::{ByHand, Mute, Overridden, Override, OverrideError, Silence};
use crate::saved::{Saved, SavedEnd, SavedMute};
use crate::track::Metric;

/// How long the target of an attack that was ended by hand must be quiet, if no limit says otherwise.
const QUIET: Duration = Duration::from_secs(60);

impl Detector {
    /// Carries out an operator's word. Poll [`poll_output`](Self::poll_output) afterwards.
    ///
    /// # Errors
    ///
    /// Says why nothing came of it; then nothing has changed.
    pub fn handle_override(
        &mut self,
        now: Timestamp,
        word: Override,
    ) -> Result<Overridden, OverrideError> {
        self.handle_now(now);
        match word {
            Override::Start {
                target,
                direction,
                vector,
                lifetime,
                note,
            } => {
                let until = lifetime.map(|lifetime| self.now.plus(lifetime));
                let by_hand = ByHand { until, vector };
                self.start_by_hand(target.trunc(), direction, by_hand, &note)
            }
            Override::End { attack, note } => self.end_by_hand(attack, &note),
            Override::Mute {
                prefix,
                until,
                note,
            } => self.mute(prefix.trunc(), until, note),
            Override::Unmute { prefix } => self.unmute(prefix.trunc()),
        }
    }

    /// The muted prefixes.
    pub fn mutes(&self) -> impl Iterator<Item = &Mute> {
        self.mutes.iter()
    }

    /// Whether attacks on a target are not told: an operator has muted it, or it is in maintenance.
    pub(super) fn is_muted(&self, target: &IpNet) -> bool {
        let windows = &self.settings.maintenance;
        self.mutes.hold(target, self.now)
            || windows.iter().any(|window| window.holds(target, self.now))
    }

    fn start_by_hand(
        &mut self,
        target: IpNet,
        direction: Direction,
        by_hand: ByHand,
        note: &str,
    ) -> Result<Overridden, OverrideError> {
        let zone = zone_of(&self.settings.zones, &target).ok_or(OverrideError::NoZone(target))?;
        let key = TargetKey {
            prefix: target,
            direction,
            zone: zone.id,
        };
        let scope = if target.prefix_len() == target.max_prefix_len() {
            TargetScope::Host
        } else if zone.prefixes.first() == Some(&target) {
            TargetScope::Zone
        } else {
            TargetScope::Prefix
        };
        let reason = Reason(format!("an operator says that it is an attack: {note}"));
        let open = self.attacks.iter_mut().find(|(_, attack)| {
            attack.target.prefix == target && attack.key.direction == direction
        });
        if let Some((key, attack)) = open {
            let (key, id) = (*key, attack.id.clone());
            attack.by_hand = Some(by_hand);
            attack.why.push(reason);
            self.tell(key, EventKind::AttackUpdate);
            return Ok(Overridden::Held(id));
        }
        if self.is_full() {
            return Err(OverrideError::TooManyAttacks);
        }
        let vector = by_hand.vector;
        let mut attack = Attack::begin(Beginning {
            key,
            scope,
            target: told_target(zone, scope, &key),
            start_second: self.now.second(),
            now: self.now,
            metric: Metric::Packets,
            dry_run: zone.dry_run,
        });
        attack.severity = Severity::High;
        attack.by_hand = Some(by_hand);
        attack.why.push(reason);
        attack.name_by_hand(vector, self.settings.vendor_id);
        let id = attack.id.clone();
        self.silences.remove(&(scope, key));
        self.attacks.insert((scope, key), attack);
        self.open((scope, key));
        Ok(Overridden::Started(id))
    }

    fn end_by_hand(&mut self, id: AttackId, note: &str) -> Result<Overridden, OverrideError> {
        let found = self.attacks.iter().find(|(_, attack)| attack.id == id);
        let Some((key, attack)) = found else {
            return Err(OverrideError::NotOpen(id));
        };
        let (key, silence) = (
            *key,
            Silence {
                last_busy: self.now.second(),
                clear_for: attack.clear_for.max(QUIET),
                until_quiet: true,
            },
        );
        self.end(
            key,
            Some(Reason(format!("an operator has ended it: {note}"))),
        );
        if self.silences.note(key, silence) {
            self.persist(Saved::Ended(SavedEnd {
                ended: key.1,
                ended_scope: key.0.number(),
                last_busy: Some(silence.last_busy),
                clear_for: silence.clear_for,
            }));
        }
        Ok(Overridden::Ended(id))
    }

    fn mute(
        &mut self,
        prefix: IpNet,
        until: Option<Timestamp>,
        note: String,
    ) -> Result<Overridden, OverrideError> {
        if until.is_some_and(|until| until <= self.now) {
            return Err(OverrideError::Past);
        }
        let mute = Mute {
            prefix,
            since: self.now,
            until,
            note,
        };
        self.mutes.insert(mute.clone())?;
        let reason = Reason(format!("an operator has muted {prefix}: {}", mute.note));
        self.persist(Saved::Mute(SavedMute {
            muted: prefix,
            mute: Some(mute),
        }));
        let inside: Vec<_> = self
            .attacks
            .iter()
            .filter(|(_, attack)| prefix.contains(&attack.target.prefix))
            .map(|(key, attack)| (*key, attack.id.clone()))
            .collect();
        for (key, _) in &inside {
            self.end(*key, Some(reason.clone()));
        }
        Ok(Overridden::Muted(
            inside.into_iter().map(|(_, id)| id).collect(),
        ))
    }

    fn unmute(&mut self, prefix: IpNet) -> Result<Overridden, OverrideError> {
        if self.mutes.remove(&prefix).is_none() {
            return Err(OverrideError::NotMuted(prefix));
        }
        self.persist(Saved::Mute(SavedMute {
            muted: prefix,
            mute: None,
        }));
        Ok(Overridden::Unmuted)
    }
}

/// The zone of the longest prefix that holds a target.
pub(super) fn zone_of<'z>(zones: &'z [Zone], target: &IpNet) -> Option<&'z Zone> {
    zones
        .iter()
        .flat_map(|zone| zone.prefixes.iter().map(move |prefix| (prefix, zone)))
        .filter(|(prefix, _)| prefix.contains(target))
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .map(|(_, zone)| zone)
}
