//! The hot loop: records of one Set go column by column into the batch.
//!
//! Every loop runs over all records of a Set with a fixed offset and width, so it compiles to load, swap, store.

use weir_flow_record::{Address, ColumnSet, FlowBatch};

use crate::plan::{AddressField, Choice, Field, RateField, RowPlan};
use crate::sampling::{RateOfDomain, Samplers, probability_rate, ratio};
use crate::times::{Clock, fill_times};

/// Records of equal length, one after another.
#[derive(Clone, Copy)]
pub(crate) struct Records<'a> {
    octets: &'a [u8],
    stride: usize,
    count: usize,
}

impl<'a> Records<'a> {
    /// The whole records at the front of `octets`; none for a stride of 0.
    pub(crate) fn new(octets: &'a [u8], stride: usize) -> Self {
        let count = octets.len().checked_div(stride).unwrap_or(0);
        Self {
            octets,
            stride,
            count,
        }
    }

    #[inline]
    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// One record after another.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.octets
            .chunks_exact(self.stride.max(1))
            .take(self.count)
    }

    /// `N` octets at `at` of every record.
    #[inline]
    pub(crate) fn fields<const N: usize>(
        self,
        at: u32,
    ) -> impl ExactSizeIterator<Item = [u8; N]> + 'a {
        let octets = self.octets.get(at as usize..).unwrap_or(&[]);
        let stride = self.stride;
        (0..self.count).map(move |record| {
            match octets
                .get(record * stride..)
                .and_then(<[u8]>::first_chunk::<N>)
            {
                Some(field) => *field,
                None => [0; N],
            }
        })
    }

    /// An unsigned integer of every record, whatever its width.
    pub(crate) fn unsigned(self, field: Field) -> impl ExactSizeIterator<Item = u64> + 'a {
        let (octets, stride) = (self.octets, self.stride);
        let (at, width) = (field.at as usize, usize::from(field.width));
        (0..self.count).map(move |record| {
            let begin = record * stride + at;
            crate::cursor::unsigned(octets.get(begin..begin + width).unwrap_or(&[]))
        })
    }
}

/// What a Set's records share.
pub(crate) struct Shared<'a> {
    pub(crate) clock: Clock,
    pub(crate) samplers: &'a Samplers,
    /// v5's header states a rate for all its records; 0 elsewhere.
    pub(crate) header_rate: u32,
}

/// What a Set's records gave.
#[derive(Clone, Copy, Default)]
pub(crate) struct Appended {
    pub(crate) rows: u32,
    /// Data records, whether they gave no row, one or two.
    pub(crate) records: u32,
    pub(crate) delta_octets: u64,
    pub(crate) delta_packets: u64,
    pub(crate) unknown_rate: u64,
    pub(crate) ambiguous_rate: u64,
}

impl Appended {
    /// Adds rows that are no records of their own.
    pub(crate) fn add_rows(&mut self, more: &Self) {
        self.rows += more.rows;
        self.unknown_rate += more.unknown_rate;
        self.ambiguous_rate += more.ambiguous_rate;
    }

    /// Counts all records, and sums them up as they were before some were weighed otherwise.
    pub(crate) fn count_as_exported(&mut self, plan: &RowPlan, records: Records<'_>) {
        let sum = |field: Option<Field>, wanted: bool| {
            let counts = field
                .filter(|_| wanted)
                .map(|field| records.unsigned(field));
            let counts = counts.into_iter().flatten();
            counts.fold(0u64, |sum, count| sum.wrapping_add(count))
        };
        self.records = u32::try_from(records.count()).unwrap_or(u32::MAX);
        self.delta_octets = sum(plan.octets, plan.octets_are_deltas);
        self.delta_packets = sum(plan.packets, plan.packets_are_deltas);
    }
}

