//! What the detector knows of cells: those that are told, and targets that may still grow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ipnet::IpNet;
use weir_flow_aggregate::{Bucket, PrefixShape, Series, TargetScope};
use weir_flow_record::{Direction, TargetKey, Timestamp, Vector, ZoneId};

use super::judging::Run;
use crate::automatic::Usually;
use crate::track::{Limit, Metric, Second, Track};
use crate::words::Carpet;

/// A zone in one direction.
pub(super) type Side = (ZoneId, Direction);

/// A target that is still growing is told once it has been as it is for that long,
const STILL: Duration = Duration::from_millis(500);
/// or at the latest after that.
const LATEST: Duration = Duration::from_millis(1500);
/// Seconds ago of which it counts what was usual,
const AGO: i64 = 8;
/// and after which it does not count any more.
const STALE: i64 = 60;

/// A cell that is told.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) track: Track,
    pub(super) shape: PrefixShape,
    /// What was usual in the newest seconds, the oldest first: what an attack brings is learned too, so what was usual a few
    /// seconds ago counts.
    pub(super) usual: VecDeque<Usual>,
    /// The most bits and packets of each vector in one of the seconds that changed.
    pub(super) peaks: [[u64; 2]; Vector::COUNT],
}

/// What was usual in a second, and over how many seconds that had been learned.
#[derive(Debug)]
pub(super) struct Usual {
    second: i64,
    known_for: u32,
    levels: Vec<(Vector, [u64; 2])>,
}

/// A target that may still grow.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) cells: BTreeSet<IpNet>,
    pub(super) fired: Vec<(Limit, Run, Carpet)>,
    pub(super) since: Timestamp,
    pub(super) grown_at: Timestamp,
}

/// What the detector knows of cells.
#[derive(Debug, Default)]
pub(super) struct Automatics {
    pub(super) sides: BTreeMap<Side, BTreeMap<IpNet, Cell>>,
    pub(super) pending: BTreeMap<Side, Vec<Pending>>,
    pub(super) changed: BTreeSet<Side>,
    pub(super) count: usize,
}

impl Automatics {
    /// When a target that may still grow is due.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.pending.values().flatten().map(Pending::due).min()
    }

    /// Whether a target waits to be told, inside a prefix.
    pub(super) fn is_waiting(&self, side: Side, inside: Option<&IpNet>) -> bool {
        let mut waiting = self.pending.get(&side).into_iter().flatten();
        waiting.any(|pending| {
            inside.is_none_or(|prefix| pending.cells.iter().all(|cell| prefix.contains(cell)))
        })
    }

    /// Forgets cells that nothing came from since a second.
    pub(super) fn forget_before(&mut self, second: i64) {
        for cells in self.sides.values_mut() {
            cells.retain(|_, cell| cell.track.end() > second);
        }
        self.sides.retain(|_, cells| !cells.is_empty());
        self.count = self.sides.values().map(BTreeMap::len).sum();
    }

    pub(super) fn tracks<'c>(
        &'c self,
        side: Side,
        members: &'c [IpNet],
    ) -> impl Iterator<Item = &'c Track> + Clone {
        let cells = self.sides.get(&side);
        members
            .iter()
            .filter_map(move |prefix| Some(&cells?.get(prefix)?.track))
    }

    pub(super) fn shapes<'c>(
        &'c self,
        side: Side,
        members: &'c [IpNet],
    ) -> impl Iterator<Item = Usually<'c>> {
        let cells = self.sides.get(&side);
        members
            .iter()
            .filter_map(move |prefix| Some(cells?.get(prefix)?.usually()))
    }
}

impl Cell {
    pub(super) fn usually(&self) -> Usually<'_> {
        let front = self.usual.front();
        Usually {
            effective_hosts: self.shape.effective_hosts,
            known_for: front.map_or(0, |usual| usual.known_for),
            levels: front.map_or(&[], |usual| &usual.levels),
        }
    }

    /// Takes the peaks of the seconds that changed.
    pub(super) fn take_peaks(&mut self) {
        self.peaks = [[0; 2]; Vector::COUNT];
        let mut note = |vector: Vector, bucket: &Bucket| {
            let [bits, packets] = &mut self.peaks[vector.index()];
            *bits = Metric::Bits.value(bucket).max(*bits);
            *packets = Metric::Packets.value(bucket).max(*packets);
        };
        for (_, second) in self.track.since(self.track.changed_from) {
            note(Vector::Total, &second.total);
            // What could not be classified stands there as the total.
            let classified = second
                .vectors
                .iter()
                .filter(|(vector, _)| *vector != Vector::Total);
            classified.for_each(|(vector, bucket)| note(*vector, bucket));
        }
    }

    pub(super) fn note_usual(&mut self, second: i64) {
        if self
            .usual
            .back()
            .is_some_and(|usual| usual.second >= second)
        {
            return;
        }
        if self
            .usual
            .back()
            .is_some_and(|usual| usual.second < second - STALE)
        {
            self.usual.clear();
        }
        self.usual.push_back(Usual {
            second,
            known_for: self.shape.known_for,
            levels: self.shape.levels.clone(),
        });
        while self
            .usual
            .get(1)
            .is_some_and(|next| next.second <= second - AGO)
        {
            self.usual.pop_front();
        }
    }
}

impl Pending {
    pub(super) fn due(&self) -> Timestamp {
        self.grown_at.plus(STILL).min(self.since.plus(LATEST))
    }
}

/// The sum of several targets' seconds from a second on.
pub(super) fn sum<'t>(
    target: TargetKey,
    tracks: impl Iterator<Item = &'t Track> + Clone,
    from: i64,
) -> Option<Series> {
    let first = tracks.clone().map(Track::first).min()?.max(from);
    let end = tracks.clone().map(Track::end).max()?;
    let length = usize::try_from(end - first)
        .ok()
        .filter(|length| *length > 0)?;
    let mut series = Series {
        target,
        scope: TargetScope::Automatic,
        first_second: first,
        total: vec![Bucket::default(); length],
        vectors: None,
        unknown_rate: false,
        max_sampling_rate: 0,
        shape: None,
    };
    let mut vectors = [const { None }; Vector::COUNT];
    for track in tracks {
        series.unknown_rate |= track.unknown_rate;
        series.max_sampling_rate = series.max_sampling_rate.max(track.max_sampling_rate);
        for (second, Second { total, vectors: of }) in track.since(first) {
            let at = usize::try_from(second - first).unwrap_or(usize::MAX);
            if let Some(bucket) = series.total.get_mut(at) {
                bucket.add(total);
            }
            for (vector, part) in of {
                let buckets: &mut Vec<Bucket> =
                    vectors[vector.index()].get_or_insert_with(|| vec![Bucket::default(); length]);
                if let Some(bucket) = buckets.get_mut(at) {
                    bucket.add(part);
                }
            }
        }
    }
    let found = Vector::ALL.into_iter().zip(vectors);
    let found = found.filter_map(|(vector, buckets)| Some((vector, buckets?)));
    series.vectors = Some(found.collect());
    Some(series)
}
