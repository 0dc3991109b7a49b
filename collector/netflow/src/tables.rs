//! Who exports: exporters (addresses), their transport sessions (port and domain), domains, and templates. Every table is
//! bounded; what has been silent for an hour gives way to newcomers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_flow_record::{Address, ExportProtocol, ReceivedAt, Timestamp};

use crate::held_back::Awaited;
use crate::limits::Limits;
use crate::sampling::Samplers;
use crate::sequence::Sequence;
use crate::template::{Plan, Template};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Silence after which an exporter or a session gives way.
const IDLE: Duration = Duration::from_secs(3600);
/// How often a full table is searched for something idle.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// Sessions over all exporters, for each exporter allowed.
const SESSIONS_PER_EXPORTER: usize = 8;
const MIN_SESSIONS: usize = 1024;

/// One exporter, by its address.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) address: Address,
    pub(crate) domains: Map<u32, Domain>,
    pub(crate) sessions: Vec<u32>,
    /// The newest template of a domain and id, and the session that has it.
    newest: Map<(u32, u16, bool), u32>,
    pub(crate) templates: usize,
    pub(crate) samplers: usize,
    pub(crate) protocols: Vec<ExportProtocol>,
    pub(crate) last_seen: ReceivedAt,
    pub(crate) figures: Figures,
}

/// What an exporter's view counts.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    pub(crate) datagrams: u64,
    pub(crate) octets: u64,
    pub(crate) records: u64,
    pub(crate) options_records: u64,
    pub(crate) sequence_gaps: u64,
    pub(crate) missing_records: u64,
    pub(crate) undecodable_sets: u64,
    pub(crate) malformed_datagrams: u64,
    pub(crate) held_back: u64,
    pub(crate) held_back_dropped: u64,
    pub(crate) unknown_rate_records: u64,
    pub(crate) skew_nanos: i64,
}

/// What all sessions of an exporter's observation domain share.
#[derive(Default, Debug)]
pub(crate) struct Domain {
    pub(crate) samplers: Samplers,
    /// IE 160, ms since 1970.
    pub(crate) system_init: Option<u64>,
}

/// RFC 7011 §2: a transport session over UDP, here with its observation domain and protocol.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    pub(crate) exporter: u32,
    templates: Map<u16, Arc<Template>>,
    pub(crate) sequence: Sequence,
    last_seen: ReceivedAt,
    pub(crate) records: u64,
    pub(crate) datagrams: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SessionKey {
    pub(crate) address: Address,
    pub(crate) port: u16,
    pub(crate) domain: u32,
    pub(crate) protocol: ExportProtocol,
}

impl SessionKey {
    pub(crate) fn new(from: SocketAddr, domain: u32, protocol: ExportProtocol) -> Self {
        Self {
            address: Address::from(from.ip()),
            port: from.port(),
            domain,
            protocol,
        }
    }

    fn netflow_v9(self) -> bool {
        self.protocol == ExportProtocol::NetflowV9
    }
}

/// What became of a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Defined {
    New,
    Redefined,
    Refused,
}

/// All of it.
pub(crate) struct Tables {
    limits: Limits,
    exporters: Vec<Exporter>,
    by_address: Map<Address, u32>,
    /// Slots are used again; a free one has no entry in `by_key`.
    sessions: Vec<Session>,
    free: Vec<u32>,
    by_key: Map<SessionKey, u32>,
    template_octets: usize,
    next_search: ReceivedAt,
    /// Templates of sessions that gave way, to be forgotten by whoever stores them.
    evicted: Vec<(SessionKey, u16)>,
}

