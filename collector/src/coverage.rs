//! How much of what exporters reported was really seen, and why not all.

use serde::Serialize;
use weir_flow_record::ExporterView;

/// What was seen of an exporter's records, or of all those that bring a zone's traffic.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Coverage {
    /// Flow records decoded.
    pub seen: u64,
    /// Records that sequence numbers say are missing: lost on the way or in our socket's buffer.
    pub missing: u64,
    /// Records of Sets that could not be decoded; an estimate, by the exporter's mean.
    pub undecodable: u64,
    /// Records of Sets whose template did not come in time; an estimate likewise.
    pub without_template: u64,
    /// Samples that the exporter says it lost itself (sFlow).
    pub lost_by_exporter: u64,
}

impl Coverage {
    /// The coverage of an exporter since the start.
    pub fn of(exporter: &ExporterView) -> Self {
        let mean = exporter.records / exporter.datagrams.max(1);
        let sets = |count: u64| count.saturating_mul(mean.max(1));
        Self {
            seen: exporter.records,
            missing: exporter.missing_records,
            undecodable: sets(exporter.undecodable_sets),
            without_template: sets(exporter.held_back_dropped),
            lost_by_exporter: exporter.agent_drops,
        }
    }

    /// Records that were reported and are not among those seen.
    pub fn lost(&self) -> u64 {
        self.missing
            .saturating_add(self.undecodable)
            .saturating_add(self.without_template)
            .saturating_add(self.lost_by_exporter)
    }

    /// The share seen, of 1; 1 where nothing was reported.
    pub fn share(&self) -> f64 {
        let reported = self.seen.saturating_add(self.lost());
        if reported == 0 {
            return 1.0;
        }
        self.seen as f64 / reported as f64
    }

    /// The coverage of traffic that exporters share: each with its weight.
    pub fn weighted(parts: impl Iterator<Item = (Self, u64)>) -> Self {
        let mut sum = Self::default();
        for (part, weight) in parts {
            let of = |count: u64| {
                let share = u128::from(count) * u128::from(weight) / u128::from(part.seen.max(1));
                u64::try_from(share).unwrap_or(u64::MAX)
            };
            sum.seen = sum.seen.saturating_add(weight);
            sum.missing = sum.missing.saturating_add(of(part.missing));
            sum.undecodable = sum.undecodable.saturating_add(of(part.undecodable));
            sum.without_template = sum
                .without_template
                .saturating_add(of(part.without_template));
            sum.lost_by_exporter = sum
                .lost_by_exporter
                .saturating_add(of(part.lost_by_exporter));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_count_by_reason() {
        let exporter = ExporterView {
            datagrams: 100,
            records: 2_400,
            missing_records: 240,
            undecodable_sets: 5,
            held_back_dropped: 5,
            agent_drops: 120,
            ..ExporterView::default()
        };
        let coverage = Coverage::of(&exporter);
        assert_eq!(
            (coverage.undecodable, coverage.without_template),
            (120, 120)
        );
        assert_eq!(coverage.lost(), 600);
        assert_eq!(coverage.share(), 0.8);
        assert_eq!(Coverage::default().share(), 1.0);
    }

    #[test]
    fn a_zones_coverage_is_that_of_its_exporters_by_their_records() {
        let good = Coverage {
            seen: 1_000,
            ..Coverage::default()
        };
        let bad = Coverage {
            seen: 500,
            missing: 500,
            ..Coverage::default()
        };
        let zone = Coverage::weighted([(good, 100), (bad, 100)].into_iter());
        assert_eq!((zone.seen, zone.missing), (200, 100));
    }
}
