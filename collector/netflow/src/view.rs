use serde::Serialize;
use weir_flow_record::{Address, ExporterId, ReceivedAt};

use crate::tables::Exporter;

/// What is known of an exporter.
#[derive(Clone, Debug, Serialize)]
pub struct ExporterView {
    /// Its number in batches.
    #[serde(skip)]
    pub id: ExporterId,
    /// Its address.
    pub address: Address,
    /// What it spoke, by the names of flow records.
    pub protocols: Vec<&'static str>,
    /// Datagrams with a good header.
    pub datagrams: u64,
    /// Octets of those.
    pub octets: u64,
    /// Flow records decoded.
    pub records: u64,
    /// Options records read.
    pub options_records: u64,
    /// Templates held now, over all its sessions.
    pub templates: usize,
    /// Sampling rates it stated in options data.
    pub sampling_rates: Vec<SamplingView>,
    /// Skips of its sequence numbers.
    pub sequence_gaps: u64,
    /// Flow records that the gaps stand for, less those that came late; an estimate with v9.
    pub missing_records: u64,
    /// Flow records that were missing and came late.
    pub recovered_records: u64,
    /// Datagrams that came late.
    pub reordered_datagrams: u64,
    /// Datagrams that came twice.
    pub duplicate_datagrams: u64,
    /// How often its sequences began anew: restarts.
    pub sequence_resets: u64,
    /// Sets skipped.
    pub undecodable_sets: u64,
    /// Datagrams with a bad header, count or length.
    pub malformed_datagrams: u64,
    /// Sets that wait for their template now.
    pub held_back: u64,
    /// Sets that came before their template, ever.
    pub held_back_sets: u64,
    /// Of those, decoded when it came.
    pub released_sets: u64,
    /// Flow records of those.
    pub released_records: u64,
    /// Of those, dropped because it did not come in time.
    pub expired_sets: u64,
    /// Sets that waited in vain or that there was no room for.
    pub held_back_dropped: u64,
    /// Sets decoded by a template that came from another port.
    pub template_fallbacks: u64,
    /// Templates that replaced a different one of the same id.
    pub redefinitions: u64,
    /// Withdrawals that came over UDP, where they mean nothing (RFC 7011 §8.4).
    pub ignored_withdrawals: u64,
    /// Templates and samplers that there was no room for.
    pub refused: u64,
    /// Templates, samplers, domains and sessions that gave way to newer ones.
    pub evicted: u64,
    /// Rows without a known sampling rate.
    pub unknown_rate_records: u64,
    /// Our clock less the exporter's at the newest datagram, in ns.
    pub skew_nanos: i64,
    /// The smallest of the last one or two minutes: clocks apart, without the waiting on the way.
    pub skew_smallest_nanos: i64,
    /// The exponentially weighted mean, a sixteenth by datagram.
    pub skew_mean_nanos: i64,
    /// When its newest datagram came.
    pub last_seen: ReceivedAt,
}

/// A sampling rate as an exporter stated it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SamplingView {
    /// The observation domain.
    pub domain: u32,
    /// The sampler; `None`: the rate holds for the whole domain.
    pub sampler: Option<u64>,
    /// One in how many packets.
    pub rate: u32,
}

impl ExporterView {
    pub(crate) fn of(index: usize, exporter: &Exporter) -> Self {
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
        Self {
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
        }
    }
}
