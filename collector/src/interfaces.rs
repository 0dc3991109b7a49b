//! What an exporter's interface counters say, beside its flow records: a cross-check of sampling rates and of losses that no
//! sequence number shows.
//!
//! An sFlow agent tells the octets of each interface since it started. Between two such reports the flow samples that came in
//! by the interface (or went out by it, where none came in: egress sampling), scaled by their rates, should make up as much.
//! Counters are of frames and flows of what the agent calls the frame's length, so a few per cent are no difference.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use weir_flow_record::{ExporterId, ExporterView, FlowBatch, ReceivedAt};
use weir_sflow::CounterReport;

/// Interfaces that are compared at once, of all exporters of a shard.
const MAX_INTERFACES: usize = 65_536;
/// Reports closer together than this say nothing of a rate.
const SHORTEST: Duration = Duration::from_secs(5);
/// Flow samples below which chance decides: with 100, a fifth either way (95 %).
const FEWEST_SAMPLES: u64 = 100;

/// Compares interfaces.
#[derive(Default)]
pub(crate) struct Interfaces {
    interfaces: HashMap<(ExporterId, u32), Interface>,
    exporters: BTreeMap<ExporterId, Figures>,
}

/// One interface since its last report that was used.
struct Interface {
    since: ReceivedAt,
    /// Inwards and outwards, as reported.
    octets: [u64; 2],
    flows: [Flows; 2],
}

#[derive(Clone, Copy, Default)]
struct Flows {
    octets: u64,
    samples: u64,
}

#[derive(Clone, Copy, Default)]
struct Figures {
    counted: u64,
    explained: u64,
    refused: u64,
}

impl Interfaces {
    /// Adds rows `from..` of a batch, which an sFlow datagram gave. It looks at the rows of exporters only that have told
    /// counters.
    pub(crate) fn handle_rows(&mut self, batch: &FlowBatch, from: usize) {
        let Some(datagram) = batch.datagrams.last() else {
            return;
        };
        if !self.exporters.contains_key(&datagram.exporter) {
            return;
        }
        let exporter = datagram.exporter;
        for row in from..batch.len() {
            let rate = u64::from(batch.sampling_rate[row]);
            let octets = batch.octets[row].saturating_mul(rate);
            let sides = [batch.input_interface[row], batch.output_interface[row]];
            for (side, index) in sides.into_iter().enumerate() {
                // Without a rate nothing can be compared.
                if let Some(interface) = self.interfaces.get_mut(&(exporter, index))
                    && rate > 0
                {
                    let flows = &mut interface.flows[side];
                    flows.octets = flows.octets.saturating_add(octets);
                    flows.samples += 1;
                }
            }
        }
    }

    /// Takes in an interface's counters.
    pub(crate) fn handle_report(&mut self, report: &CounterReport) {
        let figures = self.exporters.entry(report.exporter).or_default();
        let octets = [report.counters.in_octets, report.counters.out_octets];
        let begun = Interface {
            since: report.received_at,
            octets,
            flows: [Flows::default(); 2],
        };
        let key = (report.exporter, report.counters.if_index);
        let Some(interface) = self.interfaces.get_mut(&key) else {
            if self.interfaces.len() < MAX_INTERFACES {
                self.interfaces.insert(key, begun);
            } else {
                figures.refused += 1;
            }
            return;
        };
        if octets[0] < interface.octets[0] || octets[1] < interface.octets[1] {
            // The agent started anew.
            *interface = begun;
            return;
        }
        let elapsed = report.received_at.0.since(interface.since.0);
        let side = usize::from(interface.flows[0].samples == 0);
        let flows = interface.flows[side];
        if elapsed >= SHORTEST && flows.samples >= FEWEST_SAMPLES {
            let counted = octets[side] - interface.octets[side];
            figures.counted = figures.counted.saturating_add(counted);
            figures.explained = figures.explained.saturating_add(flows.octets);
            *interface = begun;
        }
    }

