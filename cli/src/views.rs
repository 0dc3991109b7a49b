//! What the daemon shows: snapshots that the stages publish, and HTTP, metrics and the admin socket read.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use weir_attack_event::{AttackEvent, EventKind, MitigationReport};
use weir_baseline::BaselineCounters;
use weir_collector::{
    Coverage, MirrorCounters, SocketView, StreamCounters, TrustCounters, TrustView,
};
use weir_detector::{LinkLevel, ModelCounters, Mute};
use weir_dots_export::ExporterCounters;
use weir_dots_proto::body::PreOrOngoingMitigation;
use weir_dots_server::{MitigatorFigures, TransportFigures, TransportView};
use weir_dtls::Validity;
use weir_flow_aggregate::AggregateCounters;
use weir_flow_record::{Address, ExporterView, ReceivedAt, Timestamp};
use weir_flow_store::{DropReason, EvidenceCounters, StoreCounters};
use weir_standby::{StandbyView, Viewer};

use crate::daemon::{ClusterView, Headers, SamplerView};
use crate::learn::WatchersView;
use crate::naming::InterfaceRow;

/// Closed attacks that are remembered for the API.
const CLOSED_ATTACKS: usize = 1_000;

/// Everything that can be looked at.
#[derive(Debug, Default)]
pub(crate) struct Views {
    shards: Mutex<Vec<ShardView>>,
    streams: Mutex<StreamView>,
    silent: Mutex<Vec<(Address, ReceivedAt)>>,
    attacks: Mutex<Attacks>,
    sessions: Mutex<BTreeMap<String, bool>>,
    /// What upstreams tell of attacks on our zones.
    observed: Mutex<BTreeMap<String, Vec<PreOrOngoingMitigation>>>,
    /// Redirections that were followed, and that were ignored as loops, by upstream.
    redirects: Mutex<BTreeMap<String, [u64; 2]>>,
    validities: Mutex<BTreeMap<String, Validity>>,
    dots_server: Mutex<Option<Arc<TransportView>>>,
    mitigations: Mutex<BTreeMap<(Arc<str>, u32), MitigationReport>>,
    policy: Mutex<PolicyView>,
    links: Mutex<Vec<LinkLevel>>,
    store: Mutex<Option<StoreCounters>>,
    headers: Mutex<Headers>,
    baselines: Mutex<BaselineView>,
    evidence: Mutex<Option<EvidenceCounters>>,
    evidence_folder: Mutex<Option<PathBuf>>,
    kafka: Mutex<Option<weir_kafka::Figures>>,
    mutes: Mutex<Vec<Mute>>,
    /// Of a detector: what each of its partitions shows.
    parts: Mutex<Vec<Arc<Self>>>,
    cluster: Arc<ClusterView>,
    models: Mutex<(WatchersView, ModelCounters)>,
    /// Of one of a pair.
    standby: Mutex<Option<Viewer>>,
    pub(crate) counters: Counters,
}

/// How the requests for attacks stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyView {
    /// Whether the stop switch is thrown.
    pub(crate) on_hold: bool,
    /// In words, by attack.
    pub(crate) standings: BTreeMap<String, String>,
    /// What the policy has left out.
    pub(crate) counters: ExporterCounters,
}

/// Figures of the baselines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BaselineView {
    pub(crate) targets: u64,
    /// Memory, estimated.
    pub(crate) octets: u64,
    pub(crate) counters: BaselineCounters,
}

