//! The hot path: rows of a batch into rings, in passes over a hundred rows or so. Each step of a pass asks for the memory that
//! the next one needs, so that the waits overlap.

use weir_flow_record::{Address, Direction, FlowBatch};

use super::{Aggregator, MAX_SHARES};
use crate::addition::{self, Addition, Long, Point, Record, Whole};
use crate::hosts::NONE;
use crate::recent::RecentRow;
use crate::spread::{Span, Spread};

/// Rows of a pass.
pub(super) const PASS: usize = 128;

/// A row that may concern a zone in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    hash: u64,
    row: u32,
    datagram: u32,
    direction: Direction,
}

/// A row cut into seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut<A> {
    addition: A,
    span: Span,
    hash: u64,
    row: u32,
    /// Where its host probably is.
    slot: u32,
    direction: Direction,
    /// Whether it ends later than its export time, and whether it stated more than a bucket should hold.
    early: bool,
    is_cut: bool,
}

impl Aggregator {
    /// Adds all records of a batch.
    pub fn handle_batch(&mut self, batch: &FlowBatch) {
        let rows = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.inside_row = u32::MAX;
        for (index, datagram) in batch.datagrams.iter().enumerate() {
            let second = datagram.received_at.0.second();
            if second > self.clock.newest() {
                self.flush(batch);
                self.clock.advance(second);
                self.zone_clock.advance(second);
                self.minutes.advance(second);
            }
            let end = datagram.rows.end.min(rows);
            self.counters.records += u64::from(end.saturating_sub(datagram.rows.start));
            if !self.links.is_empty() {
                let clip = self.clip_of(datagram);
                let rows = datagram.rows.start..end;
                self.links
                    .add(batch, datagram, rows, (&self.zone_clock, clip));
            }
            for row in datagram.rows.start..end {
                self.collect(batch, index as u32, row);
            }
        }
        self.flush(batch);
        if let Some(newest) = batch.datagrams.iter().map(|d| d.received_at).max()
            && !batch.is_empty()
        {
            let tick = self.tick_after(newest.0);
            self.next_tick = Some(self.next_tick.map_or(tick, |next| next.min(tick)));
        }
    }

    #[inline]
    fn collect(&mut self, batch: &FlowBatch, datagram: u32, row: u32) {
        let destination = batch.destination_address[row as usize];
        self.collect_one(datagram, row, destination, Direction::In);
        if self.outgoing {
            let source = batch.source_address[row as usize];
            self.collect_one(datagram, row, source, Direction::Out);
        }
        if self.pending.len() >= PASS - 1 {
            self.flush(batch);
        }
    }

    #[inline]
    fn collect_one(&mut self, datagram: u32, row: u32, address: Address, direction: Direction) {
        if self.table.may_hold(address) {
            let hash = self.hosts.hash(address, direction);
            self.hosts.expect(hash);
            self.pending.push(Pending {
                hash,
                row,
                datagram,
                direction,
            });
        }
    }

