use weir_flow_record::ExporterId;

/// What one datagram gave; see [`Decoder::handle_datagram`](crate::Decoder::handle_datagram).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DatagramOutcome {
    /// The exporter; `None` where it was refused or the header is bad.
    pub exporter: Option<ExporterId>,
    /// Rows appended to the batch.
    pub records: u32,
    /// Flow samples, compact and expanded; without those that are malformed it is `records`.
    pub flow_samples: u32,
    /// Counter samples, compact and expanded.
    pub counter_samples: u32,
    /// Samples of discarded packets (sflow.org/sflow_drops.txt): counted, no rows.
    pub drop_samples: u32,
    /// Samples of unknown format.
    pub skipped_samples: u32,
    /// Samples whose own fields or records contradict their length; a flow sample that shows a frame is a row all the same.
    pub malformed_samples: u32,
    /// Sum of the frame lengths of `records`, in octets, as sampled.
    pub octets: u64,
    /// Whether the sequence number skipped something.
    pub sequence_gap: bool,
    /// Flow samples that the gap stands for: an estimate, since the sequence counts datagrams.
    pub missing_records: u32,
    /// Why the datagram, or its end, could not be used.
    pub malformed: Option<DatagramError>,
}

/// What is wrong with a whole datagram; faults of single samples are counted instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Not sFlow v5.
    #[error("unknown version {version}")]
    Version {
        /// The first 32-bit word.
        version: u32,
    },
    /// The header is cut, or the agent's address has a type that is neither 0, 1 nor 2; nothing was used.
    #[error("bad header in a datagram of {length} octets")]
    Header {
        /// The datagram's size.
        length: u16,
    },
    /// Fewer samples than the header names; what is there was used.
    #[error("{missing} of {stated} samples are missing")]
    Truncated {
        /// Samples that the header names.
        stated: u32,
        /// Of those, not there or not whole.
        missing: u32,
    },
    /// The table of exporters is full.
    #[error("no room for another exporter")]
    Refused,
}

/// Sums over a decoder's life. Every datagram is counted in exactly one of `datagrams`, `refused_datagrams` and
/// `bad_headers`; truncated ones in `datagrams` and `truncated_datagrams`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct DecoderCounters {
    /// Datagrams with a good header from an accepted exporter.
    pub datagrams: u64,
    /// Octets of those.
    pub octets: u64,
    /// Rows appended.
    pub records: u64,
    /// Flow samples.
    pub flow_samples: u64,
    /// Counter samples.
    pub counter_samples: u64,
    /// Samples of discarded packets.
    pub drop_samples: u64,
    /// Samples of unknown format.
    pub skipped_samples: u64,
    /// Records of unknown format within samples.
    pub skipped_records: u64,
    /// Samples whose fields or records contradict their length.
    pub malformed_samples: u64,
    /// Datagrams with fewer samples than stated.
    pub truncated_datagrams: u64,
    /// Datagrams whose header is bad or of another version.
    pub bad_headers: u64,
    /// Datagrams of exporters that there was no room for.
    pub refused_datagrams: u64,
    /// Data sources that there was no room for: their lost samples are not followed.
    pub refused_data_sources: u64,
    /// Rows without a sampling rate.
    pub unknown_rate_records: u64,
    /// Samples that agents say they lost themselves.
    pub agent_drops: u64,
    /// Skips of a sequence number.
    pub sequence_gaps: u64,
    /// Flow samples that the gaps stand for.
    pub missing_records: u64,
    /// Datagrams that came late.
    pub reordered_datagrams: u64,
    /// Datagrams that came twice.
    pub duplicate_datagrams: u64,
    /// Sequences that began anew: the agent restarted.
    pub sequence_resets: u64,
    /// Interface counters dropped because nobody polled them.
    pub dropped_counters: u64,
}