/// Counters that no stage owns.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lost_summaries: AtomicU64,
    pub(crate) lost_batches: AtomicU64,
    /// Rows that found no room in the queues before the Parquet writer.
    pub(crate) store_queue_full_rows: AtomicU64,
    /// Rows that found no room before the thread that publishes them.
    pub(crate) kafka_behind_rows: AtomicU64,
    pub(crate) reload_failures: AtomicU64,
    /// Drill-downs that were answered.
    pub(crate) drill_downs: AtomicU64,
    /// Time from questions to answers, ns.
    pub(crate) drill_down_nanos: AtomicU64,
    /// Answers that took longer than 250 ms.
    pub(crate) slow_drill_downs: AtomicU64,
    /// Drill-downs that found no room in the queue.
    pub(crate) lost_drill_downs: AtomicU64,
    /// Attacks whose flows are not kept because too many are open.
    pub(crate) evidence_refused_attacks: AtomicU64,
    /// Events that found no room in the queue before the bundles.
    pub(crate) evidence_lost_events: AtomicU64,
    /// Series that the detector had no room for.
    pub(crate) refused_series: AtomicU64,
    /// A model's verdicts that found no room in the queue before the detector.
    pub(crate) lost_verdicts: AtomicU64,
}

/// IPFIX over TCP and TLS.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamView {
    pub(crate) connections: usize,
    pub(crate) counters: StreamCounters,
}

/// A shard's figures, or all shards', at the newest tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardView {
    pub(crate) exporters: Vec<ExporterRow>,
    pub(crate) sockets: Vec<SocketView>,
    pub(crate) aggregate: AggregateCounters,
    pub(crate) refused_datagrams: u64,
    /// Datagrams refused by rate caps and the allow list.
    pub(crate) trust: TrustCounters,
    /// The same by exporter.
    pub(crate) refused: Vec<TrustView>,
    /// What went to each mirror.
    pub(crate) mirrors: Vec<(SocketAddr, MirrorCounters)>,
    /// What each packet sampler counted.
    pub(crate) samplers: Vec<SamplerView>,
    /// Records by zone and exporter, an estimate; the coverage is the exporter's.
    pub(crate) shares: Vec<(String, Coverage, u64)>,
}

impl ShardView {
    /// Adds another shard's figures; sockets of one address are one listener.
    fn add(&mut self, other: &Self) {
        self.exporters.extend_from_slice(&other.exporters);
        for socket in &other.sockets {
            let known = self
                .sockets
                .iter_mut()
                .find(|known| known.address == socket.address);
            match known {
                Some(known) => {
                    known.drops += socket.drops;
                    known.granted_buffer += socket.granted_buffer;
                }
                None => self.sockets.push(*socket),
            }
        }
        self.aggregate = self.aggregate.plus(&other.aggregate);
        self.refused_datagrams += other.refused_datagrams;
        self.shares.extend_from_slice(&other.shares);
        self.trust.strangers += other.trust.strangers;
        self.trust.too_many_datagrams += other.trust.too_many_datagrams;
        self.trust.too_many_records += other.trust.too_many_records;
        self.trust.evicted_exporters += other.trust.evicted_exporters;
        self.refused.extend_from_slice(&other.refused);
        self.samplers.extend_from_slice(&other.samplers);
        for (to, counters) in &other.mirrors {
            match self.mirrors.iter_mut().find(|(known, _)| known == to) {
                Some((_, sum)) => {
                    sum.sent += counters.sent;
                    sum.octets += counters.octets;
                    sum.full += counters.full;
                    sum.failed += counters.failed;
                    sum.other_family += counters.other_family;
                }
                None => self.mirrors.push((*to, *counters)),
            }
        }
    }

    /// The coverage of each zone: that of its exporters, by their records.
    pub(crate) fn zones(&self) -> BTreeMap<String, Coverage> {
        let mut parts = BTreeMap::<&str, Vec<(Coverage, u64)>>::new();
        for (zone, coverage, records) in &self.shares {
            parts.entry(zone).or_default().push((*coverage, *records));
        }
        parts
            .into_iter()
            .map(|(zone, parts)| (zone.to_owned(), Coverage::weighted(parts.into_iter())))
            .collect()
    }
}

/// An exporter with the name that the configuration gives it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExporterRow {
    /// The configured name, else the address.
    pub(crate) name: String,
    /// Received time less export time.
    pub(crate) skew_seconds: f64,
    /// Share of what it reported that was seen, of 1, and why not all.
    pub(crate) coverage_share: f64,
    pub(crate) coverage: Coverage,
    /// Since when nothing has come of it, if that is too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) silent_since: Option<Timestamp>,
    /// Those that have names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) interfaces: Vec<InterfaceRow>,
    #[serde(flatten)]
    pub(crate) view: ExporterView,
}

