//! `weir check --suggest`: thresholds that a history of flows supports, and what they would have raised on it.
//!
//! The history goes through the collector's shard and the aggregator as in `weir replay`; only the detector is left out the
//! first time. A limit is a quantile (P95) of the rates of a class's busiest target, times a burst factor (5): as large
//! providers set theirs. Then the whole replay runs with the proposals in place.

mod levels;
mod propose;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use weir_attack_event::{AttackEvent, EventKind};
use weir_collector::{CapturedDatagram, Shard};
use weir_detector::{Scope, ThresholdConfig, ZoneConfig};
use weir_flow_aggregate::{AggregationConfig, TargetScope};
use weir_flow_record::{ColumnSet, Direction, Period, Quantity, ReceivedAt, Timestamp, Vector};
use weir_flow_store::{FlowReader, is_parquet};

use self::levels::Levels;
use self::propose::{Proposal, propose, quantity};
use crate::arguments::CheckArguments;
use crate::config::{self, Config, Settings};
use crate::replay::{self, Merged};

/// Hosts below these rates are not looked at: their limits would be the lowest there are anyway.
const LEAST_BITS: u64 = 400_000;
const LEAST_PACKETS: u64 = 100;
const LEAST_FLOWS: u64 = 20;
/// Hosts whose traffic is classified: some kilobytes each.
const MOST_HOSTS: u32 = 16_384;
const DAY: f64 = 86_400.0;

/// Runs the command.
pub(crate) fn run(arguments: &CheckArguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.percentile > 0.0 && arguments.percentile <= 100.0,
        "--percentile must be more than 0 and at most 100"
    );
    anyhow::ensure!(
        arguments.burst >= 1.0 && arguments.burst <= 1000.0,
        "--burst must be between 1 and 1000"
    );
    let (config, mut settings) = config::read(&arguments.config.config, ColumnSet::NONE)?;
    settings.collector.shards = 1;
    anyhow::ensure!(
        !settings.detector.zones.is_empty(),
        "the configuration has no [[zone]]: nothing to suggest for"
    );
    let levels = observe(&config, &settings, &arguments.from)?;
    let (first, last) = levels
        .span()
        .context("the history has no traffic of a zone")?;
    let proposals = propose(&levels.of(arguments.percentile / 100.0), arguments.burst);
    settings.detector = config
        .detector_with(|zone| with_proposals(zone, &proposals, &settings))
        .map_err(anyhow::Error::msg)?;
    let mut raised = Raised::default();
    replay::events_of(&settings, &arguments.from, None, &mut raised)?;
    let report = Report {
        arguments,
        settings: &settings,
        proposals: &proposals,
        ended: &raised.ended,
        seconds: (last + 1 - first) as f64,
        from: first,
        to: last + 1,
        refused: levels.refused(),
    };
    print!("{}", report.text());
    Ok(())
}

/// A zone's own thresholds, but where there is a proposal, that.
fn with_proposals(
    zone: &ZoneConfig,
    proposals: &[Proposal],
    settings: &Settings,
) -> Vec<ThresholdConfig> {
    let proposed: Vec<ThresholdConfig> = proposals
        .iter()
        .filter(|proposal| {
            let of = settings.detector.zone(proposal.class.zone);
            of.is_some_and(|of| *of.name == *zone.name)
        })
        .map(Proposal::threshold)
        .collect();
    let is_replaced = |own: &&ThresholdConfig| {
        proposed.iter().any(|new| {
            (new.scope, new.prefix_length, new.direction, &new.vector)
                == (own.scope, own.prefix_length, own.direction, &own.vector)
        })
    };
    let kept = zone.thresholds.iter().filter(|own| !is_replaced(own));
    kept.cloned().chain(proposed.clone()).collect()
}

