//! Events of firewalls (IE 233; Cisco's 40005 before it): a connection is reported when it begins, is denied, goes on and
//! ends. Cisco's NSEL states in updates what passed since the one before, and in the end all that passed, so that both
//! together would count it twice (Cisco, "ASA NetFlow Implementation Guide", Flow Update Events).

use hashbrown::hash_map::Entry;
use weir_flow_record::ReceivedAt;

use crate::columns::Records;
use crate::element as ie;
use crate::plan::{Field, Places, RowPlan};
use crate::tables::{IDLE, Map, may_search};

const CREATED: u64 = 1;
const DELETED: u64 = 2;
const DENIED: u64 = 3;
const UPDATED: u64 = 5;

/// Where events stand in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirewallPlan {
    event: Field,
    /// IE 148.
    connection: Option<Field>,
    states: States,
    /// Octets and packets, then those of the other direction.
    counts: [Option<Field>; 4],
}

/// What the counts of events mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum States {
    /// IE 1 and 2: what passed since the event before, whatever the event.
    Deltas,
    /// IE 231 and 232: the same in updates, but all that passed in the end.
    Totals,
    /// IE 85: all that passed so far.
    RunningTotals,
}

impl FirewallPlan {
    pub(crate) fn of(event: Field, places: &Places, plan: &RowPlan) -> Self {
        let has = |element| places.integer(element).is_some();
        let states = if plan.octets_are_deltas || plan.packets_are_deltas {
            States::Deltas
        } else if has(ie::OCTET_TOTAL_COUNT) || has(ie::PACKET_TOTAL_COUNT) {
            States::RunningTotals
        } else {
            States::Totals
        };
        let reverse = plan.reverse.as_deref();
        Self {
            event,
            connection: places.integer(ie::FLOW_ID),
            states,
            counts: [
                plan.octets,
                plan.packets,
                reverse.and_then(|plan| plan.octets),
                reverse.and_then(|plan| plan.packets),
            ],
        }
    }
}

/// A connection through an exporter's firewall.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Connection {
    exporter: u32,
    domain: u32,
    id: u64,
}

/// What of it was counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    counts: [u64; 4],
    /// Its end was counted: what comes behind it was in there.
    ended: bool,
    last_seen: ReceivedAt,
}

/// The connections of which updates were counted.
pub(crate) struct Connections {
    most: usize,
    known: Map<Connection, Counted>,
    next_search: ReceivedAt,
    /// Updates that did not count, for want of room: their connection's end does.
    pub(crate) refused: u64,
}

/// Whose events they are, and when they came.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) exporter: u32,
    pub(crate) domain: u32,
    pub(crate) received_at: ReceivedAt,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            known: Map::default(),
            next_search: ReceivedAt::from_nanos(i64::MIN),
            refused: 0,
        }
    }

    /// Copies to `room` the records that are to become rows, their counts such that all rows of a connection add up to
    /// what passed.
    pub(crate) fn weigh<'a>(
        &mut self,
        plan: &FirewallPlan,
        records: Records<'_>,
        stride: usize,
        scope: Scope,
        room: &'a mut Vec<u8>,
    ) -> Records<'a> {
        room.clear();
        for record in records.iter() {
            let begin = room.len();
            room.extend_from_slice(record);
            let Some(record) = room.get_mut(begin..) else {
                break;
            };
            if !self.weigh_one(plan, record, scope) {
                room.truncate(begin);
            }
        }
        Records::new(room, stride)
    }

    /// Whether the record is a row at all.
    fn weigh_one(&mut self, plan: &FirewallPlan, record: &mut [u8], scope: Scope) -> bool {
        let key = plan.connection.map(|field| Connection {
            exporter: scope.exporter,
            domain: scope.domain,
            id: read(record, field),
        });
        let counts = plan
            .counts
            .map(|field| field.map_or(0, |field| read(record, field)));
        let weighed = match (read(record, plan.event), plan.states) {
            (CREATED, states) => {
                key.map(|key| self.known.remove(&key));
                // What begins has no weight, and its end is a row; save where the beginning has a share of its own.
                return states == States::Deltas && counts != [0; 4];
            }
            (DENIED, _) => Some([0; 4]),
            (DELETED, States::Totals | States::RunningTotals) => {
                Some(self.end(key, counts, scope.received_at))
            }
            (UPDATED, States::Totals) => self.update(key, counts, scope.received_at),
            (UPDATED, States::RunningTotals) => self.reach(key, counts, scope.received_at),
            _ => Some(counts),
        };
        let Some(weighed) = weighed else {
            return false;
        };
        for (field, count) in plan.counts.iter().zip(weighed) {
            if let Some(field) = field {
                write(record, *field, count);
            }
        }
        true
    }

    /// Of a connection's total, what no update counted.
    fn end(&mut self, key: Option<Connection>, total: [u64; 4], at: ReceivedAt) -> [u64; 4] {
        let Some(known) = key.and_then(|key| self.known.get_mut(&key)) else {
            return total;
        };
        known.last_seen = at;
        known.ended = true;
        let counted = std::mem::replace(&mut known.counts, total);
        less(total, counted)
    }

    /// What passed since the last update; `None` where the connection's end counts it.
    fn update(
        &mut self,
        key: Option<Connection>,
        passed: [u64; 4],
        at: ReceivedAt,
    ) -> Option<[u64; 4]> {
        let Some(key) = key else {
            return Some(passed);
        };
        let known = self.entry(key, at)?;
        if known.ended {
            return None;
        }
        for (sum, passed) in known.counts.iter_mut().zip(passed) {
            *sum = sum.saturating_add(passed);
        }
        Some(passed)
    }

    /// What passed since the last update that told how much had passed.
    fn reach(
        &mut self,
        key: Option<Connection>,
        total: [u64; 4],
        at: ReceivedAt,
    ) -> Option<[u64; 4]> {
        let known = self.entry(key?, at)?;
        if known.ended {
            return None;
        }
        let counted = std::mem::replace(&mut known.counts, total);
        Some(less(total, counted))
    }

    fn entry(&mut self, key: Connection, at: ReceivedAt) -> Option<&mut Counted> {
        if self.known.len() >= self.most
            && !self.known.contains_key(&key)
            && may_search(&mut self.next_search, at)
        {
            self.known
                .retain(|_, known| at.0.since(known.last_seen.0) <= IDLE);
        }
        let room = self.known.len() < self.most;
        let known = match self.known.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if room => entry.insert(Counted {
                counts: [0; 4],
                ended: false,
                last_seen: at,
            }),
            Entry::Vacant(_) => {
                self.refused += 1;
                return None;
            }
        };
        known.last_seen = at;
        Some(known)
    }
}

fn less(total: [u64; 4], counted: [u64; 4]) -> [u64; 4] {
    let mut rest = total;
    for (total, counted) in rest.iter_mut().zip(counted) {
        *total = total.saturating_sub(counted);
    }
    rest
}

fn read(record: &[u8], field: Field) -> u64 {
    let (at, width) = (field.at as usize, usize::from(field.width));
    crate::cursor::unsigned(record.get(at..at + width).unwrap_or(&[]))
}

fn write(record: &mut [u8], field: Field, value: u64) {
    let (at, width) = (field.at as usize, usize::from(field.width));
    let octets = value.to_be_bytes();
    if let Some(place) = record.get_mut(at..at + width)
        && let Some(low) = octets.get(octets.len().saturating_sub(width)..)
    {
        place.copy_from_slice(low);
    }
}
