//! The life of one attack.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use weir_attack_event::{
    AttackEvent, AttackId, BaselineRef, Coverage, EventKind, Findings, Gauge, MitigationReport,
    MitigationStatus, ModelWord, Reason, Severity, Target, Traffic, VectorShare,
};
use weir_flow_aggregate::{Bucket, TargetScope};
use weir_flow_record::{Period, TargetKey, Timestamp, Vector};

use crate::overrides::ByHand;
use crate::repeat::Repeats;
use crate::saved::{SavedAttack, scope_of};
use crate::track::{Limit, Metric, Second, Track};

/// Seconds over which percentiles are taken: the default measurement interval.
const MEASUREMENT: i64 = 300;
/// A vector is named from this share on.
const NAMED: f64 = 0.1;
/// How long a mitigation that says nothing of its lifetime, or of what it drops, may hold an attack open.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);
/// Quiet seconds within an attack that count as a gap between pulses: fewer may be filled by late records.
const GAP: i64 = 5;

/// Coverage below which figures are degraded.
const DEGRADED: f64 = 0.95;

/// Sums per vector: octets and packets.
type Sums = BTreeMap<Vector, (u64, u64)>;

/// An open attack.
#[derive(Clone, Debug)]
pub(crate) struct Attack {
    pub(crate) id: AttackId,
    pub(crate) key: TargetKey,
    pub(crate) scope: TargetScope,
    pub(crate) target: Target,
    pub(crate) start: Timestamp,
    pub(crate) detected_at: Timestamp,
    pub(crate) severity: Severity,
    /// The rate that fired first: shares are of its traffic.
    pub(crate) metric: Metric,
    pub(crate) why: Vec<Reason>,
    /// The limits that fired.
    pub(crate) limits: Vec<Limit>,
    /// Newest second that was not quiet.
    pub(crate) last_busy: i64,
    /// Longest quiet between two of its seconds that were not.
    pub(crate) longest_gap: i64,
    /// How long it is held through quiet.
    pub(crate) clear_for: Duration,
    /// At least so long, since the target was attacked before.
    pub(crate) held_for: Duration,
    pub(crate) by_hand: Option<ByHand>,
    /// What a model calls it, if one does; the newest second that it speaks of, and its line among the reasons.
    pub(crate) model: Option<ModelWord>,
    pub(crate) model_last: i64,
    pub(crate) model_reason: Option<Reason>,
    /// A model raised it, and this is how long it must then have seen nothing.
    pub(crate) raised_for: Option<Period>,
    /// Told before, on something narrower.
    pub(crate) continued: bool,
    /// Cells of an automatic prefix.
    pub(crate) members: Vec<IpNet>,
    pub(crate) findings: Option<Findings>,
    pub(crate) baseline: Option<BaselineRef>,
    /// Records without a known sampling rate are among its traffic.
    pub(crate) unknown_rate: bool,
    pub(crate) mitigation: Option<Mitigation>,
    pub(crate) dry_run: bool,
    /// Sums of seconds that the track has forgotten.
    forgotten: Sums,
    vectors: Vec<VectorShare>,
    traffic: Traffic,
    pub(crate) last_event: Timestamp,
    /// What the newest event told: a difference makes an update.
    told: (Vec<u32>, Severity, Option<MitigationStatus>),
    pub(crate) news: bool,
    /// Restored from an earlier run, which may have missed seconds.
    pub(crate) restored: bool,
}

/// The upstream's word, and since when it has been quiet there.
#[derive(Clone, Debug)]
pub(crate) struct Mitigation {
    report: MitigationReport,
    expires: Timestamp,
    quiet_since: Option<Timestamp>,
}

/// What an attack begins with.
pub(crate) struct Beginning {
    pub(crate) key: TargetKey,
    pub(crate) scope: TargetScope,
    pub(crate) target: Target,
    pub(crate) start_second: i64,
    pub(crate) now: Timestamp,
    pub(crate) metric: Metric,
    pub(crate) dry_run: bool,
}

