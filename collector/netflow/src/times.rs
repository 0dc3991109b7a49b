//! Flow times: six ways to state them become nanoseconds of the exporter's clock.

use weir_flow_record::FlowBatch;

use crate::columns::Records;
use crate::plan::{Field, RowPlan, TimeField};

const MILLISECOND: i64 = 1_000_000;
const MICROSECOND: i64 = 1_000;
const SECOND: i64 = 1_000_000_000;
/// From 1900 to 1970, in seconds (RFC 868).
const NTP_EPOCH: i64 = 2_208_988_800;

/// Milliseconds that are no uptime but a time since 1970: 2001-09-09, or up for 31 years.
const FIRST_ABSOLUTE: u64 = 1_000_000_000_000;

/// The exporter's clocks as its message header states them.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// ns since 1970.
    pub(crate) export_time: i64,
    /// sysUpTime at `export_time`, ms modulo 2³². IPFIX: derived from IE 160, where options data stated it.
    pub(crate) uptime: Option<u32>,
}

impl Clock {
    /// sysUpTime modulo 2³²: the age lies within ±24 days.
    #[inline]
    fn at_uptime(self, uptime: u32, then: u32) -> i64 {
        let age = uptime.wrapping_sub(then) as i32;
        self.export_time - i64::from(age) * MILLISECOND
    }

    /// A sysUpTime of other than four octets. NX-OS has eight with the four at either end, others a time since 1970.
    fn at_wide_uptime(self, uptime: u32, then: u64) -> i64 {
        if then as u32 == 0 {
            self.at_uptime(uptime, (then >> 32) as u32)
        } else if then >= FIRST_ABSOLUTE {
            self.absolute(then, MILLISECOND)
        } else {
            self.at_uptime(uptime, then as u32)
        }
    }

    /// An absolute time; 0 stands for "not stated", which is the export time.
    #[inline]
    fn absolute(self, value: u64, unit: i64) -> i64 {
        if value == 0 {
            return self.export_time;
        }
        i64::try_from(value)
            .unwrap_or(i64::MAX)
            .saturating_mul(unit)
    }

    #[inline]
    fn ntp(self, value: u64) -> i64 {
        if value == 0 {
            return self.export_time;
        }
        let (seconds, fraction) = ((value >> 32) as i64, value & 0xffff_ffff);
        // RFC 5905 §6: an era lasts 136 years; times before 1968 are of the next one.
        let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
        let nanos = (fraction * SECOND as u64) >> 32;
        (seconds + era - NTP_EPOCH)
            .saturating_mul(SECOND)
            .saturating_add(nanos as i64)
    }

    #[inline]
    fn before_export(self, micros: u64) -> i64 {
        let age = i64::try_from(micros)
            .unwrap_or(i64::MAX)
            .saturating_mul(MICROSECOND);
        self.export_time.saturating_sub(age)
    }
}

/// Appends start and end of every record; what a record does not state is its export time.
pub(crate) fn fill_times(
    plan: &RowPlan,
    records: Records<'_>,
    clock: &Clock,
    out: &mut FlowBatch,
    start: usize,
) {
    let (starts, ends) = (&mut out.flow_start, &mut out.flow_end);
    if is_relative(plan) && clock.uptime.is_none() {
        relative_to_unknown(plan, records, clock, starts, ends);
        return;
    }
    column(starts, records, clock, plan.start);
    column(ends, records, clock, plan.end);
    let no_start = matches!(plan.start, TimeField::Absent);
    let no_end = matches!(plan.end, TimeField::Absent);
    if no_start || no_end {
        let starts = starts.iter_mut().skip(start);
        let rows = starts.zip(ends.iter_mut().skip(start));
        complete(plan, records, rows, no_start, no_end);
    }
    if let Some(offset) = plan.start_offset {
        let rows = out.flow_start.iter_mut().zip(&out.flow_end).skip(start);
        for ((start, end), offset) in rows.zip(records.unsigned(offset)) {
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            let later = start.saturating_add(offset.saturating_mul(MILLISECOND));
            *start = later.min(*end).max(*start);
        }
    }
}

fn is_relative(plan: &RowPlan) -> bool {
    matches!(plan.start, TimeField::Uptime(_)) || matches!(plan.end, TimeField::Uptime(_))
}

#[inline]
fn column(column: &mut Vec<i64>, records: Records<'_>, clock: &Clock, field: TimeField) {
    let clock = *clock;
    match field {
        TimeField::Absent => column.resize(column.len() + records.count(), clock.export_time),
        TimeField::Uptime(Field { at, width: 4 }) => {
            let uptime = clock.uptime.unwrap_or(0);
            column.extend(
                records
                    .fields(at)
                    .map(|then| clock.at_uptime(uptime, u32::from_be_bytes(then))),
            );
        }
        TimeField::Uptime(field) => {
            let uptime = clock.uptime.unwrap_or(0);
            column.extend(
                records
                    .unsigned(field)
                    .map(|then| clock.at_wide_uptime(uptime, then)),
            );
        }
        TimeField::Milliseconds(Field { at, width: 8 }) => column.extend(
            records
                .fields(at)
                .map(|value| clock.absolute(u64::from_be_bytes(value), MILLISECOND)),
        ),
        TimeField::Milliseconds(field) => column.extend(
            records
                .unsigned(field)
                .map(|value| clock.absolute(value, MILLISECOND)),
        ),
        TimeField::Seconds(field) => column.extend(
            records
                .unsigned(field)
                .map(|value| clock.absolute(value, SECOND)),
        ),
        TimeField::Ntp(field) => {
            column.extend(records.unsigned(field).map(|value| clock.ntp(value)));
        }
        TimeField::DeltaMicroseconds(field) => {
            column.extend(
                records
                    .unsigned(field)
                    .map(|value| clock.before_export(value)),
            );
        }
    }
}

