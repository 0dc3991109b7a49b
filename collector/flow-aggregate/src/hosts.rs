//! The table of hosts: totals only, about 1.3 KiB each with a history of 64 s, bounded.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weir_flow_record::{Address, Direction};

use crate::ring::{Addition, Step, add_steps, advance_steps, read_steps};

/// No watched slot, no prefix.
pub(crate) const NONE: u32 = u32::MAX;

/// Largest sums of one second: octets, packets, flows.
pub(crate) type Peak = [u64; 3];

/// A host in one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    pub(crate) address: Address,
    pub(crate) direction: Direction,
    /// Index of its zone.
    pub(crate) zone: u16,
    /// Slot of its full rings, or [`NONE`].
    pub(crate) watched: u32,
    /// Index of its first prefix in the table of prefixes' list, or [`NONE`].
    pub(crate) prefix_list: u32,
    oldest: i64,
    newest: i64,
    carry: Step,
    /// No second had more than this when it was last looked at; plus what came since.
    bound: Peak,
    live: bool,
}

/// Hosts, by address and direction.
#[derive(Debug)]
pub(crate) struct Hosts {
    by_address: [HashMap<Address, u32, RandomState>; 2],
    hosts: Vec<Host>,
    steps: Vec<Step>,
    flows: Vec<u32>,
    free: Vec<u32>,
    mask: usize,
    max: usize,
    sweep: usize,
}

impl Hosts {
    pub(crate) fn new(max: usize, history: usize) -> Self {
        Self {
            by_address: [HashMap::default(), HashMap::default()],
            hosts: Vec::new(),
            steps: Vec::new(),
            flows: Vec::new(),
            free: Vec::new(),
            mask: history - 1,
            max,
            sweep: 0,
        }
    }

    #[inline]
    pub(crate) fn find(&self, address: Address, direction: Direction) -> Option<u32> {
        self.by_address[direction as usize].get(&address).copied()
    }

    /// Adds a host that is not there; `None` where the table is full.
    pub(crate) fn insert(
        &mut self,
        address: Address,
        direction: Direction,
        zone: u16,
        oldest: i64,
    ) -> Option<u32> {
        let host = Host {
            address,
            direction,
            zone,
            watched: NONE,
            prefix_list: NONE,
            oldest,
            newest: oldest,
            carry: Step::default(),
            bound: [0; 3],
            live: true,
        };
        let length = self.mask + 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.hosts[slot as usize] = host;
                slot
            }
            None if self.hosts.len() < self.max => {
                self.hosts.push(host);
                self.steps
                    .resize(self.hosts.len() * length, Step::default());
                self.flows.resize(self.hosts.len() * length, 0);
                (self.hosts.len() - 1) as u32
            }
            None => return None,
        };
        self.by_address[direction as usize].insert(address, slot);
        Some(slot)
    }

    #[inline]
    pub(crate) fn host(&self, slot: u32) -> &Host {
        &self.hosts[slot as usize]
    }

    #[inline]
    pub(crate) fn host_mut(&mut self, slot: u32) -> &mut Host {
        &mut self.hosts[slot as usize]
    }

    /// Adds a record to a host. Returns an upper bound of what any of its seconds holds now.
    #[inline]
    pub(crate) fn add(&mut self, slot: u32, oldest: i64, addition: &Addition) -> Peak {
        self.advance(slot, oldest);
        let (mask, start) = (self.mask, slot as usize * (self.mask + 1));
        add_steps(&mut self.steps[start..=start + mask], mask, addition);
        let first = addition.spread.first_second;
        let flows = &mut self.flows[start + (first as usize & mask)];
        *flows = flows.saturating_add(addition.flows);
        let host = &mut self.hosts[slot as usize];
        host.newest = host.newest.max(addition.spread.last_second);
        let (octets, packets) = (&addition.octets, &addition.packets);
        host.bound[0] =
            host.bound[0].saturating_add(octets.first.max(octets.inner).max(octets.last));
        host.bound[1] =
            host.bound[1].saturating_add(packets.first.max(packets.inner).max(packets.last));
        host.bound[2] = host.bound[2].saturating_add(u64::from(addition.flows));
        host.bound
    }

    /// Looks at all seconds of a host: its true peak becomes its bound.
    pub(crate) fn measure(&mut self, slot: u32, oldest: i64) -> Peak {
        self.advance(slot, oldest);
        let mut peak = [0; 3];
        for (_, octets, packets, flows) in self.read(slot) {
            peak = [
                octets.max(peak[0]),
                packets.max(peak[1]),
                flows.max(peak[2]),
            ];
        }
        self.hosts[slot as usize].bound = peak;
        peak
    }

    /// Second, octets, packets and flows from the oldest second on.
    pub(crate) fn read(&self, slot: u32) -> impl Iterator<Item = (i64, u64, u64, u64)> + '_ {
        let host = &self.hosts[slot as usize];
        let (mask, start) = (self.mask, slot as usize * (self.mask + 1));
        let steps = read_steps(
            &self.steps[start..=start + mask],
            mask,
            host.carry,
            host.oldest,
        );
        steps.map(move |(second, octets, packets)| {
            (
                second,
                octets,
                packets,
                u64::from(self.flows[start + (second as usize & mask)]),
            )
        })
    }

    /// Gives back a few hosts that have been quiet for the whole history. Bounded work a call.
    pub(crate) fn sweep(&mut self, oldest: i64, slots: usize) {
        for _ in 0..slots.min(self.hosts.len()) {
            self.sweep = (self.sweep + 1) % self.hosts.len();
            let host = self.hosts[self.sweep];
            if host.live && host.newest < oldest && host.watched == NONE {
                self.by_address[host.direction as usize].remove(&host.address);
                let (start, length) = (self.sweep * (self.mask + 1), self.mask + 1);
                self.steps[start..start + length].fill(Step::default());
                self.flows[start..start + length].fill(0);
                self.hosts[self.sweep].live = false;
                self.free.push(self.sweep as u32);
            }
        }
    }

    /// Whether a host has seen nothing since `oldest`.
    pub(crate) fn is_quiet(&self, slot: u32, oldest: i64) -> bool {
        self.hosts[slot as usize].newest < oldest
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len() - self.free.len()
    }

    /// Octets of memory of one host.
    pub(crate) fn octets_per_host(&self) -> usize {
        size_of::<Host>()
            + (self.mask + 1) * (size_of::<Step>() + 4)
            + size_of::<(Address, u32)>()
            + 1
    }

    #[inline]
    fn advance(&mut self, slot: u32, oldest: i64) {
        let host = &mut self.hosts[slot as usize];
        if oldest <= host.oldest {
            return;
        }
        let (mask, start) = (self.mask, slot as usize * (self.mask + 1));
        let flows = &mut self.flows[start..=start + mask];
        if oldest - host.oldest > mask as i64 {
            flows.fill(0);
        } else {
            (host.oldest..oldest).for_each(|second| flows[second as usize & mask] = 0);
        }
        advance_steps(
            &mut self.steps[start..=start + mask],
            mask,
            &mut host.carry,
            host.oldest,
            oldest,
        );
        host.oldest = oldest;
    }
}
