//! How well events tell what labels say: recall, precision, time to detection, false alarms.
//!
//! An attack that was told *matches* a label where the two overlap in time and one's prefix contains the other's. Of those
//! that match a label the first one told is its detection; further ones are duplicates, which count against nothing else.
//! An attack that matches no label of an attack is a false alarm. A label without an attack marks a time of peace: it
//! names nothing that could be found, it only widens the time that is scored.

mod compare;
mod read;
mod requirement;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;
use weir_flow_record::Timestamp;

pub use compare::{Difference, compare};
pub use read::{ScoreInputError, read_events, read_truths, write_truths};
pub use requirement::{Requirement, RequirementError};

/// A line of the labels: what really happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Truth {
    /// First packet.
    pub start: Timestamp,
    /// After the last packet.
    pub end: Timestamp,
    /// Who was attacked.
    pub target: IpNet,
    /// How; empty marks a time of peace.
    pub attack: String,
    /// When the first export datagram with packets of it arrived, where the labels know.
    pub exported: Option<Timestamp>,
}

/// An attack as the events tell it, from start to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Its name.
    pub id: String,
    /// When it was first judged one.
    pub detected_at: Timestamp,
    /// When it began, by event time.
    pub start: Timestamp,
    /// When it ended; `None` where no end was told.
    pub end: Option<Timestamp>,
    /// All prefixes that it was said to hit, the last one first.
    pub targets: Vec<IpNet>,
    /// The names of its vectors when it was last told.
    pub vectors: Vec<String>,
}

/// What is scored.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Window {
    /// From here on; from the first label or attack by default.
    pub from: Option<Timestamp>,
    /// Up to here; to the end of the last label or attack by default.
    pub to: Option<Timestamp>,
    /// The zones.
    pub zones: Vec<IpNet>,
}

/// The figures. Shares of nothing are 1: nothing was missed, nothing was wrong.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Score {
    /// Attacks told that match a label and are no duplicates, of these and the false alarms.
    pub precision: f64,
    /// Labels with an attack that were detected, of all.
    pub recall: f64,
    /// Median of detection less start of the label, in seconds (nearest rank; a detection before the start counts as 0).
    pub detect_p50_s: Option<f64>,
    /// 95th percentile of the same.
    pub detect_p95_s: Option<f64>,
    /// Further attacks told that match a label.
    pub duplicates: u64,
    /// Attacks told that match none.
    pub false_alarms: u64,
    /// Scaled to a day and 1,000 prefixes.
    pub false_alarms_per_day_per_1000: f64,
    /// Labels with an attack.
    pub attacks: u64,
    /// Detected ones.
    pub detected: u64,
    /// /24s and /48s of the zones; at least 1.
    pub prefixes: u64,
    /// The time that is scored, in days.
    pub days: f64,
    /// Median of detection less the arrival of the first datagram with packets of the attack, in seconds, where labels
    /// state that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_p50_s: Option<f64>,
    /// 95th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_p95_s: Option<f64>,
    /// The same figures for each kind of attack that labels name.
    pub kinds: BTreeMap<String, KindScore>,
}

/// The figures of one kind of attack.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct KindScore {
    /// Labels.
    pub attacks: u64,
    /// Detected ones.
    pub detected: u64,
    /// Their share.
    pub recall: f64,
    /// Median time to detection in seconds.
    pub detect_p50_s: Option<f64>,
}

/// What became of each label and each attack that was told.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Details {
    /// Labels that nothing was told of.
    pub misses: Vec<Miss>,
    /// Attacks told of nothing.
    pub false_alarms: Vec<Alarm>,
    /// Attacks told twice.
    pub duplicates: Vec<Alarm>,
    /// Detections, slowest first.
    pub detections: Vec<Detection>,
}

/// A label that nothing was told of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Miss {
    /// Start of the label.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// Its target.
    pub target: IpNet,
    /// Its kind.
    pub attack: String,
}