    /// Adds what was compared to an exporter's figures.
    pub(crate) fn tell(&self, view: &mut ExporterView) {
        if let Some(figures) = self.exporters.get(&view.id) {
            view.interface_octets = figures.counted;
            view.interface_flow_octets = figures.explained;
            view.refused += figures.refused;
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_flow_record::{
        Address, ColumnSet, DatagramInfo, ExportProtocol, ExportTime, ObservationDomainId, Row,
        Timestamp,
    };
    use weir_sflow::InterfaceCounters;

    use super::*;

    const EXPORTER: ExporterId = ExporterId(7);

    fn at(second: i64) -> ReceivedAt {
        ReceivedAt(Timestamp::from_seconds(second))
    }

    fn report(second: i64, in_octets: u64) -> CounterReport {
        CounterReport {
            exporter: EXPORTER,
            received_at: at(second),
            counters: InterfaceCounters {
                if_index: 3,
                in_octets,
                ..InterfaceCounters::default()
            },
        }
    }

    /// So many samples of 1,000 octets, each for 100.
    fn samples(count: u32, input_interface: u32) -> FlowBatch {
        let mut batch = FlowBatch::default();
        for _ in 0..count {
            batch.push(&Row {
                octets: 1_000,
                packets: 1,
                sampling_rate: 100,
                input_interface,
                output_interface: 9,
                ..Row::default()
            });
        }
        batch.datagrams.push(DatagramInfo {
            rows: 0..count,
            exporter: EXPORTER,
            exporter_address: Address::from_v4([192, 0, 2, 1]),
            domain: ObservationDomainId(0),
            protocol: ExportProtocol::SflowV5,
            sequence: 0,
            received_at: at(0),
            export_time: ExportTime(Timestamp::from_seconds(0)),
            present: ColumnSet::NONE,
        });
        batch
    }

    fn told(interfaces: &Interfaces) -> (u64, u64) {
        let mut view = ExporterView {
            id: EXPORTER,
            ..ExporterView::default()
        };
        interfaces.tell(&mut view);
        (view.interface_octets, view.interface_flow_octets)
    }

    #[test]
    fn samples_are_set_against_the_counters_of_the_same_time() {
        let mut interfaces = Interfaces::default();
        interfaces.handle_rows(&samples(50, 3), 0);
        interfaces.handle_report(&report(0, 1_000_000));
        assert_eq!(
            told(&interfaces),
            (0, 0),
            "what came before counts for nothing"
        );
        interfaces.handle_rows(&samples(120, 3), 0);
        interfaces.handle_rows(&samples(500, 4), 0);
        interfaces.handle_report(&report(2, 9_000_000));
        assert_eq!(told(&interfaces), (0, 0), "too soon");
        interfaces.handle_report(&report(10, 16_000_000));
        assert_eq!(told(&interfaces), (15_000_000, 12_000_000));
        interfaces.handle_rows(&samples(90, 3), 0);
        interfaces.handle_report(&report(20, 26_000_000));
        assert_eq!(told(&interfaces), (15_000_000, 12_000_000), "too few yet");
        interfaces.handle_rows(&samples(90, 3), 0);
        interfaces.handle_report(&report(30, 34_000_000));
        assert_eq!(
            told(&interfaces),
            (33_000_000, 30_000_000),
            "together enough"
        );
    }

    #[test]
    fn an_agent_that_starts_anew_is_compared_anew() {
        let mut interfaces = Interfaces::default();
        interfaces.handle_report(&report(0, 1_000_000));
        interfaces.handle_rows(&samples(200, 3), 0);
        interfaces.handle_report(&report(10, 500));
        assert_eq!(told(&interfaces), (0, 0));
        interfaces.handle_rows(&samples(200, 3), 0);
        interfaces.handle_report(&report(20, 20_000_500));
        assert_eq!(told(&interfaces), (20_000_000, 20_000_000));
    }
}
