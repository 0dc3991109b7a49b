//! Who exports: exporters (addresses), their transport sessions (port and domain), and domains. Every table is bounded;
//! what has been silent for an hour gives way to newcomers.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_flow_record::{Address, ExportProtocol, ReceivedAt, Timestamp};

use crate::change::{SequenceState, StateChange};
use crate::limits::Limits;
use crate::sampling::Samplers;
use crate::sequence::{Counts, Sequence, Tally};
use crate::skew::Skew;
use crate::template::Template;

pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// Silence after which an exporter, a session or a sampler gives way.
pub(crate) const IDLE: Duration = Duration::from_secs(3600);
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
    /// Rates of domains that send options data alone: they hold for domains without any.
    pub(crate) elsewhere: Samplers,
    pub(crate) rates_changed: bool,
    pub(crate) sessions: Vec<u32>,
    /// The newest template of a domain and id, and the session over UDP that has it.
    pub(crate) newest: Map<(u32, u16, bool), u32>,
    pub(crate) templates: usize,
    pub(crate) template_octets: usize,
    pub(crate) samplers: usize,
    pub(crate) protocols: Vec<ExportProtocol>,
    pub(crate) last_seen: ReceivedAt,
    pub(crate) skew: Skew,
    pub(crate) tally: Tally,
    pub(crate) figures: Figures,
    next_search: ReceivedAt,
}

/// What an exporter's view counts.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    pub(crate) datagrams: u64,
    pub(crate) octets: u64,
    pub(crate) records: u64,
    pub(crate) options_records: u64,
    pub(crate) undecodable_sets: u64,
    pub(crate) malformed_datagrams: u64,
    pub(crate) held_back: u64,
    pub(crate) held_back_sets: u64,
    pub(crate) held_back_dropped: u64,
    pub(crate) released_sets: u64,
    pub(crate) released_records: u64,
    pub(crate) expired_sets: u64,
    pub(crate) unknown_rate_records: u64,
    pub(crate) redefinitions: u64,
    pub(crate) ignored_withdrawals: u64,
    pub(crate) template_fallbacks: u64,
    pub(crate) refused: u64,
    pub(crate) evicted: u64,
}

/// What all sessions of an exporter's observation domain share.
#[derive(Default, Debug)]
pub(crate) struct Domain {
    pub(crate) samplers: Samplers,
    /// IE 160, ms since 1970.
    pub(crate) system_init: Option<u64>,
    /// Whether flow records came from it.
    pub(crate) flows: bool,
}

/// How messages travel (RFC 7011 §10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Transport {
    /// UDP: templates outlive an exporter's restart and may be sent from another port.
    Datagram,
    /// TCP, TLS, SCTP: templates live and die with the session, and can be withdrawn.
    Reliable,
}

/// RFC 7011 §2: a transport session, here with its observation domain and protocol.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    pub(crate) exporter: u32,
    /// Tells it from those that had its slot before.
    pub(crate) number: u64,
    pub(crate) templates: Map<u16, Known>,
    pub(crate) sequence: Sequence,
    /// Whether flow records came: noted once.
    pub(crate) flows: bool,
    last_seen: ReceivedAt,
    pub(crate) records: u64,
    pub(crate) datagrams: u64,
}

/// The version word of a protocol that has sequences of ours.
fn version_of(protocol: ExportProtocol) -> Option<u16> {
    Some(match protocol {
        ExportProtocol::NetflowV1 => 1,
        ExportProtocol::NetflowV5 => 5,
        ExportProtocol::NetflowV7 => 7,
        ExportProtocol::NetflowV9 => 9,
        ExportProtocol::Ipfix => 10,
        ExportProtocol::SflowV5 | ExportProtocol::Xdp => return None,
    })
}

fn protocol_of(version: u16) -> Option<ExportProtocol> {
    Some(match version {
        1 => ExportProtocol::NetflowV1,
        5 => ExportProtocol::NetflowV5,
        7 => ExportProtocol::NetflowV7,
        9 => ExportProtocol::NetflowV9,
        10 => ExportProtocol::Ipfix,
        _ => return None,
    })
}

