use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use weir_flow_record::{ColumnSet, ExporterId, ExporterView, FlowBatch, ReceivedAt};
use weir_netflow::{NameStatement, StateChange};

/// The decoders of all protocols. Any of them may come in on any socket: a datagram's first word says what it is.
pub struct Decoders {
    netflow: weir_netflow::Decoder,
    sflow: weir_sflow::Decoder,
}

/// What one datagram gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// NetFlow, IPFIX, or nothing that is known.
    Netflow(weir_netflow::DatagramOutcome),
    /// sFlow v5.
    Sflow(weir_sflow::DatagramOutcome),
}

/// What of the decoders' state must survive a restart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DecoderState {
    /// Templates, sampling rates and sequences of NetFlow and IPFIX.
    Netflow(StateChange),
    /// Sequences of sFlow.
    Sflow(weir_sflow::SequenceState),
}

impl DecoderState {
    /// What it is about; a later one with the same key replaces this one.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Netflow(change) => change.key(),
            Self::Sflow(state) => state.key(),
        }
    }

    /// Whose datagrams it is about: the address they come from.
    pub fn source(&self) -> IpAddr {
        match self {
            Self::Netflow(change) => change.exporter(),
            Self::Sflow(state) => state.source,
        }
    }

    /// Whether what is stored under [`key`](Self::key) is to be forgotten.
    pub fn is_removal(&self) -> bool {
        matches!(self, Self::Netflow(change) if change.is_removal())
    }

    /// Whether it says where a sequence stood: that is stored again and again as long as something comes.
    pub fn is_sequence(&self) -> bool {
        matches!(
            self,
            Self::Sflow(_) | Self::Netflow(StateChange::Sequence { .. })
        )
    }
}

impl Outcome {
    /// Whether the datagram came before.
    pub fn is_duplicate(&self) -> bool {
        match self {
            Self::Netflow(outcome) => outcome.duplicate,
            Self::Sflow(outcome) => outcome.duplicate,
        }
    }

    /// Flow records decoded now, also those that had waited for a template.
    pub fn records(&self) -> u32 {
        match self {
            Self::Netflow(outcome) => outcome.records.saturating_add(outcome.released_records),
            Self::Sflow(outcome) => outcome.records,
        }
    }

    /// Whether it, or its end, could not be used: a message of a stream ends its session then (RFC 7011 §10.4).
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::Netflow(outcome) => outcome.malformed.is_some(),
            Self::Sflow(outcome) => outcome.malformed.is_some(),
        }
    }
}

/// Bounds of the decoders.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DecoderLimits {
    /// NetFlow and IPFIX.
    pub netflow: weir_netflow::CheckedLimits,
    /// sFlow.
    pub sflow: weir_sflow::CheckedLimits,
}

impl Decoders {
    /// Decoders that know no exporter. sFlow's exporters are numbered behind the last that NetFlow can have.
    pub fn new(limits: &DecoderLimits, columns: ColumnSet) -> Self {
        let first = u32::try_from(limits.netflow.get().max_exporters).unwrap_or(u32::MAX);
        Self {
            netflow: weir_netflow::Decoder::new(limits.netflow, columns),
            sflow: weir_sflow::Decoder::new(limits.sflow, columns, ExporterId(first)),
        }
    }

    /// Decodes one datagram's UDP payload and appends its records to `out`.
    pub fn handle_datagram(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        octets: &[u8],
        out: &mut FlowBatch,
    ) -> Outcome {
        if weir_sflow::is_sflow(octets) {
            Outcome::Sflow(self.sflow.handle_datagram(at, from, octets, out))
        } else {
            Outcome::Netflow(self.netflow.handle_datagram(at, from, octets, out))
        }
    }

    /// Decodes one whole IPFIX message of a TCP or TLS session, which `from` names, and appends its records to `out`.
    pub fn handle_message(
        &mut self,
        at: ReceivedAt,
        from: SocketAddr,
        octets: &[u8],
        out: &mut FlowBatch,
    ) -> Outcome {
        Outcome::Netflow(self.netflow.handle_message(at, from, octets, out))
    }

    /// Forgets the templates of a session that ended.
    pub fn handle_session_closed(&mut self, from: SocketAddr) {
        self.netflow.handle_session_closed(from);
    }