/// What is normal in the history, by the production decoder and aggregator.
fn observe(config: &Config, settings: &Settings, files: &[PathBuf]) -> anyhow::Result<Levels> {
    let mut settings = settings.clone();
    let lengths: Vec<u8> = {
        let zones = settings.detector.zones.iter();
        let thresholds = zones.flat_map(|zone| &zone.thresholds);
        let mut lengths: Vec<u8> = thresholds
            .filter_map(|threshold| threshold.prefix_length.map(|(v4, _)| v4))
            .collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    };
    settings.detector = config
        .detector_with(|_| everything(&lengths))
        .map_err(anyhow::Error::msg)?;
    settings.aggregation = AggregationConfig {
        tick: Period(std::time::Duration::from_secs(1)),
        max_watched: settings.aggregation.max_watched.max(MOST_HOSTS),
        ..settings.aggregation
    };
    let mut observer = Observer {
        shard: Shard::new(settings.shard(0)),
        levels: Levels::default(),
    };
    let stored = files.iter().filter(|path| is_parquet(path)).count();
    if stored == files.len() {
        for batch in FlowReader::open(files)? {
            let batch = batch?;
            for datagram in &batch.datagrams {
                observer.run_until(datagram.received_at);
                observer.shard.handle_records(&batch, datagram);
            }
        }
    } else {
        anyhow::ensure!(
            stored == 0,
            "captures and Parquet files cannot be read together"
        );
        for datagram in Merged::<CapturedDatagram>::open(files)? {
            observer.run_until(datagram.at);
            observer
                .shard
                .handle_datagram(datagram.at, datagram.from, &datagram.payload);
        }
    }
    observer.run_until(ReceivedAt::from_nanos(i64::MAX));
    observer.levels.finish();
    Ok(observer.levels)
}

/// Thresholds so low that every target worth it is told.
fn everything(lengths: &[u8]) -> Vec<ThresholdConfig> {
    let mut thresholds = Vec::new();
    for direction in [Direction::In, Direction::Out] {
        let least = |scope, prefix_length| ThresholdConfig {
            scope,
            prefix_length,
            direction,
            bits_per_second: Some(Quantity(LEAST_BITS)),
            packets_per_second: Some(Quantity(LEAST_PACKETS)),
            flows_per_second: Some(Quantity(LEAST_FLOWS)),
            ..ThresholdConfig::default()
        };
        thresholds.push(least(Scope::Host, None));
        thresholds.push(least(Scope::Zone, None));
        thresholds.extend(
            lengths
                .iter()
                .map(|length| least(Scope::Prefix, Some(*length))),
        );
    }
    thresholds
}

/// A shard without a detector.
struct Observer {
    shard: Shard,
    levels: Levels,
}

impl Observer {
    fn run_until(&mut self, limit: ReceivedAt) {
        self.drain();
        while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= limit) {
            self.shard.handle_timeout(due);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(batch) = self.shard.poll_batch() {
            self.shard.recycle(batch);
        }
        while self.shard.poll_change().is_some() {}
        while let Some(summary) = self.shard.poll_summary() {
            self.levels.handle_summary(&summary);
        }
    }
}

/// Takes a replay's event lines, and keeps the attacks' ends.
#[derive(Default)]
struct Raised {
    line: Vec<u8>,
    ended: Vec<AttackEvent>,
}

