//! Who exports, and what was last heard of each data source.

use hashbrown::HashMap;
use weir_flow_record::{Address, ExportProtocol, ExporterId, ExporterView, ReceivedAt};

use crate::limits::Limits;
use crate::sample::DataSource;
use crate::sequence::Sequence;
use crate::state::SequenceState;

/// An exporter that was silent for so long gives way to a new one, in ns.
const SILENCE: i64 = 3_600_000_000_000;
/// The table is looked through for silent exporters this often at most, in ns.
const SEARCH: i64 = 1_000_000_000;

/// An agent as seen from one UDP source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    pub(crate) source: Address,
    pub(crate) agent: Address,
}

/// Figures of an exporter; see [`ExporterView`].
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    pub(crate) datagrams: u64,
    pub(crate) octets: u64,
    pub(crate) records: u64,
    pub(crate) counter_samples: u64,
    pub(crate) drop_samples: u64,
    pub(crate) undecodable: u64,
    pub(crate) malformed_datagrams: u64,
    pub(crate) unknown_rate_records: u64,
    pub(crate) agent_drops: u64,
    pub(crate) sample_pool: u64,
    pub(crate) sequence_gaps: u64,
    pub(crate) missing_records: u64,
    pub(crate) recovered_records: u64,
    pub(crate) reordered_datagrams: u64,
    pub(crate) duplicate_datagrams: u64,
    pub(crate) sequence_resets: u64,
}

#[derive(Debug)]
pub(crate) struct Exporter {
    key: Key,
    sub_agents: Vec<SubAgent>,
    pub(crate) figures: Figures,
    pub(crate) last_seen: ReceivedAt,
}

/// One sequence of datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubAgent {
    id: u32,
    last_seen: ReceivedAt,
    pub(crate) sequence: Sequence,
    pub(crate) datagrams: u64,
    pub(crate) records: u64,
}

/// What the newest sample of a data source said.
#[derive(Clone, Copy, Debug)]
struct Totals {
    drops: u32,
    pool: u32,
}

/// Which total of which data source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SourceKey {
    pub(crate) exporter: u32,
    pub(crate) sub_agent: u32,
    pub(crate) source: DataSource,
    /// Samples of discarded packets have totals of their own.
    pub(crate) discarded: bool,
}

/// How much a data source's totals grew.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Growth {
    pub(crate) drops: u32,
    pub(crate) pool: u32,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The tables, with their bounds.
#[derive(Debug)]
pub(crate) struct Tables {
    limits: Limits,
    first: u32,
    numbers: Map<Key, u32>,
    exporters: Vec<Exporter>,
    agents: Map<Address, usize>,
    sources: Map<SourceKey, Totals>,
    search_at: i64,
    pub(crate) refused_sources: u64,
}

impl Tables {
    pub(crate) fn new(limits: Limits, first: ExporterId) -> Self {
        Self {
            limits,
            first: first.0,
            numbers: Map::default(),
            exporters: Vec::new(),
            agents: Map::default(),
            sources: Map::default(),
            search_at: i64::MIN,
            refused_sources: 0,
        }
    }

    /// The exporter's place in this table; `None` where there is no room for it.
    #[inline]
    pub(crate) fn find_or_add(&mut self, key: Key, at: ReceivedAt) -> Option<u32> {
        match self.numbers.get(&key) {
            Some(&number) => Some(number),
            None => self.add(key, at),
        }
    }

    pub(crate) fn id(&self, number: u32) -> ExporterId {
        ExporterId(self.first.saturating_add(number))
    }

    #[inline]
    pub(crate) fn exporter(&mut self, number: u32) -> Option<&mut Exporter> {
        self.exporters.get_mut(number as usize)
    }