    /// Lets go of what has waited too long. Call about once a second.
    pub fn handle_timeout(&mut self, now: ReceivedAt) {
        self.netflow.handle_timeout(now);
    }

    /// Brings back a change of an earlier run. Call before the first datagram.
    pub fn restore(&mut self, state: DecoderState) {
        match state {
            DecoderState::Netflow(change) => self.netflow.restore(change),
            DecoderState::Sflow(state) => self.sflow.restore(&state),
        }
    }

    /// Where the sequences of exporters stand that sent something since `since`.
    pub fn sequences(&self, since: ReceivedAt) -> impl Iterator<Item = DecoderState> + '_ {
        let netflow = self.netflow.sequences(since).map(DecoderState::Netflow);
        netflow.chain(self.sflow.sequences(since).map(DecoderState::Sflow))
    }

    /// What must survive a restart. Poll after `handle_datagram` until `None`.
    #[must_use]
    pub fn poll_change(&mut self) -> Option<DecoderState> {
        self.netflow.poll_change().map(DecoderState::Netflow)
    }

    /// An interface's counters as an exporter tells them. Poll after `handle_datagram` until `None`.
    #[must_use]
    pub fn poll_counters(&mut self) -> Option<weir_sflow::CounterReport> {
        self.sflow.poll_counters()
    }

    /// What an exporter says that something of its is called.
    #[must_use]
    pub fn poll_name(&mut self) -> Option<NameStatement> {
        self.netflow.poll_name()
    }

    /// Who exports, by any protocol, in the order of [`ExporterId`].
    pub fn exporters(&self) -> impl Iterator<Item = ExporterView> + '_ {
        self.netflow.exporters().chain(self.sflow.exporters())
    }

    /// The counters of NetFlow and IPFIX.
    pub fn netflow_counters(&self) -> &weir_netflow::DecoderCounters {
        self.netflow.counters()
    }

    /// The counters of sFlow.
    pub fn sflow_counters(&self) -> &weir_sflow::DecoderCounters {
        self.sflow.counters()
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{Address, ExportProtocol, ExportTime, ObservationDomainId, Row};
    use weir_netflow::encode::{Encoder as NetflowEncoder, Format};
    use weir_sflow::encode::{Encoder as SflowEncoder, Sample};

    use super::*;

    #[test]
    fn the_first_word_decides_and_numbers_do_not_collide() {
        let mut datagrams = Vec::new();
        let row = Row {
            octets: 64,
            packets: 1,
            ..Row::default()
        };
        NetflowEncoder::new(Format::NetflowV5, ObservationDomainId(0)).encode_flows(
            ExportTime::from_nanos(0),
            &[Row {
                source_address: Address::from_v4([192, 0, 2, 1]),
                destination_address: Address::from_v4([192, 0, 2, 2]),
                ..row
            }],
            &mut datagrams,
        );
        SflowEncoder::new(Address::from_v4([192, 0, 2, 9]), 0).encode(
            0,
            &[Sample::flow(row)],
            &mut datagrams,
        );
        datagrams.push(vec![0, 0, 0, 4, 0, 0, 0, 1]);
        let mut decoders = Decoders::new(&DecoderLimits::default(), ColumnSet::NONE);
        let mut batch = FlowBatch::default();
        let from = SocketAddr::from(([192, 0, 2, 9], 2055));
        let outcomes: Vec<Outcome> = datagrams
            .iter()
            .map(|datagram| {
                decoders.handle_datagram(ReceivedAt::from_nanos(0), from, datagram, &mut batch)
            })
            .collect();
        let kinds: Vec<_> = batch.datagrams.iter().map(|info| info.protocol).collect();
        assert_eq!(kinds, [ExportProtocol::NetflowV5, ExportProtocol::SflowV5]);
        assert_ne!(batch.datagrams[0].exporter, batch.datagrams[1].exporter);
        assert!(matches!(outcomes[2], Outcome::Netflow(outcome) if outcome.malformed.is_some()));
        let ids: Vec<_> = decoders.exporters().map(|view| view.id).collect();
        assert_eq!(ids, [ExporterId(0), ExporterId(4096)]);
    }
}