impl Attack {
    pub(crate) fn begin(beginning: Beginning) -> Self {
        let Beginning {
            key,
            scope,
            target,
            start_second,
            now,
            metric,
            dry_run,
        } = beginning;
        Self {
            id: AttackId::derive(&target.zone, target.prefix, target.direction, start_second),
            key,
            scope,
            target,
            start: Timestamp::from_seconds(start_second),
            detected_at: now,
            severity: Severity::Low,
            metric,
            why: Vec::new(),
            limits: Vec::new(),
            last_busy: start_second,
            longest_gap: 0,
            clear_for: Duration::ZERO,
            held_for: Duration::ZERO,
            by_hand: None,
            model: None,
            model_last: i64::MIN,
            model_reason: None,
            raised_for: None,
            continued: false,
            members: Vec::new(),
            findings: None,
            baseline: None,
            unknown_rate: false,
            mitigation: None,
            dry_run,
            forgotten: Sums::new(),
            vectors: Vec::new(),
            traffic: Traffic::default(),
            last_event: now,
            told: (Vec::new(), Severity::Low, None),
            news: false,
            restored: false,
        }
    }

    /// The attack of an earlier run.
    pub(crate) fn restore(saved: SavedAttack) -> Self {
        let event = saved.event;
        let mut attack = Self::begin(Beginning {
            key: saved.key,
            scope: scope_of(saved.scope),
            target: event.target,
            start_second: event.start_time.second(),
            now: event.detected_at,
            metric: saved.metric,
            dry_run: event.dry_run,
        });
        attack.id = event.id;
        attack.start = event.start_time;
        attack.severity = event.severity;
        attack.why = event.why;
        attack.vectors = event.vectors;
        attack.traffic = event.traffic;
        attack.findings = event.findings;
        attack.baseline = event.baseline;
        attack.last_event = event.time;
        attack.last_busy = saved.last_busy.unwrap_or(event.time.second());
        attack.limits = saved.limits;
        attack.by_hand = saved.by_hand;
        attack.model = event.model;
        attack.raised_for = saved.raised_for;
        attack.members = saved.members;
        attack.restored = true;
        attack.told = (
            attack.vectors.iter().map(|v| v.attack_id).collect(),
            attack.severity,
            None,
        );
        if let Some(mut report) = event.mitigation {
            report.attack = attack.id.clone();
            attack.handle_mitigation(event.time, &report);
        }
        attack
    }

    pub(crate) fn save(&self, event: &AttackEvent) -> SavedAttack {
        SavedAttack {
            event: event.clone(),
            key: self.key,
            metric: self.metric,
            scope: self.scope.number(),
            limits: self.limits.clone(),
            by_hand: self.by_hand.clone(),
            members: self.members.clone(),
            last_busy: Some(self.last_busy),
            raised_for: self.raised_for,
        }
    }

    /// Takes in the sums of a second that is forgotten by the track.
    pub(crate) fn handle_forgotten(&mut self, second: i64, content: &Second) {
        if second >= self.start.second() {
            add_sums(&mut self.forgotten, content);
        }
    }

    /// Looks at the seconds anew: what is busy, how much, of what kind.
    pub(crate) fn measure(&mut self, track: &Track, vendor_id: u32, now: Timestamp) {
        let start = self.start.second();
        for (second, content) in track.since(track.changed_from.max(start)) {
            if self.limits.iter().any(|limit| limit.is_busy(content)) {
                let gap = second - self.last_busy - 1;
                if gap >= GAP {
                    self.longest_gap = self.longest_gap.max(gap);
                }
                self.last_busy = self.last_busy.max(second);
            }
        }
        let mut sums = self.forgotten.clone();
        let until = if self.limits.is_empty() {
            i64::MAX
        } else {
            self.last_busy
        };
        track
            .since(start)
            .filter(|(second, _)| *second <= until)
            .for_each(|(_, content)| add_sums(&mut sums, content));
        if sums
            .values()
            .any(|(octets, packets)| *octets != 0 || *packets != 0)
        {
            self.vectors = shares(
                &sums,
                self.metric,
                vendor_id,
                confidence(track, self.last_busy, self.metric),
            );
            self.name_by_model(vendor_id);
        }
        self.traffic = traffic(track, start, now);
        self.unknown_rate = track.unknown_rate;
        self.note_news();
    }