#[derive(Debug, Default)]
struct Attacks {
    open: BTreeMap<String, AttackEvent>,
    closed: VecDeque<AttackEvent>,
    started: u64,
    events: u64,
}

/// Totals for `/metrics`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) open_attacks: u64,
    pub(crate) attacks: u64,
    pub(crate) events: u64,
    pub(crate) lost_summaries: u64,
    pub(crate) lost_batches: u64,
    pub(crate) reload_failures: u64,
}

impl Views {
    /// From now on shows what a partition does, too.
    pub(crate) fn add_part(&self, part: &Arc<Self>) {
        lock(&self.parts).push(Arc::clone(part));
    }

    /// Shows what a partition does no longer.
    pub(crate) fn remove_part(&self, part: &Arc<Self>) {
        lock(&self.parts).retain(|known| !Arc::ptr_eq(known, part));
    }

    fn parts(&self) -> Vec<Arc<Self>> {
        lock(&self.parts).clone()
    }

    /// What a member of a cluster shows of it.
    pub(crate) fn cluster(&self) -> Arc<ClusterView> {
        Arc::clone(&self.cluster)
    }

    /// Forgets all shards, and makes room for `count` new ones.
    pub(crate) fn set_shards(&self, count: usize) {
        *lock(&self.shards) = vec![ShardView::default(); count];
    }

    /// Replaces a shard's snapshot.
    pub(crate) fn set_shard(&self, number: u16, view: ShardView) {
        if let Some(shard) = lock(&self.shards).get_mut(usize::from(number)) {
            *shard = view;
        }
    }

    /// All shards' snapshots as one; exporters by address.
    pub(crate) fn shard(&self) -> ShardView {
        let mut all = ShardView::default();
        for shard in lock(&self.shards).iter() {
            all.add(shard);
        }
        all.exporters.sort_by_key(|row| row.view.address);
        let silent: BTreeMap<_, _> = self.silent().into_iter().collect();
        for row in &mut all.exporters {
            row.silent_since = silent.get(&row.view.address).map(|since| since.0);
        }
        all
    }

    /// Replaces the figures of IPFIX sessions.
    pub(crate) fn set_streams(&self, view: StreamView) {
        *lock(&self.streams) = view;
    }

    /// The figures of IPFIX sessions.
    pub(crate) fn streams(&self) -> StreamView {
        *lock(&self.streams)
    }

    /// Replaces the list of silent exporters: who, and since when.
    pub(crate) fn set_silent(&self, silent: Vec<(Address, ReceivedAt)>) {
        *lock(&self.silent) = silent;
    }

    /// Exporters that are silent now.
    pub(crate) fn silent(&self) -> Vec<(Address, ReceivedAt)> {
        lock(&self.silent).clone()
    }

    /// Takes in an event.
    pub(crate) fn handle_event(&self, event: &AttackEvent) {
        let mut attacks = lock(&self.attacks);
        attacks.events += 1;
        let id = event.id.to_string();
        match event.kind {
            EventKind::AttackEnd => {
                attacks.open.remove(&id);
                attacks.closed.push_back(event.clone());
                if attacks.closed.len() > CLOSED_ATTACKS {
                    attacks.closed.pop_front();
                }
            }
            EventKind::AttackStart | EventKind::AttackUpdate => {
                if attacks.open.insert(id, event.clone()).is_none()
                    && event.kind == EventKind::AttackStart
                {
                    attacks.started += 1;
                }
            }
        }
    }

    /// Replaces where sampled headers are kept.
    pub(crate) fn set_headers(&self, headers: Headers) {
        *lock(&self.headers) = headers;
    }

