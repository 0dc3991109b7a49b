//! What the log says of a producer: that brokers are gone or back, and drops; each twice a minute at most, however they flap.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);

/// What was told, and when.
#[derive(Default, Debug)]
pub(crate) struct Telling {
    /// The newest word of librdkafka on what is wrong.
    pub(crate) reason: String,
    /// Statistics in a row without a broker: one alone may be of a connection that is being made.
    without: u32,
    is_down: bool,
    /// When the newest two changes were told, the older one first: a loss and its end are told at once.
    changes: [Option<Instant>; 2],
    dropped: u64,
    dropped_at: Option<Instant>,
}

impl Telling {
    /// Looks at the newest figures.
    pub(crate) fn handle(&mut self, producer: &str, now: Instant, brokers_up: u64, dropped: u64) {
        match self.change(now, brokers_up) {
            Some(true) => {
                let reason = self.reason.as_str();
                tracing::warn!(producer, reason, "no Kafka broker is connected");
            }
            Some(false) => tracing::info!(producer, "a Kafka broker is connected again"),
            None => {}
        }
        if is_past(self.dropped_at, now) {
            self.tell_drops(producer, now, dropped);
        }
    }

    /// Tells what was not told yet, if anything was dropped since.
    pub(crate) fn tell_drops(&mut self, producer: &str, now: Instant, dropped: u64) {
        if dropped > self.dropped {
            let reason = self.reason.as_str();
            let dropped = dropped - self.dropped;
            tracing::warn!(
                producer,
                dropped,
                reason,
                "records are dropped that Kafka does not take"
            );
            self.dropped += dropped;
            self.dropped_at = Some(now);
        }
    }

    /// Whether it is to be told that all brokers are gone (true), or that one is back.
    fn change(&mut self, now: Instant, brokers_up: u64) -> Option<bool> {
        self.without = if brokers_up == 0 { self.without + 1 } else { 0 };
        let is_down = match self.without {
            0 => false,
            1 => self.is_down,
            _ => true,
        };
        let [before, last] = self.changes;
        if is_down == self.is_down || !is_past(before, now) {
            return None;
        }
        self.is_down = is_down;
        self.changes = [last, Some(now)];
        Some(is_down)
    }
}

fn is_past(told: Option<Instant>, now: Instant) -> bool {
    told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_and_its_end_are_told_and_flapping_is_not() {
        let mut telling = Telling::default();
        let start = Instant::now();
        let mut at =
            |seconds: u64, up: u64| telling.change(start + Duration::from_secs(seconds), up);
        assert_eq!(at(0, 1), None);
        // One without a broker may be a connection that is being made.
        assert_eq!(at(2, 0), None);
        assert_eq!(at(4, 0), Some(true));
        assert_eq!(at(6, 0), None);
        assert_eq!(at(8, 1), Some(false));
        for seconds in 10..64 {
            assert_eq!(at(seconds, u64::from(seconds % 6 > 2)), None);
        }
        // A minute after the first: how it stands now.
        assert_eq!([at(64, 0), at(66, 0), at(68, 0)], [None, Some(true), None]);
        assert_eq!(at(70, 3), Some(false));
    }
}