impl Write for Raised {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(octets);
        while let Some(end) = self.line.iter().position(|octet| *octet == b'\n') {
            let event: AttackEvent = serde_json::from_slice(&self.line[..end])?;
            self.line.drain(..=end);
            if event.kind == EventKind::AttackEnd {
                self.ended.push(event);
            }
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is printed.
struct Report<'a> {
    arguments: &'a CheckArguments,
    settings: &'a Settings,
    proposals: &'a [Proposal],
    ended: &'a [AttackEvent],
    seconds: f64,
    from: i64,
    to: i64,
    refused: u64,
}

impl Report<'_> {
    /// TOML with comments that say what it rests on. Writing to a String cannot fail.
    fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "# Proposed by `weir check --suggest` from {:.1} h of traffic, {} to {}.\n\
             # Limits: P{} of ten-second rates of the busiest target, times {}; rounded up; at least 1M bit/s, 1k packets/s, 200 flows/s.",
            self.seconds / 3600.0,
            Timestamp::from_seconds(self.from),
            Timestamp::from_seconds(self.to),
            self.arguments.percentile,
            self.arguments.burst,
        );
        if self.seconds < DAY {
            text.push_str("# WARNING: less than a day of history: the busy hour may be missing.\n");
        } else if self.seconds < 7.0 * DAY {
            text.push_str("# Less than a week of history: weekends, backups and other weekly work may be missing.\n");
        }
        if self.refused > 0 {
            text.push_str("# WARNING: there were more targets than could be looked at.\n");
        }
        let per_day = self.ended.len() as f64 * DAY / self.seconds;
        let _ = writeln!(
            text,
            "# With these, {} would have been raised on this history, {per_day:.1} a day.",
            counted(self.ended.len())
        );
        if let Some(worst) = worst(self.ended) {
            let _ = writeln!(text, "# The worst: {}.", told(worst));
        }
        text.push_str("# Put the thresholds into your own [[zone]] tables.\n");
        for zone in &self.settings.detector.zones {
            let prefixes: Vec<String> = zone.prefixes.iter().map(|p| format!("\"{p}\"")).collect();
            let name = zone.name.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(
                text,
                "\n[[zone]]\nname = \"{name}\"\nprefixes = [{}]",
                prefixes.join(", ")
            );
            if let Some(capacity) = zone.pipe_capacity {
                let _ = writeln!(text, "pipe_capacity = \"{}\"", quantity(capacity));
            }
            let of_zone = |proposal: &&Proposal| proposal.class.zone == zone.id;
            for proposal in self.proposals.iter().filter(of_zone) {
                self.threshold(proposal, &mut text);
            }
        }
        text
    }

    fn threshold(&self, proposal: &Proposal, text: &mut String) {
        let (class, level) = (&proposal.class, &proposal.level);
        let raised: Vec<&AttackEvent> = self
            .ended
            .iter()
            .filter(|event| self.by(event).is_some_and(|by| std::ptr::eq(by, proposal)))
            .collect();
        let what = match class.scope {
            TargetScope::Host => "hosts",
            TargetScope::Prefix => "prefixes",
            _ => "zone",
        };
        let _ = writeln!(
            text,
            "  # {} {what} with such traffic; peak in one second {}bit/s, {}packets/s, {}flows/s",
            level.targets,
            spaced(level.peak[0]),
            spaced(level.peak[1]),
            spaced(level.peak[2]),
        );
        let _ = match worst(raised.iter().copied()) {
            None => writeln!(text, "  # would have raised nothing"),
            Some(worst) => writeln!(
                text,
                "  # would have raised {}, {:.1} a day; the worst {}",
                counted(raised.len()),
                raised.len() as f64 * DAY / self.seconds,
                told(worst)
            ),
        };
        let threshold = proposal.threshold();
        let scope = format!("{:?}", threshold.scope).to_lowercase();
        let direction = format!("{:?}", threshold.direction).to_lowercase();
        let _ = writeln!(text, "  [[zone.threshold]]\n  scope = \"{scope}\"");
        if let Some(length) = threshold.prefix_length {
            let _ = writeln!(text, "  prefix_length = {length}");
        }
        let _ = writeln!(
            text,
            "  direction = \"{direction}\"\n  vector = \"{}\"\n  bits_per_second = \"{}\"\n  packets_per_second = \"{}\"\n  flows_per_second = \"{}\"\n",
            threshold.vector,
            quantity(proposal.limits[0]),
            quantity(proposal.limits[1]),
            quantity(proposal.limits[2]),
        );
    }

    /// The proposal that an attack is told by: of its target's scope, for its largest kind of traffic that has one.
    fn by(&self, event: &AttackEvent) -> Option<&Proposal> {
        let zones = &self.settings.detector.zones;
        let zone = zones.iter().find(|zone| zone.name == event.target.zone)?;
        let prefix = event.target.prefix;
        let is_host = prefix.prefix_len() == prefix.max_prefix_len();
        let is_zone = zone.prefixes.contains(&prefix);
        let fits = |proposal: &&Proposal| {
            let class = &proposal.class;
            let scope = match class.scope {
                TargetScope::Host => is_host,
                TargetScope::Prefix => !is_host && proposal.class.length == prefix.prefix_len(),
                _ => is_zone,
            };
            class.zone == zone.id && class.direction == event.target.direction && scope
        };
        let named = event.vectors.iter().filter_map(|one| one.name.vector());
        named.chain([Vector::Total]).find_map(|vector| {
            self.proposals
                .iter()
                .filter(fits)
                .find(|proposal| proposal.class.vector == vector)
        })
    }
}

fn worst<'e>(events: impl IntoIterator<Item = &'e AttackEvent>) -> Option<&'e AttackEvent> {
    events
        .into_iter()
        .max_by_key(|event| event.traffic.bits_per_second.peak)
}

fn told(event: &AttackEvent) -> String {
    format!(
        "{} at {}, {}bit/s, {}packets/s",
        event.target.prefix,
        event.start_time,
        spaced(event.traffic.bits_per_second.peak),
        spaced(event.traffic.packets_per_second.peak)
    )
}

fn counted(attacks: usize) -> String {
    match attacks {
        0 => "no attack".to_owned(),
        1 => "1 attack".to_owned(),
        _ => format!("{attacks} attacks"),
    }
}

/// A figure in three digits or so, ready for its unit.
fn spaced(value: u64) -> String {
    match value {
        0..10_000 => format!("{value} "),
        10_000..10_000_000 => format!("{:.0} k", value as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.0} M", value as f64 / 1e6),
        _ => format!("{:.1} G", value as f64 / 1e9),
    }
}
