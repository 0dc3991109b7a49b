use weir_flow_record::{ExporterId, ExporterView, SamplingView};

use crate::tables::Exporter;

/// What is known of the exporter at `index` of the table.
pub(crate) fn view(index: usize, exporter: &Exporter) -> ExporterView {
    let (figures, tally) = (exporter.figures, exporter.tally);
    let mut sampling_rates: Vec<SamplingView> = exporter
        .domains
        .iter()
        .flat_map(|(&domain, known)| {
            known
                .samplers
                .iter()
                .map(move |(sampler, rate)| SamplingView {
                    domain,
                    sampler,
                    rate,
                })
        })
        .collect();
    sampling_rates.sort_unstable_by_key(|view| (view.domain, view.sampler));
    ExporterView {
        id: ExporterId(u32::try_from(index).unwrap_or(u32::MAX)),
        address: exporter.address,
        protocols: exporter
            .protocols
            .iter()
            .map(|known| known.name())
            .collect(),
        datagrams: figures.datagrams,
        octets: figures.octets,
        records: figures.records,
        options_records: figures.options_records,
        templates: exporter.templates,
        sampling_rates,
        sequence_gaps: tally.gaps,
        missing_records: tally.missing_records,
        recovered_records: tally.recovered_records,
        reordered_datagrams: tally.reordered,
        duplicate_datagrams: tally.duplicates,
        sequence_resets: tally.resets,
        undecodable_sets: figures.undecodable_sets,
        malformed_datagrams: figures.malformed_datagrams,
        held_back: figures.held_back,
        held_back_sets: figures.held_back_sets,
        released_sets: figures.released_sets,
        released_records: figures.released_records,
        expired_sets: figures.expired_sets,
        held_back_dropped: figures.held_back_dropped,
        template_fallbacks: figures.template_fallbacks,
        redefinitions: figures.redefinitions,
        ignored_withdrawals: figures.ignored_withdrawals,
        refused: figures.refused,
        evicted: figures.evicted,
        unknown_rate_records: figures.unknown_rate_records,
        skew_nanos: exporter.skew.newest,
        skew_smallest_nanos: exporter.skew.smallest(),
        skew_mean_nanos: exporter.skew.mean,
        last_seen: exporter.last_seen,
        ..ExporterView::default()
    }
}
