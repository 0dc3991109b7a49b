//! Packets that this host samples itself: its samplers are exporters among the others.

use weir_flow_record::{Address, ExportProtocol, ExporterId, ExporterView, ReceivedAt};

/// The samplers of a shard, numbered behind all exporters that its decoders can have.
pub(crate) struct Sampled {
    first: u32,
    views: Vec<ExporterView>,
}

/// What a sampler counted exactly since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SampledTotals {
    /// Packets that it could have sampled; divided by the records it is the rate at which it really samples.
    pub packets: u64,
    /// Octets of their frames.
    pub octets: u64,
    /// Records that should have come and did not.
    pub lost_records: u64,
}

impl Sampled {
    /// No samplers; the first is numbered `first`.
    pub(crate) fn new(first: usize) -> Self {
        Self {
            first: u32::try_from(first).unwrap_or(u32::MAX),
            views: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, address: Address) -> ExporterId {
        let id = ExporterId(self.first.saturating_add(self.views.len() as u32));
        self.views.push(ExporterView {
            id,
            address,
            protocols: vec![ExportProtocol::Xdp.name()],
            ..ExporterView::default()
        });
        id
    }

    pub(crate) fn handle_records(&mut self, id: ExporterId, at: ReceivedAt, records: usize) {
        if let Some(view) = self.view(id) {
            view.records = view.records.saturating_add(records as u64);
            view.last_seen = at;
        }
    }

    pub(crate) fn handle_totals(&mut self, id: ExporterId, totals: SampledTotals) {
        if let Some(view) = self.view(id) {
            view.sample_pool = totals.packets;
            view.octets = totals.octets;
            view.agent_drops = totals.lost_records;
        }
    }

    pub(crate) fn exporters(&self) -> impl Iterator<Item = ExporterView> + '_ {
        self.views.iter().cloned()
    }

    fn view(&mut self, id: ExporterId) -> Option<&mut ExporterView> {
        let index = id.0.checked_sub(self.first)?;
        self.views.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_is_an_exporter_with_its_own_losses() {
        let mut sampled = Sampled::new(8192);
        let address = Address::from_v4([192, 0, 2, 1]);
        let ids = [sampled.add(address), sampled.add(address)];
        assert_eq!(ids, [ExporterId(8192), ExporterId(8193)]);
        sampled.handle_records(ids[1], ReceivedAt::from_nanos(5), 75);
        let totals = SampledTotals {
            packets: 10_000,
            octets: 640_000,
            lost_records: 25,
        };
        sampled.handle_totals(ids[1], totals);
        sampled.handle_totals(ExporterId(7), totals);
        let views: Vec<ExporterView> = sampled.exporters().collect();
        assert_eq!((views[0].records, views[0].sample_pool), (0, 0));
        assert_eq!((views[1].records, views[1].sample_pool), (75, 10_000));
        assert_eq!(crate::Coverage::of(&views[1]).share(), 0.75);
    }
}