/// Appends one row for each record.
pub(crate) fn append(
    plan: &RowPlan,
    records: Records<'_>,
    shared: &Shared<'_>,
    out: &mut FlowBatch,
) -> Appended {
    let start = out.len();
    let rows = start + records.count();
    addresses(&mut out.source_address, records, plan.source);
    addresses(&mut out.destination_address, records, plan.destination);
    choice(&mut out.source_port, records, plan.source_port);
    choice(&mut out.destination_port, records, plan.destination_port);
    integers(&mut out.protocol, records, plan.protocol, 0);
    integers(&mut out.tcp_flags, records, plan.tcp_flags, 0);
    if let Some(more) = plan.more_tcp_flags {
        let flags = out.tcp_flags.iter_mut().skip(start);
        for (flags, more) in flags.zip(records.unsigned(more)) {
            *flags |= more as u16;
        }
    }
    fragments(plan, records, out, start);
    integers(&mut out.octets, records, plan.octets, 0);
    integers(&mut out.packets, records, plan.packets, 0);
    fill_times(plan, records, &shared.clock, out, start);
    let (unknown_rate, ambiguous_rate) = rates(plan, records, shared, out, start);
    choice(&mut out.input_interface, records, plan.input_interface);
    choice(&mut out.output_interface, records, plan.output_interface);
    integers(&mut out.direction, records, plan.direction, 255);
    integers(
        &mut out.forwarding_status,
        records,
        plan.forwarding_status,
        0,
    );
    if out.projection != ColumnSet::NONE {
        extra(plan, records, out, start);
        // Columns that no element fills.
        out.fill_extra();
    }
    if let Some(section) = &plan.section {
        section.fill(plan, records, start, out);
    }
    debug_assert_eq!(out.forwarding_status.len(), rows);
    Appended {
        rows: u32::try_from(records.count()).unwrap_or(u32::MAX),
        records: u32::try_from(records.count()).unwrap_or(u32::MAX),
        delta_octets: sum(&out.octets, start, plan.octets_are_deltas),
        delta_packets: sum(&out.packets, start, plan.packets_are_deltas),
        unknown_rate,
        ambiguous_rate,
    }
}

fn sum(column: &[u64], start: usize, wanted: bool) -> u64 {
    if !wanted {
        return 0;
    }
    let rows = column.get(start..).unwrap_or(&[]);
    rows.iter().fold(0, |sum, &value| sum.wrapping_add(value))
}

/// A column's integer type; what does not fit is the largest value.
pub(crate) trait Narrow: Copy + PartialEq + Default {
    fn narrow(value: u64) -> Self;
}

macro_rules! narrow {
    ($($type:ty),+) => { $(
        impl Narrow for $type {
            #[inline]
            fn narrow(value: u64) -> Self {
                value.min(u64::from(Self::MAX)) as Self
            }
        }
    )+ };
}

narrow!(u8, u16, u32);

impl Narrow for u64 {
    #[inline]
    fn narrow(value: u64) -> Self {
        value
    }
}

#[inline]
fn integers<T: Narrow>(column: &mut Vec<T>, records: Records<'_>, field: Option<Field>, absent: T) {
    let Some(field) = field else {
        column.resize(column.len() + records.count(), absent);
        return;
    };
    let at = field.at;
    match field.width {
        1 => column.extend(
            records
                .fields::<1>(at)
                .map(|[octet]| T::narrow(octet.into())),
        ),
        2 => column.extend(
            records
                .fields(at)
                .map(|octets| T::narrow(u16::from_be_bytes(octets).into())),
        ),
        4 => column.extend(
            records
                .fields(at)
                .map(|octets| T::narrow(u32::from_be_bytes(octets).into())),
        ),
        8 => column.extend(
            records
                .fields(at)
                .map(|octets| T::narrow(u64::from_be_bytes(octets))),
        ),
        _ => column.extend(records.unsigned(field).map(T::narrow)),
    }
}

#[inline]
fn choice<T: Narrow>(column: &mut Vec<T>, records: Records<'_>, choice: Choice) {
    let start = column.len();
    integers(column, records, choice.first, T::default());
    if let Some(second) = choice.second {
        let rows = column.iter_mut().skip(start);
        for (value, other) in rows.zip(records.unsigned(second)) {
            if *value == T::default() {
                *value = T::narrow(other);
            }
        }
    }
}

#[inline]
fn addresses(column: &mut Vec<Address>, records: Records<'_>, field: AddressField) {
    let start = column.len();
    match (field.v4, field.v6) {
        (Some(v4), _) => column.extend(records.fields(v4.at).map(Address::from_v4)),
        (None, Some(v6)) => column.extend(records.fields(v6.at).map(Address::from_octets)),
        (None, None) => column.resize(start + records.count(), Address::UNSPECIFIED),
    }
    if let (Some(_), Some(v6)) = (field.v4, field.v6) {
        let rows = column.iter_mut().skip(start);
        for (address, octets) in rows.zip(records.fields(v6.at)) {
            if *address == Address::from_v4([0; 4]) && octets != [0; 16] {
                *address = Address::from_octets(octets);
            }
        }
    }
}

