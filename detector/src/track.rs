//! The seconds of one target as they are known so far.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_flow_aggregate::{Bucket, Series};
use weir_flow_record::Vector;

use crate::config::Threshold;

/// Seconds of a target that are kept: the default measurement interval (5 minutes) and a little.
const SECONDS: usize = 320;
/// Two-sided 95 % of a normal distribution.
const Z: f64 = 1.96;

/// Packets of established connections that explain one packet of a connection's beginning.
const PACKETS_PER_CONNECTION: u64 = 2;

/// One of the three rates that limits are given for; the discriminant is its place in lists of limits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Metric {
    Bits = 0,
    Packets = 1,
    Flows = 2,
}

impl Metric {
    pub(crate) const ALL: [Self; 3] = [Self::Bits, Self::Packets, Self::Flows];

    /// The estimate of a second.
    pub(crate) fn value(self, bucket: &Bucket) -> u64 {
        match self {
            Self::Bits => bucket.octets.saturating_mul(8),
            Self::Packets => bucket.packets,
            Self::Flows => bucket.flows,
        }
    }

    /// Half of the 95 % interval by sampling. A flow's count says nothing of flows that sampling missed: it is a lower bound.
    fn margin(self, bucket: &Bucket) -> u64 {
        let deviation = match self {
            Self::Bits => 8.0 * bucket.octets_variance.sqrt(),
            Self::Packets => bucket.packets_variance.sqrt(),
            Self::Flows => 0.0,
        };
        (Z * deviation).ceil() as u64
    }

    /// What the rate is at least, with 95 %.
    pub(crate) fn lower(self, bucket: &Bucket) -> u64 {
        self.value(bucket).saturating_sub(self.margin(bucket))
    }

    /// What the rate is at most, with 95 %.
    pub(crate) fn upper(self, bucket: &Bucket) -> u64 {
        self.value(bucket).saturating_add(self.margin(bucket))
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Bits => "bit/s",
            Self::Packets => "packets/s",
            Self::Flows => "flows/s",
        }
    }
}

/// A limit as it was when it fired: what is above it, or near, is the attack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) vector: Vector,
    /// Only what accepted connections do not explain is tested.
    pub(crate) unexplained: bool,
    /// It follows from the baseline.
    #[serde(default)]
    pub(crate) relative: bool,
    /// Bits, packets and flows per second.
    pub(crate) limits: [Option<u64>; 3],
    /// Share of the limit below which it is quiet.
    pub(crate) clear_below: f64,
    pub(crate) clear_for: Duration,
}

impl Limit {
    /// What a threshold states.
    pub(crate) fn of(threshold: &Threshold) -> Self {
        Self {
            vector: threshold.vector,
            unexplained: threshold.unexplained,
            relative: false,
            limits: threshold.limits,
            clear_below: threshold.clear_below,
            clear_for: threshold.clear_for,
        }
    }

    /// Whether another one tests the same traffic.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.vector, self.unexplained, self.relative)
            == (other.vector, other.unexplained, other.relative)
    }

    /// What of a second is tested. `before` is the second before it: segments of connections may be told later than their
    /// beginnings, so what there were then explains as much.
    pub(crate) fn tested(&self, second: &Second, before: Option<&Second>) -> Bucket {
        let bucket = second.of(self.vector);
        if !self.unexplained {
            return bucket;
        }
        let now = second.of(Vector::TcpAckFlood);
        let before = before.map_or_else(Bucket::default, |second| second.of(Vector::TcpAckFlood));
        if before.packets > now.packets {
            unexplained(&bucket, &before)
        } else {
            unexplained(&bucket, &now)
        }
    }

    /// Whether a second is not quiet.
    pub(crate) fn is_busy(&self, second: &Second) -> bool {
        let bucket = self.tested(second, None);
        Metric::ALL.into_iter().any(|metric| {
            self.limits[metric as usize].is_some_and(|limit| {
                metric.value(&bucket) as f64 >= limit as f64 * self.clear_below
            })
        })
    }
}