/// An attack that was told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Alarm {
    /// When it was first judged one.
    pub detected_at: Timestamp,
    /// Its name.
    pub id: String,
    /// Its target, as told last.
    pub target: Option<IpNet>,
    /// Its vectors.
    pub vectors: Vec<String>,
    /// Its end, where told.
    pub end: Option<Timestamp>,
}

/// A label and the attack that told of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Detection {
    /// Seconds from the label's start.
    pub delay_s: f64,
    /// Seconds from the first datagram with packets of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_delay_s: Option<f64>,
    /// Start of the label.
    pub start: Timestamp,
    /// The label's target.
    pub target: IpNet,
    /// The label's kind.
    pub attack: String,
    /// The attack told.
    pub id: String,
    /// Its vectors.
    pub vectors: Vec<String>,
}

const DAY: f64 = 86_400.0;

/// Scores what was told against what happened.
pub fn score(told: &[Told], truths: &[Truth], window: &Window) -> (Score, Details) {
    let inside = |start: Timestamp, end: Timestamp| {
        window.from.is_none_or(|from| end > from) && window.to.is_none_or(|to| start < to)
    };
    let truths: Vec<&Truth> = truths
        .iter()
        .filter(|truth| inside(truth.start, truth.end))
        .collect();
    let mut told: Vec<&Told> = told
        .iter()
        .filter(|told| {
            inside(
                told.start,
                told.end.unwrap_or(Timestamp::from_nanos(i64::MAX)),
            )
        })
        .collect();
    told.sort_by(|a, b| (a.detected_at, &a.id).cmp(&(b.detected_at, &b.id)));
    let attacks: Vec<&Truth> = truths
        .iter()
        .copied()
        .filter(|truth| !truth.attack.is_empty())
        .collect();

    let mut hits = BTreeSet::new();
    let mut matching = BTreeSet::new();
    let mut details = Details {
        misses: Vec::new(),
        false_alarms: Vec::new(),
        duplicates: Vec::new(),
        detections: Vec::new(),
    };
    for truth in &attacks {
        let mut found = told
            .iter()
            .enumerate()
            .filter(|(_, told)| matches(told, truth))
            .map(|(place, _)| place);
        let first = found.next();
        matching.extend(first);
        matching.extend(found);
        match first.and_then(|place| told.get(place)) {
            Some(detection) => {
                hits.extend(first);
                details.detections.push(detected(detection, truth));
            }
            None => details.misses.push(miss(truth)),
        }
    }
    for (place, told) in told.iter().enumerate() {
        if !matching.contains(&place) {
            details.false_alarms.push(alarm(told));
        } else if !hits.contains(&place) {
            details.duplicates.push(alarm(told));
        }
    }
    let days = days(&told, &truths, window);
    let figures = figures(&attacks, &details, hits.len(), days, &window.zones);
    details
        .detections
        .sort_by(|a, b| b.delay_s.total_cmp(&a.delay_s).then(a.id.cmp(&b.id)));
    details.misses.sort();
    (figures, details)
}