/// `fragmentFlags`: more fragments follow.
const MORE_FRAGMENTS: u64 = 0x20;
/// `fragmentOffset` has 13 bits; some exporters leave the IP header's flags above them.
const OFFSET: u64 = 0x1fff;
const FIRST: u8 = 1;
const NOT_FIRST: u8 = 2;

/// IE 88 and 197; the port columns are there already.
fn fragments(plan: &RowPlan, records: Records<'_>, out: &mut FlowBatch, start: usize) {
    let column = &mut out.fragment;
    match (plan.fragment_offset, plan.fragment_flags) {
        (None, None) => column.resize(start + records.count(), 0),
        (Some(offset), None) => {
            column.extend(records.unsigned(offset).map(|offset| fragment(offset, 0)))
        }
        (
            Some(Field {
                at: offset,
                width: 2,
            }),
            Some(Field {
                at: flags,
                width: 1,
            }),
        ) => column.extend(
            records
                .fields(offset)
                .zip(records.fields(flags))
                .map(|(offset, [flags])| fragment(u16::from_be_bytes(offset).into(), flags.into())),
        ),
        (Some(offset), Some(flags)) => column.extend(
            records
                .unsigned(offset)
                .zip(records.unsigned(flags))
                .map(|(offset, flags)| fragment(offset, flags)),
        ),
        // Without an offset, ports tell a first fragment from those in the middle.
        (None, Some(flags)) => {
            let ports = out
                .source_port
                .iter()
                .zip(&out.destination_port)
                .skip(start);
            let rows = records.unsigned(flags).zip(ports);
            column.extend(rows.map(|(flags, ports)| match fragment(0, flags) {
                FIRST if ports == (&0, &0) => NOT_FIRST,
                kind => kind,
            }));
        }
    }
}

#[inline]
fn fragment(offset: u64, flags: u64) -> u8 {
    if offset & OFFSET != 0 {
        NOT_FIRST
    } else if flags & MORE_FRAGMENTS != 0 {
        FIRST
    } else {
        0
    }
}

/// The record's own rate, else that of the sampler it names, else the domain's. Returns how many have none, and how many
/// of these could have one of several.
fn rates(
    plan: &RowPlan,
    records: Records<'_>,
    shared: &Shared<'_>,
    out: &mut FlowBatch,
    start: usize,
) -> (u64, u64) {
    let samplers = shared.samplers;
    let (of_domain, ambiguous) = match (shared.header_rate, samplers.of_domain()) {
        (0, RateOfDomain::One(rate)) => (rate, false),
        (0, RateOfDomain::Several) => (0, true),
        (rate, _) => (rate, false),
    };
    let column = &mut out.sampling_rate;
    let total = records.count() as u64;
    if plan.sampler.is_none() && matches!(plan.rate, RateField::Absent) {
        column.resize(start + records.count(), of_domain);
        let unknown = if of_domain == 0 { total } else { 0 };
        return (unknown, if ambiguous { unknown } else { 0 });
    }
    match plan.sampler {
        Some(sampler) => {
            let named = records.unsigned(sampler);
            column.extend(named.map(|sampler| samplers.rate(sampler).unwrap_or(0)));
        }
        None => column.resize(start + records.count(), of_domain),
    }
    let rows = column.get_mut(start..).unwrap_or(&mut []);
    own_rates(plan.rate, records, rows);
    let unknown = rows.iter().filter(|&&rate| rate == 0).count() as u64;
    let ambiguous = ambiguous && plan.sampler.is_none();
    (unknown, if ambiguous { unknown } else { 0 })
}

fn own_rates(field: RateField, records: Records<'_>, rows: &mut [u32]) {
    let mut put = |own: &mut dyn Iterator<Item = u32>| {
        for (rate, own) in rows.iter_mut().zip(own) {
            if own != 0 {
                *rate = own;
            }
        }
    };
    match field {
        RateField::Absent => {}
        RateField::Interval(field) => put(&mut records.unsigned(field).map(u32::narrow)),
        RateField::IntervalSpace(interval, space) => put(&mut records
            .unsigned(interval)
            .zip(records.unsigned(space))
            .map(|(interval, space)| ratio(interval.saturating_add(space), interval))),
        RateField::SizePopulation(size, population) => put(&mut records
            .unsigned(size)
            .zip(records.unsigned(population))
            .map(|(size, population)| ratio(population, size))),
        RateField::Probability(field) => put(&mut records
            .unsigned(field)
            .map(|bits| probability_rate(bits, field.width))),
    }
}