    /// A pcap file of the newest sampled headers of an attack's target, of `most` packets; `None` where no packet sampler saw
    /// any.
    pub(crate) fn headers_of(&self, attack: &AttackEvent, most: usize) -> Option<Vec<u8>> {
        let headers = lock(&self.headers).clone();
        headers.pcap(&attack.target.prefix, attack.target.direction, most)
    }

    /// Open attacks, then closed ones with the newest first: the latest event of each.
    pub(crate) fn attacks(&self) -> Vec<AttackEvent> {
        let mut all: Vec<AttackEvent> = {
            let attacks = lock(&self.attacks);
            let closed = attacks.closed.iter().rev();
            attacks.open.values().chain(closed).cloned().collect()
        };
        let parts = self.parts();
        if !parts.is_empty() {
            all.extend(parts.iter().flat_map(|part| part.attacks()));
            all.sort_by_key(|event| {
                let is_closed = event.kind == EventKind::AttackEnd;
                (is_closed, std::cmp::Reverse(event.time))
            });
        }
        all
    }

    /// Notes whether a session with an upstream stands.
    pub(crate) fn set_session(&self, upstream: &str, up: bool) {
        lock(&self.sessions).insert(upstream.to_owned(), up);
    }

    /// Upstreams, and whether their sessions stand.
    pub(crate) fn sessions(&self) -> Vec<(String, bool)> {
        let mut sessions = lock(&self.sessions).clone();
        // An upstream has a session with each partition: all must stand.
        for (name, up) in self.parts().iter().flat_map(|part| part.sessions()) {
            *sessions.entry(name).or_insert(true) &= up;
        }
        sessions.into_iter().collect()
    }

    /// Notes until when the certificate for an upstream is good.
    pub(crate) fn set_validity(&self, upstream: &str, validity: Validity) {
        lock(&self.validities).insert(upstream.to_owned(), validity);
    }

    /// Upstreams, and until when their certificates are good.
    pub(crate) fn validities(&self) -> Vec<(String, Validity)> {
        lock(&self.validities)
            .iter()
            .map(|(name, validity)| (name.clone(), *validity))
            .collect()
    }

    /// Notes our own DOTS server.
    pub(crate) fn set_dots_server(&self, view: Arc<TransportView>) {
        *lock(&self.dots_server) = Some(view);
    }

    /// What the transports of our own DOTS server count, where there is one.
    pub(crate) fn dots_server(&self) -> Option<TransportFigures> {
        lock(&self.dots_server).as_ref().map(|view| view.figures())
    }

    /// What the back ends of our own DOTS server have done.
    pub(crate) fn mitigators(&self) -> Vec<MitigatorFigures> {
        let view = lock(&self.dots_server);
        view.as_ref()
            .map_or_else(Vec::new, |view| view.mitigators())
    }

    /// Notes what an upstream tells of attacks on our zones, in place of what it told before.
    pub(crate) fn set_observed(&self, upstream: &str, items: &[PreOrOngoingMitigation]) {
        lock(&self.observed).insert(upstream.to_owned(), items.to_vec());
    }

    /// What upstreams tell of attacks on our zones.
    pub(crate) fn observed(&self) -> BTreeMap<String, Vec<PreOrOngoingMitigation>> {
        lock(&self.observed).clone()
    }

    /// Counts a redirection by an upstream to another server.
    pub(crate) fn count_redirect(&self, upstream: &str, followed: bool) {
        let mut redirects = lock(&self.redirects);
        let [follows, loops] = redirects.entry(upstream.to_owned()).or_default();
        *(if followed { follows } else { loops }) += 1;
    }

    /// Redirections that were followed, and that were ignored as loops, by upstream.
    pub(crate) fn redirects(&self) -> BTreeMap<String, [u64; 2]> {
        lock(&self.redirects).clone()
    }

    /// Notes an upstream's word on a mitigation; what is over is forgotten.
    pub(crate) fn set_mitigation(&self, report: &MitigationReport) {
        let mut mitigations = lock(&self.mitigations);
        let key = (Arc::clone(&report.upstream), report.mid);
        if report.status == weir_attack_event::MitigationStatus::AttackMitigationTerminated {
            mitigations.remove(&key);
        } else {
            mitigations.insert(key, report.clone());
        }
    }

