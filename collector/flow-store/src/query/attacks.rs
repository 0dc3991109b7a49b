use std::collections::BTreeMap;
use std::io::BufRead;

use polars::prelude::{
    Column, DataFrame, DataType, IntoLazy, LazyFrame, NamedFrom, PlSmallStr, PolarsResult, Series,
    TimeUnit,
};
use weir_attack_event::{AttackEvent, AttackId, EventKind};
use weir_flow_record::Timestamp;

use super::QueryError;

/// Events longer than this are none of ours.
const LONGEST_LINE: usize = 1 << 20;

/// A row an attack, in the order of their names; and the number of lines that are no events.
pub(super) fn frame(events: impl BufRead) -> Result<(LazyFrame, u64), QueryError> {
    let (mut newest, mut skipped) = (BTreeMap::<AttackId, AttackEvent>::new(), 0);
    for line in events.split(b'\n') {
        let line = line.map_err(|source| QueryError::Io {
            path: "the file of events".into(),
            source,
        })?;
        if line.is_empty() {
            continue;
        }
        let event = (line.len() <= LONGEST_LINE)
            .then(|| serde_json::from_slice::<AttackEvent>(&line).ok())
            .flatten();
        match event {
            Some(event) => {
                newest.insert(event.id.clone(), event);
            }
            None => skipped += 1,
        }
    }
    Ok((columns(newest.values())?.lazy(), skipped))
}

fn columns<'a>(
    attacks: impl ExactSizeIterator<Item = &'a AttackEvent> + Clone,
) -> PolarsResult<DataFrame> {
    let texts = |name: &str, of: &dyn Fn(&AttackEvent) -> String| {
        let values: Vec<String> = attacks.clone().map(of).collect();
        column(name, values)
    };
    let numbers = |name: &str, of: &dyn Fn(&AttackEvent) -> u64| {
        let values: Vec<u64> = attacks.clone().map(of).collect();
        column(name, values)
    };
    let times = |name: &str, of: &dyn Fn(&AttackEvent) -> Option<Timestamp>| {
        let values: Vec<Option<i64>> = attacks
            .clone()
            .map(|event| of(event).map(Timestamp::nanos))
            .collect();
        column(name, values).cast(&DataType::Datetime(TimeUnit::Nanoseconds, None))
    };
    let coverage: Vec<f64> = attacks.clone().map(|event| event.coverage.0).collect();
    let over: Vec<bool> = attacks
        .clone()
        .map(|event| event.kind == EventKind::AttackEnd)
        .collect();
    let dry_run: Vec<bool> = attacks.clone().map(|event| event.dry_run).collect();
    DataFrame::new(
        attacks.len(),
        vec![
            texts("id", &|event| event.id.to_string()),
            texts("zone", &|event| event.target.zone.to_string()),
            texts("target", &|event| event.target.prefix.to_string()),
            texts("direction", &|event| word(&event.target.direction)),
            texts("severity", &|event| word(&event.severity)),
            texts("vectors", &vectors),
            times("start_time", &|event| Some(event.start_time))?,
            times("detected_at", &|event| Some(event.detected_at))?,
            times("end_time", &|event| event.end_time)?,
            column("over", over),
            numbers("peak_bits_per_second", &|event| {
                event.traffic.bits_per_second.peak
            }),
            numbers("peak_packets_per_second", &|event| {
                event.traffic.packets_per_second.peak
            }),
            numbers("source_count", &|event| {
                event
                    .findings
                    .as_ref()
                    .map_or(0, |found| found.source_count)
            }),
            column("coverage", coverage),
            column("dry_run", dry_run),
            texts("why", &|event| {
                event
                    .why
                    .first()
                    .map_or_else(String::new, |why| why.0.clone())
            }),
        ],
    )
}

fn column<T>(name: &str, values: Vec<T>) -> Column
where
    Series: NamedFrom<Vec<T>, [T]>,
    Vec<T>: AsRef<[T]>,
{
    Series::new(PlSmallStr::from_str(name), values).into()
}

fn vectors(event: &AttackEvent) -> String {
    let names: Vec<&str> = event
        .vectors
        .iter()
        .map(|share| share.name.name())
        .collect();
    names.join(", ")
}

/// How JSON spells a value without fields.
fn word(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).ok();
    let word = json.as_ref().and_then(serde_json::Value::as_str);
    word.unwrap_or_default().to_owned()
}