    /// Where the sequences of sub-agents stand that sent something since `since`.
    pub(crate) fn sequences(&self, since: ReceivedAt) -> impl Iterator<Item = SequenceState> + '_ {
        self.exporters.iter().flat_map(move |exporter| {
            let sub_agents = exporter.sub_agents.iter();
            let wanted = sub_agents.filter(move |sub_agent| sub_agent.last_seen >= since);
            wanted.filter_map(|sub_agent| {
                let (number, uptime) = sub_agent.sequence.newest()?;
                Some(SequenceState {
                    source: exporter.key.source.ip(),
                    agent: exporter.key.agent.ip(),
                    sub_agent: sub_agent.id,
                    number,
                    uptime,
                    datagrams: sub_agent.datagrams,
                    records: sub_agent.records,
                })
            })
        })
    }

    /// Brings back where a sequence stood.
    pub(crate) fn restore(&mut self, state: &SequenceState, at: ReceivedAt) {
        let key = Key {
            source: Address::from(state.source),
            agent: Address::from(state.agent),
        };
        let most = self.limits.max_sub_agents_per_exporter;
        let number = self.find_or_add(key, at);
        let exporter = number.and_then(|number| self.exporter(number));
        if let Some(sub_agent) = exporter.and_then(|e| e.sub_agent(state.sub_agent, at, most)) {
            sub_agent.sequence.restore(state.number, state.uptime);
            (sub_agent.datagrams, sub_agent.records) = (state.datagrams, state.records);
        }
    }

    /// Counts a datagram that cannot be used for the first agent known behind its source.
    pub(crate) fn note_malformed(&mut self, source: Address) {
        if !self.agents.contains_key(&source) {
            return;
        }
        let known = self.exporters.iter_mut();
        if let Some(exporter) = known
            .into_iter()
            .find(|exporter| exporter.key.source == source)
        {
            exporter.figures.malformed_datagrams += 1;
        }
    }

    /// Takes in a data source's totals; `restarted` where they begin anew.
    #[inline]
    pub(crate) fn observe(
        &mut self,
        key: SourceKey,
        drops: u32,
        pool: u32,
        restarted: bool,
    ) -> Growth {
        if let Some(known) = self.sources.get_mut(&key) {
            let growth = Growth {
                drops: grown(known.drops, drops),
                pool: grown(known.pool, pool),
            };
            *known = Totals { drops, pool };
            return if restarted { Growth::default() } else { growth };
        }
        if self.sources.len() >= self.limits.max_data_sources {
            self.refused_sources += 1;
        } else {
            self.sources.insert(key, Totals { drops, pool });
        }
        Growth::default()
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = ExporterView> + '_ {
        (self.first..)
            .zip(&self.exporters)
            .map(|(number, exporter)| exporter.view(ExporterId(number)))
    }

    fn add(&mut self, key: Key, at: ReceivedAt) -> Option<u32> {
        let agents = self.agents.get(&key.source).copied().unwrap_or(0);
        let full = self.exporters.len() >= self.limits.max_exporters;
        let number = if full || agents >= self.limits.max_agents_per_source {
            self.replace_silent(key, at)?
        } else {
            let number = u32::try_from(self.exporters.len()).ok()?;
            self.exporters.push(Exporter::new(key, at));
            number
        };
        *self.agents.entry(key.source).or_default() += 1;
        self.numbers.insert(key, number);
        Some(number)
    }

    /// Puts a new exporter in the place of the one that was silent longest; where its source has agents enough, of one of
    /// these.
    fn replace_silent(&mut self, key: Key, at: ReceivedAt) -> Option<u32> {
        if at.nanos() < self.search_at {
            return None;
        }
        self.search_at = at.nanos().saturating_add(SEARCH);
        let many =
            self.agents.get(&key.source).copied().unwrap_or(0) >= self.limits.max_agents_per_source;
        let (index, silent) = self
            .exporters
            .iter_mut()
            .enumerate()
            .filter(|(_, exporter)| !many || exporter.key.source == key.source)
            .min_by_key(|(_, exporter)| exporter.last_seen)?;
        if at.nanos().saturating_sub(silent.last_seen.nanos()) < SILENCE {
            return None;
        }
        let number = u32::try_from(index).ok()?;
        let old = std::mem::replace(silent, Exporter::new(key, at)).key;
        self.numbers.remove(&old);
        if let Some(agents) = self.agents.get_mut(&old.source) {
            *agents -= 1;
            if *agents == 0 {
                self.agents.remove(&old.source);
            }
        }
        self.sources.retain(|source, _| source.exporter != number);
        Some(number)
    }
}

/// How much a total of 32 bits grew; nothing where it went back.
#[inline]
fn grown(before: u32, now: u32) -> u32 {
    match now.wrapping_sub(before) {
        growth if growth < 1 << 31 => growth,
        _ => 0,
    }
}

impl Exporter {
    fn new(key: Key, at: ReceivedAt) -> Self {
        Self {
            key,
            sub_agents: Vec::new(),
            figures: Figures::default(),
            last_seen: at,
        }
    }

    /// A sub-agent; beyond `most` the one that was silent longest gives way.
    #[inline]
    pub(crate) fn sub_agent(
        &mut self,
        id: u32,
        at: ReceivedAt,
        most: usize,
    ) -> Option<&mut SubAgent> {
        let known = self.sub_agents.iter().position(|known| known.id == id);
        let index = match known {
            Some(index) => index,
            None => self.add_sub_agent(id, at, most)?,
        };
        let sub_agent = self.sub_agents.get_mut(index)?;
        sub_agent.last_seen = sub_agent.last_seen.max(at);
        Some(sub_agent)
    }

    fn add_sub_agent(&mut self, id: u32, at: ReceivedAt, most: usize) -> Option<usize> {
        let new = SubAgent {
            id,
            last_seen: at,
            sequence: Sequence::default(),
            datagrams: 0,
            records: 0,
        };
        if self.sub_agents.len() < most {
            self.sub_agents.push(new);
            return self.sub_agents.len().checked_sub(1);
        }
        let (index, oldest) = self
            .sub_agents
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, known)| known.last_seen)?;
        *oldest = new;
        Some(index)
    }

    fn view(&self, id: ExporterId) -> ExporterView {
        let figures = self.figures;
        ExporterView {
            id,
            address: self.key.agent,
            protocols: vec![ExportProtocol::SflowV5.name()],
            datagrams: figures.datagrams,
            octets: figures.octets,
            records: figures.records,
            sequence_gaps: figures.sequence_gaps,
            missing_records: figures.missing_records,
            recovered_records: figures.recovered_records,
            reordered_datagrams: figures.reordered_datagrams,
            duplicate_datagrams: figures.duplicate_datagrams,
            sequence_resets: figures.sequence_resets,
            undecodable_sets: figures.undecodable,
            malformed_datagrams: figures.malformed_datagrams,
            unknown_rate_records: figures.unknown_rate_records,
            counter_samples: figures.counter_samples,
            drop_samples: figures.drop_samples,
            agent_drops: figures.agent_drops,
            sample_pool: figures.sample_pool,
            last_seen: self.last_seen,
            ..ExporterView::default()
        }
    }
}