/// The optional columns that the batch wants; those that the template lacks get zeros.
fn extra(plan: &RowPlan, records: Records<'_>, out: &mut FlowBatch, start: usize) {
    let (fields, wanted, into) = (&plan.extra, out.projection, &mut out.extra);
    if wanted.has(ColumnSet::TOS) {
        integers(&mut into.tos, records, fields.tos, 0);
    }
    if wanted.has(ColumnSet::TTL) {
        choice(&mut into.ttl, records, fields.ttl);
    }
    if wanted.has(ColumnSet::ICMP) {
        icmp(plan, records, &mut into.icmp_type, &mut into.icmp_code);
        if plan.icmp_is_in_the_port() {
            let ports = out.source_port.iter().zip(&out.destination_port);
            let rows = out.protocol.iter().zip(ports).skip(start);
            let into = into.icmp_type.iter_mut().zip(&mut into.icmp_code);
            icmp_of_ports(rows, into.skip(start));
        }
    }
    if wanted.has(ColumnSet::VLAN) {
        choice(&mut into.vlan_id, records, fields.vlan_id);
    }
    if wanted.has(ColumnSet::AS) {
        integers(&mut into.source_as, records, fields.source_as, 0);
        integers(&mut into.destination_as, records, fields.destination_as, 0);
    }
    if wanted.has(ColumnSet::NEXT_HOP) {
        addresses(&mut into.next_hop, records, fields.next_hop);
    }
    if wanted.has(ColumnSet::PREFIX_LENGTHS) {
        choice(
            &mut into.source_prefix_length,
            records,
            fields.source_prefix_length,
        );
        choice(
            &mut into.destination_prefix_length,
            records,
            fields.destination_prefix_length,
        );
    }
    if wanted.has(ColumnSet::MAC) {
        macs(&mut into.source_mac, records, fields.source_mac);
        macs(&mut into.destination_mac, records, fields.destination_mac);
    }
    if wanted.has(ColumnSet::FLOW_LABEL) {
        integers(&mut into.flow_label, records, fields.flow_label, 0);
    }
}

/// IE 32 and 139 hold the type in their high octet.
fn icmp(plan: &RowPlan, records: Records<'_>, types: &mut Vec<u8>, codes: &mut Vec<u8>) {
    let start = types.len();
    choice(types, records, plan.extra.icmp_type);
    choice(codes, records, plan.extra.icmp_code);
    let both = plan.extra.icmp_type_code;
    for field in [both.first, both.second].into_iter().flatten() {
        let rows = types.iter_mut().zip(codes.iter_mut()).skip(start);
        for ((kind, code), both) in rows.zip(records.unsigned(field)) {
            if (*kind, *code) == (0, 0) {
                [*kind, *code] = (both as u16).to_be_bytes();
            }
        }
    }
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Without elements of their own, the destination port holds type and code. Exporters that fill the source port in have
/// divided them in ways of their own.
fn icmp_of_ports<'a>(
    rows: impl Iterator<Item = (&'a u8, (&'a u16, &'a u16))>,
    into: impl Iterator<Item = (&'a mut u8, &'a mut u8)>,
) {
    for ((kind, code), (&protocol, (&source, &destination))) in into.zip(rows) {
        if matches!(protocol, ICMP | ICMPV6) && source == 0 {
            [*kind, *code] = destination.to_be_bytes();
        }
    }
}

impl RowPlan {
    fn icmp_is_in_the_port(&self) -> bool {
        let extra = &self.extra;
        let own = [extra.icmp_type_code, extra.icmp_type, extra.icmp_code];
        own.iter().all(|choice| choice.first.is_none())
            && self.present.has(ColumnSet::ICMP)
            && self.destination_port.first.is_some()
    }
}

fn macs(column: &mut Vec<[u8; 6]>, records: Records<'_>, field: Option<Field>) {
    match field {
        Some(field) => column.extend(records.fields::<6>(field.at)),
        None => column.resize(column.len() + records.count(), [0; 6]),
    }
}