    /// Finds the hosts of all rows that were collected, cuts the rows into seconds, then adds them: those within a second
    /// first, since code that always goes the same way is faster.
    fn flush(&mut self, batch: &FlowBatch) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut found = std::mem::take(&mut self.found);
        let mut points = std::mem::take(&mut self.points);
        let mut longs = std::mem::take(&mut self.longs);
        if !pending.is_empty() {
            self.minutes.parts.begin_pass();
        }
        found.extend(pending.iter().map(|row| self.hosts.find_probable(row.hash)));
        self.cut(batch, &pending, &found, (&mut points, &mut longs));
        if let (Some(first), Some(slot)) = (pending.first(), found.first()) {
            self.count_share(batch, first, *slot, pending.len());
        }
        for cut in &points {
            self.add(batch, cut);
        }
        for cut in &longs {
            self.add(batch, cut);
        }
        pending.clear();
        found.clear();
        points.clear();
        longs.clear();
        (self.pending, self.found) = (pending, found);
        (self.points, self.longs) = (points, longs);
    }

    /// Counts a pass for the exporter and zone of its first row: which exporters bring a zone's traffic is known well enough
    /// that way, and costs nothing.
    fn count_share(&mut self, batch: &FlowBatch, first: &Pending, slot: u32, rows: usize) {
        let Some(host) = self.hosts.get(slot) else {
            return;
        };
        let exporter = batch.datagrams[first.datagram as usize].exporter.0;
        let key = (host.zone, exporter);
        if self.shares.len() < MAX_SHARES || self.shares.contains_key(&key) {
            *self.shares.entry(key).or_default() += rows as u64;
        }
    }

    /// Cuts rows into seconds.
    fn cut(
        &mut self,
        batch: &FlowBatch,
        pending: &[Pending],
        found: &[u32],
        (points, longs): (&mut Vec<Cut<Point>>, &mut Vec<Cut<Long>>),
    ) {
        let mut clip = (u32::MAX, i64::MAX);
        for (row, slot) in pending.iter().zip(found) {
            let datagram = &batch.datagrams[row.datagram as usize];
            if clip.0 != row.datagram {
                clip = (row.datagram, self.clip_of(datagram));
            }
            let span = addition::span(batch, datagram, row.row as usize, clip.1);
            let (whole, is_cut) = Whole::new(exported(batch, row.row));
            let cut = Cut {
                addition: (),
                span,
                hash: row.hash,
                row: row.row,
                slot: *slot,
                direction: row.direction,
                early: addition::is_early(batch, datagram, row.row as usize),
                is_cut,
            };
            if let Some(second) = Spread::only_second(span) {
                let point = Point { second, whole };
                self.hosts.expect_steps(*slot, &self.clock, &point);
                points.push(cut.with(point));
            } else {
                let long = Long::new(span, whole);
                self.hosts.expect_steps(*slot, &self.clock, &long);
                longs.push(cut.with(long));
            }
        }
    }

    #[inline]
    fn add(&mut self, batch: &FlowBatch, cut: &Cut<impl Addition>) {
        let row = cut.row as usize;
        let address = match cut.direction {
            Direction::In => batch.destination_address[row],
            Direction::Out => batch.source_address[row],
        };
        let whose = (cut.hash, address, cut.direction);
        let Some((known, zone)) = self.host_and_zone(whose, cut.slot) else {
            return;
        };
        let (octets, packets, rate) = exported(batch, cut.row);
        self.count_inside(cut, rate);
        let vector = batch.vector(row);
        let addition = &cut.addition;
        let (zone_index, side_index) = (usize::from(zone), cut.direction as usize);
        if !self.zones[zone_index].sides[side_index].wanted {
            return;
        }
        let slot = self.place(addition, known, whose, zone);
        let side = &mut self.zones[zone_index].sides[side_index];
        side.rings.add(&self.zone_clock, vector, addition, rate);
        if self.minutes.parts.is_counting() {
            let factor = u64::from(rate.max(1));
            let scaled = (addition.octets(), packets.saturating_mul(factor));
            let whose = (zone, cut.direction);
            self.minutes.parts.add(batch, row, whose, scaled);
        }
        for length in &side.lengths {
            let what = (vector, addition, rate);
            let whose = (address, zone, cut.direction);
            let added = self.prefixes.add(length, whose, &self.clock, what);
            self.counters.refused_prefix_records += u64::from(!added);
        }
        let Some(slot) = slot else {
            return;
        };
        let look = self.hosts.add(slot, &self.clock, &side.rates, addition);
        let host = self.hosts.host_mut(slot);
        if let Some(triggers) = &side.triggers {
            if host.cell == NONE {
                self.counters.refused_cell_records += 1;
            } else {
                let factor = u64::from(rate.max(1));
                let counts = (
                    vector,
                    octets.saturating_mul(factor),
                    packets.saturating_mul(factor),
                );
                let full = self
                    .cells
                    .add(host.cell, self.clock.newest(), counts, triggers);
                if full != NONE {
                    self.fulls.add(full, &self.clock, (vector, addition, rate));
                }
            }
        }
        host.unknown_rate |= rate == 0;
        let watched = host.watched;
        host.newest_row = self.recent.push(RecentRow {
            span: cut.span,
            octets,
            packets,
            rate,
            slot,
            previous: host.newest_row,
            vector,
        });
        if watched != NONE {
            self.watched
                .add(watched, &self.clock, vector, addition, rate);
        } else if look {
            self.look_at(slot);
        }
    }

    /// Counts a row that is in a zone: once, though it may be in one in both directions.
    #[inline]
    fn count_inside(&mut self, cut: &Cut<impl Addition>, rate: u32) {
        // Both directions of a row follow each other.
        if self.inside_row == cut.row {
            return;
        }
        self.inside_row = cut.row;
        self.inside_records += 1;
        self.counters.unknown_rate_records += u64::from(rate == 0);
        self.counters.cut_records += u64::from(cut.is_cut);
        self.counters.early_records += u64::from(cut.early);
    }

    /// The host of a row if there is one, and its zone; `None` outside all zones. `slot` is what the pass found: an earlier row
    /// of it may have brought the host, or taken the slot for another one.
    #[inline(always)]
    fn host_and_zone(
        &mut self,
        (hash, address, direction): (u64, Address, Direction),
        slot: u32,
    ) -> Option<(Option<u32>, u16)> {
        let found = (slot != NONE && self.hosts.is_at(slot, address, direction))
            .then_some(slot)
            .or_else(|| self.hosts.find(hash, address, direction));
        match found {
            Some(slot) => Some((found, self.hosts.host(slot).zone)),
            None => Some((None, self.table.remembered_zone(address, hash)?)),
        }
    }

    /// Counts what is late and what is refused; the host's slot where there is something to add.
    #[inline]
    fn place(
        &mut self,
        addition: &impl Addition,
        known: Option<u32>,
        (hash, address, direction): (u64, Address, Direction),
        zone: u16,
    ) -> Option<u32> {
        let oldest = self.clock.oldest();
        let mut counted = addition.octets();
        if addition.first() < oldest {
            let late = addition.octets_before(oldest);
            self.counters.late_records += 1;
            self.counters.late_octets = self.counters.late_octets.saturating_add(late);
            counted -= late.min(counted);
            if addition.last() < oldest {
                return None;
            }
        }
        let slot = known.or_else(|| self.new_host(hash, address, direction, zone));
        let sum = if slot.is_some() {
            &mut self.counters.counted_octets
        } else {
            self.counters.refused_records += 1;
            &mut self.counters.refused_octets
        };
        *sum = sum.saturating_add(counted);
        slot
    }

    pub(super) fn new_host(
        &mut self,
        hash: u64,
        address: Address,
        direction: Direction,
        zone: u16,
    ) -> Option<u32> {
        let side = self.zones.get(usize::from(zone));
        let side = side.and_then(|zone| zone.side(direction));
        let cell = match side.is_some_and(|side| side.triggers.is_some()) {
            true => self.cells.of(address, zone, direction).unwrap_or(NONE),
            false => NONE,
        };
        let whose = (address, direction, zone, cell);
        self.hosts
            .insert(hash, whose, self.recent.none(), &self.clock)
    }

    /// Gives a host full rings; its earlier rows are classified from the recent ones, and what is not found there counts as
    /// `total`, so that the vectors always add up to the host's sums.
    pub(super) fn promote(&mut self, slot: u32) {
        let host = *self.hosts.host(slot);
        if host.watched != NONE {
            return;
        }
        let Some(watched) = self.watched.take(slot, &self.clock) else {
            return self.refuse(slot);
        };
        self.hosts.host_mut(slot).watched = watched;
        let oldest = self.clock.oldest();
        for row in self.recent.of(slot, host.newest_row) {
            // A flow from before counted in a second that may be gone: it is left to the total.
            let (vector, rate) = (row.vector, row.rate);
            match Record::again(row).without_flow_before(oldest) {
                Record::Point(point) if point.last() >= oldest => {
                    self.watched.add(watched, &self.clock, vector, &point, rate);
                }
                Record::Long(long) if long.last() >= oldest => {
                    self.watched.add(watched, &self.clock, vector, &long, rate);
                }
                _ => (),
            }
        }
        if host.unknown_rate {
            self.watched.mark_unknown_rate(watched, self.clock.newest());
        }
        let totals: Vec<_> = self.hosts.read(slot, &self.clock).collect();
        self.watched.fill_total(watched, &self.clock, &totals);
    }
}

impl Cut<()> {
    fn with<A>(self, addition: A) -> Cut<A> {
        Cut {
            addition,
            span: self.span,
            hash: self.hash,
            row: self.row,
            slot: self.slot,
            direction: self.direction,
            early: self.early,
            is_cut: self.is_cut,
        }
    }
}

/// Octets, packets and sampling rate as the exporter stated them.
#[inline]
fn exported(batch: &FlowBatch, row: u32) -> (u64, u64, u32) {
    let row = row as usize;
    (
        batch.octets[row],
        batch.packets[row],
        batch.sampling_rate[row],
    )
}