/// A template of a session.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) template: Arc<Template>,
    /// Defined, repeated or decoded by.
    pub(crate) last_used: ReceivedAt,
}

/// What gave way and is to be forgotten by whoever stores it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Evicted {
    Template(SessionKey, u16),
    Rate(Address, u32, Option<u64>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionKey {
    pub(crate) address: Address,
    pub(crate) port: u16,
    pub(crate) domain: u32,
    pub(crate) protocol: ExportProtocol,
    pub(crate) transport: Transport,
}

impl Hash for SessionKey {
    /// In two words instead of five: every datagram looks its session up.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
        let kind = (self.protocol as u64) << 1 | self.transport as u64;
        state.write_u64(u64::from(self.domain) << 32 | u64::from(self.port) << 16 | kind);
    }
}

impl SessionKey {
    pub(crate) fn new(
        from: SocketAddr,
        domain: u32,
        protocol: ExportProtocol,
        transport: Transport,
    ) -> Self {
        Self {
            address: Address::from(from.ip()),
            port: from.port(),
            domain,
            protocol,
            transport,
        }
    }

    pub(crate) fn netflow_v9(self) -> bool {
        self.protocol == ExportProtocol::NetflowV9
    }
}

/// All of it.
pub(crate) struct Tables {
    pub(crate) limits: Limits,
    pub(crate) exporters: Vec<Exporter>,
    by_address: Map<Address, u32>,
    /// Slots are used again; a free one has no entry in `by_key`.
    pub(crate) sessions: Vec<Session>,
    free: Vec<u32>,
    by_key: Map<SessionKey, u32>,
    pub(crate) template_octets: usize,
    next_search: ReceivedAt,
    sessions_ever: u64,
    evicted: Vec<Evicted>,
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
            sessions_ever: 0,
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

    pub(crate) fn find_or_add_exporter(
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
        if !may_search(&mut self.next_search, now) {
            return None;
        }
        let idle = self
            .exporters
            .iter()
            .position(|exporter| is_idle(exporter.last_seen, now));
        idle.and_then(|index| u32::try_from(index).ok())
    }

    fn remove_exporter(&mut self, index: u32) {
        let Some(exporter) = self.exporters.get_mut(index as usize) else {
            return;
        };
        self.by_address.remove(&exporter.address);
        let address = exporter.address;
        for (domain, gone) in exporter.domains.drain() {
            let rates = gone.samplers.iter();
            self.evicted
                .extend(rates.map(|(sampler, _)| Evicted::Rate(address, domain, sampler)));
        }
        for slot in std::mem::take(&mut exporter.sessions) {
            self.remove_session(slot);
        }
    }

    /// Drops the sessions of one reliable transport connection, whatever their domains; returns their slots.
    pub(crate) fn close(&mut self, from: SocketAddr) -> Vec<(u32, u64)> {
        let Some(&exporter) = self.by_address.get(&Address::from(from.ip())) else {
            return Vec::new();
        };
        let Some(owner) = self.exporters.get_mut(exporter as usize) else {
            return Vec::new();
        };
        let (sessions, mut closed) = (&self.sessions, Vec::new());
        owner.sessions.retain(|&slot| {
            let Some(session) = sessions.get(slot as usize) else {
                return false;
            };
            let key = session.key;
            let ends = key.port == from.port() && key.transport == Transport::Reliable;
            if ends {
                closed.push((slot, session.number));
            }
            !ends
        });
        for &(slot, _) in &closed {
            self.remove_session(slot);
        }
        closed
    }

