//! The template cache: by session, within bounds for each exporter and for all. Templates are kept for as long as there is
//! room; only where there is none those unused for half an hour give way (RFC 7011 §8.4: three times the refresh of ten
//! minutes).

use std::sync::Arc;
use std::time::Duration;

use weir_flow_record::ReceivedAt;

use crate::held_back::Awaited;
use crate::tables::{Evicted, Exporter, Known, Tables, Transport};
use crate::template::{Plan, Template};

/// How long a template that is not used is safe from others.
const UNUSED: Duration = Duration::from_secs(1800);

/// What became of a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Defined {
    New,
    Redefined,
    Refused,
}

impl Tables {
    /// The session's template, else, over UDP, the newest of the same exporter and domain (`true`).
    pub(crate) fn template(
        &mut self,
        slot: u32,
        id: u16,
        at: ReceivedAt,
    ) -> Option<(Arc<Template>, bool)> {
        let session = self.sessions.get_mut(slot as usize)?;
        if let Some(known) = session.templates.get_mut(&id) {
            known.last_used = known.last_used.max(at);
            return Some((Arc::clone(&known.template), false));
        }
        if session.key.transport == Transport::Reliable {
            return None;
        }
        let key = (session.key.domain, id, session.key.netflow_v9());
        let exporter = self.exporters.get(session.exporter as usize)?;
        let &newest = exporter.newest.get(&key)?;
        let session = self.sessions.get_mut(newest as usize)?;
        let known = session.templates.get_mut(&id)?;
        known.last_used = known.last_used.max(at);
        Some((Arc::clone(&known.template), true))
    }

    /// The template that a Set waits for.
    pub(crate) fn awaited_template(&self, awaited: &Awaited) -> Option<&Arc<Template>> {
        let session = match awaited.session {
            Some((slot, number)) => {
                let session = self.sessions.get(slot as usize)?;
                (session.number == number).then_some(session)?
            }
            None => {
                let exporter = self.exporters.get(awaited.exporter as usize)?;
                let key = (awaited.domain, awaited.template, awaited.netflow_v9);
                let &slot = exporter.newest.get(&key)?;
                self.sessions.get(slot as usize)?
            }
        };
        let known = session.templates.get(&awaited.template)?;
        Some(&known.template)
    }

    /// Whether the session has this very template; then it is used.
    pub(crate) fn same_template(
        &mut self,
        slot: u32,
        id: u16,
        at: ReceivedAt,
        is_same: impl FnOnce(&Template) -> bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return false;
        };
        let Some(known) = session.templates.get_mut(&id) else {
            return false;
        };
        let same = is_same(&known.template);
        if same {
            known.last_used = known.last_used.max(at);
            self.note_newest(slot, id);
        }
        same
    }

    /// Keeps a template that differs from what the session had under that id.
    pub(crate) fn define(
        &mut self,
        slot: u32,
        id: u16,
        template: Arc<Template>,
        at: ReceivedAt,
    ) -> Defined {
        let redefined = self.withdraw(slot, id);
        let size = template.memory();
        let Some(exporter) = self
            .sessions
            .get(slot as usize)
            .map(|session| session.exporter)
        else {
            return Defined::Refused;
        };
        if !self.has_room(exporter, size) {
            self.evict_unused(exporter, at);
        }
        let room = self.has_room(exporter, size);
        let (Some(owner), Some(session)) = (
            self.exporters.get_mut(exporter as usize),
            self.sessions.get_mut(slot as usize),
        ) else {
            return Defined::Refused;
        };
        if !room {
            owner.figures.refused += 1;
            return Defined::Refused;
        }
        owner.templates += 1;
        owner.template_octets += size;
        self.template_octets += size;
        let known = Known {
            template,
            last_used: at,
        };
        session.templates.insert(id, known);
        self.note_newest(slot, id);
        if redefined {
            Defined::Redefined
        } else {
            Defined::New
        }
    }

    fn has_room(&self, exporter: u32, size: usize) -> bool {
        let limits = &self.limits;
        self.exporters.get(exporter as usize).is_some_and(|owner| {
            owner.templates < limits.max_templates_per_exporter
                && owner.template_octets.saturating_add(size) <= limits.template_octets_per_exporter
                && self.template_octets.saturating_add(size) <= limits.template_octets
        })
    }

    /// Drops the templates of an exporter that nothing used for long.
    fn evict_unused(&mut self, exporter: u32, now: ReceivedAt) {
        let Some(owner) = self.exporters.get_mut(exporter as usize) else {
            return;
        };
        if !owner.may_search(now) {
            return;
        }
        let mut unused = Vec::new();
        for &slot in &owner.sessions {
            let Some(session) = self.sessions.get(slot as usize) else {
                continue;
            };
            let templates = session.templates.iter();
            let old = templates.filter(|(_, known)| now.0.since(known.last_used.0) > UNUSED);
            unused.extend(old.map(|(&id, _)| (slot, session.key, id)));
        }
        for (slot, key, id) in unused {
            if self.withdraw(slot, id)
                && let Some(owner) = self.exporters.get_mut(exporter as usize)
            {
                owner.figures.evicted += 1;
                if key.transport == Transport::Datagram {
                    self.note_evicted(Evicted::Template(key, id));
                }
            }
        }
    }

    fn note_newest(&mut self, slot: u32, id: u16) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let key = (session.key.domain, id, session.key.netflow_v9());
        if session.key.transport == Transport::Datagram
            && let Some(owner) = self.exporters.get_mut(session.exporter as usize)
        {
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
        let size = gone.template.memory();
        self.template_octets -= size;
        let key = (session.key.domain, id, session.key.netflow_v9());
        if let Some(owner) = self.exporters.get_mut(session.exporter as usize) {
            owner.forget_template(slot, key, size);
        }
        true
    }

    /// The ids of a session's templates, of flows or of options, in order.
    pub(crate) fn template_ids(&self, slot: u32, options: bool) -> Vec<u16> {
        let Some(session) = self.sessions.get(slot as usize) else {
            return Vec::new();
        };
        let templates = session.templates.iter();
        let mut ids: Vec<u16> = templates
            .filter(|(_, known)| matches!(known.template.plan, Plan::Options(_)) == options)
            .map(|(&id, _)| id)
            .collect();
        ids.sort_unstable();
        ids
    }
}

impl Exporter {
    fn forget_template(&mut self, slot: u32, key: (u32, u16, bool), size: usize) {
        self.templates -= 1;
        self.template_octets -= size;
        if self.newest.get(&key) == Some(&slot) {
            self.newest.remove(&key);
        }
    }
}
