//! What the log says of a producer: that brokers are gone or back when it happens, and drops once a minute at most.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);

/// What was told, and when.
#[derive(Default, Debug)]
pub(crate) struct Telling {
    /// The newest word of librdkafka on what is wrong.
    pub(crate) reason: String,
    is_down: bool,
    /// Statistics in a row without a broker: one alone may be of a connection that is being made.
    without: u32,
    told_dropped: u64,
    told_at: Option<Instant>,
}

impl Telling {
    /// Looks at the newest figures.
    pub(crate) fn handle(&mut self, producer: &str, now: Instant, brokers_up: u64, dropped: u64) {
        self.without = if brokers_up == 0 { self.without + 1 } else { 0 };
        match (self.without, self.is_down) {
            (2.., false) => {
                self.is_down = true;
                let reason = self.reason.as_str();
                tracing::warn!(producer, reason, "no Kafka broker is connected");
            }
            (0, true) => {
                self.is_down = false;
                tracing::info!(producer, "a Kafka broker is connected again");
            }
            _ => {}
        }
        let told = self.told_at;
        if told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE) {
            self.tell_drops(producer, now, dropped);
        }
    }

    /// Tells what was not told yet, if anything was dropped since.
    pub(crate) fn tell_drops(&mut self, producer: &str, now: Instant, dropped: u64) {
        if dropped > self.told_dropped {
            let (dropped, reason) = (dropped - self.told_dropped, self.reason.as_str());
            tracing::warn!(
                producer,
                dropped,
                reason,
                "records are dropped that Kafka does not take"
            );
            self.told_dropped += dropped;
            self.told_at = Some(now);
        }
    }
}