impl Tables {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            exporters: Vec::new(),
            by_address: Map::default(),
            sessions: Vec::new(),
            free: Vec::new(),
            by_key: Map::default(),
            template_octets: 0,
            next_search: ReceivedAt::from_nanos(i64::MIN),
            evicted: Vec::new(),
        }
    }

    pub(crate) fn exporters(&self) -> &[Exporter] {
        &self.exporters
    }

    pub(crate) fn exporter_by_address(&mut self, address: Address) -> Option<&mut Exporter> {
        let &index = self.by_address.get(&address)?;
        self.exporters.get_mut(index as usize)
    }

    pub(crate) fn exporter(&mut self, index: u32) -> Option<&mut Exporter> {
        self.exporters.get_mut(index as usize)
    }

    pub(crate) fn session(&mut self, slot: u32) -> Option<&mut Session> {
        self.sessions.get_mut(slot as usize)
    }

    /// The samplers and start time of a domain.
    pub(crate) fn domain(&self, exporter: u32, domain: u32) -> Option<&Domain> {
        self.exporters.get(exporter as usize)?.domains.get(&domain)
    }

    /// The session's slot; made if there is room. `replaced` takes the exporter that gave way, if one did.
    pub(crate) fn find_or_add(
        &mut self,
        key: SessionKey,
        at: ReceivedAt,
        replaced: &mut Option<u32>,
    ) -> Option<u32> {
        let slot = match self.by_key.get(&key) {
            Some(&slot) => slot,
            None => {
                let exporter = self.find_or_add_exporter(key.address, at, replaced)?;
                self.add_session(exporter, key, at)?
            }
        };
        let session = self.sessions.get_mut(slot as usize)?;
        session.last_seen = session.last_seen.max(at);
        Some(slot)
    }

    /// The session's slot, if it is known.
    pub(crate) fn find(&self, key: &SessionKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Takes in a sampling rate; `None` if there was no room, else whether it was news.
    pub(crate) fn set_rate(
        &mut self,
        address: Address,
        domain: u32,
        sampler: Option<u64>,
        rate: u32,
    ) -> Option<bool> {
        let most = self.limits.max_samplers;
        let exporter = self.find_or_add_domain(address, domain)?;
        let room = exporter.samplers < most;
        let samplers = &mut exporter.domains.get_mut(&domain)?.samplers;
        let before = samplers.len();
        let news = samplers.set(sampler, rate, room);
        exporter.samplers += samplers.len() - before;
        news
    }

    /// Takes in when an exporter started; whether it was news.
    pub(crate) fn set_system_init(&mut self, address: Address, domain: u32, init: u64) -> bool {
        self.find_or_add_domain(address, domain)
            .and_then(|exporter| exporter.domains.get_mut(&domain))
            .is_some_and(|known| known.system_init.replace(init) != Some(init))
    }

    /// The exporter, with its domain; both made if there is room.
    fn find_or_add_domain(&mut self, address: Address, domain: u32) -> Option<&mut Exporter> {
        let never = ReceivedAt::from_nanos(0);
        let index = self.find_or_add_exporter(address, never, &mut None)?;
        let most = self.limits.max_domains_per_exporter;
        let exporter = self.exporters.get_mut(index as usize)?;
        if exporter.domains.len() >= most && !exporter.domains.contains_key(&domain) {
            return None;
        }
        exporter.domains.entry(domain).or_default();
        Some(exporter)
    }

    fn find_or_add_exporter(
        &mut self,
        address: Address,
        at: ReceivedAt,
        replaced: &mut Option<u32>,
    ) -> Option<u32> {
        if let Some(&index) = self.by_address.get(&address) {
            return Some(index);
        }
        let exporter = Exporter::new(address, at);
        let index = if self.exporters.len() < self.limits.max_exporters {
            let index = u32::try_from(self.exporters.len()).ok()?;
            self.exporters.push(exporter);
            index
        } else {
            let index = self.idle_exporter(at)?;
            self.remove_exporter(index);
            *replaced = Some(index);
            *self.exporters.get_mut(index as usize)? = exporter;
            index
        };
        self.by_address.insert(address, index);
        Some(index)
    }

    fn idle_exporter(&mut self, now: ReceivedAt) -> Option<u32> {
        if !self.may_search(now) {
            return None;
        }
        let idle = self
            .exporters
            .iter()
            .position(|exporter| is_idle(exporter.last_seen, now));
        idle.and_then(|index| u32::try_from(index).ok())
    }

    /// A flood of newcomers must not make every datagram search the table.
    fn may_search(&mut self, now: ReceivedAt) -> bool {
        if now < self.next_search {
            return false;
        }
        self.next_search = ReceivedAt(now.0.plus(SEARCH_EVERY));
        true
    }

    fn remove_exporter(&mut self, index: u32) {
        let Some(exporter) = self.exporters.get_mut(index as usize) else {
            return;
        };
        self.by_address.remove(&exporter.address);
        for slot in std::mem::take(&mut exporter.sessions) {
            self.remove_session(slot);
        }
    }

    fn add_session(&mut self, exporter: u32, key: SessionKey, at: ReceivedAt) -> Option<u32> {
        let most = self
            .limits
            .max_exporters
            .saturating_mul(SESSIONS_PER_EXPORTER)
            .max(MIN_SESSIONS);
        let own = self.exporters.get(exporter as usize)?.sessions.len();
        if own >= self.limits.max_domains_per_exporter || self.by_key.len() >= most {
            self.drop_idle_session(exporter, at)?;
        }
        let domains = &mut self.exporters.get_mut(exporter as usize)?.domains;
        if domains.len() >= self.limits.max_domains_per_exporter
            && !domains.contains_key(&key.domain)
        {
            return None;
        }
        domains.entry(key.domain).or_default();
        let slot = self.place_session(Session {
            key,
            exporter,
            templates: Map::default(),
            sequence: Sequence::default(),
            last_seen: at,
            records: 0,
            datagrams: 0,
        })?;
        self.by_key.insert(key, slot);
        let exporter = self.exporters.get_mut(exporter as usize)?;
        exporter.sessions.push(slot);
        if !exporter.protocols.contains(&key.protocol) {
            exporter.protocols.push(key.protocol);
            exporter.protocols.sort_unstable();
        }
        Some(slot)
    }

    fn place_session(&mut self, session: Session) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            *self.sessions.get_mut(slot as usize)? = session;
            return Some(slot);
        }
        let slot = u32::try_from(self.sessions.len()).ok()?;
        self.sessions.push(session);
        Some(slot)
    }

    /// Drops the exporter's session that was silent longest, if for an hour; with it its domain, if it was the last.
    fn drop_idle_session(&mut self, exporter: u32, now: ReceivedAt) -> Option<()> {
        if !self.may_search(now) {
            return None;
        }
        let sessions = &self.sessions;
        let owner = self.exporters.get_mut(exporter as usize)?;
        let last_seen = |slot: u32| sessions.get(slot as usize).map(|session| session.last_seen);
        let place = (0..owner.sessions.len())
            .min_by_key(|&place| owner.sessions.get(place).copied().and_then(last_seen))?;
        let slot = owner.sessions.get(place).copied()?;
        if !is_idle(last_seen(slot)?, now) {
            return None;
        }
        owner.sessions.swap_remove(place);
        let domain = sessions.get(slot as usize)?.key.domain;
        let shared = owner.sessions.iter().any(|&other| {
            sessions
                .get(other as usize)
                .is_some_and(|session| session.key.domain == domain)
        });
        if !shared && let Some(gone) = owner.domains.remove(&domain) {
            owner.samplers -= gone.samplers.len();
        }
        self.remove_session(slot);
        Some(())
    }

    /// Empties a slot that its exporter no longer lists.
    fn remove_session(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let templates = std::mem::take(&mut session.templates);
        let key = session.key;
        self.by_key.remove(&key);
        self.free.push(slot);
        let owner = self.exporters.get_mut(session.exporter as usize);
        for (&id, template) in &templates {
            self.template_octets -= template.memory();
            self.evicted.push((key, id));
        }
        if let Some(owner) = owner {
            owner.templates -= templates.len();
            owner.newest.retain(|_, &mut holder| holder != slot);
        }
    }

    /// The session's template, else the newest of the same exporter and domain (`true`).
    pub(crate) fn template(&self, slot: u32, id: u16) -> Option<(&Arc<Template>, bool)> {
        let session = self.sessions.get(slot as usize)?;
        if let Some(template) = session.templates.get(&id) {
            return Some((template, false));
        }
        let key = (session.key.domain, id, session.key.netflow_v9());
        let exporter = self.exporters.get(session.exporter as usize)?;
        let &newest = exporter.newest.get(&key)?;
        let template = self.sessions.get(newest as usize)?.templates.get(&id)?;
        Some((template, true))
    }

    /// The newest template of an exporter's domain.
    pub(crate) fn newest_template(&self, awaited: &Awaited) -> Option<&Arc<Template>> {
        let exporter = self.exporters.get(awaited.exporter as usize)?;
        let key = (awaited.domain, awaited.template, awaited.netflow_v9);
        let &slot = exporter.newest.get(&key)?;
        self.sessions
            .get(slot as usize)?
            .templates
            .get(&awaited.template)
    }

    /// Whether the session has this very template.
    pub(crate) fn same_template(
        &mut self,
        slot: u32,
        id: u16,
        is_same: impl FnOnce(&Template) -> bool,
    ) -> bool {
        let Some(session) = self.sessions.get(slot as usize) else {
            return false;
        };
        let same = session
            .templates
            .get(&id)
            .is_some_and(|known| is_same(known));
        if same {
            self.note_newest(slot, id);
        }
        same
    }

    /// Keeps a template that differs from what the session had under that id.
    pub(crate) fn define(&mut self, slot: u32, id: u16, template: Arc<Template>) -> Defined {
        let redefined = self.withdraw(slot, id);
        let size = template.memory();
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return Defined::Refused;
        };
        let Some(owner) = self.exporters.get_mut(session.exporter as usize) else {
            return Defined::Refused;
        };
        if owner.templates >= self.limits.max_templates_per_exporter
            || self.template_octets.saturating_add(size) > self.limits.template_octets
        {
            return Defined::Refused;
        }
        owner.templates += 1;
        self.template_octets += size;
        session.templates.insert(id, template);
        self.note_newest(slot, id);
        if redefined {
            Defined::Redefined
        } else {
            Defined::New
        }
    }

    fn note_newest(&mut self, slot: u32, id: u16) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let key = (session.key.domain, id, session.key.netflow_v9());
        if let Some(owner) = self.exporters.get_mut(session.exporter as usize) {
            owner.newest.insert(key, slot);
        }
    }

    /// Forgets a template; whether there was one.
    pub(crate) fn withdraw(&mut self, slot: u32, id: u16) -> bool {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return false;
        };
        let Some(gone) = session.templates.remove(&id) else {
            return false;
        };
        self.template_octets -= gone.memory();
        let key = (session.key.domain, id, session.key.netflow_v9());
        if let Some(owner) = self.exporters.get_mut(session.exporter as usize) {
            owner.templates -= 1;
            if owner.newest.get(&key) == Some(&slot) {
                owner.newest.remove(&key);
            }
        }
        true
    }

    /// The ids of a session's templates, of flows or of options, in order.
    pub(crate) fn template_ids(&self, slot: u32, options: bool) -> Vec<u16> {
        let Some(session) = self.sessions.get(slot as usize) else {
            return Vec::new();
        };
        let mut ids: Vec<u16> = session
            .templates
            .iter()
            .filter(|(_, template)| matches!(template.plan, Plan::Options(_)) == options)
            .map(|(&id, _)| id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// A template of a session that gave way.
    pub(crate) fn poll_evicted(&mut self) -> Option<(SessionKey, u16)> {
        self.evicted.pop()
    }
}

impl Exporter {
    fn new(address: Address, at: ReceivedAt) -> Self {
        Self {
            address,
            domains: Map::default(),
            sessions: Vec::new(),
            newest: Map::default(),
            templates: 0,
            samplers: 0,
            protocols: Vec::new(),
            last_seen: at,
            figures: Figures::default(),
        }
    }
}

fn is_idle(last_seen: ReceivedAt, now: ReceivedAt) -> bool {
    let last_seen: Timestamp = last_seen.0;
    now.0.since(last_seen) > IDLE
}
