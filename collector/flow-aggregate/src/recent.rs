//! The newest rows, so that a host that becomes interesting is classified from its beginning.

use weir_flow_record::Vector;

use crate::spread::Span;

/// Rows that are remembered: 3 MiB.
const ROWS: u32 = 4_096;

/// One row as it was added to a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecentRow {
    pub(crate) span: Span,
    /// As exported.
    pub(crate) octets: u64,
    /// As exported.
    pub(crate) packets: u64,
    /// 0 = unknown.
    pub(crate) rate: u32,
    pub(crate) slot: u32,
    /// The host's newest row before this one.
    pub(crate) previous: RowNumber,
    pub(crate) vector: Vector,
}

/// Rows are numbered in the order in which they come; numbers wrap around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowNumber(u32);

/// A ring of rows; the oldest is overwritten. The rows of a host are chained, newest first.
#[derive(Debug)]
pub(crate) struct Recent {
    rows: Vec<RecentRow>,
    next: u32,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self {
            rows: Vec::with_capacity(ROWS as usize),
            next: 0,
        }
    }

    /// The number before which a new host has no rows: too old to be found.
    pub(crate) fn none(&self) -> RowNumber {
        RowNumber(self.next.wrapping_sub(ROWS + 1))
    }

    /// Appends a row; returns its number.
    #[inline]
    pub(crate) fn push(&mut self, row: RecentRow) -> RowNumber {
        let number = self.next;
        match self.rows.get_mut((number % ROWS) as usize) {
            Some(oldest) => *oldest = row,
            None => self.rows.push(row),
        }
        self.next = number.wrapping_add(1);
        RowNumber(number)
    }

    /// All rows that are still there, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &RecentRow> {
        self.rows.iter()
    }

    /// The rows of a host that are still there, from its newest one back.
    pub(crate) fn of(&self, slot: u32, newest: RowNumber) -> impl Iterator<Item = &RecentRow> {
        let mut number = newest;
        let mut younger = 0;
        std::iter::from_fn(move || {
            let age = self.next.wrapping_sub(number.0);
            if age <= younger || age > ROWS {
                return None;
            }
            younger = age;
            let row = self.rows.get((number.0 % ROWS) as usize)?;
            number = row.previous;
            (row.slot == slot).then_some(row)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_finds_its_own_rows_only_and_as_long_as_they_are_there() {
        let mut recent = Recent::new();
        let none = recent.none();
        let row = |slot, previous, octets| RecentRow {
            span: Span { start: 0, end: 0 },
            octets,
            packets: 1,
            rate: 0,
            slot,
            previous,
            vector: Vector::Total,
        };
        let mut newest = none;
        for octets in 0..10 {
            newest = recent.push(row(1, newest, octets));
            recent.push(row(2, none, 99));
        }
        let octets: Vec<u64> = recent.of(1, newest).map(|row| row.octets).collect();
        assert_eq!(octets, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(recent.of(1, none).count(), 0);
        for _ in 0..ROWS - 8 {
            recent.push(row(3, none, 0));
        }
        let left: Vec<u64> = recent.of(1, newest).map(|row| row.octets).collect();
        assert_eq!(left, [9, 8, 7, 6]);
    }
}