    /// Says anew how long it is held through quiet.
    pub(crate) fn hold(&mut self, repeats: &Repeats) {
        let wanted = self.limits.iter().map(|limit| limit.clear_for).max();
        self.clear_for = wanted
            .unwrap_or_default()
            .max(self.held_for)
            .max(self.raised_for.map_or(Duration::ZERO, |quiet| quiet.0))
            .max(repeats.hold_through(self.longest_gap, Duration::ZERO));
    }

    /// The targets that aggregators are to tell as long as it is open.
    pub(crate) fn watched(&self) -> Vec<TargetKey> {
        if self.members.is_empty() {
            return vec![self.key];
        }
        let member = |prefix: &IpNet| TargetKey {
            prefix: *prefix,
            ..self.key
        };
        self.members.iter().map(member).collect()
    }

    /// An attack of which only an operator's word is known.
    pub(crate) fn name_by_hand(&mut self, vector: Vector, vendor_id: u32) {
        self.vectors = vec![VectorShare {
            vendor_id,
            attack_id: vector.attack_id(),
            name: vector.into(),
            share: 1.0,
            confidence: 1.0,
        }];
    }

    /// Whether nothing but a model says that it is an attack.
    pub(crate) fn is_model_only(&self) -> bool {
        self.raised_for.is_some() && self.limits.is_empty() && self.by_hand.is_none()
    }

    /// Goes on with the name of one that was raised inside it.
    pub(crate) fn goes_on(&mut self, old: Self, grown: Reason) {
        self.id = old.id;
        self.start = self.start.min(old.start);
        self.detected_at = old.detected_at;
        self.model = old.model;
        self.model_last = old.model_last;
        self.model_reason = old.model_reason;
        self.last_busy = self.last_busy.max(old.last_busy);
        self.why.extend(old.why);
        self.why.push(grown);
        self.continued = true;
    }

    /// The model's name among the vectors. What was measured stays: its confidence is the model's where that names it too. All that
    /// is known of an attack that a model raised is the model's word, as long as no limit fires.
    pub(crate) fn name_by_model(&mut self, vendor_id: u32) {
        let Some(word) = &self.model else {
            return;
        };
        let named = |share: f64| VectorShare {
            vendor_id,
            attack_id: word.name.attack_id(),
            name: word.name.clone(),
            share,
            confidence: word.confidence,
        };
        if self.is_model_only() {
            self.vectors = vec![named(1.0)];
        } else {
            self.vectors.retain(|vector| vector.share > 0.0);
            match self.vectors.iter_mut().find(|one| one.name == word.name) {
                Some(known) => known.confidence = word.confidence,
                None => self.vectors.push(named(0.0)),
            }
        }
        self.note_news();
    }

    fn note_news(&mut self) {
        let listed: Vec<u32> = self.vectors.iter().map(|vector| vector.attack_id).collect();
        self.news |= listed != self.told.0 || self.severity != self.told.1;
    }

    /// Takes in the upstream's word. A drop rate below the limits that fired is quiet.
    pub(crate) fn handle_mitigation(&mut self, now: Timestamp, report: &MitigationReport) {
        let lifetime = report.lifetime.map_or(LONGEST_HOLD, |seconds| {
            Duration::from_secs(u64::from(seconds))
        });
        let quiet = report.status == MitigationStatus::AttackStopped || self.drops_little(report);
        let since = self
            .mitigation
            .as_ref()
            .and_then(|mitigation| mitigation.quiet_since);
        self.news |= self.told.2 != Some(report.status);
        self.mitigation = Some(Mitigation {
            report: report.clone(),
            expires: now.plus(lifetime),
            quiet_since: quiet.then(|| since.unwrap_or(now)),
        });
    }

