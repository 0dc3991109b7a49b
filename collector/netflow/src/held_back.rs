//! Data Sets that came before their template.

use std::collections::{BTreeMap, VecDeque};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_flow_record::ReceivedAt;

use crate::limits::Limits;
use crate::message::Header;

/// Bookkeeping of one held Set, in octets, as an upper estimate.
const OVERHEAD: usize = 256;

/// What a Set waits for: a template of this exporter and domain, over UDP from whatever port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Awaited {
    pub(crate) exporter: u32,
    pub(crate) domain: u32,
    pub(crate) template: u16,
    pub(crate) netflow_v9: bool,
    /// A reliable transport session (slot and number), whose templates are its own.
    pub(crate) session: Option<(u32, u64)>,
}

/// A Set that waits.
pub(crate) struct Held {
    pub(crate) awaited: Awaited,
    pub(crate) header: Header,
    pub(crate) received_at: ReceivedAt,
    pub(crate) octets: Box<[u8]>,
}

/// All Sets that wait, oldest first, within a bound of octets.
pub(crate) struct HeldBack {
    entries: BTreeMap<u64, Held>,
    waiting: HashMap<Awaited, VecDeque<u64>, RandomState>,
    next: u64,
    octets: usize,
    /// Of each exporter that has any.
    octets_of: HashMap<u32, usize, RandomState>,
}

impl HeldBack {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            waiting: HashMap::default(),
            next: 0,
            octets: 0,
            octets_of: HashMap::default(),
        }
    }

    /// Puts a Set aside; `false` if there is no room.
    pub(crate) fn push(
        &mut self,
        limits: &Limits,
        awaited: Awaited,
        header: Header,
        received_at: ReceivedAt,
        octets: &[u8],
    ) -> bool {
        let size = octets.len() + OVERHEAD;
        let own = self.octets_of.get(&awaited.exporter).map_or(0, |own| *own);
        if self.octets + size > limits.held_back_octets
            || own + size > limits.held_back_octets_per_exporter
        {
            return false;
        }
        self.octets += size;
        self.octets_of.insert(awaited.exporter, own + size);
        self.waiting
            .entry(awaited)
            .or_default()
            .push_back(self.next);
        self.entries.insert(
            self.next,
            Held {
                awaited,
                header,
                received_at,
                octets: octets.into(),
            },
        );
        self.next += 1;
        true
    }

    pub(crate) fn is_awaited(&self, awaited: &Awaited) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(awaited)
    }

    /// The oldest Set that waits for this template.
    pub(crate) fn take(&mut self, awaited: &Awaited) -> Option<Held> {
        let id = self.waiting.get_mut(awaited)?.pop_front();
        self.forget(awaited);
        self.remove(id?)
    }

    /// The next Set that has waited too long.
    pub(crate) fn expire(&mut self, limits: &Limits, now: ReceivedAt) -> Option<Held> {
        let (&id, held) = self.entries.first_key_value()?;
        if now.0.since(held.received_at.0) <= limits.held_back_for {
            return None;
        }
        let awaited = held.awaited;
        if let Some(ids) = self.waiting.get_mut(&awaited) {
            // Both are in the order of arrival: the oldest of all is the oldest of its own.
            ids.pop_front();
        }
        self.forget(&awaited);
        self.remove(id)
    }

    /// Drops all Sets of an exporter; returns how many.
    pub(crate) fn drop_exporter(&mut self, exporter: u32) -> u64 {
        self.drop_all(|awaited| awaited.exporter == exporter)
    }

    /// Drops all Sets of a reliable transport session; returns how many.
    pub(crate) fn drop_session(&mut self, session: (u32, u64)) -> u64 {
        self.drop_all(|awaited| awaited.session == Some(session))
    }

    fn drop_all(&mut self, ends: impl Fn(&Awaited) -> bool) -> u64 {
        let awaited = self.waiting.keys().filter(|&awaited| ends(awaited));
        let awaited: Vec<Awaited> = awaited.copied().collect();
        let mut dropped = 0;
        for awaited in awaited {
            while self.take(&awaited).is_some() {
                dropped += 1;
            }
        }
        dropped
    }

    fn forget(&mut self, awaited: &Awaited) {
        if self.waiting.get(awaited).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(awaited);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Held> {
        let held = self.entries.remove(&id)?;
        let size = held.octets.len() + OVERHEAD;
        self.octets -= size;
        let exporter = held.awaited.exporter;
        if let Some(own) = self.octets_of.get_mut(&exporter) {
            *own -= size;
            if *own == 0 {
                self.octets_of.remove(&exporter);
            }
        }
        Some(held)
    }
}
