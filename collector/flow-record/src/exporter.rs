use serde::Serialize;

use crate::{Address, ExporterId, ReceivedAt};

/// What is known of an exporter; figures that its protocols do not have are 0.
#[derive(Clone, Default, Debug, Serialize)]
pub struct ExporterView {
    /// Its number in batches.
    #[serde(skip)]
    pub id: ExporterId,
    /// Its address; with sFlow, the agent's.
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
    /// Flow records that the gaps stand for, less those that came late; an estimate with v9 and sFlow.
    pub missing_records: u64,
    /// Flow records that were missing and came late.
    pub recovered_records: u64,
    /// Datagrams that came late.
    pub reordered_datagrams: u64,
    /// Datagrams that came twice.
    pub duplicate_datagrams: u64,
    /// How often its sequences began anew: restarts.
    pub sequence_resets: u64,
    /// Sets skipped; with sFlow, malformed samples.
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
    /// sFlow counter samples.
    pub counter_samples: u64,
    /// sFlow samples of discarded packets.
    pub drop_samples: u64,
    /// Samples that the sFlow agent says it lost itself.
    pub agent_drops: u64,
    /// Packets that the sFlow agent could have sampled; divided by `records` it is the rate at which it really samples.
    pub sample_pool: u64,
    /// Octets that its interface counters told, of the times in which there were enough flow samples to compare.
    pub interface_octets: u64,
    /// Octets of flow samples, scaled, of the same interfaces and times: should be about as many.
    pub interface_flow_octets: u64,
    /// Our clock less the exporter's at the newest datagram, in ns; 0 where the protocol states no time.
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