    /// Whether what is dropped is below all limits that fired. A mitigation that has only been accepted drops nothing yet.
    fn drops_little(&self, report: &MitigationReport) -> bool {
        let unknown = report.bytes_dropped_per_second.is_none()
            && report.packets_dropped_per_second.is_none();
        if unknown {
            return report.status == MitigationStatus::AttackMitigationInProgress;
        }
        let bits = report
            .bytes_dropped_per_second
            .unwrap_or(0)
            .saturating_mul(8);
        let packets = report.packets_dropped_per_second.unwrap_or(0);
        if self.limits.is_empty() {
            return bits == 0 && packets == 0;
        }
        self.limits.iter().all(|fired| {
            let below = |value: u64, limit: Option<u64>| {
                limit.is_none_or(|limit| (value as f64) < limit as f64 * fired.clear_below)
            };
            below(bits, fired.limits[0]) && below(packets, fired.limits[1])
        })
    }

    /// When the attack is over, if nothing more happens: its traffic has been quiet for `clear_for`, and where a mitigation
    /// makes it quiet, the upstream has said so for as long (design, decision 6).
    pub(crate) fn end_due(&self, settle: Duration) -> Timestamp {
        let quiet = Timestamp::from_seconds(self.last_busy + 1)
            .plus(self.clear_for)
            .plus(settle);
        let quiet = match &self.by_hand {
            // Nothing but the operator's word is known of it: with its time it is over.
            Some(by_hand) if self.limits.is_empty() => {
                return by_hand.until.unwrap_or(Timestamp::from_nanos(i64::MAX));
            }
            Some(by_hand) => quiet.max(by_hand.until.unwrap_or(Timestamp::from_nanos(i64::MAX))),
            None => quiet,
        };
        let Some(mitigation) = self
            .mitigation
            .as_ref()
            .filter(|m| m.report.status.is_active())
        else {
            return quiet;
        };
        match mitigation.quiet_since {
            Some(since) => quiet
                .max(since.plus(self.clear_for))
                .min(mitigation.expires.max(quiet)),
            None => quiet.max(mitigation.expires),
        }
    }

    /// When the next update may or must be told.
    pub(crate) fn update_due(&self, interval: Duration) -> Timestamp {
        self.last_event.plus(if self.news {
            Duration::from_secs(1)
        } else {
            interval
        })
    }

    /// A message about the attack as it stands.
    pub(crate) fn event(&mut self, kind: EventKind, now: Timestamp, coverage: f64) -> AttackEvent {
        self.last_event = now;
        self.news = false;
        let status = self
            .mitigation
            .as_ref()
            .map(|mitigation| mitigation.report.status);
        self.told = (
            self.vectors.iter().map(|vector| vector.attack_id).collect(),
            self.severity,
            status,
        );
        AttackEvent {
            kind,
            id: self.id.clone(),
            time: now,
            detected_at: self.detected_at,
            start_time: self.start,
            end_time: (kind == EventKind::AttackEnd)
                .then(|| Timestamp::from_seconds(self.last_busy + 1)),
            target: self.target.clone(),
            vectors: self.vectors.clone(),
            severity: self.severity,
            traffic: self.traffic,
            baseline: self.baseline.clone(),
            why: self.why.clone(),
            findings: self.findings.clone(),
            coverage: Coverage(coverage),
            degraded: coverage < DEGRADED || self.unknown_rate,
            mitigation: self
                .mitigation
                .as_ref()
                .map(|mitigation| mitigation.report.clone()),
            dry_run: self.dry_run,
            model: self.model.clone().map(|word| ModelWord {
                alone: self.is_model_only(),
                ..word
            }),
        }
    }
}