    /// Where the sequences of sessions over UDP stand in which something came since `since`.
    pub(crate) fn sequences(&self, since: ReceivedAt) -> impl Iterator<Item = StateChange> + '_ {
        let sessions = self.by_key.values();
        let sessions = sessions.filter_map(|&slot| self.sessions.get(slot as usize));
        sessions.filter_map(move |session| {
            let key = session.key;
            let is_wanted = key.transport == Transport::Datagram && session.last_seen >= since;
            let version = version_of(key.protocol).filter(|_| is_wanted)?;
            Some(StateChange::Sequence {
                exporter: key.address.ip(),
                port: key.port,
                domain: key.domain,
                sequence: session.sequence.state(version)?,
            })
        })
    }

    /// Brings back where a session's sequence stood.
    pub(crate) fn restore_sequence(
        &mut self,
        from: SocketAddr,
        domain: u32,
        state: &SequenceState,
        at: ReceivedAt,
    ) {
        let Some(protocol) = protocol_of(state.version) else {
            return;
        };
        let key = SessionKey::new(from, domain, protocol, Transport::Datagram);
        if let Some(slot) = self.find_or_add(key, at, &mut None)
            && let Some(session) = self.sessions.get_mut(slot as usize)
        {
            session.sequence.restore(state);
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
        self.find_or_add_domain(exporter, key.domain, at)?;
        self.sessions_ever += 1;
        let slot = self.place_session(Session {
            key,
            exporter,
            number: self.sessions_ever,
            templates: Map::default(),
            sequence: Sequence::new(match key.protocol {
                ExportProtocol::NetflowV9 => Counts::Datagrams,
                _ => Counts::Records,
            }),
            flows: false,
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
        let sessions = &self.sessions;
        let owner = self.exporters.get_mut(exporter as usize)?;
        if !owner.may_search(now) {
            return None;
        }
        let last_seen = |slot: u32| sessions.get(slot as usize).map(|session| session.last_seen);
        let place = (0..owner.sessions.len())
            .min_by_key(|&place| owner.sessions.get(place).copied().and_then(last_seen))?;
        let slot = owner.sessions.get(place).copied()?;
        if !is_idle(last_seen(slot)?, now) {
            return None;
        }
        owner.sessions.swap_remove(place);
        owner.figures.evicted += 1;
        let domain = sessions.get(slot as usize)?.key.domain;
        self.remove_session(slot);
        if !self.has_session(exporter, domain) {
            self.remove_domain(exporter, domain);
        }
        Some(())
    }

    /// Empties a slot that its exporter no longer lists.
    fn remove_session(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let templates = std::mem::take(&mut session.templates);
        let key = session.key;
        // A late entry of the slot must not find what the next session puts there.
        session.number = 0;
        self.by_key.remove(&key);
        self.free.push(slot);
        let owner = self.exporters.get_mut(session.exporter as usize);
        let mut octets = 0;
        for (&id, known) in &templates {
            octets += known.template.memory();
            // Templates of reliable sessions are not stored.
            if key.transport == Transport::Datagram {
                self.evicted.push(Evicted::Template(key, id));
            }
        }
        self.template_octets -= octets;
        if let Some(owner) = owner {
            owner.templates -= templates.len();
            owner.template_octets -= octets;
            owner.newest.retain(|_, &mut holder| holder != slot);
        }
    }

    /// What gave way since the last poll.
    pub(crate) fn poll_evicted(&mut self) -> Option<Evicted> {
        self.evicted.pop()
    }

    pub(crate) fn note_evicted(&mut self, evicted: Evicted) {
        self.evicted.push(evicted);
    }
}

impl Exporter {
    fn new(address: Address, at: ReceivedAt) -> Self {
        Self {
            address,
            domains: Map::default(),
            elsewhere: Samplers::NONE,
            rates_changed: false,
            sessions: Vec::new(),
            newest: Map::default(),
            templates: 0,
            template_octets: 0,
            samplers: 0,
            protocols: Vec::new(),
            last_seen: at,
            skew: Skew::default(),
            tally: Tally::default(),
            figures: Figures::default(),
            next_search: ReceivedAt::from_nanos(i64::MIN),
        }
    }

    /// Whether a full table of this exporter may be searched for what is idle.
    pub(crate) fn may_search(&mut self, now: ReceivedAt) -> bool {
        may_search(&mut self.next_search, now)
    }
}

/// A flood of newcomers must not make every datagram search a table.
pub(crate) fn may_search(next_search: &mut ReceivedAt, now: ReceivedAt) -> bool {
    if now < *next_search {
        return false;
    }
    *next_search = ReceivedAt(now.0.plus(SEARCH_EVERY));
    true
}

fn is_idle(last_seen: ReceivedAt, now: ReceivedAt) -> bool {
    let last_seen: Timestamp = last_seen.0;
    now.0.since(last_seen) > IDLE
}
