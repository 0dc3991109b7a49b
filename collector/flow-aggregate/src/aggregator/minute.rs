//! The minute: a slice of hosts and prefixes with each tick, once it is settled.

use weir_flow_record::{Direction, TargetKey};

use super::Aggregator;
use super::tell::zone_id;
use crate::parts::{Finished, Parts};
use crate::ring::Sums;
use crate::{MinuteProfile, MinuteRow, TargetScope, WindowSummary, ZoneMinute};

/// Hosts looked at with a tick, at least.
const HOSTS: usize = 2048;
/// Prefixes looked at with a tick, at least.
const PREFIXES: usize = 256;
/// Ticks in which all are looked at.
const TICKS: usize = 300;
/// Packets of a minute from which on a target is worth telling.
const WORTH: u64 = 60;
/// Finished minutes of zones that wait to be told.
const WAITING: usize = 4;

/// How far the telling of a minute has come.
#[derive(Debug)]
pub(super) struct Minutes {
    pub(super) parts: Parts,
    /// Minutes of zones that wait until they are settled.
    finished: Vec<Finished>,
    /// The minute that is told, and those before.
    told: i64,
    /// What of it is still to be looked at; the next host and prefix.
    at: Option<(usize, usize)>,
}

impl Minutes {
    pub(super) fn new(zones: usize) -> Self {
        Self {
            parts: Parts::new(zones),
            finished: Vec::new(),
            told: i64::MIN,
            at: None,
        }
    }

    /// Passes to a second.
    pub(super) fn advance(&mut self, second: i64) {
        if let Some(finished) = self.parts.advance(second) {
            if self.finished.len() >= WAITING {
                self.finished.remove(0);
            }
            self.finished.push(finished);
        }
    }
}

impl Aggregator {
    /// Adds a slice of the newest settled minute to a summary, while there is one.
    pub(super) fn tell_minute(&mut self, summary: &mut WindowSummary) {
        let newest = summary.settled_until.div_euclid(60) - 1;
        if newest > self.minutes.told {
            self.minutes.told = newest;
            self.minutes.at = Some((0, 0));
        }
        let Some((host, prefix)) = self.minutes.at else {
            return;
        };
        let first_second = self.minutes.told.saturating_mul(60);
        let mut profile = MinuteProfile {
            first_second,
            ..MinuteProfile::default()
        };
        if (host, prefix) == (0, 0) {
            profile.zones = self.take_zones();
        }
        let hosts = HOSTS.max(self.hosts.slots() / TICKS);
        let next_host = host.saturating_add(hosts).min(self.hosts.slots());
        self.tell_hosts(host..next_host, &mut profile);
        let prefixes = PREFIXES.max(self.prefixes.slots() / TICKS);
        let next_prefix = prefix.saturating_add(prefixes).min(self.prefixes.slots());
        let zones = &self.zones;
        self.prefixes
            .minute(prefix..next_prefix, &self.clock, |key, sums| {
                let zone = zone_id(zones, key.1);
                let target = TargetKey {
                    prefix: key.0,
                    direction: key.2,
                    zone,
                };
                let row = row(target, TargetScope::Prefix, first_second, sums);
                profile.targets.extend(row);
            });
        let (all_hosts, all_prefixes) = (self.hosts.slots(), self.prefixes.slots());
        profile.is_last = next_host >= all_hosts && next_prefix >= all_prefixes;
        self.minutes.at = (!profile.is_last).then_some((next_host, next_prefix));
        profile.targets.sort_unstable_by_key(|row| row.target);
        summary.minute = Some(profile);
    }

    fn tell_hosts(&self, slots: std::ops::Range<usize>, profile: &mut MinuteProfile) {
        for slot in slots {
            let Ok(slot) = u32::try_from(slot) else { break };
            let Some(host) = self.hosts.active_since(slot, profile.first_second) else {
                continue;
            };
            let target = TargetKey {
                prefix: host.address.host(),
                direction: host.direction,
                zone: zone_id(&self.zones, host.zone),
            };
            let seconds = self.hosts.read(slot, &self.clock);
            let row = row(target, TargetScope::Host, profile.first_second, seconds);
            profile.targets.extend(row);
        }
    }

    /// Zones of the minute that is told; what is older was never settled in time and is left out.
    fn take_zones(&mut self) -> Vec<ZoneMinute> {
        let told = self.minutes.told;
        let mut zones = Vec::new();
        self.minutes.finished.retain_mut(|finished| {
            if finished.minute == told {
                for (zone, sides) in self.zones.iter().zip(&mut finished.zones) {
                    let Some(prefix) = zone.prefixes.prefixes.first() else {
                        continue;
                    };
                    for (direction, parts) in [Direction::In, Direction::Out].into_iter().zip(sides)
                    {
                        if parts.is_empty() {
                            continue;
                        }
                        let target = TargetKey {
                            prefix: *prefix,
                            direction,
                            zone: zone.prefixes.zone,
                        };
                        let parts = std::mem::take(parts);
                        zones.push(ZoneMinute { target, parts });
                    }
                }
            }
            finished.minute > told
        });
        zones
    }
}

/// A target's minute, from its seconds, the newest first; `None` where there is too little to tell.
fn row(
    target: TargetKey,
    scope: TargetScope,
    first_second: i64,
    seconds: impl Iterator<Item = (i64, Sums)>,
) -> Option<MinuteRow> {
    let mut row = MinuteRow {
        target,
        scope,
        seconds: 0,
        octets: 0,
        packets: 0,
        flows: 0,
        peak_octets: 0,
        peak_packets: 0,
        peak_flows: 0,
    };
    let newer = |(second, _): &(i64, Sums)| *second >= first_second + 60;
    let within = |(second, _): &(i64, Sums)| *second >= first_second;
    for (_, sums) in seconds.skip_while(newer).take_while(within) {
        row.seconds += 1;
        row.octets = row.octets.saturating_add(sums.octets);
        row.packets = row.packets.saturating_add(sums.packets());
        row.flows = row.flows.saturating_add(sums.flows());
        row.peak_octets = row.peak_octets.max(sums.octets);
        row.peak_packets = row.peak_packets.max(sums.packets());
        row.peak_flows = row.peak_flows.max(sums.flows());
    }
    (row.packets >= WORTH).then_some(row)
}