fn add_sums(sums: &mut Sums, second: &Second) {
    for (vector, bucket) in &second.vectors {
        let sum = sums.entry(*vector).or_default();
        sum.0 = sum.0.saturating_add(bucket.octets);
        sum.1 = sum.1.saturating_add(bucket.packets);
    }
}

/// Vectors with at least a tenth of the traffic; `total` only where there is none.
fn shares(sums: &Sums, metric: Metric, vendor_id: u32, confidence: f64) -> Vec<VectorShare> {
    let amount = |(octets, packets): &(u64, u64)| {
        if metric == Metric::Bits {
            *octets
        } else {
            *packets
        }
    };
    let whole: u64 = sums.values().map(amount).fold(0, u64::saturating_add);
    let share = |vector: Vector, share: f64| VectorShare {
        vendor_id,
        attack_id: vector.attack_id(),
        name: vector.into(),
        share,
        confidence,
    };
    let mut shares: Vec<VectorShare> = sums
        .iter()
        .filter(|(vector, _)| **vector != Vector::Total)
        .map(|(vector, sum)| share(*vector, amount(sum) as f64 / whole.max(1) as f64))
        .filter(|share| share.share >= NAMED)
        .collect();
    if shares.is_empty() {
        shares.push(share(Vector::Total, 1.0));
    }
    shares.sort_by(|a, b| {
        b.share
            .total_cmp(&a.share)
            .then(a.attack_id.cmp(&b.attack_id))
    });
    shares
}

/// How narrow the interval of the newest busy second is: 1 for exact figures, less by the relative error of sampling, and
/// half where rates are unknown.
fn confidence(track: &Track, second: i64, metric: Metric) -> f64 {
    if track.unknown_rate {
        return 0.5;
    }
    let bucket = track
        .second(second)
        .map_or_else(Bucket::default, |second| second.total);
    let (value, lower) = (metric.value(&bucket), metric.lower(&bucket));
    if value == 0 {
        0.5
    } else {
        (lower as f64 / value as f64).clamp(0.0, 1.0)
    }
}

/// Percentiles over complete seconds since the start; where there is none yet, the one that is running.
fn traffic(track: &Track, start: i64, now: Timestamp) -> Traffic {
    let from = start.max(track.end() - MEASUREMENT);
    let complete = now.second();
    let mut seconds: Vec<&Bucket> = track
        .since(from)
        .filter(|(s, _)| *s < complete)
        .map(|(_, s)| &s.total)
        .collect();
    if seconds.is_empty() {
        seconds = track.since(from).map(|(_, second)| &second.total).collect();
    }
    let gauge = |metric: Metric| gauge(&seconds, metric, track.unknown_rate);
    Traffic {
        bits_per_second: gauge(Metric::Bits),
        packets_per_second: gauge(Metric::Packets),
        flows_per_second: gauge(Metric::Flows),
    }
}

fn gauge(seconds: &[&Bucket], metric: Metric, unknown_rate: bool) -> Gauge {
    let Some(newest) = seconds.last() else {
        return Gauge::default();
    };
    let mut values: Vec<u64> = seconds.iter().map(|bucket| metric.value(bucket)).collect();
    values.sort_unstable();
    // Nearest rank.
    let percentile = |percent: usize| {
        let rank = (values.len() * percent)
            .div_ceil(100)
            .clamp(1, values.len());
        values.get(rank - 1).copied().unwrap_or_default()
    };
    Gauge {
        low: percentile(10),
        mid: percentile(50),
        high: percentile(90),
        peak: values.last().copied().unwrap_or_default(),
        current: metric.value(newest),
        interval: (
            metric.lower(newest),
            (!unknown_rate && metric != Metric::Flows).then(|| metric.upper(newest)),
        ),
    }
}
