//! Captures of packets rather than of exports: each frame becomes what the packet sampler would have made of it, at a rate of 1.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use weir_collector::{
    Capture, CapturedFrame, DecoderLimits, Decoders, Outcome, SampledTotals, Shard, shard_of,
};
use weir_ebpf::{Observation, parse_link};
use weir_flow_record::{ColumnSet, FlowBatch};

use super::{Merged, Replay};
use crate::arguments::ReplayAs;
use crate::progress::Progress;

/// Datagrams of a capture that are looked at for an export header.
const LOOKED_AT: usize = 100_000;
/// Who samples: this host, as good as any.
const SAMPLER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl ReplayAs {
    /// What the captures hold: exports where a UDP payload parses as such, else packets. Standard input can be read once only and
    /// counts as exports.
    pub(super) fn of(files: &[PathBuf]) -> anyhow::Result<Self> {
        for file in files {
            if file == Path::new("-") || has_exports(file)? {
                return Ok(Self::Exports);
            }
        }
        Ok(Self::Packets)
    }
}

fn has_exports(file: &Path) -> anyhow::Result<bool> {
    let mut decoders = Decoders::new(&DecoderLimits::default(), ColumnSet::NONE);
    let mut batch = FlowBatch::default();
    let datagrams = Capture::open(file)?.take(LOOKED_AT);
    for datagram in datagrams {
        batch.clear();
        let (at, from) = (datagram.at, datagram.from);
        if is_export(&decoders.handle_datagram(at, from, &datagram.payload, &mut batch)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a datagram was an export from its first octet to its last. A version word alone is found in other protocols too.
fn is_export(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Netflow(netflow) => {
            let found = netflow.records
                + netflow.templates
                + netflow.options_records
                + netflow.options_templates
                + netflow.held_back_sets;
            netflow.malformed.is_none() && netflow.undecodable_sets == 0 && found > 0
        }
        Outcome::Sflow(sflow) => {
            let found = sflow.flow_samples + sflow.counter_samples + sflow.drop_samples;
            sflow.malformed.is_none() && sflow.malformed_samples == 0 && found > 0
        }
    }
}

impl Replay<'_> {
    /// Replays captures of packets; tells what is odd about them.
    pub(super) fn run_packets(&mut self, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
        let mut source = Merged::<CapturedFrame>::open(files)?;
        let progress = Progress::of_files("replay", files);
        let number = usize::from(shard_of(SAMPLER, self.shards.len() as u16));
        let mut observation = Observation {
            exporter: self.shards[number].add_sampler(SAMPLER.into()),
            address: SAMPLER.into(),
            interface: 0,
            sampling_rate: 1,
            sequence: 0,
        };
        let mut totals = SampledTotals::default();
        while let Some(frame) = source.next() {
            self.run_until(frame.at.0)?;
            totals.packets += 1;
            totals.octets += u64::from(frame.length);
            handle_frame(&mut self.shards[number], &frame, &mut observation);
            self.shards[number].handle_sampled_totals(observation.exporter, totals);
            self.drain()?;
            progress.set(source.octets_read());
        }
        self.finish()?;
        progress.finish();
        tracing::info!(
            packets = totals.packets,
            octets = totals.octets,
            with_ip = observation.sequence,
            "packets"
        );
        Ok(source.warnings().collect())
    }
}

fn handle_frame(shard: &mut Shard, frame: &CapturedFrame, observation: &mut Observation) {
    let Some(sample) = parse_link(frame.link, &frame.octets, frame.length) else {
        return;
    };
    shard.handle_sampled(observation.exporter, frame.at, |batch| {
        observation.append(frame.at, &sample, &frame.octets, batch);
    });
}
