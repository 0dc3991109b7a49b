use std::collections::BTreeMap;
use std::time::Duration;

use foldhash::HashMap;
use ipnet::IpNet;
use weir_attack_event::{AttackEvent, AttackId, EventKind, Target};
use weir_flow_record::{Address, DatagramInfo, Direction, EventTime, FlowBatch, Timestamp};

use super::EvidenceSettings;
use crate::RecentWindow;
use crate::frame::{Prefix, number};

/// Rows from before an attack was known, at most.
const MOST_EARLIER_ROWS: usize = 500_000;

/// Rows of one attack.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Whose.
    pub attack: AttackId,
    /// They.
    pub rows: FlowBatch,
    /// Rows of the attack that are not among them, and were not told before.
    pub left_out: u64,
}

/// Picks the rows of open attacks' targets from the stream of batches. While no attack is open it costs nothing, else one or
/// two look-ups a row.
///
/// ```
/// use weir_flow_record::FlowBatch;
/// use weir_flow_store::{EvidenceConfig, EvidenceSelector};
///
/// let settings = EvidenceConfig::default().check("/tmp".as_ref()).unwrap().unwrap();
/// let mut selector = EvidenceSelector::new(&settings);
/// assert!(selector.handle_batch(&FlowBatch::default()).is_empty());
/// ```
pub struct EvidenceSelector {
    before: Duration,
    max_attacks: usize,
    /// Rows of all attacks that are taken of a second.
    most_rows: u32,
    attacks: Vec<Open>,
    levels: Vec<Level>,
    refused_attacks: u64,
    refused: BTreeMap<AttackId, ()>,
}

/// An attack whose rows are wanted.
struct Open {
    attack: AttackId,
    target: Target,
    /// Whether rows are counted only.
    stopped: bool,
    left_out: u64,
    /// The newest second, and the rows that were taken of it.
    taken: (i64, u32),
    /// Rows of the datagram at hand.
    matched: Vec<u32>,
    batch: FlowBatch,
}

/// Targets of one direction, family and length.
struct Level {
    direction: Direction,
    v4: bool,
    mask: u128,
    /// Places in the list of attacks.
    networks: HashMap<u128, Vec<usize>>,
}

impl EvidenceSelector {
    /// A selector without attacks.
    pub fn new(settings: &EvidenceSettings) -> Self {
        Self {
            before: settings.before,
            max_attacks: settings.max_attacks,
            most_rows: settings.max_rows_per_second,
            attacks: Vec::new(),
            levels: Vec::new(),
            refused_attacks: 0,
            refused: BTreeMap::new(),
        }
    }

    /// Takes in an event: what `window` holds of a target that is new, or of what is new in it.
    pub fn handle_event(&mut self, event: &AttackEvent, window: &RecentWindow) -> Option<Selected> {
        let place = self.attacks.iter().position(|open| open.attack == event.id);
        match (event.kind, place) {
            (EventKind::AttackEnd, None) => {
                self.refused.remove(&event.id);
                None
            }
            (EventKind::AttackEnd, Some(place)) => {
                let open = self.attacks.swap_remove(place);
                self.index();
                Some(Selected {
                    attack: open.attack,
                    rows: FlowBatch::default(),
                    left_out: open.left_out,
                })
            }
            // What came before a restart may be told by an update first.
            (_, None) => self.open(event, window),
            (_, Some(place)) => self.follow(place, event, window),
        }
    }

    /// Rows of the batch that open attacks want, by attack.
    pub fn handle_batch(&mut self, batch: &FlowBatch) -> Vec<Selected> {
        if self.levels.is_empty() {
            return Vec::new();
        }
        let open = self.attacks.iter().filter(|open| !open.stopped).count();
        let share = (self.most_rows / u32::try_from(open.max(1)).unwrap_or(u32::MAX)).max(1);
        for datagram in &batch.datagrams {
            let end = (datagram.rows.end as usize).min(batch.len());
            for row in datagram.rows.start as usize..end {
                self.match_row(batch, row);
            }
            for open in &mut self.attacks {
                open.take(batch, datagram, share);
            }
        }
        self.attacks
            .iter_mut()
            .filter(|open| !open.batch.is_empty())
            .map(|open| Selected {
                attack: open.attack.clone(),
                rows: std::mem::take(&mut open.batch),
                left_out: std::mem::take(&mut open.left_out),
            })
            .collect()
    }

    /// Rows of this attack are counted only from here on: there is no room for more.
    pub fn stop(&mut self, attack: &AttackId) {
        let open = self.attacks.iter_mut().find(|open| open.attack == *attack);
        if let Some(open) = open {
            open.stopped = true;
        }
    }

    /// Attacks whose rows were not kept because too many others were open.
    #[must_use]
    pub fn refused_attacks(&self) -> u64 {
        self.refused_attacks
    }

