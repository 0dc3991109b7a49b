//! Rates and a status made of totals.

use std::time::{Duration, Instant};

use weir_dots_proto::body::MitigationStatus;

use super::{MitigationId, MitigatorReport};

/// What one mitigation has dropped, as a back end reads it now and then.
#[derive(Debug)]
pub(crate) struct Meter {
    quiet_after: Duration,
    read: Instant,
    dropped: Option<Instant>,
    report: MitigatorReport,
}

impl Meter {
    /// A mitigation that begins. Without a drop for `quiet_after` its attack counts as stopped.
    pub(crate) fn new(now: Instant, id: MitigationId, quiet_after: Duration) -> Self {
        Self {
            quiet_after,
            read: now,
            dropped: None,
            report: MitigatorReport::begun(id),
        }
    }

    /// Takes in the totals since it began.
    pub(crate) fn handle_totals(&mut self, now: Instant, bytes: u64, packets: u64) {
        let elapsed = now.saturating_duration_since(self.read);
        let rate = |new: u64, old: u64| {
            let per_second =
                u128::from(new.saturating_sub(old)) * 1_000_000 / elapsed.as_micros().max(1);
            u64::try_from(per_second).unwrap_or(u64::MAX)
        };
        if !elapsed.is_zero() {
            self.report.bytes_per_second_dropped = rate(bytes, self.report.bytes_dropped);
            self.report.packets_per_second_dropped = rate(packets, self.report.packets_dropped);
        }
        if packets > self.report.packets_dropped || bytes > self.report.bytes_dropped {
            self.dropped = Some(now);
        }
        self.read = now;
        self.report.bytes_dropped = bytes;
        self.report.packets_dropped = packets;
    }

    /// How it stands: status 1 until something is dropped, 2 while something is, 3 once nothing has been for a while.
    pub(crate) fn report(&self, now: Instant) -> MitigatorReport {
        let status = match self.dropped {
            None => MitigationStatus::AttackMitigationInProgress,
            Some(at) if now.saturating_duration_since(at) < self.quiet_after => {
                MitigationStatus::AttackSuccessfullyMitigated
            }
            Some(_) => MitigationStatus::AttackStopped,
        };
        MitigatorReport {
            status,
            ..self.report
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_reading_and_quiet_means_stopped() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut meter = Meter::new(began, MitigationId(1), Duration::from_secs(10));
        meter.handle_totals(at(1), 0, 0);
        let status = |meter: &Meter, seconds| meter.report(at(seconds)).status;
        assert_eq!(
            status(&meter, 1),
            MitigationStatus::AttackMitigationInProgress
        );
        meter.handle_totals(at(3), 3000, 30);
        let report = meter.report(at(3));
        assert_eq!(report.bytes_per_second_dropped, 1500);
        assert_eq!(report.packets_per_second_dropped, 15);
        assert_eq!(
            status(&meter, 3),
            MitigationStatus::AttackSuccessfullyMitigated
        );
        meter.handle_totals(at(12), 3000, 30);
        assert_eq!(meter.report(at(12)).bytes_per_second_dropped, 0);
        assert_eq!(
            status(&meter, 12),
            MitigationStatus::AttackSuccessfullyMitigated
        );
        assert_eq!(status(&meter, 13), MitigationStatus::AttackStopped);
    }
}
