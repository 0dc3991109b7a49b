//! What a judge knows of the partition that it owns: how far it has judged, and what time it is there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_collector::wall_clock;
use weir_flow_aggregate::cluster::{Admission, CollectorCounters, Part};
use weir_flow_record::Timestamp;

use super::view::PartitionView;
use crate::journal::Position;

/// Time without any summary after which time passes by the clock again: nobody sees the traffic.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest time between two savings of the position.
const KEEP: Duration = Duration::from_secs(5);

/// A part as it came from the topic.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(in crate::daemon) part: Part,
    /// Its offset.
    pub(super) offset: i64,
    /// Whether an earlier owner has judged it.
    pub(in crate::daemon) is_past: bool,
}

/// A partition's position, clock and fate.
#[derive(Debug)]
pub(in crate::daemon) struct Owned {
    /// Set once another one owns the partition.
    lost: Arc<AtomicBool>,
    view: Arc<PartitionView>,
    /// Of seconds that are still looked at, the first offset.
    seconds: VecDeque<(i64, i64)>,
    history: i64,
    next: Option<i64>,
    newest: Option<Timestamp>,
    heard: Instant,
    kept: Instant,
}

impl Owned {
    /// Goes on where an earlier owner has stopped; seconds are looked at for `history`.
    pub(super) fn new(
        lost: Arc<AtomicBool>,
        view: Arc<PartitionView>,
        history: Duration,
        position: Option<&Position>,
    ) -> Self {
        Self {
            lost,
            view,
            seconds: VecDeque::new(),
            history: i64::try_from(history.as_secs()).unwrap_or(i64::MAX),
            next: None,
            newest: position.map(|position| position.time),
            heard: Instant::now(),
            kept: Instant::now(),
        }
    }

    /// Notes that a part came.
    pub(in crate::daemon) fn handle_arrival(&mut self, arrival: &Arrival) {
        let time = arrival.part.summary.time();
        let newest = self.newest.map_or(time, |newest| newest.max(time));
        self.newest = Some(newest);
        self.heard = Instant::now();
        self.next = Some(arrival.offset + 1);
        if self
            .seconds
            .back()
            .is_none_or(|(second, _)| *second < newest.second())
        {
            self.seconds.push_back((newest.second(), arrival.offset));
        }
        let before = newest.second().saturating_sub(self.history);
        while self.seconds.len() > 1 && self.seconds.front().is_some_and(|(s, _)| *s < before) {
            self.seconds.pop_front();
        }
        self.view.set_newest(newest, arrival.is_past);
    }

    /// Shows what became of it.
    pub(in crate::daemon) fn note(
        &self,
        admission: Admission,
        counters: Option<CollectorCounters>,
    ) {
        if admission == Admission::Refused {
            tracing::warn!("there are too many collectors: what one says is left out");
        }
        self.view.set_counters(counters.unwrap_or_default());
    }

    /// The time of the newest tick: while Kafka is behind or away, no attack is quiet for that.
    pub(in crate::daemon) fn now(&self) -> Timestamp {
        match self.newest {
            Some(newest) if self.heard.elapsed() < SILENCE => newest,
            _ => Timestamp::from_nanos(wall_clock()),
        }
    }

    /// The position, where there is one yet.
    pub(in crate::daemon) fn position(&self) -> Option<Position> {
        let (_, rewind) = *self.seconds.front()?;
        Some(Position {
            offset: self.next?,
            rewind,
            time: self.newest?,
        })
    }

    /// The position, with what must be kept anyway or now and then.
    pub(in crate::daemon) fn poll_position(&mut self, anyway: bool) -> Option<Position> {
        if !anyway && self.kept.elapsed() < KEEP {
            return None;
        }
        self.kept = Instant::now();
        self.position()
    }

    /// Whether another one owns the partition by now.
    pub(in crate::daemon) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Gives the partition up.
    pub(in crate::daemon) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_aggregate::WindowSummary;
    use weir_flow_record::ReceivedAt;

    use super::*;

    fn arrival(second: i64, offset: i64) -> Arrival {
        let now = ReceivedAt(Timestamp::from_seconds(second));
        Arrival {
            part: Part {
                collector: "a".into(),
                epoch: 1,
                sequence: 1,
                summary: WindowSummary::new(0, 0, now, second - 5),
            },
            offset,
            is_past: false,
        }
    }

    #[test]
    fn a_position_says_what_is_next_and_from_where_seconds_are_told() {
        let view = Arc::default();
        let history = Duration::from_secs(64);
        let mut owned = Owned::new(Arc::default(), view, history, None);
        assert_eq!(owned.poll_position(true), None);
        for second in 0..100 {
            owned.handle_arrival(&arrival(1000 + second, 5 * second));
            // Another collector is behind: time does not run backwards.
            owned.handle_arrival(&arrival(900 + second, 5 * second + 1));
        }
        let position = owned.poll_position(true).unwrap();
        assert_eq!((position.offset, position.rewind), (497, 5 * 35));
        assert_eq!(owned.now(), Timestamp::from_seconds(1099));
        assert_eq!(owned.poll_position(false), None);
    }
}