    fn open(&mut self, event: &AttackEvent, window: &RecentWindow) -> Option<Selected> {
        if self.attacks.len() >= self.max_attacks {
            // Counted once, as long as there is room to remember it.
            let known = self.refused.contains_key(&event.id);
            if !known {
                self.refused_attacks += 1;
                if self.refused.len() < 16 * self.max_attacks {
                    self.refused.insert(event.id.clone(), ());
                }
            }
            return None;
        }
        self.refused.remove(&event.id);
        let watched = Watched::new(&event.target);
        let (rows, left_out) = window.copy_of(&watched, None, self.since(event), MOST_EARLIER_ROWS);
        self.attacks.push(Open {
            attack: event.id.clone(),
            target: event.target.clone(),
            stopped: false,
            left_out: 0,
            taken: (0, 0),
            matched: Vec::new(),
            batch: FlowBatch::default(),
        });
        self.index();
        Some(Selected {
            attack: event.id.clone(),
            rows,
            left_out,
        })
    }

    fn follow(
        &mut self,
        place: usize,
        event: &AttackEvent,
        window: &RecentWindow,
    ) -> Option<Selected> {
        let since = self.since(event);
        let open = &mut self.attacks[place];
        let mut selected = Selected {
            attack: open.attack.clone(),
            rows: FlowBatch::default(),
            left_out: std::mem::take(&mut open.left_out),
        };
        if open.target != event.target {
            let (new, old) = (Watched::new(&event.target), Watched::new(&open.target));
            if !open.stopped {
                let more;
                (selected.rows, more) = window.copy_of(&new, Some(&old), since, MOST_EARLIER_ROWS);
                selected.left_out += more;
            }
            open.target = event.target.clone();
            self.index();
        }
        (!selected.rows.is_empty() || selected.left_out > 0).then_some(selected)
    }

    fn since(&self, event: &AttackEvent) -> EventTime {
        let before = i64::try_from(self.before.as_nanos()).unwrap_or(i64::MAX);
        EventTime(Timestamp::from_nanos(
            event.start_time.nanos().saturating_sub(before),
        ))
    }

    fn index(&mut self) {
        self.levels.clear();
        for (place, open) in self.attacks.iter().enumerate() {
            let direction = open.target.direction;
            for prefix in Watched::new(&open.target).prefixes {
                let same = |level: &&mut Level| {
                    (level.direction, level.v4, level.mask) == (direction, prefix.v4, prefix.mask)
                };
                if let Some(level) = self.levels.iter_mut().find(same) {
                    level
                        .networks
                        .entry(prefix.network)
                        .or_default()
                        .push(place);
                } else {
                    self.levels.push(Level {
                        direction,
                        v4: prefix.v4,
                        mask: prefix.mask,
                        networks: [(prefix.network, vec![place])].into_iter().collect(),
                    });
                }
            }
        }
    }

    fn match_row(&mut self, batch: &FlowBatch, row: usize) {
        for level in &self.levels {
            let address = match level.direction {
                Direction::In => batch.destination_address[row],
                Direction::Out => batch.source_address[row],
            };
            if address.is_v4() != level.v4 {
                continue;
            }
            let places = level.networks.get(&(number(address) & level.mask));
            for place in places.into_iter().flatten() {
                let open = &mut self.attacks[*place];
                // Overlapping prefixes of one target name a row once.
                if open.matched.last() != Some(&(row as u32)) {
                    open.matched.push(row as u32);
                }
            }
        }
    }
}

impl Open {
    /// Takes the matched rows of a datagram, run by run; `most` of a second.
    fn take(&mut self, batch: &FlowBatch, datagram: &DatagramInfo, most: u32) {
        let second = datagram.received_at.0.second();
        if second > self.taken.0 {
            self.taken = (second, 0);
        }
        let room = match self.stopped {
            true => 0,
            false => most.saturating_sub(self.taken.1) as usize,
        };
        self.left_out += self.matched.len().saturating_sub(room) as u64;
        self.matched.truncate(room);
        self.taken.1 += self.matched.len() as u32;
        if self.batch.is_empty() && !self.matched.is_empty() {
            self.batch = FlowBatch::with_projection(batch.projection);
        }
        for run in self.matched.chunk_by(|a, b| a + 1 == *b) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                let rows = *first..*last + 1;
                self.batch.append(
                    batch,
                    &DatagramInfo {
                        rows,
                        ..datagram.clone()
                    },
                );
            }
        }
        self.matched.clear();
    }
}

/// A target, ready to be compared with addresses.
pub(crate) struct Watched {
    direction: Direction,
    prefixes: Vec<Prefix>,
}

impl Watched {
    fn new(target: &Target) -> Self {
        let prefixes = std::iter::once(&target.prefix).chain(&target.other_prefixes);
        Self {
            direction: target.direction,
            prefixes: prefixes.map(|prefix: &IpNet| Prefix::new(prefix)).collect(),
        }
    }

    /// Whether traffic from the first to the second address is the target's.
    pub(crate) fn holds(&self, [source, destination]: [Address; 2]) -> bool {
        let address = match self.direction {
            Direction::In => destination,
            Direction::Out => source,
        };
        self.prefixes.iter().any(|prefix| prefix.holds(address))
    }
}