    /// Forgets a mitigation that the upstream has ended.
    pub(crate) fn remove_mitigation(&self, upstream: &Arc<str>, mid: u32) {
        lock(&self.mitigations).remove(&(Arc::clone(upstream), mid));
    }

    /// Whether a mitigation stands at an upstream.
    pub(crate) fn has_mitigation(&self, upstream: &str) -> bool {
        let reports = self.mitigations();
        let mut reports = reports.iter();
        reports.any(|report| *report.upstream == *upstream && report.status.is_active())
    }

    /// The newest word on each mitigation.
    pub(crate) fn mitigations(&self) -> Vec<MitigationReport> {
        let mut all: Vec<_> = lock(&self.mitigations).values().cloned().collect();
        all.extend(self.parts().iter().flat_map(|part| part.mitigations()));
        all
    }

    /// Replaces how the requests for attacks stand.
    pub(crate) fn set_policy(&self, view: PolicyView) {
        *lock(&self.policy) = view;
    }

    /// How the requests for attacks stand.
    pub(crate) fn policy(&self) -> PolicyView {
        let mut policy = lock(&self.policy).clone();
        for part in self.parts().iter().map(|part| part.policy()) {
            policy.on_hold |= part.on_hold;
            policy.standings.extend(part.standings);
            policy.counters = policy.counters.plus(&part.counters);
        }
        policy
    }

    /// Replaces the figures of links.
    pub(crate) fn set_links(&self, links: Vec<LinkLevel>) {
        *lock(&self.links) = links;
    }

    /// The newest second of each link.
    pub(crate) fn links(&self) -> Vec<LinkLevel> {
        let mut links = lock(&self.links).clone();
        links.extend(self.parts().iter().flat_map(|part| part.links()));
        links
    }

    /// What models do.
    pub(crate) fn set_watchers(&self, view: WatchersView) {
        lock(&self.models).0 = view;
    }

    /// What became of the active model's words.
    pub(crate) fn set_model_words(&self, counters: ModelCounters) {
        lock(&self.models).1 = counters;
    }

    /// What models do, and what becomes of it.
    pub(crate) fn models(&self) -> (WatchersView, ModelCounters) {
        *lock(&self.models)
    }

    /// Replaces the figures of the baselines.
    pub(crate) fn set_baselines(&self, view: BaselineView) {
        *lock(&self.baselines) = view;
    }

    /// The figures of the baselines.
    pub(crate) fn baselines(&self) -> BaselineView {
        let mut baselines = *lock(&self.baselines);
        for part in self.parts().iter().map(|part| part.baselines()) {
            baselines.targets += part.targets;
            baselines.octets += part.octets;
        }
        baselines
    }

    /// Replaces the Parquet store's figures.
    pub(crate) fn set_store(&self, counters: StoreCounters) {
        *lock(&self.store) = Some(counters);
    }

    /// The Parquet store's figures, with what its queue refused; `None` while it is off.
    pub(crate) fn store(&self) -> Option<StoreCounters> {
        let mut counters = (*lock(&self.store))?;
        let refused = self.counters.store_queue_full_rows.load(Ordering::Relaxed);
        counters.drop_rows(DropReason::QueueFull, refused);
        Some(counters)
    }

    /// Replaces where the figures of Kafka are.
    pub(crate) fn set_kafka(&self, figures: Option<weir_kafka::Figures>) {
        *lock(&self.kafka) = figures;
    }

    /// The figures of Kafka; `None` where nothing is published.
    pub(crate) fn kafka(&self) -> Option<weir_kafka::Figures> {
        lock(&self.kafka).clone()
    }

    /// Replaces the figures of the attacks' bundles.
    pub(crate) fn set_evidence(&self, counters: EvidenceCounters) {
        *lock(&self.evidence) = Some(counters);
    }

