//! Summaries of one partition into few messages: what several ticks say of a target is told once, and what did not arrive is
//! told again with what follows.

use std::collections::{BTreeMap, VecDeque};

use weir_flow_record::{ReceivedAt, TargetKey};

use crate::{MinuteProfile, Series, TargetScope, WindowSummary};

/// Buckets of a message, some 200 kB and at most 840.
const MOST_BUCKETS: usize = 16_384;
/// Series of a message.
const MOST_SERIES: usize = 4096;
/// Slices of minutes that wait.
const MOST_MINUTES: usize = 1024;

/// Gathers what is to be told of a partition until [`take`](Self::take).
#[derive(Debug, Default)]
pub struct Coalescer {
    series: BTreeMap<(TargetScope, TargetKey), Series>,
    minutes: VecDeque<MinuteProfile>,
    /// The newest tick, without its series, until it is told.
    newest: Option<WindowSummary>,
    /// The newest tick that was told.
    told: Option<WindowSummary>,
    refused_minutes: u64,
}

impl Coalescer {
    /// Takes in a summary that is newer than all before.
    pub fn handle_newer(&mut self, mut summary: WindowSummary) {
        for series in take_series(&mut summary) {
            match self.series.get_mut(&(series.scope, series.target)) {
                Some(known) => known.replace(&series),
                None => {
                    self.series.insert((series.scope, series.target), series);
                }
            }
        }
        if let Some(minute) = summary.minute.take() {
            self.keep_minute(minute, false);
        }
        self.newest = Some(summary);
    }

    /// Lets time pass where there is no traffic: shards that see none do not tick.
    pub fn handle_idle(&mut self, now: ReceivedAt, settled_until: i64) {
        let idle = || WindowSummary::new(0, 0, now, settled_until);
        let mut tick = self
            .newest
            .take()
            .or_else(|| self.told.take())
            .unwrap_or_else(idle);
        if tick.now < now {
            tick.now = now;
            tick.settled_until = tick.settled_until.max(settled_until);
        }
        self.newest = Some(tick);
    }

    /// Takes in what was taken out before and did not arrive.
    pub fn handle_lost(&mut self, mut summary: WindowSummary) {
        for mut series in take_series(&mut summary) {
            let key = (series.scope, series.target);
            if let Some(newer) = self.series.remove(&key) {
                series.replace(&newer);
            }
            self.series.insert(key, series);
        }
        if let Some(minute) = summary.minute.take() {
            self.keep_minute(minute, true);
        }
        self.newest.get_or_insert(summary);
    }

    /// What is to be told, in parts of bounded size; nothing where no tick was taken in since the last time.
    #[must_use]
    pub fn take(&mut self) -> Vec<WindowSummary> {
        let Some(newest) = self.newest.take() else {
            return Vec::new();
        };
        let mut parts = vec![newest.clone()];
        let (mut buckets, mut count) = (0, 0);
        for series in std::mem::take(&mut self.series).into_values() {
            let vectors = series.vectors.as_ref().map_or(0, Vec::len);
            buckets += series.total.len() * (1 + vectors);
            count += 1;
            if count > 1 && (buckets > MOST_BUCKETS || count > MOST_SERIES) {
                parts.push(newest.clone());
                buckets = series.total.len() * (1 + vectors);
                count = 1;
            }
            let Some(part) = parts.last_mut() else { break };
            let list = match series.scope {
                TargetScope::Host => &mut part.hosts,
                TargetScope::Automatic | TargetScope::Prefix => &mut part.prefixes,
                TargetScope::Zone => &mut part.zones,
                TargetScope::Link => &mut part.links,
            };
            list.push(series);
        }
        for minute in self.minutes.drain(..) {
            let mut part = newest.clone();
            part.minute = Some(minute);
            parts.push(part);
        }
        self.told = Some(newest);
        parts
    }

    /// Slices of minutes that found no room.
    #[must_use]
    pub fn refused_minutes(&self) -> u64 {
        self.refused_minutes
    }

    fn keep_minute(&mut self, minute: MinuteProfile, first: bool) {
        if self.minutes.len() >= MOST_MINUTES {
            self.refused_minutes += 1;
        } else if first {
            self.minutes.push_front(minute);
        } else {
            self.minutes.push_back(minute);
        }
    }
}

fn take_series(summary: &mut WindowSummary) -> impl Iterator<Item = Series> + use<> {
    let lists = [
        std::mem::take(&mut summary.zones),
        std::mem::take(&mut summary.links),
        std::mem::take(&mut summary.prefixes),
        std::mem::take(&mut summary.hosts),
    ];
    lists.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_without_traffic_and_coverage_stays() {
        let at = |second: i64| ReceivedAt::from_nanos(second * 1_000_000_000);
        let mut coalescer = Coalescer::default();
        coalescer.handle_idle(at(100), 95);
        let told = coalescer.take();
        assert_eq!(
            (told.len(), told[0].now, told[0].settled_until),
            (1, at(100), 95)
        );
        assert!(coalescer.take().is_empty());
        let mut summary = WindowSummary::new(0, 7, at(101), 96);
        summary.coverage.push(crate::ExporterCoverage::default());
        coalescer.handle_newer(summary);
        // A tick that is newer than the clock stays as it is.
        coalescer.handle_idle(at(100), 95);
        assert_eq!(coalescer.take()[0].now, at(101));
        coalescer.handle_idle(at(102), 97);
        let told = coalescer.take();
        assert_eq!((told[0].now, told[0].coverage.len()), (at(102), 1));
    }
}
