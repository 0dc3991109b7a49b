use weir_flow_record::{ExportProtocol, ExporterId};

/// What one datagram gave; see [`Decoder::handle_datagram`](crate::Decoder::handle_datagram).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DatagramOutcome {
    /// The protocol; `None` where the version word is none of ours or the datagram is shorter than it.
    pub protocol: Option<ExportProtocol>,
    /// The exporter; `None` where it was refused or the header is bad.
    pub exporter: Option<ExporterId>,
    /// Flow records of this datagram.
    pub records: u32,
    /// Flow records of earlier datagrams decoded now, because their template came.
    pub released_records: u32,
    /// Rows that both gave: a record of both directions (RFC 5103) gives a second one, a firewall's event that says nothing
    /// of traffic none.
    pub rows: u32,
    /// Options records of this datagram.
    pub options_records: u32,
    /// Options records of earlier datagrams, read now.
    pub released_options_records: u32,
    /// Template records, repeats included.
    pub templates: u32,
    /// Options template records, repeats included.
    pub options_templates: u32,
    /// IPFIX template withdrawals.
    pub withdrawals: u32,
    /// Sets skipped in whole or from their bad record on.
    pub undecodable_sets: u32,
    /// Sets of earlier datagrams that their template, which came now, does not fit.
    pub released_undecodable_sets: u32,
    /// Sets put aside until their template comes.
    pub held_back_sets: u32,
    /// Sum of IE 1 (v1/v5/v7: dOctets) of `records` and `released_records`, as exported.
    pub delta_octets: u64,
    /// Sum of IE 2 (v1/v5/v7: dPkts) of the same records.
    pub delta_packets: u64,
    /// Whether the sequence number skipped something.
    pub sequence_gap: bool,
    /// Flow records that the gap stands for, an estimate with v9 (whose sequence counts datagrams).
    pub missing_records: u32,
    /// Whether it came behind others that were exported later.
    pub reordered: bool,
    /// Whether it came before: its records are in the batch a second time.
    pub duplicate: bool,
    /// Whether its exporter's sequence began anew.
    pub restarted: bool,
    /// Why the datagram, or its end, could not be used.
    pub malformed: Option<DatagramError>,
}

/// What is wrong with a whole datagram; faults of single Sets are counted instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Not an export protocol we know.
    #[error("unknown version {version}")]
    Version {
        /// The first 16-bit word.
        version: u16,
    },
    /// The header does not fit; nothing was used.
    #[error("header needs {needed} octets, the datagram has {length}")]
    Header {
        /// The header's size.
        needed: u16,
        /// The datagram's size.
        length: u16,
    },
    /// v1, v5, v7: Count names more records than the datagram holds; nothing was used.
    #[error("count {count} does not fit into {length} octets")]
    Count {
        /// The header's Count.
        count: u16,
        /// The datagram's size.
        length: u16,
    },
    /// IPFIX: Length is shorter than the header (nothing was used) or longer than the datagram (what is there was used).
    #[error("length {stated} does not fit a datagram of {length} octets")]
    Length {
        /// The header's Length.
        stated: u16,
        /// The datagram's size.
        length: u16,
    },
    /// The table of exporters or of sessions is full.
    #[error("no room for another exporter")]
    Refused,
}

/// Sums over a decoder's life. Every datagram is counted in exactly one of `datagrams` and `malformed_datagrams` +
/// `refused_datagrams` + `unknown_versions`; cut IPFIX messages count in `datagrams` and `malformed_datagrams`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct DecoderCounters {
    /// Datagrams with a good header from an accepted exporter.
    pub datagrams: u64,
    /// Octets of those.
    pub octets: u64,
    /// Flow records decoded, released ones included.
    pub records: u64,
    /// Rows that they gave: records of both directions give two.
    pub rows: u64,
    /// Options records read, released ones included.
    pub options_records: u64,
    /// Template records, repeats included.
    pub templates: u64,
    /// Options template records, repeats included.
    pub options_templates: u64,
    /// IPFIX template withdrawals.
    pub withdrawals: u64,
    /// Of those, ignored because they came over UDP (RFC 7011 §8.4).
    pub ignored_withdrawals: u64,
    /// Templates that replaced a different one of the same id.
    pub redefinitions: u64,
    /// Templates refused: too many, too many fields, no fields, or no memory left for them.
    pub refused_templates: u64,
    /// Sets decoded by a template of the same address and domain but another port.
    pub template_fallbacks: u64,
    /// Sets skipped.
    pub undecodable_sets: u64,
    /// Sets put aside until their template comes.
    pub held_back_sets: u64,
    /// Of those, decoded later.
    pub released_sets: u64,
    /// Of those, dropped because no template came in time.
    pub expired_sets: u64,
    /// Octets of expired Sets.
    pub expired_octets: u64,
    /// Sets without template that there was no room to hold back.
    pub refused_sets: u64,
    /// Octets of refused Sets.
    pub refused_octets: u64,
    /// Datagrams with a bad header, count or length.
    pub malformed_datagrams: u64,
    /// Datagrams of unknown version.
    pub unknown_versions: u64,
    /// Datagrams of exporters or sessions that there was no room for.
    pub refused_datagrams: u64,
    /// Samplers that there was no room for.
    pub refused_samplers: u64,
    /// Updates of a firewall's connections that there was no room to remember: the connection's end counts them.
    pub refused_connections: u64,
    /// Templates, samplers, domains and sessions that gave way to new ones.
    pub evicted: u64,
    /// Rows without a sampling rate.
    pub unknown_rate_records: u64,
    /// Of those, rows whose domain states several rates and that do not say which sampler saw them.
    pub ambiguous_rate_records: u64,
    /// Skips of a sequence number.
    pub sequence_gaps: u64,
    /// Flow records that the gaps stand for, less those that came late.
    pub missing_records: u64,
    /// Flow records that were missing and came late.
    pub recovered_records: u64,
    /// Datagrams that came late.
    pub reordered_datagrams: u64,
    /// Datagrams that came twice.
    pub duplicate_datagrams: u64,
    /// Sequences that began anew: the exporter restarted.
    pub sequence_resets: u64,
    /// Changes dropped because nobody polled them.
    pub dropped_changes: u64,
    /// Names dropped because nobody polled them.
    pub dropped_names: u64,
}
