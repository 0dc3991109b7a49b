//! `[[packet_sampler]]` in the daemon: samplers belong to shards, and their samples never leave the shard's thread.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use ipnet::IpNet;
use weir_collector::{SampledTotals, Shard, wall_clock};
use weir_ebpf::{Observation, SampledHeaders, Sampler, SamplerSettings, Totals, capability};
use weir_flow_record::{Direction, ReceivedAt};

/// Headers that a shard keeps for evidence: 144 octets each.
const HEADERS: usize = 16_384;
/// Reads of one turn at most, of 1,024 records each: ticks must not wait.
const READS: usize = 64;
/// Time between two looks at the totals, in ns.
const LOOK: i64 = 1_000_000_000;

/// The newest sampled headers of all shards: an attack's packets, as far as anybody has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers(Arc<Vec<Mutex<SampledHeaders>>>);

impl Headers {
    /// Room for `shards`.
    pub(crate) fn new(shards: usize) -> Self {
        let all = (0..shards).map(|_| Mutex::new(SampledHeaders::new(HEADERS)));
        Self(Arc::new(all.collect()))
    }

    /// A pcap file of the newest packets to (or from) a target, at most `most` of each shard's; `None` where there is none.
    pub(crate) fn pcap(
        &self,
        target: &IpNet,
        direction: Direction,
        most: usize,
    ) -> Option<Vec<u8>> {
        let mut all = SampledHeaders::new(HEADERS);
        for headers in self.0.iter() {
            let headers = headers.lock().unwrap_or_else(PoisonError::into_inner);
            headers.copy_to(&mut all, target, direction, most);
        }
        all.pcap(target, direction, most)
    }

    /// Lends one shard's.
    fn with<T>(&self, shard: usize, work: impl FnOnce(Option<&mut SampledHeaders>) -> T) -> T {
        match self.0.get(shard) {
            // A panic elsewhere leaves it whole.
            Some(headers) => {
                let mut headers = headers.lock().unwrap_or_else(PoisonError::into_inner);
                work(Some(&mut headers))
            }
            None => work(None),
        }
    }
}

/// A shard's samplers.
pub(super) struct Packets {
    shard: usize,
    sources: Vec<(Sampler, Observation)>,
    headers: Headers,
    looked: i64,
    views: Vec<SamplerView>,
}

/// What a sampler counted, for whoever looks.
#[derive(Clone, Debug)]
pub(crate) struct SamplerView {
    pub(crate) interface: String,
    pub(crate) method: &'static str,
    pub(crate) totals: Totals,
}

impl Packets {
    pub(super) fn new(
        shard: &mut Shard,
        number: usize,
        samplers: Vec<Sampler>,
        headers: Headers,
    ) -> Self {
        let sources = samplers.into_iter().map(|sampler| {
            let exporter = shard.add_sampler(sampler.address());
            let observation = Observation {
                exporter,
                ..Observation::of(&sampler)
            };
            (sampler, observation)
        });
        Self {
            shard: number,
            sources: sources.collect(),
            headers,
            looked: i64::MIN,
            views: Vec::new(),
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Hands over what was sampled; whether more may be waiting.
    pub(super) fn turn(&mut self, shard: &mut Shard) -> bool {
        let mut more = false;
        for (sampler, observation) in &mut self.sources {
            let mut records = 0;
            for _ in 0..READS {
                let now = ReceivedAt::from_nanos(wall_clock());
                let exporter = observation.exporter;
                records = self.headers.with(self.shard, |headers| {
                    shard.handle_sampled(exporter, now, |batch| {
                        sampler.read(now, observation, batch, headers);
                    })
                });
                if records < Sampler::MOST_RECORDS {
                    break;
                }
            }
            more |= records == Sampler::MOST_RECORDS;
        }
        self.look(shard);
        more
    }

    /// What each counted, as of the last look.
    pub(super) fn views(&self) -> Vec<SamplerView> {
        self.views.clone()
    }

    /// Gives the samplers back.
    pub(super) fn into_samplers(self) -> impl Iterator<Item = Sampler> {
        self.sources.into_iter().map(|(sampler, _)| sampler)
    }

    fn look(&mut self, shard: &mut Shard) {
        let now = wall_clock();
        if self.sources.is_empty() || now < self.looked.saturating_add(LOOK) {
            return;
        }
        self.looked = now;
        self.views.clear();
        for (sampler, observation) in &mut self.sources {
            let totals = sampler.totals();
            shard.handle_sampled_totals(
                observation.exporter,
                SampledTotals {
                    packets: totals.packets,
                    octets: totals.octets,
                    lost_records: sampler.lost_records(&totals),
                },
            );
            self.views.push(SamplerView {
                interface: sampler.interface().to_owned(),
                method: sampler.method().name(),
                totals,
            });
        }
    }
}

/// Opens the samplers of the configuration, or goes on with those of the daemon before; by shard. Afterwards this thread and
/// those that it starts have laid down the capabilities that it took.
pub(super) fn open(
    settings: &[SamplerSettings],
    shards: usize,
    mut kept: Vec<Sampler>,
) -> anyhow::Result<Vec<Vec<Sampler>>> {
    let mut by_shard: Vec<Vec<Sampler>> = (0..shards).map(|_| Vec::new()).collect();
    // An interface has room for one program: what is not wanted any more goes first.
    kept.retain(|sampler| settings.contains(sampler.settings()));
    for (number, wanted) in settings.iter().enumerate() {
        let known = kept.iter().position(|sampler| sampler.settings() == wanted);
        let sampler = match known {
            Some(index) => kept.swap_remove(index),
            None => {
                let sampler = Sampler::open(wanted)?;
                tracing::info!(address = %sampler.address(), "sampling {}", sampler.story());
                sampler
            }
        };
        if let Some(samplers) = by_shard.get_mut(number % shards.max(1)) {
            samplers.push(sampler);
        }
    }
    if !settings.is_empty() {
        capability::lower().context("cannot lay down privileges")?;
    }
    Ok(by_shard)
}