/// What is left of the beginnings of connections once those are taken off that led to something: a crowd of clients sends many
/// SYNs, and segments with ACK after each.
fn unexplained(beginnings: &Bucket, established: &Bucket) -> Bucket {
    let explained = established.packets / PACKETS_PER_CONNECTION;
    if explained == 0 || beginnings.packets == 0 {
        return *beginnings;
    }
    let left = beginnings.packets.saturating_sub(explained);
    let part = left as f64 / beginnings.packets as f64;
    let of = |count: u64| (count as f64 * part) as u64;
    let each = (PACKETS_PER_CONNECTION * PACKETS_PER_CONNECTION) as f64;
    Bucket {
        octets: of(beginnings.octets),
        packets: left,
        flows: of(beginnings.flows),
        octets_variance: beginnings.octets_variance,
        packets_variance: beginnings.packets_variance + established.packets_variance / each,
    }
}

/// One second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    pub(crate) total: Bucket,
    pub(crate) vectors: Vec<(Vector, Bucket)>,
}

impl Second {
    /// The traffic that a threshold for `vector` tests.
    pub(crate) fn of(&self, vector: Vector) -> Bucket {
        if vector == Vector::Total {
            return self.total;
        }
        let found = self.vectors.iter().find(|(other, _)| *other == vector);
        found.map_or_else(Bucket::default, |(_, bucket)| *bucket)
    }
}

/// A target's seconds, without gaps.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    first: i64,
    seconds: VecDeque<Second>,
    pub(crate) unknown_rate: bool,
    pub(crate) max_sampling_rate: u32,
    /// Seconds before this one belong to an attack that is over.
    pub(crate) judged_until: i64,
    /// Seconds that changed since they were last judged.
    pub(crate) changed_from: i64,
}

impl Track {
    pub(crate) fn new() -> Self {
        Self {
            first: 0,
            seconds: VecDeque::new(),
            unknown_rate: false,
            max_sampling_rate: 0,
            judged_until: i64::MIN,
            changed_from: i64::MAX,
        }
    }

    /// Takes in what a shard knows: its seconds replace those known before. What falls out at the front goes to `forgotten`.
    pub(crate) fn handle_series(
        &mut self,
        series: &Series,
        mut forgotten: impl FnMut(i64, Second),
    ) {
        self.unknown_rate = series.unknown_rate;
        self.max_sampling_rate = self.max_sampling_rate.max(series.max_sampling_rate);
        if self.seconds.is_empty() {
            self.first = series.first_second;
        }
        let end = series.first_second + series.total.len() as i64;
        if series.first_second > self.end() + SECONDS as i64 {
            for second in self.seconds.drain(..) {
                forgotten(self.first, second);
                self.first += 1;
            }
            self.first = series.first_second;
        }
        while self.first > series.first_second && self.seconds.len() < SECONDS {
            self.seconds.push_front(Second::default());
            self.first -= 1;
        }
        while self.end() < end {
            self.seconds.push_back(Second::default());
        }
        self.changed_from = self.changed_from.min(series.first_second);
        for (index, bucket) in series.total.iter().enumerate() {
            let Some(second) = self.second_mut(series.first_second + index as i64) else {
                continue;
            };
            second.total = *bucket;
            second.vectors.clear();
            for (vector, buckets) in series.vectors.iter().flatten() {
                match buckets.get(index) {
                    Some(bucket) if *bucket != Bucket::default() => {
                        second.vectors.push((*vector, *bucket))
                    }
                    _ => {}
                }
            }
        }
        while self.seconds.len() > SECONDS {
            if let Some(second) = self.seconds.pop_front() {
                forgotten(self.first, second);
                self.first += 1;
            }
        }
    }

    /// The oldest second that is known.
    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// One past the newest second.
    pub(crate) fn end(&self) -> i64 {
        self.first + self.seconds.len() as i64
    }

    /// Seconds from `from` on, oldest first.
    pub(crate) fn since(&self, from: i64) -> impl DoubleEndedIterator<Item = (i64, &Second)> {
        let skip = usize::try_from(from.saturating_sub(self.first))
            .unwrap_or(0)
            .min(self.seconds.len());
        let first = self.first + skip as i64;
        self.seconds
            .range(skip..)
            .enumerate()
            .map(move |(index, second)| (first + index as i64, second))
    }

    /// One second, if it is known.
    pub(crate) fn second(&self, second: i64) -> Option<&Second> {
        self.seconds
            .get(usize::try_from(second.checked_sub(self.first)?).ok()?)
    }

    fn second_mut(&mut self, second: i64) -> Option<&mut Second> {
        self.seconds
            .get_mut(usize::try_from(second.checked_sub(self.first)?).ok()?)
    }
}
