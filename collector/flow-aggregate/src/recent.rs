//! The newest rows, so that a host that becomes interesting is classified from its beginning.

use weir_flow_record::Vector;

use crate::ring::Addition;

/// Rows that are remembered: about 10 MiB.
const ROWS: usize = 65_536;

/// One row as it was added to a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecentRow {
    pub(crate) slot: u32,
    pub(crate) vector: Vector,
    pub(crate) rate: u32,
    pub(crate) addition: Addition,
}

/// A ring of rows; the oldest is overwritten.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    rows: Vec<RecentRow>,
    next: usize,
}

impl Recent {
    #[inline]
    pub(crate) fn push(&mut self, row: RecentRow) {
        if self.rows.len() < ROWS {
            if self.rows.capacity() == 0 {
                self.rows.reserve_exact(ROWS);
            }
            self.rows.push(row);
        } else if let Some(oldest) = self.rows.get_mut(self.next) {
            *oldest = row;
        }
        self.next = (self.next + 1) % ROWS;
    }

    /// Rows of a host, in no particular order: they are only added up. A recycled slot's earlier owner is at least a whole
    /// history older, and the caller leaves out what is that old.
    pub(crate) fn of(&self, slot: u32) -> impl Iterator<Item = &RecentRow> {
        self.rows.iter().filter(move |row| row.slot == slot)
    }
}
