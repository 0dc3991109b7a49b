//! Figures of one file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use weir_collector::Outcome;
use weir_flow_record::ExportProtocol;
use weir_netflow::{DatagramError, DatagramOutcome};

/// One JSON object a file; see the design, "Decode summary".
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    file: String,
    datagrams: u64,
    by_version: BTreeMap<&'static str, u64>,
    templates: u64,
    options_templates: u64,
    records: u64,
    octets: u64,
    packets: u64,
    options_records: u64,
    flow_samples: u64,
    counter_samples: u64,
    drop_samples: u64,
    undecodable_sets: u64,
    malformed_datagrams: u64,
    sequence_gaps: u64,
    missing_records: u64,
}

impl Summary {
    /// The empty summary of a file.
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            file: path.display().to_string(),
            ..Self::default()
        }
    }

    /// Adds what a datagram gave.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Netflow(outcome) => self.add_netflow(outcome),
            Outcome::Sflow(outcome) => self.add_sflow(outcome),
        }
    }

    /// A sampled frame is a record of one packet and of the frame's length.
    fn add_sflow(&mut self, outcome: &weir_sflow::DatagramOutcome) {
        self.datagrams += 1;
        *self
            .by_version
            .entry(ExportProtocol::SflowV5.name())
            .or_default() += 1;
        self.malformed_datagrams += u64::from(outcome.malformed.is_some());
        self.records += u64::from(outcome.records);
        self.octets = self.octets.saturating_add(outcome.octets);
        self.packets += u64::from(outcome.records);
        self.flow_samples += u64::from(outcome.flow_samples);
        self.counter_samples += u64::from(outcome.counter_samples);
        self.drop_samples += u64::from(outcome.drop_samples);
        self.undecodable_sets += u64::from(outcome.malformed_samples);
        self.sequence_gaps += u64::from(outcome.sequence_gap);
        self.missing_records += u64::from(outcome.missing_records);
    }

    /// Octets and packets are those of IE 1 and IE 2 alone.
    fn add_netflow(&mut self, outcome: &DatagramOutcome) {
        if let Some(error) = outcome.malformed {
            self.malformed_datagrams += 1;
            // UDP payload that is no flow export at all is no export datagram.
            if matches!(error, DatagramError::Version { .. }) {
                return;
            }
        }
        self.datagrams += 1;
        if let Some(protocol) = outcome.protocol {
            *self.by_version.entry(protocol.name()).or_default() += 1;
        }
        self.templates += u64::from(outcome.templates);
        self.options_templates += u64::from(outcome.options_templates);
        self.records += u64::from(outcome.records) + u64::from(outcome.released_records);
        self.octets = self.octets.saturating_add(outcome.delta_octets);
        self.packets = self.packets.saturating_add(outcome.delta_packets);
        self.options_records +=
            u64::from(outcome.options_records) + u64::from(outcome.released_options_records);
        self.undecodable_sets += u64::from(outcome.undecodable_sets);
        self.sequence_gaps += u64::from(outcome.sequence_gap);
        self.missing_records += u64::from(outcome.missing_records);
    }
}