    /// The figures of the attacks' bundles, with what queues refused; `None` while none are kept.
    pub(crate) fn evidence(&self) -> Option<EvidenceCounters> {
        let mut counters = (*lock(&self.evidence))?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        counters.refused_attacks = read(&self.counters.evidence_refused_attacks);
        counters.lost_events += read(&self.counters.evidence_lost_events);
        Some(counters)
    }

    /// Notes where bundles are, and takes in the attacks of earlier runs that ended.
    pub(crate) fn set_evidence_folder(&self, folder: Option<PathBuf>) {
        if let Some(folder) = &folder {
            match weir_flow_store::bundles(folder) {
                Ok(events) => self.restore_closed(events),
                Err(error) => tracing::warn!(%error, "earlier attacks are not shown"),
            }
        }
        *lock(&self.evidence_folder) = folder;
    }

    /// Where bundles are.
    pub(crate) fn evidence_folder(&self) -> Option<PathBuf> {
        lock(&self.evidence_folder).clone()
    }

    /// Takes in an attack of an earlier run that goes on.
    pub(crate) fn restore_open(&self, event: &AttackEvent) {
        let mut attacks = lock(&self.attacks);
        let id = event.id.to_string();
        attacks.open.entry(id).or_insert_with(|| event.clone());
    }

    fn restore_closed(&self, mut events: Vec<AttackEvent>) {
        let mut attacks = lock(&self.attacks);
        events.retain(|event| {
            event.kind == EventKind::AttackEnd
                && attacks.closed.iter().all(|closed| closed.id != event.id)
        });
        events.sort_by_key(|event| event.time);
        // Older than what this process has seen end.
        for event in events.into_iter().rev() {
            if attacks.closed.len() < CLOSED_ATTACKS {
                attacks.closed.push_front(event);
            }
        }
    }

    /// Notes what tells how the pair stands.
    pub(crate) fn set_standby(&self, viewer: Viewer) {
        *lock(&self.standby) = Some(viewer);
    }

    /// How the pair stands; `None` where this daemon is not one of a pair.
    pub(crate) fn standby(&self) -> Option<StandbyView> {
        lock(&self.standby).as_ref().map(Viewer::view)
    }

    /// Replaces the list of muted prefixes.
    pub(crate) fn set_mutes(&self, mutes: Vec<Mute>) {
        *lock(&self.mutes) = mutes;
    }

    /// Muted prefixes.
    pub(crate) fn mutes(&self) -> Vec<Mute> {
        let mut mutes = lock(&self.mutes).clone();
        mutes.extend(self.parts().iter().flat_map(|part| part.mutes()));
        mutes
    }

    /// The newest event of an attack, by its name or the beginning of it where that names one alone.
    pub(crate) fn attack(&self, name: &str) -> Option<AttackEvent> {
        let parts = self.parts();
        let mut found = parts.iter().filter_map(|part| part.attack(name));
        if let Some(event) = found.next() {
            return Some(event).filter(|event| *event.id.0 == *name || found.next().is_none());
        }
        let attacks = lock(&self.attacks);
        let all = || attacks.open.values().chain(attacks.closed.iter().rev());
        let exact = all().find(|event| *event.id.0 == *name);
        let mut begun = all().filter(|event| event.id.0.starts_with(name));
        let only = begun
            .next()
            .filter(|_| begun.next().is_none() && !name.is_empty());
        exact.or(only).cloned()
    }

    /// Totals for `/metrics`.
    pub(crate) fn totals(&self) -> Totals {
        let attacks = lock(&self.attacks);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut totals = Totals {
            open_attacks: attacks.open.len() as u64,
            attacks: attacks.started,
            events: attacks.events,
            lost_summaries: read(&self.counters.lost_summaries),
            lost_batches: read(&self.counters.lost_batches),
            reload_failures: read(&self.counters.reload_failures),
        };
        for part in self.parts().iter().map(|part| part.totals()) {
            totals.open_attacks += part.open_attacks;
            totals.attacks += part.attacks;
            totals.events += part.events;
        }
        totals
    }
}

/// A panic elsewhere leaves a snapshot whole: it is replaced in one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
