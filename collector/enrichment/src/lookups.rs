use std::cell::Cell;
use std::sync::Arc;

use weir_flow_record::Address;

use crate::enricher::Enricher;
use crate::snapshot::{NetworkInfo, Resolved, Snapshot};

/// Slots of the cache, a power of two: half a megabyte.
const SLOTS: usize = 16_384;

/// One thread's way to the current [`Snapshot`]: with a direct-mapped cache for addresses that trees must be walked for, since
/// flows of a second share addresses. IPv4 addresses are found as fast without.
pub struct Lookups {
    enricher: Arc<Enricher>,
    snapshot: Arc<Snapshot>,
    generation: u64,
    slots: Box<[Cell<Slot>]>,
}

#[derive(Clone, Copy)]
struct Slot {
    address: Address,
    resolved: Resolved,
}

impl Lookups {
    /// A way to what `enricher` holds.
    pub fn new(enricher: Arc<Enricher>) -> Self {
        // Read before the snapshot: if one comes in between, the next refresh takes it in once more.
        let generation = enricher.generation();
        let snapshot = enricher.snapshot();
        let slots = vec![Cell::new(empty(&snapshot)); SLOTS].into_boxed_slice();
        Self {
            enricher,
            snapshot,
            generation,
            slots,
        }
    }

    /// Takes over what was reloaded since. Call between batches; costs one load where nothing was.
    pub fn refresh(&mut self) {
        let generation = self.enricher.generation();
        if generation != self.generation {
            self.generation = generation;
            self.snapshot = self.enricher.snapshot();
            self.slots.fill(Cell::new(empty(&self.snapshot)));
        }
    }

    /// What is known of an address. Nothing is allocated.
    pub fn lookup(&self, address: Address) -> NetworkInfo<'_> {
        self.snapshot.info(self.resolve(address))
    }

    fn resolve(&self, address: Address) -> Resolved {
        if let Some(resolved) = self.snapshot.ranged(address) {
            return resolved;
        }
        let Some(cell) = self.slots.get(slot_of(address)) else {
            return self.snapshot.search(address);
        };
        let slot = cell.get();
        if slot.address == address {
            return slot.resolved;
        }
        let resolved = self.snapshot.search(address);
        cell.set(Slot { address, resolved });
        resolved
    }
}

/// An empty slot is one that knows `::`.
fn empty(snapshot: &Snapshot) -> Slot {
    Slot {
        address: Address::UNSPECIFIED,
        resolved: snapshot.resolve(Address::UNSPECIFIED),
    }
}

/// Fibonacci hashing: the upper bits of a product are the well-mixed ones.
fn slot_of(address: Address) -> usize {
    let (high, low) = address.words();
    let mixed = (high.rotate_left(32) ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - SLOTS.trailing_zeros())) as usize
}