fn figures(
    attacks: &[&Truth],
    details: &Details,
    hits: usize,
    days: f64,
    zones: &[IpNet],
) -> Score {
    let delays = seconds(details.detections.iter().map(|one| one.delay_s));
    let receipts = seconds(
        details
            .detections
            .iter()
            .filter_map(|one| one.receipt_delay_s),
    );
    let (detected, false_alarms) = (details.detections.len(), details.false_alarms.len());
    let prefixes = prefixes(zones);
    let rate = if days > 0.0 {
        false_alarms as f64 / days / prefixes as f64 * 1000.0
    } else {
        0.0
    };
    let mut kinds: BTreeMap<String, KindScore> = BTreeMap::new();
    for truth in attacks {
        if kinds.contains_key(&truth.attack) {
            continue;
        }
        let found = || {
            let of_kind = |one: &&Detection| one.attack == truth.attack;
            details.detections.iter().filter(of_kind)
        };
        let all = attacks
            .iter()
            .filter(|one| one.attack == truth.attack)
            .count();
        let kind = KindScore {
            attacks: all as u64,
            detected: found().count() as u64,
            recall: share(found().count(), all),
            detect_p50_s: percentile(&seconds(found().map(|one| one.delay_s)), 0.5),
        };
        kinds.insert(truth.attack.clone(), kind);
    }
    Score {
        precision: share(hits, hits + false_alarms),
        recall: share(detected, attacks.len()),
        detect_p50_s: percentile(&delays, 0.5),
        detect_p95_s: percentile(&delays, 0.95),
        duplicates: details.duplicates.len() as u64,
        false_alarms: false_alarms as u64,
        false_alarms_per_day_per_1000: rounded(rate),
        attacks: attacks.len() as u64,
        detected: detected as u64,
        prefixes,
        days: rounded(days),
        receipt_p50_s: percentile(&receipts, 0.5),
        receipt_p95_s: percentile(&receipts, 0.95),
        kinds,
    }
}

fn matches(told: &Told, truth: &Truth) -> bool {
    told.start < truth.end
        && told.end.is_none_or(|end| end >= truth.start)
        && told
            .targets
            .iter()
            .any(|target| target.contains(&truth.target) || truth.target.contains(target))
}

fn detected(told: &Told, truth: &Truth) -> Detection {
    let after = |start: Timestamp| rounded(told.detected_at.since(start).as_secs_f64());
    Detection {
        delay_s: after(truth.start),
        receipt_delay_s: truth.exported.map(after),
        start: truth.start,
        target: truth.target,
        attack: truth.attack.clone(),
        id: told.id.clone(),
        vectors: told.vectors.clone(),
    }
}

fn miss(truth: &Truth) -> Miss {
    Miss {
        start: truth.start,
        end: truth.end,
        target: truth.target,
        attack: truth.attack.clone(),
    }
}

fn alarm(told: &Told) -> Alarm {
    Alarm {
        detected_at: told.detected_at,
        id: told.id.clone(),
        target: told.targets.first().copied(),
        vectors: told.vectors.clone(),
        end: told.end,
    }
}

/// The time that is scored: as asked for, else from the first label or detection to the last.
fn days(told: &[&Told], truths: &[&Truth], window: &Window) -> f64 {
    let starts = truths.iter().map(|truth| truth.start);
    let ends = truths.iter().map(|truth| truth.end);
    let detections = || told.iter().map(|told| told.detected_at);
    let from = window.from.or_else(|| starts.chain(detections()).min());
    let to = window.to.or_else(|| ends.chain(detections()).max());
    match (from, to) {
        (Some(from), Some(to)) => to.since(from).as_secs_f64() / DAY,
        _ => 0.0,
    }
}

/// How many /24s and /48s the zones have, each counted once; at least 1.
pub fn prefixes(zones: &[IpNet]) -> u64 {
    let widened = zones.iter().map(|zone| {
        let length = zone.prefix_len().min(unit(zone));
        IpNet::new(zone.network(), length).map_or(*zone, |zone| zone.trunc())
    });
    let apart = IpNet::aggregate(&widened.collect());
    let units = apart.iter().map(|zone| {
        let bits = u32::from(unit(zone).saturating_sub(zone.prefix_len()));
        1_u64.checked_shl(bits).unwrap_or(u64::MAX)
    });
    units.fold(0, u64::saturating_add).max(1)
}

fn unit(prefix: &IpNet) -> u8 {
    match prefix {
        IpNet::V4(_) => 24,
        IpNet::V6(_) => 48,
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        1.0
    } else {
        rounded(part as f64 / whole as f64)
    }
}

fn seconds(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Nearest rank.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// To six places: enough for a microsecond, and the same text on every machine.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests;