/// One of the two is stated, or neither: the other follows from the duration (IE 161, 162), else both are the same, save
/// that a flow of which only the start is known lasts until its export.
fn complete<'a>(
    plan: &RowPlan,
    records: Records<'_>,
    rows: impl Iterator<Item = (&'a mut i64, &'a mut i64)>,
    no_start: bool,
    no_end: bool,
) {
    let duration = match (plan.duration_milliseconds, plan.duration_microseconds) {
        (Some(field), _) => Some((field, MILLISECOND)),
        (None, Some(field)) => Some((field, MICROSECOND)),
        (None, None) => None,
    };
    let Some((field, unit)) = duration else {
        for (start, end) in rows {
            if no_start {
                *start = *end;
            } else {
                *end = (*end).max(*start);
            }
        }
        return;
    };
    for ((start, end), duration) in rows.zip(records.unsigned(field)) {
        let duration = i64::try_from(duration)
            .unwrap_or(i64::MAX)
            .saturating_mul(unit);
        if no_end && !no_start {
            *end = start.saturating_add(duration);
        } else {
            *start = end.saturating_sub(duration);
        }
    }
}

/// IPFIX with IE 21 and 22: relative to IE 160 of the same record, else only the duration is known.
fn relative_to_unknown(
    plan: &RowPlan,
    records: Records<'_>,
    clock: &Clock,
    starts: &mut Vec<i64>,
    ends: &mut Vec<i64>,
) {
    let value = |field: TimeField| match field {
        TimeField::Uptime(field) => Some(field),
        _ => None,
    };
    let (start, end) = (value(plan.start), value(plan.end));
    let (first, last) = (start.or(end), end.or(start));
    let (Some(first), Some(last)) = (first, last) else {
        return;
    };
    let inits = plan.system_init.map(|field| records.unsigned(field));
    let mut inits = inits.into_iter().flatten();
    for (first, last) in records.unsigned(first).zip(records.unsigned(last)) {
        let (from, to) = match inits.next() {
            Some(init) if init > 0 => {
                let at = |after: u64| {
                    clock.absolute(init.saturating_add(after & 0xffff_ffff), MILLISECOND)
                };
                (at(first), at(last))
            }
            _ if first >= FIRST_ABSOLUTE && last >= FIRST_ABSOLUTE => (
                clock.absolute(first, MILLISECOND),
                clock.absolute(last, MILLISECOND),
            ),
            _ => {
                let lasted = (last as u32).wrapping_sub(first as u32) as i32;
                let lasted = i64::from(lasted.max(0)) * MILLISECOND;
                (clock.export_time - lasted, clock.export_time)
            }
        };
        starts.push(from);
        ends.push(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock {
        export_time: 1_700_000_000 * SECOND,
        uptime: None,
    };

    #[test]
    fn ages_wrap_with_the_uptime() {
        assert_eq!(
            CLOCK.at_uptime(1_000, 400),
            CLOCK.export_time - 600 * MILLISECOND
        );
        let wrapped = CLOCK.at_uptime(100, u32::MAX - 99);
        assert_eq!(wrapped, CLOCK.export_time - 200 * MILLISECOND);
        assert_eq!(
            CLOCK.at_uptime(100, 150),
            CLOCK.export_time + 50 * MILLISECOND
        );
    }

    #[test]
    fn wide_uptimes_hold_four_octets_or_a_time_since_1970() {
        let at = CLOCK.at_uptime(1_000, 400);
        assert_eq!(CLOCK.at_wide_uptime(1_000, 400), at);
        assert_eq!(CLOCK.at_wide_uptime(1_000, 400 << 32), at);
        let absolute = CLOCK.at_wide_uptime(1_000, 1_699_999_990_000);
        assert_eq!(absolute, CLOCK.export_time - 10 * SECOND);
    }

    #[test]
    fn ntp_time_stamps_have_eras() {
        let seconds = (1_700_000_000 + NTP_EPOCH) as u64;
        let half = seconds << 32 | 0x8000_0000;
        assert_eq!(CLOCK.ntp(half), CLOCK.export_time + SECOND / 2);
        // 2036-02-07 06:28:16 UTC is second 0 of era 1.
        assert_eq!(CLOCK.ntp(1 << 32), 2_085_978_497 * SECOND);
    }

    #[test]
    fn absurd_values_saturate() {
        assert_eq!(CLOCK.absolute(u64::MAX, MILLISECOND), i64::MAX);
        assert_eq!(CLOCK.absolute(0, SECOND), CLOCK.export_time);
        assert!(CLOCK.before_export(u64::MAX) < 0);
    }
}
